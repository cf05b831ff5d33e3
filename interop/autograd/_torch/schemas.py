"""Schemas of operators, as torch reads them: what goes in, how many tensors come out, and the schema of the backward rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WORDS = {
    "TensorType": "Tensor",
    "SymIntType": "SymInt",
    "IntType": "int",
    "FloatType": "float",
    "BoolType": "bool",
    "StringType": "str",
    "NumberType": "Scalar",
    "ScalarTypeType": "ScalarType",
    "DeviceObjType": "Device",
}


class OperatorSchema:
    """The schema of an operator: its arguments, and how many tensors it returns.

    Attributes
    ----------
    names : list of str
        The names of the arguments.
    count : int
        How many tensors it returns.
    numbers : frozenset of str
        The arguments that are no tensors.
    """

    def __init__(self, operator: str, schema: str) -> None:
        self.operator, self.text = operator, schema
        try:
            parsed = torch._C.parse_schema(f"{operator}{schema}")
        except RuntimeError as error:
            raise ValueError(f"{operator}: {schema!r} is no schema of torch's: {' '.join(str(error).split())}") from None
        self._arguments, returns = parsed.arguments, parsed.returns
        self._check(returns)
        self.names, self.count = [one.name for one in self._arguments], len(returns)
        self.numbers = frozenset(one.name for one in self._arguments if not _word(one.real_type).startswith("Tensor"))

    def _check(self, returns: Sequence[Any]) -> None:
        if any(one.alias_info is not None for one in (*self._arguments, *returns)):
            raise ValueError(f"{self.operator}: by {self.text!r} an argument is written to, or is part of a result; neither can be.")
        if any(one.kwarg_only for one in self._arguments):
            raise ValueError(f"{self.operator}: leave the * out of {self.text!r}. What is given by keyword only is found by its name.")
        if not returns or any(_word(one.real_type) != "Tensor" for one in returns):
            raise ValueError(f"{self.operator}: {self.text!r} has to return tensors, the same number in every call: -> (Tensor, Tensor).")
        if odd := [one.name for one in self._arguments if _word(one.real_type).startswith("Tensor?[")]:
            raise ValueError(f"{self.operator}: {odd[0]!r} in {self.text!r} is a list with gaps, which no gradient flows through.")

    def filled(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> list[Any]:
        """Return all arguments: torch leaves those out that are at the end and as by default."""
        if not kwargs and len(args) == len(self._arguments):
            return list(args)
        whole, left = list(args), dict(kwargs or {})
        for one in self._arguments[len(args) :]:
            if one.name not in left and not one.has_default_value():
                raise TypeError(f"{self.operator}{self.text} got no argument {one.name!r}.")
            whole.append(left.pop(one.name, one.default_value))
        if left or len(whole) > len(self._arguments):
            raise TypeError(f"{self.operator}{self.text} got more arguments: {', '.join(left) or len(whole)}.")
        return whole

    def backward(self) -> str:
        """Return the schema of the rule: gradients, results, which tensors need a gradient, and the arguments."""

        def free(name: str) -> str:
            return free(f"{name}_") if name in self.names else name

        own = [f"Tensor? {free(f'{what}_{at}')}" for what in ("grad", "result") for at in range(self.count)]
        needs = f"bool[] {free('needs')}"
        given = [f"{_word(one.real_type)} {one.name}" for one in self._arguments]
        return f"({', '.join([*own, needs, *given])}) -> Tensor[]"


def _word(kind: Any) -> str:
    """Return a type as schemas write it; torch prints ``SymInt[]`` as ``List[int]``."""
    name = kind.kind()
    if name in ("ListType", "OptionalType"):
        return _word(kind.getElementType()) + ("[]" if name == "ListType" else "?")
    if name not in _WORDS:
        raise ValueError(f"{kind} is no type for an argument here; there are {', '.join(_WORDS.values())}, lists of them, and with a ?.")
    return _WORDS[name]
