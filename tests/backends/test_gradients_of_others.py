"""Gradients that other libraries track: DLPack does not know them, so their own words are asked for."""

import ctypes
import inspect
import sys
import types
from unittest import mock

import numpy as np
import pytest
import torch

from interop import DTypeError, GradError, ProducerError, convert, describe, explain, guard, shares_memory, to_numpy, to_torch, tree
from interop.backends.producers import PRODUCERS
from tests.producer import Producer

DATA = np.array([1.0, 2.0, 3.0], "float32")


class Tracked:
    """A tensor of a library that exports what it tracks without a word, as Dr.Jit, Warp and TensorFlow do."""

    def __init__(self, data=DATA, *, requires_grad=True):
        self.data, self.requires_grad = data, requires_grad

    def __dlpack_device__(self):
        return (1, 0)

    def __dlpack__(self, **asked):
        return self.data.__dlpack__(**asked)


class Refusing(Tracked):
    """One that refuses the export, as the standard demands, and knows how to leave the graph."""

    words = "Can't export tensors that require gradient, use tensor.detach()"

    def __dlpack__(self, **asked):
        if self.requires_grad:
            raise BufferError(self.words)
        return super().__dlpack__(**asked)

    def detach(self):
        return type(self)(self.data, requires_grad=False)


class Silent(Refusing):
    """One that does not say that it is tracked; its refusal does."""

    words = "requires_grad=True: no export"

    def __init__(self, data=DATA, *, requires_grad=True):
        self.data, self.on = data, requires_grad

    requires_grad = property(lambda self: self.on and self._raise(), lambda self, value: None)

    def _raise(self):
        raise RuntimeError("not asked for before the first step")

    def __dlpack__(self, **asked):
        if self.on:
            raise RuntimeError(self.words)
        return self.data.__dlpack__(**asked)


class Forever(Tracked):
    """One that refuses, and cannot leave the graph."""

    def __dlpack__(self, **asked):
        raise RuntimeError("it has a gradient")


@pytest.mark.parametrize("make", [Tracked, Refusing, Silent])
@pytest.mark.parametrize("to", ["numpy", "torch", "array_api_strict"])
def test_a_gradient_is_not_dropped_unasked(make, to):
    x = make()
    assert describe(x).requires_grad
    assert "requires grad" in str(describe(x))
    plan = explain(x, to)
    assert not plan.ok
    assert plan.permissions == {"grad": "detach"}
    with pytest.raises(GradError) as caught:
        convert(x, to)
    result = convert(x, to, **caught.value.permissions)
    assert to_numpy(result).tolist() == [1, 2, 3]
    assert shares_memory(result, DATA)
    assert make(requires_grad=False).data is DATA
    assert to_numpy(convert(make(requires_grad=False), to)).tolist() == [1, 2, 3]


@pytest.mark.parametrize("make", [Tracked, Refusing, Silent])
def test_what_a_guard_forbids_is_final(make):
    with guard(grads="error"):
        with pytest.raises(GradError) as caught:
            to_torch(make(), grad="detach")
        assert caught.value.permissions == {}
        assert explain(make(), "torch", grad="detach").final
        assert to_torch(make(requires_grad=False)).tolist() == [1, 2, 3]


def test_in_a_tree_and_beside_what_has_none():
    with pytest.raises(GradError, match="loss"):
        tree.convert({"x": DATA, "loss": Refusing()}, "torch")
    made = tree.convert({"x": DATA, "loss": Refusing()}, "torch", grad="detach")
    assert made["loss"].tolist() == made["x"].tolist() == [1, 2, 3]


def test_who_cannot_leave_the_graph_is_refused_for_good():
    with pytest.raises(GradError) as caught:
        to_torch(Forever(), grad="detach")
    assert caught.value.permissions == {}
    assert "own library" in caught.value.hint
    assert explain(Forever(), "torch").final


@pytest.mark.parametrize("words", ["nulls inside", "the memory was degraded", "upgrade it", "no gradual export"])
def test_another_refusal_is_no_gradient(words):
    with pytest.raises(ProducerError):
        to_torch(Producer(DATA, raises=BufferError(words)))


class Failing(Tracked):
    """One that cannot be asked."""

    def __init__(self, data=DATA, *, error=None):
        self.data, self.error = data, error or RuntimeError("lost")

    @property
    def requires_grad(self):
        raise self.error


class Lazy(Tracked):
    """One whose answer has no truth, as that of a traced or a lazy array, or of one for each element."""

    def __init__(self, data=DATA):
        super().__init__(data, requires_grad=np.array([False, False]))


YES = [True, np.True_, 1, np.int8(1), np.array(True), np.array([1]), "yes"]
NO = [False, np.False_, 0, None, np.array(0), "", lambda: True, Tracked, mock.MagicMock()]


@pytest.mark.parametrize(("said", "tracked"), [(said, True) for said in YES] + [(said, False) for said in NO], ids=range(16))
def test_its_truth_counts_and_not_its_class(said, tracked):
    """And what is to be called is no answer: a method that sets the flag, or a stand-in that has every attribute."""
    for x in (Tracked(requires_grad=said), stand_in("paddle", stop_gradient=None if callable(said) or said is None else not said)):
        assert describe(x).requires_grad is tracked
        if not tracked:
            assert to_torch(x).tolist() == [1, 2, 3]
            continue
        with pytest.raises(GradError) as caught:
            to_torch(x)
        assert to_torch(x, **caught.value.permissions).tolist() == [1, 2, 3]


@pytest.mark.parametrize("make", [Failing, lambda: Failing(error=KeyError("lost")), Lazy], ids=["raises", "raises another", "no truth"])
@pytest.mark.parametrize("to", ["numpy", "torch"])
def test_what_cannot_be_asked_is_not_taken_to_be_untracked(make, to):
    assert describe(make()).requires_grad is None
    assert "cannot say whether it requires grad" in str(describe(make()))
    assert explain(make(), to).permissions == {"grad": "detach"}
    with pytest.raises(GradError, match="cannot say whether autograd tracks it"):
        convert(make(), to)
    assert to_numpy(convert(make(), to, grad="detach")).tolist() == [1, 2, 3]
    assert to_numpy(convert(make(), to, policy="coerce")).tolist() == [1, 2, 3]
    with guard(grads="error"):
        assert explain(make(), to, grad="detach").final
    with pytest.raises(GradError):
        tree.convert({"x": make()}, to)


def test_an_attribute_error_says_that_there_is_none():
    assert to_torch(Failing(error=AttributeError("requires_grad"))).tolist() == [1, 2, 3]


@pytest.mark.parametrize("error", [MemoryError, RecursionError])
def test_what_is_not_about_the_array_passes(error):
    for act in (describe, to_torch, lambda x: explain(x, "numpy"), lambda x: to_numpy(x, grad="detach")):
        with pytest.raises(error, match="lost"):
            act(Failing(error=error("lost")))


def test_a_gradient_is_not_dropped_where_the_stack_ends():
    """An error that were caught on the way would be a question without an answer. (ctypes makes an ArgumentError of it.)"""

    def at(depth, x):
        return at(depth - 1, x) if depth else to_torch(x)

    def outcome(depth, x):
        try:
            return type(at(depth, x))
        except (GradError, RecursionError, ctypes.ArgumentError) as error:
            return RecursionError if isinstance(error, ctypes.ArgumentError) else type(error)

    room = sys.getrecursionlimit() - len(inspect.stack())
    depths = range(room - 120, room)
    assert {outcome(depth, Tracked()) for depth in depths} == {GradError, RecursionError}
    assert {outcome(depth, Tracked(requires_grad=False)) for depth in depths} == {torch.Tensor, RecursionError}  # so they are deep enough


def test_a_detach_that_fails_is_the_producers_refusal():
    class Broken(Refusing):
        def detach(self):
            raise ValueError("no")

    with pytest.raises(ProducerError, match="ValueError: no"):
        to_torch(Broken(), grad="detach")


# Each library's own way, with a stand-in; and itself, where it is installed.


def stand_in(package, **attributes):
    """Return an array whose class comes from a package."""
    return type("Array", (Tracked,), {"__module__": f"{package}.core", **attributes})(requires_grad=None)


def test_each_library_is_asked_in_its_own_way(monkeypatch):
    asked = []
    monkeypatch.setitem(sys.modules, "drjit", types.SimpleNamespace(grad_enabled=lambda x: asked.append(x) or x.on))
    tapes = types.SimpleNamespace(TFE_Py_TapeSetPossibleGradientTypes=lambda given: given[0].types)
    monkeypatch.setitem(sys.modules, "tensorflow.python.pywrap_tfe", tapes)
    for tracked, not_tracked in [
        (stand_in("drjit", on=True), stand_in("drjit", on=False)),
        (stand_in("paddle", stop_gradient=False), stand_in("paddle", stop_gradient=True)),
        (stand_in("tensorflow", types=1), stand_in("tensorflow", types=0)),
        (stand_in("tensorflow", types=2), stand_in("tensorflow")),
        (Tracked(), stand_in("paddle", stop_gradient=None)),
    ]:
        assert describe(tracked).requires_grad
        assert not describe(not_tracked).requires_grad
    assert len(asked) == 2


def test_only_what_is_loaded_is_asked():
    assert not describe(stand_in("tensorflow")).requires_grad
    assert not describe(stand_in("drjit")).requires_grad
    assert not {"drjit", "tensorflow"} & set(sys.modules)
    assert {"drjit", "tensorflow", "paddle"} <= set(PRODUCERS)


@pytest.mark.parametrize("name", ["string", "variant", "resource"])
def test_an_export_that_would_end_the_process_is_not_asked_for(name):
    def abort(self, **asked):
        raise AssertionError("the process has ended")

    x = stand_in("tensorflow", dtype=types.SimpleNamespace(name=name), __dlpack__=abort)
    with pytest.raises(DTypeError, match=name) as caught:
        to_numpy(x)
    assert "Encode" in caught.value.hint
    assert explain(x, "torch").final
    assert to_numpy(stand_in("tensorflow", dtype=types.SimpleNamespace(name="float32"))).tolist() == [1, 2, 3]


def drjit():
    library = pytest.importorskip("drjit", reason="needs Dr.Jit")
    arrays = pytest.importorskip("drjit.llvm.ad", reason="needs Dr.Jit's LLVM variant")
    try:
        x = arrays.TensorXf([1, 2, 3], (3,))
    except Exception as error:
        pytest.skip(f"Dr.Jit finds no LLVM: {error}")
    library.enable_grad(x)
    return x, library.detach(x), library.grad_enabled


def warp():
    library = pytest.importorskip("warp", reason="needs warp-lang")
    library.config.quiet = True
    x = library.array(DATA.copy(), device="cpu", requires_grad=True)
    return x, library.array(DATA.copy(), device="cpu"), lambda x: x.requires_grad


def paddle():
    library = pytest.importorskip("paddle", reason="needs PaddlePaddle")
    x = library.to_tensor(DATA, stop_gradient=False)
    return x, x.detach(), lambda x: not x.stop_gradient


@pytest.mark.parametrize("make", [drjit, warp, paddle])
@pytest.mark.parametrize("to", ["numpy", "torch"])
def test_the_libraries_themselves(make, to):
    tracked, not_tracked, is_tracked = make()
    assert to_numpy(convert(not_tracked, to)).tolist() == [1, 2, 3]
    assert describe(tracked).requires_grad
    with pytest.raises(GradError) as caught:
        convert(tracked, to)
    assert to_numpy(convert(tracked, to, **caught.value.permissions)).tolist() == [1, 2, 3]
    with guard(grads="error"), pytest.raises(GradError):
        convert(tracked, to, grad="detach")
    assert is_tracked(tracked)


def test_the_tape_of_tensorflow():
    library = pytest.importorskip("tensorflow", reason="needs TensorFlow")
    x = library.constant(DATA)
    with library.GradientTape() as tape:
        assert not describe(x).requires_grad
        tape.watch(x)
        y = x * 2
        for watched in (x, y):
            with pytest.raises(GradError):
                to_numpy(watched)
        assert to_numpy(y, grad="detach").tolist() == [2, 4, 6]
        assert to_numpy(library.stop_gradient(y)).tolist() == [2, 4, 6]
    assert to_numpy(y).tolist() == [2, 4, 6]
