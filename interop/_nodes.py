"""A tree taken apart into its leaves, and put together again around others.

optree knows the containers of Python and those that are registered with it. Two kinds are no nodes for it and yet
hold arrays: plain dataclasses, and ordered dicts that carry attributes (torch's ``state_dict`` keeps its versions in
one, which a new dict would lose). They are leaves to optree and are opened here, each part a tree of its own.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import optree

from interop.backends import is_array
from interop.quick import carries_attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Node", "take_apart"]


class Opened(NamedTuple):
    """A leaf of optree that is a container: its parts by what is appended to its path."""

    whole: Any
    parts: dict[str, Node]


class Node(NamedTuple):
    """A tree taken apart: optree's structure, its leaves in order, and those of them that were opened, by position."""

    spec: Any
    items: list[Any]
    opened: dict[int, Opened]

    def leaves(self) -> list[Any]:
        """Return the leaves, those within opened containers included."""
        if not self.opened:
            return self.items
        found: list[Any] = []
        for position, item in enumerate(self.items):
            if position in self.opened:
                for part in self.opened[position].parts.values():
                    found += part.leaves()
            else:
                found.append(item)
        return found

    def paths(self, root: str) -> Iterator[str]:
        """Yield the path of each leaf, in the same order, as an expression that begins with `root`."""
        for position, accessor in enumerate(self.spec.accessors()):
            path = accessor.codify(root)
            if position in self.opened:
                for suffix, part in self.opened[position].parts.items():
                    yield from part.paths(path + suffix)
            else:
                yield path

    def rebuild(self, results: Mapping[int, Any]) -> Any:
        """Return the tree with every leaf replaced by the result under its id; a leaf without one stays."""
        # A dataclass that occurs twice comes back as one object, as its leaves do.
        return self._rebuilt(results, {})

    def _rebuilt(self, results: Mapping[int, Any], remade: dict[int, Any]) -> Any:
        # Here and in the taker: maps and sets, not loops, because a tree may have many thousands of leaves.
        made: list[Any] = list(map(results.get, map(id, self.items), self.items))
        for position, opened in self.opened.items():
            key = id(opened.whole)
            if key not in remade:
                parts = {suffix: part._rebuilt(results, remade) for suffix, part in opened.parts.items() if part._touched(results)}
                remade[key] = _put_together(opened.whole, parts) if parts else opened.whole
            made[position] = remade[key]
        return self.spec.unflatten(made)

    def refill(self, results: Iterator[Any]) -> Any:
        """Return the tree with its leaves replaced by results in the leaves' order; for trees in which no leaf occurs twice."""
        if not self.opened:
            return self.spec.unflatten(islice(results, len(self.items)))
        made = []
        for position in range(len(self.items)):
            opened = self.opened.get(position)
            if opened is None:
                made.append(next(results))
            else:
                parts = {suffix: part.refill(results) for suffix, part in opened.parts.items() if part.items}
                made.append(_put_together(opened.whole, parts) if parts else opened.whole)
        return self.spec.unflatten(made)

    def _touched(self, results: Mapping[int, Any]) -> bool:
        return any(id(leaf) in results for leaf in self.leaves())


def take_apart(tree: Any, is_leaf: Callable[[Any], bool] | None = None, *, namespace: str = "") -> Node:
    """Return a tree taken apart; `is_leaf` and `namespace` are optree's.

    None is part of the structure, not a leaf. Raises ValueError for a dataclass that contains itself.
    """
    return _Taker(is_leaf, namespace).take(tree, ())


class _Taker:
    def __init__(self, is_leaf: Callable[[Any], bool] | None, namespace: str) -> None:
        self.is_leaf, self.namespace = is_leaf, namespace

    def take(self, tree: Any, within: tuple[int, ...]) -> Node:
        stop = carries_attributes if self.is_leaf is None else self._stop
        items, spec = optree.tree_flatten(tree, is_leaf=stop, namespace=self.namespace)
        opened = {}
        if kinds := {kind for kind in set(map(type, items)) if kind is OrderedDict or dataclasses.is_dataclass(kind)}:
            for position, item in enumerate(items):
                if type(item) in kinds and self._opens(item):
                    opened[position] = self._open(item, within)
        return Node(spec, items, opened)

    def _opens(self, item: Any) -> bool:
        return not (self.is_leaf is not None and self.is_leaf(item)) and not is_array(item)

    def _stop(self, x: Any) -> bool:
        return carries_attributes(x) or (self.is_leaf is not None and self.is_leaf(x))

    def _open(self, whole: Any, within: tuple[int, ...]) -> Opened:
        if id(whole) in within:
            raise ValueError(f"the tree contains itself: a {type(whole).__qualname__} is reached from its own fields.")
        inside = (*within, id(whole))
        if isinstance(whole, OrderedDict):
            return Opened(whole, {"": self.take(OrderedDict(whole), inside)})
        fields = [field.name for field in dataclasses.fields(whole) if hasattr(whole, field.name)]
        return Opened(whole, {f".{name}": self.take(getattr(whole, name), inside) for name in fields})


def _put_together(whole: Any, parts: dict[str, Any]) -> Any:
    if isinstance(whole, OrderedDict):
        vars(parts[""]).update(vars(whole))
        return parts[""]
    # Not dataclasses.replace, which would run the class's own checks again, on arrays of another library.
    made = copy.copy(whole)
    for suffix, value in parts.items():
        object.__setattr__(made, suffix.removeprefix("."), value)  # frozen ones too
    return made
