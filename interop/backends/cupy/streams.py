"""CuPy's own stream objects for the numbers that ``__dlpack__(stream=...)`` takes."""

from __future__ import annotations

import functools
import itertools
import operator
from typing import TYPE_CHECKING, Any

import cupy

from interop._model.scope import block, undone
from interop.backends.cuda.streams import stream_owners
from interop.dlpack import LEGACY, PER_THREAD

if TYPE_CHECKING:
    from collections.abc import Iterator

_HAS_PROTOCOL = int(cupy.__version__.partition(".")[0]) >= 14


class _StreamNumber:
    """A stream pointer in the words of the ``__cuda_stream__`` protocol."""

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._pointer


def native_stream(number: int) -> Any:
    """Return CuPy's stream of a number; on the device that is current.

    The same object each time: memory of CuPy's stream-ordered allocator refers to the object weakly, and is freed in the order of
    whatever stream is current when it is gone.
    """
    if number == LEGACY:
        return cupy.cuda.Stream.null
    if number == PER_THREAD:
        return cupy.cuda.Stream.ptds
    owner = next((one for one in stream_owners(number) if isinstance(one, cupy.cuda.Stream)), None)
    return _external(number, cupy.cuda.runtime.getDevice()) if owner is None else owner


@block
def current(number: int) -> Iterator[None]:
    """Make a stream the current one of the current device, and the one before again after that."""
    before, index = cupy.cuda.get_current_stream(), cupy.cuda.runtime.getDevice()
    if before.ptr == (0 if number == LEGACY else number):
        yield  # not under another name: CuPy's stream-ordered memory refers to the object
        return
    inside, entered = native_stream(number), list[Any]()

    def undo() -> None:
        with cupy.cuda.Device(index):  # whichever is current by now
            # Taken off and left in one call of C too: one that was taken off and not left would stay in CuPy's stack of streams.
            list(map(operator.methodcaller("__exit__", None, None, None), map(list.pop, itertools.repeat(entered, len(entered)))))
            # CuPy 14 goes back to the stream that was entered last, and forgets one of `Stream.use()` (known issue `cupy-with-forgets-use`).
            if cupy.cuda.get_current_stream().ptr != before.ptr:
                before.use()

    with undone(undo):
        # Entered and noted in one call of C, between which no interrupt comes.
        entered.extend(map(operator.methodcaller("__enter__"), (inside,)))
        yield


@functools.cache
def _external(number: int, device: int) -> Any:  # noqa: ARG001 - streams of two devices may have had one number
    made = cupy.cuda.Stream.from_external(_StreamNumber(number)) if _HAS_PROTOCOL else cupy.cuda.ExternalStream(number)
    _aliases.add(id(made))
    return made


_aliases: set[int] = set()


def is_alias(stream: Any) -> bool:
    """Return whether it is an object that was made here for a number, to which the stream does not belong."""
    return id(stream) in _aliases
