"""Who holds the memory of a CuPy array: counted without a device, on arrays of CuPy whose memory is not allocated by it."""

import numpy as np
import pytest

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
memory = cupy.cuda.memory

HOST = np.zeros(16)


class Own(memory.BaseMemory):
    """Stands for memory that CuPy allocated; nobody reads it."""

    def __init__(self):
        self.ptr, self.size, self.device_id = HOST.ctypes.data, HOST.nbytes, 0


@pytest.fixture
def may_be_aliased(monkeypatch):
    from interop.backends.cupy import backend

    monkeypatch.setattr(backend, "_OWN", (Own,))
    return backend.backend.may_be_aliased


def fresh(shape=(4,)):
    return cupy.ndarray(shape, dtype="f8", memptr=memory.MemoryPointer(Own(), 0))


def test_an_array_of_its_own_is_free(may_be_aliased):
    held = fresh()
    assert not may_be_aliased(held)
    also = held
    assert not may_be_aliased(also)  # the array itself is counted by the caller


@pytest.mark.parametrize(
    "view", [lambda a: a[1:], lambda a: a.reshape(2, 2), lambda a: a.reshape(2, 2).T, lambda a: a[:], lambda a: a[1:][1:]]
)
def test_a_view_is_free_once_nobody_has_the_whole(may_be_aliased, view):
    alone = view(fresh())  # not within the assertion, for which pytest would hold the whole
    assert not may_be_aliased(alone)
    whole = fresh()
    beside = view(whole)
    assert may_be_aliased(beside)
    assert may_be_aliased(whole)


@pytest.mark.parametrize(("first", "second"), [((1, 4), (0, 2)), ((0, 4), (0, 4)), ((0, 2), (2, 4))])
def test_two_views_of_one_are_not_free(may_be_aliased, first, second):
    def both():
        whole = fresh()
        return whole[slice(*first)], whole[slice(*second)]

    one, other = both()
    assert may_be_aliased(one)
    assert may_be_aliased(other)
    del other
    assert not may_be_aliased(one)


def test_memory_that_two_arrays_were_made_on_is_not_free(may_be_aliased):
    one = fresh()
    other = cupy.ndarray((4,), dtype="f8", memptr=one.data)
    assert may_be_aliased(one)
    assert may_be_aliased(other)
    del one
    assert not may_be_aliased(other)
    apart = cupy.ndarray((2,), dtype="f8", memptr=other.data + 16)
    assert may_be_aliased(other)
    assert may_be_aliased(apart)


def test_memory_of_another_owner_is_never_free(may_be_aliased):
    mine = memory.UnownedMemory(HOST.ctypes.data, HOST.nbytes, HOST, 0)
    assert may_be_aliased(cupy.ndarray((4,), dtype="f8", memptr=memory.MemoryPointer(mine, 0)))
    from interop.backends.cupy.backend import _OWN

    assert not any(issubclass(memory.UnownedMemory, kind) for kind in _OWN)


def test_memory_of_cupy_is_known():
    from interop.backends.cupy import backend

    kinds = {one for one in vars(memory).values() if isinstance(one, type) and issubclass(one, memory.BaseMemory)}
    assert kinds - set(backend._OWN) == {memory.BaseMemory, memory.UnownedMemory, memory.SystemMemory}
