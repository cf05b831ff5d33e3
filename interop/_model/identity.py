"""Types as the keys of tables: only those that equal nothing but themselves."""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def is_found_by_identity(kind: type) -> bool:
    """Return whether a type equals nothing but itself, and so may be looked up, and stand, in a table by type.

    One whose metaclass has an equality or a hash of its own may say that it equals `list`: it would be found as `list`, and taken for one.

    >>> is_found_by_identity(list)
    True
    >>> class Meta(type):
    ...     __eq__, __hash__ = (lambda own, other: other is list), (lambda own: hash(list))
    >>> odd = Meta("Odd", (), {})
    >>> odd in {list: 1}, is_found_by_identity(odd)
    (True, False)
    """
    meta = type(kind)
    return meta is type or (meta.__eq__ is type.__eq__ and meta.__hash__ is type.__hash__)


def is_integer(x: Any) -> bool:
    """Return whether an object is an integer, NumPy's too; no bool, and no array of one. The abstract class looks types up in a table.

    >>> is_integer(3), is_integer(True), is_integer(3.0)
    (True, False, False)
    """
    if isinstance(x, int):
        return not isinstance(x, bool)
    return is_found_by_identity(type(x)) and isinstance(x, numbers.Integral)


def derives_from(kind: type, bases: Iterable[type]) -> bool:
    """Return whether a type is one of others, or derives from one; `issubclass` asks abstract classes, whose tables compare.

    >>> derives_from(bool, (str, int)), derives_from(int, (bool,))
    (True, False)
    """
    return any(base is one for base in kind.__mro__ for one in bases)
