"""Assertions about memory: shared, copied, and the source left as it was.

They look at addresses, strides and counters, for which nothing has to be moved; only `assert_source_untouched` takes a
copy of the values, hidden from the test's records and guards.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from interop._model.scope import block
from interop._verbs import shares_memory
from interop.backends import find_backend, is_array, load_backend
from interop.errors import LayoutError, NoDataError
from interop.testing._values import Side

if TYPE_CHECKING:
    from collections.abc import Iterator

    from interop._model.description import Description

__all__ = ["assert_copied", "assert_shares_memory", "assert_source_untouched"]


def assert_shares_memory(a: Any, b: Any) -> None:
    """Raise AssertionError unless two arrays, of any libraries, have a byte in common (see `interop.shares_memory`).

    Examples
    --------
    >>> import interop, numpy as np
    >>> a = np.ones(3)
    >>> assert_shares_memory(a, interop.to_torch(a))
    """
    __tracebackhide__ = True
    first, second = _located("a", a), _located("b", b)
    if shares_memory(a, b):
        return
    why = "; an array without elements has no byte to share" if not (first.size and second.size) else ""
    raise AssertionError(f"assert_shares_memory: a and b have no byte in common{why}\n  a: {_where(first)}\n  b: {_where(second)}")


def assert_copied(source: Any, result: Any) -> None:
    """Raise AssertionError if a result has a byte in common with its source: then a write to one shows in the other.

    Examples
    --------
    >>> import interop, numpy as np
    >>> a = np.ones(3)
    >>> assert_copied(a, interop.to_torch(a, copy=True))
    """
    __tracebackhide__ = True
    first, second = _located("source", source), _located("result", result)
    if shares_memory(source, result):
        raise AssertionError(
            f"assert_copied: the result shares memory with its source\n  source: {_where(first)}\n  result: {_where(second)}"
        )


def _located(name: str, x: Any) -> Description:
    """Return the description of an array whose bytes can be located; for any other array "shares nothing" would be a guess."""
    backend = find_backend(x)
    found = backend.describe(x)
    if found.no_data is not None:
        raise NoDataError(f"{name} is {found}: there is no memory to compare.", hint="Test with an array that has data.")
    walks = found.strides is not None or backend.capabilities.odd_strides
    if found.layout != "strided" or not walks or (found.pointer is None and not found.scalar):
        raise LayoutError(f"{name} is {found}: the location of its bytes is unknown.", hint="Compare the arrays that it consists of.")
    return found


def _where(x: Description) -> str:
    if x.pointer is None:
        return f"{x}, a value without a buffer"
    return f"{x}, {x.nbytes:,} bytes from {x.pointer:#x}"


@block
def assert_source_untouched(*arrays: Any) -> Iterator[None]:
    """Raise AssertionError at the end of the block if it changed any of these arrays (or trees of them).

    Compared are the values bit by bit, everything that `interop.describe` sees (shape, dtype, strides, device, address, read-only,
    requires_grad, ...), and the count of writes where the library has one (torch), so that also a write that puts the same
    values back is found. If the block raises, its own error stays.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.zeros(3)
    >>> with assert_source_untouched(a):
    ...     a[1] = 7.0
    Traceback (most recent call last):
    ...
    AssertionError: assert_source_untouched: the block changed 1 of 1 arrays
    arrays[0], numpy.ndarray float64[3] on cpu:
      values: 1 of 3 elements; first at [1]: before 0.0, after 7.0
    """
    __tracebackhide__ = True
    snapshots = [_Snapshot(path, leaf) for path, leaf in _leaves(arrays)]
    if not snapshots:
        raise TypeError("assert_source_untouched: there is no array among its arguments, so there is nothing to watch.")
    yield
    reports = [report for one in snapshots if (report := one.report())]
    if reports:
        raise AssertionError("\n".join([f"assert_source_untouched: the block changed {len(reports)} of {len(snapshots)} arrays", *reports]))


def _leaves(arrays: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    from interop._trees.structure import flatten  # on request: it loads optree

    node = flatten(list(arrays))
    for path, leaf in zip(node.paths("arrays"), node.leaves, strict=True):
        if is_array(leaf):
            yield path, leaf


class _Snapshot:
    """An array, and what it was when the block began."""

    def __init__(self, path: str, x: Any) -> None:
        self.path, self.x, self.backend = path, x, find_backend(x)
        side = Side(path, x)  # refuses what has no values
        assert side.description is not None
        self.description, self.values = side.description, load_backend("numpy").copy(side.host)
        self.version = self.backend.version_of(x)

    def report(self) -> str:
        """Return what has changed since; empty if nothing has."""
        now, version = self.backend.describe(self.x), self.backend.version_of(self.x)
        lines = [*self._changed_values(now), *self._changed_facts(now)]
        if version != self.version:
            lines.append(f"count of writes: before {self.version}, after {version}")
        return "\n  ".join([f"{self.path}, {self.description}:", *lines]) if lines else ""

    def _changed_facts(self, now: Description) -> Iterator[str]:
        for field in dataclasses.fields(now):
            before, after = getattr(self.description, field.name), getattr(now, field.name)
            if before != after:
                spell = hex if field.name == "pointer" and None not in (before, after) else str
                yield f"{field.name}: before {spell(before)}, after {spell(after)}"

    def _changed_values(self, now: Description) -> Iterator[str]:
        if now.no_data is not None or (now.shape, now.dtype) != (self.description.shape, self.description.dtype):
            return
        host, before = load_backend("numpy").namespace(), self.values
        after = Side(self.path, self.x).host
        both = [values.tobytes() for values in (before, after)]
        if both[0] == both[1]:
            return
        bits = [host.frombuffer(raw, dtype="uint8").reshape(-1, before.itemsize) for raw in both]
        changed = (bits[0] != bits[1]).any(axis=1)
        spot = host.unravel_index(int(changed.argmax()), before.shape)
        at = ", ".join(str(int(axis)) for axis in spot)
        count = int(host.count_nonzero(changed))
        yield f"values: {count} of {before.size} elements; first at [{at}]: before {before[spot]}, after {after[spot]}"
