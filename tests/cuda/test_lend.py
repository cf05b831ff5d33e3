"""A capsule whose memory comes back, on the host's memory: which library's it is does not matter to it."""

import gc
import os
import sys
import threading
import weakref

import numpy as np
import pytest

try:
    from interop.native.lend import defer_release
except ImportError:
    assert not os.environ.get("INTEROP_REQUIRE_C"), "interop.native.lend was not built, although it has to be here"
    pytest.skip("interop.native.lend is not built here: run `make test`", allow_module_level=True)

from interop.dlpack import CapsuleProducer
from tests.producer import Producer

VERSIONS = [(1, 0), None]
HOST = (1, 0)


def array():
    """Return an array, and what tells whether its memory is still there."""
    own = np.arange(6.0)
    view = own[:].reshape(2, 3)
    return view, weakref.ref(own)


def take(capsule):
    return np.from_dlpack(CapsuleProducer(capsule, HOST))


@pytest.fixture(params=VERSIONS, ids=["versioned", "legacy"])
def version(request):
    return request.param


def test_the_array_is_the_same_and_its_memory_comes_back(version):
    x, own = array()
    back = []
    taken = take(defer_release(x.T.__dlpack__(max_version=version), back.append))
    assert np.shares_memory(taken, x)
    assert (taken.shape, taken.strides, taken.dtype) == (x.T.shape, x.T.strides, x.dtype)
    assert np.array_equal(taken, x.T)
    del x
    part = taken[1:]
    del taken
    assert back == []
    del part
    assert len(back) == 1
    assert own() is not None
    back.clear()
    assert own() is None


def test_a_capsule_that_nobody_takes_gives_it_back_too(version):
    x, own = array()
    back = []
    capsule = defer_release(x.__dlpack__(max_version=version), back.append)
    del x, capsule
    assert len(back) == 1
    back.clear()
    assert own() is None


def test_who_does_not_keep_it_lets_go_of_it(version):
    x, own = array()
    taken = take(defer_release(x.__dlpack__(max_version=version), lambda memory: None))
    del x, taken
    assert own() is None


def test_a_flag_of_the_other_capsule_stays():
    x, _ = array()
    x.flags.writeable = False
    assert not take(defer_release(x.__dlpack__(max_version=(1, 0)), lambda memory: None)).flags.writeable


def test_the_other_capsule_is_taken(version):
    x, _ = array()
    capsule = x.__dlpack__(max_version=version)
    made = defer_release(capsule, lambda memory: None)
    with pytest.raises(ValueError, match="PyCapsule_GetPointer"):
        defer_release(capsule, lambda memory: None)
    take(made)
    with pytest.raises(ValueError, match="PyCapsule_GetPointer"):
        defer_release(made, lambda memory: None)


@pytest.mark.parametrize("args", [(), (1, print), (np.ones(2), print), (np.ones(2).__dlpack__(),), (np.ones(2).__dlpack__(), None)])
def test_what_it_is_not_for(args):
    with pytest.raises(TypeError, match="defer_release"):
        defer_release(*args)


@pytest.mark.parametrize("version", [(0, 9), (2, 0)])
def test_a_version_of_another_layout_is_refused_unread(version):
    """What lies behind its flags is memory that must not be read: who does dies."""
    producer = Producer(np.arange(6.0), version=version, fenced=True)
    capsule = producer.__dlpack__()
    with pytest.raises(BufferError, match=f"DLPack {version[0]}.{version[1]}"):
        defer_release(capsule, print)
    assert producer.deleted == 0
    del capsule
    assert producer.deleted == 1


def test_what_the_function_keeps_is_released_with_the_memory(version):
    """And so is the function itself."""

    class Function:
        def __call__(self, memory):
            pass

    x, _ = array()
    function = Function()
    gone = weakref.ref(function)
    taken = take(defer_release(x.__dlpack__(max_version=version), function))
    del function
    assert gone() is not None
    del taken
    assert gone() is None


def test_another_thread_may_let_go_of_it():
    x, own = array()
    back = []
    held = [take(defer_release(x.__dlpack__(max_version=(1, 0)), back.append))]
    del x
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert len(back) == 1
    assert own() is not None


def test_an_error_of_the_function_is_told_and_the_memory_goes(monkeypatch):
    raised = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: raised.append(what.exc_type))

    def fail(memory):
        raise ZeroDivisionError

    x, own = array()
    taken = take(defer_release(x.__dlpack__(max_version=(1, 0)), fail))
    del x, taken
    assert raised == [ZeroDivisionError]
    gc.collect()
    assert own() is None


def test_an_error_that_is_under_way_goes_on():
    x, _ = array()
    back = []

    def work():
        taken = take(defer_release(x.__dlpack__(max_version=(1, 0)), back.append))
        raise ZeroDivisionError(taken.shape)

    with pytest.raises(ZeroDivisionError):
        work()
    gc.collect()
    assert len(back) == 1


def test_nothing_is_lost_or_counted_twice():
    x, _ = array()
    before = sys.getrefcount(x)
    for _ in range(1000):
        take(defer_release(x.__dlpack__(max_version=(1, 0)), lambda memory: None))
        defer_release(x.__dlpack__(max_version=(1, 0)), lambda memory: None)
    assert sys.getrefcount(x) == before
