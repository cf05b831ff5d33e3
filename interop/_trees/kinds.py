"""What the objects of a type hold, known from the type alone: for torch's compiler, which has no objects yet while it traces."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict, deque
from typing import Literal

import optree

from interop._trees.containers import container_type_of

Inside = Literal["items", "values"] | tuple[str, ...]


def inside_of(kind: type) -> Inside | None:
    """Return what is inside of the objects of a type: items, values, fields by their names (none: nothing); None where the type does not say."""
    if kind in (list, tuple, deque) or optree.is_namedtuple_class(kind) or optree.is_structseq_class(kind):
        return "items"
    if kind in (dict, OrderedDict, defaultdict):
        return "values"
    if hasattr(kind, "__dlpack__") or hasattr(kind, "__array__") or optree.register_pytree_node.get(kind) is not None:
        return None
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return () if container_type_of(kind) is None else None
