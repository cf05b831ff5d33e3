"""The generated parts of the pages on the structure: the packages, the public names, the reference."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING

import interop
from tests.test_boundaries import ORDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def packages() -> str:
    """Return the table of the packages, bottom first, in the order that the boundary test holds them to."""
    rows = [f"| {number} | `{_named(entry)}` | {_summary(entry)} |" for number, entry in enumerate(ORDER, 1)]
    return "\n".join(["| | | what it is |", "| ---: | --- | --- |", *rows])


def _named(entry: str) -> str:
    return f"interop.{entry}".rstrip(".")


def _summary(entry: str) -> str:
    if entry == "backends.*":
        return "The libraries, one folder for each. They do not know each other."
    return _first_sentence(importlib.import_module(_named(entry)))


def _first_sentence(thing: object) -> str:
    text = (inspect.getdoc(thing) or "").partition("\n\n")[0].replace("\n", " ").replace("|", r"\|")
    return text.replace("``", "`")


def modules() -> list[str]:
    """Return the public modules: those that `dir` shows of interop."""
    return ["interop", *(f"interop.{name}" for name in dir(interop) if inspect.ismodule(getattr(interop, name)))]


def public() -> str:
    """Return a table of public names for each public module."""
    return "\n\n".join(f"### `{module}`\n\n{_names(module)}" for module in modules())


def _names(module: str) -> str:
    return "\n".join(["| name | what it is |", "| --- | --- |", *_rows(module)])


def _rows(module: str) -> Iterator[str]:
    loaded = importlib.import_module(module)
    for name in loaded.__all__:
        value = getattr(loaded, name)
        # A plain value has its class's docstring, which says nothing of it.
        said = (
            _first_sentence(value)
            if inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value)
            else f"`{type(value).__name__}`"
        )
        yield f"| `{name}` | {said} |"


def reference() -> str:
    """Return what Sphinx makes the reference of; a name that several modules have stands at the first."""
    seen: set[int] = set()
    parts = []
    for module in modules():
        loaded = importlib.import_module(module)
        again = [name for name in loaded.__all__ if id(getattr(loaded, name)) in seen]
        seen |= {id(getattr(loaded, name)) for name in loaded.__all__}
        options = ["   :members:", *([f"   :exclude-members: {', '.join(again)}"] if again else [])]
        above = f"\n\nAlso here, and described above: {', '.join(f'`{name}`' for name in again)}." if again else ""
        parts.append("\n".join([f"## `{module}`\n\n```{{eval-rst}}\n.. automodule:: {module}", *options, "```"]) + above)
    return "\n\n".join(parts)


PARTS: dict[str, Callable[[], str]] = {"packages": packages, "public": public, "reference": reference}
