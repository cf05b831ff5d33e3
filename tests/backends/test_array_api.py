"""`ArrayAPIBackend`: array-api-strict through its namespace alone, and a namespace made for the tests, with faults that can be switched on."""

import gc
import sys
import weakref
from types import ModuleType, SimpleNamespace

import array_api_strict
import numpy as np
import pytest
import torch

import interop
from interop import (
    CopyError,
    DeviceUnavailableError,
    DTypeError,
    GradError,
    LayoutError,
    ProducerError,
    ReadOnlyError,
    TransferError,
    convert,
    describe,
    explain,
)
from interop.backends import ArrayAPIBackend, Capabilities, Device
from interop.backends.numpy.backend import backend as numpy_backend
from interop.backends.numpy.backend import writable
from interop.notation import parse
from tests.corpus import aligned

# A library of NumPy's arrays imports with it, and so gets read-only arrays from those versions.
imports_writable = pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.2.5", reason="np.from_dlpack gives read-only arrays before NumPy 2.2.5 (numpy#28599)"
)
DTYPES = ["bool", "int8", "int32", "int64", "uint8", "uint64", "float32", "float64", "complex64", "complex128"]


def registered(monkeypatch, backend):
    """Let interop know a backend for one test, before the built-in one of the same name."""
    monkeypatch.setattr(interop.backends, "_loaded", interop.backends._loaded | {backend.name: backend})
    monkeypatch.setattr(interop.backends, "_by_type", weakref.WeakKeyDictionary())
    monkeypatch.setattr(interop.backends, "_no_arrays", weakref.WeakSet())
    monkeypatch.setattr(interop.backends, "_entry_points", lambda: [SimpleNamespace(name=backend.name, load=lambda: backend)])
    return backend


# A namespace made for this: arrays on NumPy's memory that can do nothing which the standard does not name.


class Array:
    def __init__(self, data, device="main"):
        self.data, self.device = data, device

    shape = property(lambda self: self.data.shape)
    dtype = property(lambda self: self.data.dtype)

    def to_device(self, device, /, *, stream=None):
        return Array(self.data.copy(), device)

    def __ne__(self, other):
        return Array(self.data != other, self.device)

    __hash__ = None

    def __dlpack_device__(self):
        if self.device == "nameless":
            raise BufferError("no such device in DLPack")
        return (1, 0)

    def __dlpack__(self, **words):
        self.__dlpack_device__()
        return self.data.__dlpack__(**words)


def from_dlpack(x, /):
    return Array(np.from_dlpack(x))


def asarray(obj, /, *, copy=None):
    return Array(obj.data.copy(), obj.device) if copy else obj


def astype(x, dtype, /, *, copy=True):
    return Array(x.data.astype(dtype, copy=copy), x.device)


def madeup(**faults):
    """Return the namespace, with some of its functions replaced."""
    made = ModuleType("madeup")
    dtypes = {name: np.dtype(name) for name in DTYPES}
    info = SimpleNamespace(
        devices=lambda: ["main", "side", "nameless", None],
        dtypes=lambda *, device: {name: dtype for name, dtype in dtypes.items() if device == "main" or name != "float64"},
    )
    functions = {
        "empty": lambda shape, device="main": Array(np.empty(shape), device),
        "asarray": asarray,
        "astype": astype,
        "real": lambda x: Array(x.data.real, x.device),
        "isdtype": np.isdtype,
        "from_dlpack": from_dlpack,
        "__array_namespace_info__": lambda: info,
        "__version__": "1.5",
    }
    vars(made).update(dtypes | functions | faults)
    return made


@pytest.fixture
def library(monkeypatch):
    """Return what makes a backend of the namespace and registers it as ``"madeup"``."""
    monkeypatch.setattr(Array, "__module__", "madeup")

    def make(faults=(), **capabilities):
        namespace = madeup(**dict(faults))
        monkeypatch.setitem(sys.modules, "madeup", namespace)
        return registered(monkeypatch, ArrayAPIBackend("madeup", title="Made-up", **capabilities))

    return make


@pytest.fixture(params=["strict", "madeup"])
def either(request, monkeypatch, library):
    """Return the backend of either namespace."""
    if request.param == "madeup":
        return library(readonly_arrays=True, negative_strides=True)
    return registered(monkeypatch, ArrayAPIBackend(array_api_strict, readonly_arrays=True, negative_strides=True))


# What is said of it.


def test_what_the_namespace_says(library):
    backend = library()
    assert isinstance(backend.capabilities, Capabilities)
    assert backend.capabilities.dtypes == set(DTYPES)
    assert backend.capabilities.devices == {"cpu", "ext"}
    assert backend.devices() == ("cpu", "ext:1", "ext:2")
    assert backend.capabilities.lacking == {"cpu": frozenset(), "ext:1": {"float64"}, "ext:2": {"float64"}}
    assert backend.report() == {"version": "1.5", "devices": ["cpu", "ext:1", "ext:2"]}
    assert backend.namespace() is sys.modules["madeup"]
    assert [str(backend.parse_device(name)) for name in ("side", "nameless", "ext:2", "cpu")] == ["ext:1", "ext:2", "ext:2", "cpu"]


def test_a_namespace_without_information_has_one_device(library):
    backend = library({"__array_namespace_info__": None})
    assert backend.devices() == ("cpu",)
    assert backend.capabilities.dtypes == set(DTYPES)


def test_it_describes_what_the_array_exports(library):
    library()
    a = np.arange(6.0).reshape(2, 3)[:, ::2]
    seen = describe(Array(a))
    expected = describe(a).replace(backend="madeup", type="madeup.Array")
    assert seen == expected
    a.setflags(write=False)
    assert describe(Array(a)).readonly


# Values and memory.


@imports_writable
@pytest.mark.parametrize("dtype", DTYPES)
def test_it_shares_both_ways(either, dtype):
    a = np.array([[0, 1, 2], [1, 0, 3]]).astype(dtype)
    x = convert(a, either.name, copy=False)
    assert x.dtype == getattr(either.namespace(), dtype)
    back = convert(x, "numpy", copy=False)
    assert np.shares_memory(a, back)
    assert np.array_equal(a, back)
    tensor = convert(x, "torch", copy=False)
    assert tensor.data_ptr() == a.ctypes.data
    assert interop.shares_memory(tensor, x)


@pytest.mark.parametrize(
    "make",
    [
        lambda a: a.T,
        lambda a: a[::2, 1:],
        lambda a: a[:, ::-1],
        lambda a: a[0, 0],
        lambda a: a[:0],
        lambda a: np.broadcast_to(a[:1], (4, 4)),
        lambda a: a.astype(">f8"),
        lambda a: np.frombuffer(bytearray(1 + a.nbytes), "u1")[1:].view("f8"),
        lambda a: a.reshape(()) if a.size == 1 else a[2:3, ::-1],
    ],
    ids=["transposed", "sliced", "backwards", "scalar", "empty", "broadcast", "swapped", "unaligned", "one row"],
)
def test_every_layout_keeps_its_values(either, make):
    a = make(np.arange(16.0).reshape(4, 4))
    x = convert(a, either.name)
    assert np.array_equal(convert(x, "numpy"), a)
    assert convert(x, "torch").tolist() == a.tolist()


def test_a_result_outlives_its_source(either):
    a = np.arange(5.0)
    gone = weakref.ref(a)
    x = convert(a, either.name)
    del a
    gc.collect()
    assert gone() is not None
    back = convert(x, "numpy")
    del x
    gc.collect()
    assert back.tolist() == [0, 1, 2, 3, 4]
    del back
    gc.collect()
    assert gone() is None


def test_copies_never_alias(either):
    a = np.arange(3.0)
    x = convert(a, either.name)
    for copied in (convert(a, either.name, copy=True), convert(x, either.name, copy=True), convert(x, "numpy", copy=True)):
        assert not interop.shares_memory(copied, a)
        assert convert(copied, "numpy").tolist() == [0, 1, 2]
    assert convert(x, either.name) is x


# Read-only memory.


def sealed(a):
    a.setflags(write=False)
    return a


def test_read_only_stays_read_only(either):
    a = sealed(np.arange(3.0))
    x = convert(a, either.name, copy=False)
    assert describe(x).readonly
    back = convert(x, "numpy", copy=False)
    assert not back.flags.writeable
    assert np.shares_memory(a, back)


@imports_writable
def test_a_library_without_read_only_arrays_gets_a_copy_unless_it_is_asked_for(library):
    library()
    a = sealed(np.arange(3.0))
    x = convert(a, "madeup")
    assert not interop.shares_memory(x, a)
    with pytest.raises(ReadOnlyError) as caught:
        convert(a, "madeup", readonly="error")
    assert not interop.shares_memory(convert(a, "madeup", **{"readonly": "error"} | caught.value.permissions), a)
    with pytest.raises(ReadOnlyError) as caught:
        convert(a, "madeup", copy=False)
    assert not interop.shares_memory(convert(a, "madeup", **{"copy": False} | caught.value.permissions), a)
    shared = convert(a, "madeup", readonly="share", copy=False)
    assert interop.shares_memory(shared, a)
    assert shared.data.flags.writeable
    assert not a.flags.writeable  # the source is as it was


@imports_writable
def test_what_autograd_tracks_arrives_read_only(either):
    t = torch.ones(3, requires_grad=True)
    with pytest.raises(GradError) as caught:
        convert(t, either.name)
    x = convert(t, either.name, **caught.value.permissions)
    assert describe(x).readonly
    assert interop.shares_memory(x, t)
    assert not describe(convert(t, either.name, grad="detach", readonly="share")).readonly


# Casts.


@pytest.mark.parametrize(
    ("have", "want"), [("float64", "float32"), ("float32", "int32"), ("complex128", "float32"), ("complex64", "bool"), ("bool", "float64")]
)
def test_casts_are_numpys(either, have, want):
    a = np.array([0, 1, 2]).astype(have)
    x = convert(a, either.name)
    assert convert(x, either.name, dtype=want).dtype == getattr(either.namespace(), want)
    expected = (a.real if a.dtype.kind == "c" and want != "bool" else a).astype(want)
    for made in (convert(x, "numpy", dtype=want), convert(convert(a, either.name, dtype=want), "numpy")):
        assert made.dtype == want
        assert np.array_equal(made, expected)
    assert np.array_equal(convert(x, "numpy"), a)


@pytest.mark.parametrize(("dtype", "casting", "becomes"), [("float16", "safe", "float32"), ("bfloat16", "safe", "float32")])
def test_a_dtype_that_it_lacks_is_refused_with_the_permission_that_works(either, dtype, casting, becomes):
    t = torch.tensor([1, 2, 3], dtype=getattr(torch, dtype))
    with pytest.raises(DTypeError) as caught:
        convert(t, either.name)
    assert caught.value.permissions == {"casting": casting}
    assert convert(t, either.name, **caught.value.permissions).dtype == getattr(either.namespace(), becomes)


def test_a_library_that_cannot_cast_is_refused_in_its_own_words(library):
    def astype(x, dtype, /, *, copy=True):
        raise TypeError("no casts today")

    library({"astype": astype})
    with pytest.raises(DTypeError, match="Made-up cannot cast float64 to float32: TypeError: no casts today") as caught:
        convert(Array(np.ones(2)), "madeup", dtype="float32")
    assert caught.value.permissions == {}


# Devices.


def test_another_device_is_crossed_with_permission_only(library):
    library()
    x = Array(np.arange(3.0, dtype="float32"), "side")
    assert str(describe(x).device) == "ext:1"
    with pytest.raises(TransferError) as caught:
        convert(x, "numpy")
    assert convert(x, "numpy", **caught.value.permissions).tolist() == [0, 1, 2]
    there = convert(np.ones(2, "float32"), "madeup", device="side")
    assert (there.device, there.data.tolist()) == ("side", [1, 1])
    moved = convert(x, "madeup", device="cpu")
    assert (moved.device, moved.data.tolist(), x.device) == ("main", [0, 1, 2], "side")


def test_a_device_without_a_name_in_dlpack_is_described_all_the_same(library):
    library()
    x = Array(np.arange(3.0, dtype="float32"), "nameless")
    seen = describe(x)
    assert (str(seen.device), seen.dtype, seen.shape, seen.pointer) == ("ext:2", "float32", (3,), None)
    assert convert(x, "numpy", transfer="allow").tolist() == [0, 1, 2]


def test_two_libraries_with_devices_of_their_own_share_no_memory_there(library):
    library()
    x = array_api_strict.ones(2, dtype=array_api_strict.float32, device=array_api_strict.Device("device1"))
    y = Array(np.ones(2, "float32"), "side")
    for source, target in ((x, "madeup"), (y, "array_api_strict")):
        with pytest.raises(DeviceUnavailableError, match="shares no memory on ext:1"):
            convert(source, target)
        assert interop.to_numpy(convert(source, target, device="cpu")).tolist() == [1, 1]  # as the hint says


def test_a_device_with_streams_needs_a_backend_that_knows_them(library):
    backend = library()
    backend._natives.append(("gpu", Device("cuda", 0)))
    on_device = parse("torch:float32[3]@cuda:0")
    assert explain(on_device, "madeup").permissions == {"transfer": "allow"}  # to the host
    assert not explain(on_device, "madeup", device="cuda:0").permissions
    assert not explain(on_device, "madeup", device="cuda:0").ok
    assert backend.why_unavailable(Device("cuda", 0)) == "its backend says nothing of streams"
    assert "cuda:0" not in backend.devices()


# What a library does otherwise than it says is never silent.


FAULTS = {
    "copies": (lambda x, /: Array(np.from_dlpack(x).copy()), {}, "not the same memory"),
    "reads other strides": (lambda x, /: Array(np.from_dlpack(x).reshape(-1).reshape(x.T.shape).T), {}, "not the same memory"),
    "turns it around": (lambda x, /: Array(np.from_dlpack(x)[::-1]), {}, "not the same memory"),
    "another dtype": (lambda x, /: Array(np.from_dlpack(x).view("int64")), {}, "not the same memory"),
    "writable": (
        lambda x, /: Array(np.from_dlpack(writable(x))),
        {"readonly_arrays": True},
        "read-only memory as a writable",
    ),
}


@imports_writable
@pytest.mark.parametrize("fault", FAULTS)
def test_an_import_that_is_something_else_is_refused(library, fault):
    function, said, words = FAULTS[fault]
    library({"from_dlpack": function}, **said)
    a = sealed(np.arange(6.0).reshape(2, 3)) if "readonly_arrays" in said else np.arange(6.0).reshape(2, 3)
    a = a[:, :2]
    with pytest.raises(LayoutError, match=words) as caught:
        convert(a, "madeup")
    assert "ArrayAPIBackend(..., " in caught.value.hint
    library(**said)
    assert np.array_equal(convert(a, "madeup").data, a)  # the negative control


def test_an_import_with_other_elements_is_refused_where_it_copies_too(library):
    """As of a library that has no float64 while it says that it has."""
    library({"from_dlpack": lambda x, /: Array(np.from_dlpack(x).astype("float32"))}, shares=False)
    with pytest.raises(
        LayoutError, match=r"imported numpy.ndarray float64\[3\] on cpu as .* float32\[3\] on cpu, whose elements are others"
    ):
        convert(np.arange(3.0), "madeup")
    assert convert(np.arange(3, dtype="float32"), "madeup").data.tolist() == [0, 1, 2]  # the negative control


@pytest.mark.parametrize("shares", [True, False])
def test_an_import_that_is_no_array_of_the_library_is_refused(library, shares):
    library({"from_dlpack": lambda x, /: np.from_dlpack(x).copy()}, shares=shares)
    with pytest.raises(LayoutError, match=r"imported an array as numpy\.ndarray, which is not the type of its arrays") as caught:
        convert(np.arange(3.0), "madeup")
    assert "ArrayAPIBackend(..., array_type=)" in caught.value.hint


def test_a_copy_that_is_none_is_refused(library):
    library({"asarray": lambda obj, /, *, copy=None: Array(obj.data)})
    x = Array(np.arange(3.0))
    with pytest.raises(LayoutError, match=r"Made-up returns the same memory from asarray\(copy=True\)"):
        convert(x, "madeup", copy=True)
    assert convert(Array(np.empty(0)), "madeup", copy=True).data.size == 0  # there is nothing to write to
    library()
    assert not np.shares_memory(convert(x, "madeup", copy=True).data, x.data)  # the negative control


def test_a_library_that_refuses_is_quoted(library):
    def refuse(x, /):
        raise BufferError("not today")

    library({"from_dlpack": refuse})
    with pytest.raises(LayoutError, match=r"Made-up refuses to import .*: BufferError: not today"):
        convert(np.ones(3), "madeup")


def picky(x, /):
    """Import compact memory at a multiple of 64 bytes, and nothing else."""
    given = np.from_dlpack(x)
    if not given.flags.c_contiguous or given.ctypes.data % 64:
        raise BufferError("compact and aligned memory only")
    return Array(given)


def test_what_it_does_not_take_is_copied_where_its_backend_says_so(library):
    library({"from_dlpack": picky}, compact=True, alignment={"cpu": 64})
    fits = aligned(8, "float64")
    assert interop.shares_memory(convert(fits, "madeup", copy=False), fits)
    for a in (fits[1:], fits.reshape(2, 4)[:, 1:3], fits.reshape(2, 4)[:, :2]):
        assert np.array_equal(convert(a, "madeup").data, a)
        with pytest.raises(CopyError) as caught:
            convert(a, "madeup", copy=False)
        assert np.array_equal(convert(a, "madeup", **caught.value.permissions).data, a)
    assert convert(torch.ones(3, dtype=torch.float16), "madeup", casting="safe").data.tolist() == [1, 1, 1]


def test_a_library_that_copies_everything_says_so(library):
    library({"from_dlpack": FAULTS["copies"][0]}, shares=False)
    a = np.arange(4.0)
    plan = explain(a, "madeup")
    assert not plan.shares_memory
    assert plan.bytes_copied == a.nbytes
    assert "Made-up copies all host memory that it is given" in str(plan)
    made = convert(a, "madeup")
    a[:] = 7
    assert made.data.tolist() == [0, 1, 2, 3]
    with pytest.raises(CopyError, match="copies all host memory") as caught:
        convert(a, "madeup", copy=False)
    assert convert(a, "madeup", **caught.value.permissions).data.tolist() == [7] * 4
    assert convert(torch.ones(2, dtype=torch.float16), "madeup", casting="safe").data.tolist() == [1, 1]
    assert np.shares_memory(convert(made, "numpy", copy=False), made.data)  # as a source it shares


def test_its_exports_that_refuse_are_interops_errors(library):
    class Tracked(Array):
        def __dlpack__(self, **words):
            raise BufferError("it is tracked")

    Tracked.__module__ = "madeup"
    library()
    with pytest.raises(ProducerError, match=r"madeup.*Tracked refuses to be exported through DLPack: BufferError: it is tracked"):
        convert(Tracked(np.ones(2)), "numpy")


def test_the_backend_of_a_namespace_needs_no_numpy_array(either):
    x = either.namespace().empty(3)
    assert either.owns(x)
    assert not either.owns(np.ones(3))
    assert not either.is_scalar(x)
    assert either.may_be_aliased(x)
    assert numpy_backend.owns(either.host_view(x))


def test_a_library_of_immutable_arrays_gets_copies_of_what_can_be_written(library):
    library(immutable=True)
    a = np.arange(3.0)
    made = convert(a, "madeup")
    assert not interop.shares_memory(made, a)
    assert interop.shares_memory(convert(a, "madeup", readonly="share"), a)
    assert interop.describe(made).readonly
    assert not convert(made, "numpy").flags.writeable  # though its export says that it is
    assert not interop.shares_memory(convert(made, "torch"), made)
    library()
    assert interop.shares_memory(convert(a, "madeup"), a)  # the negative control
