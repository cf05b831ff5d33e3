"""Neutral functions that convert: arguments brought together (``mixed=``) or to one library and back (``runs_on=``).

Part of `interop._neutral.decorator`; apart from it because it needs trees, which a plain neutral function does not.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from interop._engine.batch import Batch
from interop._engine.call import Inside
from interop._model.description import CPU
from interop._model.spelling import nearest
from interop._neutral.namespace import arrays_in, given, refuse_mixed
from interop._trees.structure import take_apart, take_apart_named
from interop.backends import backend_names, load_backend, name_of_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from interop._engine.call import Call
    from interop._model.call_signature import Shape
    from interop._neutral.namespace import Found

__all__ = ["Bringer", "bringing", "refuse_generators"]


def bringing(function: Any, shape: Shape, *, mixed: str | None, runs_on: str | None, permissions: dict[str, Any]) -> Any:
    """Return the function with its arguments converted before the call, and with `runs_on` its results after it."""
    if runs_on is not None:
        refuse_generators(function, shape)
    bring = Bringer(shape, mixed, runs_on, permissions)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_later(*args: Any, **kwargs: Any) -> Any:
            args, kwargs, back = bring(args, kwargs)
            return back(await function(*args, **kwargs))

        return call_later

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        args, kwargs, back = bring(args, kwargs)
        return back(function(*args, **kwargs))

    return call


def refuse_generators(function: Any, shape: Shape) -> None:
    """Raise TypeError for a function whose results are not there when it returns."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{shape.name} is a generator: what it yields could not be brought back. Return the results.")


def _leader_of(mixed: str | None) -> str | None:
    if mixed is None or mixed == "first":
        return mixed
    try:
        return name_of_target(mixed)
    except (TypeError, ValueError):
        raise ValueError(f"mixed={mixed!r} is neither 'first' nor a backend{nearest(str(mixed), ['first', *backend_names()])}") from None


class Bringer:
    """Brings the arguments of one function where they have to be, and its results back."""

    place = "its @neutral(...)"

    def __init__(self, shape: Shape, mixed: str | None, runs_on: str | None, permissions: dict[str, Any]) -> None:
        self.shape, self.permissions = shape, permissions
        self.mixed, self.runs_on = _leader_of(mixed), name_of_target(runs_on) if runs_on is not None else None

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any], Callable[[Any], Any]]:
        """Return the arguments as the function takes them, and what is to be done with its result."""
        return self.bring(args, kwargs, arrays_in(self.shape.named(args, kwargs)))

    def bring(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], found: list[Found]
    ) -> tuple[tuple[Any, ...], dict[str, Any], Callable[[Any], Any]]:
        """Do the same where the arrays among the arguments are known."""
        back: Callable[[Any], Any] = _as_it_is
        if found:
            if self.mixed is None:
                refuse_mixed(f"{self.shape.name}(...)", found)
            if self.runs_on is not None and (home := self._home(found)) is not None:
                back = functools.partial(self._back, **home)
            args, kwargs = self._there(args, kwargs, found)
        if self.shape.takes_xp and not self.shape.gives_xp(args, kwargs):
            args, kwargs = given(self.shape, arrays_in(self.shape.named(args, kwargs)), args, kwargs)
        return args, kwargs, back

    def _home(self, found: list[Found]) -> dict[str, Any] | None:
        """Return where the results go; None if they are there already."""
        leader = self._leader(found, self.mixed)
        name = leader.backend.name if leader else self.mixed
        if name == self.runs_on:
            return None
        if leader is None or (leader.device == CPU and load_backend(str(self.runs_on)).capabilities.devices == {"cpu"}):
            return {"to": name}  # what is on the host stays there
        return {"like": leader.array}

    def _leader(self, found: list[Found], library: str | None) -> Found | None:
        """Return the array that others follow: the first, or the first of a library."""
        if library in (None, "first"):
            return found[0]
        return next((one for one in found if one.backend.name == library), None)

    def _there(self, args: tuple[Any, ...], kwargs: dict[str, Any], found: list[Found]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with their arrays converted, each object once."""
        library = self.runs_on or self.mixed
        leader = self._leader(found, library)
        where = {"like": leader.array} if leader else {"to": library}
        moved = self._moved(args, kwargs, found, where)
        if leader is None:  # they went to one library, each staying on its device
            refuse_mixed(f"{self.shape.name}(...)", arrays_in(self.shape.named(*moved)))
        return moved

    def _moved(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], found: list[Found], where: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with these of their arrays converted."""
        node = take_apart_named(list(self.shape.named(args, kwargs)))
        batch = Batch(self._call(f"{self.shape.name}(...)", where), node, root="", only={id(one.array) for one in found})
        made, split = batch.run(), len(args) - self.shape.skipped
        return (*args[: self.shape.skipped], *made[:split]), dict(zip(kwargs, made[split:], strict=True))

    def _back(self, result: Any, **home: Any) -> Any:
        call = self._call(f"the result of {self.shape.name}(...)", home)
        return Batch(call, take_apart(result), root="result").run()

    def _call(self, text: str, where: dict[str, Any]) -> Call:
        return Inside(text, {**where, **self.permissions}, self.place)


def _as_it_is(result: Any) -> Any:
    return result
