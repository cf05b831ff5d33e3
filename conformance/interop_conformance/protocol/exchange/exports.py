"""The C exchange API: what it exports, held against ``__dlpack__`` of the same array."""

from __future__ import annotations

import gc
import sys
import time
import weakref
from typing import TYPE_CHECKING

from interop._model.description import c_strides
from interop_conformance.adapters._base import Unsupported
from interop_conformance.capsules.capsule import HOST_READABLE, Tensor, tensor_of, values
from interop_conformance.matrix.sources import difference
from interop_conformance.protocol import Variant
from interop_conformance.protocol.exchange.ask import exchange_check
from interop_conformance.protocol.producers.cuda import seen
from interop_conformance.results.outcomes import Observed

if TYPE_CHECKING:
    from interop_conformance.protocol.exchange.ask import Exchange

_LAYOUTS = tuple(Variant(layout=name) for name in ("compact", "0d", "empty", "5d", "transposed", "offset", "stepped", "broadcast"))
_DTYPES = tuple(Variant(dtype=name) for name in ("bool", "uint8", "int64", "float16", "bfloat16", "float32", "complex64", "float8_e4m3fn"))


def _states(*names: str, dtype: str = "float32") -> tuple[Variant, ...]:
    return tuple(Variant(dtype, "compact", name) for name in names)


# ---- the same description


def _usual_tensor(exchange: Exchange) -> Tensor:
    tensor = exchange.usual().tensor
    assert tensor is not None  # `usual` made sure of it
    return tensor


@exchange_check("exchange.export-pointer", *_LAYOUTS)
def _export_pointer(exchange: Exchange) -> Observed:
    usual = _usual_tensor(exchange)
    same = exchange.tensor().pointer == usual.pointer
    return Observed("shared") if same else Observed("wrong", "another address than in __dlpack__")


@exchange_check("exchange.export-shape", *_LAYOUTS)
def _export_shape(exchange: Exchange) -> Observed:
    usual = _usual_tensor(exchange)
    tensor = exchange.tensor()
    return exchange.same("shape", (tensor.ndim, tensor.shape or ()), (usual.ndim, usual.shape or ()))


@exchange_check("exchange.export-strides", *_LAYOUTS)
def _export_strides(exchange: Exchange) -> Observed:
    usual = _usual_tensor(exchange)
    tensor = exchange.tensor()
    if tensor.ndim and tensor.strides is None:
        return Observed("wrong", "the strides are NULL")
    return exchange.same("layout", _moves(tensor), _moves(usual))


def _moves(tensor: Tensor) -> tuple[int, ...]:
    """Return the strides of the axes along which there is anywhere to go."""
    shape = tensor.shape or ()
    strides = c_strides(shape) if tensor.strides is None else tensor.strides
    return () if 0 in shape else tuple(step for step, extent in zip(strides, shape, strict=True) if extent > 1)


@exchange_check("exchange.export-dtype", *_DTYPES)
def _export_dtype(exchange: Exchange) -> Observed:
    usual = _usual_tensor(exchange)
    return exchange.same("dtype", exchange.tensor().dtype, usual.dtype)


@exchange_check("exchange.export-device")
def _export_device(exchange: Exchange) -> Observed:
    usual = _usual_tensor(exchange)
    return exchange.same("device", exchange.tensor().device, usual.device)


@exchange_check("exchange.export-flags", *_states("plain", "read-only", "inference"))
def _export_flags(exchange: Exchange) -> Observed:
    usual = exchange.usual()
    return exchange.same("flags", exchange.facts().flags, usual.flags)


# ---- ownership


@exchange_check("exchange.export-owning")
def _export_owning(exchange: Exchange) -> Observed:
    managed, expected = exchange.export(), exchange.expected
    tensor = managed.facts().tensor
    if tensor is None or expected is None or tensor.device[0] not in HOST_READABLE:
        raise Unsupported("nothing that the host could look at")
    watched = _watched(exchange)
    exchange.array = None
    gc.collect()
    churn = [exchange.adapter.make(expected[::-1]) for _ in range(64)]
    fault = difference(values(tensor, expected.dtype), expected)
    managed.delete(foreign=True)
    del churn
    gc.collect()
    if fault:
        return Observed("unsafe", f"the memory did not outlive the array: {fault}")
    if watched is not None and watched() is not None:
        return Observed("unsafe", "the array is not let go when the deleter was called")
    return Observed("shared")


def _watched(exchange: Exchange) -> weakref.ref[object] | None:
    try:
        return weakref.ref(exchange.array)
    except TypeError:
        return None


# ---- refusals


@exchange_check(
    "exchange.export-failure",
    *_states("sparse", "quantized", "meta", "vmap", "fake", "functional", "wrapper", "freed", "deleted", "traced"),
)
def _export_failure(exchange: Exchange) -> Observed:
    refusal = exchange.refusal()
    if refusal is not None:
        return refusal
    tensor = exchange.tensor()
    if 0 not in (tensor.shape or ()) and not tensor.pointer:
        return Observed("wrong", "there is nothing to export, and success is said: data is NULL")
    raise Unsupported("is exported, which other rules are about")


@exchange_check("exchange.export-refusal", *_states("sparse", "quantized"))
def _export_refusal(exchange: Exchange) -> Observed:
    exchange.refused_usually()
    return exchange.refusal(only=(BufferError,)) or Observed("wrong", "is exported, and __dlpack__ refuses it")


@exchange_check("exchange.export-guards-grad", *_states("grad", "grad-non-leaf", "parameter", "grad-under-no-grad", "func-grad"))
def _export_guards_grad(exchange: Exchange) -> Observed:
    exchange.refused_usually()
    return exchange.refusal() or Observed("unsafe", "is exported without its gradient, and __dlpack__ refuses it")


@exchange_check("exchange.export-guards-pending", *_states("conj", dtype="complex64"), *_states("neg"))
def _export_guards_pending(exchange: Exchange) -> Observed:
    refusal = exchange.refusal()
    if refusal is not None:
        return refusal
    tensor, expected = exchange.tensor(), exchange.expected
    assert expected is not None  # the states have data
    fault = difference(seen(exchange.adapter, tensor, expected.dtype), expected)
    return Observed("wrong", f"what was pending is lost: {fault}") if fault else Observed("copied")


@exchange_check("exchange.export-no-sync", Variant(state="stream-other"))
def _export_no_sync(exchange: Exchange) -> Observed:
    exchange.need("cuda")
    started = time.perf_counter()
    exchange.facts()
    exported = time.perf_counter() - started
    exchange.adapter.values(exchange.array)
    written = time.perf_counter() - started
    # The array is being written for much longer than a call takes.
    return Observed("wrong", "the export waited for the work on the array") if exported > written / 2 else Observed("shared")


# ---- DLTensor


def _dltensor(exchange: Exchange) -> Tensor:
    if not exchange.api.table.into_tensor:
        raise Unsupported("dltensor_from_py_object_no_sync is NULL, which it may be")
    return tensor_of(exchange.api.into_tensor(exchange.array))


@exchange_check("exchange.dltensor-equals", *_LAYOUTS)
def _dltensor_equals(exchange: Exchange) -> Observed:
    exchange.usual()  # what is refused there says nothing here
    tensor, managed = _dltensor(exchange), exchange.tensor()
    for field in ("pointer", "device", "ndim", "dtype"):
        if getattr(tensor, field) != getattr(managed, field):
            return Observed("wrong", f"another {field} than in the managed export")
    if (tensor.shape or ()) != (managed.shape or ()) or _moves(tensor) != _moves(managed):
        return Observed("wrong", "another shape or other strides than in the managed export")
    return Observed("shared")


@exchange_check("exchange.dltensor-non-owning")
def _dltensor_non_owning(exchange: Exchange) -> Observed:
    before = sys.getrefcount(exchange.array)
    _dltensor(exchange)
    held = sys.getrefcount(exchange.array) - before
    return Observed("unsafe", f"{held} references to the array are held") if held else Observed("shared")
