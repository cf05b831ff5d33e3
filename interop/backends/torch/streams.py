"""torch's current device and stream, for a block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from interop._model.scope import block, undone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@block
def current(index: int, stream: Callable[[], torch.cuda.Stream] | None = None) -> Iterator[None]:
    """Make a device the current one, and a stream its current one, which is made there; both are as before after it."""
    # torch's own contexts know what to go back to when they have been entered. An interrupt may come before that.
    device, before = torch.cuda.current_device(), torch.cuda.current_stream(index) if stream is not None else None

    def undo() -> None:
        if before is not None and torch.cuda.current_stream(index) != before:
            torch.cuda.set_stream(before)  # which makes its device the current one
        if torch.cuda.current_device() != device:
            torch.cuda.set_device(device)

    with undone(undo), torch.cuda.device(index), torch.cuda.stream(stream() if stream is not None else None):
        yield
