"""What the consumer checks share: something crafted to take, the taking, and what is then seen.

A check here is a function of an `Offer` that returns what it observed, or raises a `Finding`. `BufferError`, and what the library's
documentation adds to it, is a refusal; where the rule's texts name no class, the check says so (`ANY`). What is left goes through, and
the caller of the check records it as unexplained.
"""

from __future__ import annotations

import functools
import gc
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from interop_conformance.adapters._base import Adapter, SuiteFault, Unsupported
from interop_conformance.capsules.crafted import Producer
from interop_conformance.capsules.guarded import Memory
from interop_conformance.matrix.dtypes import values_of
from interop_conformance.matrix.layouts import LAYOUTS
from interop_conformance.matrix.sources import difference, make_own
from interop_conformance.protocol import Variant, check
from interop_conformance.results.outcomes import Observed
from interop_conformance.results.texts import first_sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ANY", "CUDA", "ODD_DEVICE", "STANDARD", "Finding", "Offer", "consumer_check", "layouts", "until"]

ANY = (Exception,)
"""Any Python exception: for rules whose texts name no class."""

STANDARD = (BufferError, ValueError)
"""Both classes that the texts give for ``copy=False``."""

CUDA, ODD_DEVICE = (2, 0), (16, 0)
"""CUDA's first device, and a signal processor that no library here has."""

_PATIENCE = 2.0
"""Seconds for a deleter that a library calls from a thread of its own, after the array is gone."""


class Finding(Exception):  # noqa: N818 - not an error: an observation that ends a check
    """What was observed, from within a helper."""

    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(reason)
        self.observed = Observed(outcome, reason)


def layouts(*names: str) -> tuple[Variant, ...]:
    """Return a variant for each layout."""
    return tuple(Variant(layout=name) for name in names)


def consumer_check(rule: str, *variants: Variant) -> Callable[[Callable[[Offer], Observed]], Callable[[Offer], Observed]]:
    """Register a function of an `Offer` as the check of a rule."""

    def register(judge: Callable[[Offer], Observed]) -> Callable[[Offer], Observed]:
        @functools.wraps(judge)
        def run(adapter: Adapter, variant: Variant) -> Observed:
            try:
                return judge(Offer(adapter, variant))
            except Finding as finding:
                return finding.observed

        check(rule, *variants)(run)
        return judge

    return register


def until(condition: Callable[[], bool]) -> bool:
    """Collect garbage until a condition holds; return whether it came to hold."""
    deadline = time.monotonic() + _PATIENCE
    gc.collect()
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
        gc.collect()
    return condition()


class Crafted(Producer):
    """A producer whose capsules die after the library's function has come back, and not inside it.

    Their destructor is a Python function here, and a library that lets go of a capsule while it raises would lose its exception to it.
    With `hold` they live until `release` is called.
    """

    def __init__(self, *args: Any, hold: bool = False, **how: Any) -> None:
        super().__init__(*args, hold=True, **how)
        self.lingers = hold


class Offer:
    """One library, and what is crafted for it."""

    def __init__(self, adapter: Adapter, variant: Variant) -> None:
        self.adapter, self.variant = adapter, variant

    def values(self) -> np.ndarray:
        """Return the variant's values, compact."""
        return values_of(self.variant.dtype, LAYOUTS[self.variant.layout].base)

    def craft(self, values: np.ndarray | None = None, *, shift: int = 0, **how: Any) -> Producer:
        """Return a producer of the variant's array, on the library's device; in version 1 for who asks for it, else legacy."""
        memory = Memory(self.values() if values is None else values, shift=shift)
        # What is not the variant's has a layout of its own.
        view = LAYOUTS[self.variant.layout].view(memory.array) if values is None else memory.array
        if self.adapter.device == "cuda":
            how = {"moved": self._on_cuda(memory, shift), "device": CUDA, "twin": self._twin, **how}
        return Crafted(view, memory=memory, **{"polite": True, **how})

    def _on_cuda(self, memory: Memory, shift: int) -> int:
        if shift:
            raise Unsupported("no CUDA memory that is not aligned is crafted here")
        memory.keeps, address = self._twin(memory.array)
        return address - int(memory.array.ctypes.data)

    def _twin(self, values: np.ndarray) -> tuple[Any, int]:
        made = self.adapter.make(np.array(values))
        return made, self.adapter.pointer(made)

    def need(self, device: str) -> None:
        """Raise `Unsupported` unless the library's arrays are on a device."""
        if self.adapter.device != device:
            raise Unsupported(f"is about {'CUDA' if device == 'cuda' else 'CPU'} arrays")

    def host(self) -> Any:
        """Return what the library calls the CPU, for ``device=``."""
        if self.adapter.device != "cpu":
            return "cpu"
        return getattr(self.any_array(), "device", "cpu")

    def need_array(self) -> None:
        """Raise `Unsupported` or `NotItsOwn` if the library has no array of the variant's dtype and axes: not to take one is then no fault."""
        make_own(self.adapter, self.values())

    def any_array(self) -> Any:
        """Return some array of the library."""
        return self.adapter.make(values_of("float32", (2, 3)))

    def protects(self) -> bool:
        """Return whether the library has arrays that cannot be written to."""
        return "read-only" in self.adapter.states or not self.adapter.writeable(self.any_array())

    # Taking.

    def array(self, producer: Any, *, refusals: tuple[type[BaseException], ...] = (), **keywords: Any) -> Any:
        """Return the library's array over what was crafted, for checks that look further; a refusal ends the check."""
        documented: tuple[type[BaseException], ...] = (BufferError, *self.adapter.refuses, *refusals)
        try:
            return self.adapter.from_dlpack(producer, **keywords)
        except (Unsupported, SuiteFault):
            raise
        except documented as error:
            raise Finding("refused", f"{type(error).__name__}: {first_sentence(str(error))}") from None
        finally:
            if isinstance(producer, Crafted) and not producer.lingers:
                producer.release()

    def take(
        self, producer: Producer, *, refusals: tuple[type[BaseException], ...] = (), expected: np.ndarray | None = None, **keywords: Any
    ) -> Observed:
        """Take what was crafted once, look at it, and let it go."""
        expected = np.array(producer.means()) if expected is None else expected
        try:
            return self.look(self.array(producer, refusals=refusals, **keywords), producer, expected)
        except Finding as finding:
            return finding.observed

    def refuses(self, producer: Any, **keywords: Any) -> Observed:
        """Take what must be refused: any exception does, and an array is wrong, whatever it holds: it is not read."""
        try:
            self.array(producer, refusals=ANY, **keywords)
        except Finding as finding:
            return finding.observed
        return Observed("wrong", "it was taken")

    def look(self, result: Any, producer: Producer, expected: np.ndarray) -> Observed:
        """Return whether an array holds what it should, and whether it is over the producer's memory: proven by a written bit.

        The bit is written before the one look at the values, since a library may cache what it returned once.
        """
        if expected.size and not self.adapter.pointer(result):
            return Observed("wrong", "the array has no memory behind it")
        if not expected.size:
            return (
                Observed("wrong", fault)
                if (fault := difference(self.adapter.values(result), expected))
                else Observed("shared", "no elements, so nothing to alias")
            )
        poisoned = bool(difference(np.array(producer.means()), expected))
        with self._flipped(producer):
            found, flipped = self.adapter.values(result), np.array(producer.means())
        if not difference(found, expected):
            return Observed("copied")
        if not poisoned and not difference(found, flipped):
            return Observed("shared")
        return Observed("wrong", difference(found, expected))

    @contextmanager
    def _flipped(self, producer: Producer) -> Iterator[None]:
        """Change the first element, in the memory that the capsule points to and in its twin on the host, if that is another."""
        places: list[tuple[Callable[[int], None], int]] = [(self.adapter.flip, producer.pointer)]
        if producer.moved:
            places.append((lambda address: Adapter.flip(self.adapter, address), producer.pointer - producer.moved))
        for flip, address in places:
            flip(address)
        try:
            yield
        finally:
            for flip, address in places:
                flip(address)

    def asks_versioned(self, producer: Producer) -> bool:
        """Return whether the library asked for version 1."""
        return any((asked.get("max_version") or (0, 0))[0] >= 1 for asked in producer.asked)

    def need_versioned(self, producer: Producer) -> None:
        """Raise `Unsupported` if the library never asked for version 1: what is about that version says nothing of it."""
        if producer.asked and not self.asks_versioned(producer):
            raise Unsupported("asks for legacy capsules only")

    def takes_legacy(self) -> bool:
        """Return whether the library takes legacy capsules at all; rules about what it makes of them say nothing of one that does not."""
        try:
            self.adapter.from_dlpack(self.craft(version=None))
        except Exception:  # whatever it is, consumer.accepts-legacy reports it
            return False
        return True
