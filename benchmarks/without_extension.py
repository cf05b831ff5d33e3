"""The fast path's Python twin, measured in an interpreter that cannot import the compiled one.

``python -m benchmarks.without_extension`` prints rows as JSON; `benchmarks.run` calls it. A process of its own, because
interop chooses between the two when it is imported.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

__all__ = ["main", "rows_from_subprocess"]

TIMEOUT_S = 300


def rows_from_subprocess(*, quick: bool) -> list[dict[str, Any]]:
    """Return the rows that a new interpreter measures."""
    command = [sys.executable, "-m", "benchmarks.without_extension", *(["--quick"] if quick else [])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S)
    return list(json.loads(done.stdout))


def main(arguments: list[str]) -> int:
    """Measure, and print the rows."""
    sys.modules["interop.native.fastpath"] = None  # type: ignore[assignment]  # None: its import raises ImportError
    from benchmarks.cases import WITHOUT_EXTENSION
    from benchmarks.environment import quick_path
    from benchmarks.names import HOST
    from benchmarks.runner import measure
    from benchmarks.timing import FULL, QUICK

    if quick_path() != "python":
        raise RuntimeError("the compiled fast path was imported after all.")
    settings = QUICK if "--quick" in arguments else FULL
    print(json.dumps(measure(WITHOUT_EXTENSION, HOST, settings, lambda title: print(title, file=sys.stderr))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
