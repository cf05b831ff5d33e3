"""The decision: from what an array is and what was asked for to a plan. Pure; knows no library by name.

Every obstacle is looked for, also after one was found, so that a refusal names them all; and each is
judged as if the others were permitted, so that passing the permissions back always gets through.
`tests/test_decide_law.py` holds that law over the whole enumeration.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from interop.description import CPU, STREAMED, Description, Device
from interop.dtypes import DTYPES, fallback
from interop.errors import (
    CopyError,
    DeviceUnavailableError,
    DTypeError,
    GradError,
    InteropError,
    LayoutError,
    MaskError,
    NoDataError,
    ReadOnlyError,
    StreamError,
    TransferError,
)
from interop.plan import Plan, Refusal, Request, Step

__all__ = ["decide", "settle"]

_WHY_NO_DATA = {
    "meta": "a meta tensor has a shape but no storage",
    "fake": "a fake tensor only pretends to have data, for tracing and shape inference",
    "vmap": "inside torch.func.vmap the tensor stands for a whole batch, and has no memory of its own",
    "grad": "inside torch.func.grad or vjp the tensor is a tracking wrapper without memory of its own",
    "jvp": "inside torch.func.jvp the tensor is a tracking wrapper without memory of its own",
    "functional": "a functionalised tensor is a wrapper that tracks mutations, without memory of its own",
    "traced": "the tensor is being traced: its value now would be baked into the trace as a constant",
    "uninitialized": "a lazy parameter has neither a shape nor data before the first forward pass",
    "no storage": "the tensor's storage was freed or resized to nothing",
    "null": "the producer handed out a null pointer for an array that is not empty",
}
_DATA_HINT = "There are no data, so no permission helps: convert a real tensor, outside of the transformation."


@dataclass
class _Draft:
    """A plan in the making."""

    description: Description
    request: Request
    device: Device
    dtype: str
    steps: list[Step] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def refuse(self, error: type[InteropError], reason: str, hint: str = "", **permissions: Any) -> None:
        self.refusals.append(Refusal(error, reason, permissions, hint))

    def plan(self) -> Plan:
        steps = () if self.refusals else tuple(self.steps)
        name = self.request.target.name
        return Plan(self.description, name, self.device, self.dtype, steps, tuple(self.refusals))


def settle(description: Description, request: Request) -> Device:
    """Return the device that the result will live on: the one asked for, else where the data are, else home."""
    if request.device is not None:
        return request.device
    stays = description.device.type in request.target.devices
    return description.device if stays else request.home


def decide(description: Description, request: Request) -> Plan:
    """Return the plan for a request; refusals are part of it, and nothing is raised, touched or imported."""
    draft = _Draft(description, request, settle(description, request), request.dtype or description.dtype)
    _check_device(draft)
    _check_stream(draft)
    if description.backend == request.target.name:
        _decide_within(draft)
    else:
        _decide_across(draft)
    return draft.plan()


def _check_device(draft: _Draft) -> None:
    target, device = draft.request.target, draft.device
    if device.type not in target.devices:
        homes = " and ".join(sorted(target.devices))
        reason = f"{target.title} arrays cannot live on {device}, only on {homes}"
        draft.refuse(DeviceUnavailableError, reason, f"Leave device out, or ask for one of {homes}.")
    elif draft.request.unavailable:
        reason = f"{target.title} cannot use {device} here: {draft.request.unavailable}"
        draft.refuse(DeviceUnavailableError, reason, "Run `interop doctor` to see which devices each library sees.")


def _check_stream(draft: _Draft) -> None:
    ends = {draft.description.device.type, draft.device.type}
    if draft.request.streamed and not ends & STREAMED:
        reason = f"a stream was given, but work on {draft.device} has none: the standard allows only stream=None there"
        draft.refuse(StreamError, reason, "Leave stream out.")


# Within one library: its own graph, masks and wrappers stay intact, so nothing but copies and devices matter.


def _decide_within(draft: _Draft) -> None:
    description, request = draft.description, draft.request
    if request.dtype is not None and request.dtype not in request.target.dtypes_on(draft.device.type):
        _refuse_dtype_for_good(draft, request.dtype)
    crosses = draft.device != description.device
    if crosses:
        _check_transfer(draft)
        reason = f"from {description.device} to {draft.device}, within {request.target.title}"
        draft.steps.append(Step("transfer", "source", reason, description.nbytes, device=draft.device))
    if draft.dtype != description.dtype or description.scalar:
        what = f"{description.dtype} to {draft.dtype}" if draft.dtype != description.dtype else "scalar to array"
        step = Step("cast", "source", what, description.nbytes_as(draft.dtype), dtype=draft.dtype)
        draft.steps.append(step)
        if request.policy.copy is False:
            draft.refuse(CopyError, f"copy=False, but {what} needs new memory", copy=True)
    elif request.policy.copy is True and not crosses:
        draft.steps.append(Step("copy", "source", "copy=True never aliases", description.nbytes))
    if draft.steps and _inert(description, crosses=crosses):
        _refuse_no_data(draft)


def _inert(description: Description, *, crosses: bool) -> bool:
    """Whether the library itself cannot copy it: torch segfaults on a freed storage, and raises for the others.

    Fake, vmapped and traced tensors are not inert: within their library, their library copies them.
    """
    return description.no_data in ("no storage", "uninitialized", "null") or (crosses and description.no_data == "meta")


# Across libraries.


def _decide_across(draft: _Draft) -> None:
    description = draft.description
    if description.no_data is not None:
        _refuse_no_data(draft)
    _check_mask(draft)
    _check_layout(draft)
    _check_grad(draft)
    wanted = _check_dtype(draft)
    crosses = draft.device != description.device
    if crosses:
        _check_transfer(draft)
    copies = [*_forced_copies(description, draft.request), *([wanted] if wanted else [])]
    _check_copies(draft, copies, crosses=crosses)
    _write_steps(draft, crosses=crosses)


def _refuse_no_data(draft: _Draft) -> None:
    why = draft.description.no_data or ""
    draft.refuse(NoDataError, f"there are no data: {_WHY_NO_DATA.get(why, why)}", _DATA_HINT)


def _check_mask(draft: _Draft) -> None:
    if draft.description.masked:
        if draft.request.policy.mask == "error":
            reason = f"the array is masked, and {draft.request.target.title} arrays have no mask to carry"
            draft.refuse(MaskError, reason, mask="drop")
        draft.steps.append(Step("unmask", "source", "mask='drop': the data under the mask are handed over"))


def _check_layout(draft: _Draft) -> None:
    description = draft.description
    if description.layout == "strided" or description.no_data:
        return
    reason = f"the storage is {description.layout}, not plain strided memory"
    if not description.densifies:
        hint = "It has no single dense form: take it apart with its own library, and convert the parts."
        draft.refuse(LayoutError, f"{reason}, and it has no single dense form", hint)
    elif draft.request.policy.layout == "error":
        draft.refuse(LayoutError, reason, layout="dense")


def _check_grad(draft: _Draft) -> None:
    description, target = draft.description, draft.request.target
    if not description.tracked:
        return
    if draft.request.policy.grad == "error":
        lost = "the gradient" if description.requires_grad else "the forward-mode tangent"
        reason = f"autograd tracks the source, and {target.title} is outside its graph: {lost} would be lost"
        draft.refuse(GradError, reason, grad="detach")
    draft.steps.append(Step("detach", "source", "grad='detach': the result is outside the graph"))


def _check_dtype(draft: _Draft) -> str | None:
    """Settle the dtype of the result; return, in words, the cast that it takes, if any."""
    description, request = draft.description, draft.request
    have = description.dense_dtype or description.dtype
    supported = request.target.dtypes_on(draft.device.type)
    if request.dtype is not None:
        if request.dtype not in supported:
            _refuse_dtype_for_good(draft, request.dtype)
        draft.dtype = request.dtype
    elif have in supported:
        draft.dtype = have
    else:
        draft.dtype = _fall_back(draft, have, supported)
    return None if draft.dtype == have else f"the cast from {have} to {draft.dtype}"


def _fall_back(draft: _Draft, have: str, supported: frozenset[str]) -> str:
    title, found = draft.request.target.title, fallback(have, supported)
    if found is None:
        hint = _OPAQUE_HINT if have not in DTYPES else f"Convert to a dtype that {title} has first, or name one with dtype=."
        draft.refuse(DTypeError, f"{title} has no dtype for {have}", hint)
        return have
    dtype, casting = found
    allowed = draft.request.policy.casting
    if allowed not in (casting, "same_kind"):
        loss = "holds every value" if casting == "safe" else "is of the same kind, but loses precision or range"
        reason = f"{title} has no {have} on {draft.device.type}; {dtype} {loss}"
        draft.refuse(DTypeError, reason, casting=casting)
    return dtype


_OPAQUE_HINT = "It has no numeric meaning in another library: convert it in its own library first, or name a dtype with dtype=."


def _refuse_dtype_for_good(draft: _Draft, dtype: str) -> None:
    title = draft.request.target.title
    near = fallback(dtype, draft.request.target.dtypes_on(draft.device.type))
    hint = f"Ask for dtype={near[0]!r}, the nearest that it has." if near else "Leave dtype out."
    draft.refuse(DTypeError, f"{title} has no {dtype} on {draft.device.type}", hint)


def _check_transfer(draft: _Draft) -> None:
    description, request = draft.description, draft.request
    if request.device_named or request.policy.transfer == "allow":
        return
    because = "like= asks for that device" if request.device else f"{request.target.title} arrays live on {draft.device.type}"
    reason = f"the data are on {description.device} and would have to cross to {draft.device} ({because})"
    draft.refuse(TransferError, reason, transfer="allow")


def _forced_copies(description: Description, request: Request) -> list[str]:
    """Return, in words, whatever about the source the target cannot address as it is."""
    target = request.target
    obstacles = {
        f"the pending {' and '.join(description.pending)}": bool(description.pending),
        f"the dense form of {description.layout} storage": description.layout != "strided",
        "a NumPy scalar, which has no buffer,": description.scalar,
        "negative strides": description.negative_strides and not target.negative_strides,
        "foreign byte order": description.swapped and not target.foreign_byte_order,
        "unaligned data": not description.aligned and not target.unaligned,
        "strides that are not whole elements": _odd(description) and not target.odd_strides,
    }
    return [words for words, holds in obstacles.items() if holds]


def _odd(description: Description) -> bool:
    return description.strides is None and description.layout == "strided" and description.no_data is None and bool(description.shape)


def _check_copies(draft: _Draft, copies: list[str], *, crosses: bool) -> None:
    description, request = draft.description, draft.request
    policy, title = request.policy, request.target.title
    if copies and policy.copy is False:
        reason = f"copy=False, but {' and '.join(copies)} cannot be shared with {title}: new memory is needed"
        draft.refuse(CopyError, reason, copy=True)
    if copies or crosses or policy.copy is True or not description.readonly or request.target.readonly_arrays:
        return
    reason = f"the source is read-only, and {title} has no read-only arrays"
    if policy.readonly == "error":
        draft.refuse(ReadOnlyError, f"{reason} (readonly='error')", **_copying(policy.copy))
    elif policy.readonly == "copy" and policy.copy is False:
        draft.refuse(ReadOnlyError, f"{reason}, so it needs a copy, and copy=False", copy=True)


def _copying(copy: bool | None, /) -> dict[str, Any]:
    return {"readonly": "copy"} if copy is not False else {"readonly": "copy", "copy": True}


# The steps, once it is known that they may be taken.


def _write_steps(draft: _Draft, *, crosses: bool) -> None:
    fresh = _write_source_steps(draft, crosses=crosses)
    description, request, steps = draft.description, draft.request, draft.steps
    at = _departure(draft) if crosses else draft.device
    fresh = fresh or crosses
    arrives = at != draft.device
    if at.type in request.target.devices:
        steps.append(Step("share", "border", f"{request.target.title} takes the same bytes on {at}"))
    if arrives:
        reason = f"from {at} to {draft.device}, by {request.target.title}"
        nbytes = description.nbytes_as(_border_dtype(draft))
        steps.append(Step("transfer", "target", reason, nbytes, device=draft.device))
    if _border_dtype(draft) != draft.dtype:
        reason = f"{_border_dtype(draft)} to {draft.dtype}, by {request.target.title}"
        steps.append(Step("cast", "target", reason, description.nbytes_as(draft.dtype), dtype=draft.dtype))
        fresh = True
    _write_last_step(draft, fresh=fresh)


def _write_source_steps(draft: _Draft, *, crosses: bool) -> bool:
    """Write what the source library does before the border; return whether the memory is new by then."""
    description, request, steps = draft.description, draft.request, draft.steps
    have, border = description.dense_dtype or description.dtype, _border_dtype(draft)
    nbytes = description.nbytes_as(border)
    before = len(steps)
    if description.layout != "strided":
        reason = f"layout='dense': a plain strided copy of {description.layout} storage"
        steps.append(Step("densify", "source", reason, description.nbytes_as(have)))
    if description.pending:
        steps.append(Step("resolve", "source", f"pending {' and '.join(description.pending)}", description.nbytes_as(have)))
    obstacles = [words for words in _forced_copies(description, request) if not words.startswith(("the pending", "the dense"))]
    if have != border:
        steps.append(Step("cast", "source", f"{have} to {border}", nbytes, dtype=border))
    elif obstacles:
        steps.append(Step("copy", "source", f"{' and '.join(obstacles)} cannot be shared", nbytes))
    fresh = len(steps) > before
    if crosses and (port := _departure(draft)) != description.device:
        steps.append(Step("transfer", "source", f"from {description.device} to {port}", nbytes, device=port))
    return fresh


def _departure(draft: _Draft) -> Device:
    """Return where the source library takes the data to: it leaves its device, the target arrives from the host."""
    if draft.description.device == CPU or draft.device.type == draft.description.device.type:
        return draft.device if draft.description.device != CPU else CPU
    return CPU


def _border_dtype(draft: _Draft) -> str:
    """Return the dtype in which the data cross the border: one that both sides hold."""
    description, request = draft.description, draft.request
    have = description.dense_dtype or description.dtype
    castable = request.source.dtypes_on(description.device.type)
    supported = request.target.dtypes_on(draft.device.type)
    if draft.dtype == have or draft.dtype in castable:
        return draft.dtype
    if have in supported:
        return have
    found = fallback(have, castable & supported)
    return found[0] if found else draft.dtype


def _write_last_step(draft: _Draft, *, fresh: bool) -> None:
    description, request = draft.description, draft.request
    policy, target = request.policy, request.target
    if fresh:
        return
    nbytes = description.nbytes_as(draft.dtype)
    if policy.copy is True:
        draft.steps.append(Step("copy", "target", "copy=True never aliases", nbytes))
    elif description.readonly and not target.readonly_arrays and policy.readonly == "copy":
        reason = f"readonly='copy': the source is read-only, and {target.title} has no read-only arrays"
        draft.steps.append(Step("copy", "target", reason, nbytes))
    elif description.tracked and target.readonly_arrays and policy.readonly != "share":
        reason = "read-only, because a write would bypass autograd's version counter"
        draft.steps.append(Step("protect", "target", reason))
