"""Which objects a stream belongs to: CuPy and cuda.core destroy a stream with its object.

Memory that is in use on a stream needs it until it is released: its pool asks then how far the stream has come.
"""

from __future__ import annotations

import contextlib
import numbers
import threading
import weakref
from typing import Any

from interop.dlpack import PER_THREAD, stream_number


def cuda_stream_number(stream: Any, index: int | None = None) -> int:
    """Return the number of a stream (`interop.dlpack.stream_number`), and remember the object that it may belong to."""
    number = stream_number(stream, index)
    if not isinstance(stream, numbers.Integral):
        register_owner(stream, number)
    return number


def register_owner(stream: Any, pointer: int) -> None:
    """Remember an object that a stream may belong to, for as long as it lives."""
    if pointer > PER_THREAD and not hasattr(stream, "cuda_stream"):  # torch never destroys its streams
        if any(one() is stream for one in _owners.get(pointer, ())):
            return
        with _adding, contextlib.suppress(TypeError):  # of a class without weak references
            living = (one for one in _owners.get(pointer, ()) if one() is not None)
            _owners[pointer] = (*living, weakref.ref(stream))


def stream_owners(number: int) -> tuple[Any, ...]:
    """Return the objects of which one owns a stream; which of them cannot be known.

    Such an object is often short-lived (``with cupy.cuda.Stream():``), so what defers a release holds it.
    """
    known = _owners.get(number, ())
    return tuple(one for one in (each() for each in known) if one is not None) if known else ()


_owners: dict[int, tuple[weakref.ref[Any], ...]] = {}
_adding = threading.RLock()  # the garbage collector may run a finaliser in the middle of it
