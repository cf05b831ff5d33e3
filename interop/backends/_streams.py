"""A stream, however it is given, as the number that ``__dlpack__(stream=...)`` takes.

Source: the array API standard's `__dlpack__`, and the ``__cuda_stream__`` protocol of cuda.core, which torch
(2.10 and newer) and CuPy (14 and newer) speak; the attributes are what older CuPy streams have.
"""

from __future__ import annotations

import contextlib
import weakref
from typing import Any

from interop.errors import StreamError

__all__ = ["LEGACY", "PER_THREAD", "cuda_stream_device", "cuda_stream_number", "holder_of", "seen"]

LEGACY = 1
"""The legacy default stream in the standard's numbering; a native pointer of 0 means this one."""

PER_THREAD = 2
"""The default stream of each thread, in the standard's numbering and in CUDA's own."""

_MEANINGS = "The standard's values are None, -1 (no synchronisation), 1 (legacy), 2 (per-thread) and a pointer greater than 2."


def cuda_stream_number(stream: Any) -> int:
    """Return the standard's number for an int or a native stream object; StreamError if it is neither."""
    if isinstance(stream, int) and not isinstance(stream, bool):
        if stream == 0 or stream < -1:
            raise StreamError(f"stream={stream} is not a CUDA stream: 0 is ambiguous and others are undefined.", hint=_MEANINGS)
        return stream
    pointer = _pointer(stream)
    if pointer is None:
        raise StreamError(f"{stream!r} is not a stream.", hint=_MEANINGS)
    seen(stream, pointer)
    return pointer or LEGACY


def seen(stream: Any, pointer: int) -> None:
    """Remember the object that a stream belongs to, for as long as it lives; of several the first."""
    if pointer > PER_THREAD and pointer not in _holders and not hasattr(stream, "cuda_stream"):  # torch's streams are there for good
        with contextlib.suppress(TypeError):  # of a class without weak references
            _holders[pointer] = stream


def holder_of(number: int | None) -> Any:
    """Return the object that has to live for a stream to be there, or None.

    A stream of CuPy's or of cuda.core is destroyed with its object, which often is a short-lived one (``with cupy.cuda.Stream():``).
    Memory that was handed to work on it needs it until it is let go of: its pool asks then how far the stream has come. So whoever
    lends memory to a stream holds this object.
    """
    return _holders.get(number) if number is not None and number > PER_THREAD else None


_holders: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def _pointer(stream: Any) -> int | None:
    protocol = getattr(stream, "__cuda_stream__", None)
    if callable(protocol):
        return int(protocol()[1])
    for attribute in ("cuda_stream", "ptr"):
        found = getattr(stream, attribute, None)
        if isinstance(found, int):
            return found
    return None


def cuda_stream_device(stream: Any) -> int | None:
    """Return the index of the device that a native stream object says it is on; None if it says none, as a number does."""
    for holder, attribute in ((stream, "device_index"), (stream, "device_id"), (getattr(stream, "device", None), "device_id")):
        found = getattr(holder, attribute, None)
        if isinstance(found, int) and found >= 0:  # CuPy's default streams say -1: they are on every device
            return found
    found = getattr(getattr(stream, "device", None), "index", None)  # interop's own
    return found if isinstance(found, int) else None
