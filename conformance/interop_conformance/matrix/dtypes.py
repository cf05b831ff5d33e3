"""The dtypes of the matrix, and values for each that a wrong or narrowed reading cannot reproduce."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from interop.dlpack import dtype_of_code

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DTYPES", "dlpack_code", "dtype_named", "itemsize_of", "values_of"]

DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "complex32", "complex64", "complex128"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn"),
    *("int4", "longdouble", "datetime64"),
)
"""The names are interop's, which are NumPy's and `ml_dtypes`'; in the order of tables."""

_PADDED = 4  # the flag SUBBYTE_PADDED: a narrow element fills a byte, as in NumPy


@functools.cache
def _codes() -> dict[str, tuple[int, int, int]]:
    """Return every name that the protocol's codes have, the other way round."""
    sized = [(code, bits) for code in (0, 1, 2, 4, 5) for bits in (2, 4, 8, 16, 32, 64, 128, 256)]
    of_one_width = [(6, 8), *((code, 8) for code in range(7, 15)), (15, 6), (16, 6), (17, 4)]
    return {dtype_of_code(code, bits, 1, _PADDED): (code, bits, 1) for code, bits in (*sized, *of_one_width)}


def dtype_named(name: str) -> np.dtype:
    """Return NumPy's dtype, or that of `ml_dtypes`; raises AttributeError if this `ml_dtypes` lacks it."""
    if name == "datetime64":
        return np.dtype("datetime64[D]")
    found: np.dtype = np.dtype(getattr(np, "bool_" if name == "bool" else name, None) or getattr(ml_dtypes, name))
    return found


def dlpack_code(dtype: np.dtype) -> tuple[int, int, int] | None:
    """Return DLPack's code, bits and lanes for a dtype; None if DLPack has none for it.

    >>> dlpack_code(np.dtype("complex64")), dlpack_code(np.dtype("datetime64[D]"))
    ((5, 64, 1), None)
    """
    return _codes().get({"float128": "longdouble", "complex256": "clongdouble"}.get(dtype.name, dtype.name))


def itemsize_of(name: str) -> int:
    """Return the bytes of an element, also of a dtype that this `ml_dtypes` lacks: ``complex32`` came with 0.6.

    >>> itemsize_of("complex32"), itemsize_of("int4"), itemsize_of("datetime64")
    (4, 1, 8)
    """
    return 8 if name == "datetime64" else max(_codes()[name][1] // 8, 1)


def values_of(name: str, shape: Sequence[int]) -> np.ndarray:
    """Return distinct values, as far as the dtype has them, none of them zero but for a boolean's.

    Wide types hold what the next narrower one cannot: a float64 that became a float32 on the way is another number.
    """
    dtype, count = dtype_named(name), math.prod(shape)
    steps = np.arange(1, count + 1)
    if name == "bool":
        made = steps % 3 != 0
    elif name == "datetime64":
        made = steps.astype("int64").view("datetime64[D]")
    elif dtype.kind in "iu":
        top = int(np.iinfo(dtype).max)
        made = np.array([(top - 3 * int(step)) * (-1 if dtype.kind == "i" and step % 2 else 1) for step in steps], dtype)
    else:
        made = _inexact(name, dtype, steps)
    # Not ascontiguousarray, which makes one axis of none.
    return np.array(made.astype(dtype, copy=False).reshape(shape), order="C")


# All that the narrowest have: powers of two; the positive numbers; -7 to 7.
_NARROW: dict[str, tuple[float, ...]] = {
    "float8_e8m0fnu": (2, 4, 8, 16, 32, 64, 128, 256),
    "float4_e2m1fn": (0.5, 1, 1.5, 2, 3, 4, 6),
    "int4": (1, -2, 3, -4, 5, -6, 7),
}


def _inexact(name: str, dtype: np.dtype, steps: np.ndarray) -> np.ndarray:
    if name in _NARROW:
        known = _NARROW[name]
        return np.array([known[(step - 1) % len(known)] for step in steps]).astype(dtype)
    signed = np.where(steps % 2 == 0, -1.0, 1.0) * steps
    if dtype.itemsize >= 8 and name != "complex64":
        signed = signed + 2.0**-40  # lost in a float32
    if dtype.kind == "c" or name == "complex32":
        signed = signed + 1j * (steps + 0.5)
    made: np.ndarray = signed.astype(dtype)
    return made
