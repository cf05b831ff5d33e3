"""A library with next to nothing: legacy capsules without a manager context, no keywords, no array of no axes, and views that are NumPy's."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from interop_conformance.adapters import Adapter, Unsupported

from tests.conformance.mini import consumer, producer
from tests.conformance.strangers import NUMBERS


class Exported(producer.Mini):
    """What goes out: the legacy structure. The manager context is NULL."""

    def legacy(self) -> Any:
        return self.export(copied=False, versioned=False)


class Array:
    """An array; there is none of no axes, but a scalar of NumPy's."""

    exported: ClassVar[type[Exported]] = Exported

    def __init__(self, held: np.ndarray) -> None:
        self.held = held

    @property
    def shape(self) -> tuple[int, ...]:
        return self.held.shape

    @property
    def T(self) -> Array:
        return type(self)(self.held.T)

    def __getitem__(self, index: Any) -> Any:
        found = self.held[index]
        return type(self)(found) if found.ndim else found[()]

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        return self.held

    def __dlpack_device__(self) -> tuple[int, int]:
        return producer.CPU

    def __dlpack__(self) -> Any:
        return self.exported(self.held).legacy()


class Bare(Adapter):
    """The library's adapter, with what it must have."""

    name: ClassVar[str] = "bare"
    array: ClassVar[type[Array]] = Array
    fault: ClassVar[str] = ""

    def available(self) -> str:
        return ""

    def version(self) -> str:
        return "0.1"

    def make(self, values: np.ndarray) -> Any:
        if values.dtype.name not in NUMBERS:
            raise Unsupported(f"bare has no {values.dtype.name}")
        return self.array(producer.aligned(values)) if values.ndim else values[()]

    def from_dlpack(self, x: Any, /, **keywords: Any) -> Any:
        if keywords:
            raise Unsupported(f"bare.from_dlpack has no {', '.join(keywords)}")
        taker = consumer.Mini(self.fault)
        taker._devices(x, None)
        held = taker._read(x.__dlpack__(), None)
        if held.dtype.name not in NUMBERS or not held.ndim:
            raise BufferError(f"bare has no {held.dtype.name} arrays with {held.ndim} axes")
        return self.array(held)

    def values(self, x: Any) -> np.ndarray:
        return np.array(x.held)

    def pointer(self, x: Any) -> int:
        return int(x.held.__array_interface__["data"][0])

    def writeable(self, x: Any) -> bool:
        return True


class Forgetful(Bare):
    """A liar: without a manager context it does not call the deleter, as Paddle."""

    fault: ClassVar[str] = "context-null"


class _Late(Array):
    class exported(Exported):
        def address(self) -> tuple[int, int]:
            pointer, offset = super().address()
            return pointer, offset + self.values.itemsize


class Shifted(Bare):
    """A liar: its exports begin one element late."""

    array: ClassVar[type[Array]] = _Late
