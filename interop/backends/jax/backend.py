"""JAX: immutable arrays, compact and aligned memory, 32 bits unless configured otherwise.

What is special here: JAX takes host memory as its own only where it is compact and starts at a multiple of 64 bytes,
and copies elsewhere, so the plan asks first. It works later than it says: ``jax.numpy.array(a, copy=True)`` of NumPy's
memory and casts return before they have read it, so what is copied here is copied by NumPy, or waited for. With
``jax_enable_x64`` off (the default) it has no 64-bit dtypes and would narrow them unasked, so here they are missing.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import jax
import jax.dlpack
from jax._src import config as _config_states

from interop._model.capabilities import Capabilities
from interop._model.description import CPU, Description, Device, c_strides
from interop._model.dtypes import DTYPES
from interop._model.scope import block, undone
from interop.backends.base import Backend
from interop.backends.dlpack import backend as dlpack_backend
from interop.backends.jax.memory import legacy, producer
from interop.backends.numpy.backend import ALIGNMENT, aligned_copy, native_dtype
from interop.dlpack import LEGACY, producer_of, stream_number
from interop.errors import SEE_DEVICES, DeviceUnavailableError, StreamError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

# int4 and the like are packed two to a byte, which neither NumPy nor DLPack's consumers read.
_DTYPES = frozenset(
    name
    for name in DTYPES
    if DTYPES[name].bits >= 8 and name not in ("longdouble", "clongdouble", "complex32") and hasattr(jax.numpy, name)
) | {"bool"}
_WIDE = frozenset({"int64", "uint64", "float64", "complex128"})
_WHY = "jax_enable_x64 is off: jax.config.update('jax_enable_x64', True) at the start of the program gives it"


def _capabilities(dtypes: frozenset[str], **words: Any) -> Capabilities:
    return Capabilities(
        name="jax",
        title="JAX",
        dtypes=dtypes,
        devices=frozenset({"cpu", "cuda", "rocm"}),
        readonly_arrays=True,
        # It computes later than it says, with the values that are there then (jax-ml/jax#37830, jax-ml/jax#4486).
        immutable=True,
        # XLA's kernels on a GPU refuse parameters that start elsewhere, but only when they run (CheckAlignment in its
        # gpu_executable.cc; kEntryParameterAlignBytes is 16).
        alignment={"cpu": ALIGNMENT, "cuda": 16, "rocm": 16},
        compact=True,
        casts_opaque=("jax.",),
        **words,
    )


_WITH_X64 = _capabilities(_DTYPES)
_WITHOUT_X64 = _capabilities(_DTYPES - _WIDE, why_lacking=dict.fromkeys(_WIDE, _WHY))

_config: Any = jax.config  # its attributes are not in its type
_ready: Any = jax.block_until_ready
_crossing: ContextVar[bool] = ContextVar("interop_jax_crossing", default=False)
"""Whether data cross the border now. Within JAX its own rules hold (modes, meshes, subnormals that are flushed to zero)."""


_ALLOWED: dict[Any, Any] = dict.fromkeys(
    (jax.transfer_guard_host_to_device, jax.transfer_guard_device_to_device, jax.transfer_guard_device_to_host), "allow"
)
_CROSSED = {**_ALLOWED, _config_states.eager_constant_folding: True, jax.debug_nans: False, jax.debug_infs: False}
"""JAX's options where interop works: with its guard open, and across the border outside of traces and of checks of values.

The second is `jax.ensure_compile_time_eval`.
"""


@block
def with_options(options: dict[Any, Any], *, crossing: bool = False) -> Iterator[None]:
    """Set options of JAX in this thread; `crossing` if what is done then is a part of a crossing that interop makes."""
    managers, before = [state(value) for state, value in options.items()], _crossing.get()
    for manager in managers:
        # What JAX notes only after it has been entered. So it can be left whenever an interrupt comes.
        manager.prev = manager.state.get_local()

    def undo() -> None:
        for manager in reversed(managers):
            manager.__exit__(None, None, None)
        _crossing.set(before)

    with undone(undo):
        _crossing.set(crossing or before)
        for manager in managers:
            manager.__enter__()
        yield


class JAXBackend(Backend):
    """JAX arrays on one device, and its tracers, which have no data."""

    @property
    def capabilities(self) -> Capabilities:
        """What JAX can hold as it is configured now, in this thread."""
        return _WITH_X64 if _config.jax_enable_x64 else _WITHOUT_X64

    def owns(self, x: Any) -> bool:
        return isinstance(x, jax.Array)

    def describe(self, x: Any) -> Description:
        kind, dtype = type(x), _name(x)
        said: dict[str, Any] = {
            "backend": "jax",
            "type": "jax.Array" if kind.__qualname__ == "ArrayImpl" else f"{kind.__module__}.{kind.__qualname__}",
            "shape": tuple(extent if isinstance(extent, int) else None for extent in x.shape),
            "dtype": dtype,
            "nbytes": x.size * x.dtype.itemsize if isinstance(x.size, int) else 0,
            "readonly": True,
            "advice": _advice(dtype),
        }
        said["device"] = self.device_of(x)
        if (why := _why_no_data(x)) is not None:
            return Description(**said, strides=None, no_data=why)
        x = _whole(x)
        if (layout := _layout(x)) != "strided":
            # On the host there is one device; on others the parts would cross between them, which is no question of the layout.
            gathers = layout == "sharded" and x.is_fully_addressable and said["device"] == CPU
            return Description(**said | {"advice": _LAYOUTS[layout]}, strides=None, layout=layout, densifies=gathers)
        if dtype not in DTYPES or said["device"].type not in self.capabilities.devices:  # no other library addresses its storage
            return Description(**said)
        return Description(**said, strides=_strides(x), pointer=x.unsafe_buffer_pointer() if x.size else 0)

    # For code that is written for any library.

    def namespace(self) -> Any:
        return jax.numpy

    def native_device(self, device: Device) -> Any:
        return _native(device)

    def devices(self) -> tuple[str, ...]:
        accelerators = [str(_device(one)) for one in jax.devices() if one.platform != "cpu"]
        return (*([] if self.why_unavailable(CPU) else ["cpu"]), *accelerators)

    # Devices and streams.

    def device_of(self, x: Any) -> Device:
        # By the sharding, which a deleted array has too.
        return CPU if isinstance(x, jax.core.Tracer) else _device(_first(x))

    def parse_device(self, device: Any) -> Device:
        if not isinstance(device, jax.Device):
            return super().parse_device(device)
        if device.platform == "cpu" and device != _native(CPU):
            hint = f"Leave device out, and say it to JAX afterwards: jax.device_put(result, jax.devices('cpu')[{device.id}])."
            raise DeviceUnavailableError("for interop the host is one device, the first of JAX's CPU devices", hint=hint)
        return _device(device)

    def why_unavailable(self, device: Device) -> str | None:
        try:
            _native(device)
        except DeviceUnavailableError as error:
            return error.message
        return None

    def stream_pointer(self, stream: Any, device: Device) -> int | None:
        if device.type != "cuda":
            return None
        if stream is not None and stream_number(stream) != -1:
            raise StreamError("JAX works on streams of its own, and has no way to name another.", hint="Leave stream out.")
        # It has no current stream; this is the one on which it waits for memory from outside.
        return -1 if stream is not None else _native(device).get_stream_for_external_ready_events() or LEGACY

    def without_modes(self) -> AbstractContextManager[Any]:
        # A crossing that interop makes was judged already; JAX's guard, trace and NaN checks in scope are about the others.
        return with_options(_CROSSED, crossing=True)

    def strip(self, x: Any) -> Any:
        return _whole(x)

    def densify(self, x: Any) -> Any:
        with jax.transfer_guard("allow"):
            return _ready(jax.device_put(x, _first(x)))

    # Within JAX. The memory may be shared with a library that writes to it as soon as this returns, so the copy is waited for.

    def copy(self, x: Any) -> Any:
        if self._is_hosted(x):
            return self.from_host(aligned_copy(self.host_view(x), _name(x)))
        with with_options(_ALLOWED):  # for JAX's guard, even a copy on one device is a transfer
            return _ready(jax.device_put(x, may_alias=False))

    def cast(self, x: Any, dtype: str) -> Any:
        if self._is_hosted(x):
            return self.from_host(aligned_copy(self.host_view(x), dtype))
        if x.dtype.kind == "c" and DTYPES[dtype].kind not in ("complex", "bool"):
            x = x.real
        return _ready(x.astype(native_dtype(dtype)))

    def transfer(self, x: Any, device: Device, stream: int | None) -> Any:
        with with_options(_ALLOWED):
            return _ready(jax.device_put(x, _native(device)))

    def _is_hosted(self, x: Any) -> bool:
        """Whether its copies are made on the way across the border, where NumPy can make them."""
        return _crossing.get() and _name(x) in DTYPES and self.device_of(x) == CPU

    # Across the border.

    def host_view(self, x: Any) -> Any:
        # Its export waits until the values are there; numpy.asarray would copy where the axes are permuted.
        return dlpack_backend.host_view(dlpack_backend.import_producer(x, _nowhere))

    def from_host(self, view: Any) -> Any:
        if not view.size:  # nothing to share, and its address need not be aligned
            return jax.device_put(view, _native(CPU))
        # The result keeps the view alive; the plan has looked at alignment and strides, so nothing is copied.
        return jax.dlpack.from_dlpack(producer(view), copy=False)

    def copy_from_host(self, view: Any, device: Device, stream: int | None) -> Any:
        copied = aligned_copy(view, view.dtype.name)
        return self.from_host(copied) if device == CPU else jax.device_put(copied, _native(device))

    def export(self, x: Any, stream: int | None) -> Any:
        return producer_of(x.__dlpack__(stream=stream))

    def from_dlpack(self, producer: Any, device: Device) -> Any:
        return jax.dlpack.from_dlpack(legacy(producer))

    def report(self) -> dict[str, Any]:
        devices = [f"{_device(one)} {one.device_kind}" if one.platform != "cpu" else "cpu" for one in jax.devices()]
        return {"version": jax.__version__, "devices": devices}


def _name(x: Any) -> str:
    name = str(x.dtype.name)
    return f"jax.{name}" if name in DTYPES and DTYPES[name].bits < 8 else name


def _advice(name: str) -> str:
    if name.startswith("key<"):
        return "Convert the words of the key: jax.random.key_data(x)."
    if not name.startswith("jax."):
        return ""
    wide = {"int": "int8", "uint": "uint8"}.get(DTYPES[name.removeprefix("jax.")].kind, "float16")
    return f"Give each element memory of its own, in a dtype that holds its values: x.astype({wide!r}), or pass dtype={wide!r}."


_LAYOUTS = {
    "sharded": "Bring it to one device first: jax.device_put(x, jax.devices()[0]).",
    "pinned_host": "Bring it to its device first: jax.device_put(x, x.sharding.with_memory_kind('device')).",
}
_LAYOUTS["unpinned_host"] = _LAYOUTS["pinned_host"]


def _why_no_data(x: Any) -> str | None:
    if isinstance(x, jax.core.Tracer):
        return "traced"
    return "deleted" if x.is_deleted() else None


def _first(x: Any) -> Any:
    """Return JAX's own device of an array, of several the first; of those of other processes only if there are no others."""
    return min(x.sharding.addressable_devices or x.sharding.device_set, key=lambda device: device.id)


def _whole(x: Any) -> Any:
    """Return the array on its first device, if it lies whole on each of several."""
    if isinstance(x, jax.core.Tracer) or not x.is_fully_replicated or len(x.sharding.device_set) == 1:
        return x
    first = _first(x)
    return next((shard.data for shard in x.addressable_shards if shard.device == first), x)


def _layout(x: Any) -> str:
    if len(x.sharding.device_set) > 1 or not x.is_fully_addressable:
        return "sharded"
    # An accelerator's array may lie in host memory all the same. On the CPU all kinds of memory are one.
    kind = x.sharding.memory_kind
    return str(kind) if kind in _LAYOUTS and _device(next(iter(x.sharding.device_set))) != CPU else "strided"


def _strides(x: Any) -> tuple[int, ...]:
    """Return the strides in elements; compiled code may leave the axes permuted."""
    axes: int = x.ndim
    if axes < 2:
        return (1,) * axes
    order: tuple[int, ...] = x.format.layout.major_to_minor
    steps = c_strides(tuple(max(x.shape[axis], 1) for axis in order))  # as the others say it of empty arrays
    return tuple(steps[order.index(axis)] for axis in range(axes))


def _device(native: Any) -> Device:
    if native.platform == "cpu":
        return CPU  # all of JAX's CPU devices are one host memory
    kind = {"gpu": "rocm" if "rocm" in native.client.platform_version.lower() else "cuda", "METAL": "metal"}.get(native.platform, "ext")
    return Device(kind, native.local_hardware_id or 0)


def _native(device: Device) -> Any:
    try:
        found = jax.local_devices(backend=device.type)
    except RuntimeError as error:
        raise DeviceUnavailableError(f"JAX has no {device.type} devices here", hint=SEE_DEVICES) from error
    for one in found:
        if _device(one) == device:
            return one
    names = ", ".join(str(_device(one)) for one in found)
    raise DeviceUnavailableError(f"JAX has {names} here", hint=SEE_DEVICES)


def _nowhere(_: Device) -> int | None:
    return None


backend = JAXBackend()
