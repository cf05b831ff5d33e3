"""The modes of torch that a call may be in: gradients, transformations, dispatch modes, autocast, the compiler."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch._C._dynamo import eval_frame
from torch.utils import _python_dispatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

transforms = torch._C._are_functorch_transforms_active
"""Whether a transformation of torch.func is at work."""

dispatch_modes = torch._C._len_torch_dispatch_stack
"""How many modes see every operation (FakeTensorMode, a tracer)."""

is_tracing = torch._C._is_tracing
"""Whether `torch.jit.trace` runs the code."""

functorch_level = torch._C._functorch.peek_interpreter_stack
"""The innermost transformation of torch.func; None outside of all."""

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


def without_modes() -> AbstractContextManager[Any]:
    """Return a context without dispatch modes, in which operations are done and not recorded or faked."""
    return _python_dispatch._disable_current_modes() if dispatch_modes() else nullcontext()


def without_functorch() -> AbstractContextManager[Any]:
    """Return a context outside of all transformations of torch.func."""
    from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

    return temporarily_clear_interpreter_stack()
