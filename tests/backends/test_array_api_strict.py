"""array-api-strict: NumPy's memory under the standard's rules, and devices that a test can cross by mistake."""

import gc
import subprocess
import sys
import weakref

import array_api_strict as xp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from array_api_strict._array_object import Array
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp

import interop
from interop import (
    Device,
    DeviceUnavailableError,
    DTypeError,
    GradError,
    ReadOnlyError,
    TransferError,
    convert,
    describe,
    explain,
    shares_memory,
)
from interop.backends import load_backend
from tests.corpus import aligned

CPU = Device("cpu")

BACKEND = load_backend("array_api_strict")
DTYPES = sorted(BACKEND.capabilities.dtypes)
ODD = {"device1": Device("ext", 1), "device2": Device("ext", 2)}
has_poor_devices = pytest.mark.skipif(
    "no_float64" not in BACKEND.report()["devices"], reason="array-api-strict before 2.6 has no such devices"
)


def strict(array, device="CPU_DEVICE"):
    return Array._new(array, device=xp.Device(device))


# Values and memory.


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_of_the_standard_is_shared_both_ways(dtype):
    a = np.array([[0, 1, 2], [1, 0, 3]]).astype(dtype)
    x = convert(a, "array_api_strict", copy=False)
    assert x.dtype == getattr(xp, dtype)
    assert x.device == xp.Device("CPU_DEVICE")
    assert shares_memory(x, a)
    back = convert(x, "numpy", copy=False)
    assert shares_memory(back, a)
    assert back.dtype == a.dtype
    assert np.array_equal(back, a)


def test_the_dtypes_are_those_of_the_standard():
    assert frozenset(DTYPES) == set(xp.__array_namespace_info__().dtypes())


@pytest.mark.parametrize(
    ("dtype", "casting", "becomes"),
    [
        ("float16", "safe", "float32"),
        ("bfloat16", "safe", "float32"),
        ("float8_e5m2", "safe", "float32"),
        ("longdouble", "same_kind", "float64"),
        ("clongdouble", "same_kind", "complex128"),
    ],
)
def test_what_the_standard_lacks_needs_a_permission(dtype, casting, becomes):
    a = np.array([1, 2, 3]).astype(interop.backends.numpy.backend.native_dtype(dtype))
    with pytest.raises(DTypeError) as caught:
        convert(a, "array_api_strict")
    assert caught.value.permissions == {"casting": casting}
    assert convert(a, "array_api_strict", casting=casting).dtype == getattr(xp, becomes)
    with pytest.raises(DTypeError) as final:
        convert(a, "array_api_strict", dtype=dtype)
    assert final.value.permissions == {}


ARRAYS = stnp.arrays(
    st.sampled_from(["bool", "int8", "uint16", "float32", "complex128"]), stnp.array_shapes(min_dims=0, max_dims=3, min_side=0)
)


@settings(deadline=None)
@given(ARRAYS, st.data())
def test_any_strides_are_shared(array, data):
    view = np.asarray(array[data.draw(stnp.basic_indices(array.shape, allow_newaxis=True))]).T
    before = view.copy()
    x = convert(view, "array_api_strict", copy=False)
    assert tuple(x.shape) == view.shape
    assert not view.size or shares_memory(x, view)
    back = convert(x, "numpy", copy=False)
    assert (back.dtype, back.strides) == (view.dtype, view.strides)
    np.testing.assert_array_equal(back, before)
    copied = convert(view, "array_api_strict", copy=True)
    assert not view.size or not shares_memory(copied, view)
    np.testing.assert_array_equal(view, before)


def test_unaligned_and_byte_swapped_memory():
    raw = np.zeros(25, "uint8")[1:].view("float32")
    assert shares_memory(convert(raw, "array_api_strict", copy=False), raw)
    swapped = np.arange(3, dtype=">f4")
    assert convert(swapped, "array_api_strict").dtype == xp.float32
    assert not explain(swapped, "array_api_strict").shares_memory
    assert [float(one) for one in convert(swapped, "array_api_strict")] == [0, 1, 2]


def test_strides_that_are_not_whole_elements():
    a = np.zeros(3, dtype=[("flag", "u1"), ("x", "<f8")])["x"]
    x = convert(a, "array_api_strict", copy=False)
    assert describe(x).strides is None
    assert shares_memory(x, a)
    assert not shares_memory(x, a.copy())
    assert convert(x, "torch").tolist() == [0, 0, 0]


@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 0)])
def test_no_axes_one_element_and_none(shape):
    a = np.ones(shape, "float32")
    x = convert(a, "array_api_strict")
    assert tuple(x.shape) == shape
    for target in ("numpy", "torch", "jax"):
        assert tuple(convert(x, target).shape) == shape
    assert isinstance(convert(np.float32(3), "array_api_strict"), Array)


def test_read_only_memory_stays_read_only():
    a = np.arange(3.0)
    a.flags.writeable = False
    x = convert(a, "array_api_strict", copy=False)
    assert shares_memory(x, a)
    assert describe(x).readonly
    assert not convert(x, "numpy").flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        x[0] = 1.0
    with pytest.raises(ReadOnlyError):
        convert(x, "torch", copy=False)
    assert not shares_memory(convert(x, "torch"), a)
    assert convert(a, "array_api_strict", copy=True)._array.flags.writeable
    assert not convert(jnp.ones(3), "array_api_strict")._array.flags.writeable


def test_what_is_done_to_a_view_is_not_done_to_the_array():
    a = np.arange(6.0)
    x = convert(a, "array_api_strict")
    a.shape = (2, 3)
    assert tuple(x.shape) == (6,)
    view = convert(x, "numpy")
    view.flags.writeable = False
    x[0] = 5.0
    assert (a[0, 0], view[0]) == (5, 5)


def test_gradients_and_masks_are_not_left_behind_in_silence():
    tensor = torch.ones(3, requires_grad=True)
    with pytest.raises(GradError):
        convert(tensor, "array_api_strict")
    x = convert(tensor, "array_api_strict", grad="detach")
    assert shares_memory(x, tensor)
    assert not x._array.flags.writeable
    assert convert(tensor, "array_api_strict", grad="detach", readonly="share")._array.flags.writeable
    with pytest.raises(interop.MaskError):
        convert(np.ma.array([1.0, 2.0], mask=[True, False]), "array_api_strict")


def test_memory_is_kept_and_let_go():
    a = np.full(1000, 7.0)
    gone = weakref.ref(a)
    x = convert(a, "array_api_strict")
    tensor = convert(x, "torch")
    del a, x
    gc.collect()
    assert tensor.sum() == 7000
    del tensor
    gc.collect()
    assert gone() is None


def test_with_jax():
    a = aligned((2, 3))
    x = convert(a, "array_api_strict")
    assert shares_memory(convert(x, "jax", copy=False, readonly="share"), a)
    assert convert(strict(a[:, ::-1]), "jax").tolist() == a[:, ::-1].tolist()
    assert convert(x, "jax", dtype="bfloat16").dtype == "bfloat16"  # which only the target has
    with jax.enable_x64(True):
        assert convert(strict(aligned(3, "int64")), "jax", copy=False, readonly="share").dtype == "int64"


# Within the library.


def test_within_the_library():
    x = xp.asarray([1.5, 2.5])
    assert convert(x, "array_api_strict") is x
    assert convert(x, xp) is x
    assert convert(x, like=x) is x
    copied = convert(x, "array_api_strict", copy=True)
    assert not shares_memory(copied, x)
    assert convert(x, "array_api_strict", dtype="int8").dtype == xp.int8
    with pytest.raises(interop.CopyError):
        convert(x, "array_api_strict", dtype="int8", copy=False)


@pytest.mark.parametrize("name", ODD)
def test_what_is_done_within_the_library_stays_on_its_device(name):
    x = strict(np.ones(2), name)
    for words in ({}, {"copy": True}, {"dtype": "int8"}):
        assert convert(x, "array_api_strict", **words).device == xp.Device(name)


# Devices.


@pytest.mark.parametrize("name", ODD)
def test_a_crossing_needs_a_permission_in_both_directions(name):
    x = strict(np.arange(3.0), name)
    assert describe(x).device == ODD[name]
    for target in ("numpy", "torch", "jax"):
        words = {"casting": "same_kind"} if target == "jax" else {}
        with pytest.raises(TransferError) as caught:
            convert(x, target, **words)
        assert caught.value.permissions == {"transfer": "allow"}
        result = convert(x, target, **words, transfer="allow")
        assert result.tolist() == [0, 1, 2]
        assert describe(result).device == CPU
        assert convert(x, target, **words, device="cpu").tolist() == [0, 1, 2]
    for source in (np.arange(3.0), torch.arange(3.0), jnp.arange(3.0), xp.arange(3.0)):
        with pytest.raises(TransferError):
            convert(source, like=x)
        for words in ({"like": x, "transfer": "allow"}, {"device": name}, {"device": xp.Device(name)}, {"device": str(ODD[name])}):
            to = () if "like" in words else ("array_api_strict",)
            result = convert(source, *to, **words)
            assert result.device == xp.Device(name)
            assert [float(one) for one in result] == [0, 1, 2]
            assert not shares_memory(result, source)


def test_a_crossing_is_a_copy_whatever_the_memory_is():
    a = np.arange(3.0)
    x = convert(a, "array_api_strict", device="device1")
    a[0] = 7
    assert float(x[0]) == 0
    y = convert(x, "array_api_strict", device="device2")
    y[0] = 9.0
    assert (float(x[0]), x.device, y.device) == (0, xp.Device("device1"), xp.Device("device2"))


def test_like_on_the_cpu_is_no_crossing():
    a = np.arange(3.0)
    assert shares_memory(convert(a, like=xp.ones(1)), a)
    assert shares_memory(convert(a, "array_api_strict", device="CPU_DEVICE"), a)
    assert shares_memory(convert(a, "array_api_strict", device="cpu"), a)


@pytest.mark.parametrize(
    ("device", "error", "says"),
    [
        ("ext:9", DeviceUnavailableError, "its devices are CPU_DEVICE, device1, device2"),
        ("ext:0", DeviceUnavailableError, "its devices are CPU_DEVICE, device1, device2"),
        ("cuda", DeviceUnavailableError, "only on cpu and ext"),
        ("device3", ValueError, "'device3' is not a device"),
    ],
)
def test_devices_that_are_none(device, error, says):
    with pytest.raises(error, match=says):
        convert(np.ones(2), "array_api_strict", device=device)


@has_poor_devices
@pytest.mark.parametrize(("name", "lacks", "has"), [("no_float64", "float64", "float32"), ("no_x64", "int64", "int32")])
def test_devices_that_lack_some_dtypes(name, lacks, has):
    a = np.arange(3).astype(lacks)
    for x in (a, convert(a, "array_api_strict")):
        with pytest.raises(DTypeError, match=rf"(?s){name}.*has no {lacks} on ext:\d; {has} is of the same kind") as caught:
            convert(x, "array_api_strict", device=name)
        assert caught.value.permissions == {"casting": "same_kind"}
        assert interop.explain(x, "array_api_strict", device=name).permissions == caught.value.permissions
        for words in ({"dtype": has}, caught.value.permissions):
            result = convert(x, "array_api_strict", device=name, **words)
            assert (result.device, result.dtype) == (xp.Device(name), getattr(xp, has))
            assert interop.explain(x, "array_api_strict", device=name, **words).dtype == has
        with pytest.raises(DTypeError, match=f"has no {lacks} on") as final:
            convert(x, "array_api_strict", device=name, dtype=lacks)
        assert final.value.permissions == {}
        assert has in final.value.hint
    poor = strict(np.ones(2, "float32"), name)
    assert convert(poor, "numpy", device="cpu").dtype == "float32"
    assert convert(poor, "array_api_strict", dtype="int8").device == xp.Device(name)
    with pytest.raises(DTypeError):
        convert(poor, "array_api_strict", dtype=lacks)


def test_the_devices_that_tests_are_run_on():
    assert BACKEND.devices() == ("cpu", "device1", "device2")
    for name in BACKEND.devices():
        device = BACKEND.parse_device(name)
        assert BACKEND.why_unavailable(device) is None
        assert BACKEND.device_of(xp.ones(2, device=BACKEND.native_device(device))) == device


# Flags.


@pytest.mark.parametrize(
    "flags",
    [
        {"api_version": "2022.12"},
        {"boolean_indexing": False},
        {"data_dependent_shapes": False},
        {"enabled_extensions": []},
    ],
    ids=str,
)
def test_flags_of_the_standard_change_nothing(flags):
    with xp.ArrayAPIStrictFlags(**flags):
        a = np.arange(6.0).reshape(2, 3)
        x = convert(a, "array_api_strict", copy=False)
        assert shares_memory(x, a)
        assert convert(x, "torch").tolist() == a.tolist()
        assert convert(x, "numpy", dtype="int8").tolist() == a.tolist()
        assert convert(a, "array_api_strict", device="device1", dtype="float32").device == xp.Device("device1")


def test_the_backend_is_first_met_under_an_older_standard():
    code = (
        "import array_api_strict as xp, numpy as np\n"
        "xp.set_array_api_strict_flags(api_version='2022.12')\n"
        "import interop; print(interop.convert(np.ones(2), 'array_api_strict', device='device1').device)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "array_api_strict.Device('device1')"


def test_what_looks_like_its_array_and_is_none():
    for thing in (xp, xp.float32, xp.Device("device1"), xp.finfo(xp.float32)):
        with pytest.raises(interop.UnsupportedTypeError):
            convert(thing, "numpy")
