"""CUDA for several libraries at once: one stream for all of them, one pool of memory."""

from typing import Any

from interop._model.spelling import no_attribute
from interop.cuda._pool import MemoryReport, Pool, cupy_pool, memory_report, torch_pool
from interop.cuda._stream import Stream, stream

__all__ = ["MemoryReport", "Pool", "Stream", "cupy_pool", "memory_report", "stream", "torch_pool"]


def __getattr__(name: str) -> Any:
    raise no_attribute(__name__, name, __all__)
