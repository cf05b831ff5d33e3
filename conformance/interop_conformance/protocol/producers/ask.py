"""What the producer checks share: an array, the capsules asked of it, and how a check reports what it found.

A check is a function of an `Ask` that returns what it observed, or raises a `Finding` at the first thing that is not as it should be.
The specification's `BufferError` is a refusal; any other exception goes through, and the caller of the check records it as unexplained.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from interop.dlpack import VERSION
from interop_conformance.adapters._base import Unsupported
from interop_conformance.capsules.capsule import HOST_READABLE, Facts, NotACapsuleError, Tensor, read
from interop_conformance.matrix.layouts import LAYOUTS
from interop_conformance.matrix.sources import difference, source
from interop_conformance.protocol import Variant, check
from interop_conformance.protocol.producers.cuda import need_readable, seen
from interop_conformance.protocol.producers.subbyte import subbyte_difference
from interop_conformance.results.outcomes import Observed
from interop_conformance.results.texts import first_sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np

    from interop_conformance.adapters._base import Adapter

__all__ = ["CPU", "PLAIN", "Ask", "Finding", "producer_check", "variants"]

CPU = (1, 0)
"""kDLCPU, as ``__dlpack_device__`` returns it."""

PLAIN = Variant()
"""The array that says least."""


class Finding(Exception):  # noqa: N818 - not an error: an observation that ends a check
    """What was observed, from within a helper."""

    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(reason)
        self.observed = Observed(outcome, reason)


def variants(
    *, dtypes: tuple[str, ...] = ("float32",), layouts: tuple[str, ...] = ("compact",), states: tuple[str, ...] = ("plain",)
) -> tuple[Variant, ...]:
    """Return every combination."""
    return tuple(Variant(dtype, layout, state) for state in states for dtype in dtypes for layout in layouts)


def producer_check(rule: str, *arrays: Variant, device: str = "") -> Callable[[Callable[[Ask], Observed]], Callable[[Ask], Observed]]:
    """Register a function of an `Ask` as the check of a rule; `device` is the only one that the rule is about."""

    def register(judge: Callable[[Ask], Observed]) -> Callable[[Ask], Observed]:
        @functools.wraps(judge)
        def run(adapter: Adapter, variant: Variant) -> Observed:
            if device and adapter.device != device:
                raise Unsupported(f"needs a {'CUDA' if device == 'cuda' else 'ROCm' if device == 'rocm' else 'CPU'} array")
            with ExitStack() as stack:
                ask = Ask(adapter, variant, stack)
                try:
                    return judge(ask)
                except Finding as finding:
                    return finding.observed
                except BufferError as error:
                    return refused(error)
                except NotACapsuleError as error:
                    return Observed("wrong", str(error))

        check(rule, *arrays)(run)
        return judge

    return register


def refused(error: BaseException) -> Observed:
    """Return that asking raised an exception that it may raise."""
    return Observed("refused", f"{type(error).__name__}: {first_sentence(str(error))}")


class Ask:
    """One array of one library, and what is asked of it."""

    def __init__(self, adapter: Adapter, variant: Variant, stack: ExitStack) -> None:
        self.adapter, self.variant, self.stack = adapter, variant, stack
        self.array, self.expected = source(adapter, *variant, stack)
        self.others: list[Any] = []

    # Asking.

    def export(self, **keywords: Any) -> Any:
        """Return what ``__dlpack__`` returns."""
        return self.array.__dlpack__(**keywords)

    def device(self) -> tuple[int, int]:
        """Return ``__dlpack_device__()`` as two numbers."""
        kind, index = self.array.__dlpack_device__()
        return int(getattr(kind, "value", kind)), int(index)

    def newest(self, **keywords: Any) -> Any:
        """Return the versioned capsule, or the legacy one of a library that knows no ``max_version``."""
        try:
            return self.export(max_version=VERSION, **keywords)
        except TypeError:
            return self.export(**keywords)

    def versioned(self, **keywords: Any) -> Any:
        """Return a versioned capsule; whether there should be one is for the rules about versions, and not for the others."""
        self.need_known("max_version", *keywords)
        raw = self.export(max_version=VERSION, **keywords)
        if read(raw).name == "dltensor":
            raise Unsupported("hands out the legacy structure, which has neither version nor flags")
        return raw

    def need_known(self, *keywords: str) -> None:
        """Raise `Unsupported` if ``__dlpack__`` does not know a keyword: what comes of it, then, is not the library's doing."""
        for keyword in keywords:
            try:
                self.export(**{keyword: None})
            except TypeError as error:
                self.without_keywords()  # if that is a TypeError as well, it is not about the keyword
                raise Unsupported(f"does not know {keyword}: {first_sentence(str(error))}") from error
            except Exception:  # noqa: S110 - it is known; the check itself sees what comes of a value
                pass

    def without_keywords(self) -> None:
        """Ask without keywords, and look at nothing but what is raised that no text documents."""
        with contextlib.suppress(BufferError):
            self.export()

    def structures(self) -> Iterator[Mapping[str, Any]]:
        """Return the keywords that give a legacy capsule, and those for a versioned one, as far as there are any."""
        found = []
        for keywords in ({}, {"max_version": VERSION}):
            try:
                self.export(**keywords)
            except (BufferError, TypeError):
                continue
            found.append(keywords)
        # If it exports neither, the refusal is the answer.
        return iter(found) if found else iter([{}])

    # Judging.

    def facts(self, raw: Any) -> Facts:
        """Return what a capsule holds, or find that it cannot be read."""
        return readable(read(raw))

    def tensor(self, raw: Any) -> Tensor:
        """Return the tensor of a capsule."""
        return tensor_of(read(raw))

    def outcome_of(self, tensor: Tensor) -> Observed:
        """Return how the memory was exported: ``shared`` if it is the array's own, ``copied`` otherwise."""
        return Observed("shared" if self.size == 0 or tensor.pointer == self.adapter.pointer(self.array) else "copied")

    def outcome_of_capsule(self, raw: Any) -> Observed:
        """Return how a capsule exports the memory: ``shared`` or ``copied``."""
        return self.outcome_of(self.tensor(raw))

    @property
    def size(self) -> int:
        """Return the number of elements; an array without data has some, too."""
        return self.expected.size if self.expected is not None else 1

    def seen(self, tensor: Tensor) -> np.ndarray:
        """Return the values that a consumer would find."""
        assert self.expected is not None
        need_readable(tensor)
        _, bits, lanes = tensor.dtype
        if bits * lanes != self.expected.itemsize * 8:
            raise Finding("wrong", f"{bits * lanes} bits an element instead of {self.expected.itemsize * 8}")
        self.check_reach(tensor)
        return seen(self.adapter, tensor, self.expected.dtype)

    def check_reach(self, tensor: Tensor) -> None:
        """Find that a consumer would leave the array, before we do."""
        assert self.expected is not None
        shape = self.expected.shape
        if tensor.ndim != len(shape) or (tensor.shape or ()) != shape:
            raise Finding("wrong", f"the shape {shape} became {tensor.shape if tensor.ndim else ()}")
        if self.expected.size and not tensor.data:
            raise Finding("wrong", "data is NULL")
        if self.expected.size and tensor.strides is not None:
            base = LAYOUTS[self.variant.layout].base
            room = max(functools.reduce(lambda a, b: a * b, base, 1), self.expected.size)
            reach = sum(abs(step) * (extent - 1) for step, extent in zip(tensor.strides, shape, strict=True))
            if reach >= room:
                raise Finding("wrong", f"the strides {tensor.strides} lead out of the array")

    def same(self, facts: Facts) -> None:
        """Find that the values are not the array's."""
        assert self.expected is not None
        tensor = tensor_of(facts)
        if tensor.dtype[1] < 8:
            if tensor.device[0] not in HOST_READABLE:
                raise Unsupported("narrow elements in memory that the host cannot read")
            self.check_reach(tensor)
            fault = subbyte_difference(facts, self.expected)
        else:
            fault = difference(self.seen(tensor), self.expected)
        if fault:
            raise Finding("wrong", fault)

    # Lifetime.

    def drop(self) -> Callable[[], bool]:
        """Let go of the array, and return what tells whether it is gone."""
        try:
            reference = weakref.ref(self.array)
        except TypeError:
            raise Unsupported("its arrays have no weak references, so their end cannot be seen") from None
        del self.array

        def gone() -> bool:
            gc.collect()
            return reference() is None

        return gone


def readable(facts: Facts) -> Facts:
    """Return the facts, or find that the structure cannot be read."""
    if facts.tensor is None:
        fault = f"a capsule named {facts.name}" if facts.version is None else f"major version {facts.version[0]}"
        raise Finding("wrong", fault)
    return facts


def tensor_of(facts: Facts) -> Tensor:
    """Return the tensor, or find that it cannot be read."""
    tensor = readable(facts).tensor
    assert tensor is not None
    return tensor
