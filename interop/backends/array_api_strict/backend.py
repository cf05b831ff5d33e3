"""array-api-strict: the standard and nothing else, on NumPy memory, with devices that exist for tests.

Its arrays wrap an ndarray, which is what crosses the border. There is no public way to that ndarray that shares and
leaves the device out of it (`numpy.asarray` refuses all devices but one), so the private `_array` and `_new` are used;
and the private list of devices, because the public one is not there under the flags of a standard before 2023.12.
"""

from __future__ import annotations

import sys
from typing import Any

import array_api_strict
import numpy as np
from array_api_strict import _info
from array_api_strict._array_object import Array

from interop._model.capabilities import Capabilities
from interop._model.description import CPU, Description, Device
from interop.backends.base import Backend
from interop.backends.numpy.backend import backend as numpy_backend

# The first is the CPU; the others are "ext" devices, counted from 1: no library shares memory with them unasked.
_DEVICES: tuple[Any, ...] = tuple(vars(_info)["ALL_DEVICES"])
_NAMES = [str(device).partition("'")[2].partition("'")[0] for device in _DEVICES]
_DTYPES = frozenset({
    "bool",
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    *("float32", "float64", "complex64", "complex128"),
})  # fmt: skip


def _lacking() -> dict[str, frozenset[str]]:
    """Return the dtypes that single devices are without, to be like other libraries' (array-api-strict from 2.6 on)."""
    return {
        f"ext:{index}": frozenset(name for name in _DTYPES if not _takes(device, name)) for index, device in enumerate(_DEVICES) if index
    }


def _takes(device: Any, dtype: str) -> bool:
    try:
        Array._new(np.empty(0, dtype), device=device)
    except ValueError:
        return False
    return True


class ArrayAPIStrictBackend(Backend):
    """Arrays of array-api-strict."""

    # The ndarray inside may have any strides and any alignment, and may be read-only; only the dtype is looked at.
    capabilities = Capabilities(
        name="array_api_strict",
        title="array-api-strict",
        dtypes=_DTYPES,
        devices=frozenset({"cpu", "ext"}),
        readonly_arrays=True,
        negative_strides=True,
        unaligned=True,
        odd_strides=True,
        lacking=_lacking(),
    )

    def owns(self, x: Any) -> bool:
        return isinstance(x, Array)

    def describe(self, x: Any) -> Description:
        kind = type(x)
        name = f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"
        return numpy_backend.describe(x._array).replace(backend=self.name, type=name, device=self.device_of(x))

    # Devices.

    def device_of(self, x: Any) -> Device:
        return _place(x.device)

    def parse_device(self, device: Any) -> Device:
        if device in _DEVICES:
            return _place(device)
        if isinstance(device, str) and device in _NAMES:
            return _place(_DEVICES[_NAMES.index(device)])
        return super().parse_device(device)

    def why_unavailable(self, device: Device) -> str | None:
        if device.type == "cpu" or 1 <= device.index < len(_DEVICES):
            return None
        return f"its devices are {', '.join(_NAMES)}"

    def native_device(self, device: Device) -> Any:
        return _DEVICES[device.index]

    def devices(self) -> tuple[str, ...]:
        return ("cpu", *(name for name in _NAMES if name.startswith("device")))

    def namespace(self) -> Any:
        return array_api_strict

    # Within the library.

    def copy(self, x: Any) -> Any:
        return _wrap(numpy_backend.copy(x._array), x.device)

    def cast(self, x: Any, dtype: str) -> Any:
        return _wrap(numpy_backend.cast(x._array, dtype), x.device)

    def transfer(self, x: Any, device: Device, stream: int | None) -> Any:
        return _wrap(numpy_backend.copy(x._array), self.native_device(device))

    # Across the border.

    def host_view(self, x: Any) -> Any:
        return x._array.view()  # an object of its own: what is done to its shape or flags is not done to `x`

    def from_host(self, view: Any) -> Any:
        return _wrap(view, _DEVICES[0])

    def may_be_aliased(self, x: Any) -> bool:
        return sys.getrefcount(x._array) > 2 or numpy_backend.may_be_aliased(x._array)

    def protect(self, x: Any) -> Any:
        x._array.setflags(write=False)
        return x

    def report(self) -> dict[str, Any]:
        return {"version": array_api_strict.__version__, "devices": list(_NAMES)}


def _place(device: Any) -> Device:
    index = _DEVICES.index(device)
    return Device("ext", index) if index else CPU


def _wrap(array: Any, device: Any) -> Any:
    return Array._new(array, device=device)


backend = ArrayAPIStrictBackend()
