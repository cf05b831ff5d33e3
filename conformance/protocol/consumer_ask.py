"""What the consumer checks share: something crafted to take, the taking, and what is then seen.

A check here is a function of an `Offer` that returns what it observed, or raises a `Finding`. `BufferError`, and what the library's
documentation adds to it, is a refusal; where the rule's texts name no class, the check says so (`ANY`). What is left goes through, for
whoever runs the check to call it unexplained.
"""

from __future__ import annotations

import functools
import gc
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.adapters._base import SuiteFault, Unsupported
from conformance.crafted import Producer
from conformance.dtypes import values_of
from conformance.guarded import Memory
from conformance.layouts import LAYOUTS
from conformance.outcomes import Observed
from conformance.protocol import Variant, check
from conformance.sources import difference
from conformance.texts import first_sentence

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.adapters._base import Adapter

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


def refused(error: BaseException) -> Observed:
    """Return the refusal that an exception is."""
    return Observed("refused", f"{type(error).__name__}: {first_sentence(str(error))}")


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
            how = {"moved": self._on_cuda(memory, shift), "device": CUDA, **how}
        return Producer(view, memory=memory, **{"polite": True, **how})

    def _on_cuda(self, memory: Memory, shift: int) -> int:
        if shift:
            raise Unsupported("no CUDA memory that is not aligned is crafted here")
        twin = self.adapter.make(np.array(memory.array))
        memory.keeps = twin
        return self.adapter.pointer(twin) - int(memory.array.ctypes.data)

    def need(self, device: str) -> None:
        """Raise `Unsupported` unless the library's arrays are on a device."""
        if self.adapter.device != device:
            raise Unsupported(f"is about {'CUDA' if device == 'cuda' else 'CPU'} arrays")

    def host(self) -> Any:
        """Return what the library calls the CPU, for ``device=``."""
        if self.adapter.device != "cpu":
            return "cpu"
        return getattr(self.any_array(), "device", "cpu")

    def any_array(self) -> Any:
        """Return some array of the library."""
        return self.adapter.make(values_of("float32", (2, 3)))

    def protects(self) -> bool:
        """Return whether the library has arrays that cannot be written to."""
        return "read-only" in self.adapter.states or not self.adapter.writeable(self.any_array())

    # Taking.

    def array(self, producer: Any, **keywords: Any) -> Any:
        """Return the library's array over what was crafted, for checks that look further; refusals end the check."""
        try:
            return self.adapter.from_dlpack(producer, **keywords)
        except (BufferError, *self.adapter.refuses) as error:
            raise Finding(*refused(error)) from None

    def take(
        self, producer: Producer, *, refusals: tuple[type[BaseException], ...] = (), expected: np.ndarray | None = None, **keywords: Any
    ) -> Observed:
        """Take what was crafted once, look at it, and let it go."""
        expected = np.array(producer.means()) if expected is None else expected
        try:
            result = self.adapter.from_dlpack(producer, **keywords)
        except (Unsupported, SuiteFault):
            raise
        except (BufferError, *self.adapter.refuses, *refusals) as error:
            return refused(error)
        return self.look(result, producer, expected)

    def refuses(self, producer: Any, **keywords: Any) -> Observed:
        """Take what must be refused: any exception does, and an array is wrong, whatever it holds: nobody looks into it."""
        try:
            self.adapter.from_dlpack(producer, **keywords)
        except (Unsupported, SuiteFault):
            raise
        except Exception as error:
            return refused(error)
        return Observed("wrong", "it was taken")

    def look(self, result: Any, producer: Producer, expected: np.ndarray) -> Observed:
        """Return whether an array holds what it should, and whether it is over the producer's memory: proven by a written bit."""
        if expected.size and not self.adapter.pointer(result):
            return Observed("wrong", "the array has no memory behind it")
        fault = difference(self.adapter.values(result), expected)
        if fault:
            return Observed("wrong", fault)
        if not expected.size:
            return Observed("shared", "no elements, so nothing to alias")
        self.adapter.flip(producer.pointer)
        try:
            changed = difference(self.adapter.values(result), expected)
        finally:
            self.adapter.flip(producer.pointer)
        return Observed("shared" if changed else "copied")

    def need_versioned(self, producer: Producer) -> None:
        """Raise `Unsupported` if the library never asked for version 1: what is about that version says nothing of it."""
        if producer.asked and not any((asked.get("max_version") or (0, 0))[0] >= 1 for asked in producer.asked):
            raise Unsupported("asks for legacy capsules only")
