"""Compiles the emulated runtime, and finds the functions of CuPy's own, which are to jump to it.

CuPy's wheels contain the runtime as a static library, whose functions are still named in the table of symbols.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict

__all__ = ["Positions", "build", "cupys_runtime", "positions", "why_not"]

SOURCES = Path(__file__).with_name("runtime")
_OPTIONS = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-fPIC", "-pthread")


class Positions(TypedDict):
    """A file, and the offset and the size of each function of CUDA's runtime in it."""

    file: str
    functions: dict[str, tuple[int, int]]


def build(folder: Path) -> Path:
    """Compile the runtime, which is the driver too; returns the library."""
    compiler = (os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++").split()
    sources = sorted(SOURCES.glob("*.cpp"))
    objects = [folder / f"{source.stem}.o" for source in sources]

    def compile_one(source: Path, made: Path) -> None:
        subprocess.run([*compiler, *_OPTIONS, "-c", "-o", str(made), str(source)], check=True)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, sources, objects))
    library = folder / "libemulated_runtime.so"
    # By this name torch and ctypes know the driver, and find that it is loaded.
    subprocess.run([*compiler, "-shared", "-pthread", "-Wl,-soname,libcuda.so.1", "-o", str(library), *map(str, objects)], check=True)
    return library


def why_not() -> str | None:
    """Return why CuPy cannot be emulated here, or None."""
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        return "the jump is written in the machine language of x86-64, for Linux"
    try:
        import cupy
    except ImportError as error:
        return f"CuPy cannot be imported: {error}"
    if cupy.cuda.is_available():
        return "there is a CUDA device, and CuPy is tested on it"
    return None if "cudaMalloc" in positions()["functions"] else "this build of CuPy does not name the functions of its CUDA runtime"


def cupys_runtime() -> str | None:
    """Return the file that CuPy's runtime is linked into, without importing CuPy; None where there is none."""
    spec = importlib.util.find_spec("cupy_backends")
    (folder,) = spec.submodule_search_locations if spec is not None and spec.submodule_search_locations else (None,)
    found = sorted(Path(folder, "cuda", "api").glob("runtime.*.so")) if folder is not None else []
    return os.path.realpath(found[0]) if found else None


def positions() -> Positions:
    """Return where the functions are in the runtime of the CuPy that this Python has."""
    from elftools.elf.elffile import ELFFile

    file = cupys_runtime()
    if file is None:
        return {"file": "", "functions": {}}
    with Path(file).open("rb") as opened:
        table = ELFFile(opened).get_section_by_name(".symtab")
        symbols = table.iter_symbols() if table is not None else ()
        functions = {
            symbol.name: (symbol["st_value"], symbol["st_size"])
            for symbol in symbols
            if symbol.name.startswith("cuda") and symbol["st_info"]["type"] == "STT_FUNC"
        }
    return {"file": file, "functions": functions}
