"""Host memory that JAX takes as its own: how it has to lie, and how it is handed over.

JAX takes memory only from legacy DLPack capsules (as of JAX 0.12), and NumPy makes them for neither read-only memory nor
the small floats. JAX writes to none of it, not even where such an array is donated, so both are put right here.
Apart from the backend because no JAX is needed for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from interop.backends.numpy import is_extension, memory_dtype, native_dtype, tidy
from interop.dlpack import Capsule, Handover, handover
from interop.dtypes import DTYPES

__all__ = ["ALIGNMENT", "laid", "producer"]

ALIGNMENT = 64
"""Bytes, at a multiple of which memory has to start."""


def laid(view: Any, dtype: str) -> Any:
    """Return the values of an ndarray in new memory that JAX takes as it is, cast if the dtype is another."""
    wanted = native_dtype(dtype)
    if view.dtype.kind == "c" and DTYPES[dtype].kind not in ("complex", "bool"):
        view = view.real
    nbytes = view.size * wanted.itemsize
    raw = np.empty(nbytes + ALIGNMENT, "uint8")
    start = -raw.__array_interface__["data"][0] % ALIGNMENT
    made = raw[start : start + nbytes].view(wanted).reshape(view.shape)
    with np.errstate(all="ignore"):  # what overflows was permitted with the cast
        made[...] = view
    return made


class _Writable:
    """Says that memory may be written to."""

    def __init__(self, view: Any) -> None:
        self.view = view  # which keeps the memory
        self.__array_interface__ = view.__array_interface__ | {"data": (view.__array_interface__["data"][0], False)}


def producer(view: Any) -> Handover:
    """Return a producer of a legacy capsule on an ndarray's memory, whatever its dtype, read-only or not."""
    name, view = view.dtype.name, tidy(view)
    plain = view.view(memory_dtype(name)) if is_extension(name) else view
    raw = (plain if plain.flags.writeable else np.asarray(_Writable(plain))).__dlpack__()
    if is_extension(name):
        Capsule(raw).retype(name)
    return handover(raw)
