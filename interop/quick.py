"""The quick path: a conversion that needs no decision, done before the long way is even entered.

A backend declares its short cuts as data (`interop.backends._base.Shortcut`: the guards, then the handoff);
this module only looks them up and asks the guards, in order. Whatever is not plain goes the long way, which
decides. So a short cut may be slower to give up, but it can never decide anything.

`tests/test_quick.py` holds both ways against each other over the whole enumeration.
"""

from __future__ import annotations

import functools
import inspect
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from interop.policy import check_names, hurdle

if TYPE_CHECKING:
    from collections.abc import Callable

    from interop.backends._base import Backend, Shortcut

__all__ = ["checked", "front", "learn", "tables"]

P = ParamSpec("P")
R = TypeVar("R")

DETACHING = {"grad": "detach"}

tables: dict[tuple[str, str], dict[type, Callable[[Any], Any]]] = {}
"""(target, permission) -> type -> function that returns the result, or None for the long way."""


def learn(backend: Backend) -> None:
    """Take a backend's short cuts into the tables."""
    for key, by_type in backend.shortcuts().items():
        for kind, shortcut in by_type.items():
            table(*key)[kind] = guarded(shortcut)


def table(target: str, permission: str) -> dict[type, Callable[[Any], Any]]:
    """Return the table of a target, which fills as backends are loaded."""
    return tables.setdefault((target, permission), {})


def guarded(shortcut: Shortcut) -> Callable[[Any], Any]:
    """Return the short cut as a function that asks the guards first, and returns None if one says no."""
    truthy = [attrgetter(path) for path in shortcut.truthy]
    falsy = [attrgetter(path) for path in shortcut.falsy]
    quiet, handoff, refuses = shortcut.quiet, shortcut.handoff, shortcut.refuses
    void = attrgetter(shortcut.void) if shortcut.void else None

    def attempt(x: Any) -> Any:
        for look in falsy:
            if look(x):
                return None
        for look in truthy:
            if not look(x):
                return None
        for ask in quiet:
            if ask():
                return None
        try:
            result = handoff(x)
        except refuses:
            return None
        return None if void is not None and void(result) else result

    return attempt


def checked(verb: Callable[P, R]) -> Callable[P, R]:
    """Let a misspelt keyword be answered with the nearest right one; the verb's signature stays what it is."""
    known = list(inspect.signature(verb).parameters)

    @functools.wraps(verb)
    def call(*args: Any, **keywords: Any) -> Any:
        check_names(keywords, known)
        return verb(*args, **keywords)

    return call


def front(target: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Put the quick path in front of a verb with a fixed target; the verb's signature stays what it is."""
    plain, detaching = table(target, ""), table(target, "grad=detach")

    def decorate(verb: Callable[P, R]) -> Callable[P, R]:
        long_way = checked(verb)

        @functools.wraps(verb)
        def quick(x: Any, /, **keywords: Any) -> Any:
            if hurdle.get() is None and (not keywords or keywords == DETACHING):
                attempt = plain.get(type(x))
                result = attempt(x) if attempt is not None else None
                if result is not None:
                    return result
                if keywords:
                    attempt = detaching.get(type(x))
                    result = attempt(x) if attempt is not None else None
                    if result is not None:
                        return result
            return long_way(x, **keywords)

        return cast("Callable[P, R]", quick)  # wraps() gives it the verb's signature

    return decorate
