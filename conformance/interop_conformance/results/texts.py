"""Texts of other libraries made fit for committed results: one line, nothing that changes from run to run."""

from __future__ import annotations

import re

__all__ = ["first_sentence"]

# Addresses, and what an array is, as JAX spells it: the case says that already, and without it like reasons are alike.
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+\b|\b[0-9]{12,}\b|\b[a-z]\w*\[[\d, ]*\]")
_ROOM = 160


def first_sentence(text: str) -> str:
    r"""Return a message's first line, without addresses, as far as it fits into a table.

    >>> first_sentence("bad capsule at 0x7f00aa\nand more")
    'bad capsule at …'
    """
    lines = text.strip().splitlines()
    line = _ADDRESS.sub("…", lines[0].strip()) if lines else ""
    return line if len(line) <= _ROOM else f"{line[: _ROOM - 1]}…"
