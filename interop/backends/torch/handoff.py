"""torch's side of a handoff on a CUDA device that needs no decision."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.dlpack import from_dlpack, to_dlpack

from interop.backends.cuda.types import DeviceConsumer
from interop.backends.shortcut import LOW
from interop.backends.torch.kinds import address_of, has_memory
from interop.backends.torch.release import defer_release
from interop.dlpack import LEGACY, PER_THREAD

if TYPE_CHECKING:
    from collections.abc import Callable, Container


def _pointer(index: int) -> int:
    return int(torch.cuda.current_stream(index).cuda_stream)


# Without making a stream object, which takes longer than all the rest; only builds with CUDA have it.
_raw_pointer: Callable[[int], int] = getattr(torch._C, "_cuda_getCurrentRawStream", _pointer)


def export_to(x: Any, dtypes: Container[torch.dtype], consumer: DeviceConsumer) -> Any | None:
    """Return what the other library makes of a tensor that is in no graph; None for the general way.

    `torch.Tensor.__dlpack__` would look at the same things, in Python, and then at the streams.
    """
    if not x.is_cuda or x.layout is not torch.strided or x.dtype not in dtypes or x.is_conj() or x.is_neg() or not has_data(x):
        return None
    index = x.get_device()
    if index != torch.cuda.current_device():
        return None
    own, theirs = _raw_pointer(index), consumer.stream_pointer(index)
    stream = _stream(index, theirs)
    if own != theirs:
        stream.wait_stream(_stream(index, own))
    x = alias(x)
    # Also on one stream: the memory may have been allocated on another.
    return consumer.from_capsule(defer_release(x, to_dlpack(x), theirs or LEGACY, None if theirs == PER_THREAD else stream), index)


def alias(x: Any) -> Any:
    """Return another tensor on the same storage, for a capsule to hold.

    A capsule holds the tensor and reads the memory's address once. Code that assigns ``x.data``, and with it `torch.nn.Module.half`
    and `torch.Tensor.set_`, gives that very tensor another storage, and the one that the consumer works on would be freed.
    """
    return x.detach()


@functools.cache
def _stream(index: int, pointer: int) -> Any:
    """Return torch's stream of a pointer on the current device; making the object takes as long as all the rest."""
    return torch.cuda.ExternalStream(pointer, device=index) if pointer else torch.cuda.default_stream(index)


def has_data(x: Any) -> bool:
    """Return whether there are elements, and memory behind them; the address of a part of a freed storage is a small number.

    False for a lazy copy too, which asking would carry out.
    """
    pointer = address_of(x)
    return bool(pointer and (pointer >= LOW or has_memory(x)))


def consumer(dtypes: frozenset[str]) -> DeviceConsumer:
    """Return how torch takes a capsule."""
    return DeviceConsumer(dtypes, _raw_pointer, lambda capsule, _: from_dlpack(capsule))
