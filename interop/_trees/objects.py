"""Objects that hold arrays and are no containers: estimators, modules, tables, views of a dict, containers of a stranger's own.

To hand one back as it is, beside arrays that were converted, would leave its arrays behind silently. So it is looked into, running none
of its code: what is in its `__dict__` and its slots, in containers there, and in objects there likewise. What holds objects of the
standard library, such as a logger or a thread, is not asked what these hold: that leads everywhere. A function, a class and a module hold
nothing.
"""

from __future__ import annotations

import copy
import gc
import sys
from collections import ChainMap, OrderedDict, UserDict, UserList, deque
from enum import Enum
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    CodeType,
    FrameType,
    FunctionType,
    MappingProxyType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    SimpleNamespace,
    TracebackType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType

from interop._model.identity import derives_from
from interop._model.spelling import type_name
from interop._trees.attributes import attributes_of, by_type, construction_of, set_attribute
from interop._trees.containers import KEEPS, ContainerType, cannot_rebuild, is_array_like
from interop.backends import find_backend, is_array
from interop.errors import DTypeError, Refusal, UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal

    Objects = Literal["error", "keep", "open"]


_KEEPS = {"objects": "keep"}

# What holds arrays.

_FUNCTIONS = (
    *(FunctionType, BuiltinFunctionType, MethodType, MethodWrapperType),
    *(MethodDescriptorType, ClassMethodDescriptorType, WrapperDescriptorType),
)
_NEVER = (
    *(type, ModuleType, *_FUNCTIONS, CodeType, FrameType, TracebackType, ReferenceType),
    *(str, bytes, bytearray, int, float, complex, range, slice, type(None)),
)
_EMPTY: tuple[dict[Any, Any], ...] = ({}, OrderedDict())
_VIEWS = {type(view): type(made) for made in _EMPTY for view in (made.values(), made.items(), made.keys())}
_CONTAINERS = (
    *(dict, list, tuple, set, frozenset, deque, UserDict, UserList, MappingProxyType, ChainMap, SimpleNamespace),
    *_VIEWS,
)


@by_type
def _holds_nothing(kind: Any) -> bool:
    return derives_from(kind, _NEVER)


@by_type
def _is_passed_by(kind: Any) -> bool:
    """Return whether what holds objects of a class need not be asked what these hold."""
    if _holds_nothing(kind) or derives_from(kind, _CONTAINERS):
        return _holds_nothing(kind)
    iterates = kind.__module__ in ("builtins", "itertools") and any("__next__" in vars(base) for base in kind.__mro__)
    return _is_standard(kind) and not iterates


@by_type
def _is_standard(kind: Any) -> bool:
    return str(kind.__module__).partition(".")[0] in sys.stdlib_module_names


def is_opaque_array(x: Any) -> bool:
    """Return whether an array's elements are no numbers: strings, dates, objects."""
    backend = find_backend(x)
    return bool(backend.capabilities.casts_opaque) and backend.capabilities.has_no_numbers(backend.describe(x).dtype)


def is_object_array(x: Any) -> bool:
    """Return whether the elements of an array are Python objects, which may be arrays again."""
    return is_array(x) and getattr(getattr(x, "dtype", None), "kind", None) == "O"


@by_type
def _counts(kind: Any) -> bool:
    """Return whether the objects of a class are numbers by their own words: Python's, those of `decimal`, of SymPy."""
    return any(name in vars(base) for base in kind.__mro__ for name in ("__float__", "__complex__", "__index__"))


def holds_numbers(x: Any) -> bool:
    """Return whether something in an array of objects is a number, also in lists there, as a ragged array has them."""
    queue, met = [x] if is_object_array(x) else [], {id(x)}
    for one in queue:
        parts = list(one.flat) if is_object_array(one) else list(one)
        # By their types first, in C: there may be a million names.
        one_of = dict(zip(map(id, map(type, parts)), parts, strict=True))
        if any(_counts(type(part)) for part in one_of.values() if not is_array(part)):
            return True
        wanted = {key for key, part in one_of.items() if is_array(part) or derives_from(type(part), (list, tuple))}
        for part in parts if wanted else ():
            if id(type(part)) in wanted and id(part) not in met:
                if is_array(part) and not is_opaque_array(part):
                    return True
                met.add(id(part))
                if is_object_array(part) or not is_array(part):
                    queue.append(part)
    return False


def _is_numeric_array(x: Any) -> bool:
    return is_array(x) and not find_backend(x).is_scalar(x) and not is_opaque_array(x)


def _is_buffer(x: Any) -> bool:
    """Return whether an object gives its memory to whoever asks: ``array.array``, ``memoryview``, those of ctypes."""
    try:
        memoryview(x).release()
    except TypeError:
        return False
    except (BufferError, ValueError):  # it would, but not now
        return True
    return True


def _is_array(x: Any) -> bool:
    """Return whether an object is an array or a table itself, whether or not a backend knows it."""
    return _is_numeric_array(x) or holds_numbers(x) if is_array(x) else is_array_like(type(x)) or _is_buffer(x)


def holds_arrays(x: Any) -> bool:
    """Return whether an object is, or refers to, an array with numbers in it that no conversion of a tree gets to see.

    A library's scalars count as numbers. The nearest objects are looked at first, and each once.
    """
    kind = type(x)
    if _holds_nothing(kind):
        return False
    if not is_array(x) and (is_array_like(kind) or _is_buffer(x)):
        return True
    queue, met = [x], {id(x)}
    for one in queue:  # which grows meanwhile; it keeps what is in it alive, so that an address stays one object's
        parts = _parts(one)
        # By their types first, in C: a list may hold a million paths.
        one_of = dict(zip(map(id, map(type, parts)), parts, strict=True))
        wanted = {key for key, part in one_of.items() if not _is_passed_by(type(part)) or _is_table(part)}
        if not wanted:
            continue
        for part in parts:
            if id(type(part)) in wanted and id(part) not in met:
                if _is_array(part):
                    return True
                met.add(id(part))
                if not is_array(part) or is_object_array(part):
                    queue.append(part)
    return False


def _parts(x: Any) -> list[Any]:
    """Return what an object consists of."""
    if is_object_array(x):
        return list(x.flat)
    if derives_from(type(x), _CONTAINERS) or _is_standard(type(x)):
        return gc.get_referents(x)  # what a view or an iterator is on has no name
    return list(attributes_of(x).values())


def _is_table(x: Any) -> bool:
    return not _holds_nothing(type(x)) and (is_array_like(type(x)) or _is_buffer(x))


def why_left(x: Any, objects: Objects, *, is_home: bool) -> Refusal | None:
    """Return the refusal of a leaf that was not converted: it holds arrays or numbers, and nobody said that it may keep them; else None.

    Where an array `is_home`, in its own library, its elements may be numbers.
    """
    if objects == "keep":
        return None
    if holds_arrays(x):
        return Refusal(UnsupportedTypeError, _why_held(x, objects), _KEEPS)
    if is_home or not holds_numbers(x):
        return None
    reason = f"{type_name(x)} of objects has numbers among them, which would be left behind: {KEEPS}"
    return Refusal(DTypeError, reason, _KEEPS, find_backend(x).describe(x).advice)


def _why_held(x: Any, objects: Objects) -> str:
    is_one = _is_array(x) and not is_object_array(x)
    holds = f"{type_name(x)} {'is an array or a table that interop does not convert' if is_one else 'holds arrays and is no container'}"
    if objects != "open" and _kind_of(x) is not None:  # not tried: a copy runs the class's own code
        return f"{holds}: {KEEPS}, objects='open' converts a copy of it"
    return f"{holds}: {KEEPS}, and objects='open' cannot open it"


# How such an object is opened.


def _copied(x: Any) -> Any:
    """Return a copy of an object, as its class makes it; None if it makes none."""
    # A class raises what it likes where it cannot be copied; its own faults, such as a ZeroDivisionError, are not taken for that.
    try:
        made = copy.copy(x)
    except (TypeError, ValueError, AttributeError, LookupError, RuntimeError, OSError, copy.Error):
        return None
    own = getattr(x, "__dict__", None)
    apart = made is not x and type(made) is type(x) and (own is None or made.__dict__ is not own)
    return made if apart and attributes_of(made).keys() >= attributes_of(x).keys() else None


def _unflatten_object(container: Any, children: Sequence[Any]) -> Any:
    made = _copied(container)
    if made is None:
        raise cannot_rebuild(container)
    for (name, old), child in zip(attributes_of(container).items(), children, strict=True):
        if child is not old:
            set_attribute(made, name, child)
    return made


def _unflatten_elements(container: Any, children: Sequence[Any]) -> Any:
    made = container.copy()
    for index, child in zip(_indices(container), children, strict=True):
        made[index] = child
    return made


def _indices(array: Any) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = [()]
    for extent in array.shape:
        found = [(*index, at) for index in found for at in range(extent)]
    return found


def _view(name: str, items: Callable[[Any], list[Any]]) -> ContainerType:
    """Return the kind of the views of a dict: rebuilt as those of another one."""

    def unflatten(container: Any, children: Sequence[Any]) -> Any:
        made = _VIEWS[type(container)](zip(container.mapping, children, strict=True))
        return getattr(made, name)()

    def entries(container: Any) -> list[str]:
        return [f".mapping[{key!r}]" for key in container.mapping]

    return ContainerType(entries, items, unflatten)


_OPENED = ContainerType(
    lambda container: [f".{name}" for name in attributes_of(container)],
    lambda container: list(attributes_of(container).values()),
    _unflatten_object,
)
_ELEMENTS = ContainerType(
    lambda container: [f"[{', '.join(map(str, index)) or '()'}]" for index in _indices(container)],
    lambda container: list(container.flat),
    _unflatten_elements,
)
_VALUES = _view("values", lambda container: list(container.mapping.values()))
_ITEMS = _view("items", lambda container: list(container.mapping.values()))


_KEYED = ContainerType(
    lambda container: [*("" for _ in container), *(f"[{key!r}]" for key in container)],
    lambda container: [*container.keys(), *container.values()],
    None,  # whoever looks them up has the old ones
)


def keyed_type_of(x: Any) -> ContainerType | None:
    """Return the kind of a mapping that has arrays in its keys; None for any other object."""
    if not derives_from(type(x), (dict, MappingProxyType)) or not x:
        return None
    keys = list(x.keys())
    one_of = dict(zip(map(id, map(type, keys)), keys, strict=True))
    wanted = {kind for kind, key in one_of.items() if not _holds_nothing(type(key))}
    return _KEYED if any(id(type(key)) in wanted and (_is_array(key) or holds_arrays(key)) for key in keys) else None


def object_type_of(x: Any) -> ContainerType | None:
    """Return how an object that holds arrays is opened, with ``objects="open"``; None if it cannot be."""
    found = _kind_of(x)
    return None if found is _OPENED and _copied(x) is None else found


def _kind_of(x: Any) -> ContainerType | None:
    if is_object_array(x):
        return _ELEMENTS
    if derives_from(type(x), _VIEWS):
        return {"values": _VALUES, "items": _ITEMS}.get(type(x).__name__.partition("_")[2])
    if is_array(x) or is_array_like(type(x)) or derives_from(type(x), (Enum,)) or construction_of(type(x)).new is not object.__new__:
        return None  # of a member there is but one, and one that is made by other code, an exception, may hold more than its attributes
    return _OPENED if attributes_of(x) else None
