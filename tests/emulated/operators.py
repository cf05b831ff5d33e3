"""torch's operators on a CUDA device without kernels: its own implementation for the host does the work, in its turn on the stream.

What torch does with copies alone (`clone`, `copy_` without gaps, `zeros`, to the host and back) is left to torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.emulated.device import Emulated

__all__ = ["install"]

OPERATORS = (
    *("fill_.Scalar", "fill_.Tensor", "add.Tensor", "add_.Tensor", "mul.Tensor", "mul_.Tensor", "sub.Tensor", "div.Tensor", "neg"),
    *("eq.Scalar", "eq.Tensor", "ne.Scalar", "gt.Scalar", "lt.Scalar", "all", "any", "sum", "sum.dim_IntList", "mean", "cat", "abs"),
    *("isfinite", "exp", "sin", "cos", "pow.Tensor_Scalar", "mm", "addmm", "conj_physical", "index.Tensor"),
    *("logical_and", "bitwise_and.Tensor", "equal", "rsub.Scalar", "masked_fill_.Scalar", "where.self", "clamp", "max", "min", "complex"),
)
_library = torch.library.Library("aten", "IMPL")


def install(device: Emulated) -> None:
    """Have the operators come here."""
    for name in OPERATORS:
        base, _, overload = name.partition(".")
        operator = getattr(getattr(torch.ops.aten, base), overload or "default")
        _library.impl(name, _on_the_stream(device, operator), "CUDA", allow_override=True)
    _install_copies(device)
    torch.cuda._sleep = lambda cycles: device.sleep(torch.cuda.current_stream().cuda_stream, int(cycles // 2_000_000))


def _on_the_stream(device: Emulated, operator: Any) -> Any:
    written = [at for at, one in enumerate(operator._schema.arguments) if one.alias_info is not None and one.alias_info.is_write]

    def run(*args: Any, **named: Any) -> Any:
        where = next(x.device for x in pytree.tree_leaves((args, named)) if isinstance(x, torch.Tensor) and x.is_cuda)
        named.pop("device", None)
        host = pytree.tree_map(lambda x: _seen(device, x), (args, named))
        if written:
            _launch(device, where, lambda: operator(*host[0], **host[1]))
            return args[written[0]]
        blank = pytree.tree_map(lambda x: x.to("meta") if isinstance(x, torch.Tensor) else x, (args, named))
        if operator is torch.ops.aten.equal.default:
            torch.cuda.current_stream(where).synchronize()
            return operator(*host[0])
        form = operator(*blank[0], **blank[1])
        made = torch.empty_strided(form.shape, form.stride(), dtype=form.dtype, device=where)
        into = _seen(device, made)
        _launch(device, where, lambda: into.copy_(operator(*host[0], **host[1])))
        return made

    return run


def _launch(device: Emulated, where: torch.device, work: Callable[[], object]) -> None:
    with torch.cuda.device(where):
        device.launch(torch.cuda.current_stream().cuda_stream, work)


def _converted(device: Emulated, x: Any, dtype: Any = None, memory_format: Any = torch.preserve_format) -> Any:
    """Return a copy on the same device, which takes a kernel."""
    made = torch.empty_like(x, dtype=dtype, memory_format=memory_format)
    into, source = _seen(device, made), _seen(device, x)
    _launch(device, x.device, lambda: into.copy_(source))
    return made


def _install_copies(device: Emulated) -> None:
    def to_copy(x: Any, *, dtype: Any = None, layout: Any = None, **words: Any) -> Any:
        where = words.pop("device", None)
        words = {name: value for name, value in words.items() if name in {"non_blocking", "memory_format"} and value is not None}
        waits = not words.pop("non_blocking", False)
        if not x.is_cuda:  # on its way to the device
            x = x.to(dtype or x.dtype)
            x = x if _is_dense(x) else x.contiguous()
        if (dtype is not None and dtype != x.dtype) or not _is_dense(x):
            x = _converted(device, x, dtype, words.get("memory_format", torch.preserve_format))
            if where is None or where == x.device:
                return x
        made = torch.empty_like(x, device=where, **words)
        return made.copy_(x, non_blocking=not waits)

    def clone(x: Any, *, memory_format: Any = None) -> Any:
        memory_format = memory_format or torch.preserve_format
        made = torch.empty_like(x, memory_format=memory_format)
        return made.copy_(x) if _is_dense(x) and made.stride() == x.stride() else _converted(device, x, None, memory_format)

    _library.impl("_to_copy", to_copy, "CUDA", allow_override=True)
    _library.impl("clone", clone, "CUDA", allow_override=True)


def _is_dense(x: Any) -> bool:
    return bool(torch.ops.aten.is_non_overlapping_and_dense(x)) and not x.is_conj() and not x.is_neg()


def _seen(device: Emulated, x: Any) -> Any:
    """Return a tensor of the device as a tensor of the host on the same memory, past all streams; anything else as it is."""
    if not isinstance(x, torch.Tensor) or not x.is_cuda:
        return x
    raw = torch.from_numpy(device.bytes_at(x.untyped_storage().data_ptr(), x.untyped_storage().nbytes()))
    made = torch.empty(0, dtype=x.dtype).set_(raw.untyped_storage(), x.storage_offset(), x.shape, x.stride())
    made = made.conj() if x.is_conj() else made
    return torch._neg_view(made) if x.is_neg() else made
