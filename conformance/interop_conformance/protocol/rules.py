"""The rules of the protocol, read from ``rules.toml``."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from interop_conformance.results.outcomes import BAD, GOOD

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Rule", "rules"]

LEVELS = ("must", "should", "may")
ROLES = ("producer", "consumer", "exchange")


@dataclass(frozen=True)
class Rule:
    """One obligation, with its clause quoted.

    `allowed` are the good outcomes that the texts allow; any other that is not neutral violates the rule.
    `also` is a second text that relaxes or contradicts the first: then either is allowed.
    """

    id: str
    title: str
    level: str
    clause: str
    source: str
    link: str
    since: str
    allowed: frozenset[str]
    also: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"{self.id}: the level {self.level!r} is not one of {', '.join(LEVELS)}")
        if self.role not in ROLES:
            raise ValueError(f"{self.id}: the role is not one of {', '.join(ROLES)}")
        if not self.allowed or not self.allowed <= GOOD:
            raise ValueError(f"{self.id}: allowed must be some of {', '.join(sorted(GOOD))}")

    @property
    def role(self) -> str:
        """Return whose obligation it is: producer, consumer or exchange."""
        return self.id.partition(".")[0]

    def violated_by(self, outcome: str) -> bool:
        """Return whether an outcome violates the rule; neutral ones do not, and do not fulfil it either."""
        return outcome in BAD or (outcome in GOOD and outcome not in self.allowed)


@functools.cache
def rules() -> Mapping[str, Rule]:
    """Return every rule by its id, in the order of the file."""
    found = tomllib.loads((Path(__file__).parent / "rules.toml").read_text(encoding="utf-8"))["rule"]
    listed = [Rule(**{**entry, "allowed": frozenset(entry["allowed"])}) for entry in found]
    by_id = {rule.id: rule for rule in listed}
    if len(by_id) != len(listed):
        raise ValueError("rules.toml has one id twice")
    return by_id
