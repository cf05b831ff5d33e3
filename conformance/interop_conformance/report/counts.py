"""The counts that stand in the page's tables before its script runs; the script counts the same way (``assets/data.js``)."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from interop_conformance.results.outcomes import BAD, GOOD, OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from interop_conformance.report.verdicts import Verdict
    from interop_conformance.results.records import Record

__all__ = ["Chip", "Tally", "bar", "chips", "tally", "tokens"]

Tally = Counter[tuple[str, str]]
"""How many records have an outcome and a mark."""

CAPSULE = "capsule"
"""What the suite's own side is called in the protocol layer."""


class Chip(NamedTuple):
    """A count with its symbol. `solid` ones catch the eye: bad, and no known deviation explains them all."""

    group: str
    kind: str
    symbol: str
    number: int
    says: str
    solid: bool = False

    @property
    def text(self) -> str:
        """Return the number as people read it."""
        return f"{self.number:,}"


def tokens(case: str) -> list[str]:
    """Return the single permissions of a policy case.

    >>> tokens("grad=detach,copy=None")
    ['grad=detach', 'copy=None']
    """
    return [token for token in re.split(r"[\s,;&]+", case) if token]


def tally(records: Sequence[Record], verdicts: Sequence[Verdict]) -> dict[str, Tally]:
    """Return the counts of every cell of the page.

    Keys: ``pair:layer/route/producer/consumer``, ``total:layer/route``, ``rule:id/library``, ``token:permission``.
    """
    found: dict[str, Tally] = {}
    # First what is equal to all cells: a matrix has far fewer of those than records.
    equal = Counter((record.case[:5], record.outcome, verdict.mark) for record, verdict in zip(records, verdicts, strict=True))
    for (case, outcome, mark), count in equal.items():
        for key in _keys(*case):
            found.setdefault(key, Counter())[outcome, mark] += count
    return found


def _keys(layer: str, route: str, producer: str, consumer: str, case: str) -> Iterator[str]:
    yield f"total:{layer}/{route}"
    yield f"pair:{layer}/{route}/{producer}/{consumer}"
    if layer == "protocol":
        yield f"rule:{case}/{consumer if producer == CAPSULE else producer}"
    if layer == "policy":
        yield from (f"token:{token}" for token in dict.fromkeys(tokens(case)))


def chips(counts: Mapping[tuple[str, str], int], *, rule: bool = False) -> list[Chip]:
    """Return the counts of a cell, the bad ones first.

    Under a rule a good outcome is allowed or not, and which it is otherwise does not matter.
    """
    shown = list(_bad(counts, BAD))
    if rule:
        # A good outcome that the rule does not allow: a sign of its own, not another colour of the outcome's.
        violated = sum(counts.get((name, mark), 0) for name in GOOD for mark in ("bad", "known"))
        new = sum(counts.get((name, "bad"), 0) for name in GOOD)
        shown += [Chip("bad", "violated", "⊘", violated, _says("not allowed", violated, new), bool(new))] * bool(violated)
        fulfilled = sum(counts.get((name, "good"), 0) for name in GOOD)
        shown += [Chip("good", "fulfilled", "✓", fulfilled, "fulfilled")] * bool(fulfilled)
    else:
        shown += _plain(counts, GOOD, "good")
    # Not only the neutral outcomes: where a rule says "may", any other is neutral too.
    return [*shown, *_plain(counts, OUTCOMES, "neutral")]


def _bad(counts: Mapping[tuple[str, str], int], names: Iterable[str]) -> Iterator[Chip]:
    for name in _ordered(names):
        new = counts.get((name, "bad"), 0)
        if count := new + counts.get((name, "known"), 0):
            yield Chip("bad", name, OUTCOMES[name].symbol, count, _says(name, count, new), bool(new))


def _plain(counts: Mapping[tuple[str, str], int], names: Iterable[str], group: str) -> Iterator[Chip]:
    for name in _ordered(names):
        if count := counts.get((name, group), 0):
            yield Chip(group, name, OUTCOMES[name].symbol, count, name)


def _ordered(names: Iterable[str]) -> list[str]:
    wanted = set(names)
    return [name for name in OUTCOMES if name in wanted]


def _says(what: str, count: int, new: int) -> str:
    """Return the words for those who do not see that a chip is solid."""
    return f"{what}, all known" if not new else f"{what}, {count - new:,} known" if new < count else what


def bar(counts: Mapping[tuple[str, str], int]) -> list[tuple[str, str, str]]:
    """Return the pieces of a cell's bar (group, start, width, in percent); a few bad ones among thousands still show."""
    total = sum(counts.values()) or 1
    share = {"bad": 0.0, "good": 0.0, "neutral": 0.0}
    for (_, mark), count in counts.items():
        share["bad" if mark == "known" else mark] += 100 * count / total
    share["bad"] = max(share["bad"], 2.0) if share["bad"] else 0.0
    pieces, start = [], 0.0
    for group, width in share.items():
        pieces += [(group, f"{start:.1f}", f"{min(width, 100 - start):.1f}")] * bool(width)
        start += width
    return pieces
