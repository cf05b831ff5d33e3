"""array-api-strict: the standard and nothing else, with devices that exist for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from interop_conformance.adapters._base import Adapter, Idiom, Unsupported, installed_version, why_missing
from interop_conformance.adapters.pyarrow import to_numpy as _from_arrow
from interop_conformance.matrix.memory import aligned

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    from interop_conformance.matrix.layouts import Layout

__all__ = ["ArrayAPIStrict"]


def _strict() -> Any:
    import array_api_strict

    return array_api_strict


class ArrayAPIStrict(Adapter):
    """array-api-strict."""

    name: ClassVar[str] = "array-api-strict"
    states: ClassVar[tuple[str, ...]] = ("plain", "odd-device")
    target: ClassVar[str] = "array_api_strict"
    since: ClassVar[str] = "2.3"

    def available(self) -> str:
        return why_missing(self, "array_api_strict")

    def version(self) -> str:
        return installed_version("array-api-strict")

    def prepare(self) -> None:
        _strict()

    def make(self, values: np.ndarray) -> Any:
        strict = _strict()
        dtype = getattr(strict, values.dtype.name, None)
        if dtype is None:
            raise Unsupported(f"the standard has no {values.dtype.name}")
        made = strict.reshape(strict.asarray(values.ravel().tolist(), dtype=dtype), values.shape)
        return type(made)._new(aligned(made._array), device=made.device)

    def lay(self, x: Any, layout: Layout) -> Any:
        # The array inside is a NumPy array, and the class has its own way to wrap one: the strict indexing has no way to say some of these.
        return type(x)._new(layout.view(x._array), device=x.device)

    def from_dlpack(self, x: Any, /, **keywords: Any) -> Any:
        return _strict().from_dlpack(x, **keywords)

    def values(self, x: Any) -> np.ndarray:
        return np.array(x._array)

    def pointer(self, x: Any) -> int:
        return int(x._array.__array_interface__["data"][0])

    def writeable(self, x: Any) -> bool:
        return bool(x._array.flags.writeable)

    def put(self, x: Any, state: str, stack: ExitStack) -> Any:
        if state == "odd-device":
            return type(x)._new(x._array, device=_strict().Device("device1"))
        return super().put(x, state, stack)

    def looks(self, x: Any) -> Mapping[str, Any]:
        return {"strides": x._array.strides, "device": str(x.device)}

    def idiom(self, producer: str) -> Idiom:
        return _IDIOMS.get(producer) or super().idiom(producer)


def _asarray(x: Any) -> Any:
    return _strict().asarray(x)


_STRICT_SAYS = (TypeError, ValueError, NotImplementedError)  # array_api_strict.asarray: dtypes that the standard lacks
_IDIOMS = {
    **dict.fromkeys(("numpy", "numpy-readonly", "array-api-strict"), Idiom("array_api_strict.asarray(x)", _asarray, refuses=_STRICT_SAYS)),
    "jax": Idiom("array_api_strict.asarray(np.asarray(x))", lambda x: _asarray(np.asarray(x)), refuses=(*_STRICT_SAYS, RuntimeError)),
    "torch": Idiom(
        "array_api_strict.asarray(x.detach().cpu().numpy())",
        lambda x: _asarray(x.detach().cpu().numpy()),
        permits=frozenset({"grad"}),
        refuses=(*_STRICT_SAYS, RuntimeError),
    ),
    "pyarrow": Idiom(
        "array_api_strict.asarray(x.to_numpy(zero_copy_only=False))",
        lambda x: _asarray(_from_arrow(x)),
        refuses=_STRICT_SAYS,
    ),
}
