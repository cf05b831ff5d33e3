"""The signature of a function that is called through interop: what its arguments are called, and where ``xp`` is."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# What is not an array and holds none, met most often; whatever else is not an array is flattened.
PLAIN: frozenset[int] = frozenset(map(id, (int, float, complex, bool, str, bytes, type(None), type, slice, type(Ellipsis))))
"""The types of these, by their ids: a metaclass may have an equality and a hash of its own, which must not be asked."""


class CallSignature:
    """The names of a function's arguments, and where ``xp`` is among them."""

    def __init__(self, function: Any) -> None:
        qualified = getattr(function, "__qualname__", type(function).__name__)
        self.name = qualified.rpartition("<locals>.")[2]
        self.signature = _signature(function)
        parameters = list(self.signature.parameters.values()) if self.signature else []
        self.places = {one.name: place for place, one in enumerate(parameters)}
        self.names = [one.name for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
        self.rest = next((one.name for one in parameters if one.kind is one.VAR_POSITIONAL), "args")
        # Within a class only: a function may call an array cls.
        self.skipped = int(self.names[:1] in (["self"], ["cls"]) and "." in self.name)
        self.takes_xp = _takes_xp(self.name, parameters)
        # Where an xp given by position would be; beyond every call if it cannot be.
        self.xp_at = self.names.index("xp") if "xp" in self.names else 1 << 30

    def named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield name and value of each argument that is looked at, in the order of the signature, not of the call."""
        for position, value in enumerate(args[self.skipped :], self.skipped):
            yield self.name_at(position), value
        yield from sorted(kwargs.items(), key=self._place_of) if len(kwargs) > 1 else kwargs.items()

    def _place_of(self, argument: tuple[str, Any]) -> tuple[int, str]:
        """Return where a keyword stands in the signature; those that it does not name come last, by name."""
        name = argument[0]
        return (self.places.get(name, len(self.places)), name)

    def name_at(self, position: int) -> str:
        """Return the name of an argument that is given by position."""
        return self.names[position] if position < len(self.names) else f"{self.rest}[{position - len(self.names)}]"

    def gives_xp(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether the caller gives the namespace."""
        return kwargs.get("xp") is not None or (len(args) > self.xp_at and args[self.xp_at] is not None)

    def with_xp(self, xp: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with this namespace among them."""
        if len(args) > self.xp_at:
            return (*args[: self.xp_at], xp, *args[self.xp_at + 1 :]), kwargs
        return args, kwargs | {"xp": xp}


def _signature(function: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except ValueError:  # some written in C have no signature (cv2's): their arguments have no names
        return None


def _takes_xp(name: str, parameters: list[inspect.Parameter]) -> bool:
    """Return whether the function wants the namespace; TypeError if it could not be given where it stands."""
    xp = next((one for one in parameters if one.name == "xp" and one.kind is not one.VAR_KEYWORD), None)
    if xp is None or xp.default not in (xp.empty, None):  # one that has a namespace of its own is left with it
        return False
    after = parameters[parameters.index(xp) + 1 :]
    needed = [one.name for one in after if one.kind is one.POSITIONAL_OR_KEYWORD and one.default is one.empty]
    if xp.kind in (xp.POSITIONAL_ONLY, xp.VAR_POSITIONAL) or (xp.kind is xp.POSITIONAL_OR_KEYWORD and needed):
        raise TypeError(f"{name}: xp has to be given by keyword; declare it last, as in (x, *, xp=None).")
    return True
