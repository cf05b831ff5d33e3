"""Neutral functions and streams given objects whose metaclass has an equality, a hash or a module of its own: none of these is asked."""

import dataclasses
import sys

import numpy as np
import pytest
import torch

import interop
from interop import neutral
from interop._model.spelling import module_of, type_name
from interop._neutral import decorator as decorate
from interop.autograd import wrap
from interop.dlpack import stream_number


@dataclasses.dataclass
class Options:
    value: object


def fails(*_):
    raise ZeroDivisionError


def hash_of(claimed):
    return lambda cls: hash(claimed)


HOSTILE = {
    "lies": lambda claimed: {"__hash__": hash_of(claimed), "__eq__": lambda cls, other: other is claimed or other is cls},
    "equals everything": lambda claimed: {
        "__hash__": hash_of(claimed),
        "__eq__": lambda cls, other: True,
        "__ne__": lambda cls, other: False,
    },
    "has no hash": lambda claimed: {"__hash__": None, "__eq__": lambda cls, other: other is claimed},
    "raises when compared": lambda claimed: {"__hash__": hash_of(claimed), "__eq__": fails},
    "has a hash that raises": lambda claimed: {"__hash__": fails, "__eq__": fails},
    "has a module that raises": lambda claimed: {"__module__": property(fails)},
}


def metaclass(how, claimed):
    """Return a metaclass that claims to be another class, or raises where it is asked."""
    return type("Meta", (type,), HOSTILE[how](claimed))


HOWS = list(HOSTILE)
CLAIMED = [np.ndarray, torch.Tensor, tuple, list, dict, int, np.float64, Options]
CASES = pytest.mark.parametrize(("how", "claimed"), [(how, claimed) for how in HOWS[:-1] for claimed in CLAIMED] + [(HOWS[-1], None)])


@pytest.fixture(params=[False, True], ids=["found nowhere", "found in its module"])
def odd(how, claimed, request, monkeypatch):
    made = metaclass(how, claimed)("Odd", (), {"__slots__": (), "__module__": __name__, "__qualname__": "Odd"})
    if request.param:  # only such a type is learnt
        monkeypatch.setattr(sys.modules[__name__], "Odd", made, raising=False)
    yield made()
    decorate._kinds.pop(id(made), None)  # `monkeypatch` takes it out of its module


def given(x, y=None, *rest, k=None):
    return x, y, rest, k


def given_with_xp(x, y=None, *rest, k=None, xp=None):
    assert xp.__name__.startswith("array_api_compat.")
    return x, y, rest, k


@CASES
@pytest.mark.parametrize(
    "words",
    [
        {},
        {"like": "first"},
        {"to": "numpy"},
        {"to": "torch"},
        {"runs_on": "numpy"},
        {"runs_on": "torch"},
        {"runs_on": "numpy", "grad": "bridge"},
    ],
    ids=str,
)
def test_it_comes_through_every_neutral_function(odd, words):
    x = np.ones(2)
    library = words.get("to", "numpy")
    for function in (given, given_with_xp):
        made = neutral(**words)(function) if words else neutral(function)
        for _ in range(2):  # the second call takes the fast path, where there is one
            for found in (
                made(x, odd)[:2],
                made(odd, x)[1::-1],
                (made(x, k=odd)[0], made(x, k=odd)[3]),
                (made(x, 1, odd)[0], made(x, 1, odd)[2][0]),
            ):
                assert type(found[0]).__module__ == library
                assert found[1] is odd
            for tree, inside in (
                ([odd], lambda t: t[0]),
                ((1, odd), lambda t: t[1]),
                ({"a": odd}, lambda t: t["a"]),
                (Options(odd), lambda t: t.value),
            ):
                assert inside(made(x, tree)[1]) is odd
            both = made([x, odd])[0]
            assert type(both[0]).__module__ == library
            assert both[1] is odd
        # The negative control: what it claims to be is still known for what it is.
        assert type(made(x, [1, 2], k=(3,))[0]).__module__ == library
        if not words.keys() & {"like", "to"}:
            with pytest.raises(interop.MixedBackendsError):
                made(x, torch.ones(2))


@CASES
def test_it_comes_through_the_bridge_where_autograd_tracks_an_argument(odd):
    seen = []

    @neutral(runs_on="numpy", grad="bridge")
    def double(x, y=None):
        seen.append(y)
        return x * 2

    @double.backward
    def _(ctx, grad):
        return 2 * grad, None

    x = torch.ones(2, requires_grad=True)
    for y in (odd, [odd]):
        double(x, y).sum().backward()
    assert seen[0] is odd
    assert seen[1][0] is odd
    assert x.grad.tolist() == [4.0, 4.0]


@CASES
def test_it_comes_through_what_is_wrapped_and_its_results_are_refused_by_name(odd):
    double = wrap(lambda x, y: x * 2, runs_on="numpy")
    double.backward(lambda ctx, grad: (2 * grad, None))
    assert double(torch.ones(2), odd).tolist() == double(torch.ones(2), y=odd).tolist() == [2.0, 2.0]
    with pytest.raises(interop.InteropError, match="Odd"):
        wrap(lambda x: odd, runs_on="numpy")(torch.ones(2))


@CASES
def test_it_is_no_stream(odd):
    with pytest.raises(interop.StreamError, match="is not a stream"):
        stream_number(odd)
    with pytest.raises(interop.StreamError):
        interop.to_torch(np.ones(2), stream=odd)
    assert not interop.explain(np.ones(2), "torch", stream=odd).ok
    assert [stream_number(number) for number in (1, np.int64(4711), -1)] == [1, 4711, -1]  # the negative control


@CASES
def test_verbs_refuse_it_by_name(odd):
    for verb in (interop.to_torch, interop.to_numpy, interop.describe, lambda x: interop.convert(np.ones(2), like=x)):
        with pytest.raises(interop.InteropError, match="Odd"):
            verb(odd)
    for words in ({"to": odd}, {"like": odd}, {"runs_on": odd}):
        with pytest.raises(TypeError):
            neutral(**words)(given)
    assert type_name(odd) == f"{__name__}.Odd"


@CASES
def test_a_sequence_of_it_is_refused_with_a_hint(odd):
    for x in ([odd], (odd, 1), [[1, odd], [2, 3]], [np.ones(1), odd]):
        with pytest.raises(interop.UnsupportedTypeError) as caught:
            interop.to_numpy(x)
        assert ("tree.convert" in caught.value.hint) == (type(x[0]) is np.ndarray)


class OddInteger(int, metaclass=metaclass("has no hash", int)):
    pass


def test_an_integer_of_an_odd_class_is_a_stream_number():
    assert stream_number(OddInteger(4711)) == 4711


@pytest.mark.parametrize("claimed", CLAIMED)
@pytest.mark.parametrize("how", HOWS[:-1])
def test_an_array_of_an_odd_class_is_an_array(how, claimed):
    """Whatever it claims to be: it derives from NumPy's."""
    kind = metaclass(how, claimed)("OddArray", (np.ndarray,), {"__module__": __name__})
    x = np.ones(2).view(kind)
    assert neutral(given_with_xp)(x, np.ones(2))[0] is x
    assert neutral(to="torch")(given)([x])[0][0].tolist() == [1.0, 1.0]
    with pytest.raises(interop.MixedBackendsError):
        neutral(given)(x, torch.ones(2))


@pytest.mark.parametrize("module", [5, [], property(lambda self: 1 / 0)])
def test_a_class_that_names_no_module_is_called_by_its_own_name(module):
    kind = type("Nowhere", (), {"__module__": module})
    assert (module_of(kind), type_name(kind())) == ("", "Nowhere")
    with pytest.raises(interop.UnsupportedTypeError, match="Nowhere is not an array"):
        interop.to_numpy(kind())
    assert isinstance(neutral(given)(np.ones(2), kind())[1], kind)


def test_a_class_that_was_made_where_there_is_no_module():
    names = {"type": type}
    exec("made = type('Nowhere', (), {})", names)
    assert not hasattr(names["made"], "__module__")
    x = names["made"]()
    assert type_name(x) == "Nowhere"
    with pytest.raises(interop.UnsupportedTypeError, match="Nowhere is not an array"):
        interop.to_numpy(x)
    assert neutral(given)(np.ones(2), x)[1] is x
