"""Memory for arrays that do not allocate their own: always aligned alike, since some consumers share or copy by that."""

from __future__ import annotations

import numpy as np

__all__ = ["ALIGNMENT", "aligned", "poison"]

ALIGNMENT = 64
"""What torch and JAX allocate by, and what JAX asks for to share; malloc gives 16, and 64 by luck."""


def aligned(values: np.ndarray, shift: int = 0) -> np.ndarray:
    """Return a compact copy at an address that is a multiple of `ALIGNMENT`, plus `shift` bytes.

    >>> aligned(np.ones((2, 3))).ctypes.data % 64
    0
    """
    raw = np.empty(values.nbytes + ALIGNMENT + shift, "uint8")
    start = -raw.ctypes.data % ALIGNMENT + shift
    made = raw[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    made[...] = values
    return made


def poison(nbytes: int) -> None:
    """Fill the blocks of a size that NumPy keeps for its next arrays: they are what the suite's own arrays left, right values and all.

    malloc's are overwritten by `interop_conformance.running.run`'s settings; NumPy keeps up to seven small ones of each size by itself.
    """
    blocks = [np.full(nbytes, 0xA5, "uint8") for _ in range(8)]
    del blocks
