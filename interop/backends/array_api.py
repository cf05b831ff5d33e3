"""A library that follows the array API standard, as a backend: `ArrayAPIBackend`, from its namespace alone.

What the standard says is not taken on trust where a mistake would be silent: an array that the library imports is described again, and
compared with what was given.
"""

from __future__ import annotations

import contextlib
import importlib
from functools import cached_property
from typing import TYPE_CHECKING, Any

from interop._model.capabilities import Capabilities
from interop._model.description import STREAMED, Description, Device
from interop._model.dtypes import DTYPES
from interop.backends.base import Backend
from interop.backends.dlpack import REFUSALS, Opened, advertised, export_capsule
from interop.backends.dlpack import backend as dlpack_backend
from interop.backends.numpy.backend import aligned_copy, is_extension, tidy, writable
from interop.backends.numpy.backend import backend as numpy_backend
from interop.dlpack import producer_of
from interop.errors import DeviceUnavailableError, DTypeError, InteropError, LayoutError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ArrayAPIBackend"]


class ArrayAPIBackend(Backend):
    """The backend of a namespace that follows the array API standard, version 2022.12 or newer.

    Parameters
    ----------
    namespace : module or str
        The namespace, or the name under which it is imported.
    array_type : type, optional
        The class of its arrays; default: that of ``namespace.empty(0)``.
    name : str, optional
        The backend's name in calls; default: the package in which that class is defined, by which its arrays are found.
    title : str, optional
        The library's name in sentences; default: `name`.
    **capabilities
        What is not the default in `Capabilities`, for host memory. ``readonly_arrays=True`` if an array can be read-only, and exports say so;
        ``immutable=True`` if no array can be written to, so that writable memory is copied for it;
        ``negative_strides=True`` if it can walk backwards; ``compact=True`` if it takes only memory without gaps; ``alignment={"cpu": 64}``
        if it takes only memory that starts at such a multiple (at most 64 bytes); ``shares=False`` if its ``from_dlpack`` copies.

    Notes
    -----
    Used of the namespace: ``empty``, ``asarray(copy=True)``, ``astype``, ``real``, ``from_dlpack``, the dtypes and, from 2023.12 on,
    ``__array_namespace_info__``; of an array ``dtype``, ``shape``, ``device``, ``to_device``, ``__dlpack__`` and ``__dlpack_device__``.
    Everything else about an array is read from the capsule that it exports.

    Where the library imports something else than it was given (other memory, other strides, a writable array of read-only memory), the
    conversion is a LayoutError, which names the keyword that is missing here.

    The standard knows no gradients either: an array that its library tracks has to refuse its export, as the standard demands, or a subclass
    describes it with ``requires_grad=True`` and has `detach`.

    The standard has no current stream. So arrays on a CUDA device leave the library in order, and come to it only in a subclass that has
    `has_streams`, `stream_pointer` and `on_stream`.

    Examples
    --------
    >>> backend = ArrayAPIBackend("array_api_strict", readonly_arrays=True)
    >>> backend.name, sorted(backend.capabilities.devices), str(backend.device_of(backend.namespace().ones(2)))
    ('array_api_strict', ['cpu', 'ext'], 'cpu')
    """

    def __init__(
        self, namespace: Any, *, array_type: type | None = None, name: str | None = None, title: str | None = None, **capabilities: Any
    ) -> None:
        self._xp = importlib.import_module(namespace) if isinstance(namespace, str) else namespace
        self._given_type, self._given_name, self._title, self._said = array_type, name, title, capabilities

    @cached_property
    def _type(self) -> type:
        return self._given_type or type(self._xp.empty(0))

    @property
    def name(self) -> str:
        """The backend's name in calls."""
        return self._given_name or self._type.__module__.partition(".")[0]

    @cached_property
    def capabilities(self) -> Capabilities:
        """What its arrays can be: the dtypes and devices that the namespace has, and what was said of host memory."""
        on = {at: frozenset(self._dtypes_on(native)) for native, at in self._natives}
        dtypes = frozenset().union(*on.values())
        return Capabilities(
            name=self.name,
            title=self._title or self.name,
            dtypes=dtypes,
            devices=frozenset(at.type for at in on if at.type not in STREAMED or self.has_streams),
            default_device=self._natives[0][1].type,
            lacking={str(at): dtypes - there for at, there in on.items()},
            **self._said,
        )

    @cached_property
    def _natives(self) -> list[tuple[Any, Device]]:
        """The library's devices, the usual one first, each with interop's name for it."""
        info = getattr(self._xp, "__array_namespace_info__", None)
        found: list[tuple[Any, Device]] = []
        for native in (self._xp.empty(0).device, *(info().devices() if info else ())):
            if native is not None and not any(native == known for known, _ in found):
                found.append((native, self._named(native, [at for _, at in found])))
        return found

    def _named(self, native: Any, taken: list[Device]) -> Device:
        try:
            at = advertised(self._xp.empty(0, device=native))
        except REFUSALS:  # it has no name in DLPack
            at = taken[0]
        return Device("ext", len(taken)) if at in taken else at  # no other library shares memory with those

    def _dtypes_on(self, native: Any) -> list[str]:
        info = getattr(self._xp, "__array_namespace_info__", None)
        there = info().dtypes(device=native) if info else DTYPES
        # NumPy's own exporter, which host memory goes through, has no name for the extended ones.
        known = numpy_backend.capabilities.dtypes
        return [name for name in there if name in known and not is_extension(name) and hasattr(self._xp, name)]

    # Arrays.

    def owns(self, x: Any) -> bool:
        return isinstance(x, self._type)

    def describe(self, x: Any) -> Description:
        at = self.device_of(x)
        if at.type == "ext":  # whatever it exports: no other library addresses its memory
            shape = tuple(extent if isinstance(extent, int) else None for extent in x.shape)
            name = next((name for name in DTYPES if getattr(self._xp, name, None) == x.dtype), str(x.dtype))
            return Description(backend=self.name, type=_name(type(x)), shape=shape, dtype=name, device=at)
        seen = dlpack_backend.describe(x).replace(backend=self.name, type=_name(type(x)), device=at)
        return seen.replace(readonly=True) if self.capabilities.immutable else seen  # whether its exports say so or not

    def device_of(self, x: Any) -> Device:
        for native, at in self._natives:
            if native == x.device:
                return at
        return advertised(x)

    def may_be_aliased(self, x: Any) -> bool:
        return True  # the standard has no way to ask

    def namespace(self) -> Any:
        return self._xp

    def copy(self, x: Any) -> Any:
        made = self._xp.asarray(x, copy=True)
        seen = self.describe(made)
        if seen.size and seen.pointer is not None and seen.pointer == self.describe(x).pointer:
            raise LayoutError(
                f"{self.capabilities.title} returns the same memory from asarray(copy=True).", hint="Its backend has to override copy()."
            )
        return made

    def cast(self, x: Any, dtype: str) -> Any:
        with _refusing(DTypeError, f"{self.capabilities.title} cannot cast {x.dtype} to {dtype}"):
            if self._xp.isdtype(x.dtype, "complex floating") and DTYPES[dtype].kind != "complex":  # for which the standard has no astype
                x = x != 0 if dtype == "bool" else self._xp.real(x)
            return self._xp.astype(x, getattr(self._xp, dtype), copy=True)

    def protect(self, x: Any) -> Any:
        view = self.host_view(x).view()
        view.flags.writeable = False
        return self.from_host(view)

    # Shared with NumPy.

    def host_view(self, x: Any) -> Any:
        view = dlpack_backend.host_view(x if isinstance(x, Opened) else dlpack_backend.import_producer(x, _no_stream))
        return numpy_backend.protect(view) if self.capabilities.immutable else view

    def from_host(self, view: Any) -> Any:
        made, expected = self._imported(view), numpy_backend.describe(view)
        seen = self.describe(made)
        if _memory(seen) != _memory(expected):
            raise self._fault(f"imported {expected} as {seen}, which is not the same memory", "compact=True, alignment= or shares=False")
        if expected.readonly and self.capabilities.readonly_arrays and not seen.readonly:
            raise self._fault("imported read-only memory as a writable array", "no readonly_arrays=True")
        return made

    def _imported(self, view: Any) -> Any:
        given = tidy(view)
        with _refusing(LayoutError, f"{self.capabilities.title} refuses to import an array that its backend says it takes"):
            made = self._xp.from_dlpack(given if self.capabilities.readonly_arrays else writable(given))
        if not self.owns(made):
            raise self._fault(f"imported an array as {_name(type(made))}, which is not the type of its arrays", "array_type=")
        return made

    def _fault(self, what: str, keyword: str) -> LayoutError:
        return LayoutError(f"{self.capabilities.title} {what}.", hint=f"Its backend has to say so: ArrayAPIBackend(..., {keyword}).")

    def copy_from_host(self, view: Any, device: Device, stream: int | None) -> Any:
        # From fresh memory without other references: a library may share it after all, or read it later.
        made, expected = self._imported(aligned_copy(view, view.dtype.name)), numpy_backend.describe(view)
        seen = self.describe(made)
        if (seen.shape, seen.dtype) != (expected.shape, expected.dtype):
            message = f"{self.capabilities.title} imported {expected} as {seen}, whose elements are others."
            raise LayoutError(message, hint="Its namespace has to leave such dtypes out of __array_namespace_info__().dtypes().")
        return made if self.device_of(made) == device else self.transfer(made, device, stream)

    # Devices.

    def parse_device(self, device: Any) -> Device:
        for native, at in self._natives:
            if device is native or (type(device) is type(native) and device == native) or device == str(native):
                return at
        return super().parse_device(device)

    def why_unavailable(self, device: Device) -> str | None:
        known = [at for _, at in self._natives]
        if device in known:
            return "its backend says nothing of streams" if device.type in STREAMED and not self.has_streams else None
        return f"its devices are {', '.join(map(str, known))}"

    def native_device(self, device: Device) -> Any:
        return next((native for native, at in self._natives if at == device), None)

    def devices(self) -> tuple[str, ...]:
        return tuple(str(at) for _, at in self._natives if self.why_unavailable(at) is None)

    def transfer(self, x: Any, device: Device, stream: int | None) -> Any:
        native = self.native_device(device)
        if native is None:  # only the host can be reached without it: by the protocol
            return dlpack_backend.transfer(dlpack_backend.import_producer(x, _no_stream), device, stream)
        with _refusing(DeviceUnavailableError, f"{self.capabilities.title} cannot move an array to {device}"):
            return x.to_device(native) if stream is None else x.to_device(native, stream=stream)

    def export(self, x: Any, stream: int | None) -> Any:
        return producer_of(export_capsule(x, stream))

    def from_dlpack(self, producer: Any, device: Device) -> Any:
        if device.type == "ext":
            raise self._unshared(device)
        return self._xp.from_dlpack(producer)

    def report(self) -> dict[str, Any]:
        return {"version": getattr(self._xp, "__version__", "unknown"), "devices": list(self.devices())}


@contextlib.contextmanager
def _refusing(kind: type[InteropError], what: str) -> Iterator[None]:
    """Turn what the library raises into interop's error."""
    try:
        yield
    except InteropError:
        raise
    except REFUSALS as error:
        raise kind(
            f"{what}: {type(error).__name__}: {error}", hint="Convert it with its own library first, in steps that it has."
        ) from error


def _memory(x: Description) -> tuple[Any, ...]:
    """Return what two descriptions of the same elements have in common; strides count where an axis is walked."""
    walked = [step for step, extent in zip(x.strides or (), x.shape, strict=True) if extent != 1] if x.size else []
    return x.shape, x.dtype, x.pointer if x.size else None, walked


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _no_stream(_: Device) -> int | None:
    return None
