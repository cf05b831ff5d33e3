"""CUDA for several libraries at once: one stream for all of them."""

from interop.cuda._stream import Stream, stream

__all__ = ["Stream", "stream"]
