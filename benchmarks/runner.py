"""A case measured: its statements turned into timers, its times into rows.

A row is plain data and complete: the JSON, the table on the screen and the table in the docs are made from rows only. A library that is
missing and a statement that raises are rows too, so that they cost nothing but themselves.
"""

from __future__ import annotations

import contextlib
import timeit
import traceback
from typing import TYPE_CHECKING, Any

from benchmarks.case import names_in
from benchmarks.names import resolve
from benchmarks.timing import compare, interleave, spread
from tools.recorder import line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from benchmarks.case import Case, Reference
    from benchmarks.timing import Settings

    Makers = Mapping[str, Callable[[], Any]]
    Row = dict[str, Any]
    Timer = Callable[[int], float]

__all__ = ["measure", "row", "rows_of", "status", "unmeasured"]


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
    blank = dict.fromkeys(("value", "low", "high", "call_ns", "reference_ns", "rounds"))
    return {
        "id": case.id,
        "title": case.title,
        "note": case.note,
        "call": case.call,
        "reference": reference.statement,
        "measure": "ratio",
        **blank,
        "bytes": case.bytes,
        "budget": reference.budget,
        "or_ns": reference.or_ns,
        "status": "not-run",
        "reason": None,
        **measured,
    }


def unmeasured(case: Case, reason: str, status: str = "not-run") -> list[Row]:
    """Return a case's rows without numbers."""
    return [row(case, reference, status=status, reason=reason) for reference in case.references]


def measure(cases: Iterable[Case], makers: Makers, settings: Settings, tell: Callable[[str], object]) -> list[Row]:
    """Measure cases one after the other; `tell` is given each case's title first."""
    rows = []
    for case in cases:
        tell(case.title)
        rows += rows_of(case, makers, settings)
    return rows


def rows_of(case: Case, makers: Makers, settings: Settings) -> list[Row]:
    """Measure one case. What its names stand for is dropped when this returns."""
    names, problem = _made(names_in(case.call, *case.setting), makers)
    if problem:
        return unmeasured(case, **problem)
    problems = []
    for reference in case.references:
        more, problem = _made([name for name in names_in(reference.statement) if name not in names], makers)
        names |= more
        problems.append(problem)
    try:
        return _measured(case, names, problems, settings)
    except Exception as error:  # whatever a statement raises costs its own case only
        return unmeasured(case, **_failure(error))


def _made(names: list[str], makers: Makers) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what names stand for, and the problem if there is one."""
    try:
        return resolve(names, makers), {}
    except ModuleNotFoundError as error:
        return {}, {"status": "not-run", "reason": f"{error.name} is not installed"}
    except Exception as error:  # memory that is not there, for one
        return {}, _failure(error)


def _failure(error: Exception) -> dict[str, str]:
    traceback.print_exception(error)
    return {"status": "failed", "reason": line(f"{type(error).__name__}: {error}")}


def _first_call(timer: Timer) -> dict[str, str]:
    """Call a reference once, untimed, since that may load a library; return the problem if it raises."""
    try:
        timer(1)
    except Exception as error:  # a peer that fails must not take the comparison with the others along
        return _failure(error)
    return {}


def _measured(case: Case, names: dict[str, Any], problems: list[dict[str, str]], settings: Settings) -> list[Row]:
    tail = f"\n{case.tail}" if case.tail else ""
    call, *others = [timeit.Timer(text + tail, globals=names).timeit for text in case.statements]
    drain = compile(case.drain or "None", "<drain>", "eval")
    settings = settings._replace(least=case.least or settings.least)
    with eval(case.scope, names) if case.scope else contextlib.nullcontext():
        call(1)
        problems = [problem or _first_call(timer) for problem, timer in zip(problems, others, strict=True)]
        present = [timer for problem, timer in zip(problems, others, strict=True) if not problem]
        mine, *theirs = interleave([call, *present], settings, lambda: eval(drain, names))
    return _rows(case, problems, mine, theirs)


def _rows(case: Case, problems: list[dict[str, str]], mine: list[float], theirs: list[list[float]]) -> list[Row]:
    measured = iter(theirs)
    pairs = zip(case.references, problems, strict=True)
    rows = [row(case, ref, **problem) if problem else _compared(case, ref, mine, next(measured)) for ref, problem in pairs]
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
        rounds=len(call),
        status=status(value, reference.budget, call_ns, reference.or_ns),
    )
