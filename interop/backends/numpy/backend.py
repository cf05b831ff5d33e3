"""NumPy: host memory, read-only arrays, any strides; small floats through ml_dtypes.

The NumPy array is also what host memory crosses every border in (`host_view`, `from_host`), because it can
say everything about a piece of host memory, read-only included, and NumPy is always installed.
"""

from __future__ import annotations

import contextvars
import operator
import sys
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from interop._model.capabilities import Capabilities
from interop._model.description import CPU, Description, Device
from interop._model.dtypes import DTYPES, canonical
from interop.backends.base import Backend
from interop.backends.numpy import missing
from interop.backends.shortcut import DETACH, PLAIN, Shortcut
from interop.backends.units import Unit, unit_of
from interop.errors import DTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from interop.dlpack import Capsule, Owner

# The descriptors by which a fast path asks whether an array is aligned and writeable.
BEHAVED = (np.ndarray.flags, type(np.empty(0).flags).behaved)


def _native_dtypes() -> dict[str, np.dtype[Any]]:
    """Return NumPy's dtype for each canonical name that it (or ml_dtypes) has."""
    found: dict[str, np.dtype[Any]] = {}
    for name in DTYPES:
        kind = getattr(ml_dtypes, name, None) or getattr(np, name, None)
        if kind is not None:
            found[name] = np.dtype(kind)
    return found


_DTYPES = _native_dtypes()


def native_dtype(name: str) -> np.dtype[Any]:
    """Return NumPy's dtype for a canonical name (ml_dtypes' for the small floats)."""
    return _DTYPES[name]


def memory_dtype(name: str) -> np.dtype[Any]:
    """Return a dtype of NumPy's own of the same size: what other libraries take ml_dtypes' arrays as."""
    return np.dtype(f"u{DTYPES[name].itemsize}")


def is_extension(name: str) -> bool:
    """Return whether the dtype comes from ml_dtypes, which other libraries do not recognise in a buffer."""
    return hasattr(ml_dtypes, name)


def address_of(buffer: memoryview) -> int:
    """Return the address of a buffer's first element; ValueError if NumPy cannot read it where it is."""
    address: int = np.asarray(buffer, copy=False).__array_interface__["data"][0]
    return address


def view_memory(owner: Owner, capsule: Capsule) -> Any:
    """Return an ndarray on a capsule's memory, which `owner` keeps alive; no data are touched."""
    shape, strides, dtype = capsule.shape, capsule.strides, capsule.dtype
    native = native_dtype(dtype)
    if 0 in shape:  # there are no bytes to share, and a null pointer would not do
        return np.empty(shape, native)
    plain = memory_dtype(dtype) if is_extension(dtype) else native
    owner.__array_interface__ = {
        "version": 3,
        "data": (capsule.pointer, capsule.readonly is True),
        "shape": shape,
        "strides": tuple(step * native.itemsize for step in strides),
        "typestr": plain.str,
    }
    view = np.asarray(owner)
    return view.view(native) if is_extension(dtype) else view


class NumPyBackend(Backend):
    """NumPy arrays, scalars and subclasses."""

    capabilities = Capabilities(
        name="numpy",
        title="NumPy",
        dtypes=frozenset(_DTYPES),
        devices=frozenset({"cpu"}),
        extension=frozenset(name for name in _DTYPES if hasattr(ml_dtypes, name)),
        readonly_arrays=True,
        negative_strides=True,
        foreign_byte_order=True,
        unaligned=True,
        odd_strides=True,
        casts_opaque=("object", "str", "bytes", "StringDType", "datetime64", "timedelta64"),
    )

    def owns(self, x: Any) -> bool:
        return isinstance(x, np.ndarray | np.generic)

    def describe(self, x: Any) -> Description:
        scalar = isinstance(x, np.generic)
        elsewhere = not scalar and not x.flags.writeable and _has_writable_base(x)  # before there is another view of it
        array = np.asarray(x) if scalar else self.strip(x)
        kind = type(x)
        unit = Unit() if scalar or kind is np.ndarray or {"unit", "units"} & {*(array.dtype.names or ())} else unit_of(x)
        return Description(
            backend="numpy",
            type=f"{kind.__module__}.{kind.__qualname__}",
            shape=array.shape,
            dtype=_name(array.dtype),
            device=CPU,
            strides=_element_strides(array),
            nbytes=array.nbytes,
            pointer=None if scalar else array.__array_interface__["data"][0],
            readonly=not array.flags.writeable and not scalar,
            writable_base=elsewhere,
            masked=missing.is_masked(x),
            units=unit.text,
            swapped=not array.dtype.isnative,
            aligned=array.flags.aligned,
            scalar=scalar,
            advice=_advice(array.dtype) or unit.advice,
        )

    def is_scalar(self, x: Any) -> bool:
        return isinstance(x, np.generic)

    def device_of(self, x: Any) -> Device:
        return CPU

    def namespace(self) -> Any:
        import array_api_compat.numpy

        return array_api_compat.numpy

    def states(self) -> Mapping[str, Callable[[Any], Any]]:
        return {"readonly": self.protect}

    def strip(self, x: Any) -> Any:
        return x if isinstance(x, np.generic) else np.ndarray.view(x, np.ndarray)

    def copy(self, x: Any) -> Any:
        # Not ascontiguousarray, which would leave a negative stride on an axis of length 1.
        return np.array(x, copy=True, order="K", subok=True)

    def cast(self, x: Any, dtype: str) -> Any:
        wanted = native_dtype(dtype)
        array = np.asarray(x) if isinstance(x, np.generic) else x
        if array.dtype.kind == "c" and DTYPES[dtype].kind not in ("complex", "bool"):
            array = array.real  # what astype does with a warning, about a loss that the call permitted by name
        try:
            if array.dtype.kind in _OPAQUE and is_extension(dtype):  # ml_dtypes reads numbers only
                return quietly(missing.cast, array, wanted, np.dtype("complex128" if DTYPES[dtype].kind == "complex" else "float64"))
            return quietly(missing.cast, array, wanted)
        except DTypeError:  # a TypeError too
            raise
        except (TypeError, ValueError, OverflowError) as error:
            hint = "Convert the values with NumPy first."
            raise DTypeError(f"NumPy cannot cast {array.dtype} to {wanted}: {error}.", hint=hint) from error

    def unmask(self, x: Any) -> Any:
        return self.strip(x)

    def may_be_aliased(self, x: Any) -> bool:
        if isinstance(x, np.generic) or x.base is None:
            return False
        # A reference to a view's base is one to its memory; a base that is no array may have other owners. Counted here and not in a
        # function of its own, which would count its own references, more of them while a compiler looks on.
        return type(x.base) is not np.ndarray or sys.getrefcount(x.base) > 2

    def protect(self, x: Any) -> Any:
        x.setflags(write=False)
        return x

    def host_view(self, x: Any) -> Any:
        # C's unsigned long long is a type of its own, which torch.from_numpy does not take, although it is uint64 as well.
        return x.view(x.dtype.name) if x.dtype.char in "qQ" and x.dtype.isnative else x

    def from_host(self, view: Any) -> Any:
        return view

    def shortcuts(self) -> Mapping[tuple[str, frozenset[str]], Mapping[Any, Shortcut]]:
        itself = {np.ndarray: Shortcut(handoff=_itself)}
        return {("numpy", PLAIN): itself, ("numpy", DETACH): itself}

    def report(self) -> dict[str, Any]:
        return {"version": np.__version__, "devices": ["cpu"], "dlpack_exports": "1.0", "dlpack_imports": "1.0"}


def _itself(x: Any) -> Any:
    return x


_OPAQUE = "OSUTMm"
_ADVICE = {
    "O": "They are objects of Python's: make an array of numbers of them first, in the dtype that they are meant to have.",
    **dict.fromkeys("SUT", "Encode the strings as numbers first, or leave them out."),
    "V1": "If float8 was saved to a file, its name was lost: x.view(...) with the dtype of ml_dtypes that it was.",
    "V2": "If bfloat16 was saved to a file, its name was lost: x.view(ml_dtypes.bfloat16).",
    "V": "Say what the bytes are: x.view(...).",
}


def _advice(dtype: np.dtype[Any]) -> str:
    if dtype.kind in "Mm":  # not view, which would read the counts of the other byte order in this machine's
        return f"Convert the counts: {'x.view' if dtype.isnative else 'x.astype'}('int64')."
    if dtype.names:
        return f"Convert one field at a time, as in x[{dtype.names[0]!r}]."
    if dtype.name in DTYPES or (dtype.kind == "V" and dtype.type is not np.void):  # a dtype that others registered
        return ""
    return _ADVICE.get(f"{dtype.kind}{dtype.itemsize}") or _ADVICE.get(dtype.kind, "")


def _name(dtype: np.dtype[Any]) -> str:
    if dtype.type in (np.longdouble, np.clongdouble):
        # Where the platform's long double is a double, NumPy still has two types of the same name.
        same = dtype.itemsize == np.dtype(np.float64 if dtype.kind == "f" else np.complex128).itemsize
        return {("f", True): "float64", ("c", True): "complex128", ("f", False): "longdouble"}.get((dtype.kind, same), "clongdouble")
    if dtype.names is not None:
        return "record"
    name = canonical(dtype.name)
    return name if name in DTYPES or dtype.kind not in "biufc" else dtype.str


def _element_strides(array: np.ndarray[Any, Any]) -> tuple[int, ...] | None:
    size = array.itemsize
    # An axis that is never walked does not count: its stride leads to no element.
    walked = [step for step, extent in zip(array.strides, array.shape, strict=True) if extent > 1 and array.size]
    if size == 0 or any(step % size for step in walked):
        return None
    return tuple(step // size for step in array.strides)


def _has_writable_base(array: Any) -> bool:
    """Return whether a read-only array is on memory that something else can write to, as far as that can be asked."""
    references, base = _references(array), array.base
    if base is None:
        return False
    if isinstance(base, np.ndarray):
        # A base that nobody else refers to, neither directly nor by another view, is out of reach.
        return (base.flags.writeable and references > _ALONE) or _has_writable_base(base)
    interface = getattr(base, "__array_interface__", None)  # of `Owner`, and of what NumPy itself took the memory from
    if interface is not None:
        return not interface["data"][1]
    try:
        return not memoryview(base).readonly
    except TypeError:  # no buffer: a tensor, say
        return True


def _references(array: Any) -> int:
    return sys.getrefcount(array.base)


_ALONE = _references(np.empty(1)[:])
"""The references to a base that only one view has, as they are counted here: how many are temporary depends on the interpreter."""


def overlap(a: Description, b: Description, *arrays: Any) -> bool:
    """Return whether two strided arrays have a byte in common; exact, nothing is dereferenced.

    ``arrays`` are the two themselves, where they are at hand: an ndarray's strides need not be whole elements.
    """
    first, second = (one if isinstance(one, np.ndarray) else _shell(x) for x, one in zip((a, b), arrays or (None, None), strict=True))
    return bool(np.shares_memory(first, second))


def tidy(view: Any) -> Any:
    """Return the same memory with harmless strides on the axes that are never walked (length 1, or empty arrays).

    Other libraries look at every stride: a negative one on an axis of length 1 is refused by torch, though
    no element lies there (it is what `ascontiguousarray` leaves of ``a[:1][::-1]``).
    """
    if view.size == 0:
        return np.empty(view.shape, view.dtype)
    if all(extent != 1 or (step >= 0 and step % view.itemsize == 0) for extent, step in zip(view.shape, view.strides, strict=True)):
        return view
    strides = tuple(view.itemsize if extent == 1 else step for extent, step in zip(view.shape, view.strides, strict=True))
    # as_strided spells the dtype out for NumPy to read, and those of ml_dtypes have no such spelling; plain bytes do.
    raw = view.view(f"V{view.itemsize}")
    return np.lib.stride_tricks.as_strided(raw, view.shape, strides, writeable=view.flags.writeable).view(view.dtype)


ALIGNMENT = 64
"""Bytes, at a multiple of which host memory has to start for the libraries that ask for most (XLA's)."""


def aligned_copy(view: Any, dtype: str) -> Any:
    """Return the values of an ndarray in new, compact memory that starts at a multiple of `ALIGNMENT` bytes, cast if the dtype is another."""
    wanted = native_dtype(dtype)
    if view.dtype.kind == "c" and DTYPES[dtype].kind not in ("complex", "bool"):
        view = view.real
    nbytes = view.size * wanted.itemsize
    raw = np.empty(nbytes + ALIGNMENT, "uint8")
    start = -raw.__array_interface__["data"][0] % ALIGNMENT
    made = raw[start : start + nbytes].view(wanted).reshape(view.shape)
    quietly(operator.setitem, made, ..., view)
    return made


def quietly(compute: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """Call without NumPy's warnings: what overflows in a cast was permitted with the cast.

    In a context of its own, which is entered and left by one call of C: `numpy.errstate` is not, and an interrupt would leave it in force.
    """
    return contextvars.copy_context().run(_ignoring, compute, *args, **keywords)


def _ignoring(compute: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    with np.errstate(all="ignore"):
        return compute(*args, **keywords)


def writable(view: Any) -> Any:
    """Return the same memory as a writable array, for consumers that refuse others; nothing may write to it that was not permitted."""
    if view.flags.writeable:
        return view
    made = np.asarray(_Interface(view.__array_interface__ | {"data": (view.__array_interface__["data"][0], False)}, view))
    return made.view(view.dtype)


class _Interface:
    """Memory by its address; NumPy may compute with it, and reads it only where `owner` is what keeps it."""

    def __init__(self, interface: dict[str, Any], owner: Any = None) -> None:
        self.__array_interface__, self.owner = interface, owner


def _shell(x: Description) -> Any:
    itemsize = x.nbytes // x.size
    strides = tuple(step * itemsize for step in x.strides or ())
    return np.asarray(
        _Interface({"version": 3, "data": (x.pointer, True), "shape": x.shape, "strides": strides, "typestr": f"|V{itemsize}"})
    )


backend = NumPyBackend()
