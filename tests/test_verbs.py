"""The public verbs as a user meets them: targets, devices, dtypes, copies, memory, and wrong use."""

import gc
import subprocess
import sys
import weakref

import array_api_compat.numpy
import array_api_compat.torch
import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp

import interop
from interop import (
    BackendNotInstalledError,
    CopyError,
    DeviceUnavailableError,
    DTypeError,
    ReadOnlyError,
    StreamError,
    UnsupportedTypeError,
    convert,
    explain,
    shares_memory,
    to_cupy,
    to_jax,
    to_numpy,
    to_torch,
)
from tests.corpus import NOT_ARRAYS

A = np.arange(6, dtype="float32").reshape(2, 3)


@pytest.mark.parametrize("to", ["torch", torch, array_api_compat.torch])
def test_a_target_is_a_name_or_a_namespace(to):
    assert type(convert(A, to)) is torch.Tensor


@pytest.mark.parametrize("to", ["numpy", np, array_api_compat.numpy])
def test_numpy_as_a_target(to):
    assert type(convert(torch.ones(2), to)) is np.ndarray


def test_jax_has_a_verb_of_its_own():
    import jax

    assert type(to_jax(A)) is type(convert(A, "jax")) is type(to_jax(torch.ones(2)))
    assert isinstance(to_jax(A), jax.Array)
    array = jax.numpy.ones(2)
    assert to_jax(array) is array
    with pytest.raises(DTypeError, match=r"^to_jax\(x\) cannot convert"):
        to_jax(np.ones(2))  # without 64 bits
    assert to_jax(np.ones(2), casting="same_kind").dtype == "float32"


def test_a_vendored_compat_namespace():
    sklearn = pytest.importorskip("sklearn.externals.array_api_compat.torch", reason="scikit-learn is not installed")
    assert type(convert(A, sklearn)) is torch.Tensor


def test_like_takes_the_library_of_an_array():
    assert type(convert(A, like=torch.ones(1))) is torch.Tensor
    assert convert(A, like=A) is A


@pytest.mark.parametrize(
    ("arguments", "words", "error", "says"),
    [
        ((A,), {}, TypeError, "name the target once"),
        ((A, "torch"), {"like": A}, TypeError, "name the target once"),
        ((A, "trch"), {}, ValueError, "did you mean 'torch'"),
        ((A, A), {}, TypeError, "for an array use like="),
        ((A, "torch"), {"device": "cudda"}, ValueError, "did you mean 'cuda'"),
        ((A, "torch"), {"device": "cuda:x"}, ValueError, "the index is a number"),
        ((A, "torch"), {"dtype": "flaot32"}, ValueError, "did you mean 'float32'"),
        ((A, "torch"), {"polcy": "strict"}, TypeError, "did you mean 'policy'"),
        ((A, "torch"), {"policy": "strickt"}, ValueError, "did you mean 'strict'"),
    ],
)
def test_wrong_use_names_the_nearest_right_word(arguments, words, error, says):
    for verb in (convert, explain):
        with pytest.raises(error, match=says):
            verb(*arguments, **words)


@pytest.mark.parametrize("dtype", ["float64", "double", torch.float64, np.float64, np.dtype("f8"), float])
def test_a_dtype_is_named_in_any_librarys_words(dtype):
    assert to_torch(A, dtype=dtype).dtype is torch.float64
    assert to_numpy(torch.ones(2), dtype=dtype).dtype == "float64"
    assert to_numpy(A, dtype=dtype).dtype == "float64"


def test_small_dtypes_by_name_and_by_class():
    for dtype in ("bfloat16", ml_dtypes.bfloat16, torch.bfloat16):
        assert to_torch(A, dtype=dtype).dtype is torch.bfloat16
        assert to_numpy(A, dtype=dtype).dtype == ml_dtypes.bfloat16


def test_an_explicit_cast_permits_its_loss_without_a_warning():
    assert to_torch(np.array([1 + 2j]), dtype="float32").tolist() == [1.0]
    assert to_numpy(torch.tensor([1 + 2j]), dtype="float32").tolist() == [1.0]
    assert to_torch(np.array([1.9]), dtype="int8").tolist() == [1]
    assert to_torch(np.array([0, 2j]), dtype="bool").tolist() == [False, True]
    with pytest.raises(CopyError, match="has to be cast"):
        to_torch(A, dtype="float64", copy=False)


def test_an_explicit_dtype_reads_objects_and_strings():
    assert to_torch(np.array([1, 2.5], dtype=object), dtype="float32").tolist() == [1, 2.5]
    assert to_torch(np.array(["1", "2.5"]), dtype="float64").tolist() == [1, 2.5]
    assert to_torch(np.array(["1970-01-03"], "datetime64[D]"), dtype="int64").tolist() == [2]
    with pytest.raises(DTypeError, match="could not convert string to float"):
        to_torch(np.array(["a"]), dtype="float32")


@pytest.mark.parametrize(("dtype", "target"), [("longdouble", to_torch), ("int4", to_torch), ("float8_e4m3fn", to_cupy)])
def test_a_dtype_that_the_target_lacks_is_refused_for_good(dtype, target):
    with pytest.raises((DTypeError, DeviceUnavailableError)) as caught:
        target(A, dtype=dtype)
    assert caught.value.permissions == {}
    assert "dtype" in [refusal.code for refusal in caught.value.refusals]


def test_the_nearest_dtype_that_holds_everything():
    array = np.array([1.5, 2], "longdouble")
    with pytest.raises(DTypeError) as caught:
        to_torch(array)
    assert caught.value.permissions == {"casting": "same_kind"}
    assert to_torch(array, casting="same_kind").dtype is torch.float64


def test_a_result_keeps_the_memory_alive_and_lets_it_go():
    array = np.full(1000, 7.0)
    gone = weakref.ref(array)
    tensor = to_torch(array)
    del array
    gc.collect()
    assert tensor.sum() == 7000
    del tensor
    gc.collect()
    assert gone() is None
    view = to_numpy(torch.full((1000,), 7.0))
    gc.collect()
    assert view.sum() == 7000


def test_writes_are_seen_on_both_sides():
    array = A.copy()
    tensor = to_torch(array)
    tensor[0, 0] = 9
    assert array[0, 0] == 9
    back = to_numpy(tensor)
    back[1, 1] = 8
    assert array[1, 1] == 8


def test_a_shared_tensor_cannot_be_resized_under_the_array():
    tensor = torch.ones(3)
    view = to_numpy(tensor)
    with pytest.raises(RuntimeError, match="not resizable"):
        tensor.resize_(10**6)
    assert view.tolist() == [1, 1, 1]


def test_a_view_handed_out_of_a_graph_cannot_be_written():
    weight = torch.ones(3, requires_grad=True)
    product = (weight * weight).exp()
    view = to_numpy(product, grad="detach")
    with pytest.raises(ValueError, match="read-only"):
        view[:] = 0
    writable = to_numpy(product, grad="detach", readonly="share")
    writable[:] = 0  # permitted by name: this is the wrong gradient that the default protects from
    product.sum().backward()
    assert weight.grad.tolist() == [0, 0, 0]


@pytest.mark.parametrize("thing", NOT_ARRAYS, ids=lambda thing: type(thing).__name__)
def test_what_is_no_array_is_refused_with_a_hint(thing):
    for verb in (to_numpy, to_torch, to_cupy, interop.describe):
        with pytest.raises(UnsupportedTypeError) as caught:
            verb(thing)
        assert caught.value.hint
        assert verb.__name__ in str(caught.value)
    assert isinstance(caught.value, TypeError)


def test_a_stream_means_nothing_on_the_host():
    with pytest.raises(StreamError, match="stream"):
        to_numpy(torch.ones(2), stream=1)
    assert explain(A, "torch", stream=1).refusals[0].code == "stream"


def test_a_device_that_the_library_cannot_live_on():
    with pytest.raises(DeviceUnavailableError, match="NumPy arrays cannot live on cuda:0"):
        to_numpy(A, device="cuda")
    with pytest.raises(DeviceUnavailableError, match=r"CPU only|torch sees no cuda|counted from 0"):
        to_torch(A, device="cuda:99")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_cupy_without_a_gpu_gives_a_hint_and_not_its_own_error():
    for source in (A, torch.ones(2)):
        with pytest.raises(DeviceUnavailableError) as caught:
            to_cupy(source)
        assert "interop doctor" in caught.value.hint
        assert caught.value.permissions == {}


def test_a_library_that_is_not_installed():
    code = "import sys; sys.modules['cupy'] = None\nimport numpy, interop\ninterop.to_cupy(numpy.ones(2))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "BackendNotInstalledError: to_cupy(x): cupy is not installed" in ran.stderr
    assert "pip install 'array-interop[cupy13x]'" in ran.stderr
    assert issubclass(BackendNotInstalledError, ImportError)


def test_strict_shares_or_raises():
    assert shares_memory(to_torch(A.copy(), policy="strict"), A) is False
    read_only = np.broadcast_to(A[0], (2, 3))
    with pytest.raises(ReadOnlyError) as caught:
        to_torch(read_only, policy="strict")
    assert not shares_memory(to_torch(read_only, policy="strict", **caught.value.permissions), read_only)
    assert shares_memory(to_torch(read_only, policy="strict", readonly="share"), read_only)


ARRAYS = stnp.arrays(
    st.sampled_from(["bool", "int8", "uint16", "int64", "float16", "float32", "float64", "complex64", "complex128"]),
    stnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)


@settings(deadline=None)  # the first example loads torch
@given(ARRAYS, st.data())
def test_round_trips_keep_values_shape_dtype_and_memory(array, data):
    view = array[data.draw(stnp.basic_indices(array.shape, allow_newaxis=True))] if array.ndim else array
    view = np.asarray(view).T
    tensor = to_torch(view)
    back = to_numpy(tensor)
    assert back.dtype == view.dtype
    np.testing.assert_array_equal(back, view)
    plan = explain(view, "torch")
    assert plan.bytes_copied == (0 if plan.shares_memory else view.nbytes)
    if view.size:
        walked = [step for step, extent in zip(view.strides, view.shape, strict=True) if extent > 1]
        assert shares_memory(tensor, view) == plan.shares_memory == (min(walked, default=0) >= 0)
