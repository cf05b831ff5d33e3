"""A library that prints: when it is imported, when it is prepared, in every handoff and at its end. Else it goes by the book."""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from interop_conformance.adapters import Adapter, Unsupported

from tests.conformance.mini import consumer, producer
from tests.conformance.strangers import NUMBERS, shout

if TYPE_CHECKING:
    from contextlib import ExitStack

    from interop_conformance.matrix.layouts import Layout

shout("import")
atexit.register(shout, "exit")


class _Exported(producer.Mini):
    def address(self) -> tuple[int, int]:
        return self.pointer, 0


class Array:
    """An array, over one of NumPy's that it does not show."""

    def __init__(self, held: np.ndarray) -> None:
        self.held, self.shape = held, held.shape

    def __getitem__(self, index: Any) -> Array:
        return type(self)(self.held[index])

    def __dlpack_device__(self) -> tuple[int, int]:
        return producer.CPU

    def __dlpack__(self, **asked: Any) -> Any:
        shout("export")
        return _Exported(self.held, readonly=not self.held.flags.writeable).__dlpack__(**asked)


class Loud(Adapter):
    """The library's adapter."""

    name: ClassVar[str] = "loud"
    states: ClassVar[tuple[str, ...]] = ("plain", "read-only")
    array: ClassVar[type[Array]] = Array
    taker: ClassVar[str] = ""

    def available(self) -> str:
        shout("available")
        return ""

    def version(self) -> str:
        return "1.0"

    def prepare(self) -> None:
        shout("prepare")

    def make(self, values: np.ndarray) -> Array:
        if values.dtype.name not in NUMBERS:
            raise Unsupported(f"loud has no {values.dtype.name}")
        return self.array(producer.aligned(values))

    def lay(self, x: Array, layout: Layout) -> Array:
        return self.array(layout.view(x.held))

    def put(self, x: Array, state: str, stack: ExitStack) -> Array:
        if state == "read-only":
            x.held.flags.writeable = False
            return x
        return super().put(x, state, stack)

    def from_dlpack(self, x: Any, /, **keywords: Any) -> Array:
        shout("import")
        held = consumer.Mini(self.taker).from_dlpack(x, **keywords).held
        if held.dtype.name not in NUMBERS:
            raise BufferError(f"loud has no {held.dtype.name}")
        return self.array(held)

    def values(self, x: Array) -> np.ndarray:
        shout("values")
        return np.array(x.held)

    def pointer(self, x: Array) -> int:
        return int(x.held.__array_interface__["data"][0])

    def writeable(self, x: Array) -> bool:
        return bool(x.held.flags.writeable)


class Deaf(Loud):
    """A liar: what it takes can be written to, whatever the flag says."""

    taker: ClassVar[str] = "readonly-kept"


class _Mortal(Array):
    def __dlpack__(self, **asked: Any) -> Any:
        if self.held.dtype.name == "int8":
            os.abort()
        return super().__dlpack__(**asked)


class Mortal(Loud):
    """A liar: its arrays of int8 end the process when they are exported, as TensorFlow's strings do."""

    array: ClassVar[type[Array]] = _Mortal


class Unprepared(Loud):
    """Ends the process that prepares it."""

    def prepare(self) -> None:
        os.abort()


class Broken(Loud):
    """Cannot be imported."""

    def prepare(self) -> None:
        raise ImportError("libloud.so: cannot open\x1b[31m shared object file")
