"""CuPy's elementwise functions without a compiler for kernels: NumPy does the work, in its turn on the stream.

Known are CuPy's ufuncs that NumPy has by the same name, copies, `fill` and `concatenate`; that is what converting arrays needs.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import cupy
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.emulated.device import Emulated

__all__ = ["install"]

# PyTypeObject: `tp_call` is the seventeenth word (cpython's Include/cpython/object.h; the same in 3.11 to 3.13).
_TP_CALL = 16 * ctypes.sizeof(ctypes.c_void_p)
_CALL = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.py_object, ctypes.c_void_p)
_kept: list[Any] = []  # what C refers to


def install(device: Emulated) -> None:
    """Let the calls of CuPy's ufuncs and kernels come here."""
    for kind in (cupy._core._kernel.ufunc, cupy._core._kernel.ElementwiseKernel):
        _take_over(kind, lambda *call: _call(device, *call))
    cupy.concatenate = lambda arrays: _concatenate(device, arrays)


def _take_over(kind: Any, function: Callable[..., Any]) -> None:
    call = _CALL(function)
    _kept.append(call)
    ctypes.c_void_p.from_address(id(kind) + _TP_CALL).value = ctypes.cast(call, ctypes.c_void_p).value


def _call(device: Emulated, function: Any, args: tuple[Any, ...], named: int | None) -> Any:
    given = ctypes.cast(named, ctypes.py_object).value if named else {}
    name = function.name.removeprefix("cupy_")
    inputs, outs = args[: function.nin], args[function.nin :]
    out = outs[0] if outs else given.get("out")
    compute = np.positive if name in {"copy", "fill"} else getattr(np, name)
    if out is None:
        # NumPy's rules for shapes and dtypes, on arrays of one element that are repeated.
        stands = [np.broadcast_to(np.ones((), x.dtype), x.shape) if isinstance(x, cupy.ndarray) else x for x in inputs]
        made = compute(*stands)
        out = cupy.empty(made.shape, given.get("dtype") or made.dtype)
    result = device.see(out)
    there = [device.see(x) if isinstance(x, cupy.ndarray) else x for x in inputs]
    if compute is np.positive:
        _launch(device, lambda: np.copyto(result, there[0], casting="unsafe"))
    else:
        _launch(device, lambda: np.copyto(result, compute(*there), casting="unsafe"))
    return out


def _concatenate(device: Emulated, arrays: list[Any]) -> Any:
    out = cupy.empty(sum(x.size for x in arrays), arrays[0].dtype)
    result, there = device.see(out), [device.see(x) for x in arrays]
    _launch(device, lambda: np.concatenate(there, out=result))
    return out


def _launch(device: Emulated, work: Callable[[], object]) -> None:
    device.launch(cupy.cuda.get_current_stream().ptr, work)
