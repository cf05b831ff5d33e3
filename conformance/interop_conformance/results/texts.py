"""Texts of others made fit for committed results: one line, nothing that changes from run to run, nothing but what can be read."""

from __future__ import annotations

import re

__all__ = ["first_sentence", "printable"]

# Addresses, and what an array is, as JAX spells it: the case says that already, and without it like reasons are alike.
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+\b|\b[0-9]{12,}\b|\b[a-z]\w*\[[\d, ]*\]")
_ROOM = 160


def printable(text: str) -> str:
    r"""Return a text in which every character is to be read, and any other is written as Python writes it in a literal.

    A stranger's texts come to terminals, pages and XML, where control characters and changes of direction do something.

    >>> printable("a\x1b[2J\u202eb")
    'a\\x1b[2J\\u202eb'
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def first_sentence(text: str) -> str:
    r"""Return a message's first line, without addresses, as far as it fits into a table.

    >>> first_sentence("bad capsule at 0x7f00aa\nand more")
    'bad capsule at …'
    """
    lines = text.strip().splitlines()
    line = printable(_ADDRESS.sub("…", lines[0].strip())) if lines else ""
    return line if len(line) <= _ROOM else f"{line[: _ROOM - 1]}…"
