"""Cases and records: what is asked, and what came of it."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

__all__ = ["LAYERS", "ROUTES", "Case", "Record"]

LAYERS = ("protocol", "handoff", "policy")
ROUTES = ("dlpack", "native", "interop")
"""What `interop_conformance.matrix.handoff` says of them."""


class Case(NamedTuple):
    """One question. Its `id` is how it is called on the command line, and sorts with its neighbours.

    `case` is the rule in the protocol layer, the permissions in the policy layer and empty in the handoff layer, where
    producer, consumer, dtype, layout and state say it all. In the protocol layer the suite itself is the other side, called
    ``capsule``.
    """

    layer: str
    route: str
    producer: str
    consumer: str
    case: str = ""
    dtype: str = ""
    layout: str = ""
    state: str = ""

    @property
    def id(self) -> str:
        """Return ``layer/route/producer/consumer/case/dtype/layout/state``, without the parts that are empty."""
        return "/".join(part for part in self if part)

    def matches(self, pattern: str) -> bool:
        """Return whether the id fits a pattern with ``*`` and ``?``."""
        return fnmatchcase(self.id, pattern)


class Record(NamedTuple):
    """One answer."""

    case: Case
    outcome: str
    reason: str
    rules: tuple[str, ...] = ()
