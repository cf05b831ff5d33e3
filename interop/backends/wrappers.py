"""Wrappers that give an array of any library a unit (pint, unxt): what is inside is described and prepared by its own backend."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from interop._model.spelling import type_name
from interop.backends.base import Backend
from interop.backends.units import unit_of, wrapper_attribute

if TYPE_CHECKING:
    from collections.abc import Callable

    from interop._model.capabilities import Capabilities
    from interop._model.description import Description, Device

FOREIGN = "dlpack"


def backend_of_wrappers(inner: Backend) -> Backend:
    """Return a backend for wrappers around the arrays of another; a source among all others, so it has their name."""
    made: Any = copy.copy(inner)
    made.inner = inner
    made.__class__ = type(f"{type(inner).__name__}OfWrappers", (_Wrapping, type(inner)), {})
    backend: Backend = made
    return backend


class _Imported(NamedTuple):
    """A wrapper, and what the backend of what is inside made of that."""

    wrapper: Any
    inside: Any


class _Wrapping(Backend):
    """Comes before the class of the backend of what is inside, whose other methods get that, and never the wrapper."""

    inner: Backend

    @property
    def capabilities(self) -> Capabilities:
        """Those of what is inside."""
        return dataclasses.replace(self.inner.capabilities, name=FOREIGN, wraps=self.inner.name)

    def owns(self, x: Any) -> bool:
        return wrapper_attribute(type(x)) is not None and self.inner.owns(_inside(x))

    def import_producer(self, x: Any, stream: Callable[[Device], int | None]) -> Any:
        inside = _inside(x)
        made = self.inner.import_producer(inside, stream)
        return x if made is inside else _Imported(x, made)

    def describe(self, x: Any) -> Description:
        wrapper = x.wrapper if isinstance(x, _Imported) else x
        said, unit = self.inner.describe(_inside(x)), unit_of(wrapper)
        return said.replace(backend=FOREIGN, type=type_name(wrapper), units=unit.text or said.units, advice=said.advice or unit.advice)

    def device_of(self, x: Any) -> Device:
        return self.inner.device_of(_inside(x))

    def is_scalar(self, x: Any) -> bool:
        return self.inner.is_scalar(_inside(x))

    def version_of(self, x: Any) -> Any:
        return self.inner.version_of(_inside(x))

    def may_be_aliased(self, x: Any) -> bool:
        return True  # by whoever has what is inside

    def inside(self, x: Any) -> Any:
        return _inside(x)

    def cast(self, x: Any, dtype: str) -> Any:
        return self.inner.cast(_inside(x), dtype)

    def strip(self, x: Any) -> Any:
        return self.inner.strip(_inside(x))


def _inside(x: Any) -> Any:
    """Return what a wrapper holds; an array that was taken out of one as it is."""
    if isinstance(x, _Imported):
        return x.inside
    attribute = wrapper_attribute(type(x))
    return x if attribute is None else getattr(x, attribute)
