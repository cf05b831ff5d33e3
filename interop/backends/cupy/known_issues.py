"""What is known to be broken in which versions of CuPy, alone and with torch, and what the doctor asks a CuPy.

Imports no CuPy at its top: the doctor also reads this where CuPy cannot be imported. CuPy has many distributions
(one for each CUDA), so the ranges here are about ``cupy``, which stands for whichever of `DISTRIBUTIONS` is installed.
A range is open at the end where the newest release looked at (CuPy 14.2.0, torch 2.15.0, November 2026) still
has the issue.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from interop.backends.base import KnownIssue

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["DISTRIBUTIONS", "KNOWN_ISSUES", "conflicts", "findings"]

DISTRIBUTIONS = (
    "cupy",
    "cupy-cuda13x",
    "cupy-cuda12x",
    "cupy-cuda11x",
    *(f"cupy-cuda{number}" for number in (117, 116, 115, 114, 113, 112, 111, 110, 102, 101, 100)),
    *(f"cupy-rocm-{number}" for number in ("7-1", "7-0", "5-0", "4-3", "4-2", "4-0")),
    "amd-cupy",
)
"""The distributions that install this library; all of them into one folder ``cupy``, so only one may be there."""

_ISSUES = "https://github.com/cupy/cupy/issues"
_TORCH = "https://github.com/pytorch/pytorch/issues"

KNOWN_ISSUES: tuple[KnownIssue, ...] = (
    KnownIssue(
        "cupy-bfloat16-crash",
        {"cupy": "<13.4"},
        "cupy.from_dlpack of an unsupported dtype (bfloat16) crashes the process.",
        "interop looks at the dtype first. Elsewhere: exchange it as int16 and .view, or CuPy 14 or newer.",
        f"{_ISSUES}/8801",
    ),
    KnownIssue(
        "cupy-read-only-ignored",
        {"cupy": ">=13.4"},
        "cupy.from_dlpack ignores the read-only flag, by decision: the array is writable (as of CuPy 14.2.0).",
        "interop copies read-only memory unless readonly='share'. Elsewhere: copy, or never write to the array.",
        f"{_ISSUES}/8683",
    ),
    KnownIssue(
        "cupy-unfinished-host-copy",
        {"cupy": ">=13.4,<14.2"},
        "a.__dlpack__(dl_device=(1, 0), stream=s) exports host memory that is still being written.",
        "interop passes no stream on the way to the host. Elsewhere: do the same, or CuPy 14.2 or newer.",
        "https://github.com/dmlc/dlpack/issues/152",
    ),
    KnownIssue(
        "cupy-orders-current-device",
        {"cupy": ">=13.6"},
        "With several GPUs, an export is ordered against the stream of the current device, not of the array's: a race, "
        "or an invalid handle (read in CuPy's source, as of 14.2.0).",
        "interop makes the array's device current. Elsewhere: with cupy.cuda.Device(a.device.id): around the export.",
        f"{_ISSUES}/8683",
    ),
    KnownIssue(
        "cupy-with-forgets-use",
        {"cupy": ">=13"},
        "After `with stream:` the stream of an earlier Stream.use() is not current any more, so what follows is on another one "
        "(as of CuPy 14.2.0).",
        "interop makes it current again after its own scopes. Elsewhere: call use() again, or only use `with`.",
        f"{_ISSUES}/8377",
    ),
    KnownIssue(
        "cupy-torch-bfloat16-as-float16",
        {"cupy": ">=0", "torch": "<2.7"},
        "cupy.asarray of a bfloat16 tensor reads the bytes as float16: wrong values, without an error.",
        "interop uses DLPack. Elsewhere: cupy.from_dlpack(t).",
        f"{_TORCH}/143042",
    ),
    KnownIssue(
        "cupy-torch-as-tensor-leaks",
        {"cupy": ">=0", "torch": ">=2.7.1"},
        "torch.as_tensor, asarray and tensor of a CuPy array leak host memory at every call (as of torch 2.15.0).",
        "interop uses DLPack. Elsewhere: torch.from_dlpack(a).",
        f"{_TORCH}/194877",
    ),
    KnownIssue(
        "cupy-torch-as-tensor-to-host",
        {"cupy": ">=0", "torch": "<2.5"},
        "torch.as_tensor of a CuPy array without device= copies it to the CPU.",
        "interop uses DLPack. Elsewhere: torch.from_dlpack(a).",
        f"{_TORCH}/132595",
    ),
    KnownIssue(
        "cupy-no-bfloat16",
        {"cupy": ">=13.4,<14"},
        "CuPy refuses bfloat16, in and out.",
        "Name another dtype with dtype=, or CuPy 14 or newer.",
        f"{_ISSUES}/7527",
    ),
    KnownIssue(
        "cupy-bfloat16-needs-numpy",
        {"cupy": ">=14", "numpy": "<2.1.2"},
        "CuPy has no bfloat16 with this NumPy, though its error asks for ml_dtypes.",
        "pip install --upgrade ml_dtypes 'numpy>=2.1.2', and start Python again.",
        f"{_ISSUES}/9660",
    ),
    KnownIssue(
        "cupy-cuda-12-0",
        {"cupy": ">=14.0,<14.1"},
        "With a CUDA 12.0 toolkit beside newer nvidia-*-cu12 wheels, CuPy's kernels do not compile.",
        "pip install 'cupy-cuda12x[ctk]', or keep one CUDA version throughout.",
        f"{_ISSUES}/9719",
    ),
    KnownIssue(
        "cupy-host-import-refused",
        {"cupy": ">=13.6"},
        "cupy.from_dlpack refuses host memory, plain and pinned (read in CuPy's source, as of 14.2.0).",
        "interop copies to the device where transfer='allow' permits it. Elsewhere: cupy.asarray(np.from_dlpack(x)).",
        f"{_ISSUES}/8683",
    ),
    KnownIssue(
        "cupy-copy-true-refused",
        {"cupy": ">=14"},
        "cupy.from_dlpack(a, copy=True) raises BufferError (as of CuPy 14.2.0).",
        "interop copies by itself. Elsewhere: a.copy().",
        f"{_ISSUES}/9842",
    ),
)
"""Worst first: crashes and silently wrong data, then leaks, then loud errors."""


def conflicts(installed: Collection[str]) -> list[str]:
    """Return what is wrong with which distributions are installed; needs no CuPy that can be imported."""
    found = [name for name in DISTRIBUTIONS if name in installed]
    if len(found) < 2:
        return []
    names = " and ".join(found)
    repair = f"Run pip uninstall -y {' '.join(found)}, then pip install the one that fits your CUDA, such as {found[-1]}"
    return [f"{names} are both installed into one folder, so which files won is chance. {repair} ({_ISSUES}/3552)."]


def findings() -> list[str]:
    """Return what is wrong with the CuPy that is installed, in sentences; it has been imported without an error."""
    import cupy

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
    return [f"CuPy is built for CUDA {own} and torch for CUDA {built}; CuPy's kernels may then fail. {repair} ({_ISSUES}/9827)."]
