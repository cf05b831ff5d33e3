"""torch's fast paths, as data: what is checked at once, and what is called then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.autograd import forward_ad

from interop.backends.cuda.copies import SMALL
from interop.backends.numpy.backend import BEHAVED
from interop.backends.numpy.backend import backend as numpy_backend
from interop.backends.shortcut import DETACH, PLAIN, READ_ONLY, TO_HOST, Shortcut
from interop.backends.torch import handoff, kinds, modes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from interop.backends.cuda.types import DeviceConsumer


def shortcuts() -> Mapping[tuple[str, frozenset[str]], Mapping[Any, Shortcut]]:
    """Return the fast paths of host tensors to NumPy and back, and of small device tensors that travel together."""
    tracked = (torch.Tensor.requires_grad,)
    outside: dict[str, Any] = {"no_level": ((vars(forward_ad), "_current_level"),), "no_mode": (modes.dispatch_modes, modes.is_tracing)}
    # torch's own checks in C refuse conj, neg, other devices, layouts, dtypes and functorch's wrappers before
    # anything is made. They do not see no_grad, duals and modes; nor null pointers (functionalised tensors,
    # freed storage), for which NumPy allocates memory of its own.
    checked: dict[str, Any] = {
        "declines": (RuntimeError, TypeError, ValueError),
        "expects_view": np.ndarray,
        "has_storage": kinds.has_memory,
        "offset": torch.Tensor.storage_offset,
    }
    # In grad mode torch refuses tracked tensors itself; under no_grad it would let them through.
    to_numpy = Shortcut(torch.Tensor.numpy, checks_itself=torch.is_grad_enabled, must_be_false=(tracked,), **outside, **checked)
    # .data does what detach() does, in two thirds of the time; the result cannot reach the graph anyway.
    detached = Shortcut(torch.Tensor.numpy, must_be_true=(tracked,), getter=(torch.Tensor.data,), read_only=True, **outside, **checked)
    # Inside a node of the graph it does not matter whether autograd follows a tensor: the node speaks for it.
    inside = Shortcut(torch.Tensor.numpy, getter=(torch.Tensor.data,), read_only=True, **outside, **checked)
    # torch checks dtype, byte order, negative and odd strides; it warns about read-only, and accepts unaligned.
    # Inside functionalize it would answer with a wrapper.
    arriving = Shortcut(
        torch.from_numpy, must_be_true=(BEHAVED,), no_mode=(modes.dispatch_modes, modes.functorch_level), declines=(TypeError, ValueError)
    )
    still: dict[str, Any] = {
        "no_level": outside["no_level"],
        "no_mode": (*outside["no_mode"], modes.functorch_level),
        "declines": (RuntimeError,),
    }
    packed = Shortcut(_packable, must_be_false=(tracked,), **still)
    packed_detached = Shortcut(_packable, getter=(torch.Tensor.data,), **still)
    itself = Shortcut(handoff=_itself)
    own = {torch.Tensor: itself, torch.nn.Parameter: itself}
    return {
        ("numpy", PLAIN): {torch.Tensor: to_numpy, torch.nn.Parameter: to_numpy},
        ("numpy", DETACH): {torch.Tensor: detached, torch.nn.Parameter: detached},
        ("numpy", READ_ONLY): {torch.Tensor: inside, torch.nn.Parameter: inside},
        ("numpy", TO_HOST): {torch.Tensor: packed, torch.nn.Parameter: packed},
        ("numpy", TO_HOST | DETACH): {torch.Tensor: packed_detached, torch.nn.Parameter: packed_detached},
        ("torch", PLAIN): {np.ndarray: arriving, **own},
        ("torch", DETACH): {np.ndarray: arriving, **own},
    }


def export_to(consumer: DeviceConsumer) -> Mapping[Any, Shortcut]:
    """Return the fast paths of device tensors to another library."""
    if not torch.backends.cuda.is_built() or torch.version.hip is not None:  # another device in DLPack's numbering
        return {}
    dtypes = {dtype for name, dtype in kinds.DTYPES.items() if name in consumer.dtypes}
    exported = Shortcut(
        lambda x: handoff.export_to(x, dtypes, consumer),
        must_be_false=((torch.Tensor.requires_grad,),),
        no_level=((vars(forward_ad), "_current_level"),),
        no_mode=(modes.dispatch_modes, torch._C._len_torch_function_stack, modes.is_tracing, modes.functorch_level),
        declines=(RuntimeError, BufferError),
    )
    return {torch.Tensor: exported, torch.nn.Parameter: exported}


# Their bytes are the result's.
_NUMPY_HAS = {dtype for name, dtype in kinds.DTYPES.items() if name in numpy_backend.capabilities.dtypes}


def _packable(x: torch.Tensor) -> torch.Tensor | None:
    """Return a tensor that can travel to the host with others."""
    plain = x.is_cuda and x.layout is torch.strided and x.dtype in _NUMPY_HAS and x.is_contiguous() and not x.is_conj() and not x.is_neg()
    return x if plain and x.nbytes <= SMALL and handoff.has_data(x) else None


def _itself(x: Any) -> Any:
    return x
