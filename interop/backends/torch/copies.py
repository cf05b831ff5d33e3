"""torch's large crossings between a CUDA device and the host's pageable memory, on the current stream of the current device."""

from __future__ import annotations

from typing import Any

import torch

from interop.backends.cuda import staging as _staging
from interop.errors import StreamError

__all__ = ["is_dense", "refuse_capture", "to_device", "to_host"]


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

    def fetch(slot: int, low: int, high: int) -> None:
        buffers[slot][: high - low].copy_(source[low:high], non_blocking=True)
        events[slot].record()

    def take_out(slot: int, low: int, high: int) -> None:
        events[slot].synchronize()
        made[low:high].copy_(buffers[slot][: high - low])

    _staging.through(x.nbytes, fetch, take_out)
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
    # torch keeps page-locked memory for the next time, and does not hand it out while a copy reads or writes it.
    return [torch.empty(_staging.CHUNK, dtype=torch.uint8, pin_memory=True) for _ in range(_staging.SLOTS)]


def _events() -> list[Any]:
    return [torch.cuda.Event() for _ in range(_staging.SLOTS)]
