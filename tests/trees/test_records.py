"""Plain containers flattened and rebuilt at once, in C, against the general way that takes any container; and without C."""

import dataclasses
import gc
import subprocess
import sys
import warnings
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import optree
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interop._engine.fastpath import compiled
from interop._trees import records as _records
from interop._trees import structure as _structure


@dataclasses.dataclass(eq=False)
class Pair:
    left: Any
    right: Any = None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Slots:
    left: Any
    right: Any = None


@dataclasses.dataclass(frozen=True, eq=False)
class Empty:
    pass


@dataclasses.dataclass(eq=False)
class Late:
    left: Any
    right: Any = dataclasses.field(init=False)


class Named(NamedTuple):
    left: Any
    right: Any = None


class Wider(Named):
    """Not a plain named tuple: it may have attributes."""


class Registered(NamedTuple):
    """Nobody's named tuple in the namespace in which it is registered, where its second field is no part."""

    left: Any
    right: Any = None


with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # optree says that it is a named tuple, which is meant here
    optree.register_pytree_node(Registered, lambda x: ((x.left,), x.right), lambda right, left: Registered(*left, right), namespace="walk")


needs_c = pytest.mark.skipif(compiled is None, reason="interop.native.fastpath is not built here: run `make test`")


@pytest.fixture(params=[pytest.param("c", marks=needs_c), "optree"])
def implementation(request, monkeypatch):
    """Whether the compiled half is there; without it the general way has to give the same."""
    if request.param == "optree":
        monkeypatch.setattr(_records, "flatten", None)
    return request.param


def the_general_way(tree):
    flattening = _structure._Flattening(None, "", once=True)
    flattening._flattened_at_once = lambda *_: None
    node = flattening.flatten(tree)
    assert node.schemas is None
    return node


LEAVES = st.sampled_from([np.ones(2), torch.ones(2), 3, "word", None])


@st.composite
def trees(draw):
    """Nested containers in which an object may occur more than once, and records that are not as declared."""
    shared = [Pair(np.zeros(1), 1), Slots(np.zeros(1)), [np.zeros(1)]]

    def extended(inner):
        several = st.lists(inner, max_size=3)
        return st.one_of(
            st.builds(Pair, inner, inner),
            st.builds(Slots, inner, inner),
            st.builds(Late, inner),
            st.builds(attributed, inner),
            st.just(Empty()),
            several,
            several.map(lambda some: OrderedDict(enumerate(some))),
            several.map(lambda some: dict(enumerate(some[::-1]))),
            several.map(lambda some: dict(zip("bac", some, strict=False))),
            several.map(lambda some: dict(zip(("b", 1, None), some, strict=False))),
            st.tuples(inner, inner),
            st.builds(Named, inner, inner),
            st.builds(Wider, inner, inner),
            st.builds(Registered, inner, inner),
            st.sampled_from(shared),
        )

    return draw(st.lists(st.recursive(LEAVES, extended, max_leaves=12), max_size=4))


def attributed(x):
    made = Pair(x)
    made.note = "beside"
    return made


def form(x, names):
    """Return the form of a tree with its objects named in the order of their first occurrence, so that aliases show."""
    name = names.setdefault(id(x), len(names))
    if isinstance(x, (Pair, Slots, Late, Empty)):
        slots = {field: getattr(x, field) for field in ("left", "right") if hasattr(x, field)}
        own = slots | getattr(x, "__dict__", {})
        return type(x), name, {key: form(one, names) for key, one in own.items()}
    if isinstance(x, dict):
        return type(x), [(key, form(one, names)) for key, one in x.items()]
    if isinstance(x, (list, tuple)):
        return type(x), [form(one, names) for one in x]
    return type(x), name


def others(leaves):
    """Return what comes in the place of the leaves: for an array another one, the same for the same."""
    made = {}
    return [made.setdefault(id(leaf), np.full(2, 7.0)) if isinstance(leaf, (np.ndarray, torch.Tensor)) else leaf for leaf in leaves]


@settings(max_examples=300, deadline=None)
@given(tree=trees())
@needs_c
def test_both_ways_find_the_same_leaves_and_make_the_same_tree(tree):
    short, long = _structure.flatten(tree), the_general_way(tree)
    assert list(map(id, short.leaves)) == list(map(id, long.leaves))
    assert list(short.paths("tree")) == list(long.paths("tree"))
    results = others(short.leaves)
    made, expected = short.unflatten(results), long.unflatten(results)
    before = form(tree, {})
    assert form(made, {}) == form(expected, {})
    assert form(tree, {}) == before
    same = short.unflatten(short.leaves)
    kept = [(old, new) for old, new in zip(tree, same, strict=True) if isinstance(old, (Pair, Slots, Empty))]
    assert all(old is new for old, new in kept)


def test_a_list_outside_of_records_is_a_new_one_always(implementation):
    """As with optree: whoever appends to the result does not change the source."""
    tree = {"a": [1, [2]], "b": Pair([3]), "c": Named([4])}
    node = _structure.flatten(tree)
    assert (node.schemas is not None) == (implementation == "c")
    same = node.unflatten(node.leaves)
    assert same == tree
    assert same is not tree
    assert same["a"] is not tree["a"]
    assert same["a"][1] is not tree["a"][1]
    assert same["c"] is not tree["c"]
    assert same["c"].left is not tree["c"].left
    assert same["b"] is tree["b"]
    assert same["b"].left is tree["b"].left


def test_a_named_tuple_that_is_registered_is_what_it_is_registered_as(implementation):
    tree = [Registered(np.ones(1), "kept"), Named(np.ones(1), "word")]
    assert len(_structure.flatten(tree).leaves) == 4
    node = _structure.flatten(tree, namespace="walk")
    assert len(node.leaves) == 3
    assert node.unflatten([1, 2, 3]) == [Registered(1, "kept"), Named(2, 3)]


@pytest.mark.parametrize("depth", [_records.DEPTH - 1, _records.DEPTH, _records.DEPTH + 1, 2 * _records.DEPTH])
def test_a_deep_tree_is_flattened_one_way_or_the_other(implementation, depth):
    tree = leaf = np.ones(1)
    for _ in range(depth):
        tree = [tree]
    node = _structure.flatten(tree)
    assert (node.schemas is not None) == (implementation == "c" and depth <= _records.DEPTH)
    assert node.leaves == [leaf]
    assert list(node.paths("t")) == ["t" + "[0]" * depth]
    assert str(node.unflatten([5])) == "[" * depth + "5" + "]" * depth


def test_trees_have_a_form_in_common_if_they_differ_in_their_leaves_only(implementation):
    def formed(tree):
        return _structure.flatten(tree).structure

    assert formed({"a": [1, (2, None)], "b": Named(3)}) == formed({"b": Named(4), "a": ["x", (5, None)]})
    assert formed([1, 2]) != formed((1, 2))
    assert formed([1, 2]) != formed([1, [2]])
    assert formed(1) == formed(2)
    assert formed(OrderedDict(a=1)) == formed(OrderedDict(a=2))
    assert formed([Pair(1)]) is None
    assert formed({"a": OrderedDict(b=Pair(1))}) is None
    assert formed([{1, 2}]) is None


@dataclasses.dataclass(eq=False)
class EmptyToo:
    pass


def test_records_without_a_field_are_told_apart_too(implementation):
    """Else the rule that was compiled for one would be used for the other."""
    for tree in ([Empty(), 1], [EmptyToo(), 1], OrderedDict(a=Empty(), b=1), {"a": (Empty(),)}, Named(Empty())):
        assert _structure.flatten(tree).structure is None
    assert _structure.flatten([None, 1]).structure is not None
    assert _structure.flatten(OrderedDict(a=None, b=1)).structure != _structure.flatten(OrderedDict(c=None, b=1)).structure


class Duck(tuple):  # noqa: SLOT001 - it has attributes, which is the point
    """Looks like a named tuple to optree, and is made by its own constructor."""

    _fields = ("a", "b")

    def __new__(cls, *values):
        made = super().__new__(cls, values)
        made.extra = "beside"
        return made

    @classmethod
    def _make(cls, values):
        return cls(*values)

    def _asdict(self):
        return dict(zip(self._fields, self, strict=True))


def test_what_only_looks_like_a_named_tuple_is_left_to_optree(implementation):
    node = _structure.flatten([Duck(np.ones(1), 2)])
    made = node.unflatten([3, 4])
    assert type(made[0]) is Duck
    assert made[0].extra == "beside"
    assert made == [(3, 4)]


@needs_c
def test_results_never_go_to_another_leaf():
    """A dict whose keys are others by then, as many as before: an error, and not results at the wrong keys."""
    tree = {"a": np.ones(1), "b": np.zeros(1)}
    node = _structure.flatten([tree])
    assert node.schemas is not None
    tree["0"] = tree.pop("b")
    with pytest.raises(RuntimeError, match="changed while"):
        node.unflatten([1, 2])
    swapped = [np.ones(1), np.zeros(1)]
    node = _structure.flatten([swapped])
    swapped.reverse()
    with pytest.raises(RuntimeError, match="changed while"):
        node.unflatten([1, 2])


@needs_c
def test_the_collector_is_as_it_was():
    node = _structure.flatten([Pair(np.ones(1))])
    for enable in (gc.disable, gc.enable):
        enable()
        node.unflatten([1])
        assert gc.isenabled() == (enable is gc.enable)
        with pytest.raises(RuntimeError, match="changed while"):
            node.unflatten([1, 2])
        assert gc.isenabled() == (enable is gc.enable)


@needs_c
def test_records_are_taken_at_once():
    tree = [Pair(np.ones(2), Slots(torch.ones(2), 4)), Empty(), {"a": Pair(None, "word")}, 5]
    node = _structure.flatten(tree)
    assert node.schemas is not None
    assert not node.containers
    assert len(node.leaves) == 5
    node = _structure.flatten([Pair([np.ones(1), (2, {"b": Pair(3), "a": 4})], [])])
    assert node.schemas is not None
    assert list(node.paths("t")) == ["t[0].left[0]", "t[0].left[1][0]", "t[0].left[1][1]['a']", "t[0].left[1][1]['b'].left"]
    node = _structure.flatten(tree)
    assert node.structure is None
    assert node.has_records
    assert list(node.paths("t")) == ["t[0].left", "t[0].right.left", "t[0].right.right", "t[2]['a'].right", "t[3]"]


@pytest.mark.parametrize(
    "make",
    {
        "an attribute beside, and another": lambda: [attributed(np.ones(1)), Late(1)],
        "an unset field": lambda: [Late(np.ones(1))],
        "a set inside": lambda: [Pair({1})],
        "keys without an order": lambda: [Pair({1: np.ones(1), "a": 2})],
        "twice": lambda: [Pair(np.ones(1))] * 2,
    }.values(),
)
def test_what_is_not_plain_goes_the_general_way(implementation, make):
    node = _structure.flatten(make())
    assert node.schemas is None
    assert node.containers


def test_a_record_that_contains_itself_is_said_to(implementation):
    record = Pair(1)
    record.right = record
    with pytest.raises(ValueError, match="contains itself"):
        _structure.flatten([record])


@needs_c
def test_a_tree_that_changes_meanwhile_is_an_error_and_not_a_wrong_result():
    for change in (lambda r: setattr(r, "note", 1), lambda r: vars(r).pop("left"), lambda r: setattr(r, "right", np.ones(1))):
        record = Pair(np.ones(1))
        node = _structure.flatten([record])
        change(record)
        with pytest.raises(RuntimeError, match="changed while it was being converted"):
            node.unflatten([np.zeros(1)])
    record = Pair(np.ones(1), np.ones(1))
    node = _structure.flatten([record])
    record.right = None
    with pytest.raises(RuntimeError, match="changed while it was being converted"):
        node.unflatten([np.zeros(1), np.zeros(1)])
    record = Pair(np.ones(1))
    node = _structure.flatten([record])
    record.right = {1}
    with pytest.raises(RuntimeError, match="changed while it was being converted"):
        node.unflatten([np.zeros(1)])


@needs_c
def test_an_answer_that_is_no_schema_is_refused():
    with pytest.raises(TypeError, match="a schema is None, False, a tuple"):
        compiled.flatten([1], {}, {}, lambda _: [])
    with pytest.raises(ZeroDivisionError):
        compiled.flatten([1], {}, {}, lambda _: 1 / 0)
    for function, arguments in (
        (compiled.flatten, ([], {}, {})),
        (compiled.flatten, ((), {}, {}, len)),
        (compiled.unflatten, ([], {}, [], (), {})),
        (compiled.unflatten, ([], {}, [], {})),
    ):
        with pytest.raises(TypeError, match="list"):
            function(*arguments)


def test_what_is_very_deep_is_an_error_and_no_crash(implementation):
    code = """if True:
        import sys
        from interop._trees import structure as _structure
        from interop._trees import records as _records
        from tests.trees import test_records as t
        if sys.argv[1] == "optree":
            _records.flatten = None
        record = t.Pair(1)
        for _ in range(100_000):
            record = t.Pair(record)
        try:
            _structure.flatten([record])
        except RecursionError:
            print("too deep")
    """
    ran = subprocess.run([sys.executable, "-c", code, implementation], capture_output=True, text=True, check=False)
    assert ran.stdout == "too deep\n", ran.stderr[-2000:]


def test_nothing_is_kept(implementation):
    def turn():
        tree = [Pair(np.ones(2), Slots([torch.ones(2), (1, {"a": np.ones(1), "b": 2})])) for _ in range(50)]
        node = _structure.flatten(tree)
        node.unflatten(others(node.leaves))
        _structure.flatten([*tree, [object()], Pair({1: 2, "a": [3]}), Pair({4})])

    for _ in range(3):
        turn()
    gc.collect()
    before = len(gc.get_objects())
    blocks = sys.getallocatedblocks()
    for _ in range(20):
        turn()
    gc.collect()
    assert len(gc.get_objects()) - before < 20
    assert sys.getallocatedblocks() - blocks < 300
