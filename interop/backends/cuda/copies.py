"""Many small copies to the host in one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SMALL = 1 << 20
"""Bytes up to which an array travels with others: on the device it is copied once more."""

PACK = 64 << 20
"""Bytes that travel together at most."""


def packs(arrays: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield arrays in groups that travel together, in order."""
    group: list[Any] = []
    size = 0
    for x in arrays:
        if group and size + x.nbytes > PACK:
            yield group
            group, size = [], 0
        group.append(x)
        size += x.nbytes
    if group:
        yield group


def split(packed: Any, forms: Sequence[tuple[Any, tuple[int, ...]]]) -> list[Any]:
    """Return an array of its own for each (dtype, shape), from bytes that lie one behind the other in this order."""
    made, low = [], 0
    for dtype, shape in forms:
        high = low + dtype.itemsize * math.prod(shape)
        # The copy is aligned, and keeps nothing of the others alive.
        made.append(packed[low:high].copy().view(dtype).reshape(shape))
        low = high
    return made
