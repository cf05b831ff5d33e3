"""torch's tensors on their way from a CUDA device to the host: one without waiting, and many small ones together."""

from __future__ import annotations

from typing import Any

import torch

from interop.backends.cuda.copies import Departure, split
from interop.backends.cuda.driver import relaxed
from interop.backends.numpy.backend import native_dtype
from interop.backends.torch.copies import is_dense, refuse_capture
from interop.backends.torch.release import hold, under_way

__all__ = ["depart", "fetch"]


def depart(x: Any, origin: Any) -> Departure:
    """Begin a copy to page-locked memory on the current stream of the current device, which is the tensor's.

    That memory is torch's, which does not hand it out again while a copy goes to it. Where the strides are without gaps they stay.
    `origin` is what the tensor may have been made of.
    """
    refuse_capture()
    under_way.settle()
    if not is_dense(x):
        origin, x = (origin, x), x.contiguous()  # on the device: torch would pack it on the host else, and wait for that
    host = torch.empty_like(x, device="cpu", pin_memory=True)
    host.copy_(x, non_blocking=True)
    stream = torch.cuda.current_stream()
    # The pool of page-locked memory asks the stream when it gets it back, as that of the device does.
    hold(host, stream.cuda_stream)
    event = torch.cuda.Event()
    event.record(stream)
    # The tensor may be of another stream, or on memory that is not torch's, and may be dropped before the copy has ended.
    under_way.keep((torch.cuda.current_device(), stream.cuda_stream), event.query, (origin, x))
    return Departure(host, relaxed(event.query), relaxed(event.synchronize, under_way.settle))


def fetch(tensors: list[Any]) -> list[Any]:
    """Return the values of tensors without gaps as NumPy arrays of their own, in one transfer on the current stream."""
    refuse_capture()
    packed = torch.cat([x.reshape(-1).view(torch.uint8) for x in tensors])
    host = torch.empty(packed.nbytes, dtype=torch.uint8, pin_memory=True)
    host.copy_(packed, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    event.synchronize()
    return split(host.numpy(), [(native_dtype(str(x.dtype).removeprefix("torch.")), x.shape) for x in tensors])
