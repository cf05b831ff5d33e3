"""The protocol layer: one check for each rule in ``rules.toml``, on the capsule itself.

A check is a function of one adapter (and of a variant's dtype, layout and state, where it says so) that returns what it observed; whether the
rule allows it is the rule's business. `CHECKS` is the one list of them: a file here registers its own with `check`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from conformance.adapters._base import Adapter
    from conformance.outcomes import Observed

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
        "producer",
        "producer_lifetime",
        "producer_versions",
        "producer_flags",
        "producer_copies",
        "producer_devices",
        "producer_streams",
        "producer_layouts",
        "producer_dtypes",
    ),
    *("consumer_capsule", "consumer_memory", "consumer_dtype", "consumer_calls"),
    *("exchange_table", "exchange_export", "exchange_import"),
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
        importlib.import_module(f"conformance.protocol.{name}")
    return _CHECKS
