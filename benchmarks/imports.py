"""What ``import interop`` loads and costs, each time in an interpreter of its own.

That no array library is loaded is looked up, not timed. The time is the difference to an interpreter that does
nothing, launched in turns with it: a difference, because the launch itself is most of it and differs by machine.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks.case import Case, Reference
from benchmarks.runner import row, status
from benchmarks.timing import spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.timing import Settings

__all__ = ["LIBRARIES", "import_rows"]

LIBRARIES = ("numpy", "torch", "cupy", "jax", "ml_dtypes", "array_api_compat", "tensorflow", "dask", "tvm_ffi")
"""Array libraries, and what loads one."""

BUDGET_MS = 40

LOADED = Case("import-loads", "The import loads no array library", "import interop", (Reference("array libraries loaded", budget=0),))
TIME = Case("import-time", "The import's share of a start", "import interop", (Reference("python -c pass", budget=BUDGET_MS),))


def launch(source: str) -> float:
    """Return the seconds that an interpreter takes to run a statement."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", source], check=True)
    return time.perf_counter() - start


def loaded(statement: str = LOADED.call) -> list[str]:
    """Return the array libraries that a new interpreter holds after a statement."""
    source = f"{statement}; import sys; print(*(name for name in {LIBRARIES} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", source], check=True, capture_output=True, text=True)
    return done.stdout.split()


def import_rows(
    settings: Settings, launch: Callable[[str], float] = launch, loaded: Callable[[], list[str]] = loaded
) -> list[dict[str, Any]]:
    """Return the two rows about the import; the functions that launch an interpreter can be put in."""
    found = loaded()
    (allowed,) = LOADED.references
    held = {"measure": "count", "value": len(found), "status": status(len(found), allowed.budget), "reason": ", ".join(found) or None}
    return [row(LOADED, allowed, **held), _time_row(settings, launch)]


def _time_row(settings: Settings, launch: Callable[[str], float]) -> dict[str, Any]:
    (reference,) = TIME.references
    for source in ("pass", "import interop"):  # not measured: writes the bytecode, warms the disk
        launch(source)
    pairs = [(launch("pass"), launch("import interop")) for _ in range(settings.launches)]
    value, low, high = (round(number, 1) for number in spread([(mine - theirs) * 1e3 for theirs, mine in pairs]))
    return row(
        TIME,
        reference,
        measure="ms more",
        value=value,
        low=low,
        high=high,
        call_ns=round(spread([mine for _, mine in pairs]).median * 1e9),
        reference_ns=round(spread([theirs for theirs, _ in pairs]).median * 1e9),
        status=status(value, reference.budget),
    )
