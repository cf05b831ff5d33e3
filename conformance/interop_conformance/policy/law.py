"""The law of the permission table: what must come of a conversion, from what the array is and what the policy permits.

Written from the promises and the permission table of the design, not from interop's planner: first what is the case, whatever is
permitted (`Situation`), then what each permission makes of it (`verdict`). Where the design leaves room, the law does too.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from interop import Policy
from interop._model.description import CPU, Device
from interop_conformance.matrix.dtypes import DTYPES, itemsize_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from interop import Description
    from interop_conformance.policy.facts import Target

__all__ = ["TABLE", "Situation", "Verdict", "matters", "policies", "situation", "verdict"]

TABLE: dict[str, tuple[Any, ...]] = {
    "copy": (None, False, True),
    "grad": ("error", "detach"),
    "transfer": ("error", "allow"),
    "readonly": ("copy", "error", "share"),
    "casting": ("no", "safe", "same_kind"),
    "mask": ("error", "drop"),
    "layout": ("error", "dense"),
}
"""The permissions and their values, the default first, as the design has them."""

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
READ_AS_NUMBERS = ("datetime64", "jax.")
"""How the names of those dtypes begin whose values their library casts, if a dtype is named: counts of days, packed integers."""


@dataclass(frozen=True)
class Situation:
    """What is the case before anything is permitted.

    Attributes
    ----------
    hopeless : frozenset of str
        The codes of what no permission lifts.
    tracked, masked, dense, crosses : bool
        Autograd's tracking, a mask or a storage of another kind would be left behind; another device has to be reached unasked.
    casting : str
        What the dtype needs; empty if it can stay or is asked for by name.
    passes : bool
        The target cannot address the bytes as they are, on whichever device: new memory is needed for that alone.
    moves : bool
        The data change the device, asked for or not: the memory is new.
    inert : bool
        Its own library cannot copy it either: there are no data any more.
    readonly : bool
        The source is read-only, and the target has no read-only arrays.
    sealable : bool
        A result that shares would let writes bypass autograd, and the target can forbid writing.
    costs : frozenset of int
        The bytes that passes and move together copy; more than one where the design does not say what comes first.
    size : int
        The bytes of a plain copy.
    device, dtype
        Of the result.
    """

    hopeless: frozenset[str]
    tracked: bool
    masked: bool
    dense: bool
    crosses: bool
    casting: str
    passes: bool
    moves: bool
    inert: bool
    readonly: bool
    sealable: bool
    costs: frozenset[int]
    size: int
    device: Device
    dtype: str


class Verdict(NamedTuple):
    """What must come of it: refusals with the permissions that lift them (none if one is final), or a result."""

    codes: frozenset[str]
    permissions: tuple[tuple[str, Any], ...] = ()
    shared: bool = False
    costs: frozenset[int] = frozenset({0})
    sealed: bool = False
    place: tuple[Device, str] | None = None


def situation(x: Description, target: Target) -> Situation:
    """Return what is the case for an array and a target."""
    holds = target.holds
    device = _device_of_result(x, target)
    foreign = x.backend != target.library
    have = (x.dense_dtype or x.dtype) if foreign else x.dtype
    dtype, casting = _dtype_of_result(have, target) if foreign else (target.dtype or have, "")
    moves = device != x.device and (x.no_data is None or not foreign)
    awry = foreign and _lies_awry(x, target, device)
    passes = list(_passes(x, target, have, dtype, awry=awry)) if foreign else [_bytes(x, dtype)] * _redone_within(x, target, have, dtype)
    lands = foreign and _is_picky(target) and device == CPU and bool(passes or awry or moves)
    return Situation(
        hopeless=frozenset(_hopeless(x, target, device, foreign=foreign)) | ({"dtype"} if casting == "impossible" else set()),
        tracked=foreign and (x.requires_grad or x.tangent),
        masked=foreign and x.masked,
        dense=foreign and x.layout != "strided" and x.densifies and x.no_data is None,
        crosses=moves and (target.device is None or target.like),
        casting=casting if casting in TABLE["casting"] else "",
        passes=bool(passes or awry),
        moves=moves,
        inert=not foreign and x.no_data == "deleted",
        readonly=foreign and x.readonly and not holds.readonly_arrays and device == x.device,
        sealable=foreign and (x.requires_grad or x.tangent) and holds.readonly_arrays,
        # A cast may come before the crossing or after it; the design does not say.
        costs=frozenset(sum(passes) + _bytes(x, moved) * (moves * _hops(x.device, device) + lands) for moved in {have, dtype}),
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


def _dtype_of_result(have: str, target: Target) -> tuple[str, str]:
    """Return the dtype of the result and the casting that it needs; ``"impossible"`` if there is none."""
    if target.dtype is not None:  # an explicit cast, which permits its loss; NumPy reads dates as their counts
        return target.dtype, "" if have in DTYPES or have.startswith(READ_AS_NUMBERS) else "impossible"
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


def _lies_awry(x: Description, target: Target, device: Device) -> bool:
    """Whether the elements lie as the target's cannot; the same pass puts that right too."""
    holds = target.holds
    walked = [(step, extent or 0) for step, extent in zip(x.strides or (), x.shape, strict=False) if (extent or 0) > 1 and x.size]
    return (
        (any(step < 0 for step, _ in walked) and not holds.negative_strides)
        or (not x.aligned and not holds.unaligned)
        or (holds.compact and not _dense(walked))
        # Where memory starts matters to who takes it, not to who copies it to another device.
        or (x.device == device and bool(x.size) and (x.pointer or 0) % holds.alignment_on(device) != 0)
    )


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


def verdict(case: Situation, policy: Policy) -> Verdict:
    """Return what must come of it under a policy. Every obstacle is named, also beside another and beside a final one."""
    lifted: dict[str, Mapping[str, Any]] = dict(_obstacles(case, policy))
    dead = {"no-data"} if case.inert and (case.passes or case.moves or policy.copy is True) else set()
    codes = case.hopeless | dead | lifted.keys()
    if codes:
        permissions = {} if case.hopeless or dead else {name: value for words in lifted.values() for name, value in words.items()}
        return Verdict(codes, tuple(sorted(permissions.items())))
    if case.passes or case.moves:
        return Verdict(frozenset(), costs=case.costs, place=(case.device, case.dtype))
    if policy.copy is True or (case.readonly and policy.readonly == "copy"):
        return Verdict(frozenset(), costs=frozenset({case.size}), place=(case.device, case.dtype))
    return Verdict(frozenset(), shared=True, sealed=case.sealable and policy.readonly != "share", place=(case.device, case.dtype))


def _obstacles(case: Situation, policy: Policy) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Return the code of each thing that blocks the conversion, with what lifts it."""
    if case.masked and policy.mask == "error":
        yield "mask", {"mask": "drop"}
    if case.dense and policy.layout == "error":
        yield "layout", {"layout": "dense"}
    if case.tracked and policy.grad == "error":
        yield "grad", {"grad": "detach"}
    if case.casting and TABLE["casting"].index(policy.casting) < TABLE["casting"].index(case.casting):
        yield "dtype", {"casting": case.casting}
    if case.crosses and policy.transfer == "error":
        yield "transfer", {"transfer": "allow"}
    if case.passes and policy.copy is False:
        yield "copy", {"copy": True}
    if case.readonly and not case.passes and not case.moves and policy.copy is not True:
        never = {"copy": True} if policy.copy is False else {}
        if policy.readonly == "error":
            yield "readonly", {"readonly": "copy", **never}
        elif policy.readonly == "copy" and never:
            yield "readonly", never


@functools.cache
def policies() -> Mapping[tuple[Any, ...], Policy]:
    """Return every policy that the table has, by its values."""
    return {values: Policy(**dict(zip(TABLE, values, strict=True))) for values in product(*TABLE.values())}


def matters(case: Situation) -> tuple[str, ...]:
    """Return the permissions that change the verdict anywhere in the table, in its order."""
    # How many bytes, where and as what is no permission's business: without them few situations are left.
    return _matters(replace(case, costs=frozenset(), size=0, device=CPU, dtype=""))


@functools.cache
def _matters(case: Situation) -> tuple[str, ...]:
    table = {values: verdict(case, policy) for values, policy in policies().items()}
    return tuple(name for place, name in enumerate(TABLE) if _varies(table, place))


def _varies(table: Mapping[tuple[Any, ...], Verdict], place: int) -> bool:
    default = list(TABLE.values())[place][0]
    return any(answer != table[*values[:place], default, *values[place + 1 :]] for values, answer in table.items())
