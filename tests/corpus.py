"""Real arrays of every kind that the hazards name, each with what it means, found by an independent path.

`truth` is a NumPy array built from literals (never by converting the source), or None where there is
nothing to hand over. `lost` names what would be lost silently if a conversion went through unasked.
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import ml_dtypes
import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

if TYPE_CHECKING:
    from collections.abc import Callable

GRID = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
WAVE = [[1 + 2j, 3 - 1j], [-2 + 0.5j, 4j]]


@dataclass(frozen=True)
class Source:
    """A way to make an array, what it means, and what must not be lost silently."""

    name: str
    make: Callable[[], Any]
    truth: Any
    lost: frozenset[str] = field(default_factory=frozenset)
    inside: Callable[[], Any] = contextlib.nullcontext

    def __str__(self) -> str:
        return self.name


def grid(dtype: Any = "float32") -> np.ndarray:
    return np.array(GRID).astype(dtype)


def aligned(shape: Any, dtype: str = "float32", offset: int = 0, values: Any = None) -> np.ndarray:
    """Return an ndarray that starts `offset` bytes after a multiple of 64, as JAX asks, with values 1, 2, 3, ..."""
    kind, count = np.dtype(getattr(ml_dtypes, dtype, dtype)), int(np.prod(shape))
    raw = np.zeros(count * kind.itemsize + 128, "uint8")
    start = -raw.__array_interface__["data"][0] % 64 + offset
    made = raw[start : start + count * kind.itemsize].view(kind).reshape(shape)
    made[...] = np.arange(1, count + 1).reshape(shape).astype(kind) if values is None else values
    return made


def tensor(dtype: str = "float32", **words: Any) -> torch.Tensor:
    return torch.tensor(GRID).to(getattr(torch, dtype)).requires_grad_(words.get("grad", False))


def wave() -> torch.Tensor:
    return torch.tensor(WAVE, dtype=torch.complex64)


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def unaligned() -> np.ndarray:
    raw = np.zeros(25, "uint8")[1:]
    view = raw.view("float32")
    view[:] = [1, 2, 3, 4, 5, 6]
    return view.reshape(2, 3)


def record_field(name: str) -> np.ndarray:
    table = np.zeros(3, dtype=[("flag", "u1"), ("x", "<f4"), ("y", "<f8")])
    table["x"], table["y"] = [1, 2, 3], [4, 5, 6]
    return table[name]


def padded_field() -> np.ndarray:
    table = np.zeros(3, dtype=np.dtype([("x", "<f4"), ("y", "<i4"), ("z", "<f4")]))
    table["x"] = [1, 2, 3]
    return table["x"]


class Tagged(np.ndarray):
    """An ndarray subclass without a mask."""


class MaskedLike(np.ndarray):
    """An ndarray subclass with a mask that is not numpy.ma's (astropy has one)."""

    mask = np.array([[False, True, False], [False, False, False]])


class Labelled(torch.Tensor):
    """A tensor subclass with storage of its own."""


class Wrapper(torch.Tensor):
    """A wrapper subclass: no storage of its own."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Self:
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*(Wrapper.unwrap(a) for a in args), **(kwargs or {}))

    @staticmethod
    def unwrap(x: Any) -> Any:
        return x.inner if isinstance(x, Wrapper) else x


def masked_tensor() -> Any:
    from torch.masked import masked_tensor as make

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.masked calls itself a prototype on every use
        return make(torch.tensor(GRID), torch.tensor([[True, False, True], [True, True, True]]))


def quantized() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.quantize_per_tensor announces its deprecation
        return torch.quantize_per_tensor(torch.tensor(GRID), 0.5, 0, torch.quint8)


def sparse(layout: str) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sparse CSR announces that it is in beta
        return getattr(torch.tensor(GRID), f"to_sparse_{layout}" if layout != "coo" else "to_sparse")()


def nested(layout: Any) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nested tensors announce that they are a prototype
        return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout)


def fake() -> torch.Tensor:
    with FakeTensorMode():
        return torch.ones(2, 3)


def dual() -> torch.Tensor:
    return forward_ad.make_dual(tensor(), torch.ones(2, 3))


def resized() -> torch.Tensor:
    made = tensor()
    made.untyped_storage().resize_(0)
    return made


def resized_offset() -> torch.Tensor:
    made = tensor()[1:, 1:]  # its address is an offset from nothing, and not zero
    made.untyped_storage().resize_(0)
    return made


def inference() -> torch.Tensor:
    with torch.inference_mode():
        return tensor()


def memory_mapped() -> np.ndarray:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:  # the mapping outlives the file's name
        path = Path(folder) / "grid.npy"
        np.save(path, grid())
        return np.load(path, mmap_mode="r")


def arrow() -> Any:
    import pyarrow

    return pyarrow.array([1.0, 2.0, 3.0], type=pyarrow.float32())


def jax_array(dtype: str = "float32", values: Any = GRID) -> Any:
    import jax.numpy

    return jax.numpy.asarray(values, dtype=dtype)


def jax_wide() -> Any:
    import jax

    with jax.enable_x64(True):  # and off again: such arrays are there all the same
        return jax_array("float64")


def jax_permuted() -> Any:
    """Return what compiled code may leave: the axes in another order than C's."""
    import jax
    from jax.experimental.layout import Format, Layout

    made = jax_array()
    return jax.device_put(made, Format(Layout((1, 0)), made.sharding))


def jax_tracer() -> Any:
    import jax

    kept: list[Any] = []
    jax.make_jaxpr(kept.append)(jax_array())
    return kept[0]


def jax_deleted() -> Any:
    made = jax_array()
    made.delete()
    return made


def jax_key() -> Any:
    import jax

    return jax.random.key(0)


def strict_array(dtype: str = "float32", device: str = "CPU_DEVICE") -> Any:
    import array_api_strict

    return array_api_strict.asarray(GRID, dtype=getattr(array_api_strict, dtype), device=array_api_strict.Device(device))


def strict_view(view: Callable[[np.ndarray], np.ndarray]) -> Any:
    made = strict_array()
    return type(made)._new(view(made._array), device=made.device)


def tvm_tensor() -> Any:
    import tvm_ffi

    return tvm_ffi.from_dlpack(tensor())


F32 = np.array(GRID, "float32")
LINE = np.array([1.0, 2.0, 3.0], "float32")

NUMPY_DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"]
NUMPY_DTYPES += ["complex64", "complex128", "longdouble", "clongdouble"]
SMALL = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]
TORCH_DTYPES = [d for d in NUMPY_DTYPES if "long" not in d] + SMALL

NUMPY_SOURCES = [
    *(Source(f"numpy-{d}", lambda d=d: grid(d), np.array(GRID).astype(d)) for d in NUMPY_DTYPES),
    *(Source(f"numpy-{d}", lambda d=d: grid(getattr(ml_dtypes, d)), np.array(GRID).astype(getattr(ml_dtypes, d))) for d in SMALL),
    Source("numpy-ulonglong", lambda: grid("Q"), np.array(GRID).astype("uint64")),  # of the same size as uint64, and another type
    Source("numpy-int4", lambda: np.array([1, 2, 3]).astype(ml_dtypes.int4), np.array([1, 2, 3], ml_dtypes.int4)),
    Source("numpy-transposed", lambda: grid().T, F32.T.copy()),
    Source("numpy-fortran", lambda: np.asfortranarray(grid()), F32),
    Source("numpy-reversed", lambda: grid()[::-1], np.array(GRID[::-1], "float32")),
    Source("numpy-reversed-both", lambda: grid()[::-1, ::-1], np.array([[6, 5, 4], [3, 2, 1]], "float32")),
    Source("numpy-rot90", lambda: np.rot90(grid()), np.array([[3, 6], [2, 5], [1, 4]], "float32")),
    Source("numpy-reversed-length-1", lambda: grid()[:1][::-1], F32[:1]),
    Source(
        "numpy-reversed-length-1-float8",
        lambda: grid(ml_dtypes.float8_e5m2)[:1][::-1],
        np.array(GRID[:1]).astype(ml_dtypes.float8_e5m2),
    ),
    Source("numpy-reversed-empty", lambda: np.zeros((0, 3), "float32")[::-1], np.zeros((0, 3), "float32")),
    Source("numpy-sliced", lambda: grid()[:, ::2], np.array([[1, 3], [4, 6]], "float32")),
    Source("numpy-offset", lambda: grid()[1:, 1:], np.array([[5, 6]], "float32")),
    Source("numpy-0d", lambda: np.array(3.0, "float32"), np.array(3.0, "float32")),
    Source("numpy-empty", lambda: np.zeros((0, 3), "float32"), np.zeros((0, 3), "float32")),
    Source("numpy-broadcast", lambda: np.broadcast_to(LINE, (2, 3)), np.array([[1, 2, 3]] * 2, "float32"), frozenset({"readonly"})),
    Source("numpy-readonly", lambda: read_only(grid()), F32, frozenset({"readonly"})),
    Source("numpy-readonly-reversed", lambda: read_only(grid())[::-1], np.array(GRID[::-1], "float32"), frozenset({"readonly"})),
    Source("numpy-readonly-bfloat16", lambda: read_only(grid(ml_dtypes.bfloat16)), F32.astype(ml_dtypes.bfloat16), frozenset({"readonly"})),
    Source("numpy-readonly-0d", lambda: read_only(np.array(3.0)), np.array(3.0), frozenset({"readonly"})),
    Source("numpy-memmap", memory_mapped, F32, frozenset({"readonly"})),
    Source("numpy-big-endian", lambda: grid(">f4"), F32),
    Source("numpy-big-endian-complex", lambda: np.array(WAVE, ">c16"), np.array(WAVE)),
    Source("numpy-unaligned", unaligned, F32),
    Source("numpy-field-odd-strides", lambda: record_field("y"), np.array([4.0, 5, 6])),
    Source("numpy-field-unaligned", lambda: record_field("x"), LINE),
    Source("numpy-field-even-strides", padded_field, LINE),
    Source("numpy-scalar", lambda: np.float32(3.0), np.array(3.0, "float32")),
    Source("numpy-matrix", lambda: Tagged(shape=(2, 3), dtype="float32", buffer=grid()), F32),
    Source("numpy-masked", lambda: np.ma.array(grid(), mask=[[0, 1, 0], [0, 0, 0]]), F32, frozenset({"mask"})),
    Source("numpy-masked-by-others", lambda: grid().view(MaskedLike), F32, frozenset({"mask"})),
    Source("numpy-masked-reversed", lambda: np.ma.array(grid(), mask=[[0, 1, 0], [0, 0, 0]])[::-1], F32[::-1].copy(), frozenset({"mask"})),
    Source("numpy-masked-no-mask", lambda: np.ma.array(grid()), F32),
    Source("numpy-object", lambda: np.array([1, "a", None], dtype=object), None),
    Source("numpy-str", lambda: np.array(["a", "b"]), None),
    Source("numpy-bytes", lambda: np.array([b"a", b"b"]), None),
    Source("numpy-datetime", lambda: np.array(["2026-11-21"], "datetime64[D]"), None),
    Source("numpy-timedelta", lambda: np.array([1], "timedelta64[s]"), None),
    Source("numpy-structured", lambda: np.zeros(3, dtype=[("x", "f4"), ("y", "f8")]), None),
    Source("numpy-void", lambda: np.zeros(3, dtype="V5"), None),
]

GRAD = frozenset({"grad"})
BIASED = np.array([[3, 4, 5], [6, 7, 8]], "float32")
TORCH_SOURCES = [
    *(Source(f"torch-{d}", lambda d=d: tensor(d), np.array(GRID).astype(getattr(ml_dtypes, d, d))) for d in TORCH_DTYPES),
    Source(
        "torch-float8_e8m0fnu",
        lambda: torch.tensor([1.0, 2.0, 4.0]).to(torch.float8_e8m0fnu),
        np.array([1, 2, 4]).astype(ml_dtypes.float8_e8m0fnu),
    ),
    Source("torch-transposed", lambda: tensor().T, F32.T.copy()),
    Source("torch-sliced", lambda: tensor()[:, ::2], np.array([[1, 3], [4, 6]], "float32")),
    Source("torch-offset", lambda: tensor()[1:, 1:], np.array([[5, 6]], "float32")),
    Source("torch-expanded", lambda: torch.tensor([1.0, 2.0, 3.0]).expand(2, 3), np.array([[1, 2, 3]] * 2, "float32")),
    Source("torch-0d", lambda: torch.tensor(3.0), np.array(3.0, "float32")),
    Source("torch-0d-bfloat16", lambda: torch.tensor(3.0, dtype=torch.bfloat16), np.array(3.0).astype(ml_dtypes.bfloat16)),
    Source("torch-empty", lambda: torch.zeros(0, 3), np.zeros((0, 3), "float32")),
    Source("torch-bfloat16-transposed", lambda: tensor("bfloat16").T, F32.T.astype(ml_dtypes.bfloat16)),
    Source("torch-grad-leaf", lambda: tensor(grad=True), F32, GRAD),
    Source("torch-grad-0d", lambda: torch.tensor(3.0, requires_grad=True), np.array(3.0, "float32"), GRAD),
    Source("torch-grad-empty", lambda: torch.zeros(0, 3, requires_grad=True), np.zeros((0, 3), "float32"), GRAD),
    Source("torch-grad-bfloat16", lambda: tensor("bfloat16", grad=True), F32.astype(ml_dtypes.bfloat16), GRAD),
    Source("torch-parameter", lambda: torch.nn.Parameter(tensor()), F32, GRAD),
    Source("torch-parameter-frozen", lambda: torch.nn.Parameter(tensor(), requires_grad=False), F32),
    Source("torch-non-leaf", lambda: tensor(grad=True) + 2, BIASED, GRAD),
    Source("torch-grad-under-no_grad", lambda: tensor(grad=True), F32, GRAD, inside=torch.no_grad),
    Source("torch-grad-under-inference", lambda: tensor(grad=True), F32, GRAD, inside=torch.inference_mode),
    Source("torch-inference", inference, F32),
    Source("torch-dual", dual, F32, GRAD, inside=forward_ad.dual_level),
    Source("torch-plain-in-dual-level", tensor, F32, inside=forward_ad.dual_level),
    Source("torch-conj", lambda: wave().conj(), np.array(WAVE, "complex64").conj()),
    Source("torch-neg", lambda: wave().conj().imag, np.array([[-2, 1], [-0.5, -4]], "float32")),
    Source("torch-neg-transposed", lambda: wave().conj().imag.T, np.array([[-2, -0.5], [1, -4]], "float32")),
    Source("torch-conj-transposed", lambda: wave().mH, np.array(WAVE, "complex64").conj().T),
    Source("torch-conj-grad", lambda: wave().requires_grad_().conj(), np.array(WAVE, "complex64").conj(), GRAD),
    Source("torch-neg-grad", lambda: wave().requires_grad_().conj().imag.T, np.array([[-2, -0.5], [1, -4]], "float32"), GRAD),
    Source("torch-complex32", lambda: wave().to(torch.complex32), np.array(WAVE).astype(getattr(ml_dtypes, "complex32", "complex64"))),
    Source("torch-zerotensor", lambda: torch._efficientzerotensor(3), np.zeros(3, "float32")),
    Source("torch-sparse-coo", lambda: sparse("coo"), F32, frozenset({"layout"})),
    Source("torch-sparse-csr", lambda: sparse("csr"), F32, frozenset({"layout"})),
    Source("torch-sparse-csc", lambda: sparse("csc"), F32, frozenset({"layout"})),
    Source("torch-sparse-grad", lambda: sparse("coo").requires_grad_(), F32, frozenset({"layout", "grad"})),
    Source("torch-quantized", quantized, F32, frozenset({"layout"})),
    Source("torch-mkldnn", lambda: tensor().to_mkldnn(), F32, frozenset({"layout"})),
    Source("torch-masked", masked_tensor, F32, frozenset({"mask"})),
    Source("torch-subclass", lambda: tensor().as_subclass(Labelled), F32),
    Source("torch-nested", lambda: nested(torch.strided), None),
    Source("torch-jagged", lambda: nested(torch.jagged), None),
    Source("torch-wrapper", lambda: Wrapper(tensor()), None),
    Source("torch-meta", lambda: torch.empty(2, 3, device="meta"), None),
    Source("torch-meta-grad", lambda: torch.empty(2, 3, device="meta", requires_grad=True), None),
    Source("torch-fake", fake, None),
    Source("torch-real-under-fake-mode", tensor, F32, inside=lambda: FakeTensorMode(allow_non_fake_inputs=True)),
    Source("torch-resized-to-nothing", resized, None),
    Source("torch-resized-to-nothing-offset", resized_offset, None),
    Source("torch-lazy-parameter", torch.nn.parameter.UninitializedParameter, None),
    Source("torch-int4", lambda: torch.empty(2, dtype=torch.int4), None),
    Source("torch-int1", lambda: torch.empty(2, dtype=torch.int1), None),
    Source("torch-fp4", lambda: torch.empty(2, dtype=torch.float4_e2m1fn_x2), None),
    Source("torch-bits8", lambda: torch.empty(2, dtype=torch.bits8), None),
]

READ_ONLY = frozenset({"readonly"})
JAX_DTYPES = [d for d in NUMPY_DTYPES if "64" not in d and "128" not in d and "long" not in d] + ["complex64", *SMALL]
JAX_SOURCES = [
    *(Source(f"jax-{d}", lambda d=d: jax_array(d), np.array(GRID).astype(getattr(ml_dtypes, d, d)), READ_ONLY) for d in JAX_DTYPES),
    Source("jax-float64-though-off", jax_wide, np.array(GRID), READ_ONLY),
    Source("jax-permuted", jax_permuted, F32, READ_ONLY),
    Source("jax-0d", lambda: jax_array(values=3.0), np.array(3.0, "float32"), READ_ONLY),
    Source("jax-length-1", lambda: jax_array(values=[[3.0]]), np.array([[3.0]], "float32"), READ_ONLY),
    Source("jax-empty", lambda: jax_array(values=np.zeros((0, 3))), np.zeros((0, 3), "float32"), READ_ONLY),
    Source("jax-int4", lambda: jax_array("int4"), None),
    Source("jax-key", jax_key, None),
    Source("jax-tracer", jax_tracer, None),
    Source("jax-deleted", jax_deleted, None),
]

STRICT_DTYPES = [d for d in NUMPY_DTYPES if d != "float16" and "long" not in d]
STRICT_SOURCES = [
    *(Source(f"strict-{d}", lambda d=d: strict_array(d), np.array(GRID).astype(d)) for d in STRICT_DTYPES),
    Source("strict-transposed", lambda: strict_view(np.transpose), F32.T.copy()),
    Source("strict-reversed", lambda: strict_view(np.flip), F32[::-1, ::-1].copy()),
    Source("strict-readonly", lambda: strict_view(read_only), F32, READ_ONLY),
    Source("strict-0d", lambda: strict_view(lambda a: a[0, 2, ...]), np.array(3.0, "float32")),
    Source("strict-empty", lambda: strict_view(lambda a: a[:0]), np.zeros((0, 3), "float32")),
    Source("strict-on-device1", lambda: strict_array(device="device1"), F32, frozenset({"transfer"})),
]

FOREIGN_SOURCES = [
    Source("arrow", arrow, LINE, READ_ONLY),
    Source("tvm-ffi", tvm_tensor, F32),
]

NOT_ARRAYS = [
    [1, 2],
    (1.0,),
    None,
    3.0,
    "text",
    b"bytes",
    {"a": 1},
    object(),
    np,
    np.ndarray,
    torch.float32,
    np.dtype("f4"),
    range(3),
    memoryview(b"abc"),
]

SOURCES = [*NUMPY_SOURCES, *TORCH_SOURCES, *JAX_SOURCES, *STRICT_SOURCES, *FOREIGN_SOURCES]
