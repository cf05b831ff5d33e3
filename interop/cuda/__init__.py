"""CUDA for several libraries at once: one stream for all of them, one pool of memory."""

from interop.cuda._pool import MemoryReport, Pool, cupy_pool, memory_report, torch_pool
from interop.cuda._stream import Stream, stream

__all__ = ["MemoryReport", "Pool", "Stream", "cupy_pool", "memory_report", "stream", "torch_pool"]
