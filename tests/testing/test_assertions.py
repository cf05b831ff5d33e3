"""`assert_close` and `assert_equal`: what they accept, what they catch, what they report, and that they touch nothing."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch

import interop
from interop import LayoutError, MaskError, NoDataError
from interop.backends import load_backend
from interop.testing import assert_close, assert_equal, default_rtol

STRICT = load_backend("array_api_strict").namespace()
BASE = np.asarray([[1.0, 2.0, -3.0], [0.5, 0.0, 8.0]], "float32")
BOTH = pytest.mark.parametrize("check", [assert_close, assert_equal])


def readonly(x):
    x.setflags(write=False)
    return x


# What they must accept: two spellings of one array.

SAME = {
    "numpy": (BASE, BASE.copy()),
    "read-only": (readonly(BASE.copy()), BASE),
    "byte-swapped": (BASE.astype(">f4"), BASE),
    "strides": (np.asfortranarray(BASE), np.repeat(BASE, 2, axis=1)[:, ::2]),
    "scalar": (np.float32(2), np.asarray(2, "float32")),
    "grad": (torch.tensor(BASE, requires_grad=True), torch.tensor(BASE)),
    "non-leaf": (torch.tensor(BASE, requires_grad=True) * 1, torch.tensor(BASE)),
    "parameter": (torch.nn.Parameter(torch.tensor(BASE)), torch.tensor(BASE)),
    "conj": (torch.tensor([1 + 2j]).conj(), torch.tensor([1 - 2j])),
    "neg": (torch.tensor([1 + 2j]).conj().imag, torch.tensor([-2.0])),
    "bfloat16": (torch.tensor(BASE).bfloat16(), torch.tensor(BASE, dtype=torch.bfloat16)),
    "float8": (torch.tensor(BASE).to(torch.float8_e4m3fn), torch.tensor(BASE).to(torch.float8_e4m3fn)),
    "ml_dtypes": (BASE.astype(ml_dtypes.float8_e5m2), BASE.astype(ml_dtypes.float8_e5m2)),
    "int4": (np.asarray([1, -8], ml_dtypes.int4), np.asarray([1, -8], ml_dtypes.int4)),
    "complex": (BASE + 1j, BASE + 1j),
    "longdouble": (BASE.astype("longdouble"), BASE.astype("longdouble")),
    "bool": (BASE > 0, BASE > 0),
    "uint64": (np.asarray([2**64 - 1], "uint64"), np.asarray([2**64 - 1], "uint64")),
    "0-d": (np.asarray(1.5), np.asarray(1.5)),
    "empty": (np.ones((0, 3)), np.zeros((0, 3))),
    "nan": (np.asarray([np.nan, np.inf, -np.inf]), np.asarray([np.nan, np.inf, -np.inf])),
    "complex nan": (np.asarray([complex(np.nan, 1)]), np.asarray([complex(1, np.nan)])),
    "signed zero": (np.asarray([0.0]), np.asarray([-0.0])),
    "jax": (jnp.asarray(BASE), jnp.asarray(BASE)),
    "jax bfloat16": (jnp.asarray(BASE, "bfloat16"), jnp.asarray(BASE, "bfloat16")),
    "strict": (STRICT.asarray(BASE.tolist()), STRICT.asarray(BASE.tolist())),
    "odd device": (STRICT.ones(3, device=STRICT.Device("device1")), STRICT.ones(3, device=STRICT.Device("device1"))),
    "strings": (np.asarray(["a", "bc"]), np.asarray(["a", "bc"])),
    "dates": (np.asarray(["2020", "NaT"], "M8[D]"), np.asarray(["2020", "NaT"], "M8[D]")),
    "objects": (np.asarray([1, None, np.nan], object), np.asarray([1, None, np.nan], object)),
    "records": (np.zeros(2, [("a", int)]), np.zeros(2, [("a", int)])),
    "numbers": (2.5, 2.5),
    "array, number": (torch.tensor(0.1), 0.1),
    "number, array": (3, np.asarray(3)),
    "bfloat16, number": (torch.tensor(0.1, dtype=torch.bfloat16), 0.1),
    "complex, number": (np.asarray(1 + 2j), 1 + 2j),
    "dict": ({"a": BASE, "b": [1, "x", None]}, {"b": [1, "x", None], "a": BASE.copy()}),
    "empty tree": ({}, {}),
}


@BOTH
@pytest.mark.parametrize("pair", SAME.values(), ids=SAME)
def test_what_is_the_same_is_accepted(check, pair):
    check(*pair)
    check(*pair[::-1])


def test_a_tangent_and_an_inference_tensor_are_accepted():
    with torch.inference_mode():
        x = torch.ones(3)
    assert_equal(x, torch.ones(3))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(torch.ones(3), torch.zeros(3))
        assert_equal(dual, torch.ones(3))


# What they must catch: one corruption each.


def but(x, index, value):
    changed = x.copy() if isinstance(x, np.ndarray) else x.clone()
    changed[index] = value
    return changed


WRONG = {
    "a value": (but(BASE, (1, 0), 0.75), BASE, "1 of 6 values"),
    "a nan": (but(BASE, (0, 0), np.nan), BASE, "1 of 6 values"),
    "an inf": (but(BASE, (0, 0), np.inf), BASE, "1 of 6 values"),
    "the sign of inf": (np.asarray([np.inf]), np.asarray([-np.inf]), "1 of 1 values"),
    "a bit": (np.asarray([True, False]), np.asarray([True, True]), "1 of 2 values"),
    "the last of 64 bits": (np.asarray([2**63 + 1], "uint64"), np.asarray([2**63], "uint64"), "1 of 1 values"),
    "a pending conjugation": (torch.tensor([1 + 2j]).conj(), torch.tensor([1 + 2j]), "1 of 1 values"),
    "a pending negation": (torch.tensor([1 + 2j]).conj().imag, torch.tensor([2.0]), "1 of 1 values"),
    "an imaginary part": (np.asarray([1 + 0.5j]), np.asarray([1 + 0j]), "1 of 1 values"),
    "a grad-tracked value": (torch.tensor([1.0], requires_grad=True), torch.tensor([2.0]), "1 of 1 values"),
    "a bfloat16 value": (torch.tensor([1.0]).bfloat16(), torch.tensor([1.05]).bfloat16(), "1 of 1 values"),
    "a float8 value": (torch.tensor([1.0]).to(torch.float8_e5m2), torch.tensor([2.5]).to(torch.float8_e5m2), "1 of 1 values"),
    "a jax value": (jnp.asarray([1.0]), jnp.asarray([2.0]), "1 of 1 values"),
    "a value elsewhere": (
        STRICT.zeros(2, device=STRICT.Device("device1")),
        STRICT.ones(2, device=STRICT.Device("device1")),
        "2 of 2 values",
    ),
    "a string": (np.asarray(["a"]), np.asarray(["b"]), "1 of 1 values"),
    "a record": (np.zeros(1, [("a", int)]), np.ones(1, [("a", int)]), "1 of 1 values"),
    "a number": (3, 4, "1 of 1 values"),
    "a number against an array": (torch.tensor(0.1), 0.2, "1 of 1 values"),
    "a fraction against an integer": (np.asarray(2), 2.5, "1 of 1 values"),
    "the library": (torch.tensor(BASE), BASE, "library"),
    "the dtype": (BASE, BASE.astype("float64"), "dtype"),
    "the shape": (BASE, BASE.reshape(3, 2), "shape"),
    "an axis": (BASE, BASE[None], "shape"),
    "a broadcast": (np.ones(3), np.asarray(1.0), "shape"),
    "a number for an array": (np.ones(3), 1.0, "shape"),
    "empty shapes": (np.ones((0, 3)), np.ones((3, 0)), "shape"),
    "the device": (STRICT.ones(2, device=STRICT.Device("device1")), STRICT.ones(2), "device"),
    "everything": (torch.zeros(2), STRICT.ones(2, device=STRICT.Device("device1")), "library, dtype, device and 2 of 2 values"),
}


@BOTH
@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_what_is_different_is_caught_and_named(check, case):
    actual, desired, what = case
    with pytest.raises(AssertionError) as caught:
        check(actual, desired)
    assert str(caught.value).splitlines()[0] == f"{check.__name__}: actual and desired differ in {what}"


@BOTH
@pytest.mark.parametrize(
    ("switch", "actual", "desired"),
    [
        ("check_library", torch.ones(2), np.ones(2, "float32")),
        ("check_dtype", np.ones(2), np.ones(2, "int8")),
        ("check_shape", np.ones((2, 3)), np.ones(3)),
        ("check_shape", np.ones(3), 1.0),
        ("check_device", STRICT.ones(2, device=STRICT.Device("device1")), STRICT.ones(2)),
    ],
)
def test_a_check_is_switched_off_by_the_name_that_the_message_gives(check, switch, actual, desired):
    with pytest.raises(AssertionError, match=rf"\({switch}=False leaves this out\)"):
        check(actual, desired)
    check(actual, desired, **{switch: False})
    for other in {"check_library", "check_dtype", "check_shape", "check_device"} - {switch}:
        with pytest.raises(AssertionError):
            check(actual, desired, **{other: False})


@BOTH
def test_switched_off_checks_still_compare_the_values(check):
    off = dict.fromkeys(["check_library", "check_dtype", "check_shape", "check_device"], False)
    with pytest.raises(AssertionError, match="2 of 2 values"):
        check(torch.zeros(2, dtype=torch.int8), np.ones(1), **off)
    with pytest.raises(AssertionError, match="cannot be broadcast against each other"):
        check(np.ones(2), np.ones(3), **off)


def test_between_dtypes_integers_are_compared_exactly():
    for actual, desired in [([2**53 + 1], [2.0**53]), (np.asarray([2**63], "uint64"), [2**63 - 1]), ([2**63 - 1], [2.0**63])]:
        with pytest.raises(AssertionError, match="1 of 1 values"):
            assert_equal(np.asarray(actual), np.asarray(desired), check_dtype=False)
    assert_equal(np.asarray([2**53]), np.asarray([2.0**53]), check_dtype=False)


# Tolerance.


@pytest.mark.parametrize(
    ("dtype", "rtol"),
    [
        ("float64", 4 * 2.0**-26),
        ("complex128", 4 * 2.0**-26),
        ("float32", 4 * 2.0**-11.5),
        ("complex64", 4 * 2.0**-11.5),
        ("float16", 2.0**-9),
        ("bfloat16", 2.0**-6),
        ("float8_e4m3fn", 0.25),
        ("float8_e5m2", 0.5),
        ("float8_e8m0fnu", 0.5),
        ("int64", 0.0),
        ("bool", 0.0),
        ("object", 0.0),
    ],
)
def test_the_tolerance_follows_the_dtype(dtype, rtol):
    assert default_rtol(dtype) == pytest.approx(rtol)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "complex64"])
def test_within_the_tolerance_passes_and_beyond_it_fails(dtype):
    native, rtol = load_backend("numpy"), default_rtol(dtype)
    desired = native.cast(np.asarray([8.0]), dtype)
    near, far = (native.cast(np.asarray([8.0 * (1 + part * rtol)]), dtype) for part in (0.99, 2.01))
    assert_close(near, desired)
    with pytest.raises(AssertionError):
        assert_close(far, desired)
    with pytest.raises(AssertionError):
        assert_close(native.cast(np.asarray([0.0]), dtype), desired)


def test_the_coarser_of_two_dtypes_counts():
    assert_close(np.asarray([1.0]), np.asarray([1.001], "float32"), check_dtype=False)
    with pytest.raises(AssertionError):
        assert_close(np.asarray([1.0]), np.asarray([1.001]))


def test_tolerances_that_are_given_are_taken():
    a, d = np.asarray([1.0, 100.0]), np.asarray([1.5, 101.0])
    assert_close(a, d, atol=1.0)
    assert_close(a, d, rtol=0.4)
    assert_close(np.asarray([1, 2]), np.asarray([1, 4]), atol=2)
    for words in ({"atol": 0.4}, {"rtol": 0.3}, {"rtol": 0.0}):
        with pytest.raises(AssertionError):
            assert_close(a, d, **words)
    for atol in (1e5, 1.1e5):  # neither this nor the difference is a float16, which would make both infinite
        with pytest.raises(AssertionError, match="greatest difference 120000 absolute"):
            assert_close(np.asarray([6e4], "float16"), np.asarray([-6e4], "float16"), atol=atol)


@pytest.mark.parametrize("words", [{"rtol": -1.0}, {"atol": -1e-9}, {"atol": float("nan")}, {"rtol": float("nan")}])
def test_a_tolerance_that_would_compare_nothing_is_refused(words):
    with pytest.raises(ValueError, match="a tolerance is not negative"):
        assert_close(np.ones(2), np.ones(2), **words)


@BOTH
def test_nans_need_not_be_equal(check):
    with pytest.raises(AssertionError, match="1 of 2 values"):
        check(np.asarray([np.nan, 1.0]), np.asarray([np.nan, 1.0]), equal_nan=False)


# The message.


def test_the_message_names_the_worst():
    with pytest.raises(AssertionError) as caught:
        assert_close(but(but(BASE, (0, 1), 2.5), (1, 2), -8.0), BASE)
    assert str(caught.value).splitlines() == [
        "assert_close: actual and desired differ in 2 of 6 values",
        "  values: 2 of 6 elements, by more than 0 + 0.00138 * |desired|",
        "    greatest difference 16 absolute, 2 relative",
        "    worst at [1, 2]: actual -8.0, desired 8.0",
        "  actual: numpy.ndarray float32[2, 3] on cpu",
        "  desired: numpy.ndarray float32[2, 3] on cpu",
    ]


@pytest.mark.parametrize(
    ("actual", "desired", "message"),
    [
        (np.asarray(2.0), np.asarray(3.0), "worst: actual 2.0, desired 3.0"),
        (np.asarray([1, 2**62]), np.asarray([1, 2**62 + 1]), "greatest difference 1 absolute"),
        (np.asarray([1.0, np.nan, 3.0]), np.asarray([2.0, 1.0, 3.0]), "worst at [1]: actual nan, desired 1.0"),
        (np.asarray([1.0, 5.0]), np.asarray([0.0, 5.0]), "1 absolute, inf relative"),
        (np.asarray([1e308]), np.asarray([-1e308]), "greatest difference inf absolute"),
        (np.asarray(["a", "b"]), np.asarray(["a", "c"]), "first at [1]: actual np.str_('b'), desired np.str_('c')"),
        (torch.tensor(0.1, dtype=torch.bfloat16), 0.2, "desired: the Python number 0.2"),
        (torch.ones(2), STRICT.ones(2), "library: actual torch, desired array_api_strict"),
        (STRICT.ones(2), STRICT.ones(2, device=STRICT.Device("device1")), "device: actual cpu, desired ext:1"),
        (np.ones(2), np.ones(2, "int8"), "dtype: actual float64, desired int8"),
        (np.ones((2, 3)), np.ones(3), "shape: actual (2, 3), desired (3,)"),
        (torch.ones(1, requires_grad=True), torch.zeros(1), "actual: torch.Tensor float32[1] on cpu, requires grad"),
    ],
)
def test_the_message_names_what_is_needed(actual, desired, message):
    with pytest.raises(AssertionError) as caught:
        assert_equal(actual, desired)
    assert message in str(caught.value)


def test_nothing_is_warned_about():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(AssertionError):
            assert_close(np.asarray([np.inf, 1e308, np.nan, 0.0]), np.asarray([-np.inf, -1e308, 1.0, 0.0]))


# Trees.


@dataclasses.dataclass
class State:
    weight: object
    step: int = 0


TREE = {"w": [BASE, torch.ones(2)], "state": State(np.ones(3), 2), "name": "a"}


@BOTH
def test_trees_are_compared_leaf_by_leaf(check):
    check(TREE, {"w": [BASE.copy(), torch.ones(2)], "state": State(np.ones(3), 2), "name": "a"})
    with pytest.raises(AssertionError) as caught:
        check(TREE, {"w": [BASE, torch.zeros(2)], "state": State(np.ones(3, "int8"), 3), "name": "b"})
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{check.__name__}: actual and desired differ at 4 of 5 leaves"
    assert [line for line in lines if line.startswith("at ")] == [
        "at actual['name'], in value",
        "at actual['state'].weight, in dtype",
        "at actual['state'].step, in 1 of 1 values",
        "at actual['w'][1], in 2 of 2 values",
    ]


@BOTH
@pytest.mark.parametrize(
    ("actual", "desired", "message"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "c": 2}, ["actual is a dict, desired is a dict", "only in actual: ['b']", "only in desired: ['c']"]),
        ([BASE], (BASE,), ["actual is a list, desired is a tuple"]),
        ({"a": BASE}, {"a": None}, ["only in actual: ['a']"]),
        (BASE, None, ["desired is None"]),
        (None, BASE, ["actual is None"]),
        (np.ones(3), [1, 1, 1], ["desired is a list", "xp.asarray(desired)"]),
        (list(range(12)), [], ["[9], ..."]),
        ([State(BASE)], [BASE], ["only in actual: [0].weight, [0].step"]),
    ],
)
def test_different_structures_are_no_difference_of_values(check, actual, desired, message):
    with pytest.raises(AssertionError, match=f"{check.__name__}: the two are built differently") as caught:
        check(actual, desired)
    assert all(words in str(caught.value) for words in message), caught.value


@BOTH
def test_an_array_where_something_else_should_be(check):
    with pytest.raises(AssertionError, match=r"actual is a numpy.ndarray, desired is 'b'"):
        check({"a": BASE}, {"a": "b"})


@BOTH
def test_two_nones_compare_nothing(check):
    with pytest.raises(TypeError, match="there is nothing to compare"):
        check(None, None)


# What has no values is refused, and that is not a failure about values.


def test_what_cannot_be_compared_is_refused():
    masked = np.ma.masked_array([1.0, 2.0], [False, True])
    for x, error in [(torch.ones(2, device="meta"), NoDataError), (masked, MaskError), (torch.ones(2).to_sparse(), LayoutError)]:
        for pair in ((x, x), (torch.ones(2), x), (x, torch.ones(2))):
            with pytest.raises(error) as caught:
                assert_close(*pair)
            assert not isinstance(caught.value, AssertionError)


def test_a_refusal_names_the_leaf():
    with pytest.raises(NoDataError) as caught:
        assert_close({"a": [torch.ones(2)]}, {"a": [torch.ones(2, device="meta")]})
    assert caught.value.__notes__ == ["This was desired['a'][0], whose values had to be read."]
    with pytest.raises(MaskError, match=r"desired\['a'\]"):
        assert_close({"a": BASE}, {"a": np.ma.masked_array(BASE, BASE > 0)})


def test_a_traced_array_is_refused():
    with pytest.raises(NoDataError):
        jax.jit(lambda x: assert_close(x, x))(jnp.ones(2))


# They touch nothing, and no record or guard sees them.


def test_the_arrays_are_left_as_they_were():
    x = torch.tensor(BASE, requires_grad=True)
    y = (x * 2).conj()
    before = [(interop.describe(one), one._version, one.grad_fn) for one in (x, y)]
    assert_close({"x": x, "y": y}, {"x": x.detach(), "y": y.detach()})
    assert [(interop.describe(one), one._version, one.grad_fn) for one in (x, y)] == before
    y.real.sum().backward()
    assert x.grad is not None


def test_records_and_guards_do_not_see_them():
    odd = STRICT.ones(2, device=STRICT.Device("device1"))
    with interop.record() as log, interop.guard(native=True):
        assert_equal(odd, odd)
        assert_equal(torch.tensor([1 + 1j], requires_grad=True).conj(), torch.tensor([1 - 1j]))
        assert_equal(jnp.ones(2), jnp.ones(2))
    assert log.crossings == []
    with pytest.raises(interop.TransferError), interop.guard():  # the negative control
        interop.to_numpy(odd, transfer="allow")


def test_the_policy_in_scope_has_no_say():
    with interop.policy(interop.STRICT):
        assert_equal(torch.ones(2, requires_grad=True), torch.ones(2))
        assert_equal(torch.tensor([1 + 1j]).conj(), torch.tensor([1 - 1j]))
