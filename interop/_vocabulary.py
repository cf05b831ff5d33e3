"""The words of the notation (`interop.notation`): the libraries, and everything that may stand after a ``+``.

One table, read in both directions: a row says which fields of the description a word changes, so `parse` sets
them and `format_description` looks for them. Apart from the grammar so that either can be read in one go.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from interop._libraries import BUILTIN, Library
from interop._model.description import DEVICE_TYPES, Device

LIBRARIES = {**BUILTIN, "dlpack": Library("", "", tuple(kind for kind in DEVICE_TYPES if kind != "meta"))}
"""Those that a description may be of: the built-in ones, and any other object that exports DLPack."""


class Flag(NamedTuple):
    """What a word after ``+`` changes in the description, and on which arrays it makes sense (empty: on any)."""

    changes: dict[str, Any]
    libraries: tuple[str, ...]
    kinds: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    types: dict[str, str] = {}  # noqa: RUF012 - the default of a NamedTuple, never changed


_TORCH = ("torch",)
_JAX_TRACER = "jax._src.interpreters.partial_eval.DynamicJaxprTracer"
QUANTIZED = {"torch.qint8": 1, "torch.quint8": 1, "torch.qint32": 4}
OPAQUE = {
    **QUANTIZED,
    **{f"torch.{sign}int{bits}": 1 for sign in ("", "u") for bits in range(1, 8)},
    **dict.fromkeys(("jax.int2", "jax.uint2", "jax.int4", "jax.uint4", "jax.float4_e2m1fn"), 1),
    "object": 8,
}
"""Bytes of the elements of dtypes that have no numeric meaning in another library."""


def _layout(
    name: str,
    libraries: tuple[str, ...] = _TORCH,
    *,
    densifies: bool = True,
    dense_dtype: str | None = None,
    fixed: tuple[str, ...] = (),
    kinds: tuple[str, ...] = (),
) -> Flag:
    changes = {"layout": name, "densifies": densifies, "dense_dtype": dense_dtype, "fixed": fixed, "strides": None}
    return Flag(changes, libraries, kinds)


def _no_data(reason: str, libraries: tuple[str, ...] = _TORCH, types: dict[str, str] | None = None, **more: Any) -> Flag:
    strides = {} if libraries == ("dlpack",) else {"strides": None}
    return Flag({"no_data": reason, **strides, **more}, libraries, types=types or {})


FLAGS: dict[str, Flag] = {
    "grad": Flag({"requires_grad": True}, ("torch", "dlpack"), ("float", "complex")),
    "tangent": Flag({"tangent": True}, _TORCH, ("float", "complex")),
    "conj": Flag({"pending": "conj"}, _TORCH, ("complex",)),
    "neg": Flag({"pending": "neg"}, _TORCH, ("float", "complex")),
    "zero": Flag({"pending": "zero"}, _TORCH),
    "unpacking": Flag({"pending": "unpacking"}, ("dlpack",)),
    "joining": Flag({"pending": "joining"}, ("dlpack",)),
    "readonly": Flag({"readonly": True}, ("numpy", "array_api_strict", "dlpack")),
    "unknown_readonly": Flag({"readonly": None}, ("dlpack",)),
    "writable_base": Flag({"readonly": True, "writable_base": True}, ("numpy", "array_api_strict")),
    "units": Flag({"units": "a unit"}, ("numpy", "dlpack")),
    "masked": Flag(
        {"masked": True},
        ("numpy", "torch", "dlpack"),
        types={"numpy": "numpy.ma.MaskedArray", "torch": "torch.masked.maskedtensor.core.MaskedTensor"},
    ),
    "swapped": Flag({"swapped": True}, ("numpy",)),
    "unaligned": Flag({"aligned": False}, ("numpy", "cupy", "array_api_strict", "dlpack")),
    "odd_strides": Flag({"strides": None}, ("numpy", "array_api_strict", "cupy")),
    "scalar": Flag({"scalar": True}, ("numpy",)),
    "pinned": Flag({"memory": "pinned"}, ("torch", "dlpack"), devices=("cpu",)),
    "managed": Flag({"memory": "managed"}, ("cupy", "dlpack"), devices=("cuda",)),
    **{f"sparse_{name}": _layout(f"sparse_{name}") for name in ("coo", "csr", "csc", "bsr", "bsc")},
    "mkldnn": _layout("mkldnn", fixed=("cast", "transfer")),
    "nested": _layout("nested", densifies=False, fixed=("meta",)),
    "sharded": _layout("sharded", ("jax",), densifies=False),
    "quantized": _layout("quantized", dense_dtype="float32", fixed=("meta",), kinds=("quantized",)),
    "meta": _no_data("meta", device=Device("meta")),
    "fake": _no_data("fake", types={"torch": "torch._subclasses.fake_tensor.FakeTensor"}),
    **{name: _no_data(name) for name in ("vmap", "jvp", "functional", "uninitialized")},
    "traced": _no_data("traced", ("torch", "jax"), {"jax": _JAX_TRACER}),
    "deleted": _no_data("deleted", ("jax",)),
    "func_grad": _no_data("grad"),
    "no_storage": _no_data("no storage"),
    "null": _no_data("null", ("dlpack",)),
}
"""Every word after ``+``. Two words that change one field differently contradict each other (pending ones add up)."""
