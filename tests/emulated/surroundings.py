"""The environment variables with which a Python process and its children have the emulated device, forked or started anew.

The library is loaded before everything else (``LD_PRELOAD``), so that torch, whose CUDA runtime is a shared library, finds the emulated one
in its place, and ``ctypes.CDLL("libcuda.so.1")`` its driver. The rest is done by site/sitecustomize.py when CuPy or torch is imported.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from .building import build, positions

__all__ = ["LIBRARY", "POSITIONS", "SLOWNESS", "environment"]

LIBRARY = "INTEROP_EMULATED_LIBRARY"
"""Names the library; the hooks of sitecustomize.py do nothing without it."""

POSITIONS = "INTEROP_EMULATED_POSITIONS"
"""Names the file with the places of the functions in CuPy's runtime, which takes a second to find."""

SLOWNESS = "INTEROP_EMULATED_SLOWNESS"
"""How many times longer a stream is kept busy than a test has asked for; 1 where it is not set."""

_SITE = Path(__file__).with_name("site")
_OTHER_NAMES = ("libcuda.so.1", "libnvidia-ml.so.1")


def environment(folder: Path, slowness: float = 1) -> dict[str, str]:
    """Build the emulated runtime, and return the variables of a process that has it.

    Parameters
    ----------
    folder : Path
        Where it is built; it must be there for as long as it is used, and be empty before.
    slowness : float
        How many times longer a stream is kept busy than a test has asked for. A test that gives a stream a delay and does something meanwhile
        takes longer here than on a GPU, where no kernel runs on the host; on a machine with much else to do this makes up for it.

    Returns
    -------
    dict
        All variables of this process, with those that are added or extended.
    """
    library = build(folder)
    for name in _OTHER_NAMES:
        (folder / name).symlink_to(library.name)
    places = folder / "positions.json"
    places.write_text(json.dumps(positions()))
    return os.environ | {
        LIBRARY: str(library),
        POSITIONS: str(places),
        SLOWNESS: str(slowness),
        "LD_PRELOAD": _before("LD_PRELOAD", library, " "),
        "LD_LIBRARY_PATH": _before("LD_LIBRARY_PATH", folder),
        "PYTHONPATH": _before("PYTHONPATH", _SITE),
    }


def _before(variable: str, value: Path, separator: str = os.pathsep) -> str:
    return separator.join(filter(None, (str(value), os.environ.get(variable))))
