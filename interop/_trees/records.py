"""Plain containers flattened all at once: lists, tuples, dicts, named tuples, and records.

A record is an object that holds nothing but declared fields, in a `__dict__` or in slots. What `interop._trees.structure` does for any
container, one by one; here for the plain case, because a tree may hold thousands of small containers, each of which would
cost as much as the conversion of its arrays. Whatever is not plain is left to it; and so is everything where nothing was compiled.
The work is done in C (`interop/native/flatten.c`, `unflatten.c`); `tests/trees/test_records.py` holds it against the general way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import optree

from interop._trees.containers import container_type_of
from interop.backends import is_array
from interop.native.compiled import compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Schemas = dict[type, Any]
"""What the objects of a type are: None for a leaf, the names of the fields of a record, the type itself for `list`, `tuple`,
`dict` and named tuples, False for anything else."""

flatten: Callable[[list[Any], Schemas, dict[int, bool], Callable[[Any], Any]], list[Any] | None] | None
"""Return the leaves of items that are leaves or plain containers, of these again; None if any is something else.

The last argument is called for a type without a schema, and its answer entered. The ids of records go to the third; one that
is there already, an unset field, an attribute that is no field, and what is deeper than DEPTH are something else.
"""
flatten = getattr(compiled, "flatten", None)

unflatten: Callable[[list[Any], Schemas, list[Any], list[Any], dict[int, Any] | None], list[Any]]
"""Return the items with their leaves replaced by results; a record in which nothing has changed is itself, with all in it.

What comes in a record's place goes to the last argument under the record's id, unless that is None. Raises RuntimeError if the
items are not those any more in which these leaves were found.
"""
unflatten = getattr(compiled, "unflatten", None)  # type: ignore[assignment]  # without it nothing is flattened here


class _Named(NamedTuple):
    field: int


_FIELD = type(vars(_Named)["field"])  # what gives a field of a named tuple


BUILTIN = (list, tuple, dict)
"""The types that cannot be registered with optree as something else."""

DEPTH = 200
"""How deep it goes, in C; what is deeper is left to the general way, which has limits of its own."""


def schema_in(namespace: str) -> Callable[[Any], Any]:
    """Return the function that gives the schema of an object's type; `namespace` is optree's."""

    def is_named(x: Any) -> bool:
        kind = type(x)
        if not optree.is_namedtuple_class(kind) or kind.__base__ is not tuple:  # the second as in `interop._engine.fastpath.is_opaque`
            return False
        # optree takes what looks like one for one; it may have attributes, and a constructor that has to be called.
        if kind.__dictoffset__ or not all(type(getattr(kind, name, None)) is _FIELD for name in kind._fields):
            return False
        return optree.tree_structure(x, is_leaf=lambda part: part is not x, namespace=namespace).kind == optree.PyTreeKind.NAMEDTUPLE

    def schema(x: Any) -> Any:
        if x is None:
            return ()  # part of the structure, without a leaf
        kind = type(x)
        if any(kind is one for one in BUILTIN) or is_named(x):  # not by comparison: a metaclass may say that its class equals one
            return kind
        if is_array(x):
            return None
        if not optree.tree_is_leaf(x, namespace=namespace):
            return False
        found = container_type_of(kind)
        if found is None:
            return None
        return False if found.fields is None else found.fields

    return schema


def paths(x: Any, schemas: Schemas, path: str) -> Iterator[str]:
    """Yield the path of each leaf of something that was flattened, in order."""
    names = schemas[type(x)]
    if names is None:
        yield path
    elif names is dict:
        for key in sorted(x):
            yield from paths(x[key], schemas, f"{path}[{key!r}]")
    elif names in BUILTIN:
        for at, part in enumerate(x):
            yield from paths(part, schemas, f"{path}[{at}]")
    else:
        for name in names._fields if hasattr(names, "_fields") else names:
            yield from paths(getattr(x, name), schemas, f"{path}.{name}")
