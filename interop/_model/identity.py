"""Types as the keys of tables: only those that equal nothing but themselves."""

from __future__ import annotations


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
