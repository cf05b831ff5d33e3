"""Plain containers taken apart and made anew at once, in C and in Python, against the long way that takes any container."""

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
from interop._trees import structure as _nodes
from interop._trees import walk as _walk


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


IMPLEMENTATIONS = {"python": (_walk.gather_in_python, _walk.scatter_in_python)}
if compiled is not None:
    IMPLEMENTATIONS["c"] = (compiled.gather, compiled.scatter)


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request, monkeypatch):
    gather, scatter = IMPLEMENTATIONS[request.param]
    monkeypatch.setattr(_walk, "gather", gather)
    monkeypatch.setattr(_walk, "scatter", scatter)


def the_long_way(tree):
    taker = _nodes._Taker(None, "", once=True)
    taker._walked = lambda *_: None
    node = taker.take(tree)
    assert node.known is None
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
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_both_ways_find_the_same_leaves_and_make_the_same_tree(name, tree):
    with pytest.MonkeyPatch.context() as patch:
        gather, scatter = IMPLEMENTATIONS[name]
        patch.setattr(_walk, "gather", gather)
        patch.setattr(_walk, "scatter", scatter)
        short, long = _nodes.take_apart(tree), the_long_way(tree)
        assert list(map(id, short.leaves)) == list(map(id, long.leaves))
        assert list(short.paths("tree")) == list(long.paths("tree"))
        results = others(short.leaves)
        made, expected = short.rebuild(results), long.rebuild(results)
        before = form(tree, {})
        assert form(made, {}) == form(expected, {})
        assert form(tree, {}) == before
        same = short.rebuild(short.leaves)
        kept = [(old, new) for old, new in zip(tree, same, strict=True) if isinstance(old, (Pair, Slots, Empty))]
        assert all(old is new for old, new in kept)


def test_a_list_outside_of_records_is_a_new_one_always(implementation):
    """As with optree: whoever appends to the result does not change the source."""
    tree = {"a": [1, [2]], "b": Pair([3]), "c": Named([4])}
    node = _nodes.take_apart(tree)
    assert node.known is not None
    same = node.rebuild(node.leaves)
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
    assert len(_nodes.take_apart(tree).leaves) == 4
    node = _nodes.take_apart(tree, namespace="walk")
    assert len(node.leaves) == 3
    assert node.rebuild([1, 2, 3]) == [Registered(1, "kept"), Named(2, 3)]


@pytest.mark.parametrize("depth", [_walk.DEPTH - 1, _walk.DEPTH, _walk.DEPTH + 1, 2 * _walk.DEPTH])
def test_a_deep_tree_is_taken_apart_one_way_or_the_other(implementation, depth):
    tree = leaf = np.ones(1)
    for _ in range(depth):
        tree = [tree]
    node = _nodes.take_apart(tree)
    assert (node.known is not None) == (depth <= _walk.DEPTH)
    assert node.leaves == [leaf]
    assert list(node.paths("t")) == ["t" + "[0]" * depth]
    assert str(node.rebuild([5])) == "[" * depth + "5" + "]" * depth


def test_trees_have_a_form_in_common_if_they_differ_in_their_leaves_only(implementation):
    def formed(tree):
        return _nodes.take_apart(tree).form

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
        assert _nodes.take_apart(tree).form is None
    assert _nodes.take_apart([None, 1]).form is not None
    assert _nodes.take_apart(OrderedDict(a=None, b=1)).form != _nodes.take_apart(OrderedDict(c=None, b=1)).form


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
    node = _nodes.take_apart([Duck(np.ones(1), 2)])
    made = node.rebuild([3, 4])
    assert type(made[0]) is Duck
    assert made[0].extra == "beside"
    assert made == [(3, 4)]


def test_results_never_go_to_another_leaf(implementation):
    """A dict whose keys are others by then, as many as before: an error, and not results at the wrong keys."""
    tree = {"a": np.ones(1), "b": np.zeros(1)}
    node = _nodes.take_apart([tree])
    assert node.known is not None
    tree["0"] = tree.pop("b")
    with pytest.raises(RuntimeError, match="changed while"):
        node.rebuild([1, 2])
    swapped = [np.ones(1), np.zeros(1)]
    node = _nodes.take_apart([swapped])
    swapped.reverse()
    with pytest.raises(RuntimeError, match="changed while"):
        node.rebuild([1, 2])


def test_the_collector_is_as_it_was(implementation):
    node = _nodes.take_apart([Pair(np.ones(1))])
    for enable in (gc.disable, gc.enable):
        enable()
        node.rebuild([1])
        assert gc.isenabled() == (enable is gc.enable)
        with pytest.raises(RuntimeError, match="changed while"):
            node.rebuild([1, 2])
        assert gc.isenabled() == (enable is gc.enable)


def test_records_are_taken_at_once(implementation):
    tree = [Pair(np.ones(2), Slots(torch.ones(2), 4)), Empty(), {"a": Pair(None, "word")}, 5]
    node = _nodes.take_apart(tree)
    assert node.known is not None
    assert not node.opened
    assert len(node.leaves) == 5
    node = _nodes.take_apart([Pair([np.ones(1), (2, {"b": Pair(3), "a": 4})], [])])
    assert node.known is not None
    assert list(node.paths("t")) == ["t[0].left[0]", "t[0].left[1][0]", "t[0].left[1][1]['a']", "t[0].left[1][1]['b'].left"]
    node = _nodes.take_apart(tree)
    assert node.form is None
    assert node.has_records
    assert list(node.paths("t")) == ["t[0].left", "t[0].right.left", "t[0].right.right", "t[2]['a'].right", "t[3]"]


@pytest.mark.parametrize(
    "make",
    {
        "an attribute beside": lambda: [attributed(np.ones(1))],
        "an unset field": lambda: [Late(np.ones(1))],
        "a set inside": lambda: [Pair({1})],
        "keys without an order": lambda: [Pair({1: np.ones(1), "a": 2})],
        "twice": lambda: [Pair(np.ones(1))] * 2,
    }.values(),
)
def test_what_is_not_plain_goes_the_long_way(implementation, make):
    node = _nodes.take_apart(make())
    assert node.known is None or node.opened
    assert node.opened


def test_a_record_that_contains_itself_is_said_to(implementation):
    record = Pair(1)
    record.right = record
    with pytest.raises(ValueError, match="contains itself"):
        _nodes.take_apart([record])


def test_a_tree_that_changes_meanwhile_is_an_error_and_not_a_wrong_result(implementation):
    for change in (lambda r: setattr(r, "note", 1), lambda r: vars(r).pop("left"), lambda r: setattr(r, "right", np.ones(1))):
        record = Pair(np.ones(1))
        node = _nodes.take_apart([record])
        change(record)
        with pytest.raises(RuntimeError, match="changed while it was being converted"):
            node.rebuild([np.zeros(1)])
    record = Pair(np.ones(1), np.ones(1))
    node = _nodes.take_apart([record])
    record.right = None
    with pytest.raises(RuntimeError, match="changed while it was being converted"):
        node.rebuild([np.zeros(1), np.zeros(1)])
    record = Pair(np.ones(1))
    node = _nodes.take_apart([record])
    record.right = {1}
    with pytest.raises(RuntimeError, match="changed while it was being converted"):
        node.rebuild([np.zeros(1)])


def test_an_answer_that_is_no_kind_is_refused():
    if compiled is None:
        pytest.skip("interop.native.fastpath is not built here: run `make test`")
    with pytest.raises(TypeError, match="a kind is None, False, a tuple"):
        compiled.gather([1], {}, {}, lambda _: [])
    with pytest.raises(ZeroDivisionError):
        compiled.gather([1], {}, {}, lambda _: 1 / 0)
    for function, arguments in (
        (compiled.gather, ([], {}, {})),
        (compiled.gather, ((), {}, {}, len)),
        (compiled.scatter, ([], {}, [], (), {})),
        (compiled.scatter, ([], {}, [], {})),
    ):
        with pytest.raises(TypeError, match="list"):
            function(*arguments)


def test_what_is_very_deep_is_an_error_and_no_crash(implementation):
    code = """if True:
        import sys
        from interop._trees import structure as _nodes
        from interop._trees import walk as _walk
        from tests.trees import test_walk as t
        _walk.gather, _walk.scatter = t.IMPLEMENTATIONS[sys.argv[1]]
        record = t.Pair(1)
        for _ in range(100_000):
            record = t.Pair(record)
        try:
            _nodes.take_apart([record])
        except RecursionError:
            print("too deep")
    """
    which = next(name for name, both in IMPLEMENTATIONS.items() if both[0] is _walk.gather)
    ran = subprocess.run([sys.executable, "-c", code, which], capture_output=True, text=True, check=False)
    assert ran.stdout == "too deep\n", ran.stderr[-2000:]


def test_nothing_is_kept(implementation):
    def turn():
        tree = [Pair(np.ones(2), Slots([torch.ones(2), (1, {"a": np.ones(1), "b": 2})])) for _ in range(50)]
        node = _nodes.take_apart(tree)
        node.rebuild(others(node.leaves))
        _nodes.take_apart([*tree, [object()], Pair({1: 2, "a": [3]}), Pair({4})])

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
