"""torch's copies between a CUDA device and the host, on the current stream of the current device.

Large ones to and from pageable memory, one to the host that is not waited for, and many small ones in one transfer.
"""

from __future__ import annotations

from typing import Any

import torch

from interop.backends.base import PendingCopy
from interop.backends.cuda import staging as _staging
from interop.backends.cuda.copies import split
from interop.backends.cuda.driver import relaxed
from interop.backends.numpy.backend import native_dtype
from interop.backends.torch.release import deferred, hold_stream_owners
from interop.errors import StreamError


def refuse_capture() -> None:
    """Raise StreamError while the current stream captures a graph."""
    if torch.cuda.is_current_stream_capturing():
        raise StreamError(_staging.CAPTURING, hint=_staging.OUTSIDE)


def to_host(x: Any) -> Any:
    """Return a CUDA tensor on the host, complete; as ``x.to("cpu")`` does."""
    if not _is_large(x, _staging.LARGE):
        return x.to("cpu")
    host = torch.empty_like(x, device="cpu")
    _staging.with_large_pages(host.data_ptr(), host.nbytes)
    if x.nbytes < _staging.WORTH:
        return host.copy_(x)
    source, made, buffers, events = _bytes(x), _bytes(host), _buffers(), _events()

    def fill(slot: int, low: int, high: int) -> None:
        buffers[slot][: high - low].copy_(source[low:high], non_blocking=True)
        events[slot].record()

    def empty(slot: int, low: int, high: int) -> None:
        events[slot].synchronize()
        made[low:high].copy_(buffers[slot][: high - low])

    _staging.through(x.nbytes, fill, empty)
    return host


def to_device(x: Any, device: Any) -> Any:
    """Return a tensor of the host on a CUDA device, ordered on the current stream; the source is read when this returns."""
    if x.is_pinned() or not _is_large(x, 1):
        return x.to(device)
    if x.nbytes < _staging.WORTH:  # through page-locked memory, as `to` would wait for the whole stream
        buffer = torch.empty_like(x, pin_memory=True)
        return buffer.copy_(x).to(device, non_blocking=True)
    made = torch.empty_like(x, device=device)
    source, there, buffers, events = _bytes(x), _bytes(made), _buffers(), _events()
    for slot, low, high in _staging.chunks(x.nbytes):
        events[slot].synchronize()  # what was in the buffer has left; nothing, the first time
        buffers[slot][: high - low].copy_(source[low:high])
        there[low:high].copy_(buffers[slot][: high - low], non_blocking=True)
        events[slot].record()
    return made


def start_copy_to_host(x: Any, origin: Any) -> PendingCopy:
    """Begin a copy to page-locked memory on the current stream of the current device, which is the tensor's.

    That memory is torch's, which does not reuse it while a copy goes to it. Where the strides are without gaps they stay.
    `origin` is what the tensor may have been made of.
    """
    refuse_capture()
    deferred.release_completed()
    if not is_dense(x):
        origin, x = (origin, x), x.contiguous()  # on the device: torch would pack it on the host else, and wait for that
    host = torch.empty_like(x, device="cpu", pin_memory=True)
    host.copy_(x, non_blocking=True)
    stream = torch.cuda.current_stream()
    # The pool of page-locked memory asks the stream when it gets it back, as that of the device does.
    hold_stream_owners(host, stream.cuda_stream)
    event = torch.cuda.Event()
    event.record(stream)
    # The tensor may be of another stream, or on memory that is not torch's, and may be dropped before the copy has ended.
    deferred.add((torch.cuda.current_device(), stream.cuda_stream), event.query, (origin, x))
    return PendingCopy(host, relaxed(event.query), relaxed(event.synchronize, deferred.release_completed))


def copy_many_to_host(tensors: list[Any]) -> list[Any]:
    """Return the values of tensors without gaps as NumPy arrays of their own, in one transfer on the current stream."""
    refuse_capture()
    packed = torch.cat([x.reshape(-1).view(torch.uint8) for x in tensors])
    host = torch.empty(packed.nbytes, dtype=torch.uint8, pin_memory=True)
    host.copy_(packed, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    event.synchronize()
    return split(host.numpy(), [(native_dtype(str(x.dtype).removeprefix("torch.")), x.shape) for x in tensors])


def _is_large(x: Any, nbytes: int) -> bool:
    """Return whether it has so many bytes, and is nothing but them."""
    plain = x.layout == torch.strided and x.nbytes >= nbytes and not x.is_conj() and not x.is_neg()
    return bool(plain and is_dense(x))


def is_dense(x: Any) -> bool:
    """Return whether its elements fill their memory; gaps and repeats have to be packed before they can be copied at once."""
    return bool(torch.ops.aten.is_non_overlapping_and_dense(x))


def _bytes(x: Any) -> Any:
    """Return the bytes of a tensor without gaps, in the order of its memory."""
    return x.detach().as_strided((x.numel(),), (1,)).view(torch.uint8)


def _buffers() -> list[Any]:
    # torch caches page-locked memory, and does not reuse it while a copy reads or writes it.
    return [torch.empty(_staging.CHUNK, dtype=torch.uint8, pin_memory=True) for _ in range(_staging.SLOTS)]


def _events() -> list[Any]:
    return [torch.cuda.Event() for _ in range(_staging.SLOTS)]
