"""What the policy layer is asked about: arrays of every kind, described and not made, and the places they can be sent to.

No library is loaded for it, and no GPU is needed: the arrays are `interop.Description`, and what a library can hold is listed here
once more, so that the planner is asked without the backends. A test compares both with the backends where they are installed.
"""

from __future__ import annotations

from typing import NamedTuple

from interop._model.capabilities import Capabilities
from interop._model.description import CPU, Description, Device
from interop.notation import parse
from interop_conformance.matrix.dtypes import DTYPES

__all__ = ["HOLDS", "SOURCES", "TARGETS", "Source", "Target"]

_SMALL_FLOATS = frozenset(name for name in DTYPES if name.startswith(("float4", "float8")))
_WITHOUT_DATES = frozenset(DTYPES) - {"datetime64"}
_WIDE = frozenset({"int64", "uint64", "float64", "complex128"})
_OFF_BY_DEFAULT = "jax_enable_x64 is off: jax.config.update('jax_enable_x64', True) at the start of the program gives it"

HOLDS = {
    "numpy": Capabilities(
        name="numpy",
        title="NumPy",
        dtypes=_WITHOUT_DATES,  # the small ones, and complex32, by ml_dtypes
        devices=frozenset({"cpu"}),
        readonly_arrays=True,
        negative_strides=True,
        foreign_byte_order=True,
        unaligned=True,
        odd_strides=True,
        extension=_SMALL_FLOATS | {"bfloat16", "complex32", "int4"},
        casts_opaque=("datetime64",),
    ),
    "torch": Capabilities(
        name="torch",
        title="torch",
        dtypes=_WITHOUT_DATES - {"longdouble", "int4", "float4_e2m1fn"},  # of the last two it has the shells, without values
        devices=frozenset({"cpu", "cuda", "meta"}),
    ),
    "cupy": Capabilities(
        name="cupy",
        title="CuPy",
        dtypes=_WITHOUT_DATES - _SMALL_FLOATS - {"longdouble", "int4", "complex32"},
        devices=frozenset({"cuda"}),
        default_device="cuda",
        negative_strides=True,
        extension=frozenset({"bfloat16"}),
    ),
    "jax": Capabilities(
        name="jax",
        title="JAX",
        dtypes=_WITHOUT_DATES - _WIDE - {"longdouble", "complex32", "int4", "float4_e2m1fn"},  # of the last two it has its own, packed
        devices=frozenset({"cpu", "cuda"}),
        readonly_arrays=True,
        immutable=True,
        alignment={"cpu": 64, "cuda": 16},
        compact=True,
        why_lacking=dict.fromkeys(_WIDE, _OFF_BY_DEFAULT),
        casts_opaque=("jax.",),
    ),
    "array_api_strict": Capabilities(
        name="array_api_strict",
        title="array-api-strict",
        dtypes=_WITHOUT_DATES - _SMALL_FLOATS - {"float16", "bfloat16", "longdouble", "complex32", "int4"},
        devices=frozenset({"cpu", "ext"}),
        readonly_arrays=True,
        negative_strides=True,
        unaligned=True,
        odd_strides=True,
    ),
    "dlpack": Capabilities(
        name="dlpack",
        title="DLPack",
        dtypes=_WITHOUT_DATES,
        devices=frozenset({"cpu", "cuda"}),
        lacking={"cuda": frozenset(DTYPES)},  # there is no cast for a producer on its device
        only_to_host=True,
        readonly_arrays=True,
        negative_strides=True,
    ),
}
"""What arrays of a library can be; only as far as the sources below ask."""


class Source(NamedTuple):
    """A described array: `dtype`, `layout` and `state` are how the handoff layer would call it."""

    description: Description
    dtype: str = "float32"
    layout: str = "compact"
    state: str = "plain"


def _of(spec: str, state: str = "plain", layout: str = "compact", dtype: str = "float32") -> Source:
    return Source(parse(spec), dtype, layout, state)


_DATES = parse("numpy:object[2,3]").replace(dtype="datetime64[D]")
_OFF_64 = parse("numpy:float32[2,3]").replace(pointer=4096 + 16)
_WRAPPER = parse("torch:float32[2,3]").replace(type="user.Wrapper", layout="wrapper Wrapper", strides=None)

SOURCES = {
    "numpy": _of("numpy:float32[2,3]"),
    "numpy-read-only": _of("numpy:float32[2,3]+readonly", "read-only"),
    "numpy-view": _of("numpy:float32[2,3]+writable_base", "read-only"),  # of memory that others can write to
    "numpy-units": _of("numpy:float32[2,3]+units", "subclass"),
    "numpy-units-masked-big-endian": _of("numpy:float32[2,3]+units+masked+swapped", "masked+big-endian"),
    "numpy-masked": _of("numpy:float32[2,3]+masked", "masked"),
    "numpy-big-endian": _of("numpy:float32[2,3]+swapped", "big-endian"),
    "numpy-read-only-big-endian": _of("numpy:float32[2,3]+readonly+swapped", "read-only+big-endian"),
    "numpy-masked-longdouble": _of("numpy:longdouble[2,3]+masked+swapped", "masked+big-endian", dtype="longdouble"),
    "numpy-reversed": _of("numpy:float32[2,3]+strides=-3,1", layout="reversed"),
    "numpy-reversed-length-1": _of("numpy:float32[1,3]+strides=-3,1", layout="reversed-length-1"),
    "numpy-unaligned": _of("numpy:float32[2,3]+unaligned", layout="unaligned"),
    "numpy-off-64": Source(_OFF_64, layout="offset"),  # aligned for its dtype, and not for JAX
    "numpy-stepped": _of("numpy:float32[2,3]+strides=6,2", layout="stepped"),
    "numpy-transposed": _of("numpy:float32[2,3]+strides=1,2", layout="transposed"),
    "numpy-scalar": _of("numpy:float32[]+scalar", layout="0d"),
    "numpy-bfloat16": _of("numpy:bfloat16[2,3]", dtype="bfloat16"),
    "numpy-float64": _of("numpy:float64[2,3]", dtype="float64"),
    "numpy-longdouble": _of("numpy:longdouble[2,3]", dtype="longdouble"),
    "numpy-datetime64": Source(_DATES, dtype="datetime64"),
    "torch": _of("torch:float32[2,3]"),
    "torch-grad": _of("torch:float32[2,3]+grad", "grad"),
    "torch-dual": _of("torch:float32[2,3]+tangent", "dual"),
    "torch-conj": _of("torch:complex64[2,3]+conj", "conj", dtype="complex64"),
    "torch-neg": _of("torch:float32[2,3]+neg", "neg"),
    "torch-bfloat16": _of("torch:bfloat16[2,3]", dtype="bfloat16"),
    "torch-float8": _of("torch:float8_e4m3fn[2,3]", dtype="float8_e4m3fn"),
    "torch-complex32": _of("torch:complex32[2,3]", dtype="complex32"),
    "torch-int4": _of("torch:torch.int4[2,3]", dtype="int4"),
    "torch-sparse": _of("torch:float32[2,3]+sparse_coo", "sparse"),
    "torch-sparse-grad": _of("torch:float32[2,3]+sparse_coo+grad", "sparse+grad"),
    "torch-quantized": _of("torch:quint8[2,3]", "quantized"),
    "torch-wrapper": Source(_WRAPPER, state="wrapper"),
    "torch-meta": _of("torch:float32[2,3]@meta", "meta"),
    "torch-fake": _of("torch:float32[2,3]+fake", "fake"),
    "torch-pinned": _of("torch:float32[2,3]+pinned", "pinned"),
    "torch-cuda": _of("torch:float32[2,3]@cuda:0"),
    "torch-cuda-grad": _of("torch:float32[2,3]@cuda:0+grad", "grad"),
    "torch-cuda-conj": _of("torch:complex64[2,3]@cuda:0+conj", "conj", dtype="complex64"),
    "torch-cuda-bfloat16": _of("torch:bfloat16[2,3]@cuda:0", dtype="bfloat16"),
    "torch-cuda-all": _of("torch:float8_e5m2[2,3]@cuda:0+sparse_coo+grad+neg", "sparse+grad+neg", dtype="float8_e5m2"),
    "cupy": _of("cupy:float32[2,3]"),
    "cupy-cuda:1": _of("cupy:float32[2,3]@cuda:1"),
    "cupy-managed": _of("cupy:float32[2,3]+managed", "managed"),
    "cupy-reversed": _of("cupy:float32[2,3]+strides=-3,1", layout="reversed"),
    "jax": _of("jax:float32[2,3]"),
    "jax-bfloat16": _of("jax:bfloat16[2,3]", dtype="bfloat16"),
    "jax-int4": _of("jax:jax.int4[2,3]", dtype="int4"),
    "jax-traced": _of("jax:float32[2,3]+traced", "traced"),
    "jax-deleted": _of("jax:float32[2,3]+deleted", "deleted"),
    "jax-cuda": _of("jax:float32[2,3]@cuda:0"),
    "array-api-strict": _of("array_api_strict:float32[2,3]"),
    "array-api-strict-read-only": _of("array_api_strict:float32[2,3]+readonly", "read-only"),
    "array-api-strict-ext:1": _of("array_api_strict:float32[2,3]@ext:1", "odd-device"),
    "dlpack": _of("dlpack:float32[2,3]"),
    "dlpack-read-only": _of("dlpack:float32[2,3]+readonly", "read-only"),
    "dlpack-legacy": _of("dlpack:float32[2,3]+unknown_readonly"),  # it cannot say whether it is read-only
    "dlpack-grad": _of("dlpack:float32[2,3]+grad", "grad"),
    "dlpack-cuda": _of("dlpack:float8_e4m3fn[2,3]@cuda:0", dtype="float8_e4m3fn"),
    "dlpack-cuda-legacy": _of("dlpack:float32[2,3]@cuda:0+unknown_readonly"),
    "dlpack-cuda-reversed": _of("dlpack:float32[2,3]@cuda:0+strides=-3,1", layout="reversed"),
    "dlpack-cuda-unaligned": _of("dlpack:float32[2,3]@cuda:0+unaligned", layout="unaligned"),
    "dlpack-cuda-read-only": _of("dlpack:float32[2,3]@cuda:0+readonly", "read-only"),  # as JAX's are
}
"""Every source by its label; ``torch-cuda`` is on device 0, and ``dlpack`` is any library that interop does not know."""


class Target(NamedTuple):
    """Where to: a library, and what the call names besides. With `like` the device is that of another array, and not asked for by name."""

    library: str
    device: Device | None = None
    like: bool = False
    dtype: str | None = None

    @property
    def holds(self) -> Capabilities:
        """Return what its arrays can be."""
        return HOLDS[self.library]


_CUDA, _SECOND, _ODD = Device("cuda", 0), Device("cuda", 1), Device("ext", 1)

TARGETS = {
    "numpy": Target("numpy"),
    "numpy-cpu": Target("numpy", CPU),
    "numpy-cuda:0": Target("numpy", _CUDA),
    "numpy-as-float32": Target("numpy", dtype="float32"),
    "torch": Target("torch"),
    "torch-cpu": Target("torch", CPU),
    "torch-cuda:0": Target("torch", _CUDA),
    "torch-like-cuda:1": Target("torch", _SECOND, like=True),
    "torch-as-float32": Target("torch", dtype="float32"),
    "cupy": Target("cupy"),
    "cupy-cuda:1": Target("cupy", _SECOND),
    "cupy-cpu": Target("cupy", CPU),
    "jax": Target("jax"),
    "jax-cpu": Target("jax", CPU),
    "jax-cuda:0": Target("jax", _CUDA),
    "jax-as-float32": Target("jax", dtype="float32"),
    "array-api-strict": Target("array_api_strict"),
    "array-api-strict-ext:1": Target("array_api_strict", _ODD),
    "array-api-strict-like-ext:1": Target("array_api_strict", _ODD, like=True),
}
"""Every target by its label: ``torch-cuda:0`` is ``device="cuda:0"``, ``-as-float32`` is ``dtype="float32"``."""
