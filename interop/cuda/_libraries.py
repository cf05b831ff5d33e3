"""The libraries that have current streams and pools of their own on a CUDA device."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from interop.backends import BUILTIN, load_backend
from interop.description import Device

if TYPE_CHECKING:
    from interop.backends._base import Backend

__all__ = ["current_index", "device_of", "imported"]


def imported() -> list[Backend]:
    """Return those that are imported; to import one here would take seconds, for nothing."""
    there = [load_backend(name) for name in BUILTIN if name in sys.modules]
    return [backend for backend in there if backend.has_streams]


def device_of(device: Any, libraries: list[Backend]) -> Device:
    """Return the device that is meant, the current one for None."""
    if device is None:
        return Device("cuda", current_index(libraries))
    return libraries[0].device_of(device) if libraries else Device.parse(str(device), index=0)


def current_index(libraries: list[Backend]) -> int:
    """Return the index of the current device, which the libraries have in common: it is CUDA's."""
    return libraries[0].current_index() if libraries else 0
