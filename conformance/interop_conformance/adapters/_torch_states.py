"""The states of a torch tensor: how each is brought about without changing what the tensor means."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from interop_conformance.adapters._base import Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

__all__ = ["STATES"]


def _torch() -> Any:
    import torch

    return torch


def _tracked(x: Any, stack: ExitStack) -> Any:  # noqa: ARG001 - one signature for all
    if not (x.is_floating_point() or x.is_complex()):
        raise Unsupported("only floating and complex tensors have gradients")
    return x.requires_grad_()


def _non_leaf(x: Any, stack: ExitStack) -> Any:
    tracked = _tracked(x, stack)
    return tracked.view_as(tracked)


def _parameter(x: Any, stack: ExitStack) -> Any:
    return _torch().nn.Parameter(_tracked(x, stack).detach())


def _under_no_grad(x: Any, stack: ExitStack) -> Any:
    tracked = _tracked(x, stack)
    stack.enter_context(_torch().no_grad())
    return tracked


def _dual(x: Any, stack: ExitStack) -> Any:
    if not (x.is_floating_point() or x.is_complex()):
        raise Unsupported("only floating and complex tensors have tangents")
    forward_ad = _torch().autograd.forward_ad
    stack.enter_context(forward_ad.dual_level())
    try:
        return forward_ad.make_dual(x, _torch().zeros_like(x))
    except (NotImplementedError, RuntimeError) as error:
        raise Unsupported(f"no tangent for {x.dtype}") from error


def _conj(x: Any, stack: ExitStack) -> Any:  # noqa: ARG001
    if not x.is_complex():
        raise Unsupported("only complex tensors are conjugated")
    if 0 in x.stride() and x.numel():
        raise Unsupported("written where it lies, and a broadcast tensor has elements on top of each other")
    x.imag.neg_()  # written conjugated, and read so: it means the same
    return x.conj()


def _neg(x: Any, stack: ExitStack) -> Any:  # noqa: ARG001
    if not (x.is_floating_point() or x.is_complex()) or x.dtype.itemsize == 1:
        raise Unsupported("only floating and complex tensors have a pending negation")
    if 0 in x.stride() and x.numel():
        raise Unsupported("written where it lies, and a broadcast tensor has elements on top of each other")
    x.neg_()
    return _torch()._neg_view(x)  # what z.conj().imag is


def _inference(x: Any, stack: ExitStack) -> Any:  # noqa: ARG001
    with _torch().inference_mode():
        made = _torch().empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)
        if x.numel():
            made.copy_(x) if 0 not in x.stride() else made.as_strided((2,), (1,)).copy_(x[0])
        return made


def _sparse(x: Any, stack: ExitStack) -> Any:  # noqa: ARG001
    if 0 in (x.ndim, x.numel()):
        raise Unsupported("nothing to be sparse about")
    try:
        return x.to_sparse()
    except RuntimeError as error:
        raise Unsupported(f"no sparse tensor of {x.dtype}") from error


def _subclass(x: Any, stack: ExitStack) -> Any:  # noqa: ARG001
    return x.as_subclass(_labelled())


def _masked(x: Any, stack: ExitStack) -> Any:  # noqa: ARG001
    torch = _torch()
    from torch.masked import masked_tensor

    unmasked = torch.ones_like(x, dtype=torch.bool)
    if x.numel():
        unmasked[(0,) * x.dim()] = False  # a mask that masks nothing loses nothing
    try:
        return masked_tensor(x, unmasked)
    except (TypeError, RuntimeError) as error:
        raise Unsupported(f"no masked tensor of {x.dtype}") from error


def _vmap(x: Any, stack: ExitStack) -> Any:
    torch = _torch()
    # What torch.vmap does around the function that it calls; here the "function" is the case.
    functorch = torch._C._functorch
    level = functorch._vmap_increment_nesting(2, "error")
    stack.callback(functorch._vmap_decrement_nesting)
    return functorch._add_batch_dim(torch.stack([x, x]), 0, level)


def _func_grad(x: Any, stack: ExitStack) -> Any:
    if not (x.is_floating_point() or x.is_complex()):
        raise Unsupported("only floating and complex tensors have gradients")
    functorch = _torch()._C._functorch
    level = functorch._grad_increment_nesting()
    stack.callback(functorch._grad_decrement_nesting)
    from torch._functorch.eager_transforms import enable_inplace_requires_grad

    with enable_inplace_requires_grad(enabled=True):
        return functorch._wrap_for_grad(x, level).requires_grad_()


def _functional(x: Any, stack: ExitStack) -> Any:  # noqa: ARG001
    return _torch()._to_functional_tensor(x)


def _fake(x: Any, stack: ExitStack) -> Any:  # noqa: ARG001
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode().from_tensor(x)


def _meta(x: Any, stack: ExitStack) -> Any:  # noqa: ARG001
    return _torch().empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


def _wrapper(x: Any, stack: ExitStack) -> Any:  # noqa: ARG001
    return _torch().Tensor._make_wrapper_subclass(_wrapping(), x.shape, strides=x.stride(), dtype=x.dtype, device=x.device)


# Made on first use, since torch is not imported before, and once: a new type for each case is not what people have.
@functools.cache
def _labelled() -> type:
    return type("Labelled", (_torch().Tensor,), {})


@functools.cache
def _wrapping() -> type:
    return type("Wrapper", (_torch().Tensor,), {"__torch_dispatch__": classmethod(_no_dispatch)})


def _no_dispatch(_cls: type, function: Any, _types: Any, _args: Any = (), _kwargs: Any = None) -> Any:
    # Not torch's error, nor its refusal: this wrapper is the suite's, and has nothing to do it with.
    raise Unsupported(f"the suite's wrapper does not do {function}")


def _freed(x: Any, stack: ExitStack) -> Any:  # noqa: ARG001
    if not x.numel():
        raise Unsupported("there was nothing to free")
    x.untyped_storage().resize_(0)
    return x


def _quantized(x: Any, stack: ExitStack) -> Any:  # noqa: ARG001
    torch = _torch()
    if x.dtype != torch.float32:
        raise Unsupported("only float32 tensors are quantized")
    # On the host, so that no kernel for this is needed. The values are small whole numbers, so nothing is lost.
    return torch.quantize_per_tensor(x.cpu(), 1.0, 0, torch.qint8).to(x.device)


STATES: dict[str, Callable[[Any, ExitStack], Any]] = {
    "masked": _masked,
    "subclass": _subclass,
    "grad": _tracked,
    "grad-non-leaf": _non_leaf,
    "parameter": _parameter,
    "grad-under-no-grad": _under_no_grad,
    "dual": _dual,
    "conj": _conj,
    "neg": _neg,
    "inference": _inference,
    "sparse": _sparse,
    "quantized": _quantized,
    "vmap": _vmap,
    "func-grad": _func_grad,
    "functional": _functional,
    "fake": _fake,
    "meta": _meta,
    "wrapper": _wrapper,
    "freed": _freed,
}
