"""The C exchange API: the attribute, the table behind it, and its work stream."""

from __future__ import annotations

import ctypes
import gc
from typing import TYPE_CHECKING

from interop_conformance.adapters._base import Unsupported
from interop_conformance.capsules.exchange_api import ATTRIBUTE, CAPSULE, Api, Table, address_in, capsule_name
from interop_conformance.protocol.consumers.ask import Offer
from interop_conformance.protocol.exchange.ask import exchange_check
from interop_conformance.results.outcomes import Observed

if TYPE_CHECKING:
    from interop_conformance.capsules.crafted import Producer
    from interop_conformance.protocol.exchange.ask import Exchange


@exchange_check("exchange.on-type")
def _on_type(exchange: Exchange) -> Observed:
    found = hasattr(type(exchange.array), ATTRIBUTE)
    return Observed("shared") if found else Observed("wrong", "an attribute of the array, and not of its type")


@exchange_check("exchange.capsule-name")
def _capsule_name(exchange: Exchange) -> Observed:
    raw = getattr(exchange.array, ATTRIBUTE)
    if type(raw).__name__ != "PyCapsule":
        return Observed("wrong", f"a {type(raw).__name__} instead of a capsule")
    name = capsule_name(raw)
    return Observed("shared") if name == CAPSULE.decode() else Observed("wrong", f"a capsule named {name}")


@exchange_check("exchange.stays-alive")
def _stays_alive(exchange: Exchange) -> Observed:
    raw = getattr(exchange.array, ATTRIBUTE)
    try:
        address = address_in(raw)
    except ValueError as error:
        raise Unsupported(f"no table to be found: {error}") from error
    before = ctypes.string_at(address, ctypes.sizeof(Table))
    del raw
    gc.collect()
    churn = [bytes(ctypes.sizeof(Table)) for _ in range(1000)]
    after = ctypes.string_at(address, ctypes.sizeof(Table))
    del churn
    if before != after:
        return Observed("unsafe", "the table changed when the capsule was gone")
    same = address_in(getattr(exchange.array, ATTRIBUTE)) == address
    return Observed("shared") if same else Observed("wrong", "another look-up gives another table")


@exchange_check("exchange.version")
def _version(exchange: Exchange) -> Observed:
    major, minor = exchange.api.version
    return Observed("shared") if major == 1 else Observed("wrong", f"the header says {major}.{minor}")


@exchange_check("exchange.prev-api")
def _prev_api(exchange: Exchange) -> Observed:
    newer = None
    for header in exchange.api.chain():
        version = (header.major, header.minor)
        if newer is not None and version >= newer:
            return Observed("wrong", f"{newer[0]}.{newer[1]} leads to {version[0]}.{version[1]}, which is not older")
        newer = version
    return Observed("shared")


@exchange_check("exchange.functions-given")
def _functions_given(exchange: Exchange) -> Observed:
    table = exchange.api.table
    missing = [name for name in ("allocator", "from_object", "to_object", "stream") if not getattr(table, name)]
    return Observed("wrong", f"NULL: {', '.join(missing)}") if missing else Observed("shared")


@exchange_check("exchange.work-stream-cpu")
def _work_stream_cpu(exchange: Exchange) -> Observed:
    stream = _given(exchange).stream(1)
    return Observed("wrong", "the CPU has a stream") if stream else Observed("shared")


@exchange_check("exchange.work-stream-cuda")
def _work_stream_cuda(exchange: Exchange) -> Observed:
    exchange.need("cuda")
    stream = _given(exchange).stream(2)
    # What the library's own from_dlpack tells a producer is the stream that it works on; 1 is the legacy default one, which is NULL in C.
    producer: Producer = Offer(exchange.adapter, exchange.variant).craft()
    exchange.adapter.from_dlpack(producer)
    requested = next((asked["stream"] for asked in producer.asked if asked.get("stream")), None)
    return Observed("shared") if (stream or 1) == (requested or 1) else Observed("wrong", "another stream than its from_dlpack works on")


def _given(exchange: Exchange) -> Api:
    exchange.api.require("stream")
    return exchange.api
