"""Objects that speak DLPack and belong to no library: honest, old, odd and broken producers, in pure Python."""

import contextlib
import ctypes
import gc
import subprocess
import sys
import threading

import ml_dtypes
import numpy as np
import pytest
import torch

from interop import (
    CopyError,
    DTypeError,
    LayoutError,
    NoDataError,
    TransferError,
    describe,
    explain,
    shares_memory,
    to_numpy,
    to_torch,
)
from interop._model.description import DEVICE_TYPES
from interop.backends.dlpack import backend
from interop.backends.numpy.backend import address_of
from interop.dlpack import DEVICES, READ_ONLY, Capsule, DLManagedTensor, DLManagedTensorVersioned, DLTensor, producer_of
from interop.errors import ProducerError
from interop.notation import format_description, parse
from tests.producer import Producer

DATA = np.arange(6, dtype="float32").reshape(2, 3)


@pytest.mark.parametrize("convert", [to_numpy, to_torch])
@pytest.mark.parametrize("words", [{}, {"version": (1, 0)}, {"version": (1, 99)}, {"strides": None}, {"offset": 4}, {"flags": 1 << 40}])
def test_honest_producers_are_shared(convert, words):
    producer = Producer(DATA, **({"version": (1, 1)} | words))
    result = convert(producer)
    assert np.asarray(result).tolist() == producer.means().tolist()
    assert shares_memory(result, DATA)
    assert producer.deleted == 0
    del result
    gc.collect()
    assert producer.deleted == 1
    assert producer.capsule_name() == b"used_dltensor_versioned"


def test_a_legacy_capsule_cannot_say_whether_it_is_read_only():
    producer = Producer(DATA, version=None)
    assert describe(producer).readonly is None
    assert "read-only" not in str(describe(producer)) or "cannot say" in str(describe(producer))
    assert not to_numpy(producer).flags.writeable  # as numpy.from_dlpack
    assert shares_memory(to_numpy(producer), DATA)
    assert shares_memory(to_torch(producer), DATA)


class Saying(Producer):
    """A legacy producer whose array says elsewhere whether it is read-only."""

    def __init__(self, said, **words):
        super().__init__(DATA, version=None, **words)
        self.__array_interface__ = DATA.__array_interface__ | {"data": said}


@pytest.mark.parametrize("readonly", [True, False])
def test_the_array_interface_says_what_a_legacy_capsule_cannot(readonly):
    producer = Saying((DATA.ctypes.data, readonly))
    assert describe(producer).readonly is readonly
    assert to_numpy(producer).flags.writeable is not readonly
    assert shares_memory(to_torch(producer), DATA) is not readonly


@pytest.mark.parametrize("said", [(DATA.ctypes.data + 4, False), (0, False), None, DATA, "data", (DATA.ctypes.data,)], ids=range(6))
def test_what_it_says_of_other_memory_does_not_count(said):
    assert describe(Saying(said)).readonly is None


def test_a_question_that_fails_says_nothing():
    class Failing(Producer):
        @property
        def __array_interface__(self):
            raise ZeroDivisionError

    assert describe(Failing(DATA, version=None)).readonly is None


def exporting(kind, memory):
    """Return an object that is a buffer, and exports what `memory` returns for it in a legacy capsule."""

    def export(self, **asked):
        return Producer(memory(self), version=None).__dlpack__()

    return type("Buffer", (kind,), {"__dlpack__": export, "__dlpack_device__": lambda self: (1, 0)})(b"12345678")


@pytest.mark.parametrize(("kind", "readonly"), [(bytes, True), (bytearray, False)])
def test_a_buffer_says_what_a_legacy_capsule_cannot(kind, readonly):
    for memory in (lambda x: np.frombuffer(x, "int16"), lambda x: np.frombuffer(x, "uint8")[:2]):
        x = exporting(kind, memory)
        assert describe(x).readonly is readonly
        assert to_numpy(x).flags.writeable is not readonly
        assert shares_memory(to_torch(x), x) is not readonly


@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize(
    "memory",
    [lambda x: DATA, lambda x: np.frombuffer(x, "uint8")[1:], lambda x: np.frombuffer(x, "uint8")[::-1], lambda x: np.ones(0)],
    ids=["other", "behind its start", "backwards", "empty"],
)
def test_a_buffer_of_other_memory_says_nothing(kind, memory):
    x = exporting(kind, memory)
    assert describe(x).readonly is None
    assert to_numpy(x).size == 0 or not to_numpy(x).flags.writeable
    assert to_torch(x).tolist() == memory(x).tolist()


@pytest.mark.parametrize("data", [DATA, DATA[1:], DATA[::-1], DATA[:, ::-2], DATA.T], ids=["whole", "offset", "backwards", "odd", "turned"])
def test_where_a_buffer_starts_is_read_without_a_copy(data):
    assert address_of(memoryview(data)) == data.ctypes.data
    with pytest.raises(ValueError, match="format"):  # its elements are nothing that NumPy knows
        address_of(memoryview((ctypes.c_void_p * 2)()))


@pytest.mark.parametrize(("module", "readonly"), [("drjit.llvm", True), ("mlx.core", True), ("warp._src.types", False), ("warped", None)])
def test_a_library_says_what_a_legacy_capsule_cannot(module, readonly):
    kind = type("Array", (Producer,), {"__module__": module})
    for one in (kind, type("Derived", (kind,), {})):
        assert describe(one(DATA, version=None)).readonly is readonly
        assert describe(one(DATA)).readonly is False  # a capsule that says it is believed


def test_an_old_producer_is_asked_again_without_the_new_keyword():
    producer = Producer(DATA, version=None, knows=())
    assert to_numpy(producer).tolist() == DATA.tolist()
    assert producer.asked == [{"max_version": (1, 3)}, {}]


def test_the_read_only_flag_is_heeded():
    producer = Producer(DATA, flags=READ_ONLY)
    assert describe(producer).readonly
    assert not to_numpy(producer).flags.writeable
    assert not shares_memory(to_torch(producer), DATA)


def test_negative_strides():
    producer = Producer(DATA[::-1])
    assert to_torch(producer).tolist() == DATA[::-1].tolist()
    assert to_numpy(producer).tolist() == DATA[::-1].tolist()
    with pytest.raises(CopyError, match="negative strides"):
        to_torch(producer, copy=False)


@pytest.mark.parametrize("shape", [(), (0, 3), (3, 0)])
def test_no_elements_and_no_axes(shape):
    for convert in (to_numpy, to_torch):
        result = convert(Producer(np.ones(shape, "float32")))
        assert tuple(result.shape) == shape
        assert np.asarray(result).tolist() == np.ones(shape).tolist()


def test_an_empty_array_may_have_a_null_pointer():
    for convert in (to_numpy, to_torch):
        assert tuple(convert(Producer(np.ones((0, 3), "float32"), null=True)).shape) == (0, 3)


def test_small_floats_come_as_ml_dtypes():
    data = np.array([1, 2, 3]).astype(ml_dtypes.bfloat16)
    producer = Producer(data.view("uint16"), dtype=(4, 16, 1))
    assert to_numpy(producer).dtype == ml_dtypes.bfloat16
    assert to_torch(producer).dtype is torch.bfloat16
    assert to_torch(producer).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        ({"null": True}, NoDataError, "null pointer"),
        ({"dtype": (2, 32, 4)}, DTypeError, "float32x4"),
        ({"dtype": (17, 4, 1)}, DTypeError, "packed float4"),
        ({"dtype": (3, 64, 1)}, DTypeError, "opaque"),
        ({"version": (2, 0)}, LayoutError, "version 2.0"),
        ({"raises": BufferError("nulls inside")}, ProducerError, "nulls inside"),
        ({"raises": RuntimeError("no")}, ProducerError, "RuntimeError: no"),
        ({"gives": "not a capsule"}, ProducerError, "not a DLPack capsule"),
    ],
)
def test_producers_that_cannot_be_taken(words, error, says):
    for convert in (to_numpy, to_torch):
        producer = Producer(DATA, **words)
        with pytest.raises(error, match=says) as caught:
            convert(producer)
        assert caught.value.permissions == {}
        assert caught.value.hint
        del caught  # its traceback holds the capsule
        gc.collect()
        assert producer.deleted == producer.made  # what was not consumed was freed by the capsule, once


def test_a_null_deleter_is_allowed():
    result = to_numpy(Producer(DATA, null_deleter=True))
    assert result.tolist() == DATA.tolist()
    del result
    gc.collect()


def test_looking_consumes_nothing():
    producer = Producer(DATA)
    assert explain(producer, "torch").shares_memory
    print(describe(producer))
    gc.collect()
    assert producer.made == producer.deleted == 2


def test_another_device_is_asked_for_in_the_standards_way():
    producer = Producer(DATA, device=(2, 0))
    with pytest.raises(TransferError):
        to_numpy(producer)
    producer = Producer(DATA, device=(2, 0))
    assert to_numpy(producer, transfer="allow").tolist() == DATA.tolist()
    assert producer.asked[-1] == {"dl_device": (1, 0), "max_version": (1, 3)}


def test_managed_memory_goes_out_as_the_device_memory_that_it_is():
    producer = Producer(DATA, device=(13, 0))
    assert describe(producer).memory == "managed"
    given = producer_of(producer.__dlpack__(max_version=(1, 3)))
    assert given.__dlpack_device__() == (2, 0)
    assert Capsule(given.__dlpack__()).device_codes == (2, 0)
    assert producer_of(Producer(DATA).__dlpack__()).__dlpack_device__() == (1, 0)
    assert torch.from_dlpack(producer_of(Producer(DATA).__dlpack__(max_version=(1, 0)))).tolist() == DATA.tolist()


def test_a_pointer_that_is_not_aligned_is_copied_for_torch():
    raw = np.zeros(25, "uint8")[1:].view("float32")
    raw[:] = range(6)
    producer = Producer(raw, offset=0)
    assert not describe(producer).aligned
    assert to_torch(producer).tolist() == list(range(6))
    assert not shares_memory(to_torch(producer), raw)


def test_a_capsule_is_read_and_consumed_once():
    capsule = Capsule(Producer(DATA).__dlpack__(max_version=(1, 3)))
    owner = capsule.consume()
    assert owner is not None
    with pytest.raises(BufferError, match="consumed"):
        capsule.consume()
    with pytest.raises(BufferError, match="not a DLPack capsule"):
        Capsule(capsule.raw)


def test_every_device_of_the_protocol_has_a_name_here():
    assert {kind for kind, _ in DEVICES.values()} <= set(DEVICE_TYPES)


def test_the_structures_have_the_sizes_of_the_header():
    assert [ctypes.sizeof(struct) for struct in (DLTensor, DLManagedTensor, DLManagedTensorVersioned)] == [48, 64, 80]


HOSTILE = """
import ctypes, gc
import numpy as np
NAMES = ["PyCapsule_New", "PyCapsule_IsValid", "PyCapsule_GetPointer", "PyCapsule_GetName", "PyCapsule_SetName", "Py_IncRef", "Py_DecRef"]
functions = [getattr(ctypes.pythonapi, name) for name in NAMES]
before = [(function.restype, function.argtypes) for function in functions]

def work():
    import interop
    from interop.backends.jax.memory import legacy, producer
    from interop_conformance.capsules import capsule, crafted, exchange_api
    for version in ((1, 0), None):
        made = crafted.Producer(np.arange(3.0), version=version)
        assert interop.to_numpy(made).tolist() == interop.to_torch(made).tolist() == [0, 1, 2]
        raw = made.__dlpack__()
        assert capsule.read(raw).tensor.shape == (3,)
        capsule.consume(raw).delete()
        legacy(producer(np.arange(3.0))), legacy(interop.dlpack.producer_of(made.__dlpack__(max_version=(1, 0))))
        gc.collect()
        assert made.deleted == made.made

if EARLY:
    import interop.dlpack, interop.backends.jax.memory, interop_conformance.capsules.crafted, interop_conformance.capsules.exchange_api
for function in functions:
    function.restype, function.argtypes = (ctypes.POINTER(ctypes.c_int64), [ctypes.c_double] * 5) if CHANGED else before[0]
now = [(function.restype, function.argtypes) for function in functions]
work()
assert [(function.restype, function.argtypes) for function in functions] == now
print("holds")
"""


@pytest.mark.parametrize("early", [True, False], ids=["imported before", "imported after"])
@pytest.mark.parametrize("changed", [True, False], ids=["changed", "as they are"])
def test_prototypes_that_all_libraries_share_are_neither_used_nor_changed(early, changed):
    """Functions of `ctypes.pythonapi` are objects of the whole process; Warp gives them prototypes of its own at each export."""
    code = f"EARLY, CHANGED = {early}, {changed}\n{HOSTILE}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "holds"), done.stderr[-2000:]


def test_a_result_that_outlives_the_modules_is_let_go_of_silently():
    """Tools that look at all modules hold them: they are emptied when the interpreter ends, before the last results are gone."""
    code = """if True:
        import sys
        import numpy as np, jax.numpy as jnp, interop
        from interop.backends.jax.memory import legacy, producer
        from interop_conformance.capsules.crafted import Producer
        sys.kept = [interop.to_numpy(jnp.ones(3)), legacy(interop.dlpack.producer_of(np.ones(2).__dlpack__(max_version=(1, 0))))]
        sys.kept += [interop.to_numpy(np.ones(3).view()), interop.to_torch(jnp.ones(3), readonly="share"), interop.to_jax(np.ones(3, "f"))]
        sys.held = dict(sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class Relabelled(Producer):
    """Answers a request for the host with the label of its own device, as CuPy does for managed memory."""

    def _fill(self, tensor, device):
        super()._fill(tensor, device)
        tensor.device.type = self.device[0]


def test_managed_memory_that_is_asked_for_the_host_may_keep_its_label():
    producer = Relabelled(DATA, device=(13, 0))
    result = to_numpy(producer, transfer="allow")
    assert result.tolist() == DATA.tolist()
    assert not shares_memory(result, DATA)  # a transfer is new memory
    with pytest.raises(TransferError, match="something else"):
        to_numpy(Relabelled(DATA, device=(2, 0)), transfer="allow")


@pytest.mark.parametrize(("said", "found"), [((2, 0), (1, 0)), ((1, 0), (2, 0)), ((2, 0), (2, 1)), ((10, 0), (1, 0)), ((1, 0), (10, 0))])
def test_a_device_that_is_not_the_capsules_is_refused(said, found):
    """The work was ordered for the one, and the memory is on the other: a CUDA array labelled as one of the host is not read there."""
    for convert in (to_numpy, to_torch, describe):
        with pytest.raises(ProducerError, match="exports memory on"):
            convert(Producer(DATA, advertised=said, device=found))


@pytest.mark.parametrize(("said", "found"), [((8, 0), (1, 0)), ((1, 0), (3, 0)), ((2, 0), (3, 0)), ((2, 1), (13, 0)), ((1, 0), (13, 0))])
def test_kinds_of_one_memory_may_be_labelled_as_either(said, found):
    """MLX says Metal and exports what the host shares; pinned and managed memory are the host's too."""
    described = describe(Producer(DATA, advertised=said, device=found))
    assert str(described.device) == {(2, 1): "cuda:1"}.get(said, "cpu")
    assert parse(format_description(described)).device == described.device


@pytest.mark.parametrize("device", [(2, 0), (8, 0), (10, 0), (14, 0)])
@pytest.mark.parametrize("act", [backend.copy, backend.host_view, lambda x: backend.cast(x, "float64")], ids=["copy", "view", "cast"])
def test_the_host_does_not_read_memory_of_a_device(device, act):
    producer = Producer(DATA, device=device, moved=0x7F00DEAD0000)  # nothing is there
    with pytest.raises(TransferError, match="cannot read memory"):
        act(backend.import_producer(producer, lambda at: -1))
    gc.collect()
    assert producer.deleted == 1


def test_a_deleter_may_convert_again_and_is_called_once():
    """And one that is called while an error is on the way leaves it as it is."""
    again = []

    class Nested(Producer):
        def _delete(self, ticket):
            super()._delete(ticket)
            again.append(to_numpy(Producer(DATA)).tolist())

    producer = Nested(DATA)
    to_numpy(producer)
    with pytest.raises(ZeroDivisionError):
        1 / (0 if to_numpy(producer).size else 1)
    gc.collect()
    assert producer.deleted == producer.made == 2
    assert again == [DATA.tolist()] * 2


def test_two_threads_that_are_given_one_capsule_do_not_both_take_it():
    for _ in range(50):
        producer = Producer(DATA)
        raw = producer.__dlpack__(max_version=(1, 3))
        capsules, taken, start = [Capsule(raw) for _ in range(4)], [], threading.Barrier(4)

        def take(capsule, start=start, taken=taken):
            start.wait()
            with contextlib.suppress(ProducerError):
                taken.append(capsule.consume())

        threads = [threading.Thread(target=take, args=(capsule,)) for capsule in capsules]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 1
        taken.clear()
        gc.collect(0)
        assert producer.deleted == 1
