"""CuPy's kernels without a GPU: NumPy does the work, in its turn on the stream.

Known are the ufuncs and reductions that NumPy has by the same name, copies, and a few others by name; RawKernel is in raw.py. Any other
kernel raises NotImplementedError when it is called.
"""

from __future__ import annotations

import ctypes
import gc
from typing import TYPE_CHECKING, Any

import cupy
import numpy as np

from . import raw
from .device import CudaError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from .device import Emulated

__all__ = ["install"]

# PyTypeObject: `tp_call` is the seventeenth word (cpython's Include/cpython/object.h; the same in 3.11 to 3.14).
_TP_CALL = 16 * ctypes.sizeof(ctypes.c_void_p)

_COPIES = {"copy", "fill"}
_SUFFIXES = ("_with_dtype", "_complex_dtype")
_REDUCTION = ("axis", "dtype", "out", "keepdims")


def install(device: Emulated, module: ModuleType = cupy) -> None:
    """Let the calls of CuPy's ufuncs, kernels and reductions come here."""
    kernels, reductions = cupy._core._kernel, cupy._core._reduction
    for kind in (kernels.ufunc, kernels.ElementwiseKernel):
        _take_over(kind, lambda *call: _elementwise(device, *call))
    for kind in (reductions._SimpleReductionKernel, reductions.ReductionKernel):
        _take_over(kind, lambda *call: _reduce(device, *call))
    cupy._core.set_routine_accelerators([])  # they have kernels of their own
    cupy._core.set_reduction_accelerators([])
    module.concatenate = lambda arrays, axis=0: _on_the_host(device, np.concatenate, arrays, axis=axis)
    module.stack = lambda arrays, axis=0: _on_the_host(device, np.stack, arrays, axis=axis)
    module.unique = lambda array: _on_the_host(device, np.unique, array)
    module.RawKernel = lambda *given, **options: raw.HostKernel(device, *given, **options)


class _Callable:
    def __call__(self) -> None: ...


def _take_over(kind: Any, function: Callable[..., Any]) -> None:
    """Give a compiled class another `__call__`, found as that of a class in Python is."""

    def call(self: Any, *args: Any, **named: Any) -> Any:
        return function(self, args, named)

    gc.get_referents(kind.__dict__)[0]["__call__"] = call
    slot, theirs = (ctypes.c_void_p.from_address(id(one) + _TP_CALL) for one in (kind, _Callable))
    slot.value = theirs.value
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))


def _elementwise(device: Emulated, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    name = function.name.removeprefix("cupy_")
    inputs, outs = args[: function.nin], args[function.nin :]
    out = outs[0] if outs else named.get("out")
    if name == "arange":
        start, step = inputs
        return _launch_into(device, out, lambda: start + step * np.arange(out.size).astype(out.dtype))
    compute = np.positive if name in _COPIES else _named(name)
    if out is None:
        out = _like(compute(*map(_stand_in, inputs)), named.get("dtype"))
    seen = [_seen(device, x) for x in inputs]
    return _launch_into(device, out, (lambda: seen[0]) if compute is np.positive else lambda: compute(*seen))


def _reduce(device: Emulated, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    given = dict(zip(_REDUCTION, args[1:], strict=False)) | named
    out, options = given.pop("out", None), {name: value for name, value in given.items() if value is not None}
    options["keepdims"] = bool(options.get("keepdims", False))
    compute, x = _named(function.name.removeprefix("cupy_")), args[0]
    if compute in {np.all, np.any, np.max, np.min}:
        options.pop("dtype", None)
    if out is None:
        out = _like(compute(_stand_in(x), **options))
    seen = _seen(device, x)
    return _launch_into(device, out, lambda: compute(seen, **options))


def _named(name: str) -> Callable[..., Any]:
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    if not hasattr(np, name):
        raise NotImplementedError(f"the emulated device has no kernel of CuPy's that is called {name}")
    found: Callable[..., Any] = getattr(np, name)
    return found


def _on_the_host(device: Emulated, compute: Callable[..., Any], given: Any, **options: Any) -> Any:
    """Compute something whose result has a shape that depends on the values, or many inputs: what came before is waited for."""
    cupy.cuda.get_current_stream().synchronize()
    seen = compute([device.see(x) for x in given] if isinstance(given, (list, tuple)) else device.see(given), **options)
    return _launch_into(device, _like(seen), lambda: seen)


def _stand_in(x: Any) -> Any:
    """Return what has the shape and the dtype of an array, by which NumPy's rules for the result are asked, and one element in memory."""
    return np.broadcast_to(np.ones((), x.dtype), x.shape) if isinstance(x, cupy.ndarray) else x


def _like(x: Any, dtype: Any = None) -> Any:
    return cupy.empty(np.shape(x), dtype or x.dtype)


def _seen(device: Emulated, x: Any) -> Any:
    return device.see(x) if isinstance(x, cupy.ndarray) else x


def _launch_into(device: Emulated, out: Any, compute: Callable[[], Any]) -> Any:
    result = device.see(out)
    try:
        device.launch(cupy.cuda.get_current_stream().ptr, lambda: np.copyto(result, compute(), casting="unsafe"))
    except CudaError as error:
        raise cupy.cuda.runtime.CUDARuntimeError(error.status) from None
    return out
