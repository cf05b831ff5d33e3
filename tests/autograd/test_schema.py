"""The schema of an operator, from annotations."""

from __future__ import annotations

import collections.abc  # noqa: TC003 - inferred from the annotations
import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np  # noqa: TC002 - as above
import pytest
import torch

from interop.autograd._arguments import FunctionSignature
from interop.autograd._torch.annotations import inferred
from interop.errors import UnsupportedTypeError

if TYPE_CHECKING:
    import nowhere
    from numpy.typing import NDArray


def bare(x, y):
    return x


def numbers(x, a: float, b: int, c: bool, d: str, e: complex):
    return x


def defaults(x, a: float = 1, b: int = -2, c: bool = True, d: str = 'a"b,', e: float | None = None):
    return x


def unannotated(x, bias=None, a=2.0, n=3, flag=False, mode="same", sizes=(1, 2)):
    return x


def lists(xs: list[np.ndarray], a: collections.abc.Sequence[float], n: list[int], flags: list[bool] | None = None):
    return xs


def unions(a: int | bool, x: np.ndarray | torch.Tensor, y: np.ndarray | None, z: NDArray[np.float64] | None = None):
    return x


def marked(x: Annotated[np.ndarray, "of floats"], mode: Literal["a", "b"] = "a", n: Literal[1, 2] = 1):
    return x


def for_checkers(x: nowhere.Array[int], y: NDArray[np.float64]) -> tuple[nowhere.Array[float], NDArray[Any]]:
    return x, y


def of_torch(x: torch.Tensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return x


def by_keyword(x, *, a: float = 1.0):
    return x


def one(x) -> tuple[np.ndarray]:
    return (x,)


SCHEMAS = {
    bare: "(Tensor x, Tensor y) -> Tensor",
    numbers: "(Tensor x, float a, SymInt b, bool c, str d, Scalar e) -> Tensor",
    defaults: '(Tensor x, float a=1.0, SymInt b=-2, bool c=True, str d="a\\"b,", float? e=None) -> Tensor',
    unannotated: '(Tensor x, Tensor? bias=None, float a=2.0, SymInt n=3, bool flag=False, str mode="same", SymInt[] sizes=[1, 2]) -> Tensor',
    lists: "(Tensor[] xs, float[] a, SymInt[] n, bool[]? flags=None) -> Tensor",
    unions: "(Scalar a, Tensor x, Tensor? y, Tensor? z=None) -> Tensor",
    marked: '(Tensor x, str mode="a", SymInt n=1) -> Tensor',
    for_checkers: "(Tensor x, Tensor y) -> (Tensor, Tensor)",
    of_torch: "(Tensor x, ScalarType dtype, Device device) -> Tensor",
    by_keyword: "(Tensor x, float a=1.0) -> Tensor",
    one: "(Tensor x) -> Tensor",
}


@pytest.mark.parametrize(("function", "schema"), SCHEMAS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_inferred(function, schema):
    found, single = inferred(FunctionSignature(function), function)
    assert found == schema
    assert single == (function not in (one, for_checkers))
    torch._C.parse_schema(f"a::b{found}")  # torch reads it


class Pair(NamedTuple):
    x: np.ndarray


@dataclasses.dataclass
class Weights:
    x: np.ndarray


def any_number(*xs):
    return xs


def any_word(x, **words):
    return x


def mapping(weights: dict[str, np.ndarray]):
    return weights


def dataclass(weights: Weights):
    return weights


def named(pair: Pair):
    return pair


def pair(x: tuple[np.ndarray, np.ndarray]):
    return x


def listless(x: list):
    return x


def gaps(x: list[np.ndarray | None]):
    return x


def either(x: np.ndarray | float):
    return x


def keyword(x, *, y: np.ndarray):
    return x


def array_default(x, y: np.ndarray = 1.0):
    return x


def returns_mapping(x) -> dict[str, np.ndarray]:
    return x


def returns_number(x) -> tuple[np.ndarray, float]:
    return x


def returns_some(x) -> tuple[np.ndarray, ...]:
    return x


def returns_list(x) -> list[np.ndarray]:
    return x


def returns_none(x) -> None:
    return x


def returns_maybe(x) -> np.ndarray | None:
    return x


REFUSED = {
    any_number: "any number of arguments",
    any_word: "any number of arguments",
    mapping: "'weights' is a dict",
    dataclass: "'weights' is a Weights",
    named: "'pair' is a Pair",
    pair: "'x' is a tuple",
    listless: "'x' is a list of unknown elements",
    gaps: "'x' is a list of Tensor?",
    either: "'x' can be Tensor or float",
    keyword: "'y' is an array by keyword only",
    array_default: "the default of 'y' is 1.0",
    returns_mapping: "the result is a dict",
    returns_number: "what is returned is Tensor, float",
    returns_some: "a tuple of any length",
    returns_list: r"what is returned is Tensor\[\]",
    returns_none: "the result is a None",
    returns_maybe: r"what is returned is Tensor\?",
}


@pytest.mark.parametrize(("function", "text"), REFUSED.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_what_a_schema_cannot_hold(function, text):
    with pytest.raises(UnsupportedTypeError, match=f"^{function.__name__} cannot be an operator: .*{text}"):
        inferred(FunctionSignature(function), function)


def test_a_function_without_a_signature_needs_a_schema():
    function = dict.pop
    assert FunctionSignature(function).signature is None
    with pytest.raises(UnsupportedTypeError, match="has no signature"):
        inferred(FunctionSignature(function), function)
