"""More of the miniature's faults: what it makes of its keywords."""

from __future__ import annotations

from typing import Any

from tests.conformance.faulty.producers import violates
from tests.conformance.mini.producer import CPU, CUDA, IS_COPIED, READ_ONLY, SUBBYTE_PADDED, Mini

# Versions and keywords.


@violates("keywords")
class OldSignature(Mini):
    def __dlpack__(self, *, stream: Any = None) -> Any:  # type: ignore[override]
        return super().__dlpack__(stream=stream)


@violates("keyword-only")
class Positional(Mini):
    def __dlpack__(self, stream: Any = None, **keywords: Any) -> Any:
        return super().__dlpack__(stream=stream, **keywords)


@violates("max-version-none", "max-version-old-major")
class AlwaysVersioned(Mini):
    def negotiate(self, max_version: Any) -> bool:
        return True


@violates("max-version-same", "max-version-lower-minor")
class ComparesWhole(Mini):
    def negotiate(self, max_version: Any) -> bool:
        return max_version is not None and max_version >= self.VERSION


@violates("max-version-higher")
class Echoes(Mini):
    def negotiate(self, max_version: Any) -> bool:
        self.asked = max_version
        return super().negotiate(max_version)

    def version(self) -> tuple[int, int]:
        return (1, self.asked[1])


@violates("max-version-higher")
class ServesNoNewer(Mini):
    def negotiate(self, max_version: Any) -> bool:
        if max_version and max_version[0] > self.VERSION[0]:
            raise BufferError("made for a newer DLPack")
        return super().negotiate(max_version)


@violates("max-version-old-major")
class RefusesOddly(Mini):
    def negotiate(self, max_version: Any) -> bool:
        if max_version and max_version[0] == 0:
            raise AttributeError("nobody has tried this")
        return super().negotiate(max_version)


# Flags.


def _without(flag: int) -> Any:
    def flags(self: Mini, *, copied: bool) -> int:
        return Mini.flags(self, copied=copied) & ~flag

    return flags


@violates("flag-readonly")
class HidesReadOnly(Mini):
    flags = _without(READ_ONLY)


@violates("flag-copied", "flag-copied-unasked")
class HidesCopies(Mini):
    flags = _without(IS_COPIED)


@violates("flag-subbyte-padded")
class HidesPadding(Mini):
    flags = _without(SUBBYTE_PADDED)


@violates("flag-readonly-legacy")
class LegacyAnyway(Mini):
    def check_flags(self, *, versioned: bool) -> None:
        pass


@violates("flags-default")
class UnknownFlag(Mini):
    def flags(self, *, copied: bool) -> int:
        return super().flags(copied=copied) | 256


@violates("flag-copied-clear", "flags-default")
class ClaimsCopies(Mini):
    def flags(self, *, copied: bool) -> int:
        return super().flags(copied=True)


# Copies.


@violates("copy-true")
class NeverCopies(Mini):
    def placed(self, device: tuple[int, int], copy: bool | None) -> tuple[Mini, bool]:
        return (self, True) if device == self.device else super().placed(device, copy)


@violates("copy-true")
class CopiesOntoItself(Mini):
    def placed(self, device: tuple[int, int], copy: bool | None) -> tuple[Mini, bool]:
        return (self.like(self.values.reshape(-1)[1:]), True) if copy else super().placed(device, copy)


@violates("copy-false", "copy-none", "zero-copy")
class AlwaysCopies(Mini):
    def placed(self, device: tuple[int, int], copy: bool | None) -> tuple[Mini, bool]:
        return super().placed(device, copy=True)


@violates("copy-false-refusal", "copy-false")
class CopiesAnyway(Mini):
    def placed(self, device: tuple[int, int], copy: bool | None) -> tuple[Mini, bool]:
        return super().placed(device, copy=True if copy is False else copy)


@violates("copy-false-refusal")
class RefusesByValueError(Mini):
    def goal(self, dl_device: Any) -> tuple[int, int]:
        if dl_device not in (None, self.device):
            raise ValueError("cannot move without copying")
        return super().goal(dl_device)


# Devices.


@violates("device-tuple")
class DeviceList(Mini):
    def __dlpack_device__(self) -> Any:
        return [*self.device]


@violates("device-tuple")
class UnknownDevice(Mini):
    def __dlpack_device__(self) -> tuple[int, int]:
        return (99, 0)


@violates("device-agrees")
class OtherDevice(Mini):
    def exported_device(self) -> tuple[int, int]:
        return CUDA


@violates("device-id-zero")
class NumbersTheCpu(Mini):
    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device[0], 7

    def exported_device(self) -> tuple[int, int]:
        return self.device[0], 7


@violates("dl-device-own")
class NoDeviceKeyword(Mini):
    def goal(self, dl_device: Any) -> tuple[int, int]:
        if dl_device is not None:
            raise BufferError("dl_device is not supported")
        return self.device


@violates("dl-device-cpu")
class StaysAway(Mini):
    def goal(self, dl_device: Any) -> tuple[int, int]:
        if dl_device == CPU != self.device:
            raise BufferError("copy it to the CPU yourself")
        return super().goal(dl_device)


@violates("dl-device-cpu", "dl-device-unknown")
class IgnoresDevice(Mini):
    def goal(self, dl_device: Any) -> tuple[int, int]:
        return self.device


@violates("dl-device-unknown")
class RefusesDeviceOddly(Mini):
    def goal(self, dl_device: Any) -> tuple[int, int]:
        if dl_device not in (None, self.device, CPU):
            raise KeyError(dl_device)
        return super().goal(dl_device)
