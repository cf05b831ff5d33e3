"""A tree taken apart into its leaves, and put together again around others.

optree does most of it. Its leaves that are containers all the same (`interop._trees.containers`) are opened here, each part a
tree of its own. An opened container that occurs twice is taken apart once, and comes back as one object; one in which
nothing has changed comes back as itself.
"""

from __future__ import annotations

from itertools import chain, islice
from operator import is_not
from typing import TYPE_CHECKING, Any, NamedTuple

import optree

from interop._engine.fastpath import stops
from interop._model.description import Description
from interop._trees import walk as _walk
from interop._trees.containers import VALUES, Kind, kind_of, stuck
from interop.backends import is_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from interop.errors import UnsupportedTypeError

__all__ = ["Node", "take_apart", "take_apart_named"]

VALUES.add(Description)


class Opened(NamedTuple):
    """A leaf of optree that is a container: its parts, and those of them that are trees, by position. No parts if it was met before."""

    whole: Any
    kind: Kind
    parts: Sequence[Any] | None
    nodes: dict[int, Node]

    @property
    def is_stuck(self) -> bool:
        """Whether it holds arrays and cannot be made anew."""
        return self.kind.renew is None and any(map(is_array, self.leaves()))

    @property
    def sticks(self) -> bool:
        """Whether it or a container inside of it is stuck."""
        return self.is_stuck or any(opened.sticks for node in self.nodes.values() for opened in node.opened.values())

    def leaves(self) -> list[Any]:
        """Return its leaves, in order."""
        if not self.nodes:
            return list(self.parts or ())
        return list(chain.from_iterable(self.nodes[at].leaves if at in self.nodes else (part,) for at, part in enumerate(self.parts or ())))

    def suffixes(self) -> list[str]:
        """Return what is appended to its path for each part."""
        return [] if self.parts is None else list(self.kind.suffixes(self.whole))


class Node(NamedTuple):
    """A tree taken apart.

    Attributes
    ----------
    spec, items
        optree's structure and leaves.
    opened : dict of int to Opened
        Those of them that are containers, by position.
    leaves : list
        All leaves, in order, those of opened containers in their place.
    known : dict, optional
        Where `interop._trees.walk` took the items apart: what each type is. Then nothing is in `opened`.
    has_records : bool
        Whether there may be records among them, also such without a field.
    """

    spec: Any
    items: list[Any]
    opened: dict[int, Opened]
    leaves: list[Any]
    known: _walk.Known | None = None
    has_records: bool = False

    @property
    def form(self) -> Any:
        """What trees, taken apart without a namespace, have in common that differ in their leaves only; None where nobody can say."""
        if self.opened or self.has_records:
            return None
        if self.known is None:
            return self.spec
        return optree.tree_structure(self.items[0], is_leaf=stops) if self.spec is _ITSELF else None

    def paths(self, root: str) -> Iterator[str]:
        """Yield the path of each leaf, in the leaves' order, as an expression that begins with `root`."""
        for position, accessor in enumerate(self.spec.accessors()):
            path = accessor.codify(root)
            opened = self.opened.get(position)
            if self.known is not None:
                yield from _walk.paths(self.items[position], self.known, path)
            elif opened is None:
                yield path
            else:
                for at, suffix in enumerate(opened.suffixes()):
                    node = opened.nodes.get(at)
                    yield from [path + suffix] if node is None else node.paths(path + suffix)

    def stuck(self, root: str) -> Iterator[tuple[str, UnsupportedTypeError]]:
        """Yield path and error of each container that holds arrays and cannot be made anew."""
        found = [(position, opened) for position, opened in self.opened.items() if opened.sticks]
        accessors = self.spec.accessors() if found else ()  # all of them at once, which takes long
        for position, opened in found:
            path = accessors[position].codify(root)
            if opened.is_stuck:
                yield path, stuck(opened.whole)
            suffixes = opened.suffixes()
            for at, node in opened.nodes.items():
                yield from node.stuck(path + suffixes[at])

    def rebuild(self, results: Sequence[Any]) -> Any:
        """Return the tree with its leaves replaced by results, one for each, in their order."""
        if self.known is not None:  # all there is, so nobody asks what became of a record
            return self.spec.unflatten(_walk.scatter(self.items, self.known, self.leaves, list(results), None))
        return self._rebuilt(iter(results), {})

    def _rebuilt(self, results: Iterator[Any], renewed: dict[int, Any]) -> Any:
        if self.known is not None:
            own = list(islice(results, len(self.leaves)))
            return self.spec.unflatten(_walk.scatter(self.items, self.known, self.leaves, own, renewed))
        if not self.opened:
            return self.spec.unflatten(islice(results, len(self.items)))
        made = []
        for position in range(len(self.items)):
            opened = self.opened.get(position)
            made.append(next(results) if opened is None else _renewed(opened, results, renewed))
        return self.spec.unflatten(made)


def _renewed(opened: Opened, results: Iterator[Any], renewed: dict[int, Any]) -> Any:
    whole, key = opened.whole, id(opened.whole)
    if opened.parts is None:
        return renewed[key]
    if not opened.nodes:
        parts = list(islice(results, len(opened.parts)))
    else:
        nodes = map(opened.nodes.get, range(len(opened.parts)))
        parts = [
            next(results) if node is None else _part(old, node, results, renewed) for old, node in zip(opened.parts, nodes, strict=True)
        ]
    if not any(map(is_not, parts, opened.parts)):
        made = whole
    elif opened.kind.renew is None:
        raise stuck(whole)
    else:
        made = opened.kind.renew(whole, parts)
    renewed[key] = made
    return made


def _part(old: Any, node: Node, results: Iterator[Any], renewed: dict[int, Any]) -> Any:
    """Return a part with its results; itself, if none of them is new."""
    own = list(islice(results, len(node.leaves)))
    if any(map(is_not, own, node.leaves)) or _refers_to_new(node, renewed):
        return node._rebuilt(iter(own), renewed)
    _settle(node, renewed)
    return old


def _settle(node: Node, renewed: dict[int, Any]) -> None:
    """Note the containers that were met here first and did not change."""
    if node.known is not None:
        _walk.scatter(node.items, node.known, node.leaves, node.leaves, renewed)
    for opened in node.opened.values():
        renewed.setdefault(id(opened.whole), opened.whole)
        for part in opened.nodes.values():
            _settle(part, renewed)


def _refers_to_new(node: Node, renewed: dict[int, Any]) -> bool:
    for opened in node.opened.values():
        if renewed.get(id(opened.whole), opened.whole) is not opened.whole:
            return True
        if any(_refers_to_new(part, renewed) for part in opened.nodes.values()):
            return True
    return False


def take_apart(tree: Any, is_leaf: Callable[[Any], bool] | None = None, *, namespace: str = "", once: bool = True) -> Node:
    """Return a tree taken apart; `is_leaf` and `namespace` are optree's.

    None is part of the structure, not a leaf. With `once` an opened container has its leaves where it is met first; without,
    wherever it is met (then the tree cannot be rebuilt). Raises ValueError for one that contains itself.
    """
    return _Taker(is_leaf, namespace, once=once).take(tree)


def take_apart_named(parts: Sequence[tuple[str, Any]]) -> Node:
    """Return several trees with names of their own, such as the arguments of a call, as one: it is rebuilt to a list.

    A tree in which nothing changes is itself in that list.
    """
    names, values = [name for name, _ in parts], [value for _, value in parts]
    leaves: list[Any] = []
    kind = Kind(lambda _: names, lambda _: values, lambda _, made: list(made))
    opened = _Taker(None, "", once=True).open(values, kind, leaves)
    return Node(optree.treespec_leaf(), [values], {0: opened}, leaves)


_ITSELF = optree.treespec_leaf()  # the structure of a tree that `interop._trees.walk` takes apart as a whole


class _Taker:
    def __init__(self, is_leaf: Callable[[Any], bool] | None, namespace: str, *, once: bool) -> None:
        self.is_leaf, self.namespace, self.once = is_leaf, namespace, once
        self.met: dict[int, bool] = {}  # opened containers by id: whether they are open still, so that we are inside of them
        self.arrays: set[type] = set()
        self.known: _walk.Known = {}

    def take(self, tree: Any) -> Node:
        # Not again where something was met that is for the long way: a walk that ends there is for nothing.
        if type(tree) in _walk.BUILTIN and False not in self.known.values() and (node := self._walked(_ITSELF, [tree])) is not None:
            return node
        items, spec = optree.tree_flatten(tree, is_leaf=stops if self.is_leaf is None else self._stops, namespace=self.namespace)
        # Sets of types and not loops over leaves, because a tree may have many thousands.
        kinds = {kind: found for kind in set(map(type, items)) if (found := kind_of(kind)) is not None}
        if not kinds:
            return Node(spec, items, {}, items)
        if (node := self._walked(spec, items)) is not None:
            return node
        opened: dict[int, Opened] = {}
        leaves: list[Any] = []
        for position, item in enumerate(items):
            kind = kinds.get(type(item))
            if kind is None or not self._opens(item):
                leaves.append(item)
            else:
                opened[position] = self.open(item, kind, leaves)
        return Node(spec, items, opened, leaves)

    def _stops(self, x: Any) -> bool:
        return stops(x) or (self.is_leaf is not None and self.is_leaf(x))

    def _walked(self, spec: Any, items: list[Any]) -> Node | None:
        """Return the node, if nothing is there but leaves and plain containers."""
        if self.is_leaf is not None or not self.once:
            return None
        leaves = _walk.gather(items, self.known, self.met, _walk.kind_in(self.namespace))
        if leaves is None:
            return None
        has_records = any(type(kind) is tuple and known is not type(None) for known, kind in self.known.items())
        return Node(spec, items, {}, leaves, self.known, has_records)

    def _opens(self, item: Any) -> bool:
        return not (self.is_leaf is not None and self.is_leaf(item)) and not is_array(item)

    def open(self, whole: Any, kind: Kind, leaves: list[Any]) -> Opened:
        """Open a container; its leaves are appended to `leaves`."""
        key = id(whole)
        if key in self.met:
            if self.met[key]:
                raise ValueError(f"the tree contains itself: a {type(whole).__qualname__} is reached from its own parts.")
            if self.once:
                return Opened(whole, kind, None, {})
        self.met[key] = True
        parts = kind.parts(whole)
        nodes: dict[int, Node] = {}
        # The usual part is an array; a node for each would cost more than converting it.
        one_of = dict(zip(map(type, parts), parts, strict=True))
        self.arrays.update(kind for kind in one_of.keys() - self.arrays if is_array(one_of[kind]))
        if one_of.keys() - self.arrays:
            nodes = {at: self.take(part) for at, part in enumerate(parts) if type(part) not in self.arrays}
        self.met[key] = False
        opened = Opened(whole, kind, parts, nodes)
        leaves += opened.leaves() if nodes else parts
        return opened
