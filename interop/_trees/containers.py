"""Containers that optree does not flatten, and how each is flattened and rebuilt.

optree knows the exact types of Python, plain named tuples, and what is registered with it. Everything else is a leaf to
it: dataclasses, attrs classes, namespaces, and subclasses of dict, list, tuple and deque, which would keep their arrays
unconverted, silently. A new one is made without running the class's own checks, on arrays that they may not expect.

An object of a stranger's class is never rebuilt: a twin of it may be on the same file, or half of it. So of the classes with fields,
only those are containers whose fields are what their `__init__` takes, and of their objects those that hold nothing else.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections import ChainMap, OrderedDict, UserDict, defaultdict, deque
from types import BuiltinFunctionType, FunctionType, MappingProxyType, MemberDescriptorType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from interop._model.identity import is_found_by_identity
from interop._model.spelling import type_name
from interop._trees.attributes import attributes_of, by_type, construction_of, empty_copy, set_attribute
from interop.errors import UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class ContainerType(NamedTuple):
    """A kind of container: what is appended to the path of each child, the children, and how it is rebuilt with others, if it can be.

    Also, for `interop._trees.records`, the names of its fields, if reading and setting these is all that there is to it; and which
    objects of the type it is for, if not for all.
    """

    entries: Callable[[Any], Iterable[str]]
    children: Callable[[Any], Sequence[Any]]
    unflatten: Callable[[Any, Sequence[Any]], Any] | None
    fields: tuple[str, ...] | None = None
    accepts: Callable[[Any], bool] | None = None


# What is an array by its own words.

PROTOCOLS = (
    *("__array__", "__array_interface__", "__array_struct__", "__cuda_array_interface__", "__dlpack__", "__array_namespace__"),
    *("__arrow_c_array__", "__arrow_c_stream__", "__dataframe__", "__jax_array__"),
)


@by_type
def is_array_like(kind: Any) -> bool:
    """Return whether a class says that its objects are arrays or tables, also one that no backend knows."""
    return any(name in vars(base) for base in kind.__mro__ for name in PROTOCOLS)


# Classes with fields: dataclasses and attrs classes.


def _has_fields(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind) or hasattr(kind, "__attrs_attrs__")


def _declared(kind: Any) -> tuple[tuple[str, str], ...]:
    """Return the name of each field that `__init__` takes, and what the parameter is called."""
    if dataclasses.is_dataclass(kind):
        return tuple((field.name, field.name) for field in dataclasses.fields(kind) if field.init)
    # attrs 22.2 and newer say what the parameter is called.
    return tuple((one.name, getattr(one, "alias", None) or one.name.lstrip("_")) for one in kind.__attrs_attrs__ if one.init)


def _is_made_of(kind: Any, parameters: set[str]) -> bool:
    """Return whether objects of a class are made of these and nothing else, by no code of its own before `__init__`."""
    new = next(vars(base)["__new__"] for base in kind.__mro__ if "__new__" in vars(base))
    code = getattr(kind.__init__, "__code__", None)  # not its signature, which may have to evaluate annotations
    if code is None or not isinstance(new, BuiltinFunctionType) or code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
        return False
    if any(name.startswith("_") for name in parameters):  # state of its own, that its methods alone understand
        return False
    return set(code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]) == parameters


def _with_fields(kind: Any) -> ContainerType | None:
    """Return the kind of the instances of a class with declared fields, None where they cannot be rebuilt by them."""
    declared = dict(_declared(kind))
    named = {"shape", "dtype"}
    if named <= {*declared, *(name for base in kind.__mro__ for name in vars(base))}:  # a lazy array, or what describes one
        return None
    if not _is_made_of(kind, set(declared.values())):
        return None
    names = tuple(declared)
    base = next((found for base, found in _BASES if issubclass(kind, base)), None)
    if base is None and construction_of(kind).new is object.__new__:  # not an exception, say, which has arguments besides
        base = _by_fields(names)._replace(fields=names if _is_plain(kind, names) else None)
    if base is None or base.unflatten is None or base is _USER_MAPPING:
        return None
    return base._replace(accepts=lambda container: attributes_of(container).keys() <= declared.keys())


def _is_plain(kind: Any, declared: tuple[str, ...]) -> bool:
    """Whether an object of the class is made and filled by `object` itself, with all fields in its `__dict__` or all in slots."""
    new, slots, _ = construction_of(kind)
    every = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else kind.__attrs_attrs__
    if new is not object.__new__ or kind.__getattribute__ is not object.__getattribute__ or len(every) != len(declared):
        return False
    found = [next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None) for name in declared]
    if kind.__dictoffset__ == 0:
        return set(slots) == set(declared) and all(isinstance(one, MemberDescriptorType) for one in found)
    return not slots and not any(hasattr(type(one), "__set__") or hasattr(type(one), "__delete__") for one in found)


def _by_fields(declared: tuple[str, ...]) -> ContainerType:
    """Return the kind of objects that are read and set by the names of their fields; one that was never set is no child."""

    def names(container: Any) -> list[str]:
        return [name for name in declared if hasattr(container, name)]

    def unflatten(container: Any, children: Sequence[Any]) -> Any:
        made = empty_copy(container)
        for name, child in zip(names(container), children, strict=True):
            object.__setattr__(made, name, child)  # frozen ones too
        return made

    return ContainerType(
        lambda container: [f".{name}" for name in names(container)],
        lambda container: [getattr(container, name) for name in names(container)],
        unflatten,
    )


# Mappings and sequences: their items, and the attributes that their class gives them.


def _keys(container: Any) -> list[str]:
    return [f"[{key!r}]" for key in container]


def _values(container: Any) -> list[Any]:
    return [container[key] for key in container]


def _indices(container: Any) -> list[str]:
    names = getattr(container, "_fields", None) or range(len(container))
    return [f".{name}" if isinstance(name, str) else f"[{name}]" for name in names]


def with_attributes(
    make: Callable[[Any, Sequence[Any]], Any],
    entries: Callable[[Any], list[str]] = lambda _: [],
    items: Callable[[Any], list[Any]] = lambda _: [],
    without: str = "",
) -> ContainerType:
    """Return the kind of containers with items and attributes, as SciPy's results are; `make` gives a new one with other items."""

    def attributes(container: Any) -> dict[str, Any]:
        return {name: value for name, value in attributes_of(container).items() if name != without}

    def unflatten(container: Any, children: Sequence[Any]) -> Any:
        own = attributes(container)
        count = len(children) - len(own)
        made = make(container, children[:count])
        for name, child in zip(own, children[count:], strict=True):
            set_attribute(made, name, child)
        return made

    return ContainerType(
        lambda container: [*entries(container), *(f".{name}" for name in attributes(container))],
        lambda container: [*items(container), *attributes(container).values()],
        unflatten,
    )


def _made_mapping(container: Any, values: Sequence[Any]) -> Any:
    made = empty_copy(container)
    items = zip(list(container), values, strict=True)
    if isinstance(made, UserDict):
        made.data = dict(items)
        return made
    if isinstance(made, defaultdict):
        made.default_factory = container.default_factory
    setter = OrderedDict.__setitem__ if isinstance(made, OrderedDict) else dict.__setitem__
    for key, child in items:
        setter(made, key, child)
    return made


def _made_list(container: Any, items: Sequence[Any]) -> Any:
    made = empty_copy(container)
    if isinstance(made, deque):
        deque.__init__(made, items, container.maxlen)
    else:
        list.extend(made, items)
    return made


def _made_tuple(container: Any, items: Sequence[Any]) -> Any:
    made = tuple.__new__(type(container), items)
    if attributes_of(container):
        # Methods compute with the attributes, and SciPy's take them for NumPy's arrays unless SCIPY_ARRAY_API is set
        # (`array_namespace` in scipy/_lib/_array_api.py): so they stay those of the source.
        made.__dict__.update({name: getattr(container, name) for name in _methods(type(container))})
    return made


@by_type
def _methods(kind: Any) -> tuple[str, ...]:
    above = kind.__mro__[: kind.__mro__.index(tuple)]
    found = (name for base in above for name, one in vars(base).items() if isinstance(one, FunctionType))
    return tuple(dict.fromkeys(name for name in found if not name.startswith("_")))


KEEPS = "objects='keep' leaves it as it is"


def cannot_rebuild(container: Any, *, may_be_kept: bool = False) -> UnsupportedTypeError:
    """Return the error for a container that holds arrays and cannot be rebuilt with others."""
    hint = "make a dict or a list of it first, or register its type with optree"
    reason = f"a {type_name(container)} with arrays in it cannot be rebuilt around others"
    if may_be_kept:
        return UnsupportedTypeError(f"{reason}: {KEEPS}", hint=hint, permissions={"objects": "keep"})
    return UnsupportedTypeError(reason, hint=f"{hint}.")


# An ordered dict itself, with attributes: its items are one child, which optree knows, because a state dict may be large.
_ATTRIBUTED = with_attributes(lambda _, items: items[0], lambda _: [""], lambda container: [OrderedDict(container)])
_NAMESPACE = with_attributes(lambda container, _: empty_copy(container))
_MAPPING = with_attributes(_made_mapping, _keys, _values)
_USER_MAPPING = with_attributes(_made_mapping, _keys, _values, without="data")
_TUPLE = with_attributes(_made_tuple, _indices, list)
_LIST = with_attributes(_made_list, _indices, list)
_PROXY = ContainerType(_keys, _values, lambda container, made: MappingProxyType(dict(zip(container, made, strict=True))))
_UNIQUE = ContainerType(lambda container: [""] * len(container), list, None)


VALUES: set[type] = set()
"""Dataclasses that are values, and so leaves; complete before the first tree is flattened."""


@by_type
def container_type_of(kind: Any) -> ContainerType | None:
    """Return the kind of container that the instances of a type are, of those that optree knows nothing of; None for others."""
    # One that says that it equals others would be found among the bases' abstract classes, and is asked for by no table.
    if not is_found_by_identity(kind) or issubclass(kind, tuple(VALUES)) or is_array_like(kind):
        return None
    if _has_fields(kind):
        return _with_fields(kind)
    if kind is OrderedDict:
        return _ATTRIBUTED
    return next((found for base, found in _BASES if issubclass(kind, base)), None)


_BASES: tuple[tuple[Any, ContainerType], ...] = (
    (SimpleNamespace | ChainMap, _NAMESPACE),
    (dict, _MAPPING),
    (UserDict, _USER_MAPPING),
    (tuple, _TUPLE),
    (list | deque, _LIST),
    (set | frozenset, _UNIQUE),
    (MappingProxyType, _PROXY),
)
