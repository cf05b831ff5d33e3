"""A stream, however it is given, as the number that ``__dlpack__(stream=...)`` takes.

Source: the array API standard's `__dlpack__`, and the ``__cuda_stream__`` protocol of cuda.core, which torch
(2.10 and newer) and CuPy (14 and newer) speak; the attributes are what older CuPy streams have.
"""

from __future__ import annotations

import contextlib
import numbers
import threading
import weakref
from typing import Any

from interop.errors import StreamError

__all__ = ["LEGACY", "PER_THREAD", "cuda_stream_device", "cuda_stream_number", "register_owner", "stream_owners"]

LEGACY = 1
"""The legacy default stream in the standard's numbering; a native pointer of 0 means this one."""

PER_THREAD = 2
"""The default stream of each thread, in the standard's numbering and in CUDA's own."""

_MEANINGS = "The standard's values are None, -1 (no synchronisation), 1 (legacy), 2 (per-thread) and a pointer greater than 2."


def cuda_stream_number(stream: Any, index: int | None = None) -> int:
    """Return the standard's number for an int or a native stream object; StreamError if it is neither, or of another device than the one of an index."""
    if not isinstance(stream, bool) and isinstance(stream, numbers.Integral):  # NumPy's too; an array of one is none
        number = int(stream)
        if number == 0 or number < -1:
            raise StreamError(f"stream={number} is not a CUDA stream: 0 is ambiguous and others are undefined.", hint=_MEANINGS)
        return number
    pointer = _pointer(stream)
    if pointer is None:
        raise StreamError(f"{stream!r} is not a stream.", hint=_MEANINGS)
    own = cuda_stream_device(stream)
    if index is not None and own is not None and own != index:
        raise StreamError(
            f"the stream is on cuda:{own}, and the data are on cuda:{index}.", hint="Pass a stream of the device of the data."
        )
    register_owner(stream, pointer)
    return pointer or LEGACY


def register_owner(stream: Any, pointer: int) -> None:
    """Remember an object that a stream may belong to, for as long as it lives."""
    if pointer > PER_THREAD and not hasattr(stream, "cuda_stream"):  # torch's streams are there for good
        if any(one() is stream for one in _owners.get(pointer, ())):
            return
        with _adding, contextlib.suppress(TypeError):  # of a class without weak references
            living = (one for one in _owners.get(pointer, ()) if one() is not None)
            _owners[pointer] = (*living, weakref.ref(stream))


def stream_owners(number: int) -> tuple[Any, ...]:
    """Return the objects of which one has to live for a stream to be there: which of them nobody can tell.

    A stream of CuPy's or of cuda.core is destroyed with its object, which often is a short-lived one (``with cupy.cuda.Stream():``).
    Memory that was handed to work on it needs it until it is let go of: its pool asks then how far the stream has come. So whoever
    lends memory to a stream holds this object.
    """
    known = _owners.get(number, ())
    return tuple(one for one in (each() for each in known) if one is not None) if known else ()


_owners: dict[int, tuple[weakref.ref[Any], ...]] = {}
_adding = threading.RLock()  # the garbage collector may run a finaliser in the middle of it


def _pointer(stream: Any) -> int | None:
    protocol = getattr(stream, "__cuda_stream__", None)
    if callable(protocol):
        return int(protocol()[1])
    if hasattr(stream, "wait_event"):  # an event and an array's memory have a pointer too
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
