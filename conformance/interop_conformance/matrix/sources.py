"""The arrays that cases are made on: built from literal values, with what they mean known independently of any library."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from interop_conformance.adapters._base import NotItsOwn, SuiteFault, Unsupported
from interop_conformance.matrix.dtypes import dtype_named, values_of
from interop_conformance.matrix.layouts import LAYOUTS
from interop_conformance.matrix.states import STATES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    from interop_conformance.adapters._base import Adapter

__all__ = ["Source", "difference", "make_own", "snapshot", "source"]


class Source(NamedTuple):
    """An array, and what it means; `expected` is None where there are no values to hand over; of no elements, there always are."""

    array: Any
    expected: np.ndarray | None


def source(adapter: Adapter, dtype: str, layout: str, state: str, stack: ExitStack) -> Source:
    """Return an array of the adapter's library; raises `Unsupported` with the reason if it has no such array.

    Raises `NotItsOwn` for what is of another library: NumPy's indexing gives a scalar for an array of no axes, and
    its ``broadcast_to`` an ndarray of whatever it is given.
    """
    try:
        dtype_named(dtype)
    except AttributeError:
        raise Unsupported(f"neither NumPy nor this ml_dtypes has {dtype}, so nothing says what the values are") from None
    values = values_of(dtype, LAYOUTS[layout].base)
    try:
        made = make_own(adapter, values)
        laid = _own(adapter.lay(made, LAYOUTS[layout]), type(made))
        array = adapter.put(laid, state, stack)
        del made, laid  # what a state does away with must not stay alive here
    except (Unsupported, NotItsOwn):
        raise
    except Exception as error:  # whatever it is, it is the adapter's, and must not be blamed on a handoff
        raise SuiteFault(f"the adapter {adapter.name} could not make the array: {type(error).__name__}: {error}") from error
    return Source(array, np.array(LAYOUTS[layout].view(values)) if STATES[state].data or not values.size else None)


def make_own(adapter: Adapter, values: np.ndarray) -> Any:
    """Return an array of these values, compact, by the library itself; raises `Unsupported` or `NotItsOwn` where it has none."""
    made = _own(adapter.make(values), _usual_type(adapter))
    if not values.ndim and adapter.values(made).ndim:
        raise Unsupported(f"{adapter.name} has no arrays of no axes, but gives them one")
    return made


@functools.cache
def _usual_type(adapter: Adapter) -> type:
    return type(adapter.make(values_of("float32", LAYOUTS["compact"].base)))


def _own(array: Any, usual: type) -> Any:
    """Return an array if it is of its library: of the usual type, of a subclass, or of a type beside it in the same package."""
    kind = type(array)
    if not issubclass(kind, usual) and kind.__module__.partition(".")[0] != usual.__module__.partition(".")[0]:
        raise NotItsOwn(f"{kind.__module__}.{kind.__qualname__} is no array of the library's")
    return array


def difference(found: np.ndarray, expected: np.ndarray) -> str:
    """Return in words how an array differs from what it should be, to the last bit; empty if it does not.

    >>> difference(np.float32([1, 2]), np.float32([1, 3]))
    'other values'
    """
    if found.dtype != expected.dtype:
        return f"{expected.dtype.name} became {found.dtype.name}"
    if found.shape != expected.shape:
        return f"the shape {expected.shape} became {found.shape}"
    return "" if np.ascontiguousarray(found).tobytes() == expected.tobytes() else "other values"


def snapshot(adapter: Adapter, x: Any, *, data: bool = True) -> Mapping[str, Any]:
    """Return what must be the same before and after a handoff."""
    seen = {"carries": adapter.keeps(x), **adapter.looks(x)}
    if data:
        seen |= {"values": adapter.values(x).tobytes(), "pointer": adapter.pointer(x), "writeable": adapter.writeable(x)}
    return seen
