"""JAX as a source and as a target: values, memory, permissions, and everything that JAX does later, elsewhere or not at all."""

import itertools

import array_api_strict
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import interop
from interop import (
    CopyError,
    Device,
    DeviceUnavailableError,
    DTypeError,
    InteropError,
    NoDataError,
    convert,
    describe,
    explain,
    shares_memory,
)
from interop.backends import load_backend
from interop.backends.numpy.backend import ALIGNMENT, aligned_copy, native_dtype
from tests.corpus import aligned
from tests.enumeration import is_writable, snapshot, values_of
from tests.permissions import CORNERS

CPU = Device("cpu")

BACKEND = load_backend("jax")
NARROW = ["bool", "int8", "uint32", "float16", "bfloat16", "float32", "complex64", "float8_e4m3fn"]
WIDE = ["int64", "uint64", "float64", "complex128"]


# Every direction.

MAKE = {
    "numpy": lambda a: a,
    "torch": lambda a: convert(a, "torch"),
    "jax": jnp.asarray,
    "array_api_strict": array_api_strict.asarray,
}


def has(library, dtype, *, wide):
    """Return whether a library has a dtype; what arrives where it is missing is the other half of the test."""
    with jax.enable_x64(wide):
        return dtype in load_backend(library).capabilities.dtypes


MADE = [(source, dtype, wide) for source in MAKE for dtype in [*NARROW, *WIDE] for wide in (False, True) if has(source, dtype, wide=wide)]


@pytest.mark.parametrize("target", MAKE)
@pytest.mark.parametrize(("source", "dtype", "wide"), MADE)
def test_every_direction_under_every_corner_of_the_permissions(source, target, dtype, wide):
    with jax.enable_x64(wide):
        meant = aligned((2, 3), dtype, values=[[1, 0, 1], [1, 1, 0]])
        x = MAKE[source](meant.copy())
        before = snapshot(x)
        for policy in CORNERS:
            check(x, meant, target, policy)
            assert snapshot(x) == before


def check(x, meant, target, policy):
    plan = explain(x, target, policy=policy)
    if not plan.ok:
        with pytest.raises(InteropError) as caught:
            convert(x, target, policy=policy)
        assert describe(convert(x, target, policy=policy.replace(**caught.value.permissions))).backend == target
        return
    result = convert(x, target, policy=policy)
    assert describe(result).backend == target
    assert values_of(result).astype(complex).tolist() == meant.astype(complex).tolist()
    assert describe(result).dtype == plan.dtype
    assert policy.casting != "no" or policy.extension == "widen" or describe(result).dtype == describe(x).dtype
    assert target != "jax" or not is_writable(x) or not plan.shares_memory or policy.readonly == "share"
    assert shares_memory(result, x) == plan.shares_memory
    assert policy.copy is not False or plan.shares_memory
    assert policy.copy is not True or not plan.shares_memory
    assert is_writable(x) or not is_writable(result) or not plan.shares_memory or policy.readonly == "share"


@st.composite
def views(draw):
    """Draw a view of a block of memory: any axes, steps, order, start and offset from a multiple of 64."""
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    offset = draw(st.sampled_from([0, 0, 2, 4, 8, 16, 32, 63]))
    x = aligned(shape, draw(st.sampled_from(["int8", "float16", "bfloat16", "float32", "complex64"])), offset)
    if shape and draw(st.booleans()):
        x = x[tuple(slice(None, None, draw(st.sampled_from([1, 1, 2, -1]))) for _ in shape)]
    x = x.transpose(draw(st.permutations(range(x.ndim))))
    if draw(st.booleans()):
        x = np.broadcast_to(x, (draw(st.integers(1, 2)), *x.shape))
    x = x[:0] if x.ndim and draw(st.integers(0, 9)) == 0 else x
    return x if draw(st.booleans()) else np.expand_dims(x, draw(st.integers(0, x.ndim)))


@settings(deadline=None)
@given(views(), st.sampled_from([None, False, True]))
def test_whatever_lies_in_memory_arrives_and_comes_back(x, copy):
    before, flags = x.copy(), (x.flags.writeable, x.strides)
    plan = explain(x, "jax", copy=copy, readonly="share")
    if copy is False and not plan.ok:
        with pytest.raises(CopyError, match="JAX"):
            convert(x, "jax", copy=False, readonly="share")
        return
    result = convert(x, "jax", copy=copy, readonly="share")
    assert result.shape == x.shape
    assert result.dtype == x.dtype
    assert np.array_equal(np.asarray(result), before)
    if x.size:
        assert shares_memory(result, x) == plan.shares_memory == (copy is not True and lies_well(x))
    assert plan.bytes_copied == (0 if plan.shares_memory else x.nbytes)
    back = convert(result, "numpy", copy=False)
    assert np.array_equal(back, before)
    assert not x.size or (shares_memory(back, result) and not back.flags.writeable)
    assert np.array_equal(jnp.flip(result), np.flip(before))  # JAX itself reads it as interop does
    assert (x.flags.writeable, x.strides) == flags
    assert np.array_equal(x, before)


def lies_well(x):
    """Whether the bytes are a block from a multiple of 64 on; counted, and not by interop's rule."""
    offsets = [sum(n * step for n, step in zip(index, x.strides, strict=True)) for index in itertools.product(*map(range, x.shape))]
    return x.ctypes.data % 64 == 0 and sorted(offsets) == list(range(0, x.nbytes, x.itemsize))


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("dtype", sorted(load_backend("jax").capabilities.dtypes | set(WIDE)))
def test_every_dtype_of_jax_is_shared_both_ways(dtype, readonly):
    with jax.enable_x64(True):
        x = aligned((4, 2), dtype, values=np.ones((4, 2)))
        x.flags.writeable = not readonly
        result = convert(x, "jax", copy=False, readonly=None if readonly else "share")
        assert result.dtype == x.dtype
        assert shares_memory(result, x)
        assert shares_memory(convert(result, "numpy", copy=False), x)
        assert np.asarray(result).tobytes() == x.tobytes()
        unaligned = x[1:] if x.itemsize * 2 % 64 else x
        assert np.asarray(convert(unaligned, "jax")).tobytes() == unaligned.tobytes()


def test_the_dtypes_are_all_that_jax_can_exchange():
    with jax.enable_x64(True):
        named = {dtype for dtype in interop._model.dtypes.DTYPES if hasattr(jnp, dtype) and interop._model.dtypes.DTYPES[dtype].bits >= 8}
        assert BACKEND.capabilities.dtypes - {"bool"} == named - {"bool"}
        assert {"float32", "int64", "bfloat16", "float8_e4m3fn"} <= named


@pytest.mark.parametrize("have", ["float64", "complex128", "int32", "bfloat16", "float8_e5m2", "bool"])
@pytest.mark.parametrize("want", ["float64", "complex64", "int8", "bfloat16", "float8_e4m3fn", "bool", "float16"])
def test_what_is_laid_anew_is_what_numpy_casts(have, want):
    x = aligned((2, 3), have, 8, values=[[0, 1, 2], [1, 0, 1]])[:, ::-1]
    made = aligned_copy(x, want)
    assert made.ctypes.data % ALIGNMENT == 0
    assert made.flags.c_contiguous
    real = x.real if x.dtype.kind == "c" and want not in ("complex64", "bool") else x
    assert made.tolist() == real.astype(native_dtype(want)).tolist()


# 64 bits.


@pytest.mark.parametrize(
    ("dtype", "narrow"), [("float64", "float32"), ("int64", "int32"), ("uint64", "uint32"), ("complex128", "complex64")]
)
@pytest.mark.parametrize("source", ["numpy", "torch", "array_api_strict"])
def test_64_bits_are_narrowed_with_permission_only_and_the_words_say_why(source, dtype, narrow):
    x = MAKE[source](aligned(3, dtype))
    with pytest.raises(DTypeError, match="jax_enable_x64 is off") as caught:
        convert(x, "jax")
    assert caught.value.permissions == {"casting": "same_kind"}
    assert "jax.config.update('jax_enable_x64', True)" in str(caught.value)
    assert f"{narrow} is of the same kind" in str(caught.value)
    assert convert(x, "jax", **caught.value.permissions).dtype == narrow
    assert convert(x, "jax", dtype=narrow).dtype == narrow  # which is a permission by itself
    with pytest.raises(DTypeError, match="jax_enable_x64 is off") as final:
        convert(x, "jax", dtype=dtype)
    assert final.value.permissions == {}
    assert f"dtype={narrow!r}" in final.value.hint
    with jax.enable_x64(True):
        assert convert(x, "jax").dtype == dtype
        assert shares_memory(convert(x, "jax", readonly="share"), x) == (describe(x).pointer % 64 == 0)


def test_64_bits_that_are_there_though_it_is_off_now_stay():
    with jax.enable_x64(True):
        big = jnp.array([2**40 + 1, 3])
    for result in (convert(big, "numpy"), convert(big, "torch"), convert(big, "jax", copy=True), convert(big, "array_api_strict")):
        assert describe(result).dtype == "int64"
        assert int(result[0]) == 2**40 + 1
    assert convert(big, "jax") is big
    assert convert(big, "numpy", dtype="int8").tolist() == [1, 3]


def test_whether_it_is_on_is_asked_in_each_thread():
    import threading

    said = []
    with jax.enable_x64(True):
        thread = threading.Thread(target=lambda: said.append(explain(np.zeros(2), "jax").ok))
        thread.start()
        thread.join()
        assert explain(np.zeros(2), "jax").ok
    assert said == [False]


def test_casts_on_the_way_keep_what_jax_would_flush_to_zero():
    tiny = aligned(1, "float32", values=1e-40)
    with jax.enable_x64(True):
        x = convert(tiny, "jax")
        assert convert(x, "numpy", dtype="float64").tolist() == tiny.astype("float64").tolist() != [0.0]
        assert x.astype("float64").tolist() == [0.0]  # the negative control: https://github.com/jax-ml/jax/issues/26658


# Nothing to hand over.

TRANSFORMED = {
    "jit": lambda f, x: jax.jit(f)(x),
    "grad": lambda f, x: jax.grad(lambda y: f(y).sum())(x),
    "vmap": lambda f, x: jax.vmap(f)(x),
    "jvp": lambda f, x: jax.jvp(f, (x,), (x,)),
    "scan": lambda f, x: jax.lax.scan(lambda carry, y: (carry, f(y)), 0.0, x),
    "eval_shape": jax.eval_shape,
}


@pytest.mark.parametrize("transform", TRANSFORMED)
def test_a_tracer_is_refused_for_good(transform):
    seen = []

    def function(x):
        for target in ("numpy", "torch", "array_api_strict"):
            with pytest.raises(NoDataError, match="it is being traced") as caught:
                convert(x, target, policy="coerce")
            assert caught.value.permissions == {}
        seen.append(describe(x))
        assert explain(x, "numpy").final
        # Within JAX it stays what it is.
        assert convert(x, "jax") is x
        assert isinstance(convert(x, "jax", copy=True), jax.core.Tracer)
        return convert(x, "jax", dtype="float16").astype("float32")

    TRANSFORMED[transform](function, jnp.ones(3))
    assert seen[0].no_data == "traced"
    assert seen[0].shape in ((3,), ())


def test_what_is_no_tracer_can_be_converted_while_others_are_traced():
    concrete, wide = jnp.arange(4.0), aligned(4)
    kept = []

    def function(x):
        kept.append(jnp.zeros(2))  # the negative control: under jit, what JAX makes is traced
        kept.extend([convert(wide, "jax"), convert(wide[1:], "jax"), convert(wide, "jax", copy=True), convert(wide, "jax", dtype="int8")])
        kept.append(convert(convert(wide, "torch"), "jax", dtype="float8_e3m4"))
        kept.append(convert(np.zeros((0, 2), "float32"), "jax"))
        assert convert(concrete, "numpy", dtype="int8").tolist() == [0, 1, 2, 3]
        assert convert(concrete, "torch", copy=True).tolist() == [0, 1, 2, 3]
        return x

    jax.jit(function)(jnp.ones(3))
    assert isinstance(kept[0], jax.core.Tracer)
    assert not [one for one in kept[1:] if isinstance(one, jax.core.Tracer)]
    assert kept[1].tolist() == kept[3].tolist() == [1, 2, 3, 4]


def donated(x):
    jax.jit(lambda y: y + 1, donate_argnums=0)(x).block_until_ready()


@pytest.mark.parametrize("end", [lambda x: x.delete(), donated], ids=["deleted", "donated"])
def test_an_array_that_is_no_more_is_refused_for_good(end):
    x = jnp.arange(1000.0) + 1
    end(x)
    assert describe(x).no_data == "deleted"
    assert str(describe(x)) == "jax.Array float32[1000] on cpu, no data (deleted), read-only"
    for target, words in itertools.product(("numpy", "torch", "array_api_strict", "jax"), ({"copy": True}, {"dtype": "float16"})):
        with pytest.raises(NoDataError, match="deleted, or donated to a computation") as caught:
            convert(x, target, **words)
        assert caught.value.permissions == {}
    assert convert(x, "jax") is x


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: jax.random.key(0), "jax.random.key_data(x)"),
        (lambda: jax.random.split(jax.random.key(0), 3), "jax.random.key_data(x)"),
        (lambda: jnp.array([1, -2, 3], "int4"), "x.astype('int8')"),
        (lambda: jnp.array([1, 2, 3], "uint4"), "x.astype('uint8')"),
    ],
)
def test_what_has_no_numbers_to_share_is_refused_with_the_way_out(make, hint):
    x = make()
    for target in ("numpy", "torch", "array_api_strict"):
        with pytest.raises(DTypeError, match="has no dtype for") as caught:
            convert(x, target, policy="coerce")
        assert hint in caught.value.hint
        assert caught.value.permissions == {}
    assert convert(x, "jax") is x
    assert convert(x, "jax", copy=True).tolist() == x.tolist() if "int" in str(x.dtype) else convert(x, "jax", copy=True).shape == x.shape


def test_packed_integers_are_read_if_a_dtype_is_named():
    x = jnp.array([[1, -2, 3], [-8, 7, 0]], "int4")
    assert convert(x, "numpy", dtype="int8").tolist() == x.tolist()
    assert convert(x, "torch", dtype="float32").tolist() == x.tolist()
    assert convert(np.array([1, -2], ml_dtypes.int4), "jax", casting="safe").dtype == "int8"
    with pytest.raises(DTypeError, match="no numeric meaning"):
        convert(jax.random.key(0), "numpy", dtype="int8")


# Devices and calls.


def test_devices_by_name():
    a, x = aligned(4), jnp.arange(4.0)
    for device in ("cpu", "cpu:0", jax.devices("cpu")[0], torch.device("cpu"), CPU):
        assert shares_memory(convert(a, "jax", device=device, readonly="share"), a)
        assert convert(x, "jax", device=device) is x
    assert convert(a, like=x).tolist() == a.tolist()
    assert type(convert(x, like=a)) is np.ndarray
    assert convert(a, jnp).dtype == convert(a, jax).dtype == "float32"
    with pytest.raises(DeviceUnavailableError, match="only on cpu and cuda and rocm"):
        convert(a, "jax", device="mps")
    with pytest.raises(ValueError, match="did you mean 'cuda'"):
        convert(a, "jax", device="gpu")
    with pytest.raises(interop.StreamError, match="stream"):
        convert(a, "jax", stream=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")  # JAX asked here would start, and it minds forks
def test_a_device_that_is_not_there():
    with pytest.raises(DeviceUnavailableError, match="JAX has no cuda devices here") as caught:
        convert(aligned(4), "jax", device="cuda:1")
    assert "interop doctor" in caught.value.hint
    assert BACKEND.devices() == ("cpu",)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (0,), (3, 0), (0, 0, 2)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "bool"])
def test_no_axes_one_element_and_none(shape, dtype):
    for offset, copy in itertools.product((0, 4), (None, True)):
        x = aligned(shape, dtype, offset)
        result = convert(x, "jax", copy=copy)
        assert (result.shape, result.dtype) == (shape, x.dtype)
        assert np.asarray(result).tolist() == x.tolist()
        for target in ("numpy", "torch"):
            assert tuple(convert(result, target).shape) == shape
    assert convert(aligned(shape, dtype), "jax", copy=False, readonly="share").shape == shape


@pytest.mark.parametrize("scalar", [np.float32(3), np.int8(3), np.bool_(True), ml_dtypes.bfloat16(3)])
def test_scalars(scalar):
    result = convert(scalar, "jax")
    assert (result.shape, result.dtype, result.tolist()) == ((), scalar.dtype, scalar.item())
    assert not result.weak_type
    with pytest.raises(CopyError, match="a scalar has no buffer"):
        convert(scalar, "jax", copy=False)


def test_what_looks_like_an_array_of_jax_and_is_none():
    for thing in (jax.ShapeDtypeStruct((2,), "float32"), jnp, jnp.float32):
        with pytest.raises(interop.UnsupportedTypeError):
            convert(thing, "numpy")
