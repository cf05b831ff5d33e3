"""A case measured: its statements turned into timers, its times into rows.

A row is plain data and complete: the JSON, the table on the screen and the table in the docs are made from rows only.
"""

from __future__ import annotations

import contextlib
import timeit
from typing import TYPE_CHECKING, Any

from benchmarks.case import names_in
from benchmarks.names import resolve
from benchmarks.timing import compare, interleave, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from benchmarks.case import Case, Reference
    from benchmarks.timing import Settings

    Makers = Mapping[str, Callable[[], Any]]
    Row = dict[str, Any]

__all__ = ["measure", "row", "status"]


def status(value: float, budget: float | None, call_ns: float | None = None, or_ns: float | None = None) -> str:
    """Return ``"within"`` or ``"over"`` the budget, or ``"information"`` where there is none.

    >>> status(1.2, 1.35), status(0.6, 0.5, call_ns=300, or_ns=400), status(9.0, None)
    ('within', 'within', 'information')
    """
    if budget is None:
        return "information"
    fast_enough = call_ns is not None and or_ns is not None and call_ns <= or_ns
    return "within" if value <= budget or fast_enough else "over"


def row(case: Case, reference: Reference, **measured: Any) -> Row:
    """Return a row of results; what was not measured is None."""
    blank = dict.fromkeys(("value", "low", "high", "call_ns", "reference_ns"))
    return {
        "id": case.id,
        "title": case.title,
        "note": case.note,
        "call": case.call,
        "reference": reference.statement,
        "measure": "ratio",
        **blank,
        "budget": reference.budget,
        "or_ns": reference.or_ns,
        "status": "not-run",
        "reason": None,
        **measured,
    }


def measure(cases: Iterable[Case], makers: Makers, settings: Settings, tell: Callable[[str], object]) -> list[Row]:
    """Measure cases one after the other; `tell` is given each case's title first."""
    rows = []
    for case in cases:
        tell(case.title)
        rows += _rows(case, makers, settings)
    return rows


def _rows(case: Case, makers: Makers, settings: Settings) -> list[Row]:
    try:
        common = resolve(names_in(case.call, *case.setting), makers)
    except ModuleNotFoundError as error:
        return [_missing(case, reference, error) for reference in case.references]
    rows: list[Row | None] = []
    present = []
    for reference in case.references:
        try:
            common |= resolve([name for name in names_in(reference.statement) if name not in common], makers)
        except ModuleNotFoundError as error:
            rows.append(_missing(case, reference, error))
        else:
            rows.append(None)
            present.append(reference)
    measured = iter(_measured(case, present, common, settings))
    return [next(measured) if found is None else found for found in rows]


def _missing(case: Case, reference: Reference, error: ModuleNotFoundError) -> Row:
    return row(case, reference, reason=f"{error.name} is not installed")


def _measured(case: Case, references: list[Reference], names: dict[str, Any], settings: Settings) -> list[Row]:
    tail = f"\n{case.tail}" if case.tail else ""
    statements = (case.call, *(reference.statement for reference in references))
    timers = [timeit.Timer(text + tail, globals=names).timeit for text in statements]
    settle = compile(case.settle or "None", "<settle>", "eval")
    scope = eval(case.scope, names) if case.scope else contextlib.nullcontext()
    with scope:
        call, *others = interleave(timers, settings, lambda: eval(settle, names))
    rows = [_compared(case, reference, call, other) for reference, other in zip(references, others, strict=True)]
    if case.one_is_enough and any(row["status"] == "within" for row in rows):
        rows = [row | {"status": "information"} if row["status"] == "over" else row for row in rows]
    return rows


def _compared(case: Case, reference: Reference, call: list[float], other: list[float]) -> Row:
    ratio, call_ns = compare(call, other), spread(call).median
    value, low, high = (round(number, 3) for number in ratio)
    return row(
        case,
        reference,
        value=value,
        low=low,
        high=high,
        call_ns=round(call_ns),
        reference_ns=round(spread(other).median),
        status=status(value, reference.budget, call_ns, reference.or_ns),
    )
