"""Aliases among tensors that were made of other libraries' arrays: torch does not know of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence


def apart(tensors: list[Any], *, same: bool, beside: Sequence[Any] = ()) -> list[Any]:
    """Return tensors of which no two share memory, nor one with those `beside`; but one that occurs twice may be the `same`.

    Torch would not know of it, and may take a gradient as it is for ``x.grad``, to which it then adds in place.
    """
    seen = {~at: taken for at, other in enumerate(beside) if other is not None and (taken := span(other)) is not None}
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
