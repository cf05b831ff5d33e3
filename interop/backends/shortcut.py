"""Short cuts as data: the guards, then the handoff. `interop._engine.fastpath` runs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DETACH", "LOW", "PLAIN", "READ_ONLY", "TO_HOST", "Shortcut"]

LOW = 1 << 38
"""At an address below, a result may be an offset into a storage that was freed, so `has_storage` is asked. Memory is hardly ever there."""


# What a call has to permit so that a fast path may be taken; the keys of `Backend.shortcuts`, with the target.
PLAIN: frozenset[str] = frozenset()
DETACH = frozenset({"detach"})
TO_HOST = frozenset({"to host"})
"""These give the array itself, if it is a small one on a device that `Backend.copy_many_to_host` takes."""
READ_ONLY = frozenset({"read-only"})
"""These give read-only results whatever autograd says of the array, for functions inside of torch's graph."""


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A handoff that is safe to do at once, after these guards; otherwise the general way decides.

    All guards are looked at before `handoff` is called, in this order, and any that does not hold means
    "the general way", never an error.

    Attributes
    ----------
    checks_itself : callable or None
        While it returns true (a mode of the library), `handoff` itself refuses what `must_be_false` looks for, and it
        is not looked for twice.
    must_be_false, must_be_true : tuple of paths
        What must be false, or true, of the array. A path is a tuple of descriptors (``ndarray.flags``, then
        the flags' ``behaved``): asking a descriptor costs half of looking its name up.
    no_level : tuple of (dict, key)
        Numbers in the library's own state that must be negative (a level that counts from 0).
    no_mode : tuple of callables
        Called without arguments, each must return a falsy value (modes and levels of the library).
    getter : path
        From the array to the argument of `handoff`; empty for the array itself.
    handoff : callable
        From there to the result.
    declines : tuple of exception classes
        What `handoff` raises, before it has done anything, where the library's own checks refuse.
    expects_view : type or None
        `numpy.ndarray` where the result must be exactly that, and lie on memory that NumPy did not allocate: one
        that owns its data means that the library exported a null pointer, and the values are uninitialised.
    has_storage : callable or None
        Says of the array whether there is memory behind it; asked only about a result whose address is a small number.
    offset : callable or None
        Returns how far into its storage the array begins. At 0 `has_storage` is not asked: there the address is the storage's own. A
        function in C costs a tenth, and where a process' heap lies low (a Python that is not position independent) it is asked each time.
    read_only : bool
        Such a result is made read-only.
    """

    handoff: Callable[[Any], Any]
    checks_itself: Callable[[], bool] | None = None
    must_be_false: tuple[tuple[Any, ...], ...] = ()
    must_be_true: tuple[tuple[Any, ...], ...] = ()
    no_level: tuple[tuple[dict[str, Any], str], ...] = ()
    no_mode: tuple[Callable[[], Any], ...] = ()
    declines: tuple[type[Exception], ...] = ()
    getter: tuple[Any, ...] = ()
    expects_view: Any = None
    has_storage: Callable[[Any], bool] | None = None
    offset: Callable[[Any], int] | None = None
    read_only: bool = False
