"""The decision: from what an array is and what was asked for to a plan. Pure; knows no library by name.

Every obstacle is looked for, also after one was found, so that a refusal names them all; and each is
judged as if the others were permitted, so that passing the permissions back always gets through.
`tests/model/test_decide.py` holds that law over the whole enumeration.
"""

from __future__ import annotations

from typing import Any

from interop._model.description import CPU, STREAMED, Description, Device
from interop._model.dtypes import DTYPES, fallback
from interop._model.no_data import NO_DATA
from interop._model.plan import FRESH, Plan, Request, Step
from interop._model.steps import NEVER_ALIASES, SCALAR, Draft, border_dtype, check_fixed, why_constant, write_steps
from interop.errors import (
    SEE_DEVICES,
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
    UnitsError,
)


def resolve_device(description: Description, request: Request) -> Device:
    """Return the device that the result will live on: the one asked for, else where the data are, else home."""
    if request.device is not None:
        return request.device
    stays = description.device.type in request.target.devices or description.backend == request.target.name
    return description.device if stays else request.home


def decide(description: Description, request: Request, device: Device | None = None) -> Plan:
    """Return the plan for a request; refusals are part of it, and nothing is raised, touched or imported.

    `device` is that of the result, where it is known already (`resolve_device`).
    """
    draft = Draft(description, request, device or resolve_device(description, request), request.dtype or description.dtype)
    _check_device(draft)
    _check_stream(draft)
    if request.target.name in (description.backend, request.source.wraps):
        _decide_within(draft)
    else:
        _decide_across(draft)
    _check_guards(draft)
    return draft.plan()


GUARDS: dict[str, tuple[type[InteropError], frozenset[str]]] = {
    "copies": (CopyError, FRESH - {"transfer"}),
    "transfers": (TransferError, frozenset({"transfer"})),
    "grads": (GradError, frozenset({"detach"})),
}
"""What `interop.guard` can forbid: the error, and the steps that it is about."""


def _check_guards(draft: Draft) -> None:
    """Refuse for good what a guard forbids; the steps are those that would be taken if everything were permitted."""
    for what in sorted(draft.request.forbidden):
        error, kinds = GUARDS[what]
        reasons = [step.reason for step in draft.steps if step.kind in kinds]
        if reasons:
            reason = f"a guard forbids {what} here, and no permission lifts it: {', and '.join(reasons)}"
            draft.refuse(error, reason, f"Do it outside of the guard that forbids {what}.")


def _check_device(draft: Draft) -> None:
    target, device, description = draft.request.target, draft.device, draft.description
    at_home = description.backend == target.name and device == description.device  # it lives there, known to us or not
    if device.type not in target.devices and not at_home:
        homes = " and ".join(sorted(target.devices))
        reason = f"{target.title} arrays cannot live on {device}, only on {homes}"
        draft.refuse(DeviceUnavailableError, reason, "Leave device out, or ask for one that it can live on.")
    elif draft.request.unavailable:
        reason = f"{target.title} cannot use {device} here: {draft.request.unavailable}"
        draft.refuse(DeviceUnavailableError, reason, SEE_DEVICES)


def _check_stream(draft: Draft) -> None:
    ends = {draft.description.device.type, draft.device.type}
    if draft.request.stream_problem and ends & STREAMED:
        hint = "Leave stream out, or give -1, 1, 2, a pointer greater than 2, or a native stream object."
        draft.refuse(StreamError, draft.request.stream_problem, hint)
    if draft.request.streamed and not ends & STREAMED:
        reason = f"a stream was given, but work on {draft.device} has none: the standard allows only stream=None there"
        draft.refuse(StreamError, reason, "Leave stream out.")


# Within one library: its own graph, masks and wrappers stay intact, so nothing but copies and devices matter.


def _decide_within(draft: Draft) -> None:
    description, request = draft.description, draft.request
    if request.source.wraps:  # what is inside stays as it is; the wrapper's unit does not
        _check_units(draft)
    supported = request.target.dtypes_on(draft.device)
    if request.dtype is not None and request.dtype not in supported:
        _refuse_dtype_for_good(draft, request.dtype)
    elif request.dtype not in (None, description.dtype):
        _check_meaning(draft)
    elif draft.crosses and draft.dtype in request.target.dtypes - supported:
        draft.dtype = _fall_back(draft, draft.dtype, supported)
    if draft.crosses:
        _check_transfer(draft)
        reason = f"from {description.device} to {draft.device}, within {request.target.title}"
        draft.steps.append(Step("transfer", "source", reason, description.nbytes, device=draft.device))
    forced = ""
    if draft.dtype != description.dtype or (request.dtype is not None and description.swapped):
        order = "byte-swapped " if description.swapped else ""
        forced = _cast(f"{order}{description.dtype}", draft.dtype)
        cast = Step("cast", "source", forced, description.nbytes_as(draft.dtype), dtype=draft.dtype)
        # What gets smaller does so before it travels, and so does what the other device has no dtype for.
        first = draft.crosses and (cast.bytes < description.nbytes or description.dtype not in supported)
        draft.steps = [cast, *(step._replace(bytes=cast.bytes) for step in draft.steps)] if first else [*draft.steps, cast]
    elif description.scalar:
        forced = SCALAR
        draft.steps.append(Step("copy", "source", forced, description.nbytes))
    elif request.policy.copy is True and not draft.crosses:
        draft.steps.append(Step("copy", "source", NEVER_ALIASES, description.nbytes))
    check_fixed(draft)
    _check_copy(draft, [forced] if forced else [])
    if draft.steps and _inert(description, crosses=draft.crosses):
        _refuse_no_data(draft)


def _inert(description: Description, *, crosses: bool) -> bool:
    """Whether the library itself cannot copy it: one may even crash on a freed storage.

    Fake, vmapped and traced tensors are not inert: within their library, their library copies them.
    """
    return description.no_data in ("no storage", "uninitialized", "null", "deleted") or (crosses and description.no_data == "meta")


# Across libraries.


def _decide_across(draft: Draft) -> None:
    description = draft.description
    if description.no_data is not None:
        _refuse_no_data(draft)
    _check_mask(draft)
    _check_units(draft)
    _check_layout(draft)
    _check_grad(draft)
    cast = _check_dtype(draft)
    if draft.crosses and description.no_data is None:
        _check_transfer(draft)
    _check_reach(draft)
    _check_copies(draft, [words for _, words in draft.forced] + cast)
    write_steps(draft)


def _refuse_no_data(draft: Draft) -> None:
    why = draft.description.no_data or ""
    reason, instead = NO_DATA.get(why, (why, "convert an array that has them"))
    draft.refuse(NoDataError, f"there are no data: {reason}", f"There are no data, so no permission helps: {instead}.")


def _check_mask(draft: Draft) -> None:
    if draft.description.masked:
        if draft.request.policy.mask == "error":
            reason = f"the array is masked, and {draft.request.target.title} arrays have no mask to carry"
            draft.refuse(MaskError, reason, mask="drop")
        draft.steps.append(Step("unmask", "source", "mask='drop': the mask is left out"))


def _check_units(draft: Draft) -> None:
    units = draft.description.units
    if units:
        if draft.request.policy.units == "error":
            reason = f"its numbers are in units of {units}, and {draft.request.target.title} arrays have no unit to carry"
            draft.refuse(UnitsError, reason, draft.description.advice, units="drop")
        draft.steps.append(Step("unitless", "source", f"units='drop': the stored numbers, without their unit ({units})"))


def _check_layout(draft: Draft) -> None:
    description = draft.description
    if len(description.shape) > draft.request.target.axes:
        reason = f"it has {len(description.shape)} axes, and {draft.request.target.title} arrays have at most {draft.request.target.axes}"
        draft.refuse(LayoutError, reason, "Merge axes first, with reshape.")
    if description.layout == "strided" or description.no_data:
        return
    reason = f"the storage is {description.layout}, not plain strided memory"
    if not description.densifies:
        hint = description.advice or "Take it apart with its own library, and convert the parts."
        draft.refuse(LayoutError, f"{reason}, and it has no single dense form", hint)
    elif draft.request.policy.layout == "error":
        draft.refuse(LayoutError, reason, layout="dense")


def _check_grad(draft: Draft) -> None:
    description, target = draft.description, draft.request.target
    if not description.tracked:
        return
    if draft.request.policy.grad == "error":
        lost = "the forward-mode tangent" if description.requires_grad is False else "the gradient"
        tracks = "its producer cannot say whether autograd tracks it" if description.requires_grad is None else "autograd tracks the source"
        reason = f"{tracks}, and {target.title} is outside its graph: {lost} would be lost"
        stays = draft.device == description.device
        if stays and target.readonly_arrays and draft.request.policy.readonly != "share" and draft.request.policy.copy is not True:
            reason += " (with grad='detach' shared memory is read-only, unless readonly='share')"
        draft.refuse(GradError, reason, grad="detach")
    draft.steps.append(Step("detach", "source", "grad='detach': the result is outside the graph"))


def _check_dtype(draft: Draft) -> list[str]:
    """Decide the dtype of the result; return, in words, the cast that it takes, if any."""
    description, request = draft.description, draft.request
    have = description.dense_dtype or description.dtype
    supported = request.target.dtypes_on(draft.device)
    if request.dtype is not None:
        if request.dtype not in supported:
            _refuse_dtype_for_good(draft, request.dtype)
        else:
            _check_meaning(draft)
        draft.dtype = request.dtype
    elif draft.is_imported:
        draft.dtype = have
    elif have in supported:
        draft.dtype = _widened(draft, have, supported) if request.policy.extension == "widen" else have
    else:
        draft.dtype = _fall_back(draft, have, supported)
    return [] if draft.dtype == have else [_cast(have, draft.dtype)]


def _check_meaning(draft: Draft) -> None:
    """Refuse a cast of elements that their own library cannot read as numbers."""
    have = draft.description.dense_dtype or draft.description.dtype
    if have not in DTYPES and not have.startswith(draft.request.source.casts_opaque):
        draft.refuse(DTypeError, f"{have} has no numeric meaning to cast from", draft.description.advice or _OPAQUE_HINT)


def _widened(draft: Draft, have: str, supported: frozenset[str]) -> str:
    """Return the smallest of the target's own dtypes that holds every value of one that it knows as an extension only."""
    extension = draft.request.target.extension
    found = fallback(have, supported - extension) if have in extension else None
    return found[0] if found and found[1] == "safe" else have


def _cast(have: str, dtype: str) -> str:
    return f"{have} has to be cast to {dtype}"


def _fall_back(draft: Draft, have: str, supported: frozenset[str]) -> str:
    title, found = draft.request.target.title, fallback(have, supported)
    if found is None:
        known = have in DTYPES
        hint = f"Name a dtype that {title} has, with dtype=." if known else draft.description.advice or _OPAQUE_HINT
        draft.refuse(DTypeError, f"{title} has no dtype for {have}", hint)
        return have
    dtype, casting = found
    allowed = draft.request.policy.casting
    if allowed not in (casting, "same_kind"):
        loss = "holds every value" if casting == "safe" else "is of the same kind, but loses precision or range"
        reason = f"{title} has no {have} on {draft.device}{_because(draft, have)}; {dtype} {loss}"
        draft.refuse(DTypeError, reason, casting=casting)
    return dtype


def _because(draft: Draft, dtype: str) -> str:
    why = draft.request.target.why_lacking.get(dtype)
    return f" ({why})" if why else ""


_OPAQUE_HINT = "It has no numeric meaning in another library: convert it in its own library first."


def _refuse_dtype_for_good(draft: Draft, dtype: str) -> None:
    title = draft.request.target.title
    near = fallback(dtype, draft.request.target.dtypes_on(draft.device))
    hint = f"Ask for dtype={near[0]!r}, the nearest that it has." if near else "Leave dtype out."
    draft.refuse(DTypeError, f"{title} has no {dtype} on {draft.device}{_because(draft, dtype)}", hint)


def _check_transfer(draft: Draft) -> None:
    description, request = draft.description, draft.request
    if request.device_named:
        return
    if draft.device.type == "meta":
        reason = "like= is on the meta device, where the data would be gone: that is no transfer"
        draft.refuse(NoDataError, reason, "Ask for it by name, with device='meta'.")
        return
    if request.policy.transfer == "allow":
        return
    because = "like= asks for that device" if request.device else f"{request.target.title} arrays live on {draft.device}"
    reason = f"the data are on {description.device} and would have to cross to {draft.device} ({because})"
    draft.refuse(TransferError, reason, transfer="allow")


def _check_reach(draft: Draft) -> None:
    """Refuse what would have to be done on a device by a producer that can only share and export to the host."""
    description, request = draft.description, draft.request
    if draft.crosses or not request.source.only_to_host or description.device == CPU or description.no_data:
        return
    have = description.dense_dtype or description.dtype
    work = [words for _, words in draft.forced]
    if (border := border_dtype(draft)) != have and border in request.target.dtypes_on(draft.device):
        work.append(_cast(have, border))
    if work:
        reason = f"{', and '.join(work)}, which a DLPack producer cannot be asked for on {description.device}"
        draft.refuse(LayoutError, reason, "Make a plain copy with its own library first, or ask for the host with device='cpu'.")


def _check_copies(draft: Draft, copies: list[str]) -> None:
    policy = draft.request.policy
    held = why_constant(draft.description, draft.request)
    if held and policy.readonly != "share":  # where memory happens to start decides nothing
        copies = [words for words in copies if words != draft.only_aligned]
    _check_copy(draft, copies)
    if not held or copies or draft.crosses or policy.copy is True:
        return
    reason, needs_copy = held
    if policy.readonly == "error":
        draft.refuse(ReadOnlyError, f"{reason} (readonly='error')", **_unlocked(draft, needs_copy=needs_copy))
    elif policy.readonly == "copy" and needs_copy and (policy.copy is False or "copies" in draft.request.forbidden):
        stops = "copy=False"
        if "copies" in draft.request.forbidden:
            stops = "a guard forbids copies; what readonly='share' shares must not be written to afterwards"
        draft.refuse(ReadOnlyError, f"{reason}, so it needs a copy, and {stops}", **_unlocked(draft, needs_copy=True))


def _unlocked(draft: Draft, *, needs_copy: bool) -> dict[str, Any]:
    """Return what permits memory that one side holds to be constant: a copy, but where a guard forbids it or none is needed."""
    if "copies" in draft.request.forbidden or not needs_copy:
        return {"readonly": "share"}
    return {"copy": True}


def _check_copy(draft: Draft, copies: list[str]) -> None:
    moves = draft.crosses and (draft.description.no_data is None or draft.description.backend == draft.request.target.name)
    crossing = [f"the data have to cross from {draft.description.device} to {draft.device}"] if moves else []
    if draft.request.policy.copy is False and (copies or crossing):
        draft.refuse(CopyError, f"copy=False, but new memory is needed: {', and '.join([*copies, *crossing])}", copy=True)
