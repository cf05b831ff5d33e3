"""The modes of torch that a call may be in: gradients, transformations, autocast, the compiler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch._C._dynamo import eval_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["autocast", "leave_alone", "tracks", "transforms"]

transforms = torch._C._are_functorch_transforms_active
"""Whether a transformation of torch.func is at work."""


def tracks(tensor: torch.Tensor) -> bool:
    """Whether a graph that is being made now goes through a tensor."""
    return torch.is_grad_enabled() and tensor.requires_grad


def autocast(tensors: Sequence[Any], dtype: str) -> list[Any]:
    """Return the tensors as they arrive inside of `torch.autocast`, those of floats cast; differentiably."""
    wanted = getattr(torch, dtype)

    def casts(tensor: Any) -> bool:
        return tensor.is_floating_point() and tensor.dtype is not torch.float64 and torch.is_autocast_enabled(tensor.device.type)

    return [tensor.to(wanted) if casts(tensor) else tensor for tensor in tensors]


def leave_alone(function: Any) -> Any:
    """Let `torch.compile` call a function as it is, and not trace it: a decorator.

    What `torch.compiler.disable` does, without importing the compiler.
    """
    function._torchdynamo_disable = True
    function._torchdynamo_disable_msg = "a function of another library: interop.autograd.wrap(..., name=, fake=) makes it an operator"
    skip = eval_frame._FrameAction.SKIP
    eval_frame.set_code_exec_strategy(function.__code__, eval_frame._FrameExecStrategy(skip, skip))
    return function
