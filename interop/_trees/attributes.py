"""What an object itself holds, in its `__dict__` and its slots, and how an empty one of its class is made.

Nothing here runs a class's own code on its objects: what is read and set is what lies there.
"""

from __future__ import annotations

import functools
import inspect
from types import BuiltinFunctionType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def by_type(function: Callable[[Any], T]) -> Callable[[Any], T]:
    """Remember the answers for types, as long as these live."""
    # By their addresses: a metaclass may say that its class equals, and hashes as, another.
    known: dict[int, tuple[Callable[[], Any], T]] = {}

    @functools.wraps(function)
    def ask(kind: Any) -> T:
        key = id(kind)
        entry = known.get(key)
        if entry is not None and entry[0]() is kind:
            return entry[1]
        found = function(kind)
        known[key] = (ref(kind, lambda gone: known.pop(key, None) if known.get(key, (None,))[0] is gone else None), found)
        return found

    return ask


class _Construction(NamedTuple):
    """How objects of a class are made; holds nothing that would keep the class alive."""

    new: Callable[[Any], Any]
    slots: tuple[str, ...]
    cached: frozenset[str]


@by_type
def construction_of(kind: Any) -> _Construction:
    """Return the constructor that makes an empty object of a class, its slots, and what it computes once and keeps in its `__dict__`."""
    # The constructor of the nearest base that is not written in Python: of those, `object` has one at the latest.
    new = next(own for base in kind.__mro__ if isinstance(own := vars(base).get("__new__"), BuiltinFunctionType))
    named = {name for base in kind.__mro__ for name in vars(base)}
    return _Construction(new, _slots(kind), frozenset(name for name in named if _is_cached(kind, name)))


def _is_cached(kind: type, name: str) -> bool:
    return isinstance(inspect.getattr_static(kind, name, None), functools.cached_property)


def _slots(kind: Any) -> tuple[str, ...]:
    found = []
    for base in kind.__mro__:
        own = base.__dict__.get("__slots__", ())
        names = (own,) if isinstance(own, str) else own
        found += [f"_{base.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name for name in names]
    return tuple(name for name in found if name not in ("__dict__", "__weakref__"))


def attributes_of(x: Any) -> dict[str, Any]:
    """Return what is set in the slots and the `__dict__` of an object, without what is computed from the rest once."""
    _, slots, cached = construction_of(type(x))
    found = {name: object.__getattribute__(x, name) for name in slots if _is_set(x, name)}
    own = getattr(x, "__dict__", None)
    if type(own) is dict and own:  # that of a class that is its own `__dict__` has its items already
        found |= {name: value for name, value in own.items() if name not in cached} if cached else own
    return found


def _is_set(x: Any, slot: str) -> bool:
    try:
        object.__getattribute__(x, slot)
    except AttributeError:
        return False
    return True


def set_attribute(x: Any, name: str, value: Any) -> None:
    """Put a value where `attributes_of` finds it, in a frozen object too."""
    if name in construction_of(type(x)).slots:
        object.__setattr__(x, name, value)
    else:
        x.__dict__[name] = value


def empty_copy(container: Any) -> Any:
    """Return an object of the same class with the same attributes, empty otherwise.

    Not `copy.copy`, which a class may answer with itself, and which runs the class's own code on arrays.
    """
    kind: Any = type(container)
    made = construction_of(kind).new(kind)
    if getattr(container, "__dict__", None) is container:  # a dict whose items are its attributes, and have to stay so
        made.__dict__ = made
        return made
    for name, value in attributes_of(container).items():  # what was computed from the old ones is computed again
        set_attribute(made, name, value)
    return made
