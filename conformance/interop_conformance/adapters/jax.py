"""JAX on the CPU, in its default configuration: 32 bits."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from interop_conformance.adapters._base import Adapter, Idiom, Unsupported, installed_version, why_missing
from interop_conformance.adapters.pyarrow import to_numpy as _from_arrow
from interop_conformance.matrix.memory import aligned

if TYPE_CHECKING:
    from contextlib import ExitStack

    from interop_conformance.matrix.layouts import Layout

__all__ = ["JAX"]


def _jax() -> Any:
    import jax

    return jax


class JAX(Adapter):
    """JAX on the CPU; its arrays are immutable, and always compact."""

    name: ClassVar[str] = "jax"
    states: ClassVar[tuple[str, ...]] = ("plain", "deleted", "traced")
    target: ClassVar[str] = "jax"
    since: ClassVar[str] = "0.8"

    def available(self) -> str:
        return why_missing(self, "jax")

    def version(self) -> str:
        return installed_version("jax")

    def prepare(self) -> None:
        pass  # starts no threads: the client is made when the first array is

    def make(self, values: np.ndarray) -> Any:
        jax = _jax()
        if values.dtype.name in {"int64", "uint64", "float64", "complex128"}:
            raise Unsupported("JAX holds 32 bits unless jax_enable_x64 is set")
        try:
            # Off JAX's alignment, so that it copies: what it takes as it is stays NumPy's memory.
            return jax.device_put(aligned(values, shift=16))  # jax.numpy.array would compile something for every dtype and shape
        except (TypeError, ValueError) as error:
            raise Unsupported(f"JAX has no {values.dtype.name}") from error

    def lay(self, x: Any, layout: Layout) -> Any:
        if layout.name not in {"compact", "1d", "0d", "empty", "5d"}:
            raise Unsupported("JAX's arrays are compact and row-major: views are copies")
        return x

    def from_dlpack(self, x: Any, /, **keywords: Any) -> Any:
        return _jax().dlpack.from_dlpack(x, **keywords)

    def values(self, x: Any) -> np.ndarray:
        # From memory: JAX caches the host copy of an array, as its arrays are immutable; here they are written to all the same.
        if x.dtype.name in {"int4", "float4_e2m1fn"}:  # two to a byte
            return np.array(x.tolist(), dtype=x.dtype).reshape(x.shape)
        order = x.format.layout.major_to_minor
        raw = ctypes.string_at(self.pointer(x), x.size * x.dtype.itemsize) if x.size else b""
        laid = np.frombuffer(bytearray(raw), x.dtype).reshape([x.shape[axis] for axis in order])
        return np.ascontiguousarray(laid.transpose(np.argsort(order))).reshape(x.shape)

    def pointer(self, x: Any) -> int:
        return int(x.unsafe_buffer_pointer())

    def writeable(self, x: Any) -> bool:  # noqa: ARG002 - no JAX array is
        return False

    def put(self, x: Any, state: str, stack: ExitStack) -> Any:
        if state == "deleted":
            x.delete()
            return x
        if state == "traced":
            tracers: list[Any] = []
            _jax().make_jaxpr(tracers.append)(x)
            return tracers[0]
        return super().put(x, state, stack)

    def idiom(self, producer: str) -> Idiom:
        return _IDIOMS.get(producer) or super().idiom(producer)


def _asarray(x: Any) -> Any:
    return _jax().numpy.asarray(x)


_JAX_SAYS = (TypeError, ValueError)  # jax.numpy.asarray: dtypes that JAX lacks
_IDIOMS = {
    **dict.fromkeys(("numpy", "numpy-readonly", "jax"), Idiom("jnp.asarray(x)", _asarray, refuses=_JAX_SAYS)),
    "array-api-strict": Idiom("jnp.asarray(np.asarray(x))", lambda x: _asarray(np.asarray(x)), refuses=(*_JAX_SAYS, RuntimeError)),
    **dict.fromkeys(
        ("torch", "torch-cuda"),
        Idiom(
            "jnp.asarray(x.detach().cpu().numpy())",
            lambda x: _asarray(x.detach().cpu().numpy()),
            permits=frozenset({"grad"}),
            refuses=(*_JAX_SAYS, RuntimeError),
        ),
    ),
    "cupy": Idiom("jnp.asarray(x.get())", lambda x: _asarray(x.get()), refuses=_JAX_SAYS),
    "pyarrow": Idiom(
        "jnp.asarray(x.to_numpy(zero_copy_only=False))",
        lambda x: _asarray(_from_arrow(x)),
        refuses=(*_JAX_SAYS, NotImplementedError),
    ),
}
