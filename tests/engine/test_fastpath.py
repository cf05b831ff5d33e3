"""The fast path decides nothing: wherever it answers, it answers as the general way does; in C and in Python."""

import contextlib
import copy
import gc
import inspect
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import pytest
import torch

import interop
from interop import InteropError, shares_memory
from interop._engine.fastpath import (
    compiled,
    convert_all_in_python,
    guarded_in_c,
    guarded_in_python,
    is_opaque_in_python,
    reject_unknown_keywords,
    table,
    verb_in_c,
    verb_in_python,
    with_fast_path_for_any_target,
)
from interop._model.scope import Entry, put
from interop.backends import load_backend
from interop.backends.shortcut import DETACH
from tests.corpus import SOURCES

VERBS = {"numpy": interop.to_numpy, "torch": interop.to_torch}
WORDS = [{}, {"grad": "detach"}]


@contextlib.contextmanager
def general_way():
    with put(Entry("this test", None)):
        yield


def outcome(verb, x, words):
    """Return what a caller can tell about a result: kind, values' memory, flags, or the refusal."""
    try:
        result = verb(x, **words)
    except InteropError as error:
        return type(error), error.code, error.permissions
    writable = result.flags.writeable if isinstance(result, np.ndarray) else None
    described = interop.describe(result)
    if result is x:
        return "itself"
    shared = described.no_data is None and described.pointer is not None and shares_memory(result, x)
    return type(result), described.dtype, described.shape, described.strides, writable, shared, described.requires_grad


needs_c = pytest.mark.skipif(compiled is None, reason="interop.native.fastpath is not built here: run `make test`")


@pytest.mark.skipif(os.environ.get("INTEROP_REQUIRE_C") != "1", reason="a compiler is not required everywhere; CI requires it")
def test_the_compiled_module_was_built():
    assert compiled is not None


@pytest.fixture(params=[pytest.param("c", marks=needs_c), "python", "any target"])
def implementation(request, monkeypatch):
    """Put the fast paths of one implementation into the tables."""
    guarded = guarded_in_c if request.param == "c" else guarded_in_python
    for name in ("numpy", "torch"):
        for key, by_type in load_backend(name).shortcuts().items():
            for kind, shortcut in by_type.items():
                monkeypatch.setitem(table(*key), kind, guarded(shortcut))
    if request.param == "any target":
        convert = with_fast_path_for_any_target(interop.convert.__wrapped__)
        return {target: lambda *x, target=target, **words: convert(*x, target, **words) for target in VERBS}
    make = {"c": verb_in_c, "python": verb_in_python}[request.param]
    return {target: make(target, reject_unknown_keywords(verb.__wrapped__)) for target, verb in VERBS.items()}


@pytest.mark.parametrize("target", VERBS)
@pytest.mark.parametrize("words", WORDS, ids=str)
@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental", "ignore:The PyTorch API of MaskedTensors")  # torch's own
def test_both_ways_agree_on_every_source(implementation, target, words):
    answered = 0
    for source in SOURCES:
        with source.inside():
            x = source.make()
            attempt = table(target).get(type(x)) or table(target, DETACH).get(type(x))
            answered += attempt is not None and attempt(x) is not None
            fast = outcome(implementation[target], x, words)
            with general_way():
                assert outcome(VERBS[target], x, words) == fast, source.name
    assert answered > 20  # the fast path did answer: the comparison is not of the general way with itself


def test_the_fast_path_is_taken(implementation):
    """The negative control: without the guards it would answer where it must not."""
    parameter = torch.nn.Parameter(torch.ones(2))
    assert table("numpy")[torch.nn.Parameter](parameter) is None
    assert table("numpy", DETACH)[torch.nn.Parameter](parameter) is not None
    with torch.no_grad():
        assert parameter.numpy() is not None  # torch's own check has a hole here
        assert table("numpy")[torch.nn.Parameter](parameter) is None


@pytest.mark.parametrize("wrong", [{"grad": "detatch"}, {"grda": "detach"}, {"grad": 1}, {"copy": 0}, {"grad": np.ones(2)}])
def test_wrong_words_are_wrong_for_plain_arrays_too(implementation, wrong):
    with pytest.raises((TypeError, ValueError), match=r"did you mean|Values:"):
        implementation["numpy"](torch.ones(2), **wrong)


def test_a_verb_is_as_good_as_a_function(implementation):
    verb = interop.to_numpy
    assert verb.__name__ == verb.__qualname__ == "to_numpy"
    assert "NumPy array" in verb.__doc__
    assert list(inspect.signature(verb).parameters)[:3] == ["x", "blocking", "device"]
    assert pickle.loads(pickle.dumps(verb)) is verb
    assert copy.deepcopy(verb) is verb
    with pytest.raises(TypeError):
        implementation["numpy"]()


def test_scopes_that_always_copy_turn_it_off(implementation):
    array = np.ones(3)
    with interop.policy(copy=True):
        assert not shares_memory(interop.to_numpy(array), array)
    with interop.policy("strict"):
        assert interop.to_numpy(array) is array


def test_nothing_leaks(implementation):
    array, tensor, parameter = np.ones(3, "float32"), torch.ones(3), torch.nn.Parameter(torch.ones(3))
    cases = [(implementation["torch"], array), (implementation["numpy"], tensor), (implementation["numpy"], parameter)]

    def run():
        for verb, x in cases:
            for words in WORDS:
                with contextlib.suppress(InteropError):
                    verb(x, **words)

    run()
    gc.collect()
    before = [sys.getrefcount(x) for _, x in cases]
    for _ in range(200):
        run()
    gc.collect()
    assert [sys.getrefcount(x) for _, x in cases] == before


def test_an_offset_into_a_freed_storage_is_no_memory(implementation):
    part = torch.ones(8)[3:]
    part.untyped_storage().resize_(0)
    assert part.data_ptr() == 12  # the negative control: it has an address
    assert part.numpy().shape == (5,)  # which torch hands out
    with pytest.raises(interop.NoDataError):
        implementation["numpy"](part)


LOW_HEAP = """
import ctypes, sys
import numpy as np, torch, interop
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
address = libc.mmap(0x10000000, 4096, 3, 0x32, -1, 0)
low = torch.from_numpy(np.frombuffer((ctypes.c_char * 256).from_address(address), "float32").reshape(8, 8))
def calls(x):
    seen = []
    for _ in range(3): interop.to_numpy(x)
    sys.setprofile(lambda frame, event, what: seen.append(frame.f_code.co_name) if event == "call" else None)
    interop.to_numpy(x)
    sys.setprofile(None)
    return seen
print(address == 0x10000000, calls(torch.zeros(8, 8)), calls(low), calls(low[1:]))
"""


@needs_c
@pytest.mark.skipif(sys.platform != "linux", reason="memory is mapped at an address of Linux")
def test_where_the_heap_lies_low_no_more_python_runs_than_elsewhere():
    """As with a Python that is not position independent; only an array that begins inside of its storage is looked at more closely."""
    done = subprocess.run([sys.executable, "-c", LOW_HEAP], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True [] [] ['has_memory']"


def test_a_guard_that_fails_is_not_swallowed():
    from interop.backends.base import Shortcut

    def broken():
        raise KeyError("a bug in a guard")

    for guarded in (guarded_in_python, *([guarded_in_c] if compiled else [])):
        with pytest.raises(KeyError):
            guarded(Shortcut(len, no_mode=(broken,)))([])
        with pytest.raises(ZeroDivisionError):
            guarded(Shortcut(lambda x: 1 / 0, declines=(ValueError,)))([])
        assert guarded(Shortcut(int, declines=(ValueError,)))("no number") is None


@needs_c
def test_the_compiled_module_checks_what_it_is_given():
    from interop.backends.base import Shortcut

    for wrong in ({"must_be_false": (("name",),)}, {"no_level": ((1, 2),)}, {"getter": ("name",)}):
        with pytest.raises(TypeError):
            guarded_in_c(Shortcut(len, **wrong))


def test_a_misspelt_keyword_gets_the_nearest():
    def verb(x, /, *, device=None):
        return device

    assert reject_unknown_keywords(verb)(1, device="cpu") == "cpu"
    with pytest.raises(TypeError, match="did you mean 'device'"):
        reject_unknown_keywords(verb)(1, devise="cpu")


# What trees ask for thousands of leaves: the same in C and in Python.


@pytest.mark.parametrize(
    "ask", [is_opaque_in_python, pytest.param(getattr(compiled, "is_opaque", None), marks=needs_c)], ids=["python", "c"]
)
def test_what_optree_has_to_leave_alone(ask):
    plain, attributed = OrderedDict(a=1), OrderedDict(a=1)
    attributed._metadata = {}

    class Plain(NamedTuple):
        x: int
        y: int

    class Own(Plain):
        __slots__ = ()

    assert [ask(x) for x in (attributed, Own(1, 2))] == [True, True]
    others = [plain, Plain(1, 2), (1,), torch.ones(2, 2).max(0), torch.Size([1]), {}, [], None, 3, np.ones(1), "x"]
    assert [ask(x) for x in others] == [False] * len(others)


@pytest.mark.parametrize(
    "run", [convert_all_in_python, pytest.param(getattr(compiled, "convert_all", None), marks=needs_c)], ids=["python", "c"]
)
class TestConvertAll:
    def test_each_leaf_is_asked_once_and_the_others_are_left(self, run):
        asked = []

        def attempt(x):
            asked.append(x)
            return None if x < 0 else [x]

        values = [float(n) for n in range(100)]
        leaves = [values[0], "text", values[1], values[0], -1.0, *values, 3]
        results = run(leaves, {float: attempt})
        assert len(asked) == len({id(x) for x in asked}) == 101
        assert results[0] is results[3] is results[5]
        assert results[2] is results[6]
        assert (results[1], results[4], results[-1]) == (None, None, None)
        assert [one[0] for one in results[5:-1]] == values
        assert run([], {}) == []

    def test_many_leaves_many_times(self, run):
        values = [object() for _ in range(3000)]
        leaves = [values[n * 7919 % 3000] for n in range(9000)]
        results = run(leaves, {object: lambda x: (x,)})
        assert all(result[0] is leaf for result, leaf in zip(results, leaves, strict=True))
        assert len(set(map(id, results))) == 3000

    def test_an_error_comes_through_and_nothing_leaks(self, run):
        def attempt(x):
            if x == 2.0:
                raise KeyError(x)
            return [x]

        leaves = [1.0, 2.0]
        before = sys.getrefcount(leaves[0])
        for _ in range(10):
            with pytest.raises(KeyError):
                run(leaves, {float: attempt})
        assert sys.getrefcount(leaves[0]) <= before + 1

    def test_a_list_that_changes_meanwhile_is_no_danger(self, run):
        leaves = [float(n) for n in range(50)]

        def attempt(x):
            leaves.clear()
            return [x]

        assert run(list(leaves), {float: lambda x: [x]}) == [[float(n)] for n in range(50)]
        assert run(leaves, {float: attempt})[0] == [0.0]
