"""The schema of an operator, from the annotations of a function: what `torch.library.infer_schema` does, for arrays of any library.

It cannot be called for this: it wants every argument annotated, and tensors as `torch.Tensor`, and it takes no lists as defaults, no
complex numbers and no positional-only arguments (torch/_library/infer_schema.py). Here what is no number is a tensor, since that
is all that a wrapped function is differentiated by; and names that exist for type checkers only are arrays, since most are.
"""

from __future__ import annotations

import builtins
import collections.abc
import dataclasses
import inspect
import json
import types
import typing
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from interop.errors import UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interop._model.call_signature import CallSignature

_NUMBERS = {float: "float", int: "SymInt", bool: "bool", str: "str", complex: "Scalar"}
_TORCH = {"dtype": "ScalarType", "device": "Device"}
_LISTS = (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_NONE = type(None)
_TREES = (dict, tuple, set, frozenset, collections.abc.Mapping, _NONE)
_EMPTY = inspect.Parameter.empty


def inferred(signature: CallSignature, function: Any) -> tuple[str, bool]:
    """Return the schema of a function, and whether it returns one tensor, and not a tuple.

    Raises
    ------
    UnsupportedTypeError
        For what a schema cannot hold; the text names the parameter.
    """
    if signature.signature is None:
        raise UnsupportedTypeError(
            f"{signature.name} has no signature to infer a schema from.", hint='Give one: schema="(Tensor x) -> Tensor".'
        )
    inference = _Inference(signature.name, signature.signature, function)
    arguments = [inference.argument(one) for one in signature.signature.parameters.values()]
    returns, single = inference.returns()
    return f"({', '.join(arguments)}) -> {returns}", single


def needed(signature: inspect.Signature) -> list[str]:
    """Return the parameters without a default."""
    every = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one.name for one in signature.parameters.values() if one.default is one.empty and one.kind not in every]


class _Arrays(type):
    """The type of `_Array`: its attributes are arrays too."""

    def __getattr__(cls, name: str) -> type[_Array]:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Array


class _Array(metaclass=_Arrays):
    """In the place of a name that cannot be found: an array, with or without attributes and parameters."""

    def __class_getitem__(cls, _: Any) -> type[_Array]:
        return cls


class _Names(collections.ChainMap[str, Any]):
    """The names that annotations as text are read with."""

    def __missing__(self, _: str) -> type[_Array]:
        return _Array


class _Inference:
    """The schema of one function, inferred."""

    def __init__(self, name: str, signature: inspect.Signature, function: Any) -> None:
        self.name, self.signature = name, signature
        self.names = _Names(getattr(inspect.unwrap(function), "__globals__", {}), vars(builtins))

    def argument(self, parameter: inspect.Parameter) -> str:
        """Return what a parameter is in the schema."""
        name, default = parameter.name, parameter.default
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            self.refuse(f"{parameter} can be any number of arguments", "Take a list of arrays: list[np.ndarray].")
        word = _of_default(default) if parameter.annotation is _EMPTY else self.word(parameter.annotation, name)
        if parameter.kind is parameter.KEYWORD_ONLY and word.startswith("Tensor"):
            self.refuse(f"{name!r} is an array by keyword only, which no gradient flows through", "Let it be given by position.")
        if default is _EMPTY:
            return f"{word} {name}"
        if default is not None and word.startswith("Tensor"):
            self.refuse(
                f"the default of {name!r} is {default!r}, and an array has no other default than None", "Annotate it, as in: float."
            )
        if default is None and not word.endswith("?"):
            word += "?"
        return f"{word} {name}={_spelled(default, word)}"

    def returns(self) -> tuple[str, bool]:
        """Return what the function returns, and whether that is one tensor."""
        annotation = self.read(self.signature.return_annotation)
        if annotation is _EMPTY:
            return "Tensor", True
        if typing.get_origin(annotation) is tuple and (members := typing.get_args(annotation)):
            if ... in members:
                self.refuse("a tuple of any length is returned", "Say how many arrays: tuple[np.ndarray, np.ndarray].")
            words = [self.word(member, "the result") for member in members]
        else:
            words = [self.word(annotation, "the result")]
        if set(words) != {"Tensor"}:
            self.refuse(f"what is returned is {', '.join(words)}", "Return arrays, a number as one of no axes: np.asarray(value).")
        return (words[0] if len(words) == 1 else f"({', '.join(words)})"), typing.get_origin(annotation) is not tuple

    def word(self, annotation: Any, name: str) -> str:
        """Return an annotation as schemas write it."""
        annotation = self.read(annotation)
        origin, members = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is typing.Annotated:
            return self.word(members[0], name)
        if origin in (typing.Union, types.UnionType):
            return self.union(members, name)
        if origin is Literal:
            return self.union([type(one) for one in members], name)
        if (origin or annotation) in _LISTS:
            return self.listed(members, name)
        if _is_tree(origin or annotation):
            kind = getattr(annotation, "__name__", str(annotation))
            self.refuse(f"{name if ' ' in name else repr(name)} is a {kind}", "Take and return arrays one by one, or lists of them.")
        if getattr(annotation, "__module__", None) == "torch":
            return _TORCH.get(annotation.__name__, "Tensor")
        return _NUMBERS.get(annotation, "Tensor")

    def union(self, members: Sequence[Any], name: str) -> str:
        words = {self.word(one, name) for one in members if one is not _NONE}
        if len(words) > 1 and not words <= {"float", "SymInt", "bool", "Scalar"}:
            self.refuse(f"{name!r} can be {' or '.join(sorted(words))}", "Let it be one of them.")
        word = words.pop() if len(words) == 1 else "Scalar"
        return f"{word}?" if _NONE in members and not word.endswith("?") else word

    def listed(self, members: Sequence[Any], name: str) -> str:
        if len(members) != 1:
            self.refuse(f"{name!r} is a list of unknown elements", "Annotate it, as in: list[float], list[np.ndarray].")
        word = self.word(members[0], name)
        if word == "str" or word[-1] in "?]":
            self.refuse(f"{name!r} is a list of {word}", "A list holds arrays or numbers, without gaps.")
        return f"{word}[]"

    def read(self, annotation: Any) -> Any:
        """Return an annotation, evaluated where it is text."""
        if isinstance(annotation, typing.ForwardRef):
            annotation = annotation.__forward_arg__
        # eval is what typing.get_type_hints does; that one fails at a name that is there for type checkers only.
        return eval(annotation, {}, self.names) if isinstance(annotation, str) else annotation  # noqa: S307 - see above

    def refuse(self, what: str, hint: str) -> NoReturn:
        raise UnsupportedTypeError(f"{self.name} cannot be an operator: {what}.", hint=hint)


def _is_tree(kind: Any) -> bool:
    return kind is None or (isinstance(kind, type) and (dataclasses.is_dataclass(kind) or issubclass(kind, _TREES)))


def _of_default(default: Any) -> str:
    """Return what an argument is that is not annotated."""
    if isinstance(default, list | tuple) and default and type(default[0]) in _NUMBERS:
        return f"{_NUMBERS[type(default[0])]}[]"
    return _NUMBERS.get(type(default), "Tensor")


def _spelled(default: Any, word: str) -> str:
    """Return a default as schemas write it."""
    if isinstance(default, str):
        return json.dumps(default)
    if isinstance(default, list | tuple):
        return f"[{', '.join(_spelled(one, word) for one in default)}]"
    if word.startswith("float") and default is not None:
        return repr(float(default))
    return repr(default)
