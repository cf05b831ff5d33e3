"""Containers that optree does not flatten, and how each is flattened and rebuilt.

optree knows the exact types of Python, plain named tuples, and what is registered with it. Everything else is a leaf to
it: dataclasses, attrs classes, namespaces, and subclasses of dict, list, tuple and deque, which would keep their arrays
unconverted, silently. A new one is made without running the class's own checks, on arrays that they may not expect.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections import ChainMap, OrderedDict, UserDict, defaultdict, deque
from types import BuiltinFunctionType, MappingProxyType, MemberDescriptorType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from interop._model.spelling import type_name
from interop.errors import UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

T = TypeVar("T")


class ContainerType(NamedTuple):
    """A kind of container: what is appended to the path of each child, the children, and how it is rebuilt with others, if it can be.

    Also, for `interop._trees.records`, the names of its fields, if reading and setting these is all that there is to it.
    """

    entries: Callable[[Any], Iterable[str]]
    children: Callable[[Any], Sequence[Any]]
    unflatten: Callable[[Any, Sequence[Any]], Any] | None
    fields: tuple[str, ...] | None = None


def _by_type(function: Callable[[Any], T]) -> Callable[[Any], T]:
    """Remember the answers for types, as long as these live."""
    known: WeakKeyDictionary[type, T] = WeakKeyDictionary()

    @functools.wraps(function)
    def ask(kind: Any) -> T:
        try:
            return known[kind]
        except KeyError:
            found = known[kind] = function(kind)
            return found

    return ask


# How an empty object of a class is made, with the attributes that are no children of it.


class _Construction(NamedTuple):
    """How objects of a class are made; holds nothing that would keep the class alive."""

    new: Callable[[Any], Any]
    slots: tuple[str, ...]
    cached: frozenset[str]


@_by_type
def _construction_of(kind: Any) -> _Construction:
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


def _empty_copy(container: Any) -> Any:
    """Return an object of the same class with the same attributes, empty otherwise.

    Not `copy.copy`, which a class may answer with itself, and which runs the class's own code on arrays.
    """
    kind: Any = type(container)
    new, slots, cached = _construction_of(kind)
    made = new(kind)
    for name in slots:
        if hasattr(container, name):
            object.__setattr__(made, name, getattr(container, name))
    own = getattr(container, "__dict__", None)
    if own:  # what was computed from the old fields is computed again
        vars(made).update({name: value for name, value in own.items() if name not in cached} if cached else own)
    return made


# Classes with fields: dataclasses, attrs, namespaces.


def _declared(kind: Any) -> tuple[str, ...]:
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return tuple(attribute.name for attribute in kind.__attrs_attrs__)


def _with_fields(kind: Any, *, rebuilds: bool = True) -> ContainerType:
    """Return the kind of the instances of a class with declared fields; one that was never set is no child."""
    declared = _declared(kind)
    found = _with_attributes(lambda container: [name for name in declared if hasattr(container, name)], rebuilds=rebuilds)
    return found._replace(fields=declared) if rebuilds and _is_plain(kind, declared) else found


def _is_plain(kind: Any, declared: tuple[str, ...]) -> bool:
    """Whether an object of the class is made and filled by `object` itself, with all fields in its `__dict__` or all in slots."""
    new, slots, _ = _construction_of(kind)
    if new is not object.__new__ or kind.__getattribute__ is not object.__getattribute__:
        return False
    found = [next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None) for name in declared]
    if kind.__dictoffset__ == 0:
        return set(slots) == set(declared) and all(isinstance(one, MemberDescriptorType) for one in found)
    return not slots and not any(hasattr(type(one), "__set__") or hasattr(type(one), "__delete__") for one in found)


def _with_attributes(names: Callable[[Any], list[str]], *, rebuilds: bool = True) -> ContainerType:
    def unflatten(container: Any, children: Sequence[Any]) -> Any:
        made = _empty_copy(container)
        for name, child in zip(names(container), children, strict=True):
            object.__setattr__(made, name, child)  # frozen ones too
        return made

    return ContainerType(
        lambda container: [f".{name}" for name in names(container)],
        lambda container: [getattr(container, name) for name in names(container)],
        unflatten if rebuilds else None,
    )


_NAMESPACE = _with_attributes(lambda container: list(vars(container)))


# Mappings and sequences.


def _keys(container: Any) -> list[str]:
    return [f"[{key!r}]" for key in container]


def _indices(container: Any) -> list[str]:
    names = getattr(container, "_fields", None) or range(len(container))
    return [f".{name}" if isinstance(name, str) else f"[{name}]" for name in names]


def _unflatten_mapping(container: Any, children: Sequence[Any]) -> Any:
    made = _empty_copy(container)
    items = zip(list(container), children, strict=True)
    if isinstance(made, UserDict):
        made.data = dict(items)
        return made
    if isinstance(made, defaultdict):
        made.default_factory = container.default_factory
    setter = OrderedDict.__setitem__ if isinstance(made, OrderedDict) else dict.__setitem__
    for key, child in items:
        setter(made, key, child)
    return made


def _unflatten_attributed(container: Any, children: Sequence[Any]) -> Any:
    vars(children[0]).update(vars(container))
    return children[0]


def _unflatten_tuple(container: Any, children: Sequence[Any]) -> Any:
    made = tuple.__new__(type(container), children)
    if own := getattr(container, "__dict__", None):
        vars(made).update(own)
    return made


def _unflatten_list(container: Any, children: Sequence[Any]) -> Any:
    made = _empty_copy(container)
    if isinstance(made, deque):
        deque.__init__(made, children, container.maxlen)
    else:
        list.extend(made, children)
    return made


def cannot_rebuild(container: Any) -> UnsupportedTypeError:
    """Return the error for a container that holds arrays and cannot be rebuilt with others."""
    hint = "Make a dict or a list of it first, or register its type with optree."
    return UnsupportedTypeError(f"a {type_name(container)} with arrays in it cannot be rebuilt around others", hint=hint)


# An ordered dict itself, with attributes: it is one child, which optree knows, because a state dict may be large.
_ATTRIBUTED = ContainerType(lambda _: [""], lambda container: [OrderedDict(container)], _unflatten_attributed)
_MAPPING = ContainerType(_keys, lambda container: [container[key] for key in container], _unflatten_mapping)
_TUPLE = ContainerType(_indices, list, _unflatten_tuple)
_LIST = ContainerType(_indices, list, _unflatten_list)
_UNIQUE = ContainerType(lambda container: [""] * len(container), list, None)
_FIXED = ContainerType(_keys, lambda container: list(container.values()), None)


VALUES: set[type] = set()
"""Dataclasses that are values, and so leaves; complete before the first tree is flattened."""


@_by_type
def container_type_of(kind: Any) -> ContainerType | None:
    """Return the kind of container that the instances of a type are, of those that optree knows nothing of; None for others."""
    if issubclass(kind, tuple(VALUES)):
        return None
    if dataclasses.is_dataclass(kind) or "__attrs_attrs__" in vars(kind):
        # One that is a dict as well (transformers' outputs) holds each array twice.
        return _with_fields(kind, rebuilds=not issubclass(kind, dict | list | tuple | set | UserDict))
    if kind is OrderedDict:
        return _ATTRIBUTED
    for base, found in _BASES:
        if issubclass(kind, base):
            return found
    return None


_BASES: tuple[tuple[Any, ContainerType], ...] = (
    (SimpleNamespace, _NAMESPACE),
    (dict | UserDict, _MAPPING),
    (tuple, _TUPLE),
    (list | deque, _LIST),
    (set | frozenset, _UNIQUE),
    (MappingProxyType | ChainMap, _FIXED),
)
