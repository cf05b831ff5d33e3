"""The miniature library as the suite sees it: on the CPU, and claiming to be on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from interop_conformance.adapters import Adapter, Unsupported

from tests.conformance.mini.producer import CPU, CUDA, EXT, MANAGED, PINNED, Mini, Streams, aligned

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    from interop_conformance.matrix.layouts import Layout


class MiniAdapter(Adapter):
    """The miniature, as the suite sees it; `array` is the honest class or a liar."""

    name: ClassVar[str] = "mini"
    states: ClassVar[tuple[str, ...]] = ("plain", "read-only", "big-endian", "meta", "odd-device", "pinned", "managed")
    consumes: ClassVar[bool] = False
    array: ClassVar[type[Mini]] = Mini
    places: ClassVar[Mapping[str, tuple[int, int]]] = {"odd-device": EXT, "pinned": PINNED, "managed": MANAGED}

    def available(self) -> str:
        return ""

    def version(self) -> str:
        return "1.0"

    def make(self, values: np.ndarray) -> Mini:
        return self.array(aligned(values), CUDA if self.device == "cuda" else CPU)

    def from_dlpack(self, x: Any, /, **keywords: Any) -> Any:
        raise Unsupported("the miniature only produces")

    def values(self, x: Mini) -> np.ndarray:
        return np.array(x.values, x.values.dtype.newbyteorder("="))

    def pointer(self, x: Mini) -> int:
        return x.pointer

    def writeable(self, x: Mini) -> bool:
        return not x.readonly

    def lay(self, x: Mini, layout: Layout) -> Mini:
        return x.like(layout.view(x.values))

    def put(self, x: Mini, state: str, stack: ExitStack) -> Mini:
        if state == "read-only":
            return x.like(x.values, readonly=True)
        if state == "big-endian":
            if x.values.dtype.itemsize == 1 or not x.values.dtype.isbuiltin:
                raise Unsupported("no byte order to swap")
            return x.like(x.values.byteswap().view(x.values.dtype.newbyteorder()))
        if state == "meta":
            return x.like(x.values, data=False)
        if state in self.places:
            return x.like(x.values, device=self.places[state])
        return super().put(x, state, stack)


class MiniCuda(MiniAdapter):
    """The miniature claiming CUDA memory: nothing here reads it but the host, so no GPU is needed to judge what it says."""

    name: ClassVar[str] = "mini-cuda"
    device: ClassVar[str] = "cuda"
    states: ClassVar[tuple[str, ...]] = ("plain", "read-only", "stream-other")

    def __init__(self) -> None:
        self.driver = Streams()

    def put(self, x: Mini, state: str, stack: ExitStack) -> Mini:
        if state != "stream-other":
            return super().put(x, state, stack)
        busy = x.like(aligned(np.zeros_like(x.values)), streams=self.driver)

        def write() -> None:
            busy.values[...] = x.values

        self.driver.queue(Streams.OTHER, write)
        return busy
