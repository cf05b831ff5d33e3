"""What kind of tensor a torch tensor is: plain, or one of the many that are not what they seem.

And the dtypes that it can have, by their canonical names.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from interop._model import dtypes as _canonical
from interop._model.description import CPU, Device
from interop.errors import LayoutError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from interop.errors import InteropError

_C: Any = torch._C  # its stubs lack some names
_functorch = torch._C._functorch
_LAZY = (UninitializedParameter, UninitializedBuffer)

# torch also has int1 to int7, uint1 to uint7, bits and packed fp4, as shells: their elements have no value
# that an operation could read, and DLPack exports them as 8-bit integers. They are no dtypes here.
_SHELLS = {f"{kind}int{bits}" for kind in ("", "u") for bits in range(1, 8)}
SHELL_DTYPES = {getattr(torch, name) for name in _SHELLS if hasattr(torch, name)}
DTYPES = {name: getattr(torch, name) for name in _canonical.DTYPES if hasattr(torch, name) and name not in _SHELLS}
NAMES = {dtype: name for name, dtype in DTYPES.items()}

# Layouts with one dense meaning, which torch itself can make.
_DENSIFIES = frozenset({"sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc", "mkldnn", "quantized"})


def fixed(x: torch.Tensor, layout: str) -> tuple[str, ...]:
    """Return what torch cannot do with a tensor of a layout, also where nothing else is in the way (NotImplementedError)."""
    if layout == "mkldnn":  # only c10's MkldnnCPU is a key of the dispatcher (`computeDispatchKey` in c10/core/TensorOptions.h)
        return ("cast", "transfer")
    # No aten::empty_quantized for QuantizedMeta, no aten::_to_copy for NestedTensorMeta; a jagged one is a class of Python's.
    return ("meta",) if layout == "quantized" or (layout == "nested" and x.layout is not torch.jagged) else ()


def why_no_data(x: torch.Tensor) -> str | None:
    """Return why a tensor has no data to share (the keys of the decision's table), or None."""
    # Guards against deviation `torch-null-export` and deviation `torch-vmap-error`.
    # In this order: a lazy parameter answers no question, a fake one answers every question.
    if isinstance(x, _LAZY):
        return "uninitialized"
    return _wrapped(x) or _unreal(x)


def _wrapped(x: torch.Tensor) -> str | None:
    if is_fake(x):
        return "fake"
    if _functorch.is_functorch_wrapped_tensor(x):
        return _transformation(x)
    return "functional" if torch._is_functional_tensor(x) else None


def _unreal(x: torch.Tensor) -> str | None:
    if x.device.type == "meta":
        return "meta"
    if torch._C._is_tracing() or _has_proxy(x):
        return "traced"
    return "no storage" if _storage_is_gone(x) else None


def _storage_is_gone(x: torch.Tensor) -> bool:
    if layout_of(x) != "strided" or is_wrapper(x) or not x.numel():
        return False
    return address_of(x) is not None and not torch._is_zerotensor(x) and not has_memory(x)


def has_memory(x: torch.Tensor) -> bool:
    """Return whether there is memory behind a tensor; with an offset, one on a freed storage has an address all the same."""
    # Guards against deviation `torch-numpy-null` and deviation `torch-numpy-freed-offset`.
    return x.untyped_storage().data_ptr() != 0


def address_of(x: torch.Tensor) -> int | None:
    """Return the address of the first element; None for a lazy copy, which asking would carry out."""
    return None if _C._is_cow_tensor(x) else x.data_ptr()


def _transformation(x: torch.Tensor) -> str:
    if _functorch.is_batchedtensor(x):
        return "vmap"
    if _functorch.is_functionaltensor(x):
        return "functional"
    stack = _functorch.get_interpreter_stack() or []
    keys = {str(level.key()).rpartition(".")[2].lower() for level in stack}
    return "jvp" if "jvp" in keys and "grad" not in keys else "grad"


def is_fake(x: torch.Tensor) -> bool:
    """Return whether it is a FakeTensor; without importing its module, which may not be loaded."""
    if type(x) is torch.Tensor:
        return False
    module = sys.modules.get("torch._subclasses.fake_tensor")
    return module is not None and isinstance(x, module.FakeTensor)


def _has_proxy(x: torch.Tensor) -> bool:
    """Return whether make_fx or torch.export is tracing this very tensor."""
    module = sys.modules.get("torch.fx.experimental.proxy_tensor")
    mode = module.get_proxy_mode() if module is not None else None
    return bool(mode is not None and module is not None and module.has_proxy_slot(x, mode.tracer))


def is_own(x: torch.Tensor) -> bool:
    """Return whether its class is torch's own, or has to stay because it answers for the data (wrappers, lazy ones)."""
    return type(x) in (torch.Tensor, torch.nn.Parameter) or is_wrapper(x) or isinstance(x, _LAZY)


def is_wrapper(x: torch.Tensor) -> bool:
    """Return whether a subclass answers for its operations itself, so that its own memory may be none."""
    return type(x).__torch_dispatch__ is not torch._C._disabled_torch_dispatch_impl


def is_masked(x: torch.Tensor) -> bool:
    """Return whether it is a torch.masked.MaskedTensor, found by name: the module is optional and slow to import."""
    # Guards against deviation `torch-masked-export` and deviation `torch-masked-null`.
    return any(base.__qualname__ == "MaskedTensor" and base.__module__.startswith("torch.masked") for base in type(x).__mro__)


def masks_something(x: Any) -> bool:
    """Return whether an element of a MaskedTensor is masked; those that a sparse one leaves out are."""
    mask = x._masked_mask
    if mask.layout is not torch.strided or (mask.is_cuda and torch.cuda.is_current_stream_capturing()):
        return True
    return not bool(mask.all())


def data_of(x: Any) -> torch.Tensor:
    """Return the data under a MaskedTensor's mask, on the same memory."""
    data: torch.Tensor = x._masked_data
    return data


def layout_of(x: torch.Tensor) -> str:
    """Return the layout's name: torch's own, or ``quantized``, ``nested``, ``wrapper <type>``."""
    if x.is_quantized:
        return "quantized"
    if x.is_nested:
        return "nested"
    if is_wrapper(x) and not is_masked(x) and not is_fake(x):
        return f"wrapper {type(x).__qualname__}"
    return str(x.layout).removeprefix("torch.").lstrip("_")


def densifies(x: torch.Tensor, layout: str, *, is_real: bool) -> bool:
    """Return whether a layout has one dense meaning that torch, or the tensor's own class, can make; for some only with data."""
    if layout == "nested":
        return is_real and regular_shape(x) is not None
    return layout in _DENSIFIES or (is_real and layout.startswith("wrapper") and can_dequantize(x))


def densify(x: Any) -> torch.Tensor:
    """Return a plain strided copy; LayoutError where a wrapper makes something else of itself than it said."""
    if x.is_nested:
        return torch.stack(x.unbind())
    if not is_wrapper(x):
        dense: torch.Tensor = x.dequantize() if x.is_quantized else x.to_dense()
        return dense
    made: torch.Tensor = x.dequantize()
    if is_wrapper(made) or (made.dtype, made.shape, made.device) != (x.dtype, x.shape, x.device):
        message = f"its dequantize() makes a {type(made).__name__} of {made.dtype} of it, and it says that it is one of {x.dtype}."
        raise LayoutError(message, hint="Convert what x.dequantize() returns.")
    return made


def can_dequantize(x: torch.Tensor) -> bool:
    """Return whether a wrapper knows, without being told more, the numbers that it stands for: torchao's quantized tensors."""
    if type(x).dequantize is torch.Tensor.dequantize:
        return False
    parameters = inspect.signature(x.dequantize).parameters.values()
    return all(one.default is not one.empty or one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in parameters)


def regular_shape(x: Any) -> tuple[int, ...] | None:
    """Return the shape of a nested tensor whose components all have one; None for a ragged one."""
    if x.is_cuda and torch.cuda.is_current_stream_capturing():  # the lengths of a jagged one are on its device
        return None
    if x.layout is not torch.jagged:
        table = x._nested_tensor_size()
        sizes = table.tolist() if table.dim() == 2 else []  # of a nested tensor of nothing it is a number
    else:
        lengths = (x.offsets().diff() if x.lengths() is None else x.lengths()).tolist()
        sizes = [[size if type(size) is int else length for size in x.shape[1:]] for length in lengths]
    return (len(sizes), *sizes[0]) if sizes and all(size == sizes[0] for size in sizes) else None


def advice(x: torch.Tensor, layout: str, dtype: str) -> str:
    """Return what torch, or the tensor's own class, can do where it cannot be shared; no call that would change a value."""
    if layout == "nested":
        return "Convert its parts one by one: x.unbind()."
    if layout.startswith("wrapper"):
        return _advice_for_wrapper(type(x))
    if dtype.startswith("torch."):  # a shell, or packed: its bytes are all that there is
        return "Convert the bytes: x.view(torch.uint8)."
    return ""


def _advice_for_wrapper(kind: Any) -> str:
    if hasattr(kind, "full_tensor"):  # torch.distributed's DTensor
        return "Bring it together first, x.full_tensor(), or convert the part that is here: x.to_local()."
    if kind.dequantize is not torch.Tensor.dequantize:  # torchao's
        return "Make the numbers of it that it stands for: x.dequantize()."
    if hasattr(kind, "trigger_wait"):  # what torch.distributed's functional collectives return
        return "Wait for it first: x.trigger_wait()."
    return "Convert the plain tensors that it wraps."


def shape_of(x: torch.Tensor) -> tuple[int | None, ...]:
    """Return the extents; None for those that are not a number (nested, symbolic, uninitialized)."""
    if isinstance(x, _LAZY):
        return ()
    if x.is_nested:
        return (x.size(0), *(None,) * (x.dim() - 1))  # unless `regular_shape` knows better
    return tuple(extent if type(extent) is int else None for extent in x.shape)


def pending(x: torch.Tensor) -> tuple[str, ...]:
    """Return the lazy operations that the memory does not show yet."""
    # Guards against deviation `torch-neg-bit`.
    if isinstance(x, _LAZY):
        return ()
    if not (x.is_conj() or x.is_neg() or torch._is_zerotensor(x)):
        return ()
    states = {"conj": x.is_conj(), "neg": x.is_neg(), "zero": torch._is_zerotensor(x)}
    return tuple(word for word, holds in states.items() if holds)


@contextlib.contextmanager
def explained(kind: type[InteropError], what: str, x: torch.Tensor) -> Iterator[None]:
    """Turn torch's "not implemented" for a rare dtype or layout into a refusal; nothing has been made by then."""
    try:
        yield
    except (NotImplementedError, TypeError) as error:
        first = str(error).partition("\n")[0]
        message = f"torch cannot {what} a {layout_of(x)} {x.dtype} tensor: {first}"
        raise kind(message, hint="Convert it with torch first, in steps that it has.") from error


def device_of(x: torch.Tensor) -> Device:
    """Return the device of a tensor, whatever its name."""
    return CPU if x.is_cpu else Device(x.device.type, x.device.index or 0)


def runs_on(x: torch.Tensor) -> Device:
    """Return the device that computes on a tensor: none for a fake, nor for a wrapper that claims one which torch does not see."""
    with _C.DisableTorchFunction():  # neither a subclass nor a mode is asked
        on = device_of(x)
    claimed = on.type == "cuda" and (is_fake(x) or on.index >= torch.cuda.device_count())
    return CPU if claimed else on


def nbytes(shape: tuple[int | None, ...], dtype: torch.dtype) -> int:
    """Return the bytes of the elements; unknown extents count as 0."""
    count = 1
    for extent in shape:
        count *= extent or 0
    return count * dtype.itemsize
