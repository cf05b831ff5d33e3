"""The value of the `xp` fixture: creation on the row's device and in its state, everything else the library's own."""

import types

import ml_dtypes
import numpy as np
import pytest

import interop
from interop import DTypeError, UnsupportedTypeError
from interop.backends import load_backend
from interop.testing import Row, RowNamespace, assert_close, assert_equal
from interop.testing.namespace import CREATORS

ROWS = [
    Row("numpy"),
    Row("numpy", state="readonly"),
    Row("torch"),
    Row("torch", state="grad"),
    Row("jax"),
    Row("array_api_strict"),
    Row("array_api_strict", "device1"),
    Row("array_api_strict", "device2"),
]
ARGUMENTS = {
    "arange": (4.0,),
    "empty": ((2, 3),),
    "eye": (3,),
    "full": ((2,), 1.5),
    "linspace": (0.0, 1.0, 5),
    "ones": (3,),
    "zeros": ((2, 2),),
}


@pytest.fixture(params=ROWS, ids=lambda row: row.id)
def xp(request):
    return RowNamespace(request.param)


def in_row(x, xp):
    """Return what the row promises of an array, as it is."""
    row, seen = xp.interop_row, interop.describe(x)
    device = load_backend(row.backend).parse_device(row.device)
    stated = {"readonly": seen.readonly, "grad": seen.requires_grad, "": True}[row.state]
    return seen.backend == row.backend and seen.device == device and stated


def test_the_arguments_below_are_for_all_creators():
    assert set(ARGUMENTS) == set(CREATORS)


@pytest.mark.parametrize("name", CREATORS)
def test_creators_make_arrays_of_the_row(xp, name):
    assert in_row(getattr(xp, name)(*ARGUMENTS[name]), xp)


@pytest.mark.parametrize("name", CREATORS)
def test_creators_take_a_dtype_by_object_or_name(xp, name):
    for dtype in (xp.float32, "float32"):
        made = getattr(xp, name)(*ARGUMENTS[name], dtype=dtype)
        assert in_row(made, xp)
        assert interop.describe(made).dtype == "float32"


@pytest.mark.parametrize("data", [2.5, [1.0, 2.0], [[1.0], [2.0]], np.arange(3.0), np.float32(3), np.ones((0, 2)), np.ones(4)[::-2]])
def test_asarray_makes_arrays_of_the_row(xp, data):
    made = xp.asarray(data)
    assert in_row(made, xp)
    assert_close(made, np.asarray(data), check_library=False, check_device=False, check_dtype=False)


def test_the_functions_of_the_library_keep_the_row(xp):
    x = xp.ones((2, 3))
    assert interop.describe(xp.sum(x * 2, axis=0)).device == interop.describe(x).device
    assert interop.describe(xp.zeros_like(x)).device == interop.describe(x).device


def test_it_is_a_module_that_stands_for_the_library(xp):
    assert isinstance(xp, types.ModuleType)
    assert interop.describe(interop.convert(np.ones(3, "float32"), xp)).backend == xp.interop_row.backend
    assert xp.__name__ == xp.interop_namespace.__name__
    assert xp.sin is xp.interop_namespace.sin
    assert xp.linalg is xp.interop_namespace.linalg
    assert {"sin", "asarray", "interop_row"} <= set(dir(xp))
    assert repr(xp) == f"<row {xp.interop_row.id!r} of {xp.__name__}>"
    with pytest.raises(AttributeError):
        _ = xp.no_such_function
    assert not hasattr(RowNamespace.__new__(RowNamespace), "sin")  # before its __init__: no endless recursion


def test_the_device_is_the_librarys_own_object(xp):
    assert interop.describe(xp.interop_namespace.zeros(2, device=xp.interop_device)).device == interop.describe(xp.zeros(2)).device


@pytest.mark.parametrize("readonly", [False, True])
def test_the_reference_data_stay_as_they_are(xp, readonly):
    data = np.arange(4, dtype="float32")
    data.setflags(write=not readonly)
    made = xp.asarray(data)
    assert data.flags.writeable is not readonly
    assert not interop.shares_memory(made, data)
    assert interop.describe(made).dtype == "float32"


def test_without_a_copy_the_memory_is_shared_and_the_state_is_the_results_alone():
    data = np.arange(4.0)
    for row in ROWS[:4]:
        made = RowNamespace(row).asarray(data, copy=False)
        assert interop.shares_memory(made, data)
        assert in_row(made, RowNamespace(row))
        assert data.flags.writeable
    with pytest.raises(interop.CopyError):
        RowNamespace(Row("torch")).asarray(data[::-1], copy=False)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "float32", "complex64"])
def test_a_dtype_that_the_library_has_is_kept(xp, dtype):
    data = np.ones(3, dtype)
    assert interop.describe(xp.asarray(data)).dtype == dtype
    assert_equal(xp.asarray(data), data, check_library=False, check_device=False)


def test_gradients_are_for_floats_only():
    xp = RowNamespace(Row("torch", state="grad"))
    assert not xp.asarray(np.arange(3)).requires_grad
    assert xp.asarray(np.ones(3, "complex64")).requires_grad


# JAX without x64, and array-api-strict: libraries without some dtypes.

JAX = Row("jax")


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [("float64", "float32"), ("int64", "int32"), ("uint64", "uint32"), ("complex128", "complex64"), ("longdouble", "float32")],
)
def test_what_the_library_lacks_becomes_the_widest_of_the_kind(wide, narrow):
    xp, data = RowNamespace(JAX), np.asarray([1, 3], wide)
    made = xp.asarray(data)
    assert interop.describe(made).dtype == narrow
    assert_equal(made, data.astype(narrow), check_library=False)


def test_what_a_wider_dtype_holds_is_widened():
    xp = RowNamespace(Row("array_api_strict"))
    assert interop.describe(xp.asarray(np.ones(2, ml_dtypes.bfloat16))).dtype == "float32"


@pytest.mark.parametrize(
    "data", [np.asarray([2**40]), np.asarray([-(2**31) - 1]), np.asarray([1e300]), np.asarray([1e300 + 1j]), np.asarray([2**32], "uint64")]
)
def test_values_that_do_not_fit_are_refused(data):
    with pytest.raises(DTypeError, match=r"JAX has no \w+ on cpu \(jax_enable_x64 is off.*does not hold these values"):
        RowNamespace(JAX).asarray(data)


@pytest.mark.parametrize("data", [np.asarray([2**31 - 1, -(2**31)]), np.asarray([np.inf, np.nan, 3e38]), np.asarray([2**32 - 1], "uint64")])
def test_values_at_the_edge_fit(data):
    """The negative control."""
    made = RowNamespace(JAX).asarray(data)
    assert_close(made, data, check_library=False, check_dtype=False)


@pytest.mark.parametrize("name", ["float64", "int64", "complex128"])
def test_a_dtype_that_is_asked_for_and_lacking_is_refused(name):
    xp = RowNamespace(JAX)
    for dtype in (name, getattr(np, name), getattr(xp, name)):
        for make in (
            lambda dtype: xp.zeros(3, dtype=dtype),
            lambda dtype: xp.asarray([1], dtype=dtype),
            lambda dtype: xp.asarray(np.ones(2), dtype=dtype),
        ):
            with pytest.raises(DTypeError, match="jax_enable_x64"):
                make(dtype)


def test_with_x64_nothing_is_narrowed():
    """The negative control."""
    import jax

    with jax.enable_x64(True):
        xp = RowNamespace(JAX)
        assert interop.describe(xp.asarray(np.ones(2))).dtype == "float64"
        assert interop.describe(xp.zeros(2, dtype=xp.int64)).dtype == "int64"


def test_a_dtype_that_interop_does_not_know_is_the_librarys_own_business():
    xp = RowNamespace(Row("numpy"))
    assert xp.asarray(["a"], dtype=np.dtype("U3")).dtype == "U3"


def test_an_explicit_cast_is_done(xp):
    made = xp.asarray(np.asarray([1.5, 2.5]), dtype=xp.float32)
    assert interop.describe(made).dtype == "float32"
    assert interop.describe(xp.asarray(np.asarray([1.5]), dtype=xp.int32)).dtype == "int32"


def test_an_explicit_device_wins():
    xp = RowNamespace(Row("array_api_strict", "device1"))
    for device in ("device2", interop.Device("ext", 2), xp.Device("device2")):
        for made in (xp.zeros(2, device=device), xp.asarray(np.ones(2), device=device), xp.asarray([1.0], device=device)):
            assert made.device == xp.Device("device2")
    assert xp.zeros(2).device == xp.Device("device1")


def test_an_array_of_the_library_goes_to_the_librarys_own_function():
    for row in (Row("torch", state="grad"), Row("array_api_strict", "device1"), JAX):
        xp = RowNamespace(row)
        own = xp.interop_namespace.ones(3)
        made = xp.asarray(own)
        assert interop.describe(made).device == interop.describe(own).device
        assert not interop.describe(made).requires_grad
    xp = RowNamespace(Row("array_api_strict", "device1"))
    assert xp.asarray(xp.interop_namespace.ones(3), device="device2").device == xp.Device("device2")


@pytest.mark.parametrize("row", [Row("numpy"), JAX, Row("array_api_strict")], ids=lambda row: row.id)
def test_an_array_of_another_library_is_refused_with_the_call_to_write(row):
    import torch

    xp = RowNamespace(row)
    with pytest.raises(UnsupportedTypeError, match=r"got torch.Tensor float32\[2\] on cpu(.|\n)*interop.convert\(x, xp\)"):
        xp.asarray(torch.ones(2))
    assert interop.describe(interop.convert(torch.ones(2), xp)).backend == row.backend


def test_the_policy_in_scope_has_no_say(xp):
    with interop.policy(interop.STRICT):
        assert in_row(xp.asarray(np.ones(3)[::-1]), xp)
    data = np.ones(3)
    data.setflags(write=False)
    with interop.policy(readonly="share"), pytest.raises(interop.ReadOnlyError):
        RowNamespace(Row("torch")).asarray(data, copy=False)


def test_what_asarray_does_inside_a_record_is_recorded():
    with interop.record() as log:
        RowNamespace(Row("torch")).asarray(np.ones(3))
    assert [(one.source.backend, one.target, one.bytes) for one in log.crossings] == [("numpy", "torch", 24)]


def test_masked_data_are_refused_in_every_row(xp):
    with pytest.raises(interop.MaskError):
        xp.asarray(np.ma.masked_array([1.0, 2.0], [0, 1]))
    assert in_row(xp.asarray(np.ma.masked_array([1.0, 2.0])), xp)  # nothing is masked
