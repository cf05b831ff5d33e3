"""The steps of a plan, written once it is known that they may be taken (`interop._model.decide`). Pure.

The source library prepares the data (densify, resolve, cast or copy, leave its device), the border is
crossed on memory that both can address, and the target library does what is left (arrive, cast, copy,
protect). Memory is copied at most where a step says so.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from interop._model.description import CPU, Description, Device
from interop._model.dtypes import DTYPES, fallback
from interop._model.plan import Plan, Request, Step
from interop.errors import DTypeError, Refusal, TransferError

if TYPE_CHECKING:
    from interop._model.capabilities import Capabilities
    from interop.errors import InteropError

NEVER_ALIASES = "copy=True never aliases"
SCALAR = "a scalar has no buffer to share"


def why_constant(description: Description, request: Request) -> tuple[str, bool] | None:
    """Return why one side holds the memory to be constant that the other could write to, and whether that takes a copy; None if neither does."""
    target, title = request.target, request.target.title
    if not description.size and None not in description.shape:
        return None  # there is nothing to write to
    if target.immutable:
        if description.constant:
            return None
        writable = "is a view of memory that can be written to" if description.readonly else "can be written to"
        return f"{title} arrays are immutable, and the source {writable}", True
    if target.readonly_arrays or description.readonly is False:
        return None
    if description.readonly is None:
        return f"the producer cannot say whether its memory is read-only, and {title} has no read-only arrays", False
    return f"the source is read-only, and {title} has no read-only arrays", True


def only_aligned(target: Capabilities, device: Device) -> str:
    """Return why memory that starts elsewhere is copied."""
    return f"{target.title} takes only memory that is aligned to {target.alignment_on(device)} bytes"


_ALWAYS_COPIES = "copies all host memory that it is given"


class Draft:
    """A plan in the making: what is known so far, the steps, and what blocks it."""

    def __init__(self, description: Description, request: Request, device: Device, dtype: str) -> None:
        self.description, self.request, self.device, self.dtype = description, request, device, dtype
        self.crosses = device != description.device
        self.steps: list[Step] = []
        self.refusals: list[Refusal] = []

    @cached_property
    def forced(self) -> list[tuple[str, str]]:
        """The copies that make the source addressable for the target: the kind of step, and the reason in words."""
        return _forced_copies(self.description, self.request, crosses=self.crosses)

    @property
    def is_imported(self) -> bool:
        """Whether its elements mean something to the target alone, which then imports it from its producer as it is."""
        return self.description.dtype in self.request.target.packed and not self.crosses and not self.forced

    @property
    def only_aligned(self) -> str:
        """What is said of memory that starts where the target cannot take it."""
        return only_aligned(self.request.target, self.description.device)

    def refuse(self, error: type[InteropError], reason: str, hint: str = "", **permissions: Any) -> None:
        """Add an obstacle; without permissions it is final."""
        self.refusals.append(Refusal(error, reason, permissions, hint))

    def plan(self) -> Plan:
        """Return the finished plan."""
        steps = () if self.refusals else tuple(self.steps)
        name = self.request.target.name
        return Plan(self.description, name, self.device, self.dtype, steps, tuple(self.refusals))


def _forced_copies(description: Description, request: Request, *, crosses: bool) -> list[tuple[str, str]]:
    """Return the steps that make the source addressable for the target, each with the reason in words.

    Where the data lie says nothing if they cross to another device anyway.
    """
    target, title = request.target, request.target.title
    wanted = target.alignment_on(description.device)
    off = not crosses and _off(description, wanted)
    takes = "land" if _lands(description.device, target) else "copy"
    obstacles = [
        ("densify", f"{description.layout} storage has to be made dense", description.layout != "strided"),
        ("resolve", f"the pending {' and '.join(description.pending)} has to be resolved", bool(description.pending)),
        ("copy", SCALAR, description.scalar),
        (takes, f"{title} has no negative strides", description.negative_strides and not target.negative_strides),
        ("copy", f"{title} has no foreign byte order", description.swapped and not target.foreign_byte_order),
        (takes, f"{title} has no unaligned data", not description.aligned and not target.unaligned and not off),
        (takes, only_aligned(target, description.device), off),
        (takes, f"{title} has no strides that are not whole elements", _odd(description) and not target.odd_strides),
        (takes, f"{title} takes only compact memory, without gaps and repeats", target.compact and not _compact(description)),
        (takes, f"{title} {_ALWAYS_COPIES}", not target.shares and not crosses and description.device == CPU),
    ]
    return [(kind, words) for kind, words, holds in obstacles if holds]


def _odd(description: Description) -> bool:
    return description.strides is None and description.layout == "strided" and description.no_data is None and bool(description.shape)


def _lands(device: Device, target: Capabilities) -> bool:
    """Whether the target copies what it cannot take as it is: host memory, if it takes none or asks for more than NumPy's copies have."""
    return device == CPU and (target.alignment_on(CPU) > 1 or not target.shares)


def _compact(description: Description) -> bool:
    """Whether the elements lie without gaps, repeats and reversals, in C order or with the axes permuted."""
    if description.strides is None or not description.size or description.negative_strides:
        return True  # what is no stride, or a negative one, is another obstacle
    expected = 1
    for step, extent in sorted(
        (step, extent or 0) for step, extent in zip(description.strides, description.shape, strict=True) if extent != 1
    ):
        if step != expected:
            return False
        expected *= extent
    return True


def _off(description: Description, alignment: int) -> bool:
    """Whether memory does not start at a multiple; one whose address is not known is taken to do so."""
    return bool(description.size) and bool((description.pointer or 0) % alignment)


def write_steps(draft: Draft) -> None:
    """Append the steps from the source's storage to the result, whose dtype is known by now."""
    description, request, steps = draft.description, draft.request, draft.steps
    title, border = request.target.title, border_dtype(draft)
    nbytes = description.nbytes_as(border)
    fresh = _write_source_steps(draft, border) or draft.crosses
    at = _departure(draft) if draft.crosses else draft.device
    arrives = at != draft.device
    picky = _lands(at, request.target)
    if picky and not arrives and (landing := _landing(draft, fresh=fresh)):
        steps.append(Step("copy", "target", landing, nbytes))
        fresh = True
    elif at.type in request.target.devices and not (picky and arrives):
        own = border if draft.is_imported else None
        steps.append(Step("share", "border", f"{title} takes the same bytes on {at}", dtype=own))
    if arrives:
        steps.append(Step("transfer", "target", f"from {at} to {draft.device}, by {title}", nbytes, device=draft.device))
    if border != draft.dtype:
        reason = f"{border} to {draft.dtype}, by {title}"
        steps.append(Step("cast", "target", reason, description.nbytes_as(draft.dtype), dtype=draft.dtype))
        fresh = True
    _write_last_step(draft, fresh=fresh)


def _landing(draft: Draft, *, fresh: bool) -> str:
    """Return why the target copies host memory instead of taking it, in words; empty if it takes it."""
    target = draft.request.target
    if not target.shares:
        return f"{target.title} {_ALWAYS_COPIES}"
    if fresh:  # where new memory starts is seen only when it is there
        return f"{only_aligned(target, CPU)}, which new memory need not be"
    why = _why_copied(draft)
    words = [words for kind, words in draft.forced if kind == "land" and not (why and words == draft.only_aligned)]
    return ", and ".join(words) or why


def _write_source_steps(draft: Draft, border: str) -> bool:
    """Write what the source library does before the border; return whether the memory is new by then."""
    description, steps = draft.description, draft.steps
    have, nbytes = description.dense_dtype or description.dtype, description.nbytes_as(border)
    before = len(steps)
    steps += [Step(kind, "source", words, description.nbytes_as(have)) for kind, words in draft.forced if kind not in ("copy", "land")]
    copied = ", and ".join(words for kind, words in draft.forced if kind == "copy")
    if have != border:
        unread = "" if have in DTYPES else ", if every value can be read so"
        widen = "extension='widen': " if have in draft.request.target.extension and draft.request.dtype is None else ""
        steps.append(
            Step("cast", "source", f"{widen}{have} to {border}{unread}{f', and {copied}' if copied else ''}", nbytes, dtype=border)
        )
    elif copied:
        steps.append(
            Step("cast", "source", copied, nbytes, dtype=border) if description.swapped else Step("copy", "source", copied, nbytes)
        )
    fresh = len(steps) > before
    if draft.crosses and (port := _departure(draft)) != description.device:
        reason = f"from {description.device} to {port}"
        if draft.request.source.only_to_host:  # what has to be done is done there: the host must not read a device's memory
            steps.insert(before, Step("transfer", "source", reason, description.nbytes_as(have), device=port))
        else:
            steps.append(Step("transfer", "source", reason, nbytes, device=port))
    return fresh


def _departure(draft: Draft) -> Device:
    """Return where the source library takes the data to: it leaves its device, the target arrives from the host."""
    description, request = draft.description, draft.request
    if description.device == CPU:
        return CPU
    if draft.device.type != description.device.type:
        return CPU
    if not request.source.only_to_host:
        return draft.device
    # The target fetches the data from their device, if it takes them as they are.
    have = description.dense_dtype or description.dtype
    return description.device if not draft.forced and border_dtype(draft) == have else CPU


def border_dtype(draft: Draft) -> str:
    """Return the dtype in which the data cross the border: one that both sides hold."""
    description, request = draft.description, draft.request
    have = description.dense_dtype or description.dtype
    castable = request.source.dtypes_on(description.device)
    supported = request.target.dtypes_on(draft.device)
    if draft.dtype == have or draft.dtype in castable:
        return draft.dtype
    if have in supported:
        return have
    found = fallback(have, castable & supported)
    return found[0] if found else draft.dtype


def _why_copied(draft: Draft) -> str:
    """Return why memory that could be shared is copied all the same; empty if it is shared."""
    policy = draft.request.policy
    if policy.copy is True:
        return NEVER_ALIASES
    held = why_constant(draft.description, draft.request)
    if held is None or not held[1] or policy.readonly != "copy" or "copies" in draft.request.forbidden:
        return ""
    return f"readonly='copy': {held[0]}"


def _write_last_step(draft: Draft, *, fresh: bool) -> None:
    description, request = draft.description, draft.request
    if fresh:
        return
    if why := _why_copied(draft):
        draft.steps.append(Step("copy", "target", why, description.nbytes_as(draft.dtype)))
    elif request.target.readonly_arrays and request.policy.readonly != "share" and not request.target.immutable:
        if description.tracked:
            draft.steps.append(Step("protect", "target", "read-only, because a write would bypass autograd's version counter"))
        elif description.readonly is None:
            draft.steps.append(Step("protect", "target", "read-only, because the producer cannot say whether its memory may be written to"))


def check_fixed(draft: Draft) -> None:
    """Refuse for good the steps within a library that it cannot take with an array as it is."""
    description, title = draft.description, draft.request.target.title
    for step in draft.steps:
        if {step.kind, step.device and step.device.type} & set(description.fixed):
            error, what = (DTypeError, f"cast to {step.dtype}") if step.kind == "cast" else (TransferError, f"move to {step.device}")
            draft.refuse(error, f"{title} cannot {what} the {description.layout} layout", description.advice or "Make it dense first.")
        if step.kind == "cast" and description.dense_dtype:
            return  # from there on it is dense
