"""The arguments and results of one call, flattened: which are tensors, what they are called, and how they are put together again.

The usual call has tensors and numbers only, and is not looked into; trees are flattened by `interop._trees.structure`.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from interop._model.call_signature import PLAIN, CallSignature
from interop._model.spelling import type_name
from interop._trees.structure import flatten, flatten_named
from interop.backends import find_backend, is_array
from interop.errors import GradError, UnsupportedTypeError

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Sequence

from interop._trees.structure import FlatTree

_TENSOR = object()
"""In the place of a tensor."""


class FunctionSignature(CallSignature):
    """The signature of a wrapped function, without the ``ctx`` that it may begin with."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self.skipped = 0
        self.takes_ctx = self.names[:1] == ["ctx"]
        if self.takes_ctx and self.signature is not None:
            self.names = self.names[1:]
            self.signature = self.signature.replace(parameters=list(self.signature.parameters.values())[1:])


class Arguments:
    """The arguments of a call with its tensors taken out.

    Attributes
    ----------
    tensors : list
        The tensors, in order.
    positions : int
        How many arguments are given by position; only through those a gradient flows.
    """

    def __init__(self, signature: CallSignature, args: tuple[Any, ...], kwargs: dict[str, Any], is_tensor: Callable[[Any], bool]) -> None:
        self.signature, self.positions, self.words = signature, len(args), tuple(kwargs)
        named = [(signature.name_at(position), value) for position, value in enumerate(args)]
        self.node: FlatTree | None = flatten_named([*named, *kwargs.items()])
        self.leaves = list(self.node.leaves)
        self._split(is_tensor)

    @classmethod
    def flat(cls, signature: CallSignature, args: tuple[Any, ...], slots: list[int]) -> Arguments:
        """Return those of a call without keywords and trees, whose tensors are at `slots`."""
        made = cls.__new__(cls)
        made.signature, made.positions, made.words, made.node = signature, len(args), (), None
        made.leaves, made.slots = list(args), slots
        made.tensors = [args[slot] for slot in slots]
        for slot in slots:  # torch owns their lifetime: a reference here would extend it
            made.leaves[slot] = None
        return made

    def _split(self, is_tensor: Callable[[Any], bool]) -> None:
        self.slots = [slot for slot, leaf in enumerate(self.leaves) if is_tensor(leaf)]
        self.tensors = [self.leaves[slot] for slot in self.slots]
        for slot in self.slots:
            self.leaves[slot] = None

    def emptied(self) -> Arguments:
        """Return the arguments without their tensors, which trees hold too: residuals must not extend the lifetime of tensors."""
        if self.node is None:
            made = copy(self)
        else:
            args, kwargs = self.filled([_TENSOR] * len(self.slots))
            made = Arguments(self.signature, args, kwargs, lambda leaf: leaf is _TENSOR)
        made.tensors = []
        return made

    def names(self) -> list[str]:
        """Return what the tensors are called in messages: ``x``, ``weights['a']``."""
        if self.node is None:
            return [self.signature.name_at(slot) for slot in self.slots]
        paths = list(self.node.paths(""))
        return [paths[slot] for slot in self.slots]

    def by_keyword(self) -> list[bool]:
        """Return which of the tensors are in arguments by keyword."""
        names = [path.partition(".")[0].partition("[")[0] for path in self.names()]
        return [name in self.words for name in names]

    def filled(self, values: Sequence[Any], rest: Any = ...) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with other values for the tensors, and with `rest`, if given, for all else."""
        leaves = list(self.leaves) if rest is ... else [rest] * len(self.leaves)
        for slot, value in zip(self.slots, values, strict=True):
            leaves[slot] = value
        made = leaves if self.node is None else self.node.unflatten(leaves)
        return tuple(made[: self.positions]), dict(zip(self.words, made[self.positions :], strict=True))

    def gradients(self, given: Any, name: str) -> list[Any]:
        """Return the gradient for each tensor, None without one, of what a rule returned for all arguments by position."""
        grads = given if isinstance(given, tuple) else (given,)
        while len(grads) > self.positions and grads[-1] is None:  # of an argument that was left to its default
            grads = grads[:-1]
        if len(grads) != self.positions:
            takes = f"{self.positions} argument{'s' if self.positions != 1 else ''}"
            whole = " A tuple of gradients for one argument stands in another: return ((a, b),)." if self.positions == 1 else ""
            message = f"{name} returned {len(grads)} gradients, and its function got {takes}"
            raise TypeError(f"{message}: return one for each, None where there is none.{whole}")
        if self.node is None:
            extra = [slot for slot, grad in enumerate(grads) if grad is not None and slot not in self.slots]
            if extra:
                raise TypeError(f"{name} returned a gradient for {self.signature.name_at(extra[0])!r}, which is no tensor: return None.")
            return [grads[slot] for slot in self.slots]
        return self._in_trees(grads, name)

    def _in_trees(self, grads: tuple[Any, ...], name: str) -> list[Any]:
        found: dict[str, Any] = {}
        for position, grad in enumerate(grads):
            node = flatten(grad)
            found |= zip(node.paths(self.signature.name_at(position)), node.leaves, strict=True)
        names = self.names()
        if extra := found.keys() - set(names):
            raise TypeError(
                f"{name} returned a gradient at {min(extra)}, where its function got no tensor: the tree has to be that of the argument."
            )
        return [found.get(path) for path in names]


class Results:
    """What a function returned, with its arrays taken out: an array, a tuple of arrays, or trees.

    Attributes
    ----------
    arrays : list
        The arrays, in order.
    """

    def __init__(self, result: Any, name: str) -> None:
        self.single = type(result) is not tuple
        values = (result,) if self.single else result
        self.node: FlatTree | None = None
        if not all(map(is_array, values)):
            self.node = flatten(values)
            values = self.node.leaves
        self.leaves = list(values)
        self.slots = [slot for slot, leaf in enumerate(values) if _is_result(leaf, name)]
        self.arrays = [values[slot] for slot in self.slots]
        for slot in self.slots:
            self.leaves[slot] = None
        if self.node is not None:  # of the form only: the tree's own parts hold the arrays
            form = [_TENSOR if slot in self.slots else leaf for slot, leaf in enumerate(self.leaves)]
            self.node = flatten(tuple(self.node.unflatten(form)))

    @classmethod
    def flat(cls, count: int, *, single: bool) -> Results:
        """Return the form of a single array, or of a tuple of so many."""
        made = cls.__new__(cls)
        made.single, made.node, made.leaves, made.slots, made.arrays = single, None, [None] * count, list(range(count)), []
        return made

    def filled(self, values: Sequence[Any], rest: Any = ...) -> Any:
        """Return the result with other values for its arrays, and with `rest`, if given, for all else."""
        made = self.spread(values, rest)
        return made[0] if self.single else made

    def spread(self, values: Sequence[Any], rest: Any = ...) -> tuple[Any, ...]:
        """Return the same as a tuple, also of a single result."""
        leaves = list(self.leaves) if rest is ... else [rest] * len(self.leaves)
        for slot, value in zip(self.slots, values, strict=True):
            leaves[slot] = value
        return tuple(leaves) if self.node is None else tuple(self.node.unflatten(leaves))

    def tangents(self, given: Any, name: str) -> list[Any]:
        """Return the tangent for each array, None without one, of what a rule returned for all results."""
        made = (given,) if self.single else given
        if self.node is not None:
            node = flatten(tuple(made) if isinstance(made, tuple) else (made,))
            found = dict(zip(node.paths(""), node.leaves, strict=True))
            paths = list(self.node.paths(""))
            return [found.get(paths[slot]) for slot in self.slots]
        if not isinstance(made, tuple) or len(made) != len(self.leaves):
            count = len(made) if isinstance(made, tuple) else 1
            hint = "Return a tangent for each result, None where there is none."
            raise GradError(f"{name} returned {count} tangents for {len(self.leaves)} outputs.", hint=hint)
        return [made[slot] for slot in self.slots]

    def names(self) -> list[str]:
        """Return what the arrays are called in messages."""
        root = "the result"
        if self.node is None:
            return [root] if self.single else [f"{root}[{slot}]" for slot in self.slots]
        paths = list(self.node.paths(root))
        return [paths[slot].replace(f"{root}[0]", root, 1) if self.single else paths[slot] for slot in self.slots]


def _is_result(leaf: Any, name: str) -> bool:
    """Return whether a leaf of a result is an array; refuses what would have a gradient and cannot carry it."""
    if is_array(leaf):
        return True
    if isinstance(leaf, float | complex):
        kind = type(leaf).__name__
        hint = "Return an array of no axes instead, as in numpy.asarray(value)."
        raise UnsupportedTypeError(f"{name} returned a Python {kind}, which no gradient can flow through.", hint=hint)
    if id(type(leaf)) in PLAIN or isinstance(leaf, int | str):
        return False
    raise not_an_array(leaf, name, "arrays")


def not_an_array(leaf: Any, name: str, wanted: str) -> UnsupportedTypeError:
    """Return the error for a result that is none of the `wanted` ones."""
    return UnsupportedTypeError(f"{name} returned a {type_name(leaf)}, not {wanted}.", hint=f"Return {wanted}, or trees of them.")


def taken(signature: CallSignature, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: frozenset[int]) -> Arguments:
    """Return the arguments of a call, flattened; `tensors` are the types that are met most often, by their ids (`PLAIN`).

    What can be given by position counts as given so. Defaults do not count: library functions have many.
    """
    if kwargs and signature.signature is not None:
        args, kwargs = _by_position(signature.signature.bind(*args, **kwargs))
    if not kwargs:
        kinds = [id(type(one)) for one in args]
        slots = [slot for slot, kind in enumerate(kinds) if kind in tensors]
        if len(slots) == len(kinds) or all(kind in tensors or kind in PLAIN for kind in kinds):
            return Arguments.flat(signature, args, slots)
    return Arguments(signature, args, kwargs, is_tensor)


def _by_position(bound: inspect.BoundArguments) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments, those that may be given by position so: before the last of them, defaults count as given."""
    parameters = list(bound.signature.parameters.values())
    last = max(
        (at for at, one in enumerate(parameters) if one.name in bound.arguments and one.kind is one.POSITIONAL_OR_KEYWORD), default=-1
    )
    for one in parameters[:last]:
        if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) and one.default is not one.empty:
            bound.arguments.setdefault(one.name, one.default)
    bound.arguments = {one.name: bound.arguments[one.name] for one in parameters if one.name in bound.arguments}
    return bound.args, bound.kwargs


def is_tensor(leaf: Any) -> bool:
    """Whether a leaf is an array of torch's."""
    return is_array(leaf) and find_backend(leaf).name == "torch"
