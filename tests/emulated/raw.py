"""CuPy's RawKernel without a GPU: its source is compiled for the host, and run thread after thread, in its turn on the stream.

That is right for kernels whose threads neither talk to each other nor use what only a GPU has; whether the source compiles decides.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cupy
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .device import Emulated

__all__ = ["HostKernel"]

_SOURCE = """
#include <cmath>
using std::exp;
#define __global__
static thread_local struct {{ unsigned x, y, z; }} blockIdx, blockDim, threadIdx, gridDim;
{source}
extern "C" void emulated_kernel(const unsigned *grid, const unsigned *block, void **a)
{{
    gridDim = {{grid[0], grid[1], grid[2]}};
    blockDim = {{block[0], block[1], block[2]}};
    for (unsigned b = 0; b < grid[0] * grid[1] * grid[2]; ++b)
        for (unsigned t = 0; t < block[0] * block[1] * block[2]; ++t) {{
            blockIdx = {{b % grid[0], b / grid[0] % grid[1], b / grid[0] / grid[1]}};
            threadIdx = {{t % block[0], t / block[0] % block[1], t / block[0] / block[1]}};
            {name}({arguments});
        }}
}}
"""
_ThreeNumbers = ctypes.c_uint * 3


class HostKernel:
    """What `cupy.RawKernel` is, as far as a launch goes."""

    def __init__(self, device: Emulated, code: str, name: str, **_: Any) -> None:
        self._device, self.code, self.name = device, code, name

    def __call__(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], **_: Any) -> None:
        """Launch it on CuPy's current stream; the arguments are read now, as CUDA reads them."""
        run = _compiled(self.code, self.name)
        held = [self._argument(x) for x in args]
        pointers = (ctypes.c_void_p * len(held))(*(ctypes.addressof(one) for one in held))
        sizes = [_ThreeNumbers(*(*map(int, numbers), 1, 1)[:3]) for numbers in (grid, block)]

        def work(held: Any = held) -> None:  # what the pointers point to lives as long
            run(*sizes, pointers)

        self._device.launch(cupy.cuda.get_current_stream().ptr, work)

    def _argument(self, x: Any) -> Any:
        if isinstance(x, cupy.ndarray):
            return ctypes.c_void_p(self._device.reachable(x.data.ptr) if x.size else None)
        if isinstance(x, np.generic):
            return np.ctypeslib.as_ctypes(np.array(x).reshape(1))
        # RawKernel's own rule: cupy/_core/_kernel.pyx, _scalar.
        return ctypes.c_double(x) if isinstance(x, float) else ctypes.c_longlong(x)


@functools.cache
def _compiled(code: str, name: str) -> Any:
    found = re.search(rf"__global__\s+void\s+{name}\s*\(([^)]*)\)", code)
    if found is None:
        raise NotImplementedError(f"the emulated device finds no kernel {name} in the source")
    kinds = [re.sub(r"\w+$", "", parameter.strip()).replace("const ", "").strip() for parameter in found[1].split(",")]
    arguments = ", ".join(f"*({kind}*)a[{n}]" for n, kind in enumerate(kinds))
    compiler = (os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++").split()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.cpp"
        source.write_text(_SOURCE.format(source=code, name=name, arguments=arguments))
        subprocess.run([*compiler, "-O1", "-shared", "-fPIC", "-o", str(source.with_suffix(".so")), str(source)], check=True)
        return ctypes.CDLL(str(source.with_suffix(".so"))).emulated_kernel
