"""Masks: what counts is whether something is masked; and times that are none (NaT), which are no numbers."""

import pickle

import ml_dtypes
import numpy as np
import pytest
import torch

from interop import DTypeError, MaskError, describe, explain, shares_memory, to_numpy, to_torch

NOTHING_MASKED = {
    "nomask": lambda: np.ma.array([1.0, 2.0]),
    "quotient": lambda: np.ma.array([1.0, 2.0]) / 2,
    "log": lambda: np.ma.log(np.ma.array([1.0, 2.0])),
    "pickled": lambda: pickle.loads(pickle.dumps(np.ma.array([1.0, 2.0]))),
    "mask=False": lambda: np.ma.array([1.0, 2.0], mask=False),
    "sum": lambda: np.ma.array([[1.0, 2.0]], mask=[[0, 0]]).sum(0),
    "hard": lambda: np.ma.array([1.0, 2.0], mask=[0, 0], hard_mask=True),
    "shrunk": lambda: np.ma.array([1.0, 2.0], mask=[1, 0])[1:],
    "empty": lambda: np.ma.array([], mask=[]),
}


@pytest.mark.parametrize("make", NOTHING_MASKED.values(), ids=NOTHING_MASKED)
def test_a_mask_that_masks_nothing_is_no_mask(make):
    x = make()
    assert not describe(x).masked
    result = to_torch(x)
    assert result.tolist() == x.tolist()
    assert shares_memory(result, x) or not x.size


SOMETHING_MASKED = {
    "one": lambda: np.ma.array([1.0, 2.0], mask=[False, True]),
    "all": lambda: np.ma.masked_all(2),
    "hard": lambda: np.ma.array([1.0, 2.0], mask=[0, 1], hard_mask=True),
    "constant": lambda: np.ma.masked,
    "log": lambda: np.ma.log(np.ma.array([1.0, -2.0])),
    "last of many": lambda: np.ma.array(np.zeros(10_000), mask=np.arange(10_000) == 9_999),
}


@pytest.mark.parametrize("make", SOMETHING_MASKED.values(), ids=SOMETHING_MASKED)
def test_one_masked_element_is_enough(make):
    x = make()
    state = x.mask.copy(), x._hardmask, x.sharedmask
    with pytest.raises(MaskError) as caught:
        to_torch(x)
    result = to_torch(x, **caught.value.permissions)
    assert np.array_equal(result.numpy(), np.ma.getdata(x), equal_nan=True)
    assert shares_memory(result, np.ma.getdata(x)) or x is np.ma.masked  # which is read-only
    assert all(np.array_equal(now, before) for now, before in zip((x.mask, x._hardmask, x.sharedmask), state, strict=True))


@pytest.mark.parametrize("flag", [False, True])
def test_a_structured_mask_has_a_flag_for_each_field(flag):
    x = np.ma.array([(1, (2.0, 3.0))], dtype=[("a", "i4"), ("b", [("c", "f4"), ("d", "f4")])], mask=[(False, (False, flag))])
    assert describe(x).masked == flag
    assert describe(x["b"]["d"]).masked == flag
    assert to_torch(x["a"]).tolist() == [1]


class Masked(np.ndarray):
    """An ndarray that says what a test wants to be said of its mask."""

    said = None

    @property
    def mask(self):
        return self.said() if isinstance(self.said, type(lambda: 0)) else self.said


def raising(error):
    def ask():
        raise error

    return ask


@pytest.mark.parametrize(
    ("said", "masked"),
    [
        (None, False),
        (np.array(False), False),
        (np.zeros((3, 3), bool), False),  # of another shape
        (np.ones((3, 3), bool), True),
        ([False, 0], False),
        ([0, 1], True),
        ("a file", True),
        (object(), True),
        (torch.zeros(2, dtype=torch.bool), False),
        (raising(RuntimeError("not loaded yet")), True),
        (raising(KeyError("mask")), True),
        (raising(AttributeError("no mask")), False),
    ],
    ids=[
        "None",
        "False",
        "other shape, none",
        "other shape, all",
        "list of none",
        "list of one",
        "text",
        "object",
        "tensor",
        "raises",
        "KeyError",
        "AttributeError",
    ],
)
def test_a_mask_that_is_odd_is_no_bare_error(said, masked):
    x = np.ones(2).view(type("Odd", (Masked,), {"said": staticmethod(said) if callable(said) else said}))
    assert describe(x).masked == explain(x, "torch").description.masked == masked
    assert to_torch(x, mask="drop").tolist() == [1, 1]
    if masked:
        with pytest.raises(MaskError):
            to_torch(x)
    else:
        assert to_torch(x).tolist() == [1, 1]


def test_a_method_or_a_field_of_that_name_is_no_mask():
    class Images(np.ndarray):
        def mask(self, where):
            """Return something else."""

    assert to_torch(np.ones(2).view(Images)).tolist() == [1, 1]
    record = np.rec.array([(1, 2.0)], dtype=[("mask", "i4"), ("unit", "f4")])
    assert not describe(record).masked
    assert not describe(record).units
    assert to_torch(record.mask).tolist() == [1]


@pytest.mark.parametrize(
    "make",
    [
        lambda path: np.ones((1, 2)).view(np.matrix),
        lambda path: np.memmap(path / "a", "float64", "w+", shape=(1, 2)),
        lambda path: np.rec.array([(1.0,)], dtype=[("a", "f8")]).a,
        lambda path: np.ones((1, 2)).view(type("Own", (np.ndarray,), {})),
    ],
)
def test_other_subclasses_are_arrays(make, tmp_path):
    x = make(tmp_path)
    assert to_torch(x).tolist() == x.tolist()
    assert shares_memory(x, to_torch(x))


# Times


TIMES = np.array(["NaT", "1970-01-02"], "M8[D]")
MISSING = {
    "dates": TIMES,
    "durations": TIMES - TIMES[1] + np.timedelta64(1, "D"),
    "objects": np.array([np.datetime64("NaT"), 1.0], object),
    "durations in objects": np.array([np.timedelta64("NaT"), 1.0], object),
    "None": np.array([None, 1.0], object),
}


@pytest.mark.parametrize("convert", [to_torch, to_numpy])
@pytest.mark.parametrize("x", MISSING.values(), ids=MISSING)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16", "float8_e4m3fn", "float8_e8m0fnu", "complex64"])
def test_no_time_is_not_a_number(convert, x, dtype):
    result = to_numpy(convert(x, dtype=dtype)).astype("complex128" if dtype == "complex64" else "float64")
    assert np.isnan(result[0])
    assert result[1] == 1


@pytest.mark.parametrize("convert", [to_torch, to_numpy])
@pytest.mark.parametrize("x", MISSING.values(), ids=MISSING)
@pytest.mark.parametrize("dtype", ["bool", "int8", "int32", "int64", "uint64"])
def test_no_time_is_refused_where_there_is_no_nan(convert, x, dtype):
    with pytest.raises(DTypeError, match="NaT"):
        convert(x, dtype=dtype)


def test_a_small_float_without_nan_holds_no_missing_time():
    with pytest.raises(DTypeError, match="NaT"):
        to_numpy(TIMES, dtype=ml_dtypes.float4_e2m1fn)


def test_pandas_has_a_time_of_its_own_that_is_none():
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    x = np.array([pandas.NaT, 1.0], object)
    assert to_torch(x, dtype="float32").isnan().tolist() == [True, False]
    with pytest.raises(DTypeError, match="NaT"):
        to_torch(x, dtype="bool")


def test_times_that_are_there_are_counts():
    assert to_torch(TIMES[1:], dtype="int64").tolist() == [1]
    assert to_torch(TIMES[1:], dtype="float32").tolist() == [1]
    assert to_torch(np.ma.array(TIMES, mask=[1, 0])[1:], dtype="int64").tolist() == [1]
    assert to_torch(TIMES[0], dtype="float32").isnan()  # a scalar
    with pytest.raises(DTypeError, match="NaT"):
        to_torch(TIMES[0], dtype="int64")


def test_the_masked_array_stays_masked_within_numpy():
    x = np.ma.array(TIMES, mask=[0, 1])
    result = to_numpy(x, dtype="float64")
    assert np.isnan(result.data[0])
    assert result.mask.tolist() == [False, True]
    assert np.isnat(x.data[0])
