"""What a library can hold, as data: the other input of every decision, next to the description.

A backend file declares one of these for its library. "Can hold" is meant in principle, on some machine:
whether a device is really there is asked at the last moment, from the backend.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from interop._model.description import Device


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What arrays of a library can be.

    Attributes
    ----------
    name, title : str
        The backend's name in calls, and the library's name in sentences.
    dtypes : frozenset of str
        Canonical names of the dtypes that it has.
    devices : frozenset of str
        Device types that its arrays can live on.
    default_device : str
        The device type that data go to when they cannot stay where they are.
    lacking : mapping of str to frozenset of str
        Dtypes that are missing on a device type (``"mps"``) or on one device (``"ext:2"``).
    packed : frozenset of str
        Dtypes of DLPack with several elements to a byte that its own import takes as they are, and that nobody else reads.
    extension : frozenset of str
        Those of its dtypes that come from elsewhere (``ml_dtypes``), and that not all of its own functions take.
    immutable : bool
        Whether nobody can write to any of its arrays, so that its own code takes their memory to be constant.
    only_to_host : bool
        Whether all that can be asked of it on a device is to bring the data to the host, or to share them as they are.
    readonly_arrays, negative_strides, foreign_byte_order, unaligned, odd_strides : bool
        Whether an array can be read-only, walk backwards, be byte-swapped, be unaligned, and have strides
        that are not whole elements.
    casts_opaque : tuple of str
        How the names of those dtypes begin that have no numeric meaning, and whose values it may still read as
        numbers (objects, strings); whether it can is seen only when it does.
    axes : int
        The most axes that an array can have.
    alignment : mapping of str to int
        Bytes, by device type; memory that starts elsewhere than at a multiple of it cannot be taken as it is.
    compact : bool
        Whether memory must be without gaps, repeats and reversals: C order, or the same with the axes permuted.
    shares : bool
        Whether it can take host memory of others as its own; a library that cannot copies it.
    wraps : str
        The library inside, where its arrays are wrappers around those of another.
    why_lacking : mapping of str to str
        Why a dtype is missing that the library could have, and how to get it.
    """

    name: str
    title: str
    dtypes: frozenset[str]
    devices: frozenset[str]
    default_device: str = "cpu"
    lacking: Mapping[str, frozenset[str]] = field(default_factory=dict)
    packed: frozenset[str] = frozenset()
    extension: frozenset[str] = frozenset()
    immutable: bool = False
    only_to_host: bool = False
    readonly_arrays: bool = False
    negative_strides: bool = False
    foreign_byte_order: bool = False
    unaligned: bool = False
    odd_strides: bool = False
    axes: int = 64
    alignment: Mapping[str, int] = field(default_factory=dict)
    compact: bool = False
    shares: bool = True
    wraps: str = ""
    why_lacking: Mapping[str, str] = field(default_factory=dict)
    casts_opaque: tuple[str, ...] = ()

    def dtypes_on(self, device: Device) -> frozenset[str]:
        """Return the dtypes that the library has on a device."""
        nothing: frozenset[str] = frozenset()
        return self.dtypes - self.lacking.get(device.type, nothing) - self.lacking.get(str(device), nothing)

    def alignment_on(self, device: Device) -> int:
        """Return the bytes at a multiple of which memory of a device has to start."""
        return self.alignment.get(device.type, 1)

    def has_no_numbers(self, dtype: str) -> bool:
        """Return whether elements of a dtype are no numbers in this library either: strings, dates, objects."""
        return bool(self.casts_opaque) and dtype.startswith(self.casts_opaque) and not _NUMBERS.match(dtype)


_NUMBERS = re.compile(r"\w+\.(u?int|float)\d")  # a library's own, as jax.int4
