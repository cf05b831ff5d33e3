"""Elements narrower than a byte: one after the other, the first in the lowest bits; or, with the padded flag, one in each byte."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np

from interop.dlpack import SUBBYTE_PADDED

if TYPE_CHECKING:
    from interop_conformance.capsules.capsule import Facts, Tensor

__all__ = ["in_bytes", "packed", "subbyte_difference"]


def subbyte_difference(facts: Facts, expected: np.ndarray) -> str:
    """Return in words how what a consumer reads differs from what it should; empty if it does not."""
    tensor = facts.tensor
    assert tensor is not None
    bits = tensor.dtype[1]
    means = expected.reshape(-1).view("uint8") & (1 << bits) - 1
    if facts.flags & SUBBYTE_PADDED:
        return "" if np.array_equal(in_bytes(tensor, expected.size), means) else "other values, read as one element in each byte"
    if np.array_equal(packed(tensor, expected.size), means):
        return ""
    if np.array_equal(packed(tensor, expected.size, order="big"), means):
        return "packed with the first element in the highest bits"
    return (
        "one element in each byte, and no flag that says so"
        if np.array_equal(in_bytes(tensor, expected.size), means)
        else "other values, read as packed"
    )


def in_bytes(tensor: Tensor, count: int) -> np.ndarray:
    """Return elements that fill a byte each, as bit patterns; of a compact array."""
    return np.frombuffer(ctypes.string_at(tensor.pointer, count), "uint8") & (1 << tensor.dtype[1]) - 1


def packed(tensor: Tensor, count: int, order: str = "little") -> np.ndarray:
    """Return elements that lie one after the other, as bit patterns; of a compact array."""
    bits = tensor.dtype[1]
    raw = np.frombuffer(ctypes.string_at(tensor.pointer, -(-count * bits // 8)), "uint8")
    each = np.unpackbits(raw, bitorder=order)[: count * bits].reshape(-1, bits)  # type: ignore[call-overload]
    weights = 1 << np.arange(bits)
    return np.asarray(each @ (weights if order == "little" else weights[::-1]), "uint8")
