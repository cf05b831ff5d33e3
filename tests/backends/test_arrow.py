"""Arrow's columns: nulls are a mask, booleans are bits, fixed-size lists are axes, several chunks need a copy."""

import datetime
import decimal
import itertools
import subprocess
import sys

import numpy as np
import pytest

from interop import (
    CopyError,
    DTypeError,
    MaskError,
    UnsupportedTypeError,
    convert,
    describe,
    explain,
    record,
    shares_memory,
    to_numpy,
    to_torch,
    tree,
)

pa = pytest.importorskip("pyarrow", reason="needs pyarrow")


def lists(values, *sizes, kind=None):
    made = pa.array(values, kind)
    for size in reversed(sizes):
        made = pa.FixedSizeListArray.from_arrays(made, size)
    return made


def tensors(permutation):
    """Return two tensors of shape (2, 3, 4), stored in the order of the shape and meant in that of the permutation."""
    kind = pa.fixed_shape_tensor(pa.int32(), (2, 3, 4), permutation=permutation)
    return pa.ExtensionArray.from_storage(kind, lists(np.arange(48, dtype="int32"), 24))


NUMBERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"]
SHARED = {
    **{name: (lambda name=name: pa.array(np.arange(5, dtype=name))) for name in NUMBERS},
    "sliced": lambda: pa.array([1, 2, 3, 4])[1:3],
    "lists": lambda: lists(np.arange(12.0), 3),
    "sliced lists": lambda: lists(np.arange(12.0), 2)[1:4],
    "lists on a slice": lambda: pa.FixedSizeListArray.from_arrays(pa.array(np.arange(12.0))[2:8], 2)[1:],
    "lists of lists": lambda: lists(np.arange(24.0), 3, 2)[1:3],
    "one chunk": lambda: pa.chunked_array([[1, 2, 3]]),
    "one sliced chunk": lambda: pa.chunked_array([[1, 2, 3]])[1:],
    "tensors": lambda: tensors([0, 1, 2]),
    "permuted tensors": lambda: tensors([0, 2, 1]),
}


def values_of(x):
    extension = isinstance(x.type, pa.BaseExtensionType) and hasattr(x, "to_numpy_ndarray")
    return x.to_numpy_ndarray() if extension else np.array(x.to_pylist())


@pytest.mark.parametrize("make", SHARED.values(), ids=SHARED)
def test_a_column_without_nulls_is_shared(make):
    x = make()
    result = to_numpy(x, copy=False)
    assert result.tolist() == values_of(x).tolist()
    assert not result.flags.writeable
    assert describe(x).shape == result.shape
    assert describe(x).pointer == result.__array_interface__["data"][0]
    assert shares_memory(x, result)
    assert to_torch(x).tolist() == result.tolist()
    assert not shares_memory(x, to_torch(x))  # which has no read-only arrays
    assert shares_memory(x, to_torch(x, readonly="share"))


COPIED = {
    "booleans": lambda: pa.array([True, False, True, True, False] * 5),
    "lists of booleans": lambda: lists([True, False] * 6, 3)[1:],
    "lists of lists of booleans": lambda: lists([True, False, False] * 8, 2, 3)[2:],
    "chunks": lambda: pa.chunked_array([[1.0, 2.0], [], [3.0]]),
    "chunks of lists": lambda: pa.chunked_array([lists([1, 2, 3, 4], 2), lists([5, 6], 2)]),
    "chunks of booleans": lambda: pa.chunked_array([[True, False], [True]]),
    "bytes as booleans": lambda: pa.ExtensionArray.from_storage(pa.bool8(), pa.array([0, 1, 2], pa.int8())),
}


@pytest.mark.parametrize("make", COPIED.values(), ids=COPIED)
@pytest.mark.parametrize("to", ["numpy", "torch", "array_api_strict"])
def test_what_is_not_in_one_piece_of_plain_memory_is_copied(make, to):
    x = make()
    with record() as log:
        result = convert(x, to)
    assert to_numpy(result).tolist() == x.to_pylist()
    assert not explain(x, to).shares_memory
    assert log.bytes_copied == to_numpy(result).nbytes
    with pytest.raises(CopyError) as caught:
        convert(x, to, copy=False)
    assert to_numpy(convert(x, to, **caught.value.permissions)).tolist() == x.to_pylist()
    assert to_numpy(result).flags.writeable
    assert to_numpy(convert(x, to, dtype="float32")).tolist() == np.array(x.to_pylist(), "float32").tolist()


def test_bits_at_every_offset():
    bits = [bool(n * n % 7 & 1) for n in range(40)]
    x = pa.array(bits)
    for first, last in itertools.product(range(18), range(18, 40, 3)):
        assert to_numpy(x[first:last]).tolist() == bits[first:last]


EMPTY = {
    "array": lambda: pa.array([], "int16"),
    "slice": lambda: pa.array([1, 2])[2:],
    "booleans": lambda: pa.array([], "bool"),
    "no chunks": lambda: pa.chunked_array([], pa.float32()),
    "lists": lambda: lists(np.zeros(0), 3),
    "lists of nothing": lambda: pa.array([[], []], pa.list_(pa.int8(), 0)),
    "sliced lists": lambda: lists(np.zeros(6), 3)[2:],
}


@pytest.mark.parametrize("make", EMPTY.values(), ids=EMPTY)
def test_no_elements(make):
    x = make()
    assert to_numpy(x).shape == tuple(to_torch(x).shape) == describe(x).shape
    assert to_numpy(x).tolist() == x.to_pylist()


NULLS = {
    "null": (lambda: pa.array([1, None, 3]), [1, None, 3]),
    "all": (lambda: pa.array([None, None], "float32"), [None, None]),
    "sliced": (lambda: pa.array([None, 2.0, None])[1:], [2.0, None]),
    "booleans": (lambda: pa.array([True, None, False]), [True, None, False]),
    "in a chunk": (lambda: pa.chunked_array([[1], [None, 3]]), [1, None, 3]),
    "lists": (lambda: pa.array([[1, 2], None], pa.list_(pa.int32(), 2)), [1, 2, None, None]),
    "in lists": (lambda: pa.array([[1, None], [3, 4]], pa.list_(pa.int32(), 2)), [1, None, 3, 4]),
    "in sliced lists": (lambda: pa.array([[1, 2], [3, None]], pa.list_(pa.int32(), 2))[1:], [3, None]),
}


@pytest.mark.parametrize(("make", "values"), NULLS.values(), ids=NULLS)
@pytest.mark.parametrize("to", ["numpy", "torch"])
def test_nulls_are_a_mask(make, values, to):
    x = make()
    assert describe(x).masked
    with pytest.raises(MaskError) as caught:
        convert(x, to)
    for words in (caught.value.permissions, {"mask": "drop"}, {"policy": "coerce"}):
        result = to_numpy(convert(x, to, **words)).ravel().tolist()
        assert [one for one, value in zip(result, values, strict=True) if value is not None] == [v for v in values if v is not None]


@pytest.mark.parametrize(
    "make",
    [
        lambda: pa.array([1, None])[:1],
        lambda: pa.array([[1, 2], [3, None]], pa.list_(pa.int32(), 2))[:1],
        lambda: pa.chunked_array([[1], [None]])[:1],
    ],
)
def test_a_null_that_was_sliced_off_does_not_count(make):
    assert not describe(make()).masked
    assert to_numpy(make()).size == len(make().to_pylist()) * to_numpy(make())[0].size


OTHERS = {
    "strings": (lambda: pa.array(["a", "b"]), "dictionary_encode"),
    "bytes": (lambda: pa.array([b"a", b"b"]), "dictionary_encode"),
    "dictionary": (lambda: pa.array([1, 2, 1]).dictionary_encode(), "x.dictionary.take(x.indices)"),
    "chunked dictionary": (lambda: pa.chunked_array([pa.array(["a"]).dictionary_encode()] * 2), "x.combine_chunks().indices"),
    "timestamps": (lambda: pa.array([1, 2], pa.timestamp("s")), "x.cast('int64')"),
    "dates": (lambda: pa.array([datetime.date(1970, 1, 2)]), "x.cast('int32')"),
    "times": (lambda: pa.array([1], pa.time32("s")), "x.cast('int32')"),
    "durations": (lambda: pa.array([1], pa.duration("s")), "x.cast('int64')"),
    "decimals": (lambda: pa.array([decimal.Decimal("1.5")]), "x.cast('float64')"),
    "ragged lists": (lambda: pa.array([[1], [2, 3]]), "x.flatten()"),
    "structures": (lambda: pa.array([{"a": 1}]), "x.flatten()[0]"),
    "lists of strings": (lambda: lists(["a", "b"], 2), "x.flatten()"),
    "lists of one length": (lambda: pa.array([[1, 2], [3, 4]]), "x.cast(pyarrow.list_(x.type.value_type, 2))"),
    "maps": (lambda: pa.array([[(1, 2)]], pa.map_(pa.int8(), pa.int8())), "x.type.key_field"),
    "unions": (lambda: pa.UnionArray.from_sparse(pa.array([0], "int8"), [pa.array([1])]), "x.to_pylist()"),
    "nulls": (lambda: pa.nulls(2), "nulls"),
    "extension": (lambda: pa.array([b"0" * 16], pa.uuid()), "x.storage"),
    "tensors permuted either way": (lambda: tensors([2, 0, 1]), "x.storage"),
    "runs": (lambda: pa.RunEndEncodedArray.from_arrays([2, 3], [1.0, 2.0]), "run_end_decode(x)"),
}


@pytest.mark.parametrize(("make", "call"), OTHERS.values(), ids=OTHERS)
def test_what_is_no_number_names_the_call_of_pyarrow(make, call):
    x = make()
    with pytest.raises(DTypeError) as caught:
        to_numpy(x, policy="coerce")
    assert call in caught.value.hint
    assert explain(x, "torch", policy="coerce").final
    with pytest.raises(DTypeError):
        to_numpy(x, dtype="float64", mask="drop")


def test_the_calls_give_what_is_meant():
    import pyarrow.compute  # noqa: F401 - as the hint says it

    for name, values in {
        "dictionary": [1, 2, 1],
        "timestamps": [1, 2],
        "dates": [1],
        "times": [1],
        "durations": [1],
        "decimals": [1.5],
        "ragged lists": [1, 2, 3],
        "structures": [1],
        "lists of one length": [[1, 2], [3, 4]],
        "runs": [1, 1, 2],
    }.items():
        x, call = OTHERS[name][0](), OTHERS[name][1]
        expression = "pyarrow.compute.run_end_decode(x)" if name == "runs" else call
        assert to_numpy(eval(expression, {"x": x, "pyarrow": pa})).tolist() == values


def test_tables_and_scalars_are_no_arrays():
    for x, call in [(pa.table({"a": [1]}), "column"), (pa.record_batch({"a": [1]}), "column"), (pa.scalar(1.5), "as_py")]:
        with pytest.raises(UnsupportedTypeError) as caught:
            to_numpy(x)
        assert call in caught.value.hint


def test_a_column_is_a_source_and_no_target():
    assert tree.convert({"a": pa.array([1]), "b": pa.array([True])}, "torch")["a"].tolist() == [1]
    with pytest.raises(UnsupportedTypeError, match="not a target"):
        convert(np.ones(1), like=pa.array([1]))
    with pytest.raises(ValueError, match="backend"):
        convert(np.ones(1), "pyarrow")
    assert explain(describe(pa.array([True])), "torch").ok


def test_the_memory_outlives_the_column():
    x = pa.array(np.arange(1000.0))
    result = to_numpy(x)
    del x
    pa.default_memory_pool().release_unused()
    assert result.sum() == 499500


def test_pyarrow_is_imported_by_whoever_has_a_column_of_it():
    code = "import numpy, sys, interop; interop.to_numpy(numpy.ones(2)); interop.is_array = 1; print('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
