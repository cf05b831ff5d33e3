"""Deliberate faults in interop, one for each promise that the enumeration watches over."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from interop._model.scope import Entry, put
from interop.backends.numpy.backend import NumPyBackend
from interop.backends.torch.backend import TorchBackend

if TYPE_CHECKING:
    from collections.abc import Callable


def hide(backend: type, **fields: Any) -> Callable[[], None]:
    """Let a backend not see a state of its arrays."""

    def apply() -> None:
        honest = backend.describe
        backend.describe = lambda self, x: honest(self, x).replace(**fields)

    return apply


_FOR_GOOD: list[Any] = []
"""Blocks that stay open as long as the process: one that nobody holds would be closed."""


def replace(backend: type, verb: str, faulty: Callable[..., Any]) -> Callable[[], None]:
    """Let a backend do a verb wrongly; the fast paths are off, so that the verb is reached."""

    def apply() -> None:
        block = put(Entry("sabotage", None))
        _FOR_GOOD.append(block)
        block.__enter__()
        setattr(backend, verb, faulty(getattr(backend, verb)))

    return apply


def touching(honest: Callable[..., Any]) -> Callable[..., Any]:
    def host_view(self: Any, x: Any) -> Any:
        view = honest(self, x)
        x.add_(1)
        return view

    return host_view


def raising(honest: Callable[..., Any]) -> Callable[..., Any]:
    def host_view(self: Any, x: Any) -> Any:
        raise KeyError("x")

    return host_view


def aborting(honest: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, x: os.abort()


def forget_recipe() -> None:
    from interop._engine import call

    call.merged_permissions = lambda refusals: {"mask": "drop"}


SABOTAGES: dict[str, Callable[[], None]] = {
    "resolve the wrong way": replace(TorchBackend, "resolve", lambda honest: lambda self, x: -honest(self, x)),
    "forget grad": hide(TorchBackend, requires_grad=False),
    "forget mask": hide(NumPyBackend, masked=False),
    "forget read-only": hide(NumPyBackend, readonly=False),
    "forget protection": replace(NumPyBackend, "protect", lambda honest: lambda self, x: x),
    "touch the source": replace(TorchBackend, "host_view", touching),
    "always copy": replace(TorchBackend, "host_view", lambda honest: lambda self, x: honest(self, x).copy()),
    "raise something else": replace(TorchBackend, "host_view", raising),
    "a recipe that does not help": forget_recipe,
    "abort": replace(TorchBackend, "host_view", aborting),
}
