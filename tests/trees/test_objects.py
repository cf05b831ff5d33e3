"""Objects that hold arrays and are no containers: refused by name, kept or opened by a word; and what holds none stays what it is."""

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import importlib
import logging
import pathlib
import threading
import types
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import interop
from interop import tree
from interop._model import decide
from interop._trees import objects as _objects
from interop.errors import UnsupportedTypeError

library = importlib.import_module  # where it is needed: some take a second


class Scaler:
    def __init__(self, mean=None, note="kept"):
        self.mean, self.note = mean, note


class Slotted:
    __slots__ = ("mean", "unset")

    def __init__(self, mean):
        self.mean = mean


class Both(Slotted):
    """A slot of the base, and a `__dict__`."""


class Sample(Mapping):
    def __init__(self, **held):
        self._held = held

    def __getitem__(self, name):
        raise AssertionError("its own code")

    __iter__ = __len__ = __getitem__


class Several(Sequence):
    def __init__(self, *held):
        self._held = held

    def __getitem__(self, at):
        raise AssertionError("its own code")

    __len__ = __getitem__


class Array:
    """An array of a library that nobody knows; what it has is not to be seen."""

    __slots__ = ("shape",)

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("its own code")


@dataclasses.dataclass
class Computed:
    mean: Any
    twice: Any = dataclasses.field(init=False)

    def __post_init__(self):
        self.twice = [self.mean]


@dataclasses.dataclass
class Given:
    """Takes something that is no field."""

    mean: Any
    scale: dataclasses.InitVar[Any] = None

    def __post_init__(self, scale):
        self.mean = self.mean


@dataclasses.dataclass(init=False)
class Handwritten:
    mean: Any

    def __init__(self, path):
        self.mean = path


@dataclasses.dataclass
class Private:
    """As zarr's arrays: a handle on something."""

    _handle: Any


@dataclasses.dataclass
class Single:
    """Made by code of its own."""

    mean: Any

    def __new__(cls, *_):
        return super().__new__(cls)


@dataclasses.dataclass
class Plain:
    mean: Any


@dataclasses.dataclass
class Lazy:
    """A lazy array that happens to be a dataclass."""

    shape: Any
    dtype: Any
    part: Any = None


@dataclasses.dataclass
class Raised(Exception):
    """Has arguments besides its fields."""

    mean: Any


@dataclasses.dataclass
class Shelf(collections.UserDict):
    """A mapping whose items are no field."""

    mean: Any

    def __post_init__(self):
        self.data = {"a": self.mean}


def beside(x):
    made = Plain(1)
    made.extra = x
    return made


def both(x):
    made = Both(1)
    made.note = [x]
    return made


def attrs_class(x):
    attrs = pytest.importorskip("attrs", reason="attrs is not installed")
    return attrs.make_class("Made", {"x": attrs.field(), "y": attrs.field(init=False, factory=list)})(x)


def refers_to_itself(x):
    made = Scaler()
    made.note = [made, {"a": x}]
    return made


def objects_of(*values):
    made = np.empty(len(values), object)
    for at, value in enumerate(values):
        made[at] = value
    return made


def torch_module(x):
    made = torch.nn.Sequential(torch.nn.Linear(1, 3, bias=False))
    made[0].weight = torch.nn.Parameter(torch.from_numpy(x), requires_grad=False)
    return made


def pipeline():
    return library("sklearn.pipeline").make_pipeline(library("sklearn.linear_model").Ridge())


OPENED = {
    "attribute": (Scaler, lambda made: made.mean),
    "slot": (Slotted, lambda made: made.mean),
    "slot and attribute": (both, lambda made: made.note[0]),
    "in a container": (lambda x: Scaler({"a": (x,)}), lambda made: made.mean["a"][0]),
    "in another object": (lambda x: Scaler([Slotted(x)]), lambda made: made.mean[0].mean),
    "field that is computed": (Computed, lambda made: made.twice[0]),
    "init-only field": (Given, lambda made: made.mean),
    "constructor of its own": (Handwritten, lambda made: made.mean),
    "private field": (Private, lambda made: made._handle),
    "made by its own code": (Single, lambda made: made.mean),
    "attribute beside the fields": (beside, lambda made: made.extra),
    "dataclass with shape and dtype": (lambda x: Lazy((1,), "f4", x), lambda made: made.part),
    "attrs": (attrs_class, lambda made: made.x),
    "mapping with fields": (Shelf, lambda made: made.data["a"]),
    "mapping": (lambda x: Sample(a=x), lambda made: made._held["a"]),
    "sequence": (Several, lambda made: made._held[0]),
    "user list": (lambda x: collections.UserList([x]), lambda made: made[0]),
    "values": (lambda x: {"b": 1, "a": x}.values(), lambda made: list(made)[1]),
    "items": (lambda x: {"b": 1, "a": x}.items(), lambda made: dict(made)["a"]),
    "values of an ordered dict": (lambda x: collections.OrderedDict(a=x).values(), lambda made: next(iter(made))),
    "array of objects": (lambda x: objects_of(x, "name"), lambda made: made[0]),
    "array of objects without axes": (lambda x: objects_of(x)[0:1].reshape(()), lambda made: made[()]),
    "module": (torch_module, lambda made: made[0]._parameters["weight"]),
    "estimator": (lambda _: library("sklearn.linear_model").Ridge().fit(np.eye(2), np.ones(2)), lambda made: made.coef_),
    "pipeline": (lambda _: pipeline().fit(np.eye(2), np.ones(2)), lambda made: made[-1].coef_),
}


class Itself(Scaler):
    def __copy__(self):
        return self


class Borg(Scaler):
    """All its objects are one."""

    state: dict[str, Any] = {}  # noqa: RUF012 # shared, which is the point

    def __new__(cls, *_):
        made = super().__new__(cls)
        made.__dict__ = cls.state
        return made

    def __copy__(self):
        return Borg.__new__(Borg)


class NoCopy(Scaler):
    def __copy__(self):
        raise TypeError("there is one of it")


CLOSED = {
    "exception": ValueError,
    "exception with fields": Raised,
    "its copy is itself": Itself,
    "its copy shares its attributes": Borg,
    "makes no copy": NoCopy,
    "array of a library that is not known": lambda _: Array(),
    "holds a table": lambda x: Scaler(library("pandas").Series(x)),
    "table": lambda x: library("pandas").DataFrame({"a": x}),
    "column": lambda x: library("pandas").Series(x),
    "index": lambda x: library("pandas").Index(x),
    "memoryview": memoryview,
    "array.array": lambda _: array.array("d", [1.0]),
    "keys": lambda x: {torch.from_numpy(x): 1}.keys(),
    "list iterator": lambda x: iter([x]),
    "map": lambda x: map(abs, [x]),
    "zip": lambda x: zip([x], strict=True),
    "generator": lambda x: (one for one in [x]),
    "partial": lambda x: functools.partial(print, x),
    "set": lambda x: {torch.from_numpy(x)},
    "frozenset": lambda x: frozenset([torch.from_numpy(x)]),
}


def to_other(x):
    """Return the library that the arrays of these objects are not of."""
    return "numpy" if isinstance(x, (torch.nn.Module, set, frozenset, type({}.keys()))) else "torch"


@pytest.mark.parametrize("make", [*(make for make, _ in OPENED.values()), *CLOSED.values()], ids=[*OPENED, *CLOSED])
def test_what_holds_arrays_is_refused_by_name_and_kept_by_permission(make):
    x = np.ones(3, "float32")
    held = make(x)
    source = {"rest": [1, held], "x": x, "t": torch.ones(1)}
    to = to_other(held)
    with pytest.raises(UnsupportedTypeError, match="objects='keep'") as caught:
        tree.convert(source, to)
    assert type(held).__qualname__ in str(caught.value)
    assert "at tree['rest'][1]" in str(caught.value)
    assert caught.value.permissions == {"objects": "keep"} == tree.explain(source, to).permissions
    there = tree.convert(source, to, **caught.value.permissions)
    assert there["rest"][1] is held
    assert type(there["x"]) is type(there["t"]) is {"torch": torch.Tensor, "numpy": np.ndarray}[to]
    assert tree.explain(source, to, objects="keep").ok


@pytest.mark.parametrize(("make", "inside"), OPENED.values(), ids=OPENED)
def test_what_is_opened_is_a_copy_with_its_arrays_converted(make, inside):
    x = np.ones(3, "float32")
    held = make(x)
    array_ = inside(held)
    to = to_other(held)
    with pytest.raises(UnsupportedTypeError, match="objects='open' converts a copy"):
        tree.convert([held], to)
    one, two = tree.convert([held, held], to, objects="open")
    assert one is two
    assert one is not held
    assert type(one) is type(held)
    assert type(inside(one)) is {"torch": torch.Tensor, "numpy": np.ndarray}[to]
    assert interop.shares_memory(inside(one), inside(held))
    assert inside(held) is array_
    assert np.array_equal(tree.convert(inside(one), "numpy"), interop.to_numpy(array_))
    (path,) = [path for path, plan in tree.explain(held, to, objects="open").plans.items() if plan.shares_memory and plan.steps][:1]
    assert path.startswith("tree")


@pytest.mark.parametrize("make", CLOSED.values(), ids=CLOSED)
def test_what_cannot_be_opened_is_refused_still(make):
    held = make(np.ones(3, "float32"))
    before = dict(getattr(held, "__dict__", {}))
    with pytest.raises(UnsupportedTypeError, match="objects='keep' leaves it as it is") as caught:
        tree.convert([np.ones(1), held], to_other(held), objects="open")
    assert caught.value.permissions == {"objects": "keep"}
    assert tree.convert([held], to_other(held), objects="keep")[0] is held
    assert all(getattr(held, "__dict__", {})[name] is value for name, value in before.items())


def test_what_an_opened_object_has_besides_is_the_same():
    note = ["a", {"b": 1}]
    source = Scaler([np.ones(1)], note)
    there = tree.convert(source, "torch", objects="open")
    assert there.note is note
    assert tree.convert(there, "torch", objects="open") is there  # nothing changes, so it is itself
    assert tree.convert(Scaler(note), "torch", objects="open").mean is note


def test_an_array_in_an_object_and_beside_it_is_converted_once():
    x = np.ones(3)
    there = tree.convert({"x": x, "o": Scaler(x, Slotted(x))}, "torch", objects="open", copy=True)
    assert there["x"] is there["o"].mean is there["o"].note.mean


def test_an_object_that_refers_to_itself():
    held = refers_to_itself(np.ones(1))
    with pytest.raises(UnsupportedTypeError, match="Scaler holds arrays"):
        tree.convert(held, "torch")
    with pytest.raises(ValueError, match="contains itself: a Scaler"):
        tree.convert(held, "torch", objects="open")
    empty = refers_to_itself("no array")
    assert tree.convert([empty], "torch")[0] is empty


def test_a_refusal_inside_of_an_opened_object_names_its_place():
    source = {"o": Scaler({"w": torch.ones(1, requires_grad=True)})}
    with pytest.raises(interop.GradError, match=r"at tree\['o'\]\.mean\['w'\]") as caught:
        tree.convert(source, "numpy", objects="open")
    there = tree.convert(source, "numpy", **{"objects": "open", **caught.value.permissions})
    assert type(there["o"].mean["w"]) is np.ndarray


def test_describe_refuses_keeps_and_opens_too():
    source = [np.ones(1), Scaler(np.ones(2))]
    with pytest.raises(UnsupportedTypeError, match=r"Scaler holds arrays .*\n +at tree\[1\]") as caught:
        tree.describe(source)
    assert tree.describe(source, **caught.value.permissions)[1] is caught.value.retry()[1] is source[1]
    assert tree.describe(source, objects="open")[1].mean.shape == (2,)
    with pytest.raises(ValueError, match="did you mean 'keep'"):
        tree.describe(source, objects="kept")


def test_where_the_caller_names_a_leaf_it_stays():
    source = [np.ones(1), Scaler(np.ones(2)), {"a": np.ones(1)}]
    for mode in ("error", "open"):
        there = tree.convert(source, "torch", is_leaf=lambda x: isinstance(x, (Scaler, dict)), objects=mode)
        assert type(there[0]) is torch.Tensor
        assert there[1] is source[1]
        assert there[2] is source[2]


class Colour(enum.Enum):
    RED = enum.auto()


NOTHING = {
    "object": object,
    "without arrays": lambda: Scaler(3, {"a": [None, "b"]}),
    "scalars of NumPy": lambda: Scaler(np.float64(2), [np.int64(1)]),
    "names": lambda: Scaler(np.array(["a"]), np.array(["b", None], object)),
    "dates": lambda: Scaler(np.array(["2020-01-01"], "M8[D]")),
    "function": lambda: lambda x=KEPT: x,
    "method": lambda: Scaler(np.ones(1)).__init__,
    "class": lambda: type("Has", (), {"x": np.ones(1), "__array__": None}),
    "class of arrays": lambda: np.ndarray,
    "module": lambda: np,
    "dtype": lambda: torch.float32,
    "reference": lambda: weakref.ref(KEPT),
    "logger": lambda: logging.getLogger(__name__),
    "holds a thread": lambda: Scaler(threading.current_thread(), logging.getLogger(__name__)),
    "generator of random numbers": lambda: np.random.default_rng(0),
    "path": lambda: pathlib.Path("a"),
    "date": lambda: datetime.datetime(2020, 1, 1),
    "enum": lambda: Colour.RED,
    "bytes": lambda: b"abc",
    "bytearray": lambda: bytearray(b"abc"),
    "file that was read": lambda: iter(["a"]),
    "unfitted": lambda: library("sklearn.linear_model").Ridge(),
    "module without parameters": torch.nn.ReLU,
    "values": {"a": 1}.values,
}
KEPT = Scaler(np.ones(1))


@pytest.mark.parametrize("objects", ["error", "keep", "open"])
@pytest.mark.parametrize("make", NOTHING.values(), ids=NOTHING)
def test_what_holds_no_array_is_itself(make, objects):
    held = make()
    there = tree.convert({"x": np.ones(1), "o": held}, "torch", objects=objects)
    assert there["o"] is held
    assert type(there["x"]) is torch.Tensor
    with pytest.raises(UnsupportedTypeError, match="is not an array") as caught:
        tree.convert([held], "torch", objects=objects, others="error")
    assert caught.value.permissions == {"others": "keep"}


def test_arrays_that_a_logger_has_seen_are_not_held_by_who_has_it():
    class Remembers(logging.Handler):
        def __init__(self):
            super().__init__()
            self.records = []

        def emit(self, record):
            self.records.append(record)

    logger = logging.getLogger(f"{__name__}.seen")
    logger.addHandler(Remembers())
    logger.warning("%s", np.ones(1))
    source = Scaler(logger)
    assert tree.convert([source], "torch")[0] is source
    source.note = np.ones(1)  # the negative control
    with pytest.raises(UnsupportedTypeError):
        tree.convert([source], "torch")


NAMES = {
    "name": lambda: np.str_("a.png"),
    "bytes": lambda: np.bytes_(b"a"),
    "names": lambda: np.array(["a", "b"]),
    "names of any length": lambda: np.array(["a"], np.dtypes.StringDType()),
    "names as objects": lambda: np.array(["a", None], object),
    "date": lambda: np.datetime64("2020-01-01"),
    "dates": lambda: np.array(["NaT", "2020-01-01"], "M8[ns]"),
    "duration": lambda: np.timedelta64(1, "s"),
}
COUNTS = {"date", "dates", "duration"}


@pytest.mark.parametrize("words", [{}, {"dtype": "float32"}, {"copy": True}, {"policy": "coerce"}], ids=str)
@pytest.mark.parametrize("which", NAMES)
def test_a_name_or_a_date_in_a_sample_stays(which, words):
    image, name = np.full((2, 2), 200, "uint8"), NAMES[which]()
    if "dtype" in words and which in COUNTS:
        made, alone = tree.convert([name], "torch", **words)[0], interop.convert(name, "torch", **words)
        assert made.tolist() == pytest.approx(alone.tolist(), nan_ok=True)
        return
    source = {"image": image, "file": name}
    there = tree.convert(source, "torch", **words)
    assert there["image"].dtype == (torch.float32 if "dtype" in words else torch.uint8)
    assert there["file"] is name
    plan = tree.explain(source, "torch", **words)
    assert plan.kept == ("tree['file']",)
    assert list(plan.plans) == ["tree['image']"]
    with pytest.raises(UnsupportedTypeError, match=r"is not an array of numbers .*\n +at tree\['file'\]") as caught:
        tree.convert(source, "torch", others="error", **words)
    assert caught.value.permissions == {"others": "keep"} == tree.explain(source, "torch", others="error", **words).permissions
    assert "dtype=" not in caught.value.hint.replace("dtype='float32'", "")
    assert tree.convert(source, "torch", **{**words, **caught.value.permissions})["file"] is name


@pytest.mark.parametrize("make", NAMES.values(), ids=NAMES)
def test_a_name_for_numpy_is_an_array_of_its_own(make):
    name = make()
    assert tree.convert([torch.ones(1), name], "numpy")[1] is name
    if isinstance(name, np.ndarray):
        assert tree.convert([torch.ones(1), name], "numpy", others="error")[1] is name
    assert tree.describe([name])[0].backend == "numpy"


def test_a_hint_for_one_leaf_does_not_cast_the_others(monkeypatch):
    monkeypatch.setattr(decide, "fallback", lambda *_: None)  # as for a dtype that has no like in the target
    wide = np.zeros(1, ml_dtypes.int4)
    with pytest.raises(interop.DTypeError) as caught:
        tree.convert({"image": np.zeros(1, "uint8"), "n": wide}, "torch")
    assert caught.value.hint == "Convert that leaf by itself, before or after."
    with pytest.raises(interop.DTypeError, match="dtype="):  # alone there is nothing else to cast
        interop.to_torch(wide)


def test_only_what_holds_arrays_may_be_an_array_of_objects_for_numpy():
    names, tensors = np.array(["a", 1], object), objects_of(torch.ones(1))
    assert tree.convert([names], "numpy")[0] is names
    with pytest.raises(UnsupportedTypeError, match=r"numpy.ndarray holds arrays .*\n +at tree\[1\]"):
        tree.convert([names, tensors], "numpy")
    assert type(tree.convert([tensors], "numpy", objects="open")[0][0]) is np.ndarray


# Results of SciPy.


def results():
    stats, x, y = library("scipy.stats"), np.linspace(0, 1, 8), np.linspace(0, 1, 8) ** 2 + np.tile([0.1, 0], 4)
    return {
        "linregress": stats.linregress(x, y),
        "pearsonr": stats.pearsonr(x, y),
        "spearmanr": stats.spearmanr(x, y),
        "ttest_ind": stats.ttest_ind(x, y),
        "ttest_1samp": stats.ttest_1samp(x, 0.5),
        "ks_2samp": stats.ks_2samp(x, y),
    }


@pytest.mark.parametrize("name", ["linregress", "pearsonr", "spearmanr", "ttest_ind", "ttest_1samp", "ks_2samp"])
def test_a_result_of_scipy_comes_back_whole(name):
    source = results()[name]
    held = dict(vars(source))
    there = tree.convert({"r": source}, "torch")["r"]
    assert type(there) is type(source)
    assert all(type(part) is torch.Tensor for part in there)
    assert list(map(float, there)) == list(map(float, source))
    for attribute, value in held.items():
        assert type(getattr(there, attribute)) is (torch.Tensor if isinstance(value, (np.ndarray, np.generic)) else type(value))
    assert vars(source) == held
    if hasattr(source, "confidence_interval"):
        assert list(there.confidence_interval()) == pytest.approx(list(source.confidence_interval()))
        back = tree.convert(there, "numpy")
        assert list(back.confidence_interval()) == pytest.approx(list(source.confidence_interval()))


def test_the_result_of_a_function_that_runs_on_numpy_is_whole():
    stats = library("scipy.stats")
    run = interop.neutral(runs_on="numpy")(stats.pearsonr)
    x, y = torch.linspace(0, 1, 8), torch.linspace(0, 1, 8) ** 2 + torch.tensor([0.1, 0.0] * 4)
    there = run(x, y)
    public = [*there, *(value for name, value in vars(there).items() if not name.startswith("_") and not callable(value))]
    assert [type(part) for part in public] == [torch.Tensor] * 3
    assert list(there.confidence_interval()) == pytest.approx(list(stats.pearsonr(x.numpy(), y.numpy()).confidence_interval()))


def test_the_results_of_optimizers_are_converted_by_their_items():
    optimize = library("scipy.optimize")
    source = optimize.minimize(lambda v: (v**2).sum(), np.ones(2))
    there = tree.convert(source, "torch")
    assert type(there) is optimize.OptimizeResult
    assert type(there.x) is type(there["jac"]) is torch.Tensor
    root = optimize.root_scalar(lambda t: t - 1, bracket=[0, 3])
    assert tree.convert(root, "torch").root == root.root


# A stranger's object that happens to be a dataclass.


def test_an_array_on_disk_is_refused_and_keeps_its_parts():
    @dataclasses.dataclass
    class Stored:
        store: Any
        fill_value: Any

        def __array__(self, dtype=None, copy=None):
            raise AssertionError("its own code")

    source = Stored({"0": np.ones(2)}, np.float32(1.5))
    with pytest.raises(UnsupportedTypeError, match="Stored is an array or a table that interop does not convert"):
        tree.convert({"images": source}, "torch")
    assert tree.convert([source], "torch", objects="keep")[0] is source
    assert type(source.fill_value) is np.float32


def test_what_describes_an_array_is_kept():
    source = Lazy((2,), np.dtype("float32"), np.float32(1.5))
    assert tree.convert([np.ones(1), source], "torch")[1] is source


# What it costs, and what it does not run.


def test_the_cost_is_linear_in_the_leaves(monkeypatch):
    looked = []
    parts = _objects._parts
    monkeypatch.setattr(_objects, "_parts", lambda x: looked.append(x) or parts(x))
    counts = []
    for count in (10, 20, 40):
        looked.clear()
        tree.convert([Scaler(Scaler(1)) for _ in range(count)] + [np.ones(1)], "torch")
        counts.append(len(looked))
    assert counts[1] == 2 * counts[0]
    assert counts[2] == 4 * counts[0]
    looked.clear()
    shared = Scaler(list(range(1000)))
    tree.convert([shared] * 100, "torch")
    assert len(looked) < 5


def test_an_object_is_looked_into_without_its_code():
    class Trap:
        def __init__(self, x):
            object.__setattr__(self, "x", x)

        def __getattr__(self, name):
            raise AssertionError(name)

        __len__ = __iter__ = __bool__ = __eq__ = __hash__ = __getattr__

    empty = Trap(1)
    assert tree.convert([empty], "torch")[0] is empty
    with pytest.raises(UnsupportedTypeError, match="Trap holds arrays"):
        tree.convert([Trap(np.ones(1))], "torch")


def test_a_neutral_function_returns_names_beside_arrays():
    run = interop.neutral(runs_on="numpy")(lambda x: {"names": np.array(["a", "b"]), "x": x})
    there = run(torch.ones(2))
    assert type(there["x"]) is torch.Tensor
    assert there["names"].tolist() == ["a", "b"]


NUMBERS = {
    "integers": [1, 2],
    "floats beside names": ["a", 1.5],
    "None beside them": [1, None],
    "truths": [True],
    "decimals": [decimal.Decimal(1)],
    "fractions": [fractions.Fraction(1, 2)],
    "complex": [1j],
    "scalars of NumPy": [np.float32(1)],
    "truths of NumPy": [np.bool_(1)],
    "ragged lists": [[1], [2, 3]],
    "objects in objects": [objects_of(1), objects_of(2)],
}


@pytest.mark.parametrize("elements", NUMBERS.values(), ids=NUMBERS)
def test_numbers_in_an_array_of_objects_stay_by_name_only(elements):
    image, numbers = np.ones(2), objects_of(*elements)
    source = {"image": image, "n": numbers}
    for objects in ("error", "open"):
        with pytest.raises((interop.DTypeError, UnsupportedTypeError), match=r"tree\['n'\]") as caught:
            tree.convert(source, "torch", objects=objects)
        assert caught.value.permissions == {"objects": "keep"}
    assert tree.explain(source, "torch").permissions == {"objects": "keep"}
    assert tree.convert(source, "torch", objects="keep")["n"] is numbers
    held = Scaler(numbers)
    with pytest.raises(UnsupportedTypeError):
        tree.convert([held], "torch")


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array(["2020"], "M8[D]"), "int64"),
        (np.array(["NaT"], "M8[D]"), "float64"),
        (np.array([1], "m8[s]"), "int64"),
        (np.array(["1", "2"]), "float32"),
        (np.array([b"1"]), "int64"),
        (np.array([1, 2.5], object), "float32"),
        (np.array([decimal.Decimal(2)], object), "float32"),
    ],
    ids=str,
)
@pytest.mark.parametrize("target", ["torch", "numpy"])
def test_who_names_a_dtype_asks_for_the_numbers(array, dtype, target):
    made = tree.convert({"y": array}, target, dtype=dtype)["y"]
    alone = interop.convert(array, target, dtype=dtype)
    assert made.dtype == alone.dtype
    assert made.tolist() == pytest.approx(alone.tolist(), nan_ok=True)
    assert tree.explain({"y": array}, target, dtype=dtype).ok


@pytest.mark.parametrize("array", [np.array(["NaT"], "M8[D]"), np.array([1, None], object)], ids=str)
def test_what_is_missing_is_no_number_in_a_tree_either(array):
    with pytest.raises(interop.DTypeError) as caught:
        tree.convert({"x": np.ones(1), "y": array}, "torch", dtype="int64")
    assert tree.explain({"x": np.ones(1), "y": array}, "torch", dtype="int64").permissions == caught.value.permissions


class Bag(dict):
    pass


class Held(enum.Enum):
    ARRAY = np.ones(1)
    LIST = (np.ones(1),)


@pytest.mark.parametrize("member", list(Held))
def test_a_member_that_holds_an_array_is_refused_by_name(member):
    with pytest.raises(UnsupportedTypeError, match="objects='open' cannot open it") as caught:
        tree.convert({"x": np.ones(1), "kind": member}, "torch")
    assert caught.value.permissions == {"objects": "keep"}
    assert tree.convert([member], "torch", objects="keep")[0] is member
    with pytest.raises(UnsupportedTypeError):
        tree.convert([member], "torch", objects="open")


@pytest.mark.parametrize(
    "kind", [dict, OrderedDict, functools.partial(defaultdict, list), Bag, types.MappingProxyType, collections.Counter]
)
@pytest.mark.parametrize("key", [torch.ones(2), (torch.ones(2), 1), frozenset([torch.ones(1)]), Scaler(torch.ones(1))], ids=type)
@pytest.mark.parametrize("inside", [lambda x: x, lambda x: [x], lambda x: {"a": x}, lambda x: {1: [x], "b": np.ones(1)}])
def test_arrays_in_the_keys_of_a_dict_are_refused_by_name(kind, key, inside):
    made = kind({key: 1})
    source = inside(made)
    for objects in ("error", "open"):
        with pytest.raises(UnsupportedTypeError) as caught:
            tree.convert(source, "numpy", objects=objects)
        assert caught.value.permissions == {"objects": "keep"}
    assert not tree.explain(source, "numpy").ok
    there = tree.convert(source, "numpy", objects="keep")
    assert made in (there, *there, *(there.values() if isinstance(there, dict) else ())) or there[1][0] is made


@pytest.mark.parametrize(
    "key",
    [("a", 1), np.int64(3), Colour.RED, frozenset("a"), (("a",), None), object()],
    ids=lambda key: "object" if type(key) is object else str(key),
)
def test_other_keys_are_keys(key):
    made = tree.convert([{key: np.ones(1), "b": None}], "torch")[0]
    assert list(made) == [key, "b"]
    assert type(made[key]) is torch.Tensor
