"""The libraries that have current streams and pools of their own on a CUDA device."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from interop._model.description import Device
from interop.backends import BUILTIN, load_backend
from interop.errors import DeviceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interop.backends.base import Backend
    from interop.backends.cuda.types import PoolUse


def imported() -> list[Backend]:
    """Return those that are imported; to import one here would take seconds, for nothing."""
    there = [load_backend(name) for name in BUILTIN if name in sys.modules]
    return [backend for backend in there if backend.has_streams]


def device_of(device: Any, libraries: list[Backend]) -> Device:
    """Return the device that is meant, the current one for None."""
    if device is None:
        return Device("cuda", current_index(libraries))
    return libraries[0].parse_device(device) if libraries else Device.parse(str(device), index=0)


def current_index(libraries: list[Backend]) -> int:
    """Return the index of the current device, which the libraries have in common: it is CUDA's."""
    return libraries[0].current_index() if libraries else 0


def usable(libraries: Sequence[Backend], where: Device, what: str) -> list[Backend]:
    """Return those that can use a device; DeviceUnavailableError, which says what there is not then, if none can."""
    reasons = {library.name: library.why_unavailable(where) for library in libraries}
    found = [library for library in libraries if reasons[library.name] is None]
    if not found:
        said = "; ".join(why for why in reasons.values() if why) or "neither torch nor CuPy is imported"
        raise DeviceUnavailableError(
            f"there is no {what} on {where}: {said}.", hint="Import torch or CuPy first, and run `interop doctor`."
        )
    return found


def memory_of(libraries: Sequence[Backend], where: Device) -> tuple[int, int, dict[str, PoolUse]]:
    """Return how many bytes of a device are free, how many it has, and what the pools of these libraries hold of it."""
    free, total = libraries[0].free_memory(where)
    return free, total, {name: use for library in libraries for name, use in library.pools(where).items()}
