"""The command ``interop``: `main`, which the installed script calls and ``python -m interop`` as well.

The library does not need what the command line needs (the ``cli`` extra), so that is looked for here, first, and
its absence is one line and not a traceback. Not in ``__main__.py``, which another distribution may have overwritten:
the script still runs then, and ``interop doctor`` says so (`interop.doctor.name_clash`).
"""

from __future__ import annotations

import importlib
import sys

_NEEDED = ("click", "packaging", "rich")


def main() -> int:
    """Run the command line; returns its exit status, 2 if what it needs is not installed."""
    try:
        for name in _NEEDED:
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        hint = "write: pip install 'array-interop[cli]'"
        print(f"interop: the command line needs {error.name}, which is not installed; {hint}", file=sys.stderr)
        return 2
    from interop.cli import cli
    from interop.cli._process import run

    return run(cli, "interop")
