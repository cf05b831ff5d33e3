"""The border between torch and the library of a wrapped function: tensors become arrays, and arrays become tensors.

What needs no decision takes the fast path. All else is a call of `interop.convert` for many arrays at once, so that a refusal
names each, and records and guards see it.
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


class Border:
    """How tensors and arrays cross, and under which permissions.

    Parameters
    ----------
    library : str
        The library of the function.
    place : str
        Where the caller would write a permission, for messages: ``its autograd.wrap(...)``.
    permissions : dict
        As `interop.convert` takes them; None is the same as leaving it out.
    """

    def __init__(self, library: str, place: str, permissions: dict[str, Any]) -> None:
        permissions = {name: value for name, value in permissions.items() if value is not None}
        self.library, self.place, self.permissions = library, place, permissions
        self.target, self.torch = load_backend(library), load_backend("torch")
        self.protects = self.target.capabilities.readonly_arrays and permissions.get("readonly") != "share"
        self._to_arrays, self._to_tensors = table(library), table("torch")
        self._to_read_only = table(library, READ_ONLY) if self.protects else {}
        self._fast = not permissions.keys() & {"copy", "policy"}  # no other permission matters for what needs no decision

    def to_arrays(self, tensors: Sequence[Any | None], text: str, names: Names) -> list[Any]:
        """Return arrays on the memory of tensors, read-only where the library can mark them so: torch would not see a write.

        None stays None. `names` returns the name of each for messages; it is called only if there is one.
        """
        if self._to_read_only and self._fast and fast_path_off.get() is None:
            arrays = convert_all(list(tensors), self._to_read_only)
            if all(array is not None for array in arrays):
                return arrays
        # Detached first: no gradient is lost, since the function as a whole is a node of the graph.
        bare = [None if tensor is None else self.torch.detach(tensor) for tensor in tensors]
        arrays = self._converted(bare, self._to_arrays, text, names, {"to": self.library, "grad": "detach"})
        if self.protects:
            for array in arrays:
                if array is not None:
                    self.target.protect(array)
        return arrays

    def to_tensors(
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

        Torch may write to its tensors. So an array is copied if it or its memory has another owner, or if it is on the memory of an
        array before it or of the tensors `beside` it; but an array that occurs twice may be the `same` tensor. The list must hold
        the caller's only references to the arrays, apart from so many others (`refs`).
        """
        held = []
        for at in range(len(arrays)):
            own = sum(other is arrays[at] for other in arrays) + (refs[at] if refs else 0)
            # One more reference is the argument of getrefcount. Written in place: a function of ours would add its own, and torch.compile more.
            if sys.getrefcount(arrays[at]) > own + 1 or find_backend(arrays[at]).may_be_aliased(arrays[at]):
                held.append(at)
        if held and self.policy().copy is False:
            what = ", ".join(names()[at] for at in held)
            hint = f"Return an array of its own, or leave copy=False out of {self.place} and of the scope."
            raise CopyError(f"{text}: torch may write to {what}, which has another owner, and copy=False.", hint=hint)
        made = self._converted(arrays, self._to_tensors, text, names, {"to": "torch", "device": device}, held=held)
        views = not self.protects or self.policy().readonly == "share"
        return apart(made, same=same, beside=beside if views else ()) if len(made) > 1 or views else made

    def to_saved_tensors(self, arrays: list[Any], device: Any, text: str, names: Names | None = None) -> list[Any]:
        """Return tensors on the memory of arrays that are saved for a rule; nothing writes to those."""
        saved = names or (lambda: [f"what it saved[{at}]" for at in range(len(arrays))])
        return self._converted(arrays, self._to_tensors, text, saved, {"to": "torch", "device": device})

    def tables(self) -> tuple[dict[type, Any], dict[type, Any]] | None:
        """Return the tables of the fast path, to arrays and to tensors; None where permissions have to be looked at."""
        return (self._to_read_only, self._to_tensors) if self._fast and self.protects else None

    def policy(self) -> Policy:
        """Return the policy in force."""
        return resolve_policy(self.permissions.get("policy"), {name: value for name, value in self.permissions.items() if name in FIELDS})

    def _converted(
        self, values: list[Any], fast_path: Any, text: str, names: Names, words: dict[str, Any], *, held: Sequence[int] = ()
    ) -> list[Any]:
        fast = self._fast and not held and fast_path_off.get() is None
        results = convert_all(values, fast_path) if fast else [None] * len(values)
        device = words.get("device")
        if device is not None:  # what needs no decision stays on the device where it is
            results = [result if result is not None and result.device == device else None for result in results]
        left = [at for at, result in enumerate(results) if result is None and values[at] is not None]
        if left:
            known = names()
            if device is not None:
                words["device"] = self.torch.parse_device(device)
            for some, more in (([at for at in left if at not in held], {}), (held, {"copy": True})):
                call = DecoratedCall(text, self.place, **(self.permissions | words | more))
                made = TreeConversion(call, flatten_named([(known[at], values[at]) for at in some]), root="").run() if some else ()
                for at, result in zip(some, made, strict=True):
                    results[at] = result
        return results
