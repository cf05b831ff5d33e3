"""The libraries: one adapter file for each, `BUILTIN` the one list of them, and third parties' by entry point or by name."""

from __future__ import annotations

import functools
import importlib
import re
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from interop_conformance.adapters._base import Adapter, Idiom, SuiteFault, Unsupported

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BUILTIN", "GROUP", "Adapter", "AdapterError", "Idiom", "SuiteFault", "Unsupported", "built_in", "load_adapters"]

BUILTIN = (
    "interop_conformance.adapters.numpy:NumPy",
    "interop_conformance.adapters.numpy:ReadOnlyNumPy",
    "interop_conformance.adapters.torch:Torch",
    "interop_conformance.adapters.jax:JAX",
    "interop_conformance.adapters.array_api_strict:ArrayAPIStrict",
    "interop_conformance.adapters.tvm_ffi:TVMFFI",
    "interop_conformance.adapters.pyarrow:PyArrow",
    "interop_conformance.adapters.cupy:CuPy",
    "interop_conformance.adapters.torch_cuda:TorchCUDA",
)
"""Each adapter as ``module:object``, in the order of tables."""

GROUP = "interop.conformance"
"""The group of entry points in which a third party names its adapter, as ``name = "module:object"``."""


class AdapterError(ValueError):
    """What was named is no adapter; the message says which, and why."""


@functools.cache
def built_in() -> dict[str, str]:
    """Return the names of the adapters that are the suite's own, each with the distribution that it is about."""
    return {adapter.name: adapter.distribution or adapter.name for adapter in map(_load, BUILTIN)}


def load_adapters(more: Sequence[str] = ()) -> dict[str, Adapter]:
    """Return every adapter by its name: the built-in ones, those of installed packages, and those named here as ``module:object``.

    Raises `AdapterError` for one that cannot be loaded, is no adapter, or takes a name that is taken.
    """
    found: dict[str, Adapter] = {}
    for spec in dict.fromkeys((*BUILTIN, *(point.value for point in entry_points(group=GROUP)), *more)):
        adapter = _load(spec)
        if adapter.name in found:
            raise AdapterError(f"{spec}: an adapter called {adapter.name!r} is there already")
        found[adapter.name] = adapter
    return found


def _load(spec: str) -> Adapter:
    module, _, name = spec.partition(":")
    try:
        found = getattr(importlib.import_module(module), name or "ADAPTER")
    except (ImportError, AttributeError, ValueError) as error:
        raise AdapterError(f"{spec}: {error}; an adapter is named as module:object, in a module that can be imported here") from error
    except (Exception, SystemExit) as error:  # a third party's module may raise anything, and a traceback would not say whose it is
        raise AdapterError(f"{spec}: its import raises {type(error).__name__}: {error}") from error
    try:
        adapter = found() if isinstance(found, type) else found
    except TypeError as error:  # an abstract method is missing
        raise AdapterError(f"{spec}: {error}") from error
    if not isinstance(adapter, Adapter):
        raise AdapterError(f"{spec} is a {type(adapter).__name__}, and no interop_conformance.adapters.Adapter")
    called = getattr(adapter, "name", None)
    if called == "capsule" or not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", str(called)):
        raise AdapterError(
            f"{spec}: its name must be of lower-case letters, digits and dashes, and not 'capsule', which is the suite itself; got {called!r}"
        )
    return adapter
