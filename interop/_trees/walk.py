"""A walk over plain containers, all at once: lists, tuples, dicts, named tuples, and records.

A record is an object that holds nothing but declared fields, in a `__dict__` or in slots. What `interop._trees.structure` does for any
container, one by one; here for the plain case, because a tree may hold thousands of small containers, each of which would
cost as much as the conversion of its arrays. Whatever is not plain is left to it.
In C (`_quick_walk.c`) and, where no compiler was at hand, in Python; `tests/trees/test_walk.py` holds both against the long way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import optree

from interop._engine.fastpath import compiled
from interop._trees.containers import kind_of
from interop.backends import is_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["BUILTIN", "Known", "gather", "kind_in", "paths", "scatter"]

Known = dict[type, Any]
"""What the objects of a type are: None for a leaf, the names of the fields of a record, the type itself for `list`, `tuple`,
`dict` and named tuples, False for anything else."""


class _Named(NamedTuple):
    field: int


_FIELD = type(vars(_Named)["field"])  # what gives a field of a named tuple


BUILTIN = (list, tuple, dict)
"""The types that nobody can register with optree as something else."""

DEPTH = 200
"""How deep a walk goes; what is deeper is left to the long way, which has limits of its own."""


def kind_in(namespace: str) -> Callable[[Any], Any]:
    """Return the function that says what the type of an object is; `namespace` is optree's."""

    def is_named(x: Any) -> bool:
        kind = type(x)
        if not optree.is_namedtuple_class(kind) or kind.__base__ is not tuple:  # the second as in `interop._engine.fastpath.stops`
            return False
        # optree takes what looks like one for one; it may have attributes, and a constructor that has to be called.
        if kind.__dictoffset__ or not all(type(getattr(kind, name, None)) is _FIELD for name in kind._fields):
            return False
        return optree.tree_structure(x, is_leaf=lambda part: part is not x, namespace=namespace).kind == optree.PyTreeKind.NAMEDTUPLE

    def kind(x: Any) -> Any:
        if x is None:
            return ()  # part of the structure, without a leaf
        if type(x) in BUILTIN or is_named(x):
            return type(x)
        if is_array(x):
            return None
        if not optree.tree_is_leaf(x, namespace=namespace):
            return False
        found = kind_of(type(x))
        if found is None:
            return None
        return False if found.fields is None else found.fields

    return kind


def paths(x: Any, known: Known, path: str) -> Iterator[str]:
    """Yield the path of each leaf of something that was gathered, in order."""
    names = known[type(x)]
    if names is None:
        yield path
    elif names is dict:
        for key in sorted(x):
            yield from paths(x[key], known, f"{path}[{key!r}]")
    elif names in BUILTIN:
        for at, part in enumerate(x):
            yield from paths(part, known, f"{path}[{at}]")
    else:
        for name in names._fields if hasattr(names, "_fields") else names:
            yield from paths(getattr(x, name), known, f"{path}.{name}")


class _NotPlainError(Exception):
    """Something in a tree is for the long way."""


def gather_in_python(items: list[Any], known: Known, met: dict[int, bool], ask: Callable[[Any], Any]) -> list[Any] | None:
    """Return the leaves of items that are leaves or plain containers, of these again; None if any is something else.

    `ask` is called for a type that is not in `known` and its answer kept there. The ids of records go to `met`; one that
    is there already, an unset field, an attribute that is no field, and what is deeper than DEPTH are something else.
    """
    walk = _Walk(known, met, ask)
    try:
        for item in items:
            walk.take(item)
    except _NotPlainError:
        return None
    met.update(walk.own)
    return walk.leaves


class _Walk:
    def __init__(self, known: Known, met: dict[int, bool], ask: Callable[[Any], Any]) -> None:
        self.known, self.met, self.ask = known, met, ask
        self.own: dict[int, bool] = {}
        self.leaves: list[Any] = []
        self.depth = 0

    def take(self, x: Any) -> None:
        kind = type(x)
        if kind not in self.known:
            self.known[kind] = self.ask(x)
        names = self.known[kind]
        if names is None:
            self.leaves.append(x)
        elif names is False:
            raise _NotPlainError
        elif names:
            if self.depth == DEPTH:
                raise _NotPlainError
            self.depth += 1
            for part in self.parts(x, names):
                self.take(part)
            self.depth -= 1

    def parts(self, x: Any, names: Any) -> list[Any]:
        if isinstance(names, type):
            return _members(x)
        if id(x) in self.met or id(x) in self.own:
            raise _NotPlainError
        self.own[id(x)] = False
        return _fields(x, names)


def _fields(x: Any, names: Sequence[str]) -> list[Any]:
    own = vars(x) if type(x).__dictoffset__ else {name: getattr(x, name) for name in names if hasattr(x, name)}
    if own.keys() != set(names):
        raise _NotPlainError
    return [own[name] for name in names]


def _members(x: Any) -> list[Any]:
    if type(x) is not dict:
        return list(x)
    try:
        return [x[key] for key in sorted(x)]  # as optree has them
    except TypeError as error:
        raise _NotPlainError from error


def scatter_in_python(items: list[Any], known: Known, leaves: list[Any], results: list[Any], renewed: dict[int, Any] | None) -> list[Any]:
    """Return the items with their leaves replaced by results; a record in which nothing has changed is itself, with all in it.

    What comes in a record's place goes to `renewed` under the record's id, unless that is None. Raises RuntimeError if the
    items are not those any more in which these leaves were found.
    """
    if len(leaves) != len(results):
        raise RuntimeError(_CHANGED)
    left = iter(zip(leaves, results, strict=True))

    def make(x: Any, *, inside: bool = False) -> Any:
        names = known.get(type(x), False)
        if names is None:
            leaf, result = next(left)
            if leaf is not x:
                raise _NotPlainError
            return result
        if names is False:
            raise _NotPlainError
        if not names:
            return x
        old = _members(x) if isinstance(names, type) else _fields(x, names)
        inside = inside or not isinstance(names, type)
        values = [make(part, inside=inside) for part in old]
        changed = any(a is not b for a, b in zip(old, values, strict=True))
        made = _filled(x, names, values) if changed or not inside else x
        if not isinstance(names, type) and renewed is not None:
            renewed[id(x)] = made
        return made

    try:
        made = [make(item) for item in items]
    except (StopIteration, _NotPlainError) as error:
        raise RuntimeError(_CHANGED) from error
    if next(left, None) is not None:
        raise RuntimeError(_CHANGED)
    return made


def _filled(x: Any, names: Any, values: list[Any]) -> Any:
    """Return another object like x with these values in it."""
    if names is dict:
        return x | dict(zip(sorted(x), values, strict=True))
    if isinstance(names, type):
        return list(values) if names is list else tuple.__new__(names, values)
    made = object.__new__(type(x))
    for name, value in zip(names, values, strict=True):
        object.__setattr__(made, name, value)
    return made


_CHANGED = "the tree was changed while it was being converted"

gather: Callable[[list[Any], Known, dict[int, bool], Callable[[Any], Any]], list[Any] | None]
scatter: Callable[[list[Any], Known, list[Any], list[Any], dict[int, Any] | None], list[Any]]
gather, scatter = (gather_in_python, scatter_in_python) if compiled is None else (compiled.gather, compiled.scatter)
