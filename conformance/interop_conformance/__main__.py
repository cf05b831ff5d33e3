"""``python -m interop_conformance``: the same as ``interop conformance``, also where the project is not installed."""

from __future__ import annotations

from interop_conformance.command import command

if __name__ == "__main__":
    command(prog_name="python -m interop_conformance")
