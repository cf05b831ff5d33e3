"""The modes of torch that a call may be in: gradients, transformations, autocast, the compiler."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch._C._dynamo import eval_frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["AUTOCASTS", "autocast", "leave_alone", "no_autocast", "tracks", "transforms"]

transforms = torch._C._are_functorch_transforms_active
"""Whether a transformation of torch.func is at work."""


AUTOCASTS = ("cpu", "cuda", "xpu", "mps")
"""The kinds of devices that autocast is for."""


def tracks(tensor: torch.Tensor) -> bool:
    """Whether a graph that is being made now goes through a tensor."""
    return torch.is_grad_enabled() and tensor.requires_grad


def autocast(tensors: Sequence[Any], dtype: str) -> list[Any]:
    """Return the tensors as they arrive inside of `torch.autocast`, those of floats cast; differentiably."""
    wanted = getattr(torch, dtype)

    def casts(tensor: Any) -> bool:
        return tensor.is_floating_point() and tensor.dtype is not torch.float64 and torch.is_autocast_enabled(tensor.device.type)

    return [tensor.to(wanted) if casts(tensor) else tensor for tensor in tensors]


@contextmanager
def no_autocast() -> Iterator[None]:
    """Leave `torch.autocast` for a while, as `torch.amp.custom_fwd(cast_inputs=...)` and `custom_bwd` do."""
    with ExitStack() as stack:
        for device in AUTOCASTS:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def leave_alone(function: Any) -> Any:
    """Let `torch.compile` call a function as it is, and not trace it: a decorator.

    What `torch.compiler.disable` does, without importing the compiler.
    """
    function._torchdynamo_disable = True
    function._torchdynamo_disable_msg = "a function of another library: interop.autograd.wrap(..., name=, fake=) makes it an operator"
    skip = eval_frame._FrameAction.SKIP
    eval_frame.set_code_exec_strategy(function.__code__, eval_frame._FrameExecStrategy(skip, skip))
    return function
