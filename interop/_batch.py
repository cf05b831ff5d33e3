"""Many arrays converted by one call: all are planned first, each object once, and refused together.

Behind `interop.tree` and `interop.neutral`, which differ in what they call the places where the arrays are.
"""

from __future__ import annotations

from functools import cached_property
from itertools import repeat
from operator import is_
from typing import TYPE_CHECKING, Any

from interop._tree_plan import TreePlan, refusal_of
from interop.backends import is_array
from interop.calls import KEYWORDS, Call, finish, look, prepare, told
from interop.description import Description
from interop.errors import InteropError, UnsupportedTypeError
from interop.ledger import watched
from interop.plan import Plan, Refusal
from interop.policy import FIELDS, hurdle, resolve_policy
from interop.quick import DETACHING, table

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from interop._nodes import Node
    from interop.calls import Prepared

__all__ = ["ROOT", "Batch"]

ROOT = "tree"
"""What the paths of a tree begin with."""


class Batch:
    """The leaves of a tree, and the call that is to be made for each array among them.

    Parameters
    ----------
    call : Call
        With the keywords for every leaf.
    node : Node
        The tree taken apart.
    keep : bool
        Whether leaves that are not arrays are kept; else they are refused.
    named : callable, optional
        From a path to what it is called in errors and records.
    only : container of int, optional
        The ids of the leaves that are meant; the others stay as they are.
    """

    def __init__(
        self,
        call: Call,
        node: Node,
        *,
        keep: bool = True,
        named: Callable[[str], str] = str,
        only: Container[int] | None = None,
    ) -> None:
        self.call, self.node, self.keep, self.named, self.only = call, node, keep, named, only
        self.words = {name: call.keywords[name] for name in KEYWORDS if name in call.keywords}
        # Wrong words are told before anything is looked at, also where there is no array.
        resolve_policy(self.words.get("policy"), {name: self.words[name] for name in FIELDS if name in self.words})

    def run(self) -> Any:
        """Return the tree with its arrays converted; raises one error for all that are refused, before any is."""
        if (results := self._alike()) is not None:
            return self.node.refill(iter(results))
        done, left = self._shortcuts()
        ready = self._prepared(left)
        recorded = watched()
        for key, prepared in ready.items():
            with told(self._context(key)):
                done[key] = finish(prepared, self.places[key][0] if recorded else "")
        return self.node.rebuild(done)

    def look(self) -> TreePlan:
        """Return what `run` would do."""
        plans: dict[str, Plan] = {}
        refusals: list[Refusal] = []
        kept: list[str] = []
        for key, leaf in self._unique().items():
            paths = self.places[key]
            if isinstance(leaf, Description) or is_array(leaf):
                plan = plans[paths[0]] = look(self._at(leaf))
                refusals += self._placed(key, plan.refusals)
            elif self.keep:
                kept += paths
            else:
                refusals += self._placed(key, (_other(leaf),))
        aliases = {path: first for first, *more in self.places.values() if first in plans for path in more}
        return TreePlan(self.call.target, plans, aliases, tuple(kept), tuple(refusals))

    def _at(self, leaf: Any) -> Call:
        return Call(self.call.verb, leaf, self.call.target, {"to": self.call.to, **self.words})

    def _context(self, key: int) -> Callable[[], str]:
        return lambda: f"{self.call.text()}, at {', '.join(self.places[key])}"

    def _placed(self, key: int, refusals: Iterable[Refusal]) -> list[Refusal]:
        return [refusal._replace(path=path) for refusal in refusals for path in self.places[key]]

    def _unique(self) -> dict[int, Any]:
        """Return the leaves that are meant, each object once, by its id."""
        leaves = self.node.leaves()
        if self.only is not None:
            leaves = [leaf for leaf in leaves if id(leaf) in self.only]
        return dict(zip(map(id, leaves), leaves, strict=True))

    @cached_property
    def places(self) -> dict[int, list[str]]:
        """The paths of each leaf by its id: more than one if it occurs more than once. Only where they are told: it takes long."""
        found: dict[int, list[str]] = {}
        for leaf, path in zip(self.node.leaves(), self.node.paths(ROOT), strict=True):
            found.setdefault(id(leaf), []).append(self.named(path))
        return found

    def _alike(self) -> list[Any] | None:
        """Convert the usual tree, thousands of arrays of one type that need no decision, without a step of Python for each.

        None if it is not one; then nothing is lost but views that nobody has seen.
        """
        leaves = self.node.leaves()
        kinds = set(map(type, leaves))
        if hurdle.get() is not None or self.words or self.only is not None or len(kinds) != 1 or len(set(map(id, leaves))) != len(leaves):
            return None
        attempt = table(self.call.target).get(kinds.pop())
        results = list(map(attempt, leaves)) if attempt is not None else [None]
        return None if any(map(is_, results, repeat(None))) else results

    def _shortcuts(self) -> tuple[dict[int, Any], dict[int, Any]]:
        """Convert what needs no decision; return the results and what is left, by the leaves' ids."""
        if hurdle.get() is not None or self.words not in ({}, DETACHING):
            return {}, self._unique()
        left = self._unique()
        done: dict[int, Any] = {}
        for permission in ("grad=detach", "") if self.words else ("",):
            done |= _quickly(left, table(self.call.target, permission))
            left = {key: leaf for key, leaf in left.items() if key not in done} if done else left
        return done, left

    def _prepared(self, left: dict[int, Any]) -> dict[int, Prepared]:
        """Plan what is left; raises the one error for everything that is refused."""
        ready: dict[int, Prepared] = {}
        refusals: list[Refusal] = []
        for key, leaf in left.items():
            if is_array(leaf):
                try:
                    ready[key] = prepare(self._at(leaf))
                except InteropError as error:
                    refusals += self._placed(key, (Refusal(type(error), error.message, error.permissions, error.hint),))
                else:
                    refusals += self._placed(key, ready[key].plan.refusals)
            elif not self.keep:
                refusals += self._placed(key, (_other(leaf),))
        if refusals:
            raise refusal_of(self.call, tuple(refusals), (one.plan for one in ready.values()))
        return ready


def _quickly(leaves: dict[int, Any], attempts: dict[type, Callable[[Any], Any]]) -> dict[int, Any]:
    done = {}
    for key, leaf in leaves.items():
        attempt = attempts.get(type(leaf))
        if attempt is not None:
            result = attempt(leaf)
            if result is not None:
                done[key] = result
    return done


def _other(leaf: Any) -> Refusal:
    kind = type(leaf)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    return Refusal(UnsupportedTypeError, f"{name} is not an array (others='error')", {"others": "keep"})
