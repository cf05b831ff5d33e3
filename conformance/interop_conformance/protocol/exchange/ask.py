"""What the checks of the C exchange API share: an array, its type's table, and what the two ways out of it say."""

from __future__ import annotations

import functools
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from interop.dlpack import VERSION
from interop_conformance.adapters._base import SuiteFault, Unsupported
from interop_conformance.capsules.capsule import Consumed, Facts, Tensor, read
from interop_conformance.capsules.exchange_api import ATTRIBUTE, SilentError, api_of
from interop_conformance.matrix.sources import source
from interop_conformance.protocol import Variant, check
from interop_conformance.protocol.consumers.ask import Finding
from interop_conformance.results.outcomes import Observed
from interop_conformance.results.texts import first_sentence

if TYPE_CHECKING:
    from collections.abc import Callable

    from interop_conformance.adapters._base import Adapter
    from interop_conformance.capsules.exchange_api import Api

__all__ = ["Exchange", "exchange_check"]


def exchange_check(rule: str, *variants: Variant) -> Callable[[Callable[[Exchange], Observed]], Callable[[Exchange], Observed]]:
    """Register a function of an `Exchange` as the check of a rule."""

    def register(judge: Callable[[Exchange], Observed]) -> Callable[[Exchange], Observed]:
        @functools.wraps(judge)
        def run(adapter: Adapter, variant: Variant) -> Observed:
            with ExitStack() as stack:
                try:
                    return judge(Exchange(adapter, variant, stack))
                except Finding as finding:
                    return finding.observed
                except SilentError as error:
                    return Observed("wrong", str(error))

        check(rule, *variants)(run)
        return judge

    return register


class Exchange:
    """One array of one library, and the table of its type."""

    def __init__(self, adapter: Adapter, variant: Variant, stack: ExitStack) -> None:
        self.adapter, self.variant = adapter, variant
        self.array, self.expected = source(adapter, *variant, stack)
        if not hasattr(self.array, ATTRIBUTE):
            raise Unsupported(f"its arrays have no {ATTRIBUTE}")
        self._exported: list[Consumed] = []
        stack.callback(self._let_go)

    @property
    def api(self) -> Api:
        """Return the table."""
        try:
            found = api_of(type(self.array))
        except (ValueError, TypeError) as error:
            raise Unsupported(f"no table to be found: {first_sentence(str(error))}") from error
        if found is None:
            raise Unsupported("no table on the type")
        return found

    def _let_go(self) -> None:
        for managed in self._exported:
            managed.delete()

    def export(self) -> Consumed:
        """Return the managed tensor that the table's function makes, for a caller that calls its deleter."""
        self.api.require("from_object")
        address = self.api.from_object(self.array)
        if not address:
            raise Finding("wrong", "managed_tensor_from_py_object_no_sync says success and gives NULL")
        return Consumed(address, versioned=True)

    def facts(self) -> Facts:
        """Return what the exported tensor says; it is let go when the check is over."""
        self._exported.append(self.export())
        return self._exported[-1].facts()

    def tensor(self) -> Tensor:
        """Return the exported tensor."""
        tensor = self.facts().tensor
        if tensor is None:
            raise Finding("wrong", "the exported tensor is of another major version")
        return tensor

    def usual(self) -> Facts:
        """Return what ``__dlpack__`` says of the same array; raises `Unsupported` where it refuses."""
        try:
            raw = self.array.__dlpack__(max_version=VERSION)
        except Exception as error:  # whatever it is: where it exports nothing, there is nothing to compare with
            raise Unsupported(f"__dlpack__ refuses it: {first_sentence(str(error))}") from error
        self._keep = raw
        facts = read(raw)
        if facts.tensor is None or facts.legacy:
            raise Unsupported("__dlpack__ hands out no versioned capsule")
        return facts

    def refused_usually(self) -> None:
        """Raise `Unsupported` unless ``__dlpack__`` refuses the array."""
        try:
            self.usual()
        except Unsupported:
            return
        raise Unsupported("__dlpack__ exports it")

    def same(self, what: str, here: Any, there: Any) -> Observed:
        """Return that two descriptions are the same, or how they differ."""
        return Observed("shared") if here == there else Observed("wrong", f"the {what} is {here} here and {there} in __dlpack__")

    def refusal(self, *, only: tuple[type[BaseException], ...] = (Exception,)) -> Observed | None:
        """Export and return the refusal; None if an array came, which is let go."""
        try:
            self.facts()
        except (Finding, SilentError, SuiteFault):
            raise
        except only as error:
            return Observed("refused", f"{type(error).__name__}: {first_sentence(str(error))}")
        return None

    def need(self, device: str) -> None:
        """Raise `Unsupported` unless the library's arrays are on a device."""
        if self.adapter.device != device:
            raise Unsupported(f"is about {'CUDA' if device == 'cuda' else 'CPU'} arrays")
