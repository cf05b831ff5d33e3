"""What torch's compiler traces of a neutral function: how it finds the arrays of a call, and gives the function their namespace.

`interop._neutral.namespace` asks the arrays, remembers what it learned, and may load a backend; a trace cannot do that. Here the compiler
sees loops over the arguments only, and what a type means is a constant for it (`interop._untraced.at_trace_time`). What is not known by its type is
left to the general way, for which the graph breaks.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from interop._model.call_signature import PLAIN
from interop._model.identity import is_found_by_identity
from interop._model.policy import resolve_policy
from interop._untraced import at_trace_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from interop._model.call_signature import CallSignature
    from interop._trees.kinds import Inside


@at_trace_time
def _library(kind: type) -> str | None:
    """Return the library whose arrays are of a type, of those that the compiler has variables for; None for other types."""
    for library, name in (("torch", "Tensor"), ("numpy", "ndarray")):
        base = getattr(sys.modules.get(library), name, None)
        if base is not None and issubclass(kind, base):
            return library
    return None


@at_trace_time
def _is_plain(kind: type) -> bool:
    return id(kind) in PLAIN


def _namespace(library: str | None) -> Any:
    # By an import: a module is no constant for the compiler.
    if library == "torch":
        import array_api_compat.torch

        return array_api_compat.torch
    import array_api_compat.numpy

    return array_api_compat.numpy


@at_trace_time
def _inside_of(kind: type) -> Inside | None:
    from interop._trees.kinds import inside_of  # on request: it needs optree

    return inside_of(kind) if is_found_by_identity(kind) else None


def _look(value: Any, arrays: list[Any]) -> bool:
    """Add the arrays that a value is or holds; return whether all is known."""
    kind = type(value)
    if _is_plain(kind):
        return True
    if _library(kind) is not None:
        arrays.append(value)
        return True
    inside = _inside_of(kind)
    if inside is None:
        return False
    if inside == "items":
        held = list(value)
    elif inside == "values":
        held = list(value.values())
    else:
        held = [getattr(value, name) for name in inside if hasattr(value, name)]
    return all(_look(one, arrays) for one in held)


def arrays_alike(signature: CallSignature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any] | None:
    """Return the arrays among the arguments if they are of one library and on one device; None if not, or if something is not known."""
    arrays: list[Any] = []
    for value in args[signature.skipped :]:
        if not _look(value, arrays):
            return None
    for name, value in kwargs.items():
        if name != "xp" and not _look(value, arrays):
            return None
    for one in arrays[1:]:
        if _library(type(one)) != _library(type(arrays[0])) or one.device != arrays[0].device:
            return None
    return arrays


def nothing_known(values: tuple[Any, ...]) -> None:
    """Send every call the general way: a table that grows with each type would make the compiler begin anew with each."""


def with_namespace_or(general: Callable[..., Any]) -> Callable[..., Any]:
    """Return what is traced of a plain neutral function; it calls `general` with the same arguments where it does not know them."""

    def traced(function: Any, signature: CallSignature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        arrays = arrays_alike(signature, args, kwargs)
        wanted = signature.takes_xp and not signature.gives_xp(args, kwargs)
        if arrays is None or (wanted and not arrays):
            return general(function, signature, args, kwargs)
        if wanted:
            args, kwargs = signature.with_xp(_namespace(_library(type(arrays[0]))), args, kwargs)
        return function(*args, **kwargs)

    return traced


def unconverted_or(general: Callable[..., Any], function: Any, signature: CallSignature, permissions: dict[str, Any]) -> Callable[..., Any]:
    """Return what is traced of a neutral function with ``like=``; it calls `general` where something may have to be converted."""
    given = {name: value for name, value in permissions.items() if name != "policy"}

    @at_trace_time
    def copies() -> bool:
        return resolve_policy(permissions.get("policy"), given).copy is True

    alike = with_namespace_or(lambda _function, _signature, args, kwargs: general(*args, **kwargs))

    def traced(*args: Any, **kwargs: Any) -> Any:
        return general(*args, **kwargs) if copies() else alike(function, signature, args, kwargs)

    return traced


def namespace_or(general: Callable[..., Any]) -> Callable[..., Any]:
    """Return what is traced of `array_namespace`, which array-api-compat remembers by type; it calls `general` where that matters."""

    def traced(*xs: Any, api_version: str | None = None, use_compat: bool | None = None) -> Any:
        libraries = [_library(type(x)) for x in xs if not _is_plain(type(x))]
        if libraries and libraries[0] is not None and set(libraries) == {libraries[0]} and api_version is None and use_compat is None:
            return _namespace(libraries[0])
        return general(*xs, api_version=api_version, use_compat=use_compat)

    return traced
