"""Neutral functions given arrays of libraries that can be a source only: nothing can follow them, which is said before the function runs."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import interop
from interop import neutral
from interop.errors import GradError, MixedBackendsError, UnitsError, UnsupportedTypeError


class Producer:
    """An array of a library that only speaks DLPack."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **asked):
        return self.array.__dlpack__(**asked)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class Named(Producer):
    """One that has a namespace, as the standard says it."""

    def __array_namespace__(self, api_version=None):
        return np


class Quantity:
    """A wrapper that gives an array a unit."""

    def __init__(self, magnitude, units="m"):
        self.magnitude, self.units = magnitude, units

    def __array__(self, dtype=None, copy=None):
        return self.magnitude

    magnitude: Any = None
    units: Any = ""


MAKES = {
    "a producer": lambda: Producer(np.arange(3.0)),
    "a producer of read-only memory": lambda: Producer(np.broadcast_to(1.0, 3)),
    "Arrow's array": lambda: pa.array([0.0, 1.0, 2.0]),
    "Arrow's tensor": lambda: pa.Tensor.from_numpy(np.arange(3.0)),
    "a quantity": lambda: Quantity(np.arange(3.0)),
    "torch's in a quantity": lambda: Quantity(torch.arange(3.0)),
}
SOURCES = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
PLAIN = pytest.mark.parametrize("make", list(MAKES.values())[:4], ids=list(MAKES)[:4])


class Counted:
    """A function that must not run: it counts its calls."""

    def __init__(self, takes_xp=False):
        self.calls = []

        def plain(x, y=None):
            self.calls.append((x, y))
            return x

        def with_xp(x, y=None, *, xp=None):
            self.calls.append((x, y))
            return x

        self.function = with_xp if takes_xp else plain


def proposed(hint):
    """Return the keywords that a hint proposes for @neutral."""
    return eval(f"dict({hint.partition('let the function do it: ')[2].partition(' in ')[0]})")


@SOURCES
@pytest.mark.parametrize("where", [lambda x: x, lambda x: [x], lambda x: {"a": (1, x)}], ids=["itself", "in a list", "in a dict"])
@pytest.mark.parametrize("takes_xp", [False, True])
@pytest.mark.parametrize(
    "words",
    [
        {"runs_on": "numpy"},
        {"runs_on": "torch"},
        {"like": "first"},
        {"like": "x"},
        {"runs_on": "torch", "like": "x"},
        {"runs_on": "torch", "like": "y"},
        {"runs_on": "numpy", "grad": "bridge"},
    ],
    ids=str,
)
def test_nothing_follows_it_and_the_hint_works_to_the_letter(make, where, takes_xp, words):
    one = Counted(takes_xp)
    with pytest.raises(UnsupportedTypeError, match=r"\(\.\.\.\) cannot follow x.*, a .*source only") as caught:
        neutral(**words)(one.function)(where(make()))
    assert not one.calls
    hinted = proposed(caught.value.hint)
    library = words.get("runs_on", "numpy")
    assert hinted["to"] == library
    kept = {name: value for name, value in words.items() if name != "like"}
    (found,) = interop.tree.convert([neutral(**kept | hinted)(one.function)(where(make()))], library, others="keep")
    assert len(one.calls) == 1
    while not hasattr(found, "shape"):
        found = found[0] if isinstance(found, list) else found["a"][1]
    assert type(found).__module__ == library
    assert found.shape == (3,)


@PLAIN
@pytest.mark.parametrize("takes_xp", [False, True])
def test_a_plain_function_is_not_given_it(make, takes_xp):
    one = Counted(takes_xp)
    for _ in range(2):
        with pytest.raises(UnsupportedTypeError, match=r"\(\.\.\.\) cannot follow x, a .*source only") as caught:
            neutral(one.function)(make())
    assert not one.calls
    found = neutral(**proposed(caught.value.hint))(one.function)(make())
    assert type(found) is np.ndarray
    assert len(one.calls) == 1
    call = caught.value.hint.partition("Convert them first (")[2].partition("), or let")[0]
    assert type(neutral(one.function)(eval(call, {"interop": interop, "x": make()}))) is np.ndarray


def test_the_namespace_that_a_caller_gives_is_enough_and_so_is_one_of_its_own():
    one = Counted(takes_xp=True)
    x = Producer(np.arange(3.0))
    assert neutral(one.function)(x, xp=np) is x
    x = Named(np.arange(3.0))
    assert neutral(one.function)(x) is x
    with pytest.raises(UnsupportedTypeError, match="cannot follow y"):
        neutral(one.function)(x, Producer(np.arange(3.0)))


def test_a_wrapper_has_the_namespace_of_what_is_inside_each_time():
    @neutral
    def space(x, xp=None):
        return xp.__name__

    for _ in range(2):  # nothing is learnt of its type
        assert space(Quantity(np.ones(2))) == "array_api_compat.numpy"
        assert space(Quantity(torch.ones(2))) == "array_api_compat.torch"


def test_a_wrapper_without_an_array_beside_one_with_an_array():
    @neutral
    def space(x, xp=None):
        return xp.__name__

    assert space([Quantity("a name"), Quantity(torch.ones(2))]) == "array_api_compat.torch"
    assert space([Quantity(torch.ones(2)), Quantity("a name")]) == "array_api_compat.torch"


@SOURCES
@pytest.mark.parametrize("words", [{}, {"runs_on": "numpy"}, {"runs_on": "torch"}, {"runs_on": "numpy", "grad": "bridge"}], ids=str)
@pytest.mark.parametrize("swapped", [False, True])
def test_beside_an_array_of_another_library_each_is_named_and_the_hint_works(make, words, swapped):
    def pair(x, y):
        calls.append((x, y))
        return x, y

    calls = []
    arrays = (torch.ones(3), make())[:: -1 if swapped else 1]
    decorate = neutral(**words) if words else neutral
    with pytest.raises(MixedBackendsError, match=r"torch on cpu") as caught:
        decorate(pair)(*arrays)
    assert not calls
    assert "dlpack" not in str(caught.value)
    found = neutral(**words | proposed(caught.value.hint))(pair)(*arrays)
    assert [type(one) for one in found] == [torch.Tensor, torch.Tensor]


@SOURCES
@pytest.mark.parametrize("runs_on", [None, "numpy", "torch"])
def test_it_follows_an_array_of_another_library(make, runs_on):
    found = neutral(like="y", runs_on=runs_on, units="drop")(lambda x, y: x)(make(), torch.ones(3))
    assert type(found) is torch.Tensor
    assert found.shape == (3,)
    with pytest.raises(UnsupportedTypeError, match="cannot follow x") as caught:
        neutral(like="x", runs_on=runs_on, units="drop")(lambda x, y: x)(make(), torch.ones(3))
    assert "to='torch' in the place of like='x'" in caught.value.hint


def test_a_unit_is_asked_for_where_it_would_be_lost():
    calls = []
    with pytest.raises(UnitsError):
        neutral(to="numpy", runs_on="numpy")(calls.append)(Quantity(np.ones(2)))
    assert not calls


def test_where_autograd_tracks_a_tensor_it_cannot_be_followed_either():
    calls = []
    bridged = neutral(runs_on="numpy", grad="bridge", like="y")(lambda x, y: calls.append(x))
    with pytest.raises((UnsupportedTypeError, GradError)) as caught:
        bridged(torch.ones(2, requires_grad=True), Producer(np.ones(2)))
    assert not calls
    assert "to='torch' in the place of like='y'" in caught.value.hint


def test_what_no_library_can_take_gets_a_hint_without_keywords():
    names = pa.array(["a", "b"])
    with pytest.raises(UnsupportedTypeError) as caught:
        neutral(runs_on="numpy")(len)(names)
    assert caught.value.hint.startswith("Give arrays of one library, on one device. Not all of these can go to numpy: ")
