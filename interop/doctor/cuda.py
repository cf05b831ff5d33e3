"""The CUDA part of ``interop doctor``: driver, runtimes, and the devices with who holds their memory."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from interop._model.description import Device
from interop.cuda._libraries import memory_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from interop.backends.base import Backend
    from interop.backends.cuda.types import CudaView

__all__ = ["EMPTY", "cuda_state", "disagreements"]

EMPTY: dict[str, Any] = {"driver": None, "agree": None, "runtimes": [], "devices": []}
"""The answer where no library sees a device."""


def cuda_state(views: Mapping[str, CudaView], backends: Mapping[str, Backend]) -> dict[str, Any]:
    """Return the state of CUDA as plain data: each library's view of it, put side by side."""
    if not views:
        return EMPTY
    first = next(iter(views.values()))
    majors = {view.runtime.partition(".")[0] for view in views.values()}
    runtimes = [{"library": name, "version": view.runtime, "allocator": view.allocator} for name, view in views.items()]
    devices = [
        {"index": index, "name": card.name, "bus": card.bus, "peers": list(card.peers), **_memory(index, views, backends)}
        for index, card in enumerate(first.cards)
    ]
    return {"driver": first.driver, "agree": len(majors) == 1, "runtimes": runtimes, "devices": devices}


def _memory(index: int, views: Mapping[str, CudaView], backends: Mapping[str, Backend]) -> dict[str, Any]:
    """Return who holds the memory of a device; only of the current one, because to ask makes a context, which takes memory itself."""
    asked = [backends[name] for name in views]
    if index != asked[0].current_index():
        return {"free": None, "total": None, "pools": []}
    free, total, pools = memory_of(asked, Device("cuda", index))
    return {"free": free, "total": total, "pools": [{"name": name, "used": used, "held": held} for name, (used, held) in pools.items()]}


def disagreements(views: Mapping[str, CudaView]) -> list[str]:
    """Return what is wrong between the libraries, in sentences: an index that means another card to each, say."""
    found = []
    for (first, one), (name, other) in pairwise(views.items()):
        here, there = [card.bus for card in one.cards], [card.bus for card in other.cards]
        if len(here) != len(there):
            found.append(f"{first} sees {len(here)} CUDA devices and {name} {len(there)}. {_VISIBLE}")
        elif here != there:
            found.append(f"cuda:0 of {first} is another card than cuda:0 of {name}, or another one is. {_VISIBLE}")
    return found


_VISIBLE = "Set CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER before Python starts, and not in between"
