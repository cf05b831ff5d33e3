"""What a tensor is, for the decision: `describe`. And what of it, besides its memory, an operation would want to know."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch.autograd import forward_ad

from interop._model.description import Description
from interop.backends.torch import kinds, modes

_REQUIRES_GRAD: Any = torch.Tensor.requires_grad


def describe(x: Any) -> Description:
    """Describe a tensor; nothing is moved, synchronised or computed."""
    with torch._C.DisableTorchFunction():
        return (
            _describe(x)
            if kinds.is_own(x)
            else _describe(torch.Tensor.as_subclass(x, torch.Tensor)).replace(
                type=f"{type(x).__module__}.{type(x).__qualname__}",
                requires_grad=_REQUIRES_GRAD.__get__(x),
            )
        )


def _describe(x: Any) -> Description:
    no_data, layout = kinds.why_no_data(x), kinds.layout_of(x)
    wrapped = kinds.is_masked(x)
    with modes.without_modes() if modes.dispatch_modes() else contextlib.nullcontext():  # which would be asked about the lengths
        masked = wrapped and (no_data is not None or kinds.masks_something(x))
        densifies = layout != "strided" and kinds.densifies(x, layout, is_real=no_data is None)
        fixed = kinds.fixed(x, layout) if layout != "strided" else ()
        shape = (kinds.regular_shape(x) if densifies and layout == "nested" else None) or kinds.shape_of(x)
    plain = no_data is None and layout == "strided" and not wrapped
    dtype = kinds.NAMES.get(x.dtype) or str(x.dtype)  # a shell keeps its prefix: no such dtype elsewhere
    memory = kinds.data_of(x) if wrapped else x
    return Description(
        backend="torch",
        type=f"{type(x).__module__}.{type(x).__qualname__}",
        shape=shape,
        dtype=dtype,
        device=kinds.device_of(x),
        strides=tuple(memory.stride()) if layout == "strided" and no_data is None else None,
        nbytes=kinds.nbytes(shape, x.dtype),
        pointer=kinds.address_of(memory) if no_data is None and layout == "strided" else None,
        requires_grad=x.requires_grad,
        tangent=_tangent(x),
        pending=kinds.pending(x),
        layout=layout,
        densifies=densifies,
        dense_dtype="float32" if layout == "quantized" else None,
        fixed=fixed,
        memory="pinned" if plain and _is_pinned(x) else "plain",
        masked=masked,
        advice=kinds.advice(x, layout, dtype),
        no_data=no_data,
    )


def is_memory_only(x: torch.Tensor) -> bool:
    """Return whether nothing but the memory crosses: no graph, no tangent, no class or mode that would want to know."""
    plain = type(x) is torch.Tensor and not x.requires_grad and modes.functorch_level() is None
    return plain and not modes.dispatch_modes() and not modes.is_tracing() and not _tangent(x)


def _tangent(x: torch.Tensor) -> bool:
    # Guards against deviation `torch-dual-export`.
    if forward_ad._current_level < 0:
        return False
    if modes.functorch_level() is None:
        return forward_ad.unpack_dual(x).tangent is not None
    from interop.backends.torch.tracking import rules_for

    return "jvp" in rules_for(x)


def _is_pinned(x: torch.Tensor) -> bool:
    # Guards against deviation `torch-device-asks-pinned`.
    if x.device.type != "cpu" or x.is_conj() or x.is_neg():  # for a pending one torch would make a copy to ask
        return False
    if torch.cuda._is_in_bad_fork():  # a worker that was forked from a process with CUDA must not ask (pytorch#144687)
        return False
    if not modes.dispatch_modes():
        return x.is_pinned()
    with modes.without_modes():  # it is an operation, which a mode would be asked about
        return x.is_pinned()
