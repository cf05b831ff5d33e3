"""Where the array is, where the capsule says that it is, and where it can be had."""

from __future__ import annotations

from enum import Enum

from interop.dlpack import DEVICES
from interop_conformance.adapters._base import Unsupported
from interop_conformance.capsules.capsule import read
from interop_conformance.protocol.producers.ask import CPU, Ask, producer_check, variants
from interop_conformance.results.outcomes import Observed

_PINNED_OR_MANAGED = (3, 11, 13)
_VERILOG = (9, 0)
"""A simulator's buffer: of DLPack's devices, the one that no array library lives on."""

_EVERYWHERE = variants(states=("plain", "odd-device", "pinned", "managed"))


@producer_check("producer.device-tuple", *_EVERYWHERE)
def _tuple(ask: Ask) -> Observed:
    found = ask.array.__dlpack_device__()
    if not isinstance(found, tuple) or len(found) != 2:
        return Observed("wrong", f"a {type(found).__name__}" if not isinstance(found, tuple) else f"a tuple of {len(found)}")
    kind, index = found
    if not isinstance(kind, int | Enum) or not isinstance(index, int):
        return Observed("wrong", f"a tuple of {type(kind).__name__} and {type(index).__name__}")
    known = getattr(kind, "value", kind) in DEVICES
    return Observed("shared") if known else Observed("wrong", f"the device type {kind}")


@producer_check("producer.device-agrees", *_EVERYWHERE)
def _agrees(ask: Ask) -> Observed:
    for keywords in ask.structures():
        raw = ask.export(**keywords)
        if ask.tensor(raw).device != ask.device():
            return Observed("wrong", f"the capsule says {ask.tensor(raw).device}, the array {ask.device()}")
    return ask.outcome_of_capsule(raw)


@producer_check("producer.device-id-zero", *_EVERYWHERE)
def _id_zero(ask: Ask) -> Observed:
    kind, index = ask.device()
    if kind not in {CPU[0], *_PINNED_OR_MANAGED}:
        raise Unsupported("on a device that has an index")
    raw = ask.newest()
    if index or ask.tensor(raw).device[1]:
        return Observed("wrong", f"the array says {(kind, index)}, the capsule {ask.tensor(raw).device}")
    return ask.outcome_of_capsule(raw)


@producer_check("producer.dl-device-own", *_EVERYWHERE)
def _own(ask: Ask) -> Observed:
    ask.need_known("dl_device")
    raw = ask.newest(dl_device=ask.array.__dlpack_device__())
    return _on(ask, raw, ask.device())


@producer_check("producer.dl-device-cpu", *_EVERYWHERE)
def _cpu(ask: Ask) -> Observed:
    ask.need_known("dl_device")
    raw = ask.newest(dl_device=CPU)
    observed = _on(ask, raw, CPU)
    if observed.outcome != "wrong":
        ask.same(read(raw))
    return observed


@producer_check("producer.dl-device-unknown", *_EVERYWHERE)
def _unknown(ask: Ask) -> Observed:
    ask.need_known("dl_device")
    raw = ask.newest(dl_device=_VERILOG)
    return Observed(ask.outcome_of_capsule(raw).outcome, f"handed out a capsule on {ask.tensor(raw).device} for dl_device={_VERILOG}")


def _on(ask: Ask, raw: object, device: tuple[int, int]) -> Observed:
    found = ask.tensor(raw).device
    return ask.outcome_of_capsule(raw) if found == device else Observed("wrong", f"the capsule is on {found} instead of {device}")
