"""Units: numbers that mean something only with their unit are not handed on without it, unless that is permitted by name."""

import dataclasses

import numpy as np
import pytest
import torch

from interop import (
    InteropError,
    UnitsError,
    UnsupportedTypeError,
    convert,
    describe,
    explain,
    guard,
    neutral,
    shares_memory,
    to_numpy,
    to_torch,
    tree,
)
from interop.backends import is_array
from interop.backends.units import unit_of
from tests.producer import Producer


class Measured(np.ndarray):
    """An ndarray with a unit, as those of astropy and unyt are."""

    unit = "km"


class Wrapper:
    """An array of any library with a unit, as pint's are."""

    def __init__(self, magnitude, units="km"):
        self._magnitude, self._units = magnitude, units

    magnitude = property(lambda self: self._magnitude)
    units = property(lambda self: self._units)


@dataclasses.dataclass
class Record:
    """A wrapper without properties, which refuses to export itself, as unxt's does."""

    value: object
    unit: str = "km"

    def __dlpack__(self, **asked):
        raise NotImplementedError

    def __dlpack_device__(self):
        return (1, 0)


class Exporting:
    """An array of another library that exports itself, without the unit that it has."""

    unit = "km"

    def __dlpack__(self, **asked):
        return VALUES.__dlpack__(**asked)

    def __dlpack_device__(self):
        return (1, 0)


VALUES = np.arange(3.0)
MADE_UP = {
    "subclass": lambda: VALUES.view(Measured),
    "wrapped array": lambda: Wrapper(VALUES),
    "wrapped subclass": lambda: Wrapper(np.ma.array(VALUES)),
    "wrapped tensor": lambda: Wrapper(torch.from_numpy(VALUES)),
    "wrapped in a dataclass": lambda: Record(VALUES),
    "producer": Exporting,
}


@pytest.mark.parametrize("make", MADE_UP.values(), ids=MADE_UP)
@pytest.mark.parametrize("to", ["torch", "array_api_strict", "jax"])
def test_a_unit_is_not_dropped_unasked(make, to):
    x = make()
    assert describe(x).units == "km"
    assert "in units of km" in str(describe(x))
    plan = explain(x, to, dtype="float32")
    assert plan.permissions == {"units": "drop"}
    with pytest.raises(UnitsError, match="km") as caught:
        convert(x, to, dtype="float32")
    assert caught.value.permissions == {"units": "drop"}
    result = convert(x, to, dtype="float32", units="drop")
    assert to_numpy(result).tolist() == VALUES.tolist()
    assert to_numpy(convert(x, to, policy="coerce", dtype="float32")).tolist() == VALUES.tolist()


@pytest.mark.parametrize("make", MADE_UP.values(), ids=MADE_UP)
def test_the_stored_numbers_are_shared_and_the_source_is_as_it_was(make):
    x = make()
    before = dict(vars(x)) if hasattr(x, "__dict__") else {}
    result = to_torch(x, units="drop")
    assert shares_memory(result, VALUES)
    assert shares_memory(x, VALUES)
    assert (dict(vars(x)) if hasattr(x, "__dict__") else {}) == before
    assert describe(x).units == "km"


def test_within_numpy_the_array_keeps_its_unit():
    x = VALUES.view(Measured)
    assert to_numpy(x) is x
    with pytest.raises(UnitsError):
        to_numpy(Wrapper(VALUES))


@pytest.mark.parametrize("unit", [None, "", "1", "dimensionless", lambda: "m"])
def test_without_a_unit_it_is_an_array(unit):
    x = VALUES.view(type("Plain", (np.ndarray,), {"unit": unit}))
    assert not describe(x).units
    assert shares_memory(to_torch(x), VALUES)


class Unreadable:
    def __str__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize("unit", [property(lambda self: 1 / 0), Unreadable()])
def test_a_unit_that_cannot_be_read_is_refused_too(unit):
    x = VALUES.view(type("Odd", (np.ndarray,), {"unit": unit}))
    assert "cannot be read" in str(explain(x, "torch"))
    assert to_torch(x, units="drop").tolist() == VALUES.tolist()


@pytest.mark.parametrize("error", [MemoryError, RecursionError])
def test_what_is_not_about_the_unit_passes(error):
    def lost(self):
        raise error("lost")

    worded = type("Unit", (), {"__str__": lost})()
    for x in (VALUES.view(type("Odd", (np.ndarray,), {"unit": property(lost)})), type("Odd", (Exporting,), {"unit": worded})()):
        for act in (describe, to_torch, lambda x: explain(x, "torch"), lambda x: to_torch(x, units="drop")):
            with pytest.raises(error, match="lost"):
                act(x)


def test_in_trees_and_beside_arrays_without_a_unit():
    with pytest.raises(UnitsError, match="length"):
        tree.convert({"x": np.ones(2), "length": Wrapper(VALUES)}, "torch")
    made = tree.convert({"x": np.ones(2), "length": VALUES.view(Measured)}, "torch", units="drop")
    assert made["length"].tolist() == VALUES.tolist()


@pytest.mark.parametrize("make", MADE_UP.values(), ids=MADE_UP)
def test_metres_and_kilometres_are_not_added(make):
    add = neutral(like="first")(lambda a, b: a + b)
    with pytest.raises(UnitsError):
        add(torch.ones(3), make())
    dropping = neutral(like="first", units="drop")(lambda a, b: a + b)
    assert dropping(torch.ones(3), make()).tolist() == [1, 2, 3]
    with pytest.raises(InteropError):
        neutral(lambda a, b: a + b)(torch.ones(3), make())


def test_whether_a_wrapper_is_an_array_is_asked_each_time():
    assert not is_array(Wrapper(3.0))
    assert is_array(Wrapper(VALUES))
    with pytest.raises(UnsupportedTypeError):
        to_numpy(Wrapper([1.0, "m"]))
    assert to_numpy(Wrapper(torch.ones(2)), units="drop").tolist() == [1, 1]
    assert to_numpy(Wrapper(VALUES, "")) is not None


def test_whatever_else_is_true_of_what_is_inside_is_still_true():
    masked = Wrapper(np.ma.array(VALUES, mask=[0, 1, 0]))
    assert describe(masked).masked
    assert explain(masked, "torch").permissions == {"mask": "drop", "units": "drop"}
    tracked = Wrapper(torch.ones(2, requires_grad=True))
    assert explain(tracked, "numpy").permissions == {"grad": "detach", "units": "drop"}
    assert not to_numpy(Wrapper(VALUES[::-1]), units="drop").flags.owndata
    turned = Wrapper(torch.ones(2, dtype=torch.complex64).conj())
    assert to_numpy(turned, units="drop").dtype == "complex64"
    assert explain(describe(turned), "numpy").permissions == {"units": "drop"}


def test_a_wrapper_around_the_targets_own_array_stays_in_its_graph():
    x = torch.ones(3, requires_grad=True)
    assert explain(Wrapper(x), "torch").permissions == {"units": "drop"}
    with pytest.raises(UnitsError):
        to_torch(Wrapper(x))
    assert to_torch(Wrapper(x), units="drop") is x
    assert to_torch(Wrapper(x, "")) is x  # a mere number needs no word
    assert explain(Wrapper(x), "torch", units="drop").shares_memory
    for keywords in ({"copy": True}, {"dtype": "float64"}, {"policy": "coerce", "copy": True}):
        result = to_torch(Wrapper(x), **{"units": "drop"} | keywords)
        assert result.grad_fn is not None
        assert not shares_memory(result, x)
    with guard(grads="error", copies="error"):
        assert to_torch(Wrapper(x), units="drop") is x
    assert tree.convert([Wrapper(x), x], "torch", units="drop")[0] is x
    assert explain(Wrapper(x), "numpy").permissions == {"grad": "detach", "units": "drop"}  # outside of it
    masked = np.ma.array(VALUES, mask=[0, 1, 0])
    assert to_numpy(Wrapper(masked), units="drop") is masked


def test_a_wrapper_around_a_producer_of_another_library():
    for x in (Wrapper(Producer(VALUES)), Record(Producer(VALUES))):
        assert describe(x).units == "km"
        assert explain(x, "torch").permissions == {"units": "drop"}
        assert shares_memory(to_torch(x, units="drop"), VALUES)
        assert to_numpy(x, units="drop", dtype="int8").tolist() == [0, 1, 2]


def test_objects_in_a_wrapper_are_read_where_they_can_be():
    assert to_torch(Wrapper(np.array([1.5], object)), units="drop", dtype="float32").tolist() == [1.5]
    assert explain(Wrapper(np.array(["a"], object)), "torch", dtype="float32").final


def test_the_librarys_own_call_is_named_where_it_is_enough():
    alone = explain(Wrapper(VALUES), "torch")
    assert "x.magnitude; or pass" in str(alone)
    for x, keywords in [(Wrapper(np.ma.array(VALUES, mask=[0, 1, 0])), {}), (Wrapper(VALUES[::-1]), {"copy": False})]:
        with pytest.raises(InteropError) as caught:
            to_torch(x, **keywords)
        assert "x.magnitude" not in caught.value.hint  # it is masked, or backwards, as before
        assert to_torch(x, **keywords | caught.value.permissions).tolist() == np.asarray(x.magnitude).tolist()


class Number(Wrapper):
    """As pint's: every class of it has the methods that work for some arrays only."""

    def __array__(self, *asked, **more):
        raise AssertionError("without its unit")

    compute = __iter__ = __array__


@pytest.mark.parametrize("units", ["km", ""])
def test_a_number_with_a_unit_has_a_hint_that_works(units):
    x = Number(3.5, units)
    with pytest.raises(UnsupportedTypeError, match="Number") as caught:
        to_torch(x)
    assert "x.magnitude, and convert that" in caught.value.hint
    assert eval("x.magnitude") == 3.5  # a number of Python's, whose own hint goes on


@pytest.mark.parametrize(("unit", "means"), [("km", 3.5), ("km/m", 3500), ("", 3.5)])
def test_a_number_of_pints_is_what_it_means(unit, means):
    x = pint(3.5, unit)
    with pytest.raises(UnsupportedTypeError) as caught:
        to_torch(x)
    call = caught.value.hint.rpartition(", and convert")[0].rpartition(", ")[2]
    assert eval(call, {"x": x}) == pytest.approx(means)


def test_a_record_with_a_unit_is_a_container():
    @dataclasses.dataclass
    class Reading:
        value: object
        unit: str

    made = tree.convert(Reading(VALUES, "km"), "torch")
    assert isinstance(made, Reading)
    assert isinstance(made.value, torch.Tensor)


# The libraries themselves.


def astropy(make):
    return make(pytest.importorskip("astropy.units", reason="needs astropy"))


def column(**words):
    return pytest.importorskip("astropy.table", reason="needs astropy").Column([1.0, 2.0], **words)


def masked(mask):
    kind = pytest.importorskip("astropy.utils.masked", reason="needs astropy").Masked
    return astropy(lambda u: kind([1.0, 2.0] * u.km, mask=mask))


def unyt(unit):
    return pytest.importorskip("unyt", reason="needs unyt").unyt_array([1.0, 2.0], unit)


def quantities(unit):
    return pytest.importorskip("quantities", reason="needs quantities").Quantity([1.0, 2.0], unit)


def pint(values, unit):
    return pytest.importorskip("pint", reason="needs pint").UnitRegistry().Quantity(values, unit)


def unxt(unit):
    return pytest.importorskip("unxt", reason="needs unxt").Quantity([1.0, 2.0], unit)


WITH_UNITS = {
    "Quantity": lambda: astropy(lambda u: [1.0, 2.0] * u.km),
    "scaled": lambda: astropy(lambda u: [3600.0, 7200.0] * u.s / (1 * u.h)),
    "percent": lambda: astropy(lambda u: [1.0, 2.0] * u.percent),
    "radian": lambda: astropy(lambda u: [1.0, 2.0] * u.rad),
    "Magnitude": lambda: astropy(lambda u: u.Magnitude([1.0, 2.0])),
    "Column": lambda: column(unit="m"),
    "Column of an odd unit": lambda: column(unit="furlongs per fortnight"),
    "unyt": lambda: unyt("km"),
    "unyt percent": lambda: unyt("percent"),
    "unyt scaled": lambda: unyt("km/m"),
    "quantities": lambda: quantities("km"),
    "quantities scaled": lambda: quantities("km/m"),
    "pint": lambda: pint(np.array([1.0, 2.0]), "km"),
    "pint scaled": lambda: pint(np.array([1.0, 2.0]), "km/m"),
    "pint tensor": lambda: pint(torch.tensor([1.0, 2.0]), "km"),
    "pint list": lambda: pint([1.0, 2.0], "km"),
    "unxt": lambda: unxt("km"),
    "unxt scaled": lambda: unxt("km/m"),
}


@pytest.mark.parametrize("make", WITH_UNITS.values(), ids=WITH_UNITS)
@pytest.mark.filterwarnings("ignore")
def test_the_hint_names_the_call_of_the_library(make):
    x = make()
    with pytest.raises(UnitsError) as caught:
        to_torch(x)
    advice, own = unit_of(x).advice, unit_of(x).advice.rpartition(", ")[2]
    assert caught.value.hint == f"{advice}; or write to_torch(x, units='drop')"
    numbers = np.asarray(eval(own, {"x": x})).tolist()
    stored = to_torch(x, **caught.value.permissions).tolist()
    if "that it means" in advice:
        assert numbers != stored
    else:
        assert numbers == stored


def test_an_array_of_units_may_be_structured_or_masked():
    structured = astropy(lambda u: u.Quantity([(1.0, 2.0)], dtype=[("a", "f8"), ("b", "f8")], unit="km,s"))
    assert {refusal.code for refusal in explain(structured, "torch").refusals} == {"units", "dtype"}
    assert explain(masked([True, False]), "torch").permissions == {"mask": "drop", "units": "drop"}
    assert explain(masked([False, False]), "torch").permissions == {"units": "drop"}
    angle = pytest.importorskip("astropy.coordinates", reason="needs astropy").Angle([1.0], "deg")
    assert to_torch(angle, units="drop").tolist() == [1]


@pytest.mark.parametrize(
    "make",
    [
        lambda: astropy(lambda u: [1.0, 2.0] * u.one),
        lambda: astropy(lambda u: [1.0, 2.0] * u.km / (1 * u.km)),
        column,
        lambda: unyt(""),
        lambda: unyt("km") / unyt("km") * [1.0, 2.0],
        lambda: quantities("dimensionless"),
        lambda: pint(np.array([1.0, 2.0]), ""),
    ],
)
def test_mere_numbers_convert(make):
    assert to_torch(make()).tolist() == [1, 2]
