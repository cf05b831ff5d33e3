"""What is done in a process that has the emulated library (surroundings.py), after each of the libraries was imported."""

from __future__ import annotations

import ctypes
import functools
import json
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import building
from .device import Emulated
from .surroundings import LIBRARY, POSITIONS

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["device", "install_kernels", "install_operators", "redirect_cupy"]

_JUMP = bytes.fromhex("ff 25 00 00 00 00")  # jmp *0(%rip), which is to the address that follows
_LENGTH = len(_JUMP) + 8
_READ_WRITE_RUN = 7


@functools.cache
def device() -> Emulated:
    """Return the emulated device of this process."""
    return Emulated(ctypes.CDLL(os.environ[LIBRARY]))


def redirect_cupy(runtime: ModuleType) -> None:
    """Have the functions of the runtime that is linked into CuPy jump to the emulated ones of the same names."""
    file = os.path.realpath(str(runtime.__file__))
    known = json.loads(Path(os.environ[POSITIONS]).read_text())
    functions = known["functions"] if known["file"] == file else building.positions()["functions"]
    start, library = _where(file), device().library
    for name, (offset, size) in functions.items():
        target = _address(library, name)
        if target is not None:
            assert size >= _LENGTH, f"{name} has {size} bytes"
            _overwrite(start + offset, _JUMP + target.to_bytes(8, "little"))


def install_kernels(cupy: ModuleType) -> None:
    """Have NumPy do what CuPy's kernels do."""
    from . import kernels

    kernels.install(device(), cupy)


def install_operators(torch: Any) -> None:
    """Have torch's operators for the host do what its kernels do, unless it is a build without CUDA."""
    if torch.version.cuda is not None:
        from . import operators

        operators.install(device())


def _address(library: ctypes.CDLL, name: str) -> int | None:
    try:
        return ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    except AttributeError:
        return None


def _where(path: str) -> int:
    lines = Path("/proc/self/maps").read_text().splitlines()
    return min(int(line.partition("-")[0], 16) for line in lines if line.endswith(path))


def _overwrite(address: int, code: bytes) -> None:
    first = address // mmap.PAGESIZE * mmap.PAGESIZE
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(first), ctypes.c_size_t(address + len(code) - first), _READ_WRITE_RUN):
        raise OSError(ctypes.get_errno(), "mprotect")
    ctypes.memmove(address, code, len(code))
