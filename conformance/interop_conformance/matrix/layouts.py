"""The memory layouts of the matrix: each a compact array's shape, and the view to take of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LAYOUTS", "Layout"]


class Layout(NamedTuple):
    """`view` is taken of a compact array of shape `base`, by what every array object has; `meaning` is for people."""

    name: str
    meaning: str
    base: tuple[int, ...]
    view: Callable[[Any], Any]


def _same(x: Any) -> Any:
    return x


def _transposed(x: Any) -> Any:
    return x.T


def _corner(x: Any) -> Any:
    return x[1:, 1:]


def _stepped(x: Any) -> Any:
    return x[:, ::2]


def _reversed(x: Any) -> Any:
    return x[::-1]


def _reversed_last(x: Any) -> Any:
    return x[..., ::-1]


def _broadcast(x: Any) -> Any:
    return np.broadcast_to(x, (3, *np.shape(x)))


def _unaligned(x: Any) -> Any:
    values = np.ascontiguousarray(x)
    raw = np.zeros(values.nbytes + 1, "uint8")[1:]
    raw[:] = values.reshape(-1).view("uint8")
    return raw.view(values.dtype).reshape(values.shape)


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("compact", "row-major, nothing between the elements", (2, 3), _same),
        Layout("1d", "one axis", (6,), _same),
        Layout("0d", "no axis", (), _same),
        Layout("empty", "no elements", (0, 3), _same),
        Layout("5d", "five axes, three of them of length 1", (1, 2, 1, 3, 1), _same),
        Layout("transposed", "column-major", (3, 2), _transposed),
        Layout("offset", "starts inside its buffer", (3, 4), _corner),
        Layout("stepped", "every second element", (2, 6), _stepped),
        Layout("reversed", "a negative stride", (2, 3), _reversed),
        Layout("reversed-length-1", "a negative stride that moves nothing", (1, 3), _reversed),
        Layout("mirrored", "a negative stride in the last axis, as in BGR to RGB", (2, 3), _reversed_last),
        Layout("broadcast", "a stride of 0", (2,), _broadcast),
        Layout("unaligned", "an address that is no multiple of the element's size", (2, 3), _unaligned),
    )
}
"""Every layout by name, in the order of tables. The views are written for NumPy, as the reference; an adapter's `lay` takes the
library's own where indexing does not do. A view that NumPy makes of another library's array is NumPy's, and not handed over."""
