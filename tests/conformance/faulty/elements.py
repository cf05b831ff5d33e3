"""More of the miniature's faults: streams, layouts and dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np

from interop._model.description import c_strides
from tests.conformance.faulty.producers import violates
from tests.conformance.mini.producer import CUDA, Mini

# Streams.


@violates("stream-none")
class WantsAStream(Mini):
    def check_stream(self, stream: Any, device: tuple[int, int]) -> None:
        if stream is None:
            raise ValueError("say which stream")


@violates("stream-cpu", "stream-cuda-zero")
class AnyStream(Mini):
    def check_stream(self, stream: Any, device: tuple[int, int]) -> None:
        pass


@violates("stream-cpu")
class MinusOneOnCpu(Mini):
    def check_stream(self, stream: Any, device: tuple[int, int]) -> None:
        if device == CUDA or stream != -1:
            super().check_stream(stream, device)


@violates("stream-cuda-legacy", "stream-cuda-per-thread", "stream-waits")
class NeverWaits(Mini):
    def wait(self, stream: Any) -> None:
        pass


@violates("stream-cuda-legacy")
class NoneIsNoSync(Mini):
    def wait(self, stream: Any) -> None:
        super().wait(-1 if stream is None else stream)


@violates("stream-cuda-per-thread")
class OnlyLegacy(Mini):
    def wait(self, stream: Any) -> None:
        super().wait(1 if stream == 2 else stream)


@violates("stream-waits")
class NoHandles(Mini):
    def wait(self, stream: Any) -> None:
        super().wait(stream if stream in (-1, 1, 2) else None)


@violates("stream-no-sync")
class AlwaysSynchronises(Mini):
    def wait(self, stream: Any) -> None:
        self.synchronise()


@violates("dl-device-cpu-synchronised")
class CopiesTooSoon(Mini):
    def synchronise(self) -> None:
        pass


# Layouts.


@violates("values")
class OtherValues(Mini):
    def placed(self, device: tuple[int, int], copy: bool | None) -> tuple[Mini, bool]:
        return self.like(np.zeros_like(self.values)), True


@violates("shape")
class ShapeBackwards(Mini):
    def shape(self) -> tuple[int, ...]:
        return super().shape()[::-1]


@violates("shape")
class DropsAnAxis(Mini):
    def ndim(self) -> int:
        return max(super().ndim() - 1, 0)


@violates("strides-unit")
class StridesInBytes(Mini):
    def strides(self) -> tuple[int, ...]:
        return self.values.strides


@violates("strides-given")
class NullIfCompact(Mini):
    def strides(self) -> tuple[int, ...] | None:
        return None if self.values.flags.c_contiguous else super().strides()


@violates("strides-null-compact")
class AlwaysNull(Mini):
    def strides(self) -> None:
        return None


@violates("strides-transposed", "strides-broadcast")
class AlwaysRowMajor(Mini):
    def strides(self) -> tuple[int, ...]:
        return c_strides(self.values.shape)


@violates("strides-negative")
class NoSigns(Mini):
    def strides(self) -> tuple[int, ...]:
        return tuple(abs(step) for step in super().strides() or ())


@violates("first-element", "alignment")
class NoByteOffset(Mini):
    def address(self) -> tuple[int, int]:
        return super().address()[0], 0


@violates("zero-size")
class PointsAtNothing(Mini):
    def address(self) -> tuple[int, int]:
        return (super().address()[0] or 256), 0


@violates("scalar-0d")
class OneAxisAtLeast(Mini):
    def ndim(self) -> int:
        return max(super().ndim(), 1)

    def shape(self) -> tuple[int, ...]:
        return super().shape() or (1,)


@violates("no-null-data", "not-strided")
class NullForMeta(Mini):
    def check_data(self) -> None:
        pass

    def address(self) -> tuple[int, int]:
        return super().address() if self.data else (0, 0)


@violates("not-strided")
class MemoryForMeta(Mini):
    def check_data(self) -> None:
        pass


@violates("not-strided")
class RefusesMetaOddly(Mini):
    def check_data(self) -> None:
        if not self.data:
            raise RuntimeError("no storage")
        super().check_data()


# Dtypes.


def _coded_as(names: str, code: int, bits: int, lanes: int = 1) -> Any:
    """Return a `code` that says another thing for the dtypes whose names begin like this."""

    def coded(self: Mini) -> tuple[int, int, int]:
        return (code, bits, lanes) if self.values.dtype.name.startswith(names) else Mini.code(self)

    return coded


@violates("dtype-standard")
class RefusesBooleans(Mini):
    def code(self) -> tuple[int, int, int]:
        if self.values.dtype == bool:
            raise BufferError("no booleans")
        return super().code()


@violates("dtype-number")
class SignIsLost(Mini):
    code = _coded_as("int16", 1, 16)


@violates("dtype-number")
class HalfTheWidth(Mini):
    code = _coded_as("float64", 2, 32)


@violates("dtype-bool")
class BoolIsAByte(Mini):
    code = _coded_as("bool", 1, 8)


@violates("dtype-complex")
class WidthOfOnePart(Mini):
    code = _coded_as("complex64", 5, 32)


@violates("dtype-bfloat16")
class BfloatIsFloat(Mini):
    code = _coded_as("bfloat16", 2, 16)


@violates("dtype-float8")
class Float8IsAByte(Mini):
    code = _coded_as("float8", 1, 8)


@violates("dtype-float8")
class OneFloat8ForAll(Mini):
    code = _coded_as("float8", 10, 8)


@violates("dtype-subbyte-bits")
class FourAsEight(Mini):
    code = _coded_as("float4", 17, 8)


@violates("dtype-subbyte-bits")
class TwoInALane(Mini):
    code = _coded_as("float4", 17, 4, 2)


@violates("dtype-subbyte-order")
class HighHalfFirst(Mini):
    def packs(self, values: np.ndarray) -> np.ndarray:
        made = super().packs(values)
        return made >> 4 | made << 4


@violates("dtype-lanes")
class NoLanes(Mini):
    code = _coded_as("float32", 2, 32, 0)


@violates("dtype-unsupported")
class DaysAreIntegers(Mini):
    code = _coded_as("datetime64", 0, 64)


@violates("dtype-unsupported")
class RefusesByTypeError(Mini):
    def code(self) -> tuple[int, int, int]:
        if self.values.dtype.kind == "M":
            raise TypeError("no days")
        return super().code()


@violates("byte-order")
class IgnoresByteOrder(Mini):
    def check_data(self) -> None:
        self.code()
