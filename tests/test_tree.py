"""Trees: every container, aliasing, refusals that name every leaf, and plans that say what is then done."""

import dataclasses
import functools
import importlib
from collections import ChainMap, Counter, OrderedDict, UserDict, defaultdict, deque
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import optree
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import interop
from interop import tree
from interop.backends import load_backend
from interop.errors import CopyError, DTypeError, GradError, NoDataError, UnsupportedTypeError

library = importlib.import_module  # where it is needed: some take a second


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Batch:
    image: Any
    label: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    weight: Any
    name: str = "w"


@dataclasses.dataclass
class Checked:
    """Its own check passes NumPy arrays only, and has run already."""

    values: Any

    def __post_init__(self):
        assert isinstance(self.values, np.ndarray)


@optree.register_pytree_node_class(namespace="tests.test_tree")
class Registered:
    def __init__(self, left, right):
        self.left, self.right = left, right

    def tree_flatten(self):
        return (self.left, self.right), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


def ones():
    return np.ones(3, "float32")


CONTAINERS = {
    "alone": lambda a: a,
    "dict": lambda a: {"b": a, "a": [a, 1]},
    "list": lambda a: [a, "text", None],
    "tuple": lambda a: (a, (a,)),
    "namedtuple": lambda a: Point(a, {"z": a}),
    "ordered": lambda a: OrderedDict(b=a, a=a),
    "defaultdict": lambda a: defaultdict(list, k=a),
    "deque": lambda a: deque([a, a], maxlen=5),
    "dataclass": lambda a: Batch(a, [a]),
    "frozen": lambda a: {"f": Frozen(a)},
    "nested dataclasses": lambda a: Batch(Batch(a, Frozen(a)), (a,)),
    "checked": Checked,
    "structseq": lambda a: torch.return_types.max((torch.from_numpy(a), torch.from_numpy(a))),
}


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
def test_every_container_comes_back_as_what_it_was(make):
    source = make(ones())
    there = tree.convert(source, "torch")
    assert type(there) is (torch.Tensor if isinstance(source, np.ndarray) else type(source))
    arrays = [leaf for leaf in leaves_of(there) if not isinstance(leaf, (str, int))]
    assert arrays
    assert all(type(leaf) is torch.Tensor for leaf in arrays)
    back = tree.convert(there, "numpy")
    assert [type(leaf) for leaf in leaves_of(back)] == [np.ndarray if type(x) is torch.Tensor else type(x) for x in leaves_of(there)]
    assert optree.tree_structure(tree.describe(back)) == optree.tree_structure(tree.describe(tree.convert(source, "numpy")))


def leaves_of(x):
    from interop._trees.structure import flatten

    return flatten(x).leaves


def test_order_maxlen_and_factory_are_kept():
    a = ones()
    assert list(tree.convert({"b": a, "a": a}, "torch")) == ["b", "a"]
    assert tree.convert(deque([a], maxlen=5), "torch").maxlen == 5
    assert tree.convert(defaultdict(list, k=a), "torch").default_factory is list


def test_the_source_and_its_containers_are_untouched():
    a = ones()
    source = {"x": [a], "d": Batch(a)}
    inner, batch = source["x"], source["d"]
    there = tree.convert(source, "torch")
    assert source == {"x": inner, "d": batch}
    assert inner[0] is a
    assert batch.image is a
    assert there["x"] is not inner
    assert there["d"] is not batch


def test_a_state_dict_keeps_its_metadata_and_loads_again():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    state = module.state_dict()
    arrays = tree.convert(state, "numpy")
    assert type(arrays) is OrderedDict
    assert arrays._metadata == state._metadata
    assert interop.shares_memory(arrays["0.weight"], module[0].weight)
    other = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    assert str(other.load_state_dict(tree.convert(arrays, "torch"))) == "<All keys matched successfully>"
    assert torch.equal(other[0].weight, module[0].weight)
    assert not hasattr(tree.convert(OrderedDict(a=ones()), "torch"), "_metadata")


def test_types_registered_with_optree_are_flattened_in_their_namespace():
    pair = Registered(ones(), [ones()])
    there = tree.convert(pair, "torch", namespace="tests.test_tree")
    assert type(there) is Registered
    assert type(there.left) is type(there.right[0]) is torch.Tensor
    with pytest.raises(UnsupportedTypeError, match="Registered holds arrays and is no container"):  # without the namespace it is none
        tree.convert(pair, "torch")


def test_is_leaf_stops():
    a = ones()
    source = {"keep": [a], "batch": Batch(a), "go": (a,)}
    there = tree.convert(source, "torch", is_leaf=lambda x: isinstance(x, list | Batch))
    assert there["keep"] is source["keep"]
    assert there["batch"] is source["batch"]
    assert type(there["go"][0]) is torch.Tensor


# Aliasing.


def test_one_object_is_converted_once_and_stays_one():
    weight, other = ones(), ones()
    source = {"a": weight, "b": [weight, Batch(weight)], "c": other}
    with interop.record() as log:
        there = tree.convert(source, "torch", copy=True)
    assert len(log.crossings) == 2
    assert there["a"] is there["b"][0] is there["b"][1].image
    assert there["c"] is not there["a"]


def test_a_dataclass_that_occurs_twice_stays_one():
    batch = Batch(ones())
    there = tree.convert([batch, {"again": batch}], "torch")
    assert there[0] is there[1]["again"]
    assert there[0] is not batch


def test_tied_storage_stays_tied_where_it_is_shared():
    base = torch.arange(6.0)
    there = tree.convert({"a": base[:4], "b": base[2:]}, "numpy")
    there["a"][2] = 50
    assert there["b"][0] == base[2] == 50
    apart = tree.convert({"a": base[:4], "b": base[2:]}, "numpy", copy=True)
    assert not interop.shares_memory(apart["a"], apart["b"])


def test_what_holds_no_array_is_itself():
    settings_ = Frozen("rate")
    batch = Batch([1, 2], {"x": "y"})
    there = tree.convert({"s": settings_, "b": batch, "a": ones()}, "torch")
    assert there["s"] is settings_
    assert there["b"] is batch


def test_arrays_of_the_target_are_themselves():
    t = torch.ones(2)
    assert tree.convert([t], "torch")[0] is t


def test_a_tree_that_contains_itself_is_an_error():
    loop = Batch(ones())
    loop.label = [loop]
    with pytest.raises(ValueError, match="contains itself: a Batch"):
        tree.convert(loop, "torch")
    shared = Batch(ones())  # the negative control: twice, but not within itself
    tree.convert([shared, shared], "torch")


def test_a_container_that_occurs_many_times_is_flattened_once():
    level = Batch(ones(), ones())
    for _ in range(30):  # 2**30 leaves, if it were not
        level = Batch(level, level)
    there = tree.convert(level, "torch")
    assert there.image is there.label
    assert there.image is not level.image


# Containers that optree leaves alone.


class Pair(NamedTuple("Pair", [("left", Any), ("right", Any)])):
    """With a constructor that takes something else."""

    __slots__ = ()

    def __new__(cls, both):
        return super().__new__(cls, *both)


class Stack(list):
    pass


class Window(deque):
    pass


class Bag(dict):
    def __setitem__(self, key, value):
        raise AssertionError("its own check")


class Ordered(OrderedDict):
    pass


@dataclasses.dataclass
class Cached:
    x: Any

    @functools.cached_property
    def twice(self):
        return self.x * 2


@dataclasses.dataclass(frozen=True)
class OwnCopy:
    x: Any

    def __copy__(self):
        return self


class Twofold(dict):
    pass


@dataclasses.dataclass
class Output(Twofold):
    """As those of transformers: each array is an attribute and an item."""

    logits: Any

    def __post_init__(self):
        self["logits"] = self.logits


class Attributes(dict):
    """Its items are its attributes."""

    def __init__(self, **items):
        super().__init__(**items)
        self.__dict__ = self


class Several(tuple):  # noqa: SLOT001 - it has attributes, which is the point
    pass


class SlottedList(list):
    __slots__ = ("extra",)


def attribute_of(container, a):
    container.extra = a
    return container


def attrs_class(a):
    attrs = pytest.importorskip("attrs", reason="attrs is not installed")
    return attrs.make_class("Made", ["x", "name"], frozen=True)(a, "n")


ODD = {
    "subclass of a named tuple": (lambda a: Pair((a, 2)), lambda x: x.left),
    "list": (lambda a: Stack([a]), lambda x: x[0]),
    "deque": (lambda a: Window([1, a], maxlen=4), lambda x: x[1]),
    "dict": (lambda a: Bag(k=a), lambda x: x["k"]),
    "ordered dict": (lambda a: Ordered(k=a), lambda x: x["k"]),
    "counter": (lambda a: Counter(k=a), lambda x: x["k"]),
    "user dict": (lambda a: UserDict(k=a), lambda x: x["k"]),
    "namespace": (lambda a: SimpleNamespace(x=a, n=1), lambda x: x.x),
    "attrs": (attrs_class, lambda x: x.x),
    "own copy": (OwnCopy, lambda x: x.x),
    "mapping proxy": (lambda a: MappingProxyType({"k": a}), lambda x: x["k"]),
    "chain map": (lambda a: ChainMap({"b": 1}, {"k": a}), lambda x: x["k"]),
    "dataclass that is a dict": (Output, lambda x: x["logits"]),
    "dict that is its own attributes": (lambda a: Attributes(k=a), lambda x: x.k),
    "attribute of a dict": (lambda a: attribute_of(Bag(n=1), a), lambda x: x.extra),
    "attribute of a list": (lambda a: attribute_of(Stack([1]), a), lambda x: x.extra),
    "attribute of a deque": (lambda a: attribute_of(Window([1], maxlen=2), a), lambda x: x.extra),
    "attribute of a tuple": (lambda a: attribute_of(Several((1, 2)), a), lambda x: x.extra),
    "attribute of an ordered dict": (lambda a: attribute_of(OrderedDict(n=1), a), lambda x: x.extra),
    "attribute of a user dict": (lambda a: attribute_of(UserDict(n=1), a), lambda x: x.extra),
    "slot of a list": (lambda a: attribute_of(SlottedList([1]), a), lambda x: x.extra),
    "result of SciPy": (lambda a: library("scipy.optimize").OptimizeResult(x=a, success=True), lambda x: x.x),
    "scikit-learn's bunch": (lambda a: library("sklearn.utils").Bunch(data=a), lambda x: x.data),
}


@pytest.mark.parametrize(("make", "inside"), ODD.values(), ids=ODD)
def test_odd_containers_are_flattened_too(make, inside):
    a = ones()
    source = make(a)
    there = tree.convert({"c": source}, "torch")["c"]
    assert type(there) is type(source)
    assert there is not source
    assert type(inside(there)) is torch.Tensor
    assert inside(source) is a  # the source is untouched
    assert tree.describe([source])[0] is not source
    assert inside(source) is a
    path, *_ = tree.explain(source, "torch").plans
    assert eval(path, {"tree": source}) is a
    assert tree.convert(there, "torch") is there  # nothing changes, so it is itself


def test_a_packed_sequence_stays_one():
    packed = torch.nn.utils.rnn.pack_sequence([torch.ones(2), torch.ones(1)])
    there = tree.convert(packed, "numpy")
    assert type(there) is type(packed)
    assert type(there.data) is np.ndarray
    back = tree.convert(there, "torch")
    assert torch.nn.utils.rnn.pad_packed_sequence(back)[0].shape == (2, 2)


def test_what_was_computed_from_the_old_fields_is_computed_anew():
    source = Cached(ones())
    assert type(source.twice) is np.ndarray
    assert type(tree.convert(source, "torch").twice) is torch.Tensor


STUCK = {
    "set": lambda a: {torch.from_numpy(a)},
    "frozenset": lambda a: frozenset([torch.from_numpy(a), 1]),
}


@pytest.mark.parametrize("make", STUCK.values(), ids=STUCK)
def test_what_cannot_be_rebuilt_is_refused_by_name_where_it_holds_arrays(make):
    held = make(ones())
    source = {"x": [held], "p": torch.ones(1, requires_grad=True)}
    with pytest.raises(UnsupportedTypeError, match="with arrays in it cannot be rebuilt") as caught:
        tree.convert(source, "numpy")
    assert "at tree['x'][0]" in str(caught.value)
    assert "at tree['p']" in str(caught.value)
    assert caught.value.permissions == {"objects": "keep", "grad": "detach"} == tree.explain(source, "numpy").permissions
    assert tree.convert(source, "numpy", **caught.value.permissions)["x"][0] is held
    kept = tree.convert({"x": {1, 2}, "y": MappingProxyType({"k": 1})}, "numpy")
    assert kept["x"] == {1, 2}


# What is no array.


@pytest.mark.parametrize("other", ["text", 3, 2.5, object(), {1, 2}, UserDict(a=1)], ids=lambda other: type(other).__name__)
def test_other_leaves_are_kept_or_refused(other):
    source = {"x": [ones(), other], "n": None}
    assert tree.convert(source, "torch")["x"][1] is other
    with pytest.raises(UnsupportedTypeError, match=r"at tree\['x'\]\[1\]") as caught:
        tree.convert(source, "torch", others="error")
    assert caught.value.permissions == {"others": "keep"}
    assert tree.convert(source, "torch", **caught.value.permissions)["x"][1] is other


def test_none_is_structure_and_not_a_leaf():
    assert tree.convert([None, ones()], "torch", others="error")[0] is None


def test_an_empty_tree_still_has_its_words_checked():
    assert tree.convert({}, "torch") == {}
    for words, kind, text in [
        ({"gard": "detach"}, TypeError, "did you mean 'grad'"),
        ({"grad": "detatch"}, ValueError, "did you mean 'detach'"),
        ({"policy": "strickt"}, ValueError, "did you mean 'strict'"),
        ({"others": "kep"}, ValueError, "did you mean 'keep'"),
        ({"isleaf": len}, TypeError, "did you mean 'is_leaf'"),
        ({"device": "cdua"}, ValueError, "did you mean 'cuda'"),
        ({"dtype": "flaot32"}, ValueError, "did you mean 'float32'"),
    ]:
        with pytest.raises(kind, match=text):
            tree.convert({}, "torch", **words)
    with pytest.raises(TypeError, match="name the target once"):
        tree.convert({}, "torch", like=ones())
    with pytest.raises(ValueError, match="did you mean 'torch'"):
        tree.convert({}, "toch")


# Refusals.


def test_a_refusal_names_every_leaf_and_converts_nothing():
    tracked = torch.ones(2, requires_grad=True)
    masked = np.ma.array([1.0, 2.0], mask=[0, 1])
    source = {"p": [tracked, tracked * 2], "m": masked, "ok": torch.ones(2), "again": tracked}
    with interop.record() as log, pytest.raises(interop.MaskError) as caught:
        tree.convert(source, "torch", like=None)
    assert log.crossings == []
    with pytest.raises(GradError) as caught:
        tree.convert({"p": source["p"], "m": [masked], "again": tracked}, "numpy", readonly="error")
    error = caught.value
    assert [refusal.path for refusal in error.refusals] == ["tree['again']", "tree['p'][0]", "tree['p'][1]"]
    assert "at tree['again'], tree['p'][0], tree['p'][1]" in str(error)
    assert error.description.requires_grad
    assert str(error).endswith("Hint: write tree.convert(tree, 'numpy', readonly='error', grad='detach')")


def test_permissions_of_many_leaves_are_those_that_permit_all():
    wide, small = np.ones(2, "longdouble"), np.ones(2, "uint16").astype("longdouble")
    narrow = np.zeros(2, "int8").astype(np.dtype("longdouble"))
    with pytest.raises(DTypeError) as caught:
        tree.convert([wide, small, narrow], "torch")
    assert caught.value.permissions == {"casting": "same_kind"}
    import ml_dtypes

    with pytest.raises(DTypeError) as caught:  # one needs "safe", the other "same_kind", whichever comes first
        tree.convert([np.ones(2, ml_dtypes.int4), wide], "torch")
    assert caught.value.permissions == {"casting": "same_kind"}
    tree.convert([np.ones(2, ml_dtypes.int4), wide], "torch", **caught.value.permissions)


def test_one_final_refusal_makes_all_final():
    source = [torch.ones(2, requires_grad=True), torch.ones(2, device="meta")]
    with pytest.raises(GradError) as caught:
        tree.convert(source, "numpy")
    assert caught.value.permissions == {}
    assert "at tree[1]" in str(caught.value)
    assert "no permission helps" in caught.value.hint


def test_what_fails_only_when_it_is_done_names_its_place(monkeypatch):
    def full(*_):
        raise DTypeError("there is no room for it")

    monkeypatch.setattr(type(load_backend("numpy")), "copy", full)
    source = {"good": np.ones(2), "bad": ones()[::-1]}
    with pytest.raises(DTypeError, match=r"at tree\['bad'\]: there is no room"):
        tree.convert(source, "torch")


def test_a_thousand_reasons_are_counted_and_not_all_printed():
    source = [torch.ones(1, requires_grad=True) for _ in range(250)]
    with pytest.raises(GradError) as caught:
        tree.convert(source, "numpy")
    assert len(caught.value.refusals) == 250
    assert "tree[99] and 150 more (.refusals has them all)" in str(caught.value)


def test_a_producer_that_refuses_is_told_with_its_place():
    class Refuses:
        def __dlpack__(self, **words):
            raise BufferError("not today")

        def __dlpack_device__(self):
            return (1, 0)

    with pytest.raises(interop.ProducerError, match=r"not today.*\n      at tree\['x'\]"):
        tree.convert({"x": Refuses(), "y": ones()}, "numpy")


# Plans and descriptions.


def mixed_tree():
    a = ones()
    return {"a": a, "rev": [a[::-1], a], "frozen": Frozen(a.astype("float64")), "n": 3}


def test_the_plan_says_what_is_then_done():
    source = mixed_tree()
    plan = tree.explain(source, "torch")
    with interop.record() as log:
        there = tree.convert(source, "torch")
    assert plan.ok
    assert plan.bytes_copied == log.bytes_copied == 12
    assert not plan.shares_memory
    assert {crossing.path: crossing.bytes for crossing in log.crossings} == {path: one.bytes_copied for path, one in plan.plans.items()}
    assert plan.aliases == {"tree['rev'][1]": "tree['a']"}
    assert plan.kept == ("tree['frozen'].name", "tree['n']")
    assert "tree['rev'][0]: 12 bytes copied: torch has no negative strides" in str(plan)
    assert interop.shares_memory(there["a"], source["a"])
    assert plan.as_dict()["bytes_copied"] == 12


def test_paths_are_expressions_that_lead_to_the_leaf():
    source = mixed_tree()
    plan = tree.explain(source, "torch")
    for path in [*plan.plans, *plan.aliases, *plan.kept]:
        value = eval(path, {"tree": source})
        if path in plan.plans:
            assert interop.describe(value) == plan.plans[path].description


def test_explain_never_raises_for_a_refusal():
    source = {"p": torch.ones(2, requires_grad=True), "s": "x"}
    plan = tree.explain(source, "numpy", others="error")
    assert not plan.ok
    assert plan.permissions == {"grad": "detach", "others": "keep"}
    assert not plan.shares_memory
    assert "refused" in str(plan)
    assert tree.explain(source, "numpy", **plan.permissions).ok
    final = tree.explain([torch.ones(2, device="meta")], "numpy")
    assert final.final
    assert final.permissions == {}


def test_descriptions_are_planned_without_a_gpu():
    there = interop.Description(backend="torch", shape=(4,), device="cuda:0")
    plan = tree.explain({"w": there, "b": [there]}, "numpy")
    assert plan.permissions == {"transfer": "allow"}
    assert tree.explain({"w": there}, "numpy", transfer="allow").bytes_copied == 16


def test_a_description_is_not_converted():
    for others in ("keep", "error"):
        with pytest.raises(UnsupportedTypeError, match=r"a Description has no data to convert\n      at tree\[0\]"):
            tree.convert([interop.describe(ones()), ones()], "torch", others=others)


def test_a_description_that_fails_names_its_place():
    class Refuses:
        def __dlpack__(self, **words):
            raise BufferError("not today")

        def __dlpack_device__(self):
            return (1, 0)

    with pytest.raises(interop.ProducerError, match=r"tree.describe\(tree\), at tree\['x'\]: .*not today"):
        tree.describe({"x": Refuses()})


def test_describe_keeps_the_tree():
    seen = tree.describe({"a": [ones()], "f": Frozen(ones()), "n": 3})
    assert seen["n"] == 3
    assert seen["a"][0].backend == seen["f"].weight.backend == "numpy"


@pytest.mark.parametrize("words", [{}, {"grad": "detach"}, {"copy": True}, {"policy": "strict"}], ids=str)
def test_the_fast_path_and_the_general_way_agree(words):
    tracked = torch.ones(3, requires_grad=True)
    source = [torch.ones(2), torch.ones(2).bool(), torch.ones(2, dtype=torch.bfloat16), *([tracked] if "grad" in words else [])]
    quick = tree.convert(source, "numpy", **words)
    with interop.record():  # which turns the fast path off
        slow = tree.convert(source, "numpy", **words)
    for one, other, x in zip(quick, slow, source, strict=True):
        assert (one.dtype, one.flags.writeable, interop.shares_memory(one, x)) == (
            other.dtype,
            other.flags.writeable,
            interop.shares_memory(other, x),
        )
        assert np.array_equal(one, other)


def test_the_strict_policy_is_heeded_in_scope():
    with interop.policy("strict"), pytest.raises(CopyError, match=r"at tree\[0\]"):
        tree.convert([ones()[::-1]], "torch")
    with interop.policy(copy=True):
        a = ones()
        assert not interop.shares_memory(tree.convert([a], "torch")[0], a)


# The law, over trees of anything.

LEAVES = [
    ones,
    lambda: ones()[::-1],
    lambda: np.float64(2),
    lambda: np.ma.array([1.0], mask=[1]),
    lambda: np.ones(2, ">f4"),
    lambda: np.ones(2, "longdouble"),
    lambda: torch.ones(2),
    lambda: torch.ones(2, requires_grad=True),
    lambda: torch.ones(2, dtype=torch.complex64).conj(),
    lambda: torch.ones(2).to_sparse(),
    lambda: torch.ones(2, device="meta"),
    lambda: "text",
    lambda: None,
    lambda: 7,
]
SOME_LEAF = st.sampled_from(LEAVES).map(lambda make: make())
TREES = st.recursive(
    SOME_LEAF,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        st.builds(Batch, inner, inner),
        st.builds(Frozen, inner),
        st.tuples(inner, inner),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(TREES, st.sampled_from(["numpy", "torch"]), st.sampled_from(["default", "strict", "coerce"]), st.sampled_from(["keep", "error"]))
def test_a_refusal_is_a_recipe(source, target, policy, others):
    words = {"policy": policy, "others": others}
    plan = tree.explain(source, target, **words)
    if plan.ok:
        tree.convert(source, target, **words)
        return
    with pytest.raises(interop.InteropError) as caught:
        tree.convert(source, target, **words)
    assert caught.value.permissions == plan.permissions
    if plan.permissions:
        tree.convert(source, target, **(words | plan.permissions))
    else:
        with pytest.raises(NoDataError):
            tree.convert(source, target, policy=interop.COERCE.replace(copy=True))


# Records whose fields are read and set at once, and those whose are not.


class Asked(Batch):
    """Counts what its own code is asked."""

    reads = 0

    def __getattribute__(self, name):
        if name == "image":
            Asked.reads += 1
        return object.__getattribute__(self, name)


class Seen(Batch):
    """A field that is a property: what is in the object's `__dict__` is not what is read."""

    @property
    def image(self):
        return self.__dict__["image"]()

    @image.setter
    def image(self, value):
        self.__dict__["image"] = lambda: value


@dataclasses.dataclass
class Provided:
    """Its second field is never set, and given by `__getattr__`."""

    x: Any
    y: Any = dataclasses.field(init=False)

    def __getattr__(self, name):
        if name == "y":
            return self.__dict__["x"] + 1
        raise AttributeError(name)


@dataclasses.dataclass
class Unset:
    """Its second field is never set, and its third is the class's."""

    x: Any
    y: Any = dataclasses.field(init=False)
    z: Any = dataclasses.field(init=False, default=7)


RECORDS = {
    "asked": (Asked, "image"),
    "property": (Seen, "image"),
    "given by getattr": (Provided, "x"),
    "unset": (Unset, "x"),
    "cached": (Cached, "x"),
    "one field": (OwnCopy, "x"),
}


@pytest.mark.parametrize(("make", "field"), RECORDS.values(), ids=RECORDS)
def test_a_record_is_rebuilt_by_its_fields_however_it_keeps_them(make, field):
    source = make(ones())
    before = dict(vars(source))
    there = tree.convert([source], "torch")[0]
    assert type(there) is type(source)
    assert there is not source
    assert isinstance(getattr(there, field), torch.Tensor)
    assert vars(source).keys() == before.keys()
    assert all(vars(source)[name] is before[name] for name in before)
    assert np.shares_memory(getattr(source, field), getattr(there, field).numpy())


def test_a_field_that_was_never_set_stays_unset_and_what_a_class_gives_is_converted():
    there = tree.convert(Unset(ones()), "torch")
    assert not hasattr(there, "y")
    assert there.z == 7
    given = tree.convert(Provided(ones()), "torch")
    assert isinstance(given.y, torch.Tensor)
    assert given.y[0] == 2


def test_a_class_that_reads_its_fields_itself_is_asked():
    Asked.reads = 0
    tree.convert(Asked(ones()), "torch")
    assert Asked.reads > 0


def around(make):
    made = make()
    inner = made[0] if isinstance(made, list) else made["a"]
    inner.append(made)
    return made


CYCLES = {
    "a list": lambda: around(lambda: [[np.ones(1)]]),
    "a dict": lambda: around(lambda: {"a": [np.ones(1)]}),
    "an ordered dict": lambda: around(lambda: OrderedDict(a=[np.ones(1)])),
    "a list in a tuple": lambda: (1, around(lambda: [[]])),
    "a list of a kind": lambda: around(lambda: Stack([[np.ones(1)]])),
}


@pytest.mark.parametrize("make", CYCLES.values(), ids=CYCLES)
@pytest.mark.parametrize("verb", [tree.convert, tree.explain, lambda one, _: tree.describe(one)])
def test_a_container_of_python_that_contains_itself_is_an_error_too(make, verb):
    with pytest.raises(ValueError, match=r"the tree contains itself: a .* is reached from its own parts"):
        verb(make(), "torch")


def test_what_is_deep_does_not_contain_itself():
    deep: list = [np.ones(1)]
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        tree.convert(deep, "torch")
    while deep:  # taken apart without recursion
        deep = deep.pop() if isinstance(deep[0], list) else []


class Failing:
    def __dlpack_device__(self):
        return (1, 0)

    def __dlpack__(self, **_):
        raise SystemError("boom")


@pytest.mark.parametrize(
    "verb", [interop.convert, lambda x, to: tree.convert([np.ones(1), x], to), lambda x, to: tree.convert({"a": x, "b": Failing()}, to)]
)
def test_the_producers_own_error_is_the_cause(verb):
    with pytest.raises(interop.ProducerError) as caught:
        verb(Failing(), "torch")
    assert repr(caught.value.__cause__) == "SystemError('boom')"
