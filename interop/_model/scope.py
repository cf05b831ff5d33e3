"""What ``with`` blocks put in force: a policy, a record, a guard; for this context, and until their own block ends.

Contexts are those of `contextvars`: a new thread starts without the blocks of the one that made it, an asyncio task
with those that it was started in. A block takes away what it put there and nothing else, whichever ends first: two
generators may each hold one, and an asynchronous one may be closed from another task.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

P = ParamSpec("P")
T = TypeVar("T")


class Entry:
    """Something in force: its kind, its value, and whether a plain conversion has to know of it, so that no fast path is taken."""

    __slots__ = ("fast_path_off", "kind", "value")

    def __init__(self, kind: str, value: Any, *, fast_path_off: bool = True) -> None:
        self.kind, self.value, self.fast_path_off = kind, value, fast_path_off


_entries: ContextVar[tuple[Entry, ...]] = ContextVar("interop_entries", default=())

fast_path_off: ContextVar[object | None] = ContextVar("interop_fast_path_off", default=None)
"""Not None where something in force must see or change even a plain conversion."""


def in_force(kind: str) -> list[Any]:
    """Return the values of a kind, the outermost first."""
    return [entry.value for entry in _entries.get() if entry.kind == kind]


@contextlib.contextmanager
def put(*entries: Entry, instead: bool = False) -> Iterator[None]:
    """Put entries in force for a block; with `instead`, in the place of all that are."""
    before = _entries.get()
    _set(entries if instead else (*before, *entries))
    try:
        yield
    finally:
        # Not a token's reset, which would bring back whatever was in force when the block began.
        _set(before if instead else tuple(entry for entry in _entries.get() if entry not in entries))


def _set(entries: tuple[Entry, ...]) -> None:
    _entries.set(entries)
    fast_path_off.set(entries if any(entry.fast_path_off for entry in entries) else None)


class Block(Generic[T]):
    """A context manager made from a generator function; it can also decorate a function, whose whole call it then is."""

    def __init__(self, name: str, make: Callable[[], contextlib.AbstractContextManager[T]]) -> None:
        self._name, self._make = name, make
        self._open: list[contextlib.AbstractContextManager[T]] = []

    def __enter__(self) -> T:
        opened = self._make()
        entered = opened.__enter__()
        self._open.append(opened)
        return entered

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> bool | None:
        return self._open.pop().__exit__(kind, error, traceback)

    def __call__(self, function: Callable[P, Any]) -> Callable[P, Any]:
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            what = f"{self._name}(...) around {function.__qualname__}"
            raise TypeError(f"{what} would end before its body begins: it is no plain function. Write the with block inside of it.")

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            with self._make():
                return function(*args, **kwargs)

        return call


def block(function: Callable[P, Iterator[T]]) -> Callable[P, Block[T]]:
    """Make a generator function a maker of blocks, as `contextlib.contextmanager` does."""
    managed = contextlib.contextmanager(function)

    @functools.wraps(function)
    def make(*args: P.args, **kwargs: P.kwargs) -> Block[T]:
        return Block(function.__name__, lambda: managed(*args, **kwargs))

    return make
