"""Which DLPack a library speaks, measured on one element; for `interop.doctor.examination`.

Measured and not looked up by version, because builds differ, and because what counts is what this installation
does. A library without an array to measure on (CuPy where there is no GPU) is taken at its backend's word.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from interop._model.description import CPU
from interop.dlpack import VERSION, Capsule

if TYPE_CHECKING:
    from interop.backends.base import Backend

__all__ = ["UNSPOKEN", "dlpack_spoken"]

UNSPOKEN: dict[str, Any] = {"exports": None, "imports": None, "exchange_api": None, "measured": []}
"""What is said of a library that could not be asked."""


def dlpack_spoken(backend: Backend, said: dict[str, Any]) -> dict[str, Any]:
    """Return which DLPack a library speaks: measured where it has an array to measure on, else what its backend knows."""
    words = {"exports": said.get("dlpack_exports"), "imports": said.get("dlpack_imports")}
    array = _tiny(backend)
    measured: dict[str, Any] = {}
    if array is not None:
        measured["exports"] = _exported(array)
        measured["exchange_api"] = hasattr(type(array), "__dlpack_c_exchange_api__")
        if "cpu" in backend.capabilities.devices and (asked := _asked(backend)):
            measured["imports"] = asked
    return {**words, "exchange_api": said.get("dlpack_exchange_api"), **measured, "measured": sorted(measured)}


_ALIGNMENT = 64
"""Bytes; what JAX asks of memory that it takes as it is, and elsewhere copies with a warning."""


def _zeros() -> Any:
    """Return one element on memory that every library takes."""
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
    except MemoryError:  # CuPy's, where somebody else fills the card: nothing is wrong with the installation
        return None


def _exported(array: Any) -> str:
    try:
        capsule = array.__dlpack__(max_version=VERSION)
    except TypeError:  # from before the keyword: then it speaks the legacy form only
        return "legacy"
    return _words(Capsule(capsule).version)


def _words(version: tuple[int, ...] | None) -> str:
    return ".".join(map(str, version)) if version else "legacy"


class _Producer:
    """A NumPy array that takes down which version a consumer asks for."""

    def __init__(self) -> None:
        self.array, self.version = _zeros(), "legacy"

    def __dlpack__(self, **asked: Any) -> Any:
        """Export the array as asked."""
        self.version = _words(asked.get("max_version"))
        return self.array.__dlpack__(**asked)

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return the CPU."""
        return (1, 0)


def _asked(backend: Backend) -> str | None:
    loaded = backend.name in sys.modules  # what is called otherwise than its library has a namespace to itself
    consume = getattr(backend.namespace(), "from_dlpack", None) if loaded else None
    if consume is None:
        return None
    producer = _Producer()
    consume(producer)
    return producer.version
