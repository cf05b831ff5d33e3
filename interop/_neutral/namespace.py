"""The namespace of arrays, and which arrays a call was given: for code that is written for any library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from interop._model.call_signature import PLAIN
from interop.backends import find_backend, is_array
from interop.errors import MixedBackendsError, UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from interop._model.call_signature import Shape
    from interop._model.description import Device
    from interop.backends.base import Backend

__all__ = ["Found", "array_namespace", "arrays_in", "given", "is_single", "namespace_of", "refuse_mixed"]


def array_namespace(*xs: Any, api_version: str | None = None, use_compat: bool | None = None) -> Any:
    """Return the array API namespace of arrays: array-api-compat's function of the same name.

    Parameters
    ----------
    *xs : array
        Arrays of one library; Python scalars and None are left out. Devices are not looked at.
    api_version, use_compat
        As array-api-compat takes them.

    Raises
    ------
    TypeError
        If they belong to several libraries, or none is an array.

    Examples
    --------
    >>> import numpy as np
    >>> array_namespace(np.ones(2), 3.0, None).__name__
    'array_api_compat.numpy'
    """
    import array_api_compat

    return array_api_compat.array_namespace(*xs, api_version=api_version, use_compat=use_compat)


class Found(NamedTuple):
    """An array among the arguments of a call, and where: ``x``, ``options['weights'][0]``."""

    path: str
    array: Any
    backend: Backend

    @property
    def device(self) -> Device:
        """The device that it lives on."""
        return self.backend.place(self.array)


def namespace_of(found: Found) -> Any:
    """Return the namespace of an array: array-api-compat's, or of a backend that it does not know, the backend's."""
    try:
        return array_namespace(found.array)
    except TypeError:
        return found.backend.namespace()


def arrays_in(arguments: Iterable[tuple[str, Any]]) -> list[Found]:
    """Return the arrays among named arguments, those inside trees included.

    A library's scalars (``numpy.float64(2)``) mix with arrays of any library as Python's numbers do, so they count only
    where there is no array.
    """
    found: list[Found] = []
    for name, value in arguments:
        if type(value) not in PLAIN:
            found += [Found(name, value, find_backend(value))] if is_array(value) else _inside(name, value)
    return [one for one in found if not one.backend.is_scalar(one.array)] or found


def _inside(name: str, value: Any) -> list[Found]:
    from interop._trees.structure import take_apart  # on request: it needs optree

    node = take_apart(value)
    leaves = node.leaves
    kinds = {kind for kind, one in dict(zip(map(type, leaves), leaves, strict=True)).items() if is_array(one)}
    if not kinds:  # before the paths, which take long
        return []
    return [Found(path, leaf, find_backend(leaf)) for path, leaf in zip(node.paths(name), leaves, strict=True) if type(leaf) in kinds]


def is_single(value: Any) -> bool:
    """Return whether a value is neither an array nor taken apart."""
    from interop._trees.structure import take_apart  # on request: it needs optree

    leaves = take_apart(value).leaves
    return len(leaves) == 1 and leaves[0] is value and not is_array(value)


def refuse_mixed(call: str, found: list[Found]) -> None:
    """Raise MixedBackendsError, naming each array, unless all are of one library and on one device."""
    libraries, devices = {one.backend.name for one in found}, {one.device for one in found}
    if len(libraries) == 1 and len(devices) == 1:
        return
    lines = [f"  - {one.path}: {one.backend.name} on {one.device}" for one in found]
    what = "libraries" if len(libraries) > 1 else "devices"
    words = "mixed='first', transfer='allow'" if len(devices) > 1 else "mixed='first'"
    hint = f"Convert them first (interop.convert(x, like=...)), or let the function do it: {words} in its @neutral(...)."
    raise MixedBackendsError("\n".join([f"{call} got arrays of several {what}:", *lines]), hint=hint)


def given(shape: Shape, found: list[Found], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with ``xp`` among them."""
    if not found:
        if shape.signature is not None:
            shape.signature.bind(*args, **kwargs | {"xp": None})  # what is missing, if that is why there is no array
        hint = "Pass an array, or the namespace: xp=numpy."
        raise UnsupportedTypeError(f"{shape.name}(...) got no array among its arguments, so there is no namespace to find.", hint=hint)
    space = namespace_of(found[0])
    if len(args) > shape.xp_at:
        return (*args[: shape.xp_at], space, *args[shape.xp_at + 1 :]), kwargs
    return args, kwargs | {"xp": space}
