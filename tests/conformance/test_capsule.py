"""The reading of a capsule: raw facts, and nothing behind what is not known."""

import numpy as np
import pytest
from interop_conformance.capsules.capsule import Counted, NotACapsuleError, consume, read, values
from interop_conformance.capsules.crafted import Producer

from interop.dlpack import DLManagedTensor, DLManagedTensorVersioned


def test_fields_are_read_as_they_are():
    facts = read(
        Producer(
            np.arange(6, dtype="int16").reshape(2, 3), flags=9, strides=None, offset=2, null_deleter=True, device=(3, 1), version=(1, 1)
        ).__dlpack__()
    )
    assert facts.name == "dltensor_versioned"
    assert (facts.version, facts.flags, facts.deleter) == ((1, 1), 9, 0)
    assert facts.tensor is not None
    assert facts.tensor[1:] == ((3, 1), 1, (0, 16, 1), (5,), None, 2)


def test_null_is_not_what_it_stands_for():
    tensor = read(Producer(np.ones((2, 3)), strides=None, null=True).__dlpack__()).tensor
    assert tensor is not None
    assert (tensor.data, tensor.pointer) == (0, 0)


@pytest.mark.parametrize(("version", "structure"), [(None, DLManagedTensor), ((1, 3), DLManagedTensorVersioned)])
@pytest.mark.parametrize("null", [False, True])
def test_what_is_crafted_has_a_manager_context_unless_it_shall_not(version, structure, null):
    producer = Producer(np.ones(2), version=version, null_context=null)
    managed = consume(producer.__dlpack__())
    assert bool(structure.from_address(managed.address).manager_ctx) is not null
    managed.delete()
    assert producer.deleted == 1


def test_nothing_is_read_behind_another_major():
    facts = read(Producer(np.ones(2), version=(2, 0)).__dlpack__())
    assert (facts.version, facts.tensor) == ((2, 0), None)


def test_another_object_is_no_capsule():
    with pytest.raises(NotACapsuleError, match="a list instead of a capsule"):
        read([])


@pytest.mark.parametrize("version", [None, (1, 3)])
@pytest.mark.parametrize("foreign", [False, True])
def test_consumed_capsule_is_renamed_and_its_deleter_called_once(version, foreign):
    producer = Producer(np.ones(2), version=version)
    capsule = producer.__dlpack__()
    counted = Counted(capsule)
    managed = consume(capsule)
    assert read(capsule).name == ("used_dltensor" if version is None else "used_dltensor_versioned")
    del capsule
    assert (counted.calls, producer.deleted) == (0, 0)
    managed.delete(foreign=foreign)
    assert (counted.calls, producer.deleted) == (1, 1)


def test_consumed_capsule_is_not_consumed_again():
    capsule = Producer(np.ones(2)).__dlpack__()
    consume(capsule)
    with pytest.raises(NotACapsuleError, match="used_dltensor_versioned"):
        consume(capsule)


@pytest.mark.parametrize("view", [np.s_[::-1], np.s_[:, ::-2], np.s_[1:, 1:], np.s_[:0], np.s_[1, 1]])
def test_values_are_found_through_strides(view):
    array = np.arange(12.0).reshape(3, 4)[view]
    producer = Producer(np.asarray(array))
    tensor = read(producer.__dlpack__()).tensor
    assert tensor is not None
    np.testing.assert_array_equal(values(tensor, array.dtype), array)


def test_a_stride_that_moves_nothing_may_be_anything():
    tensor = read(Producer(np.arange(3.0).reshape(1, 3), strides=(2**62 - 3, 1)).__dlpack__()).tensor
    assert tensor is not None
    np.testing.assert_array_equal(values(tensor, np.dtype("float64")), [[0, 1, 2]])


def test_memory_that_the_host_cannot_read_is_read_by_another():
    array = np.arange(6.0).reshape(2, 3)[:, ::-1]
    tensor = read(Producer(array, device=(2, 0)).__dlpack__()).tensor
    assert tensor is not None
    asked = []

    def reading(address, nbytes):
        asked.append((address, nbytes))
        return np.arange(10.0, 16.0).tobytes()

    np.testing.assert_array_equal(values(tensor, array.dtype, reading), [[12, 11, 10], [15, 14, 13]])
    assert asked == [(array.ctypes.data - 16, 48)]


@pytest.mark.parametrize(("asked", "there"), [({}, True), ({"dl_device": (2, 0)}, True), ({"dl_device": (1, 0)}, False)], ids=str)
def test_a_copy_is_on_the_device_that_the_capsule_names(asked, there):
    """A capsule that says CUDA and points to the host's memory would be the suite's own fault."""
    made = []

    def twin(values):
        made.append(np.array(values))
        return made[-1], int(made[-1].ctypes.data)

    array = np.arange(6, dtype="float32").reshape(2, 3).T
    producer = Producer.of(array, device=(2, 0), twin=twin)
    found = read(producer.capsule({"copy": True, "max_version": (1, 3), **asked}))
    tensor = found.tensor
    assert tensor is not None
    assert tensor.device == ((2, 0) if there else (1, 0))
    assert [int(one.ctypes.data) for one in made] == ([tensor.pointer] if there else [])
    assert found.flags & 2
    assert tensor.strides == (2, 1)
