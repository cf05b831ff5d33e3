"""Have the CUDA runtime that is linked into CuPy jump to the one of runtime.cpp, in this process.

CuPy's wheels contain the runtime as a static library, whose functions are still named in the table of symbols.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import subprocess
import sysconfig
from pathlib import Path

from elftools.elf.elffile import ELFFile

__all__ = ["PRELOADED", "build", "emulate", "why_not"]

PRELOADED = "INTEROP_EMULATED_LIBRARY"

SOURCE = Path(__file__).with_name("runtime.cpp")
_JUMP = bytes.fromhex("ff 25 00 00 00 00")  # jmp *0(%rip), which is to the address that follows
_LENGTH = len(_JUMP) + 8
_READ_WRITE_RUN = 7


def why_not() -> str | None:
    """Return why nothing can be emulated here, or None."""
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        return "the jump is written in the machine language of x86-64, for Linux"
    try:
        import cupy
    except ImportError as error:
        return f"CuPy cannot be imported: {error}"
    if cupy.cuda.is_available():
        return "there is a CUDA device, and CuPy is tested on it"
    from cupy_backends.cuda.api import runtime

    return None if "cudaMalloc" in _functions(runtime.__file__) else "this build of CuPy does not name the functions of its CUDA runtime"


def emulate(folder: Path) -> ctypes.CDLL:
    """Build the runtime in a folder and let CuPy use it; returns its library."""
    from cupy_backends.cuda.api import runtime

    # Where torch is to use it too, it was loaded before everything else; see test_emulated_cuda.py.
    library = ctypes.CDLL(os.environ.get(PRELOADED) or str(build(folder)))
    theirs, start = _functions(runtime.__file__), _where(runtime.__file__)
    for name in sorted(_functions(library._name).keys() & theirs.keys()):
        offset, size = theirs[name]
        assert size >= _LENGTH, f"{name} has {size} bytes"
        target = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        assert target is not None
        _overwrite(start + offset, _JUMP + target.to_bytes(8, "little"))
    return library


def build(folder: Path) -> Path:
    """Compile the runtime, which is the driver too; returns the library."""
    made = folder / "libemulated_runtime.so"
    compiler = os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++"
    options = [
        "-std=c++17",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fvisibility=hidden",
        "-shared",
        "-fPIC",
        "-pthread",
        "-Wl,-soname,libcuda.so.1",
    ]
    subprocess.run([*compiler.split(), *options, "-o", str(made), str(SOURCE)], check=True)
    return made


def _functions(path: str) -> dict[str, tuple[int, int]]:
    """Return the offset and the size of each function of CUDA's runtime in a shared library."""
    with Path(path).open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        symbols = table.iter_symbols() if table is not None else ()
        return {
            symbol.name: (symbol["st_value"], symbol["st_size"])
            for symbol in symbols
            if symbol.name.startswith("cuda") and symbol["st_info"]["type"] == "STT_FUNC"
        }


def _where(path: str) -> int:
    lines = Path("/proc/self/maps").read_text().splitlines()
    return min(int(line.partition("-")[0], 16) for line in lines if line.endswith(os.path.realpath(path)))


def _overwrite(address: int, code: bytes) -> None:
    first = address // mmap.PAGESIZE * mmap.PAGESIZE
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(first), ctypes.c_size_t(address + len(code) - first), _READ_WRITE_RUN):
        raise OSError(ctypes.get_errno(), "mprotect")
    ctypes.memmove(address, code, len(code))
