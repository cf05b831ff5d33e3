"""The modes of torch that a call may be in: gradients, transformations, dispatch modes, autocast, the compiler."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from itertools import repeat, starmap
from typing import TYPE_CHECKING, Any

import torch
from torch import _ops
from torch._C._dynamo import eval_frame
from torch.utils import _python_dispatch

from interop._model.scope import block, undone

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

transforms = torch._C._are_functorch_transforms_active
"""Whether a transformation of torch.func is at work."""

dispatch_modes = torch._C._len_torch_dispatch_stack
"""How many modes see every operation (FakeTensorMode, a tracer)."""

is_tracing = torch._C._is_tracing
"""Whether `torch.jit.trace` runs the code."""

_functorch: Any = torch._C._functorch

functorch_level = _functorch.peek_interpreter_stack
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


@block
def no_autocast() -> Iterator[None]:
    """Leave `torch.autocast` for a while, as `torch.amp.custom_fwd(cast_inputs=...)` and `custom_bwd` do."""
    enabled = [device for device in AUTOCASTS if torch.is_autocast_enabled(device)]
    with undone(partial(_set_autocast, enabled, enabled=True)):
        _set_autocast(enabled, enabled=False)
        yield


def _set_autocast(devices: Sequence[str], *, enabled: bool) -> None:
    for device in devices:
        torch.set_autocast_enabled(device, enabled)


def leave_alone(function: Any) -> Any:
    """Let `torch.compile` call a function as it is, and not trace it: a decorator.

    What `torch.compiler.disable` does, without importing the compiler.
    """
    function._torchdynamo_disable = True
    function._torchdynamo_disable_msg = "a function of another library: interop.autograd.wrap(..., name=, fake=) makes it an operator"
    skip = eval_frame._FrameAction.SKIP
    eval_frame.set_code_exec_strategy(function.__code__, eval_frame._FrameExecStrategy(skip, skip))
    return function


def alone() -> AbstractContextManager[Any]:
    """Return a context in which operations do what they say: no subclass, transformation or mode of the caller is asked.

    Entered and left by one call of C each, outside of transformations and dispatch modes: no interrupt comes between.
    """
    if functorch_level() is None and not dispatch_modes():
        return torch._C.DisableTorchFunction()
    return _alone()


@block
def _alone() -> Iterator[None]:
    # Inside vmap and the like even a plain tensor's views would come out as wrappers; a dispatch mode (FakeTensorMode, a tracer)
    # would answer for the real tensor.
    with torch._C.DisableTorchFunction(), without_functorch(), without_modes():
        yield


def without_modes() -> AbstractContextManager[Any]:
    """Return a context without dispatch modes, in which operations are done and not recorded or faked."""
    return _without_modes() if dispatch_modes() else nullcontext()


@block
def _without_modes() -> Iterator[None]:
    # What torch's `_disable_current_modes` does, which loses a mode that it was taking off when it was interrupted.
    found = _python_dispatch._get_current_dispatch_mode_stack()
    traced: list[Any] = []  # those of `torch.export` before dispatch

    def undo() -> None:
        for mode in found[dispatch_modes() :]:
            _python_dispatch._push_mode(mode)
        while traced:
            _python_dispatch._push_mode(traced[-1])
            traced.pop()

    with undone(undo):
        traced.extend(starmap(_ops._pop_mode_from_pre_dispatch, repeat((), _ops._len_torch_dispatch_stack_pre_dispatch())))
        while dispatch_modes():
            _python_dispatch._pop_mode()
        yield


@block
def without_functorch(keep: int = 0) -> Iterator[None]:
    """Leave the transformations of torch.func for a while, but for the outermost so many."""
    taken: list[Any] = []  # the innermost first
    depth = _functorch.get_dynamic_layer_stack_depth()

    def undo() -> None:
        while missing := depth - _functorch.get_dynamic_layer_stack_depth():
            _functorch.push_dynamic_layer_stack(taken[missing - 1])

    with undone(undo):
        # In one call of C: what is taken off and not in the list yet would be lost to an interrupt.
        taken.extend(starmap(_functorch.pop_dynamic_layer_stack, repeat((), depth - keep)))
        yield
