"""Many arrays converted by one call: all are planned first, each object once, and refused together.

Behind `interop.tree` and `interop.neutral`, which differ in what they call the places where the arrays are.
"""

from __future__ import annotations

from functools import cached_property
from itertools import repeat
from operator import is_
from typing import TYPE_CHECKING, Any

from interop._engine.batch_plan import TreePlan
from interop._engine.call import KEYWORDS, NO_DATA, Call, check_keywords, error_context, finish, plan_call, prepare, refused
from interop._engine.fastpath import convert_all, table
from interop._engine.trial import tried
from interop._model.description import Description
from interop._model.scope import fast_path_off
from interop._model.spelling import type_name
from interop._watch.ledger import watched
from interop.backends import find_backend, is_array, load_backend
from interop.backends.shortcut import DETACH, PLAIN, TO_HOST
from interop.errors import DTypeError, InteropError, Refusal, UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from interop._engine.call import Prepared
    from interop._model.plan import Plan
    from interop._trees.structure import FlatTree

ROOT = "tree"
"""What the paths of a tree begin with."""

# What permits to leave for the host.
_CROSSINGS = (("transfer", "allow"), ("device", "cpu"))


class TreeConversion:
    """The leaves of a tree, and the call that is to be made for each array among them.

    Parameters
    ----------
    call : Call
        With the keywords for every leaf.
    node : FlatTree
        The flattened tree.
    keep : bool
        Whether leaves that are not arrays are kept; else they are refused.
    keep_opaque : bool
        Whether arrays without numbers (strings, dates, objects) are such leaves where the target cannot hold them, as in a tree;
        else they are refused as arrays, as among arguments.
    why_left : callable, optional
        Returns the refusal of a leaf that must not be left as it is although it is not converted: it holds arrays, or numbers
        (``is_home=False``); None if it may be. Default: all may.
    root : str
        What the paths in errors and records begin with.
    only : container of int, optional
        The ids of the leaves that are meant; the others stay as they are.
    """

    def __init__(
        self,
        call: Call,
        node: FlatTree,
        *,
        keep: bool = True,
        keep_opaque: bool = False,
        why_left: Callable[..., Refusal | None] | None = None,
        root: str = ROOT,
        only: Container[int] | None = None,
    ) -> None:
        self.call, self.node, self.keep, self.root, self.only = call, node, keep, root, only
        self.keep_opaque, self.why_left = keep_opaque, why_left
        self.keywords = {name: call.keywords[name] for name in KEYWORDS if name in call.keywords}
        check_keywords(call)  # before anything is looked at, also where there is no array

    def run(self) -> Any:
        """Return the tree with its arrays converted; raises one error for all that are refused, before any is."""
        with error_context(self.call.text):
            return self._converted()

    def _converted(self) -> Any:
        leaves = self.node.leaves
        results = self._fast_results(leaves)
        if self.why_left is not None and any(map(is_, leaves, results)):  # an array of objects is itself, and may hold others
            results = [None if result is leaf and _has_objects(leaf) else result for leaf, result in zip(leaves, results, strict=True)]
        some = any(map(is_, results, repeat(None)))  # in C first: there may be many thousands, and none left
        left = {id(leaf): leaf for leaf, result in zip(leaves, results, strict=True) if result is None} if some else {}
        ready = self._prepared(left)
        recorded = watched()
        done: dict[int, Any] = {}
        for key, prepared in ready.items():
            with error_context(self._context(key)):
                done[key] = finish(prepared, self.places[key][0] if recorded else "")
        if left:
            results = [done.get(id(leaf), leaf) if result is None else result for leaf, result in zip(leaves, results, strict=True)]
        return self.node.unflatten(results)

    def plan(self) -> TreePlan:
        """Return what `run` would do."""
        plans: dict[str, Plan] = {}
        refusals = self._unrebuildable()
        kept: list[str] = []
        for key, leaf in self._unique().items():
            paths = self.places[key]
            if isinstance(leaf, Description) or is_array(leaf):
                plan = plan_call(self._at(leaf))
                if not self._is_other(leaf, plan):
                    plans[paths[0]] = plan
                    refusals += self._placed(key, plan.refusals)
                    continue
            if refusal := self._refusal_of_other(leaf):
                refusals += self._placed(key, (refusal,))
            else:
                kept += paths
        aliases = {path: first for first, *more in self.places.values() if first in plans for path in more}
        return TreePlan(self.call.target, plans, aliases, tuple(kept), tuple(refusals))

    def _at(self, leaf: Any) -> Call:
        return Call(self.call.verb, leaf, self.call.target, to=self.call.to, **self.keywords)

    def _context(self, key: int) -> Callable[[], str]:
        return lambda: f"{self.call.text()}, at {', '.join(self.places[key])}"

    def _placed(self, key: int, refusals: Iterable[Refusal]) -> list[Refusal]:
        return [self._of_leaf(refusal)._replace(path=path) for refusal in refusals for path in self.places[key]]

    def _of_leaf(self, refusal: Refusal) -> Refusal:
        """Return a refusal of one leaf without advice that would cast the others too."""
        if "dtype=" not in refusal.hint or "dtype" in self.keywords:
            return refusal
        return refusal._replace(hint="Convert that leaf by itself, before or after." if refusal.final else "")

    def _is_other(self, leaf: Any, plan: Plan) -> bool:
        """Return whether an array counts as what is no array: its elements are no numbers, and the target would need some.

        Whoever names a dtype asks for the numbers that strings, dates and objects stand for; only names stand for none.
        """
        seen = plan.description
        if not self.keep_opaque or seen.backend == "unknown":
            return False
        if not load_backend(seen.backend).capabilities.has_no_numbers(seen.dtype):
            return False
        if "dtype" in self.keywords:  # dates are counts
            return not seen.dtype.startswith(_DATES) and any(refusal.error is DTypeError for refusal in plan.refusals)
        stays = seen.backend == self.call.target and not seen.scalar
        return not stays or self._refusal_of_held(leaf, is_home=True) is not None

    def _refusal_of_other(self, leaf: Any) -> Refusal | None:
        """Return why a leaf that is not converted may not stay as it is, if it may not."""
        return self._refusal_of_held(leaf, is_home=False) or (None if self.keep else _other(leaf))

    def _refusal_of_held(self, leaf: Any, *, is_home: bool) -> Refusal | None:
        return None if self.why_left is None else self.why_left(leaf, is_home=is_home)

    def _unrebuildable(self) -> list[Refusal]:
        return unrebuildable(self.node, self.root, may_be_kept=self.why_left is not None)

    def _unique(self) -> dict[int, Any]:
        """Return the leaves that are meant, each object once, by its id."""
        return {id(leaf): leaf for leaf in self.node.leaves if self._is_meant(leaf)}

    def _is_meant(self, leaf: Any) -> bool:
        return self.only is None or id(leaf) in self.only

    @cached_property
    def places(self) -> dict[int, list[str]]:
        """The paths of each leaf by its id: more than one if it occurs more than once. Only where they are named: it takes long."""
        found: dict[int, list[str]] = {}
        for leaf, path in zip(self.node.leaves, self.node.paths(self.root), strict=True):
            found.setdefault(id(leaf), []).append(path)
        return found

    def _fast_results(self, leaves: list[Any]) -> list[Any]:
        """Convert what needs no decision; return a result for each leaf, None for those that are left."""
        none = [None] * len(leaves)
        fast_paths = _FAST_PATHS.get(tuple(sorted(self.keywords.items()))) if _are_all_text(self.keywords) else None
        if fast_paths is None or fast_path_off.get() is not None or self.only is not None:
            return none
        if self.keywords.keys() & dict(_CROSSINGS) and not _is_on_the_host(self.call.target):
            return none
        results = none
        for permitted in fast_paths:
            converted = convert_all(leaves, table(self.call.target, permitted))
            if permitted >= TO_HOST:
                converted = self._copied_to_host(converted)
            results = converted if results is none else [one if two is None else two for one, two in zip(converted, results, strict=True)]
        return results

    def _copied_to_host(self, found: list[Any]) -> list[Any]:
        """Return the values of those that were found on a device, each object once; None for the others."""
        groups: dict[tuple[str, Any], dict[int, Any]] = {}
        for x in found:
            if x is not None:
                source = find_backend(x)
                groups.setdefault((source.name, source.device_of(x)), {})[id(x)] = x
        made: dict[int, Any] = {}
        for (name, device), arrays in groups.items():
            made.update(zip(arrays, load_backend(name).copy_many_to_host(list(arrays.values()), device), strict=True))
        return [None if x is None else made[id(x)] for x in found]

    def _prepared(self, left: dict[int, Any]) -> dict[int, Prepared]:
        """Plan what is left; raises the one error for everything that is refused."""
        ready: dict[int, Prepared] = {}
        refusals = self._unrebuildable()
        causes: list[BaseException] = []
        for key, leaf in left.items():
            if not self._is_meant(leaf):
                continue
            if is_array(leaf):
                try:
                    prepared = prepare(self._at(leaf))
                except InteropError as error:
                    refusals += self._placed(key, (Refusal.from_error(error),))
                    causes.append(error.__cause__ or error)
                    continue
                if self.keep_opaque and "dtype" in self.keywords and prepared.plan.ok:  # `prepare` tries it beside other refusals only
                    prepared = prepared._replace(plan=tried(prepared.plan, prepared.x, prepared.source, prepared.plan.dtype))
                if not self._is_other(leaf, prepared.plan):
                    ready[key] = prepared
                    refusals += self._placed(key, prepared.plan.refusals)
                    continue
            elif isinstance(leaf, Description):
                refusals += self._placed(key, (_DESCRIBED,))
                continue
            if refusal := self._refusal_of_other(leaf):
                refusals += self._placed(key, (refusal,))
        if refusals:
            seen = next((one.plan.description for one in ready.values() if one.plan.refusals), None)
            raise refused(self.call, tuple(refusals), seen, "everything") from next(iter(causes), None)
        return ready


# The fast paths that a call may take, in order, by its keywords. What another call would permit besides is looked at leaf by leaf.
_FAST_PATHS: dict[tuple[tuple[str, Any], ...], tuple[frozenset[str], ...]] = {
    (): (PLAIN,),
    (("grad", "detach"),): (DETACH, PLAIN),
    **{(crossing,): (PLAIN, TO_HOST) for crossing in _CROSSINGS},
    **{tuple(sorted([crossing, ("grad", "detach")])): (DETACH, PLAIN, TO_HOST | DETACH) for crossing in _CROSSINGS},
}


def _is_on_the_host(target: str) -> bool:
    """Return whether a library has arrays on the host only: fast paths look at no ``device=``."""
    return load_backend(target).capabilities.devices == frozenset({"cpu"})


def _are_all_text(keywords: dict[str, Any]) -> bool:
    return all(type(value) is str for value in keywords.values())


def _has_objects(x: Any) -> bool:
    return getattr(x.dtype, "kind", None) == "O"


_DESCRIBED = Refusal(UnsupportedTypeError, NO_DATA, {}, "Plan with it: interop.tree.explain(tree, ...).")


_DATES = ("datetime64", "timedelta64")


def unrebuildable(node: FlatTree, root: str, *, may_be_kept: bool) -> list[Refusal]:
    """Return the refusals of the containers of a tree that hold arrays and cannot be rebuilt around others."""
    return [Refusal.from_error(error)._replace(path=path) for path, error in node.unrebuildable(root, may_be_kept=may_be_kept)]


def _other(leaf: Any) -> Refusal:
    what = "an array of numbers" if isinstance(leaf, Description) or is_array(leaf) else "an array"
    return Refusal(UnsupportedTypeError, f"{type_name(leaf)} is not {what} (others='error')", {"others": "keep"})
