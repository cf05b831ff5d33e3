"""What ``with`` blocks put in force, and blocks that end whatever interrupts them.

Contexts are those of `contextvars`: a new thread starts without the blocks of the one that made it, an asyncio task
with those that it was started in, also after these have ended. A block takes away what it put there and nothing else, whichever ends
first: two generators may each hold one. One that is left in another context, as that of a generator which is closed from another task or
thread, ends in all of them: nobody is there to take it away.

A Ctrl-C is raised where a function begins or a call ends, so also inside of ``__enter__`` and ``__exit__``, and a stack that is full
ends a call before it begins. A context manager that is one object cannot be safe from that: what it has entered is lost when the
interrupt comes before the ``with`` statement knows of it. Hence `Block`, and two rules for what is written with `block`:
what has to be undone is known before it is done (`undone`), and no function returns a context that is entered already.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from contextvars import ContextVar, Token
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Generator, Iterator
    from types import TracebackType

P = ParamSpec("P")
T = TypeVar("T")


class _Exit:
    """What a `Block` has as ``__exit__``: for each ``with`` statement an object of its own, which holds the statement's generator.

    A ``with`` statement looks ``__exit__`` up before it calls ``__enter__``, and drops it when it ends, in whatever way (the
    language reference, "The with statement"). So the generator lives as long as the statement. Where an interrupt comes before
    ``__exit__`` has begun, the object is dropped nevertheless, and the generator with it: Python then closes it, and its ``finally``
    undoes everything. Nothing else may hold the generator, no local variable either: a traceback would keep that alive.
    """

    def __get__(self, block: Block[Any] | None, owner: type) -> Callable[..., bool | None]:
        if block is None:  # contextlib.ExitStack asks the class
            return _leave_by_hand
        statement = _Statement(block)
        made = functools.partial(statement.__exit__)
        block.looked_up[get_ident()] = statement.exit = weakref.ref(made)
        return made


class _Statement:
    """A ``with`` statement; refers only weakly to what holds its generator."""

    __slots__ = ("block", "exit")

    exit: Callable[[], Any]

    def __init__(self, block: Block[Any]) -> None:
        self.block = block

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> bool | None:
        """Run the generator to its end, or raise in it, as `contextlib.contextmanager` does.

        As deep as `Block.__enter__`: a stack that had room for that has room for this.
        """
        if "generator" not in vars(self.exit()):
            return _leave_by_hand(self.block, kind, error, traceback)
        if error is None:
            next(self.exit().generator, None)
            return False
        try:
            self.exit().generator.throw(error)
        except StopIteration:
            return True
        except BaseException as raised:
            # A StopIteration leaves a generator as the cause of a RuntimeError (PEP 479).
            if raised is not error and not (isinstance(error, StopIteration) and raised.__cause__ is error):
                raise
            error.__traceback__ = traceback  # without the lines here
        return False


class Block(Generic[T]):
    """A context manager made from a generator function; it can also decorate a function, whose whole call it then is.

    One object can be entered many times, also by several threads and tasks at once: each ``with`` statement has a generator of its own.
    """

    def __init__(self, name: str, make: Callable[[], Generator[T, None, None]]) -> None:
        self._name, self.make = name, make
        self.looked_up: dict[int, weakref.ref[Any]] = {}
        """By thread: the ``__exit__`` of the statement that enters it now."""
        self.by_hand: dict[object, Callable[..., bool | None]] = {}
        """What would be looked up as ``__exit__``, of those who call ``__enter__`` themselves, as `contextlib.ExitStack` does."""

    def __enter__(self) -> T:
        found = self.looked_up.pop(get_ident(), None)
        if found is None or found() is None:
            return self._enter_by_hand()
        found().generator = self.make()  # type: ignore[union-attr]  # the statement holds it
        return next(found().generator)  # type: ignore[union-attr, no-any-return]

    def _enter_by_hand(self) -> T:
        key = object()
        self.by_hand[key] = self.__exit__
        try:
            entered = self.__enter__()
            _by_hand.set((*_by_hand.get(), key))
        except BaseException:
            del self.by_hand[key]
            raise
        return entered

    if TYPE_CHECKING:

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
        ) -> bool | None: ...

    else:
        __exit__ = _Exit()

    def __call__(self, function: Callable[P, Any]) -> Callable[P, Any]:
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            what = f"{self._name}(...) around {function.__qualname__}"
            raise TypeError(f"{what} would end before its body begins: it is no plain function. Write the with block inside of it.")

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            with self:
                return function(*args, **kwargs)

        return call


_by_hand: ContextVar[tuple[object, ...]] = ContextVar("interop_blocks_by_hand", default=())


def _leave_by_hand(block: Block[Any], kind: Any, error: BaseException | None, traceback: TracebackType | None) -> bool | None:
    """Leave what was entered last, in this context if it was entered there."""
    here = [key for key in _by_hand.get() if key in block.by_hand] or list(block.by_hand)
    if not here:
        raise RuntimeError("a block is left that was not entered.")
    _by_hand.set(tuple(key for key in _by_hand.get() if key is not here[-1]))
    return block.by_hand.pop(here[-1])(kind, error, traceback)


def block(function: Callable[P, Iterator[T]]) -> Callable[P, Block[T]]:
    """Make a generator function a maker of blocks, as `contextlib.contextmanager` does."""

    @functools.wraps(function)
    def make(*args: P.args, **kwargs: P.kwargs) -> Block[T]:
        return Block(function.__name__, functools.partial(function, *args, **kwargs))  # type: ignore[arg-type]  # written as an iterator

    return make


@block
def undone(undo: Callable[[], object]) -> Iterator[None]:
    """Call a function at the end of a block, and once more if it was interrupted.

    Once before, too, and somewhat deeper: a stack without room for it is found full while there is nothing to undo.

    Parameters
    ----------
    undo : callable
        It must be possible to call it when nothing has been done, and when it is half undone: it brings back a state that was
        looked at before the block began.
    """
    _deeper(undo)
    try:
        yield
    finally:
        try:
            undo()
        except BaseException:
            undo()
            raise


def _deeper(function: Callable[[], object], calls: int = 3) -> None:
    if calls:
        _deeper(function, calls - 1)
    else:
        function()


@block
def nested(*blocks: contextlib.AbstractContextManager[Any]) -> Iterator[None]:
    """Enter several blocks, the first outermost; `contextlib.ExitStack` would lose one that was interrupted as it was entered."""
    if not blocks:
        yield
        return
    with blocks[0], nested(*blocks[1:]):
        yield


class Entry:
    """Something in force: its kind, its value, and whether a plain conversion has to know of it, so that no fast path is taken.

    One that stands `alone` hides what was in force before it.
    """

    __slots__ = ("alone", "ended", "fast_path_off", "kind", "value")

    def __init__(self, kind: str, value: Any, *, fast_path_off: bool = True, alone: bool = False) -> None:
        self.kind, self.value, self.fast_path_off, self.alone = kind, value, fast_path_off, alone
        self.ended = False
        """Whether its block was left in another context than it was entered in, and so is in force in none."""


_entries: ContextVar[tuple[Entry, ...]] = ContextVar("interop_entries", default=())

fast_path_off: ContextVar[object | None] = ContextVar("interop_fast_path_off", default=None)
"""Not None where something in force must see or change even a plain conversion; where that ended elsewhere, until it is looked for."""

_entered: ContextVar[None] = ContextVar("interop_entered", default=None)
"""Says whether a block is left in the context that it was entered in: elsewhere its token cannot be reset (`ContextVar.reset`)."""


def in_force(kind: str) -> list[Any]:
    """Return the values of a kind, the outermost first."""
    entries = _entries.get()
    if any(entry.ended for entry in entries):
        _exchange((), ())
    return [entry.value for entry in _seen(_entries.get()) if entry.kind == kind]


def _seen(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Return those that no other hides."""
    return entries[max((at for at, entry in enumerate(entries) if entry.alone), default=0) :]


@block
def put(*entries: Entry) -> Iterator[None]:
    """Put entries in force for a block."""
    token = None
    try:
        token = _entered.set(None)
        _exchange((), entries)
        yield
    finally:
        # Not the token's own value, which would bring back whatever was in force when the block began. And no deeper than on entering.
        try:
            if not _is_here(token):
                _end(entries)
            _exchange(entries, ())
        except BaseException:
            if not _is_here(token):
                _end(entries)
            _exchange(entries, ())
            raise


def _is_here(token: Token[None] | None) -> bool:
    """Return whether this is the context in which a token was made, or where it was found to be already."""
    if token is None:
        return True
    try:
        _entered.reset(token)
    except RuntimeError:  # it was reset, where it could be
        return True
    except ValueError:
        return False
    return True


def _end(entries: tuple[Entry, ...]) -> None:
    for entry in entries:
        entry.ended = True


def _exchange(old: tuple[Entry, ...], new: tuple[Entry, ...]) -> None:
    """Take entries out of force and put others in force; twice is as good as once."""
    entries = (*[entry for entry in _entries.get() if entry not in old and entry not in new and not entry.ended], *new)
    _entries.set(entries)
    fast_path_off.set([entry for entry in _seen(entries) if entry.fast_path_off] or None)
