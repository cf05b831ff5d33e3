"""A tree flattened into its leaves, and unflattened with others in their places.

optree does most of it. Its leaves that are containers all the same (`interop._trees.containers`) are opened here, each child a
tree of its own. An opened container that occurs twice is flattened once, and comes back as one object; one in which
nothing has changed comes back as itself.
"""

from __future__ import annotations

from itertools import chain, islice
from operator import is_not
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import optree

from interop._engine.fastpath import is_opaque
from interop._model.description import Description
from interop._trees import records as _records
from interop._trees.containers import VALUES, ContainerType, cannot_rebuild, container_type_of
from interop._trees.objects import holds_arrays, is_object_array, keyed_type_of, object_type_of
from interop.backends import is_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from interop._trees.objects import Objects
    from interop.errors import UnsupportedTypeError

T = TypeVar("T")

VALUES.add(Description)


class OpenContainer(NamedTuple):
    """A leaf of optree that is a container: its children, and those of them that are trees, by position. No children if it was met before."""

    container: Any
    type: ContainerType
    children: Sequence[Any] | None
    subtrees: dict[int, FlatTree]

    @property
    def is_unrebuildable(self) -> bool:
        """Whether it holds arrays and cannot be rebuilt."""
        return self.type.unflatten is None and any(map(is_array, self.leaves()))

    @property
    def holds_unrebuildable(self) -> bool:
        """Whether it or a container inside of it is unrebuildable."""
        return self.is_unrebuildable or any(
            opened.holds_unrebuildable for node in self.subtrees.values() for opened in node.containers.values()
        )

    def leaves(self) -> list[Any]:
        """Return its leaves, in order."""
        if not self.subtrees:
            return list(self.children or ())
        return list(
            chain.from_iterable(
                self.subtrees[at].leaves if at in self.subtrees else (child,) for at, child in enumerate(self.children or ())
            )
        )

    def entries(self) -> list[str]:
        """Return what is appended to its path for each child."""
        return [] if self.children is None else list(self.type.entries(self.container))


class FlatTree(NamedTuple):
    """A flattened tree.

    Attributes
    ----------
    treespec, items
        optree's structure and leaves.
    containers : dict of int to OpenContainer
        Those of them that are containers, by position.
    leaves : list
        All leaves, in order, those of opened containers in their place.
    schemas : dict, optional
        Where `interop._trees.records` flattened the items: what each type is. Then nothing is in `containers`.
    has_records : bool
        Whether there may be records among them, also such without a field.
    """

    treespec: Any
    items: list[Any]
    containers: dict[int, OpenContainer]
    leaves: list[Any]
    schemas: _records.Schemas | None = None
    has_records: bool = False

    @property
    def structure(self) -> Any:
        """What trees, flattened without a namespace, have in common that differ in their leaves only; None where that cannot be known."""
        if self.containers or self.has_records:
            return None
        if self.schemas is None:
            return self.treespec
        return optree.tree_structure(self.items[0], is_leaf=is_opaque) if self.treespec is _ITSELF else None

    def paths(self, root: str) -> Iterator[str]:
        """Yield the path of each leaf, in the leaves' order, as an expression that begins with `root`."""
        for position, accessor in enumerate(self.treespec.accessors()):
            path = accessor.codify(root)
            opened = self.containers.get(position)
            if self.schemas is not None:
                yield from _records.paths(self.items[position], self.schemas, path)
            elif opened is None:
                yield path
            else:
                for at, entry in enumerate(opened.entries()):
                    node = opened.subtrees.get(at)
                    yield from [path + entry] if node is None else node.paths(path + entry)

    def unrebuildable(self, root: str, *, may_be_kept: bool = False) -> Iterator[tuple[str, UnsupportedTypeError]]:
        """Yield path and error of each container that holds arrays and cannot be rebuilt; `may_be_kept` where a permission leaves it."""
        found = [(position, opened) for position, opened in self.containers.items() if opened.holds_unrebuildable]
        accessors = self.treespec.accessors() if found else ()  # all of them at once, which takes long
        for position, opened in found:
            path = accessors[position].codify(root)
            if opened.is_unrebuildable:
                yield path, cannot_rebuild(opened.container, may_be_kept=may_be_kept)
            entries = opened.entries()
            for at, node in opened.subtrees.items():
                yield from node.unrebuildable(path + entries[at], may_be_kept=may_be_kept)

    def unflatten(self, results: Sequence[Any]) -> Any:
        """Return the tree with its leaves replaced by results, one for each, in their order."""
        if self.schemas is not None:  # all there is, so no other reference to a record has to be looked up
            return self.treespec.unflatten(_records.unflatten(self.items, self.schemas, self.leaves, list(results), None))
        return self._unflatten(iter(results), {})

    def _unflatten(self, results: Iterator[Any], rebuilt: dict[int, Any]) -> Any:
        if self.schemas is not None:
            own = list(islice(results, len(self.leaves)))
            return self.treespec.unflatten(_records.unflatten(self.items, self.schemas, self.leaves, own, rebuilt))
        if not self.containers:
            return self.treespec.unflatten(islice(results, len(self.items)))
        made = []
        for position in range(len(self.items)):
            opened = self.containers.get(position)
            made.append(next(results) if opened is None else _rebuilt_container(opened, results, rebuilt))
        return self.treespec.unflatten(made)


def _rebuilt_container(opened: OpenContainer, results: Iterator[Any], rebuilt: dict[int, Any]) -> Any:
    container, key = opened.container, id(opened.container)
    if opened.children is None:
        return rebuilt[key]
    if not opened.subtrees:
        children = list(islice(results, len(opened.children)))
    else:
        nodes = map(opened.subtrees.get, range(len(opened.children)))
        children = [
            next(results) if node is None else _rebuilt_child(old, node, results, rebuilt)
            for old, node in zip(opened.children, nodes, strict=True)
        ]
    if not any(map(is_not, children, opened.children)):
        made = container
    elif opened.type.unflatten is None:
        raise cannot_rebuild(container)
    else:
        made = opened.type.unflatten(container, children)
    rebuilt[key] = made
    return made


def _rebuilt_child(old: Any, node: FlatTree, results: Iterator[Any], rebuilt: dict[int, Any]) -> Any:
    """Return a child with its results; itself, if none of them is new."""
    own = list(islice(results, len(node.leaves)))
    if any(map(is_not, own, node.leaves)) or _refers_to_new(node, rebuilt):
        return node._unflatten(iter(own), rebuilt)
    _record_unchanged(node, rebuilt)
    return old


def _record_unchanged(node: FlatTree, rebuilt: dict[int, Any]) -> None:
    """Enter the containers that were met here first and did not change, for where they are met again."""
    if node.schemas is not None:
        _records.unflatten(node.items, node.schemas, node.leaves, node.leaves, rebuilt)
    for opened in node.containers.values():
        rebuilt.setdefault(id(opened.container), opened.container)
        for child in opened.subtrees.values():
            _record_unchanged(child, rebuilt)


def _refers_to_new(node: FlatTree, rebuilt: dict[int, Any]) -> bool:
    for opened in node.containers.values():
        if rebuilt.get(id(opened.container), opened.container) is not opened.container:
            return True
        if any(_refers_to_new(child, rebuilt) for child in opened.subtrees.values()):
            return True
    return False


def flatten(
    tree: Any,
    is_leaf: Callable[[Any], bool] | None = None,
    *,
    namespace: str = "",
    once: bool = True,
    objects: Objects = "error",
) -> FlatTree:
    """Return a tree flattened; `is_leaf` and `namespace` are optree's.

    None is part of the structure, not a leaf. With `once` an opened container has its leaves where it is met first; without,
    wherever it is met (then the tree cannot be rebuilt). With ``objects="open"`` objects that hold arrays are opened too; with
    ``"keep"`` a container that cannot be rebuilt is a leaf as they are. Raises ValueError for one that contains itself.
    """
    flattening = _Flattening(is_leaf, namespace, once=once, objects=objects)
    return _bounded(lambda: flattening.flatten(tree), tree, flattening)


def _bounded(function: Callable[[], T], tree: Any, flattening: _Flattening) -> T:
    """Return what a function returns; ValueError where it went too deep because a container of optree's contains itself."""
    try:
        return function()
    except RecursionError:
        if (found := flattening.cycle_in(tree)) is None:  # it is deep
            raise
    raise _contains_itself(found)


def _contains_itself(x: Any) -> ValueError:
    return ValueError(f"the tree contains itself: a {type(x).__qualname__} is reached from its own parts.")


def flatten_named(children: Sequence[tuple[str, Any]]) -> FlatTree:
    """Return several trees with names of their own, such as the arguments of a call, as one: it is rebuilt to a list.

    A tree in which nothing changes is itself in that list.
    """
    names, values = [name for name, _ in children], [value for _, value in children]
    leaves: list[Any] = []
    kind = ContainerType(lambda _: names, lambda _: values, lambda _, made: list(made))
    flattening = _Flattening(None, "", once=True)
    opened = _bounded(lambda: flattening.open(values, kind, leaves), values, flattening)
    return FlatTree(optree.treespec_leaf(), [values], {0: opened}, leaves)


_ITSELF = optree.treespec_leaf()  # the structure of a tree that `interop._trees.records` flattens as a whole


class _Flattening:
    def __init__(self, is_leaf: Callable[[Any], bool] | None, namespace: str, *, once: bool, objects: Objects = "error") -> None:
        self.is_leaf, self.namespace, self.once, self.objects = is_leaf, namespace, once, objects
        self.met: dict[int, bool] = {}  # opened containers by id: whether they are open still, so that we are inside of them
        self.arrays: set[int] = set()  # types, by their addresses: a metaclass may say that its class equals another
        self.schemas: _records.Schemas = {}

    def flatten(self, tree: Any) -> FlatTree:
        # Not again where something was met that is for the general way: a walk that ends there is for nothing.
        if (
            any(type(tree) is kind for kind in _records.BUILTIN)
            and False not in self.schemas.values()
            and (node := self._flattened_at_once(_ITSELF, [tree])) is not None
        ):
            return node
        items, treespec = optree.tree_flatten(tree, is_leaf=self._is_opaque, namespace=self.namespace)
        # By types and not by a loop over leaves, because a tree may have many thousands.
        kinds = {key: found for key, one in _one_of_each(items).items() if (found := container_type_of(type(one))) is not None}
        if not kinds and self.objects != "open":
            return FlatTree(treespec, items, {}, items)
        if (node := self._flattened_at_once(treespec, items)) is not None:
            return node
        opened: dict[int, OpenContainer] = {}
        leaves: list[Any] = []
        for position, item in enumerate(items):
            kind = self._opened_as(item, kinds.get(id(type(item))))
            if kind is None:
                leaves.append(item)
            else:
                opened[position] = self.open(item, kind, leaves)
        return FlatTree(treespec, items, opened, leaves)

    def cycle_in(self, tree: Any) -> Any:
        """Return a container that is reached from its own parts, None if there is none; without recursion."""
        inside: dict[int, Any] = {id(tree): iter(self._parts(tree))}  # what is left of each, by the container's id
        done: set[int] = set()
        while inside:
            key, rest = next(reversed(inside.items()))
            if (part := next(rest, inside)) is inside:
                done.add(key)
                del inside[key]
            elif id(part) in inside:
                return part
            elif id(part) not in done and (own := self._parts(part)):
                inside[id(part)] = iter(own)
        return None

    def _parts(self, x: Any) -> Sequence[Any]:
        if self._is_opaque(x) or optree.tree_is_leaf(x, namespace=self.namespace):
            kind = self._opened_as(x, container_type_of(type(x)))
            return () if kind is None else kind.children(x)
        return list(optree.tree_flatten_one_level(x, namespace=self.namespace)[0])

    def _is_opaque(self, x: Any) -> bool:
        keyed = isinstance(x, dict) and keyed_type_of(x) is not None
        return keyed or is_opaque(x) or (self.is_leaf is not None and self.is_leaf(x))

    def _flattened_at_once(self, treespec: Any, items: list[Any]) -> FlatTree | None:
        """Return the node, if nothing is there but leaves and plain containers."""
        if _records.flatten is None or self.is_leaf is not None or not self.once or self.objects == "open":
            return None
        leaves = _records.flatten(items, self.schemas, self.met, _records.schema_in(self.namespace))
        if leaves is None:
            return None
        has_records = any(type(schema) is tuple and kind is not type(None) for kind, schema in self.schemas.items())
        return FlatTree(treespec, items, {}, leaves, self.schemas, has_records)

    def _opened_as(self, item: Any, kind: ContainerType | None) -> ContainerType | None:
        """Return the kind of container that a leaf of optree's is opened as, None if it is one of ours too; `kind` is that of its type."""
        if kind is None and self.objects != "open":
            return None
        if self.is_leaf is not None and self.is_leaf(item):
            return None
        if kind is not None and not is_array(item) and (kind.accepts is None or kind.accepts(item)):
            kind = keyed_type_of(item) or kind
            return None if kind.unflatten is None and self.objects == "keep" else kind
        return object_type_of(item) if self.objects == "open" and holds_arrays(item) else None

    def open(self, container: Any, kind: ContainerType, leaves: list[Any]) -> OpenContainer:
        """Open a container; its leaves are appended to `leaves`."""
        key = id(container)
        if key in self.met:
            if self.met[key]:
                raise _contains_itself(container)
            if self.once:
                return OpenContainer(container, kind, None, {})
        self.met[key] = True
        children = kind.children(container)
        nodes: dict[int, FlatTree] = {}
        # The usual child is an array; a node for each would cost more than converting it.
        one_of = _one_of_each(children)
        self.arrays.update(key for key in one_of.keys() - self.arrays if is_array(one_of[key]))
        if one_of.keys() - self.arrays or self.objects == "open":
            nodes = {at: self.flatten(child) for at, child in enumerate(children) if self._is_tree(child)}
        self.met[key] = False
        opened = OpenContainer(container, kind, children, nodes)
        leaves += opened.leaves() if nodes else children
        return opened

    def _is_tree(self, child: Any) -> bool:
        return id(type(child)) not in self.arrays or (self.objects == "open" and is_object_array(child))


def _one_of_each(items: Sequence[Any]) -> dict[int, Any]:
    """Return one object of each type, by the type's address."""
    return dict(zip(map(id, map(type, items)), items, strict=True))
