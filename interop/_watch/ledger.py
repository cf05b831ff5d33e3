"""Keep an eye on crossings: `record` writes them down, `guard` forbids them; both for this context only.

A conversion asks `forbidden` while it is planned and calls `log_plan` when it is done. Either block turns the fast path off,
so nothing gets past. `interop._model.scope` documents how far a block reaches.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

from interop._model.scope import Entry, block, in_force, nested, put
from interop._model.spelling import nearest, unknown
from interop._untraced import untraced
from interop.backends import backend_names, library_part, load_backend

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Iterable, Iterator

    from interop._model.description import Description, Device
    from interop._model.plan import Plan

P = ParamSpec("P")
T = TypeVar("T")
Rule = Literal["allow", "error"]
_HERE = str(Path(__file__).parent.parent) + os.sep


@dataclass(frozen=True, slots=True)
class Crossing:
    """One conversion that was done, and changed the library, the device or the memory.

    Attributes
    ----------
    source : Description
        What the array was. It is not kept alive.
    target : str
        The library that it was converted to.
    device : Device
        Where the result lives.
    bytes : int
        Bytes that were copied; 0 if the memory is shared.
    shared : bool
        Whether the result is on the source's own memory.
    why : str
        Why it was copied, in words; empty if it was not.
    site : str
        File and line of the call, outside of interop.
    path : str
        Where in a tree; empty for a single array.
    """

    source: Description
    target: str
    device: Device
    bytes: int
    shared: bool
    why: str
    site: str
    path: str = ""

    @property
    def crossed_device(self) -> bool:
        """Whether the data went to another device."""
        return self.device != self.source.device

    @property
    def copied_in_place(self) -> bool:
        """Whether the data were copied, and stayed on their device."""
        return not self.shared and not self.crossed_device

    def row(self) -> tuple[str, ...]:
        """Return the cells of its line in the table."""
        how = "shared" if self.shared else f"{self.bytes:,} bytes"
        site = f"{Path(self.site).name} {self.path}".rstrip()
        shape = ", ".join("?" if extent is None else str(extent) for extent in self.source.shape)
        origin = f"{self.source.backend} {self.source.dtype}[{shape}] on {self.source.device}"
        return origin, f"{self.target} on {self.device}", how, site, self.why


_HEAD = ("from", "to", "copied", "at", "why")


class Log:
    """What crossed while it was open; `str` of it is a table.

    The counts and `bytes_copied` are exact sums over all crossings; the lists have those that are kept, the newest.

    Attributes
    ----------
    crossing_count, copy_count, transfer_count : int
        How many crossings there were: in all, those that copied and stayed on their device, those that went to another device.
    bytes_copied : int
        Bytes that were copied, on a device or between two.
    """

    def __init__(self, crossings: Iterable[Crossing] = (), *, keep: int | None = None) -> None:
        self.crossing_count = self.copy_count = self.transfer_count = self.bytes_copied = 0
        self._kept: deque[Crossing] = deque(maxlen=keep)
        # Threads may share the context. Reentrant, as a signal's handler may convert in the middle of it.
        self._lock, self._ended = threading.RLock(), False
        for crossing in crossings:
            self.add(crossing)

    def add(self, crossing: Crossing) -> None:
        """Write a crossing down, unless the block has ended: a task may outlive it."""
        with self._lock:
            if self._ended:
                return
            self._kept.append(crossing)
            self.crossing_count += 1
            self.copy_count += crossing.copied_in_place
            self.transfer_count += crossing.crossed_device
            self.bytes_copied += crossing.bytes

    def end(self) -> None:
        """Write nothing more."""
        self._ended = True

    @property
    def crossings(self) -> list[Crossing]:
        """The crossings that are kept, the oldest first."""
        with self._lock:
            return list(self._kept)

    @property
    def dropped(self) -> int:
        """How many crossings are counted and no longer kept."""
        with self._lock:
            return self.crossing_count - len(self._kept)

    @property
    def copies(self) -> list[Crossing]:
        """Those of `crossings` that copied and stayed on their device."""
        return [crossing for crossing in self.crossings if crossing.copied_in_place]

    @property
    def transfers(self) -> list[Crossing]:
        """Those of `crossings` that went to another device."""
        return [crossing for crossing in self.crossings if crossing.crossed_device]

    def __repr__(self) -> str:
        """Return its last line."""
        return f"<Log of {self._sums()}>"

    def __str__(self) -> str:
        if not self.crossing_count:
            return "no crossings"
        crossings = self.crossings
        rows = [_HEAD, *(crossing.row() for crossing in crossings)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, self._sums()])

    def _sums(self) -> str:
        counts = f"{self.copy_count} copies, {self.transfer_count} transfers, {self.bytes_copied:,} bytes copied"
        dropped = f" ({self.dropped} older ones dropped)" if self.dropped else ""
        return f"{self.crossing_count} crossings{dropped}: {counts}"


def _keywords_checked(function: Callable[P, T]) -> Callable[P, T]:
    """Name the right keyword for a wrong one, as the verbs do."""
    known = function.__wrapped__.__kwdefaults__  # type: ignore[attr-defined]  # what `block` has wrapped

    @functools.wraps(function)
    def call(*args: P.args, **keywords: P.kwargs) -> T:
        for name in keywords:
            if name not in known:
                raise TypeError(unknown(name, f"keyword of {function.__name__}", known))
        return function(*args, **keywords)

    return call


@untraced
@_keywords_checked
@block
def record(*, keep: int | None = 10_000) -> Iterator[Log]:
    """Write down every crossing that interop makes in this context; blocks nest, and each has its own log.

    Counted is what changes the library, the device or the memory: sharing between two libraries too, with 0 bytes, and
    what a call asks for by name (``device=``, ``copy=True``). An array that is returned as it is crosses nothing,
    and neither does a conversion that is refused.

    Parameters
    ----------
    keep : int, optional
        How many crossings are kept, the newest; older ones are dropped, and stay in the sums. None keeps all, at some 650 bytes each.

    Returns
    -------
    context manager of Log
        With ``crossings``, ``copies`` and ``transfers``, which are lists of what is kept, and with the exact sums ``bytes_copied``,
        ``crossing_count``, ``copy_count`` and ``transfer_count``. It ends with the block, also for tasks that go on.

    Examples
    --------
    >>> import interop, numpy as np
    >>> with interop.record() as log:
    ...     t = interop.to_torch(np.ones(3))
    ...     u = interop.to_torch(np.ones(3)[::-1])
    >>> len(log.crossings), log.bytes_copied, log.copies[0].why
    (2, 24, 'torch has no negative strides')

    >>> with interop.record(keep=1) as log:
    ...     for n in range(1, 4):
    ...         t = interop.to_torch(np.ones(n), copy=True)
    >>> log.crossing_count, log.bytes_copied, [str(one.source.shape) for one in log.crossings]
    (3, 48, ['(3,)'])
    """
    if keep is not None and (type(keep) is not int or keep < 0):
        raise ValueError(f"keep={keep!r} is not a number of crossings: an integer from 0, or None for all.")
    log = Log(keep=keep)
    with put(Entry("record", log)):
        try:
            yield log
        finally:
            log.end()


@untraced
@_keywords_checked
@block
def guard(*, copies: Rule | None = None, transfers: Rule | None = None, grads: Rule | None = None, native: bool = False) -> Iterator[None]:
    """Forbid crossings in this context: no permission given inside, in a call or in a scope, lifts it.

    Sharing memory between two libraries is none of these. A refusal that a guard causes is final, and names the guard.
    Guards nest, and what one forbids an inner one cannot allow.

    Parameters
    ----------
    copies, transfers, grads : str, optional
        ``"error"`` or ``"allow"``: copies on the same device; data that go to another device, by name (``device=``) or
        not; a tracked source that is detached. What is not named is allowed if another is ``"error"``, and else
        forbidden: ``guard()`` forbids all, ``guard(transfers="error")`` only transfers, ``guard(copies="allow")`` the other two.
    native : bool
        Also forbid what goes past interop, where a library shows it: torch's own moves between devices and
        gradients that leave it, JAX's moves between devices and to the host. Of the libraries that are loaded when the block begins.
        What they do not show is listed in ``docs/neutral.md``.

    Raises
    ------
    CopyError, TransferError, GradError
        From the conversion inside; with `native` also from the libraries' own verbs.

    Examples
    --------
    >>> import interop, numpy as np
    >>> with interop.guard(copies="error"):
    ...     interop.to_torch(np.ones(2), copy=True)
    Traceback (most recent call last):
    ...
    interop.errors.CopyError: to_torch(x, copy=True) cannot convert numpy.ndarray float64[2] on cpu; blocked by:
      - [copy] a guard forbids copies here, and no permission lifts it: copy=True never aliases
    <BLANKLINE>
    Hint: Do it outside of the guard that forbids copies.
    """
    found = _named({"copies": copies, "transfers": transfers, "grads": grads})
    with put(Entry("guard", found)), nested(*_native_guards(found) if native else ()):
        yield


def _named(rules: dict[str, Rule | None]) -> frozenset[str]:
    for name, value in rules.items():
        if value not in (None, "allow", "error"):
            raise ValueError(f"{name}={value!r} is not a rule of a guard{nearest(str(value), ('allow', 'error'))} Rules: 'allow', 'error'.")
    errors = frozenset(name for name, value in rules.items() if value == "error")
    return errors or frozenset(name for name, value in rules.items() if value is None)


def _native_guards(found: frozenset[str]) -> Iterator[contextlib.AbstractContextManager[None]]:
    for name in backend_names():
        if name in sys.modules:
            yield (library_part("interop._watch.{}", name) or load_backend(name)).native_guard(found)


@block
def unwatched() -> Iterator[None]:
    """Leave this context's records and guards out: for what looks at arrays on behalf of others (`interop.testing`)."""
    with put(Entry("unwatched", None, fast_path_off=False, alone=True)):
        yield


def watched() -> bool:
    """Return whether a log is open in this context."""
    return bool(in_force("record"))


def forbidden() -> frozenset[str]:
    """Return what the guards of this context forbid."""
    return frozenset().union(*in_force("guard"))


def log_plan(plan: Plan, path: str = "") -> None:
    """Write a plan that was executed into the logs of this context."""
    logs: list[Log] = in_force("record")
    if not logs or not plan.steps:
        return
    why = "; ".join(step.reason for step in plan.copies)
    crossing = Crossing(plan.description, plan.target, plan.device, plan.bytes_copied, plan.shares_memory, why, _call_site(), path)
    for log in logs:
        log.add(crossing)


def _call_site() -> str:
    """Return file and line of the innermost frame that is not interop's own."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(_HERE) and frame.f_back is not None:
        frame = frame.f_back
    return _site(frame.f_code.co_filename, frame.f_lineno)


@functools.lru_cache(maxsize=1024)
def _site(file: str, line: int) -> str:
    return f"{file}:{line}"  # one text for all crossings of a loop
