"""The C exchange API: what it imports and allocates."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from interop.dlpack import DLTensor
from interop_conformance.adapters._base import Unsupported
from interop_conformance.capsules.capsule import Consumed, consume
from interop_conformance.capsules.exchange_api import SilentError
from interop_conformance.matrix.sources import difference
from interop_conformance.protocol import Variant
from interop_conformance.protocol.consumers.ask import Offer, until
from interop_conformance.protocol.exchange.ask import exchange_check
from interop_conformance.results.outcomes import GOOD, Observed
from interop_conformance.results.texts import first_sentence

if TYPE_CHECKING:
    from interop_conformance.capsules.crafted import Producer
    from interop_conformance.protocol.exchange.ask import Exchange

_ROUND_TRIPS = (
    *(Variant(layout=name) for name in ("compact", "0d", "empty", "5d", "transposed", "offset")),
    *(Variant(dtype=name) for name in ("bool", "int64", "bfloat16", "complex64")),
)


@exchange_check("exchange.import-round-trip", *_ROUND_TRIPS)
def _import_round_trip(exchange: Exchange) -> Observed:
    exchange.api.require("to_object")
    exchange.usual()
    expected = exchange.expected
    assert expected is not None  # plain arrays have data
    made = exchange.api.to_object(exchange.export().address)
    if not isinstance(made, type(exchange.array)):
        return Observed("wrong", f"a {type(made).__name__} came")
    fault = difference(exchange.adapter.values(made), expected)
    return Observed("wrong", fault) if fault else Observed("shared")


def _crafted(exchange: Exchange, **how: Any) -> tuple[Producer, int]:
    """Return a producer, and a managed tensor of it that the callee owns."""
    producer = Offer(exchange.adapter, exchange.variant).craft(version=(1, 3), polite=False, **how)
    return producer, consume(producer.capsule({})).address


@exchange_check("exchange.import-steals")
def _import_steals(exchange: Exchange) -> Observed:
    exchange.api.require("to_object")
    producer, address = _crafted(exchange)
    expected = producer.means().copy()
    made = exchange.api.to_object(address)
    observed = Offer(exchange.adapter, exchange.variant).look(made, producer, expected)
    if observed.outcome == "shared" and producer.deleted:
        return Observed("unsafe", "the deleter was called while the array lives")
    del made
    until(lambda: bool(producer.deleted))
    if producer.deleted != 1 and observed.outcome in GOOD:
        return Observed("unsafe", f"the array is gone, and the deleter was called {producer.deleted} times")
    return observed


@exchange_check("exchange.import-failure")
def _import_failure(exchange: Exchange) -> Observed:
    exchange.api.require("to_object")
    _, address = _crafted(exchange, dtype=(200, 32, 1))
    try:
        exchange.api.to_object(address)
    except SilentError:
        raise
    except Exception as error:  # the text names no class
        return Observed("refused", f"{type(error).__name__}: {first_sentence(str(error))}")
    return Observed("wrong", "an unknown type code was taken")


def _prototype(exchange: Exchange, dtype: tuple[int, int, int]) -> DLTensor:
    """Return a prototype whose data and strides are addresses that cannot be read."""
    prototype = DLTensor()
    prototype.data, prototype.byte_offset, prototype.ndim = 8, 0, 2
    prototype.device.type, prototype.device.id = (2, 0) if exchange.adapter.device == "cuda" else (1, 0)
    prototype.dtype.code, prototype.dtype.bits, prototype.dtype.lanes = dtype
    prototype.shape = (ctypes.c_int64 * 2)(2, 3)
    prototype.strides = ctypes.cast(ctypes.c_void_p(8), ctypes.POINTER(ctypes.c_int64))
    return prototype


_FLOAT32, _UNKNOWN = (2, 32, 1), (200, 32, 1)


@exchange_check("exchange.allocator-prototype")
def _allocator_prototype(exchange: Exchange) -> Observed:
    exchange.api.require("allocator")
    prototype = _prototype(exchange, _FLOAT32)
    status, address, errors = exchange.api.allocate(prototype)
    if status or not address:
        return Observed("unexplained", f"{errors[0].kind}: {first_sentence(errors[0].message)}" if errors else "it failed and said nothing")
    managed = Consumed(address, versioned=True)
    tensor = managed.facts().tensor
    fits = tensor is not None and (tensor.shape, tensor.dtype) == ((2, 3), _FLOAT32)
    if tensor is None or not fits or tensor.device != (prototype.device.type, prototype.device.id):
        managed.delete()
        return Observed("wrong", "another shape, dtype or device than the prototype's")
    if not tensor.pointer or tensor.data == prototype.data:
        return Observed("wrong", "no memory was allocated")
    if exchange.adapter.device == "cpu":
        ctypes.memset(tensor.pointer, 1, 24)
    managed.delete()
    return Observed("shared")


@exchange_check("exchange.allocator-error")
def _allocator_error(exchange: Exchange) -> Observed:
    exchange.api.require("allocator")
    failures = 0
    for dtype in (_FLOAT32, _UNKNOWN):
        status, address, errors = exchange.api.allocate(_prototype(exchange, dtype))
        failed = bool(status or not address)
        if failed != bool(errors):
            return Observed("wrong", "it failed and SetError was not called" if failed else "SetError was called, and a tensor came")
        failures += failed
        if address:
            Consumed(address, versioned=True).delete()
    if failures == 2:
        raise Unsupported("allocates nothing, which exchange.allocator-prototype is about")
    return Observed("refused", f"{errors[0].kind}") if failed else Observed("shared", "an unknown type code is allocated")
