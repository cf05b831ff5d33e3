"""Memory of tensors that arrays were handed over as: torch does not know whose it is besides."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["apart", "span"]


def apart(tensors: list[Any], *, same: bool) -> list[Any]:
    """Return tensors of which no two share memory, unless they are one and may be the `same`: torch would not know of it.

    It may take a gradient as it is for ``x.grad``, to which it then adds in place.
    """
    seen: dict[int, tuple[int, int]] = {}
    results = []
    for tensor in tensors:
        at = None if tensor is None or (same and id(tensor) in seen) else span(tensor)
        if at is None:
            results.append(tensor)
        elif any(at[0] < end and start < at[1] for start, end in seen.values()):
            results.append(tensor.clone())
        else:
            seen[id(tensor)] = at
            results.append(tensor)
    return results


def span(tensor: torch.Tensor) -> tuple[int, int] | None:
    """Return the addresses between which a tensor's elements are; None without any.

    Not its storage: each crossing makes a new one, for the same memory.
    """
    if tensor.layout is not torch.strided or not tensor.numel():
        return None
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()
