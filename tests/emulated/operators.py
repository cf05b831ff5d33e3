"""torch's operators on a CUDA device without kernels: its own implementation for the host does the work, in its turn on the stream.

What torch does with memory and copies alone is left to torch: allocating, views, and copies that are one piece of memory.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from .device import CudaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .device import Emulated

__all__ = ["install"]

_CYCLES_PER_MS = 1_980_000  # the clock of runtime/device.cpp
_LEFT_TO_TORCH = ("set_", "resize_", "record_stream", "is_set_to", "_local_scalar_dense", "copy_")
_FOREIGN = ("_to_sparse", "_nested", "cudnn", "_cudnn", "miopen", "quantize", "_make_per")


def install(device: Emulated) -> None:
    """Have the operators come here."""
    library = torch.library.Library("aten", "IMPL")
    install.library = library  # type: ignore[attr-defined] - it takes its operators back when it is freed
    copy = torch.library.get_kernel("aten::copy_", "CUDA")
    with warnings.catch_warnings():
        # torch 2.11 warns of the first kernel that replaces another one, for all of them; where a warning is an error, that ended it.
        warnings.filterwarnings("ignore", "Warning only once for all operators", UserWarning)
        for name, operator in _operators():
            library.impl(name, _on_the_stream(device, operator), "CUDA", allow_override=True)
        library.impl("_to_dense", _to_dense(device), "SparseCUDA", allow_override=True)
        library.impl("quantize_per_tensor", _quantize(device), "CUDA", allow_override=True)
        library.impl("dequantize.self", _dequantize(device), "QuantizedCUDA", allow_override=True)
        library.impl("copy_", _copy(device, copy), "CUDA", with_keyset=True, allow_override=True)
    torch.cuda._sleep = lambda cycles: device.sleep(torch.cuda.current_stream().cuda_stream, cycles / _CYCLES_PER_MS)


def _operators() -> list[tuple[str, Any]]:
    """Return the operators that have a kernel for CUDA, of tensors."""
    found = []
    for full_name in torch._C._dispatch_get_registrations_for_dispatch_key("CUDA"):
        namespace, _, name = full_name.partition("::")
        base, _, overload = name.partition(".")
        if namespace != "aten" or base in _LEFT_TO_TORCH or base.startswith(_FOREIGN):
            continue
        operator = getattr(getattr(torch.ops.aten, base), overload or "default")
        if _takes_tensors(operator._schema) and not _returns_a_view(operator._schema):
            found.append((name, operator))
    return found


def _takes_tensors(schema: Any) -> bool:
    return any("Tensor" in str(one.type) for one in schema.arguments)


def _returns_a_view(schema: Any) -> bool:
    return any(one.alias_info is not None and not one.alias_info.is_write for one in schema.returns)


def _on_the_stream(device: Emulated, operator: Any) -> Any:
    schema = operator._schema
    written = [_names(one) for one in schema.returns]
    outs = [one.name for one in schema.arguments if one.kwarg_only and _names(one)]

    def given(argument: Any, args: Any, named: Any) -> Any:
        at = schema.arguments.index(argument)
        return args[at] if at < len(args) else named[argument.name]

    def run(*args: Any, **named: Any) -> Any:
        with torch._C.DisableTorchFunction():  # a mode of the caller's is about the caller's calls
            where = next(x.device for x in pytree.tree_leaves((args, named)) if isinstance(x, torch.Tensor) and x.is_cuda)
            named.pop("device", None)
            _give_shape(operator, outs, args, named)
            host_args, host_named = pytree.tree_map(lambda x: _seen(device, x), (args, named))
            if all(written):
                _launch(device, where, lambda: operator(*host_args, **host_named))
                same = [given(next(a for a in schema.arguments if _names(a) == names), args, named) for names in written]
                return same[0] if len(same) == 1 else tuple(same) or None
            return _computed(device, where, operator, (args, named), (host_args, host_named))

    return run


def _give_shape(operator: Any, outs: list[str], args: Any, named: dict[str, Any]) -> None:
    """Have the tensors for the results the shape of these, as the operator itself would see to it."""
    if not any(isinstance(named.get(name), torch.Tensor) for name in outs):
        return
    blank_args, blank_named = pytree.tree_map(_blank, (args, named))
    with contextlib.suppress(NotImplementedError):  # where it is not known without the values, it is as it was given
        operator(*blank_args, **blank_named)
        for name in outs:
            if isinstance(named[name], torch.Tensor) and named[name].shape != blank_named[name].shape:
                named[name].resize_(blank_named[name].shape)


def _names(argument: Any) -> frozenset[str]:
    """Return by what names a schema calls the memory of an argument or a result that is written to."""
    alias = argument.alias_info
    return frozenset(alias.before_set) if alias is not None and alias.is_write else frozenset()


def _computed(device: Emulated, where: torch.device, operator: Any, given: Any, host: Any) -> Any:
    """Return new tensors, into which the results come in their turn."""
    form, compute = _planned(where, operator, given, host)
    made = pytree.tree_map(lambda x: _allocated(x, where), form)
    into = [_seen(device, x) for x in pytree.tree_leaves(made)]

    def work() -> None:
        try:
            results = compute()
        except Warning:  # which is an error here, and is the first of its kind: a kernel does not warn
            results = compute()
        for target, source in zip(into, pytree.tree_leaves(results), strict=True):
            if isinstance(target, torch.Tensor):
                target.copy_(source)

    _launch(device, where, work)
    return made


def _planned(where: torch.device, operator: Any, given: Any, host: Any) -> tuple[Any, Callable[[], Any]]:
    """Return what the results are like, and what computes them; where the values decide, they are waited for, as torch does it."""
    blank = pytree.tree_map(_blank, given)
    with contextlib.suppress(NotImplementedError, RuntimeError):
        form = operator(*blank[0], **blank[1])
        if all(isinstance(x, torch.Tensor) for x in pytree.tree_leaves(form)):
            return form, lambda: operator(*host[0], **host[1])
    torch.cuda.current_stream(where).synchronize()
    found = operator(*host[0], **host[1])
    return found, lambda: found


def _blank(x: Any) -> Any:
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta") if isinstance(x, torch.Tensor) else x


def _allocated(x: Any, where: torch.device) -> Any:
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=where) if isinstance(x, torch.Tensor) else x


def _launch(device: Emulated, where: torch.device, work: Callable[[], object]) -> None:
    with torch.cuda.device(where):
        try:
            device.launch(torch.cuda.current_stream().cuda_stream, work)
        except CudaError as error:
            raise torch.AcceleratorError(str(error), error.status) from None


def _to_dense(device: Emulated) -> Any:
    def run(x: Any, dtype: Any = None, masked_grad: Any = None) -> Any:
        indices, values = x._indices(), x._values()
        made = torch.empty(x.shape, dtype=dtype or x.dtype, device=x.device)
        into, host = _seen(device, made), [_seen(device, one) for one in (indices, values)]
        _launch(device, x.device, lambda: into.copy_(torch.sparse_coo_tensor(*host, x.shape, check_invariants=False).to_dense()))
        return made

    return run


def _quantize(device: Emulated) -> Any:
    def run(x: Any, scale: float, zero_point: int, dtype: Any) -> Any:
        made = torch._empty_affine_quantized(x.shape, scale=scale, zero_point=zero_point, dtype=dtype, device=x.device)
        storage, seen = made.untyped_storage(), _seen(device, x)
        into = torch.from_numpy(device.bytes_at(storage.data_ptr(), storage.nbytes()))

        def work() -> None:
            numbers = torch.quantize_per_tensor(seen, scale, zero_point, dtype).int_repr().contiguous()
            into.copy_(numbers.reshape(-1).view(torch.uint8))

        _launch(device, x.device, work)
        return made

    return run


def _dequantize(device: Emulated) -> Any:
    def run(x: Any) -> Any:
        storage, made = x.untyped_storage(), torch.empty(x.shape, device=x.device)
        numbers = torch.from_numpy(device.bytes_at(storage.data_ptr(), storage.nbytes())).view(torch.int8)
        into, scale, zero_point = _seen(device, made), x.q_scale(), x.q_zero_point()
        seen = numbers.as_strided(x.shape, x.stride(), x.storage_offset())
        _launch(device, x.device, lambda: into.copy_(seen).sub_(zero_point).mul_(scale))
        return made

    return run


def _copy(device: Emulated, original: Any) -> Any:
    def copy_(keys: Any, x: Any, source: Any, non_blocking: bool = False) -> Any:
        with torch._C.DisableTorchFunction():
            if _is_one_piece(x, source):
                _wait(x, source, non_blocking)
                return original.call_boxed(keys, x, source, non_blocking)
            if x.device == source.device:
                into, seen = _seen(device, x), _seen(device, source)
                _launch(device, x.device, lambda: into.copy_(seen))
                return x
            # As aten/src/ATen/native/cuda/Copy.cu: what is no single piece is made one on either side.
            made = x if x.is_contiguous() and not x.is_conj() and not x.is_neg() else torch.empty(x.shape, dtype=x.dtype, device=x.device)
            made.copy_(source.to(x.dtype).expand_as(x).resolve_conj().resolve_neg().contiguous(), non_blocking)
            return x if made is x else x.copy_(made, non_blocking)

    return copy_


def _is_one_piece(x: Any, source: Any) -> bool:
    """Return whether a copy takes no kernel."""
    same = x.dtype == source.dtype and x.stride() == source.stride() and x.shape == source.shape
    return same and x.is_conj() == source.is_conj() and x.is_neg() == source.is_neg() and torch.ops.aten.is_non_overlapping_and_dense(x)


def _wait(x: Any, source: Any, non_blocking: bool) -> None:
    """Wait for the stream here if the copy will: `call_boxed` holds the interpreter's lock meanwhile, which the stream's work may need."""
    host = next((one for one in (x, source) if not one.is_cuda), None)
    if host is None or (non_blocking and host.is_pinned()) or torch.cuda.is_current_stream_capturing():
        return
    torch.cuda.current_stream((source if host is x else x).device).synchronize()


def _seen(device: Emulated, x: Any) -> Any:
    """Return a tensor of the device as a tensor of the host on the same memory, past all streams; anything else as it is."""
    if not isinstance(x, torch.Tensor) or not x.is_cuda:
        return x
    with torch.inference_mode(mode=False):  # the stream's thread is in no mode, and writes to it
        storage = x.untyped_storage()
        raw = torch.from_numpy(device.bytes_at(storage.data_ptr(), storage.nbytes()))
        made = torch.empty(0, dtype=x.dtype).set_(raw.untyped_storage(), x.storage_offset(), x.shape, x.stride())
        made = made.conj() if x.is_conj() else made
        return torch._neg_view(made) if x.is_neg() else made
