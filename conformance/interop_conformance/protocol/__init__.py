"""The protocol layer: one check for each rule in ``rules.toml``, on the capsule itself.

A check is a function of one adapter (and of a variant's dtype, layout and state, where it says so) that returns what it observed; whether the
rule allows it is the rule's business. `CHECKS` is the one list of them: a file here registers its own with `check`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from interop_conformance.adapters._base import Adapter
    from interop_conformance.results.outcomes import Observed

__all__ = ["Check", "Variant", "check", "checks"]


class Variant(NamedTuple):
    """The array that a check is made on, in the matrix's words."""

    dtype: str = "float32"
    layout: str = "compact"
    state: str = "plain"


class Check(NamedTuple):
    """A check, and the arrays that it is made on."""

    run: Callable[[Adapter, Variant], Observed]
    variants: tuple[Variant, ...]


_FILES = (
    *(
        "producers.capsules",
        "producers.lifetime",
        "producers.versions",
        "producers.flags",
        "producers.copies",
        "producers.devices",
        "producers.streams",
        "producers.layouts",
        "producers.dtypes",
    ),
    *("consumers.capsule", "consumers.memory", "consumers.dtype", "consumers.calls"),
    *("exchange.table", "exchange.exports", "exchange.imports"),
)
_CHECKS: dict[str, Check] = {}


def check(rule: str, *variants: Variant) -> Callable[[Callable[[Adapter, Variant], Observed]], Callable[[Adapter, Variant], Observed]]:
    """Register a function as the check of a rule."""

    def register(run: Callable[[Adapter, Variant], Observed]) -> Callable[[Adapter, Variant], Observed]:
        if rule in _CHECKS:
            raise ValueError(f"{rule} has two checks")
        _CHECKS[rule] = Check(run, variants or (Variant(),))
        return run

    return register


def checks(files: Sequence[str] = _FILES) -> Mapping[str, Check]:
    """Return every check by its rule's id."""
    for name in files:
        importlib.import_module(f"interop_conformance.protocol.{name}")
    return _CHECKS
