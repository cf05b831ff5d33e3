"""`neutral`: one function for the arrays of every library.

A plain neutral function finds the namespace of its arguments and changes nothing. With ``like=`` or ``to=`` arguments of several
libraries are converted to one first; with ``runs_on=`` they are converted to the library that the function is written
for, and its results are converted back (`interop._neutral.arguments`). A function is looked at once, when it is decorated; the usual
call, with one array or several of one type, takes a fast path through a table of types.
"""

from __future__ import annotations

import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from interop._model.call_signature import PLAIN, CallSignature
from interop._model.policy import FIELDS, check_names, resolve_policy
from interop._model.spelling import module_of, no_value, qualname_of
from interop._neutral.namespace import Found, arrays_in, is_single, namespace_of, refuse_mixed, refuse_without_namespace, with_namespace
from interop._neutral.traced import nothing_known, with_namespace_or
from interop._untraced import traced_as, untraced
from interop.backends import FOREIGN

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from interop._engine.call import Permissions, Ungraded
    from interop._neutral.arguments import Target
    from interop._neutral.bridge import Bridged

P = ParamSpec("P")
R = TypeVar("R")


@overload
def neutral(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def neutral(
    *, runs_on: str, grad: Literal["bridge"], like: str | None = None, to: str | None = None, **permissions: Unpack[Ungraded]
) -> Callable[[Callable[P, R]], Bridged[P, R]]: ...
@overload
def neutral(
    *, like: str | None = None, to: str | None = None, runs_on: str | None = None, **permissions: Unpack[Permissions]
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def neutral(
    function: Any = None, /, *, like: str | None = None, to: str | None = None, runs_on: str | None = None, **permissions: Any
) -> Any:
    """Make a function take the arrays of every library: find their namespace, or convert them to the library it needs.

    The arrays of a call are its arguments, by position and by keyword, and the arrays inside of them (lists, dicts,
    dataclasses, ...); a leading ``self`` or ``cls`` is left alone. Python's numbers and NumPy's scalars mix with anything.
    Arrays of several libraries, or on several devices, are refused, each by name, unless `like` or `to` is given.

    Parameters
    ----------
    function : callable
        With a parameter ``xp`` it is given the namespace there (declare it as ``xp=None``), unless the caller gives one.
    like : str, optional
        The name of a parameter: everything follows its array (its first one), to that library and that device. ``"first"``: the first
        parameter that holds an array, in the order of the signature, however the call orders its keywords.
    to : str or module, optional
        A library, named as for `interop.convert`: everything is converted to it, and results stay there. Arrays go to the device of the
        first that is of this library already, if there is one.
    runs_on : str or module, optional
        The library that the function is written for. It is given arrays of that library only, and the arrays that it returns
        (in trees too) are converted back, to the caller's library and device; numbers and None pass through. With `like` or `to`
        these say which library and device that is.
    **permissions
        ``policy=`` and the single permissions of `interop.convert`, for what `like`, `to` and `runs_on` convert, in both directions;
        they come before those of the scope. What they do not permit is refused as always.
        With `runs_on` there is also ``grad="bridge"``: where torch's autograd tracks an argument, the gradient flows through
        the function, by the rules that are registered with ``.backward``, ``.jvp`` and ``.setup_context`` of what is returned, as
        for `interop.autograd.wrap`. A function that is wrapped already has rules and permissions of its own.

    Returns
    -------
    callable
        With the signature, the docstring and the type of `function`. A coroutine function stays one.

    Raises
    ------
    MixedBackendsError
        Arrays of several libraries or devices meet, and neither `like` nor `to` is given.
    UnsupportedTypeError
        ``xp`` is wanted, and there is no array among the arguments.
    InteropError
        A conversion is refused; the text names each argument.

    Examples
    --------
    >>> import numpy as np, torch
    >>> @neutral
    ... def normalize(x, *, xp=None):
    ...     return x / xp.sum(x)
    >>> normalize(torch.tensor([1.0, 3.0]))
    tensor([0.2500, 0.7500])

    >>> @neutral(runs_on="numpy", grad="detach")
    ... def median(x):
    ...     return np.median(x, axis=0)
    >>> median(torch.tensor([[1.0, 8.0], [2.0, 9.0], [3.0, 7.0]], requires_grad=True))
    tensor([2., 8.])
    """
    check_names(permissions, ("like", "to", "runs_on", *FIELDS, "policy"), "keyword of neutral")
    decorate = functools.partial(_decorate, permissions=permissions, like=like, to=to, runs_on=runs_on)
    return decorate if function is None else decorate(function)


def _decorate(function: Any, permissions: dict[str, Any], **target: Unpack[Target]) -> Any:
    if not callable(function) or isinstance(function, type | staticmethod | classmethod):
        raise TypeError(
            f"neutral decorates a function, got {function!r}; write it below @staticmethod and @classmethod, and above the def."
        )
    if bridges := _bridges(permissions.get("grad")):
        permissions = {name: value for name, value in permissions.items() if name != "grad"}
    resolve_policy(permissions.get("policy"), {name: value for name, value in permissions.items() if name != "policy"})
    signature = CallSignature(function)
    if bridges:
        from interop._neutral.bridge import with_gradients

        return with_gradients(function, signature, permissions, **target)
    if not any(word is not None for word in target.values()):
        if permissions:
            raise TypeError("permissions say how to convert, and this converts nothing: give like=, to= or runs_on=.")
        return _with_namespace_only(function, signature)
    from interop._neutral.arguments import with_conversions

    return with_conversions(function, signature, permissions, **target)


def _bridges(value: Any) -> bool:
    """Whether ``grad=`` has the word that is `neutral`'s alone; ValueError for one that is not the permission's either."""
    words = (*FIELDS["grad"].values, "bridge")
    if isinstance(value, str) and value not in words:
        raise ValueError(no_value("grad", value, words, "neutral's"))
    return isinstance(value, str) and value == "bridge"


class _Kind:
    """What is known of a type of arrays: the namespace, and how to ask for the device."""

    __slots__ = ("device_of", "space")

    def __init__(self, found: Found) -> None:
        self.space = namespace_of(found)
        self.device_of = found.backend.device_of


_UNKNOWN = object()
_kinds: dict[int, Any] = dict.fromkeys(PLAIN)
"""What the fast path knows of types, by their ids: a `_Kind` for those of arrays, None for those that are none and hold none.

By the id, because a metaclass may have an equality and a hash of its own; `_lasting` holds the types, so that no other gets the id.
"""
_lasting: list[type] = []


def _with_namespace_only(function: Any, signature: CallSignature) -> Any:
    """Return the function with its arguments looked at, and ``xp`` given to it."""
    skipped, xp_at, takes_xp = signature.skipped, signature.xp_at, signature.takes_xp

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if len(args) > xp_at or "xp" in kwargs:
            return _general_way(function, signature, args, kwargs)
        values = args[skipped:] if skipped else args
        kind = _common((*values, *kwargs.values()) if kwargs else values)
        if kind is None:
            return _general_way(function, signature, args, kwargs)
        return function(*args, **kwargs, xp=kind.space) if takes_xp else function(*args, **kwargs)

    if not inspect.iscoroutinefunction(function):
        return call

    @functools.wraps(function)
    async def call_async(*args: Any, **kwargs: Any) -> Any:
        return await call(*args, **kwargs)

    return call_async


@traced_as(nothing_known)
def _common(values: tuple[Any, ...]) -> _Kind | None:
    """Return what is known of the arrays, if all are of one type and on one device; None means the general way."""
    first: Any = None
    array = None
    for value in values:
        kind = _kinds.get(id(type(value)), _UNKNOWN)
        if kind is None:
            continue  # numbers and words
        if kind is _UNKNOWN:
            if (type(value) is tuple or type(value) is list) and PLAIN.issuperset(map(id, map(type, value))):
                continue  # sequences of them: axes, shapes
            return None
        if first is None:
            first, array = kind, value
        elif kind is not first or kind.device_of(value) != first.device_of(array):
            return None
    found: _Kind | None = first
    return found


def _with_namespace(function: Any, signature: CallSignature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    found = arrays_in(signature.named(args, kwargs))
    if found:
        refuse_mixed(signature.name, found)
    if signature.takes_xp and not signature.gives_xp(args, kwargs):
        args, kwargs = with_namespace(signature, found, args, kwargs)
    elif found and not signature.takes_xp:
        refuse_without_namespace(signature.name, found)
    for one in found:
        _register(one)
    for _, value in signature.named(args, kwargs):
        _register_plain(value)
    return function(*args, **kwargs)


_general_way = traced_as(with_namespace_or(untraced(_with_namespace)))(_with_namespace)


def _register(found: Found) -> None:
    kind = type(found.array)
    # Not of scalars, which mix with arrays of another library; nor where the namespace depends on the array (float0 is JAX's).
    # Nor of what can be a source only: the namespace of a wrapper is that of the array inside.
    if id(kind) in _kinds or found.backend.name == FOREIGN or found.backend.is_scalar(found.array) or not _is_lasting(kind):
        return
    made = _Kind(found)
    if made.space is found.backend.namespace():
        _learn(kind, made)


def _register_plain(value: Any) -> None:
    kind = type(value)
    if id(kind) not in _kinds and _is_lasting(kind) and is_single(value):
        _learn(kind, None)


def _learn(kind: type, known: _Kind | None) -> None:
    _lasting.append(kind)  # first: the id is its own from here on
    _kinds[id(kind)] = known


def _is_lasting(kind: type) -> bool:
    """Whether a type is found in its module, so that it lives as long as the table, which holds it."""
    return getattr(sys.modules.get(module_of(kind)), qualname_of(kind), None) is kind
