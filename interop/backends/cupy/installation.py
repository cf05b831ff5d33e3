"""What `interop doctor` asks of a CuPy that is installed."""

from __future__ import annotations

import sys

import cupy


def findings() -> list[str]:
    """Return what is wrong with the CuPy that is installed, in sentences."""
    if cupy.cuda.runtime.is_hip:
        return []  # ROCm has other version numbers
    own = cupy.cuda.runtime.runtimeGetVersion()
    return [*_driver(own, cupy.cuda.runtime.driverGetVersion()), *_beside_torch(own // 1000)]


def _driver(runtime: int, driver: int) -> list[str]:
    # 0 without a driver: a machine without a GPU is no broken installation.
    if not driver or driver // 1000 >= runtime // 1000:
        return []
    repair = f"Update the driver, or pip install cupy-cuda{driver // 1000}x instead of the CuPy that is installed"
    return [f"CuPy is built for CUDA {runtime // 1000}, and the driver only knows CUDA {driver // 1000}. {repair}."]


def _beside_torch(own: int) -> list[str]:
    """Compare with the torch that is loaded, if any; the doctor has loaded every library by then."""
    torch = sys.modules.get("torch")
    built = str(getattr(getattr(torch, "version", None), "cuda", None) or own)  # None: a torch for the CPU only
    if built.partition(".")[0] == str(own):
        return []
    other = built.partition(".")[0]
    repair = f"Run pip uninstall -y cupy-cuda{own}x && pip install cupy-cuda{other}x, or install a torch for CUDA {own}"
    return [
        f"CuPy is built for CUDA {own} and torch for CUDA {built}; CuPy's kernels may then fail. {repair} (https://github.com/cupy/cupy/issues/9827)."
    ]
