"""Which DLPack a library supports, measured on one element; for `interop.doctor.examination`.

Measured and not looked up by version, because builds differ, and because what counts is what this installation
does. Where a library has no array to measure on (CuPy without a GPU), its backend's report stands.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from interop._model.description import CPU
from interop.dlpack import VERSION, Capsule

if TYPE_CHECKING:
    from interop.backends.base import Backend

__all__ = ["UNKNOWN", "dlpack_support"]

UNKNOWN: dict[str, Any] = {"exports": None, "imports": None, "exchange_api": None, "measured": []}
"""The answer for a library that could not be measured."""


def dlpack_support(backend: Backend, report: dict[str, Any]) -> dict[str, Any]:
    """Return which DLPack a library supports: measured where it has an array to measure on, else from its backend's report."""
    reported = {"exports": report.get("dlpack_exports"), "imports": report.get("dlpack_imports")}
    array = _tiny(backend)
    measured: dict[str, Any] = {}
    if array is not None:
        if hasattr(array, "__dlpack__"):  # a backend may share memory by other means
            measured["exports"] = _export_version(array)
        measured["exchange_api"] = hasattr(type(array), "__dlpack_c_exchange_api__")
        if "cpu" in backend.capabilities.devices and (version := _import_version(backend)):
            measured["imports"] = version
    return {**reported, "exchange_api": report.get("dlpack_exchange_api"), **measured, "measured": sorted(measured)}


_ALIGNMENT = 64
"""Bytes; JAX shares memory that is aligned to them, and copies any other with a warning."""


def _zeros() -> Any:
    """Return one element in memory that every library shares."""
    # Every backend needs NumPy, so it is loaded by now; looked up, because only backends import array libraries.
    raw = sys.modules["numpy"].zeros(2 * _ALIGNMENT, "uint8")
    start = -raw.__array_interface__["data"][0] % _ALIGNMENT
    return raw[start : start + 4].view("float32")


def _tiny(backend: Backend) -> Any:
    if "cpu" in backend.capabilities.devices and backend.why_unavailable(CPU) is None:
        return backend.from_host(_zeros())
    home = backend.default_device()
    if home == CPU or backend.why_unavailable(home) is not None:
        return None
    try:
        return backend.copy_from_host(_zeros(), home, None)
    except MemoryError:  # CuPy's, where other processes fill the card: nothing is wrong with the installation
        return None


def _export_version(array: Any) -> str:
    try:
        capsule = array.__dlpack__(max_version=VERSION)
    except TypeError:  # from before the keyword: only the legacy form
        return "legacy"
    return _as_text(Capsule(capsule).version)


def _as_text(version: tuple[int, ...] | None) -> str:
    return ".".join(map(str, version)) if version else "legacy"


class _Producer:
    """A NumPy array that records which version a consumer asks for."""

    def __init__(self) -> None:
        self.array, self.version = _zeros(), "legacy"

    def __dlpack__(self, **asked: Any) -> Any:
        """Export the array as asked."""
        self.version = _as_text(asked.get("max_version"))
        return self.array.__dlpack__(**asked)

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return the CPU."""
        return (1, 0)


def _import_version(backend: Backend) -> str | None:
    loaded = backend.name in sys.modules  # what is called otherwise than its library has a namespace to itself
    consume = getattr(backend.namespace(), "from_dlpack", None) if loaded else None
    if consume is None:
        return None
    producer = _Producer()
    consume(producer)
    return producer.version
