"""Write the parts of the documentation that a program knows better: ``python -m docs.generate [--check]``.

A generated part stands between two comments that name it; everything around it is written by hand. The errors come from their
classes' docstrings, the permissions from `interop._model.policy.FIELDS`, the packages from the boundary test, the speed from the committed
results, and what is about the conformance suite from its tables. What a page's own code prints comes from running it (`docs.printed`).
`tests/docs/test_docs.py` fails when a page is not what this program writes.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from docs import architecture_parts, conformance_parts, conformance_results, gpu_results, printed
from interop._model.policy import FIELDS, PRESETS
from interop.backends import BUILTIN
from interop.errors import ERRORS, InteropError
from tools.floors import floors

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
PAGES = (
    "README.md",
    "docs/errors.md",
    "docs/policies.md",
    "docs/neutral.md",
    "docs/autograd.md",
    "docs/doctor.md",
    "docs/architecture.md",
    "docs/reference.md",
    "docs/testing.md",
    "docs/cuda.md",
    "docs/conformance.md",
    "docs/conformance-adapter.md",
    "docs/findings.md",
)


def errors() -> str:
    """Return a section for every code."""
    return "\n\n".join(_error(kind) for code, kind in ERRORS.items() if kind is not InteropError)


def _error(kind: type[InteropError]) -> str:
    bases = [base for base in kind.__mro__[1:] if base not in (InteropError, Exception, BaseException, object)]
    builtin = ", ".join(f"`{base.__name__}`" for base in bases if base.__module__ == "builtins" or issubclass(base, InteropError))
    text = re.sub(r"``(.+?)``", r"`\1`", inspect.getdoc(kind) or "")
    return f"## {kind.code}\n\n`{kind.__name__}`, also {builtin}\n\n{text}"


def permissions() -> str:
    """Return the table of the permissions."""
    rows = [f"| `{name}` | {', '.join(f'`{value!r}`' for value in field.values)} | {field.governs} |" for name, field in FIELDS.items()]
    return "\n".join(["| permission | values (the first is the default) | governs |", "| --- | --- | --- |", *rows])


def presets() -> str:
    """Return the table of the presets."""
    names = list(PRESETS)
    head = [f"| permission | {' | '.join(f'`{name!r}`' for name in names)} |", f"| --- |{' --- |' * len(names)}"]
    rows = [f"| `{field}` | {' | '.join(f'`{getattr(PRESETS[name], field)!r}`' for name in names)} |" for field in FIELDS]
    return "\n".join(head + rows)


def backends() -> str:
    """Return the table of the backends and how to install them."""
    rows = [f"| `{name}` | `{built_in.install}` |" for name, built_in in BUILTIN.items()]
    return "\n".join(["| backend | to install |", "| --- | --- |", *rows])


def versions() -> str:
    """Return the table of the oldest versions that are asked for."""
    rows = [f"| `{one.name}` | {one.version} | `{one.asked_by}` |" for one in floors()]
    return "\n".join(["| distribution | oldest version | asked for by |", "| --- | --- | --- |", *rows])


def unseen() -> str:
    """Return what torch does not show to a native guard: the list in the docstring of the file that watches it."""
    from interop._watch import torch as native_guard

    lines = (inspect.getdoc(native_guard) or "").splitlines()
    listed = [number for number, line in enumerate(lines) if line.startswith("- ")]
    return "\n".join(lines[listed[0] : lines.index("", listed[-1])])


def speed() -> str:
    """Return the speed table of the committed CPU results."""
    from benchmarks.table import markdown

    return markdown(json.loads((ROOT / "benchmarks" / "results" / "cpu.json").read_text())).rstrip()


PARTS: dict[str, Callable[[], str]] = {
    "errors": errors,
    "permissions": permissions,
    "presets": presets,
    "backends": backends,
    "speed": speed,
    "unseen": unseen,
    "versions": versions,
    **architecture_parts.PARTS,
    **conformance_parts.PARTS,
    **conformance_results.PARTS,
    **gpu_results.PARTS,
}

_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str) -> str:
    """Return a page with its generated parts written anew."""
    return _PART.sub(lambda found: f"{found[1]}{PARTS[found[2]]()}\n{found[3]}", text)


def _made(page: str) -> str:
    """Return what a page has to be."""
    return printed.render(render((ROOT / page).read_text()), page)


def _page(*, check: bool) -> list[str]:
    """Write the conformance suite's page, if what is in it differs; return its name if it did."""
    path, made = conformance_results.PAGE, conformance_results.page()
    if path.exists() and conformance_results.same_page(path.read_text(), made):
        return []
    if not check:
        path.write_text(made)
    return [str(path.relative_to(ROOT))]


def main(argv: list[str] | None = None) -> int:
    """Write the pages, or with ``--check`` say which ones are out of date."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args(argv).check
    made = {page: _made(page) for page in PAGES}
    stale = {page: text for page, text in made.items() if text != (ROOT / page).read_text()}
    if not check:
        for page, text in stale.items():
            (ROOT / page).write_text(text)
    names = [*stale, *_page(check=check)]
    for page in names:
        print(f"out of date: {page}" if check else f"written: {page}")
    return 1 if check and names else 0


if __name__ == "__main__":
    sys.exit(main())
