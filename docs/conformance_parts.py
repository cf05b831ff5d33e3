"""The generated parts of the pages on the conformance suite: its options, outcomes, rules and what its cases vary."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import click
from interop_conformance.adapters import Adapter, load_adapters
from interop_conformance.command import run_command
from interop_conformance.matrix.dtypes import DTYPES
from interop_conformance.matrix.layouts import LAYOUTS
from interop_conformance.matrix.states import STATES
from interop_conformance.protocol.rules import LEVELS, ROLES, rules
from interop_conformance.results.outcomes import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["PARTS"]


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def options() -> str:
    """Return the options of ``run``."""
    rows = [(f"`{_call(option)}`", option.help or "") for option in run_command.params if isinstance(option, click.Option)]
    return _table(("option", "what it does"), rows)


def _call(option: click.Option) -> str:
    if option.is_flag:
        return option.opts[0]
    # Escaped, because a table's cells end at a bar.
    kinds = "\\|".join(getattr(option.type, "choices", ()))
    return f"{option.opts[0]} {kinds or option.metavar or option.human_readable_name.upper()}"


def outcomes() -> str:
    """Return what the outcomes mean."""
    rows = ((f"`{outcome.symbol}`", f"`{name}`", outcome.verdict, outcome.meaning) for name, outcome in OUTCOMES.items())
    return _table(("", "outcome", "is", "when"), rows)


def rule_counts() -> str:
    """Return how many rules there are."""
    counts = Counter((rule.role, rule.level) for rule in rules().values())
    rows = ((f"{role} rules", *(str(counts[role, level]) for level in LEVELS)) for role in ROLES)
    return _table(("", *(level.upper() for level in LEVELS)), rows)


def libraries() -> str:
    """Return who takes part, and as what."""
    rows = []
    ours = {name: adapter for name, adapter in load_adapters().items() if type(adapter).__module__.startswith("interop_conformance.")}
    for name, adapter in ours.items():
        states = ", ".join(f"`{state}`" for state in adapter.states if state != "plain")
        rows.append((f"`{name}`", adapter.device, _yes(adapter.produces), _yes(adapter.consumes), states))
    return _table(("library", "device", "produces", "consumes", "states besides `plain`"), rows)


def _yes(answer: bool) -> str:  # noqa: FBT001 - a cell
    return "yes" if answer else "no"


def dtypes() -> str:
    """Return the dtypes in a sentence."""
    return ", ".join(f"`{name}`" for name in DTYPES)


def layouts() -> str:
    """Return what the layouts are."""
    return _table(("layout", "what it is"), ((f"`{layout.name}`", layout.meaning) for layout in LAYOUTS.values()))


def states() -> str:
    """Return what the states are."""
    rows = ((f"`{name}`", state.meaning, state.carries, "" if state.data else "there are none") for name, state in STATES.items())
    return _table(("state", "what it is", "carries", "data"), rows)


def seven() -> str:
    """Return the methods that an adapter must have."""
    return _methods(abstract=True)


def rest() -> str:
    """Return what an adapter may have besides."""
    return _methods(abstract=False)


def _methods(*, abstract: bool) -> str:
    found = {name: member for name, member in vars(Adapter).items() if inspect.isfunction(member) and not name.startswith("_")}
    rows = [(f"`{_signature(name, method)}`", _first_line(method)) for name, method in found.items() if _is_abstract(method) is abstract]
    return _table(("method", "what it does"), rows)


def _is_abstract(method: Any) -> bool:
    return bool(getattr(method, "__isabstractmethod__", False))


def _signature(name: str, method: Callable[..., Any]) -> str:
    names = [f"**{one.name}" if one.kind is one.VAR_KEYWORD else one.name for one in inspect.signature(method).parameters.values()]
    return f"{name}({', '.join(names[1:])})"


def _first_line(method: Callable[..., Any]) -> str:
    paragraph = " ".join((inspect.getdoc(method) or "").partition("\n\n")[0].split())
    return re.sub(r"``(.+?)``", r"`\1`", paragraph)


PARTS: dict[str, Callable[[], str]] = {
    "options": options,
    "outcomes": outcomes,
    "rules": rule_counts,
    "libraries": libraries,
    "dtypes": dtypes,
    "layouts": layouts,
    "states": states,
    "seven": seven,
    "rest": rest,
}
