"""Whether torch follows a tensor, and by which rules: through its graph, with a tangent, in a transformation of `torch.func`.

Wrappers of `torch.func` lie in one another. Each shows only its own level, and answers for it only while that level is the
innermost: so they are taken off one by one, and the levels with them.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import forward_ad

from interop.backends.torch.modes import without_functorch

if TYPE_CHECKING:
    from collections.abc import Iterator

_functorch: Any = torch._C._functorch
_is_wrapped = _functorch.is_functorch_wrapped_tensor
_stack = _functorch.peek_interpreter_stack
_duals: Any = forward_ad


def is_followed(x: torch.Tensor) -> bool:
    """Return whether a function of another library has to be a node of torch's graph to be run on a tensor.

    It does not depend on the mode of gradients: under ``no_grad`` the node is none, and nothing is asked of it.
    """
    with torch._C.DisableTorchFunction():
        return x.requires_grad or _is_wrapped(x) or "jvp" in rules_for(x)


def rules_for(x: torch.Tensor) -> set[str]:
    """Return the rules without which a gradient or a tangent of a tensor would be lost here: ``"backward"``, ``"jvp"``."""
    rules = set()
    graphs, duals = torch.is_grad_enabled(), _duals._current_level >= 0
    with torch._C.DisableTorchFunction():
        for layer, may_be_dual in _layers(x):
            if graphs and layer.requires_grad:
                rules.add("backward")
            if duals and may_be_dual and _duals.unpack_dual(layer).tangent is not None:
                rules.add("jvp")
    return rules


def _layers(x: torch.Tensor) -> Iterator[tuple[torch.Tensor, bool]]:
    """Yield a tensor and what it wraps, each at its own level, and whether it may have a tangent there."""
    if not _is_wrapped(x):
        with without_functorch() if _stack() is not None else nullcontext():
            yield x, True
        return
    level = _functorch.maybe_get_level(x)
    with without_functorch(keep=sum(one.level() <= level for one in _functorch.get_interpreter_stack() or ())):
        top = _stack()
        yield x, top is not None and top.level() == level and top.key() == _functorch.TransformType.Jvp
        yield from _layers(_functorch.get_unwrapped(x))
