"""What is the case for an array and a target before anything is permitted: the first half of the law (`interop_conformance.policy.law`)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from interop._model.description import CPU, Device
from interop_conformance.matrix.dtypes import DTYPES, itemsize_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from interop import Description
    from interop_conformance.policy.facts import Target

__all__ = ["Situation", "situation"]

WIDENS = {
    # The nearest dtype that holds every value, for those sources whose dtype a target lacks.
    ("float8_e4m3fn", "cupy"): "float16",
    ("float8_e5m2", "cupy"): "float16",
    ("complex32", "cupy"): "complex64",
    ("complex32", "jax"): "complex64",
    ("bfloat16", "array_api_strict"): "float32",
    ("float8_e4m3fn", "array_api_strict"): "float32",
    ("float8_e5m2", "array_api_strict"): "float32",
    ("complex32", "array_api_strict"): "complex64",
}
NARROWS = {
    # None holds every value: the widest of the same kind.
    ("longdouble", "torch"): "float64",
    ("longdouble", "cupy"): "float64",
    ("longdouble", "jax"): "float32",  # in its default configuration
    ("float64", "jax"): "float32",
    ("longdouble", "array_api_strict"): "float64",
}
EXTENSIONS = {
    # What a target knows as an extension only, and the smallest of its own that holds every value.
    ("bfloat16", "numpy"): "float32",
    ("float8_e4m3fn", "numpy"): "float16",
    ("float8_e5m2", "numpy"): "float16",
    ("complex32", "numpy"): "complex64",
    ("bfloat16", "cupy"): "float32",
}
READ_AS_NUMBERS = ("datetime64", "jax.")
"""How the names of those dtypes begin whose values their library casts, if a dtype is named: counts of days, packed integers."""


@dataclass(frozen=True)
class Situation:
    """What is the case before anything is permitted.

    Attributes
    ----------
    hopeless : frozenset of str
        The codes of what no permission lifts.
    tracked, masked, unit, dense, crosses : bool
        Autograd's tracking, a mask, a unit or a storage of another kind would be left behind; another device has to be reached unasked.
    casting : str
        What the dtype needs; empty if it can stay or is asked for by name.
    passes : bool
        The target cannot address the bytes as they are, on whichever device: new memory is needed for that alone.
    starts_off : bool
        The same, but for nothing else than the address at which they start.
    moves : bool
        The data change the device, asked for or not: the memory is new.
    inert : bool
        Its own library cannot copy it either: there are no data any more.
    held : str
        Which side holds the memory to be constant that the other can write to: ``"source"``, ``"target"``, ``"unsaid"`` where the
        producer cannot say and the target has no read-only arrays, or empty.
    sealable : bool
        A result that shares would let writes bypass autograd, or reach memory of which nobody said that it may be written; and the
        target can forbid writing.
    costs : frozenset of int
        The bytes that passes and move together copy; more than one where the design does not say what comes first.
    size : int
        The bytes of a plain copy.
    device, dtype
        Of the result.
    widened : Situation or None
        What is the case with ``extension="widen"``, if that is another.
    """

    hopeless: frozenset[str]
    tracked: bool
    masked: bool
    unit: bool
    dense: bool
    crosses: bool
    casting: str
    passes: bool
    starts_off: bool
    moves: bool
    inert: bool
    held: str
    sealable: bool
    costs: frozenset[int]
    size: int
    device: Device
    dtype: str
    widened: Situation | None = None


def situation(x: Description, target: Target) -> Situation:
    """Return what is the case for an array and a target."""
    case = _situation(x, target, widen=False)
    widened = _situation(x, target, widen=True)
    return case if widened == case else replace(case, widened=widened)


def _situation(x: Description, target: Target, *, widen: bool) -> Situation:
    holds = target.holds
    device = _device_of_result(x, target)
    foreign = x.backend != target.library
    have = (x.dense_dtype or x.dtype) if foreign else x.dtype
    dtype, casting = _dtype_of_result(have, target, widen=widen) if foreign else _dtype_within(x, target)
    moves = device != x.device and (x.no_data is None or not foreign)
    awry = foreign and _lies_awry(x, target)
    starts_off = foreign and _starts_off(x, target, device)
    passes = (
        list(_passes(x, target, have, dtype, awry=awry or starts_off))
        if foreign
        else [_bytes(x, dtype)] * _redone_within(x, target, have, dtype)
    )
    lands = foreign and _is_picky(target) and device == CPU and bool(passes or awry or starts_off or moves)
    needed = bool(awry or (foreign and list(_passes(x, target, have, dtype, awry=awry))) or (not foreign and passes))
    return Situation(
        hopeless=frozenset(_hopeless(x, target, device, foreign=foreign))
        | _out_of_reach(x, target, device, have, awry=awry or starts_off)
        | ({"dtype"} if casting == "impossible" else set()),
        tracked=foreign and (x.requires_grad or x.tangent),
        masked=foreign and x.masked,
        unit=foreign and bool(x.units),
        dense=foreign and x.layout != "strided" and x.densifies and x.no_data is None,
        crosses=moves and (target.device is None or target.like),
        casting="" if casting == "impossible" else casting,
        passes=needed,
        starts_off=starts_off and not needed,
        moves=moves,
        inert=not foreign and x.no_data == "deleted",
        held=_held(x, target) if foreign and device == x.device else "",
        sealable=foreign and (x.requires_grad or x.tangent or x.readonly is None) and holds.readonly_arrays and not holds.immutable,
        # A cast may come before the crossing or after it; the design does not say.
        costs=frozenset(
            sum(passes) + _bytes(x, arrives) * lands + moves * _carried(x, device, (have, leaves, dtype), by_host=bool(passes))
            for leaves in {have, dtype}
            for arrives in {have, dtype}
        ),
        size=_bytes(x, dtype),
        device=device,
        dtype=dtype,
    )


def _device_of_result(x: Description, target: Target) -> Device:
    """Return the device asked for; else the data stay where they are if the target can live there."""
    if target.device is not None:
        return target.device
    stays = x.device.type in target.holds.devices or x.backend == target.library
    return x.device if stays else Device(target.holds.default_device)


def _held(x: Description, target: Target) -> str:
    """Return which side holds the memory to be constant that the other can write to."""
    if not x.size and None not in x.shape:
        return ""
    if target.holds.immutable:
        return "" if x.readonly and not x.writable_base else "target"
    if target.holds.readonly_arrays:
        return ""
    return {True: "source", None: "unsaid", False: ""}[x.readonly]


def _dtype_within(x: Description, target: Target) -> tuple[str, str]:
    meant = target.dtype in (None, x.dtype) or (x.dense_dtype or x.dtype) in DTYPES or x.dtype.startswith(READ_AS_NUMBERS)
    return target.dtype or x.dtype, "" if meant else "impossible"


def _dtype_of_result(have: str, target: Target, *, widen: bool) -> tuple[str, str]:
    """Return the dtype of the result and the casting that it needs; ``"impossible"`` if there is none."""
    if target.dtype is not None:  # an explicit cast, which permits its loss; NumPy reads dates as their counts
        return target.dtype, "" if have in DTYPES or have.startswith(READ_AS_NUMBERS) else "impossible"
    if widen and (have, target.library) in EXTENSIONS:
        return EXTENSIONS[have, target.library], ""
    if have in target.holds.dtypes:
        return have, ""
    if (have, target.library) in WIDENS:
        return WIDENS[have, target.library], "safe"
    if (have, target.library) in NARROWS:
        return NARROWS[have, target.library], "same_kind"
    return have, "impossible"


def _unreadable(x: Description, target: Target) -> bool:
    """Whether the elements are such as the target cannot read; one pass puts that right, and casts on the way."""
    return x.scalar or (x.swapped and not target.holds.foreign_byte_order)


def _lies_awry(x: Description, target: Target) -> bool:
    """Whether the elements lie as the target's cannot; the same pass puts that right too."""
    holds = target.holds
    walked = [(step, extent or 0) for step, extent in zip(x.strides or (), x.shape, strict=False) if (extent or 0) > 1 and x.size]
    return (
        (any(step < 0 for step, _ in walked) and not holds.negative_strides)
        or (not x.aligned and not holds.unaligned)
        or (holds.compact and not _dense(walked))
    )


def _starts_off(x: Description, target: Target, device: Device) -> bool:
    """Whether the memory starts where the target takes none; that matters to who takes it, not to who copies it to another device."""
    return x.device == device and bool(x.size) and (x.pointer or 0) % target.holds.alignment_on(device) != 0


def _out_of_reach(x: Description, target: Target, device: Device, have: str, *, awry: bool) -> frozenset[str]:
    """Return the refusal of work that a producer would have to do on its device: it can be asked for nothing but the data."""
    stays = x.backend == "dlpack" and x.device != CPU and device == x.device and x.no_data is None
    cast = target.dtype is None and have not in target.holds.dtypes and (have, target.library) in WIDENS | NARROWS
    return frozenset({"layout"}) if stays and (awry or cast) else frozenset()


def _dense(walked: list[tuple[int, int]]) -> bool:
    """Whether every element of a block of memory is there once, in whatever order of the axes."""
    steps = sorted((abs(step), extent) for step, extent in walked)
    return all(step == math.prod(extent for _, extent in steps[:place]) for place, (step, _) in enumerate(steps))


def _is_picky(target: Target) -> bool:
    """Whether the target copies host memory by itself: what others make new need not start where it asks."""
    return target.holds.alignment_on(CPU) > 1


def _passes(x: Description, target: Target, have: str, dtype: str, *, awry: bool) -> Iterator[int]:
    """Return the bytes of each pass over the data before they cross: made dense, made plain, and all else at once."""
    if x.layout != "strided":
        yield _bytes(x, have)
    if x.pending:
        yield _bytes(x, have)
    if dtype != have or _unreadable(x, target) or (awry and not (_is_picky(target) and x.device == CPU)):
        yield _bytes(x, dtype)


def _redone_within(x: Description, target: Target, have: str, dtype: str) -> bool:
    return dtype != have or x.scalar or (x.swapped and target.dtype is not None)


def _hops(source: Device, destination: Device) -> int:
    """Return the number of crossings: between devices of two kinds the host lies in between."""
    return 2 if CPU not in (source, destination) and source.type != destination.type else 1


def _carried(x: Description, device: Device, dtypes: tuple[str, str, str], *, by_host: bool) -> int:
    """Return the bytes that cross on the way to another device; a bare producer can be asked for the host alone, in its own dtype."""
    have, moved, result = dtypes
    if x.backend == "dlpack" and x.device != CPU and (by_host or _hops(x.device, device) == 2):
        return _bytes(x, have) + (_bytes(x, result) if device != CPU else 0)
    return _bytes(x, moved) * _hops(x.device, device)


def _hopeless(x: Description, target: Target, device: Device, *, foreign: bool) -> Iterator[str]:
    if device.type not in target.holds.devices:
        yield "device-unavailable"
    # Within its library a tensor without data stays one; but what is on the meta device cannot leave it.
    if x.no_data is not None and (foreign or (x.no_data == "meta" and device != x.device)):
        yield "no-data"
    if foreign and x.layout != "strided" and not x.densifies and x.no_data is None:
        yield "layout"


def _bytes(x: Description, dtype: str) -> int:
    return x.size * itemsize_of(dtype) if dtype in DTYPES else x.nbytes
