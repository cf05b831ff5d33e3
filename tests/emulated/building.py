"""Compiles the emulated runtime, and finds the functions of CuPy's own, which are to jump to it.

CuPy's wheels contain the CUDA runtime as a static library. Its functions are still named in the table of symbols, so they can be found and
overwritten; a wheel without these names cannot be emulated.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict

__all__ = ["EmulationError", "Positions", "build", "cupys_runtime", "positions", "why_not"]

SOURCES = Path(__file__).with_name("runtime")
CACHE = Path(__file__).parents[2] / "build" / "emulated"
"""What is compiled or searched once for all sessions, in files named by a digest of what they were made from; may be deleted."""

_OPTIONS = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-fPIC", "-pthread")


class EmulationError(RuntimeError):
    """The emulation should work on this machine and cannot be installed: a failure, and no reason to skip."""


class Positions(TypedDict):
    """A file, and the offset and the size of each function of CUDA's runtime in it."""

    file: str
    functions: dict[str, tuple[int, int]]


def build(folder: Path) -> Path:
    """Return the runtime, which is the driver too, as a library in a folder; it is compiled where its sources have changed."""
    library = folder / "libemulated_runtime.so"
    shutil.copy(_compiled(), library)
    return library


def _compiled() -> Path:
    """Return the library in the cache: compiling takes some seconds, and several files of tests ask for it."""
    command = (os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++").split() + list(_OPTIONS)
    parts = [str(command), str(platform.libc_ver()), *(f"{path.name}\n{path.read_text()}" for path in sorted(SOURCES.iterdir()))]
    made = _cached("\0".join(parts), ".so")
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            # Another process may be doing the same: each puts a whole file in place.
            _compile(command, Path(folder)).replace(made)
    return made


def _compile(command: list[str], folder: Path) -> Path:
    sources = sorted(SOURCES.glob("*.cpp"))
    objects = [folder / f"{source.stem}.o" for source in sources]

    def compile_one(source: Path, made: Path) -> None:
        subprocess.run([*command, "-c", "-o", str(made), str(source)], check=True)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, sources, objects))
    library = folder / "library.so"
    # By this name torch and ctypes know the driver, and find that it is loaded.
    subprocess.run([*command, "-shared", "-Wl,-soname,libcuda.so.1", "-o", str(library), *map(str, objects)], check=True)
    return library


def _cached(content: str, suffix: str) -> Path:
    CACHE.mkdir(parents=True, exist_ok=True)
    return CACHE / (hashlib.sha256(content.encode()).hexdigest()[:20] + suffix)


def why_not() -> str | None:
    """Return why nothing is emulated here, or None.

    A reason is another platform, no CuPy, or a GPU on which the same tests run. On Linux x86-64 with CuPy's wheel everything else is a fault:
    a skip would hide that half of the CUDA tests no longer run.

    Raises
    ------
    EmulationError
        If CuPy's wheel is installed and its functions are not found.
    ImportError
        If CuPy is installed and cannot be imported.
    """
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        return "the jump is written in the machine language of x86-64, for Linux"
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed"
    import cupy

    if cupy.cuda.is_available():
        return "there is a CUDA device, and CuPy is tested on it"
    if "cudaMalloc" not in positions()["functions"]:
        raise EmulationError(f"CuPy {cupy.__version__} does not name the functions of its CUDA runtime: {cupys_runtime()}")
    return None


def cupys_runtime() -> str | None:
    """Return the file that CuPy's runtime is linked into, without importing CuPy; None where there is none."""
    spec = importlib.util.find_spec("cupy_backends")
    (folder,) = spec.submodule_search_locations if spec is not None and spec.submodule_search_locations else (None,)
    found = sorted(Path(folder, "cuda", "api").glob("runtime.*.so")) if folder is not None else []
    return os.path.realpath(found[0]) if found else None


@functools.cache
def positions() -> Positions:
    """Return where the functions are in the runtime of the CuPy that this Python has."""
    file = cupys_runtime()
    if file is None:
        return {"file": "", "functions": {}}
    state = Path(file).stat()
    cached = _cached(f"{file}\0{state.st_size}\0{state.st_mtime_ns}", ".json")
    if not cached.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            written = Path(folder, "positions.json")
            written.write_text(json.dumps(_read_positions(file)))
            written.replace(cached)
    read: Positions = json.loads(cached.read_text())
    return read


def _read_positions(file: str) -> Positions:
    from elftools.elf.elffile import ELFFile

    with Path(file).open("rb") as opened:
        table = ELFFile(opened).get_section_by_name(".symtab")
        symbols = table.iter_symbols() if table is not None else ()
        functions = {
            symbol.name: (symbol["st_value"], symbol["st_size"])
            for symbol in symbols
            if symbol.name.startswith("cuda") and symbol["st_info"]["type"] == "STT_FUNC"
        }
    return {"file": file, "functions": functions}
