"""Neutral functions that convert: arguments to one library (``like=``, ``to=``), or to the one that a function is written for and back (``runs_on=``).

Part of `interop._neutral.decorator`; apart from it because it needs trees, which a plain neutral function does not.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, TypedDict

from interop._engine.batch import TreeConversion
from interop._engine.call import DecoratedCall
from interop._model.description import CPU
from interop._model.spelling import nearest, type_name
from interop._neutral.namespace import arrays_in, not_followed, refuse_mixed, with_namespace
from interop._neutral.traced import unconverted_or
from interop._trees.structure import flatten, flatten_named
from interop._untraced import traced_as, untraced
from interop.backends import FOREIGN, backend_names, load_backend, name_of_target

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from interop._engine.call import Call
    from interop._model.call_signature import CallSignature
    from interop._neutral.namespace import Found

    Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Target(TypedDict, total=False):
    """The words of `interop.neutral` that say where arguments and results go."""

    like: str | None
    to: str | None
    runs_on: str | None


def with_conversions(function: Any, signature: CallSignature, permissions: dict[str, Any], **target: Unpack[Target]) -> Any:
    """Return the function with its arguments converted before the call, and with `runs_on` its results after it."""
    if target.get("runs_on") is not None:
        refuse_generators(function, signature)
    converter = ArgumentConverter(signature, permissions, **target)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            args, kwargs, convert_results = converter(args, kwargs)
            return convert_results(await function(*args, **kwargs))

        return call_async

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        args, kwargs, convert_results = converter(args, kwargs)
        return convert_results(function(*args, **kwargs))

    alone = untraced(run)
    if converter.like is None or converter.runs_on is not None:
        return alone
    # Where the arrays are alike already, nothing is converted, and torch's compiler may look into the call.
    followed = traced_as(unconverted_or(alone, function, signature, permissions))(run)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return followed(*args, **kwargs)

    return call


def refuse_generators(function: Any, signature: CallSignature) -> None:
    """Raise TypeError for a function whose results are not there when it returns."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{signature.name} is a generator: what it yields could not be converted. Return the results.")


def _check_like(like: object, signature: CallSignature) -> None:
    """Raise TypeError or ValueError for a ``like=`` that names no parameter."""
    if not isinstance(like, str):
        raise TypeError(f"like= is 'first' or the name of a parameter of {signature.name}, got a value of type {type_name(like)}.")
    parameters = list(signature.signature.parameters.values())[signature.skipped :] if signature.signature else []
    names = ["first", *(one.name for one in parameters if one.kind is not one.VAR_KEYWORD and one.name != "xp")]
    if like == "self" and like not in names:
        raise TypeError("like='self', the arrays that the object holds, is not supported yet: name a parameter, or write like='first'.")
    if like not in names:
        near = f"; write to={like!r}." if like in backend_names() else nearest(like, names)
        raise ValueError(f"like={like!r} is neither 'first' nor a parameter of {signature.name}{near} Known: {', '.join(names)}.")


class ArgumentConverter:
    """Converts the arguments of one function to where they have to be, and its results back."""

    place = "its @neutral(...)"

    def __init__(self, signature: CallSignature, permissions: dict[str, Any], **target: Unpack[Target]) -> None:
        self.signature, self.permissions, self.like = signature, permissions, target.get("like")
        to, runs_on = target.get("to"), target.get("runs_on")
        if self.like is not None and to is not None:
            raise TypeError("give one of like= (everything follows an array) and to= (everything goes to that library), not both.")
        if self.like is not None:
            _check_like(self.like, signature)
        self.to = None if to is None else name_of_target(to)
        self.runs_on = None if runs_on is None else name_of_target(runs_on, "runs_on")

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any], Callable[[Any], Any]]:
        """Return the arguments as the function takes them, and what is to be done with its result."""
        return self.convert_arguments(args, kwargs, arrays_in(self.signature.named(args, kwargs)))

    def convert_arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], found: list[Found]
    ) -> tuple[tuple[Any, ...], dict[str, Any], Callable[[Any], Any]]:
        """Do the same where the arrays among the arguments are known."""
        convert_results: Callable[[Any], Any] = _unchanged
        if found:
            leader = self.leader(found)
            if self.runs_on is not None and (where := self._target_of_results(leader)):
                convert_results = functools.partial(self.convert_results, **where)
            args, kwargs = self._together(args, kwargs, found, leader)
        if self.signature.takes_xp and not self.signature.gives_xp(args, kwargs):
            args, kwargs = with_namespace(self.signature, arrays_in(self.signature.named(args, kwargs)), args, kwargs)
        return args, kwargs, convert_results

    def convert_results(self, result: Any, **where: Any) -> Any:
        """Return what the function returned, with its arrays converted."""
        call = self._call(f"the result of {self.signature.name}(...)", where)
        return TreeConversion(call, flatten(result), keep_opaque=True, root="result").run()

    def leader(self, found: list[Found], *, library: str | None = None) -> Found | None:
        """Return the array that is followed: by the arguments, or where the function runs on another library by its results.

        None where a library is named instead, and none of its arrays is there. Raises where it is of a library that can be a source only. `library` is the one to suggest where arrays do not
        belong together; default: that of the first array.
        """
        if self.to is not None:
            return _first_of(self.to, found)
        followed = found if self.like == "first" else [one for one in found if one.parameter == self.like]
        if not followed:  # nor where `like` is not given: no parameter is called None
            self._refuse_mixed(found, library)
        leader = (followed or found)[0]
        if leader.backend.name == FOREIGN:
            raise not_followed(self.signature.name, leader, found, self._given(), library=library)
        return leader

    def convert_some(self, args: tuple[Any, ...], kwargs: dict[str, Any], some: list[Found], where: dict[str, Any]) -> Arguments:
        """Return the arguments with these of their arrays converted, each object once."""
        named = list(self.signature.named(args, kwargs))
        call = self._call(f"{self.signature.name}(...)", where)
        made = TreeConversion(call, flatten_named(named), root="", only={id(one.array) for one in some}).run()
        skipped, split = self.signature.skipped, len(args) - self.signature.skipped
        by_name = {name: value for (name, _), value in zip(named[split:], made[split:], strict=True)}
        return (*args[:skipped], *made[:split]), {name: by_name[name] for name in kwargs}  # in the caller's order

    def _together(self, args: tuple[Any, ...], kwargs: dict[str, Any], found: list[Found], leader: Found | None) -> Arguments:
        """Return the arguments with their arrays in one library and on one device."""
        if (library := self.runs_on or self.to) is not None:
            leader = _first_of(library, found)
        converted = self.convert_some(args, kwargs, found, {"like": leader.array} if leader else {"to": library})
        if leader is None:  # they went to one library, each staying on its device
            self._refuse_mixed(arrays_in(self.signature.named(*converted)))
        return converted

    def _target_of_results(self, leader: Found | None) -> dict[str, Any] | None:
        """Return where the results go; None if they are there already."""
        name = leader.backend.name if leader else self.to
        if name == self.runs_on:
            return None
        if leader is None or (leader.device == CPU and load_backend(str(self.runs_on)).capabilities.devices == {"cpu"}):
            return {"to": name}  # what is on the host stays there
        return {"like": leader.array}

    def _refuse_mixed(self, found: list[Found], library: str | None = None) -> None:
        refuse_mixed(self.signature.name, found, self._given(), library=library)

    def _given(self) -> dict[str, Any]:
        """Return the keywords of the function's @neutral."""
        words = (("like", self.like), ("to", self.to), ("runs_on", self.runs_on))
        return {word: value for word, value in words if value is not None} | self.permissions

    def _call(self, text: str, where: dict[str, Any]) -> Call:
        return DecoratedCall(text, self.place, **where, **self.permissions)


def _first_of(library: str, found: list[Found]) -> Found | None:
    """Return the first array of a library."""
    return next((one for one in found if one.backend.name == library), None)


def _unchanged(result: Any) -> Any:
    return result
