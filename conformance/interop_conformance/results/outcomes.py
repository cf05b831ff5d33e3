"""The outcomes: what a case can come to, listed once. They are never merged."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BAD", "GOOD", "NEUTRAL", "NOT_ITS_OWN", "OUTCOMES", "Observed", "Outcome"]


class Outcome(NamedTuple):
    """One outcome.

    Attributes
    ----------
    verdict : str
        ``good``, ``bad`` or ``neutral``; neutral is never counted as good. In the protocol layer the rule decides: an outcome
        that is good elsewhere is a violation where the rule does not allow it.
    symbol : str
        One character that tells it apart without colour.
    meaning : str
        One sentence for the legend.
    """

    verdict: str
    symbol: str
    meaning: str


OUTCOMES = {
    "shared": Outcome("good", "=", "The result is over the source's own memory: a write to one is seen in the other."),
    "copied": Outcome("good", "+", "The result has the right values in memory of its own."),
    "refused": Outcome("good", "-", "A documented error; nothing was handed over, nothing was lost."),
    "wrong": Outcome("bad", "≠", "Values, shape or dtype differ from the source's, or there were none to hand over."),
    "unsafe": Outcome("bad", "!", "A gradient, a mask, read-only protection or the source's state was lost without permission."),
    "crash": Outcome("bad", "✖", "The process died."),
    "timeout": Outcome("bad", "∞", "The case did not come to an end in time."),
    "unexplained": Outcome("bad", "?", "An exception that no text documents for this."),
    "unsupported": Outcome("neutral", "·", "The library has no such array, or no such route."),
    "not-run": Outcome("neutral", "○", "The case could not be run here."),
}
"""Every outcome, in the order of tables."""

GOOD = frozenset(name for name, outcome in OUTCOMES.items() if outcome.verdict == "good")
BAD = frozenset(name for name, outcome in OUTCOMES.items() if outcome.verdict == "bad")
NEUTRAL = frozenset(name for name, outcome in OUTCOMES.items() if outcome.verdict == "neutral")


NOT_ITS_OWN = "not its own: "
"""How the reason of a case begins that is not run since its array is another library's. No finding: nobody is at fault."""


class Observed(NamedTuple):
    """What a case came to, and why in words; the words are the same in every run: no addresses, no times."""

    outcome: str
    reason: str = ""
