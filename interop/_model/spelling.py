"""Names in messages: the nearest right word for a wrong one, and what an object is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def nearest(word: str, words: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"``, or an empty string when nothing is near."""
    from difflib import get_close_matches  # on request: only mistakes need it

    found = get_close_matches(word.lower(), list(words), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else "."


def unknown(word: str, what: str, known: Iterable[str]) -> str:
    """Return the text of the error for a name that is not known.

    >>> unknown("toch", "backend", ["numpy", "torch"])
    "'toch' is not a backend; did you mean 'torch'? Known: numpy, torch."
    """
    known = list(known)
    return f"{word!r} is not a {what}{nearest(word, known)} Known: {', '.join(known)}."


def no_value(name: str, value: Any, values: Sequence[Any], of: str = "") -> str:
    """Return the text of the error for a keyword's value that is none of those it may have.

    >>> no_value("others", "kept", ("keep", "error"))
    "others='kept' is not a value; did you mean 'keep'? Values: 'keep', 'error'."
    """
    near = nearest(str(value), [one for one in values if isinstance(one, str)])
    return f"{name}={value!r} is not a value{of and ' of '}{of}{near} Values: {', '.join(map(repr, values))}."


def type_name(x: Any) -> str:
    """Return the qualified name of an object's class, as messages have it.

    >>> type_name(1), type_name(nearest)
    ('int', 'function')
    """
    return f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")
