"""The namespace of arrays, and which arrays a call was given: for code that is written for any library."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from interop._model.call_signature import PLAIN
from interop._model.identity import is_found_by_identity
from interop._model.spelling import type_name
from interop._neutral.traced import namespace_or
from interop._untraced import traced_as
from interop.backends import BUILTIN, FOREIGN, find_backend, is_array
from interop.backends.units import wrapper_attribute
from interop.errors import InteropError, MixedBackendsError, UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from interop._model.call_signature import CallSignature
    from interop._model.description import Device
    from interop.backends.base import Backend


def _array_namespace(*xs: Any, api_version: str | None = None, use_compat: bool | None = None) -> Any:
    import array_api_compat

    return array_api_compat.array_namespace(*xs, api_version=api_version, use_compat=use_compat)


@traced_as(namespace_or(_array_namespace))
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
    return _array_namespace(*xs, api_version=api_version, use_compat=use_compat)


class Found(NamedTuple):
    """An array among the arguments of a call, and where: ``x``, ``options['weights'][0]``."""

    path: str
    array: Any
    backend: Backend

    @property
    def parameter(self) -> str:
        """The name of the argument that it is, or is in."""
        return self.path.partition("[")[0].partition(".")[0]

    @property
    def library(self) -> str:
        """The library, in messages; the class where interop knows it as a source only."""
        return type_name(self.array) if self.backend.name == FOREIGN else self.backend.name

    @property
    def device(self) -> Device:
        """The device that it lives on."""
        return self.backend.device_of(self.array)


def namespace_of(found: Found) -> Any:
    """Return the namespace of an array: array-api-compat's, or of a backend that it does not know, the backend's; None if there is none."""
    if is_found_by_identity(type(found.array)):  # array-api-compat looks it up by its type
        with contextlib.suppress(TypeError):
            return array_namespace(found.array)
    foreign = found.backend.name == FOREIGN and wrapper_attribute(type(found.array)) is None
    return None if foreign else found.backend.namespace()


def arrays_in(arguments: Iterable[tuple[str, Any]]) -> list[Found]:
    """Return the arrays among named arguments, those inside trees included.

    A library's scalars (``numpy.float64(2)``) mix with arrays of any library as Python's numbers do, so they count only
    where there is no array.
    """
    found: list[Found] = []
    for name, value in arguments:
        if id(type(value)) not in PLAIN:
            found += [Found(name, value, find_backend(value))] if is_array(value) else _inside(name, value)
    return [one for one in found if not one.backend.is_scalar(one.array)] or found


def _inside(name: str, value: Any) -> list[Found]:
    from interop._trees.structure import flatten  # on request: it needs optree

    node = flatten(value)
    leaves = node.leaves
    # One of each type is asked, by the type's id (`PLAIN`); of wrappers each, for it depends on what is inside.
    one_of_each = {id(type(one)): one for one in leaves}
    kinds = {kind for kind, one in one_of_each.items() if wrapper_attribute(type(one)) is not None or is_array(one)}
    if not kinds:  # before the paths, which take long
        return []
    places = zip(node.paths(name), leaves, strict=True)
    return [Found(path, leaf, find_backend(leaf)) for path, leaf in places if id(type(leaf)) in kinds and is_array(leaf)]


def is_single(value: Any) -> bool:
    """Return whether a value is neither an array nor flattened."""
    from interop._trees.structure import flatten  # on request: it needs optree

    leaves = flatten(value).leaves
    return len(leaves) == 1 and leaves[0] is value and not is_array(value)


def refuse_mixed(function: str, found: list[Found], given: dict[str, Any] | None = None, *, library: str | None = None) -> None:
    """Raise MixedBackendsError, naming each array, unless all are of one library and on one device.

    `given` are the keywords of the function's @neutral, `library` is the one whose arrays the hint suggests to follow.
    """
    libraries, devices = {one.backend.name for one in found}, {one.device for one in found}
    if len(libraries) == 1 and len(devices) == 1:
        return
    lines = [f"  - {one.path}: {one.library} on {one.device}" for one in found]
    what = "libraries" if len(libraries) > 1 else "devices"
    raise MixedBackendsError(
        "\n".join([f"{function}(...) got arrays of several {what}:", *lines]), hint=_remedy(found, given or {}, library)
    )


def refuse_without_namespace(function: str, found: list[Found]) -> None:
    """Raise UnsupportedTypeError for the first array of a library that has no namespace."""
    for one in found:
        if one.backend.name == FOREIGN and namespace_of(one) is None:
            raise not_followed(function, one, found)


def not_followed(
    function: str, one: Found, found: list[Found], given: dict[str, Any] | None = None, *, library: str | None = None
) -> UnsupportedTypeError:
    """Return the error where an array would have to be followed whose library can be a source only; the rest as for `refuse_mixed`."""
    message = f"{function}(...) cannot follow {one.path}, a {one.library}: interop knows its library as a source only, not as a target."
    return UnsupportedTypeError(message, hint=_remedy(found, given or {}, library))


def _remedy(found: list[Found], given: dict[str, Any], library: str | None) -> str:
    """Return what to write to convert these arrays to one library and device, with every permission that it takes."""
    leaders = [one for one in found if one.backend.name != FOREIGN]
    leader = next((one for one in leaders if one.backend.name == library), leaders[0] if leaders else None)
    permissions = {name: value for name, value in given.items() if name not in ("like", "to", "runs_on")}
    runs_on = None if library else given.get("runs_on")
    if leader is not found[0]:
        library = leader.backend.name if leader else runs_on or _library_on(found[0].device)
    where = {"like": leader.array} if leader else {"to": library}
    try:
        before = _needed(found, where)
        inside = _needed(found, {"to": runs_on} if runs_on else where, permissions)
    except InteropError as error:
        kept = f"follow {leader.path}" if leader else f"go to {library}"
        return f"Give arrays of one library, on one device. Not all of these can {kept}: {error.message}"
    words = [f"to={library!r}" if library else "like='first'", *_spelled(inside)]
    replaced = next((f"in the place of {name}={given[name]!r} " for name in ("like", "to") if name in given), "")
    call = ", ".join(["interop.convert(x, like=..." if leader else f"interop.convert(x, {library!r}", *_spelled(before)])
    return f"Convert them first ({call})), or let the function do it: {', '.join(words)} {replaced}in its @neutral(...)."


def _library_on(device: Device) -> str:
    """Return a library whose arrays live on such a device, an imported one if there is any."""
    names = [name for name, one in BUILTIN.items() if device.type in one.devices]
    return next((name for name in names if name in sys.modules), names[0] if names else "numpy")


def _needed(found: list[Found], where: dict[str, Any], permissions: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the permissions that it takes to convert these arrays; InteropError where nothing permits it."""
    from interop._engine.call import Call, plan_call, target_of  # on request: only mistakes need it

    target, needed = target_of(where.get("to"), where.get("like")), dict[str, Any]()
    for one in found:
        plan = plan_call(Call("convert", one.array, target, **where, **(permissions or {})))
        for refusal in plan.refusals:
            if refusal.final:
                raise refusal.error(refusal.reason)
        needed |= plan.permissions
    return needed


def _spelled(keywords: dict[str, Any]) -> list[str]:
    return [f"{name}={value!r}" for name, value in keywords.items()]


def with_namespace(
    signature: CallSignature, found: list[Found], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with ``xp`` among them."""
    if not found:
        if signature.signature is not None:
            signature.signature.bind(*args, **kwargs | {"xp": None})  # what is missing, if that is why there is no array
        hint = "Pass an array, or the namespace: xp=numpy."
        raise UnsupportedTypeError(f"{signature.name}(...) got no array among its arguments, so there is no namespace to find.", hint=hint)
    refuse_without_namespace(signature.name, found)
    return signature.with_xp(namespace_of(found[0]), args, kwargs)
