"""One stream for all libraries that have a current one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interop._model.description import Device
from interop._model.scope import block, nested
from interop.cuda._libraries import device_of, imported, usable
from interop.dlpack import stream_device, stream_number
from interop.errors import StreamError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Stream:
    """A stream that is current for several libraries.

    Attributes
    ----------
    pointer : int
        The ``cudaStream_t``; 1 for the legacy default stream and 2 for the one of each thread, as CUDA itself has them.
    device : Device
        The device that it is on.
    libraries : tuple of str
        Whose current stream it is.
    """

    pointer: int
    device: Device
    libraries: tuple[str, ...]

    def __cuda_stream__(self) -> tuple[int, int]:
        """Return it in the protocol of cuda.core, which torch 2.10 and CuPy 14 take too."""
        return 0, self.pointer


@block
def stream(s: Any = None, /, *, device: Any = None) -> Iterator[Stream]:
    """Make one stream the current one of torch and CuPy, and its device the current device; both are as before after it.

    On one stream everything is in order, so nothing waits for anything: a handoff inside costs no event, and memory goes back to its pool at once.
    As with `torch.cuda.stream`, work from before is not waited for. Current streams belong to a thread, in each library.

    Parameters
    ----------
    s : stream or int, optional
        A stream of torch, CuPy or cuda.core, or the number that ``__dlpack__`` takes. Default: torch's current stream, and
        CuPy's if torch was not imported.
    device : str or native device, optional
        The device of a number. Default: the stream's own device; if it does not say, the current one.

    Returns
    -------
    context manager of Stream
        It is entered with the libraries that are imported by then, and can be given to others: ``numba.cuda.external_stream(s.pointer)``,
        as numba has no current stream.

    Raises
    ------
    StreamError
        If it is no stream, or one of another device.
    DeviceUnavailableError
        If no library that is imported can use the device.

    Examples
    --------
    >>> import cupy, torch
    >>> with stream(torch.cuda.Stream()):  # doctest: +SKIP
    ...     t = torch.ones(3, device="cuda")
    ...     kernel((1,), (3,), (interop.to_cupy(t),))  # right behind the line before
    """
    if s is not None and stream_number(s) == -1:
        raise StreamError(
            "stream=-1 asks for no synchronisation, and is no stream that could be current.", hint="Pass a stream, or nothing."
        )
    where = _device(s, device)
    libraries = usable(imported(), where, "stream")
    pointer = libraries[0].stream_pointer(s, where)
    assert pointer is not None, "a library that can use the device has a stream there"
    with nested(*[library.on_stream(pointer, where) for library in libraries]):
        yield Stream(pointer, where, tuple(library.name for library in libraries))


def _device(s: Any, device: Any) -> Device:
    own = None if s is None else stream_device(s)
    if device is None and own is not None:
        return Device("cuda", own)
    where = device_of(device, imported())
    if where.type != "cuda":
        raise StreamError(f"device={device!r} has no CUDA streams.", hint="Name a CUDA device: device='cuda:0'.")
    if own not in (None, where.index):
        raise StreamError(f"the stream is on cuda:{own}, and device={device!r}.", hint="Leave device= out.")
    return where
