"""The border between torch and the library of a wrapped function: tensors go over as arrays, arrays come back as tensors.

What needs no decision takes the quick path; all else is a call of `interop.convert` for many arrays at once, so that a
refusal names each, and that records and guards know of it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from interop._engine.batch import TreeConversion
from interop._engine.call import DecoratedCall
from interop._engine.fastpath import convert_all, table
from interop._model.policy import FIELDS, resolve_policy
from interop._model.scope import fast_path_off
from interop._trees.structure import flatten_named
from interop.backends import find_backend, load_backend
from interop.backends.shortcut import READ_ONLY
from interop.backends.torch.memory import apart
from interop.errors import CopyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from interop._model.policy import Policy

    Names = Callable[[], list[str]]

__all__ = ["Border"]


class Border:
    """What goes over, and under which permissions.

    Parameters
    ----------
    backend : str
        The library of the function.
    place : str
        Where a permission would be written, in words: ``its autograd.wrap(...)``.
    permissions : dict
        As `interop.convert` takes them.
    """

    def __init__(self, backend: str, place: str, permissions: dict[str, Any]) -> None:
        self.backend, self.place, self.permissions = backend, place, permissions
        self.target, self.torch = load_backend(backend), load_backend("torch")
        self.protects = self.target.capabilities.readonly_arrays and permissions.get("readonly") != "share"
        self._there, self._back = table(backend), table("torch")
        self._sealed = table(backend, READ_ONLY) if self.protects else {}
        self._quickly = not permissions.keys() & {"copy", "policy"}  # the others say nothing of what needs no decision

    def there(self, tensors: Sequence[Any | None], text: str, names: Names) -> list[Any]:
        """Return arrays on the memory of tensors, read-only where the library can say so: a write would not be seen by torch.

        None stays None. `names` tells what each is called, where that has to be said.
        """
        if self._sealed and self._quickly and fast_path_off.get() is None:
            arrays = convert_all(list(tensors), self._sealed)
            if all(array is not None for array in arrays):
                return arrays
        # Outside of the graph before the border: nothing is lost, since the graph goes through the function as a whole.
        bare = [None if tensor is None else self.torch.detach(tensor) for tensor in tensors]
        arrays = self._moved(bare, self._there, text, names, {"to": self.backend, "grad": "detach"})
        if self.protects:
            for array in arrays:
                if array is not None:
                    self.target.protect(array)
        return arrays

    def back(
        self,
        arrays: list[Any],
        device: Any,
        text: str,
        names: Names,
        *,
        beside: Sequence[Any],
        same: bool = False,
        refs: Sequence[int] = (),
    ) -> list[Any]:
        """Return tensors on the memory of arrays, on a device of torch's.

        Torch may write to what it is given, so an array is copied if somebody else holds it or its memory, or it is on the memory
        of one before it or of the tensors `beside` it; but an array that occurs twice may be the `same` tensor. The list has to
        be all that the caller has of the arrays, but for so many other references (`refs`).
        """
        lent = []
        for at in range(len(arrays)):
            own = sum(other is arrays[at] for other in arrays) + (refs[at] if refs else 0)
            # One reference more is the call's. A function of ours would add its own, more of them while a compiler looks on.
            if sys.getrefcount(arrays[at]) > own + 1 or find_backend(arrays[at]).may_be_aliased(arrays[at]):
                lent.append(at)
        if lent and self.policy().copy is False:
            what = ", ".join(names()[at] for at in lent)
            hint = f"Return an array of its own, or leave copy=False out of {self.place} and of the scope."
            raise CopyError(f"{text}: torch may write to {what}, which somebody else holds, and copy=False.", hint=hint)
        made = self._moved(arrays, self._back, text, names, {"to": "torch", "device": device}, lent=lent)
        views = not self.protects or self.policy().readonly == "share"
        return apart(made, same=same, beside=beside if views else ()) if len(made) > 1 or views else made

    def kept(self, arrays: list[Any], device: Any, text: str, names: Names) -> list[Any]:
        """Return tensors on the memory of arrays, which are only kept for a rule."""
        return self._moved(arrays, self._back, text, names, {"to": "torch", "device": device})

    def tables(self) -> tuple[dict[type, Any], dict[type, Any]] | None:
        """Return the short cuts there and back; None where permissions have to be looked at."""
        return (self._sealed, self._back) if self._quickly and self.protects else None

    def policy(self) -> Policy:
        """Return the policy in force."""
        return resolve_policy(self.permissions.get("policy"), {name: value for name, value in self.permissions.items() if name in FIELDS})

    def _moved(
        self, values: list[Any], quickly: Any, text: str, names: Names, words: dict[str, Any], *, lent: Sequence[int] = ()
    ) -> list[Any]:
        quick = self._quickly and not lent and fast_path_off.get() is None
        results = convert_all(values, quickly) if quick else [None] * len(values)
        device = words.get("device")
        if device is not None:  # what needs no decision stays on the device where it is
            results = [result if result is not None and result.device == device else None for result in results]
        left = [at for at, result in enumerate(results) if result is None and values[at] is not None]
        if left:
            known = names()
            if device is not None:
                words["device"] = self.torch.parse_device(device)
            for some, more in (([at for at in left if at not in lent], {}), (lent, {"copy": True})):
                call = DecoratedCall(text, self.place, **(self.permissions | words | more))
                made = TreeConversion(call, flatten_named([(known[at], values[at]) for at in some]), root="").run() if some else ()
                for at, result in zip(some, made, strict=True):
                    results[at] = result
        return results
