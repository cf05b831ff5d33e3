"""Hints are followed here to the letter: what they name runs, and gives the values of the source exactly."""

import array
import ast
import collections
import contextlib
import ctypes
import dataclasses
import datetime
import decimal
import enum
import io
import itertools
import mmap
import multiprocessing
import re
import types
import warnings

import ml_dtypes
import numpy as np
import pytest
import torch

import interop
from interop.backends import advice
from tests import corpus, messages
from tests.enumeration import same_values

BIG = 2**53 + 1  # no float32 and no float64 holds it


class Filled(Exception):
    """The hint leaves something open, which only the user knows: ``...`` stands in its place."""


def calls_in(hint):
    """Return every expression about `x` in a hint, each as long as it can be."""
    found, end = [], 0
    for start in re.finditer(r"(?<![\w.'=(])(?:[a-z_]\w*\.)*(?:\w+\(|x[.\[])", hint):
        if start.start() < end:
            continue
        for stop in range(len(hint), start.end() - 1, -1):
            piece = hint[start.start() : stop]
            with contextlib.suppress(SyntaxError):
                tree = ast.parse(piece, mode="eval").body
                if isinstance(tree, ast.Call | ast.Attribute | ast.Subscript) and names_in(tree) & {"x"}:
                    found.append(piece)
                    end = stop
                    break
    return found


def names_in(tree):
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def spaces(piece):
    """Return what a user who pastes the expression has imported."""
    wanted = names_in(ast.parse(piece, mode="eval")) - {"x"}
    verbs = {"convert": interop.convert, "to_numpy": interop.to_numpy, "to_torch": interop.to_torch}
    verbs |= {"list": list, "dict": dict}
    return {"np": np, **{name: verbs.get(name) or pytest.importorskip(name, reason=f"the hint names {name}") for name in wanted - {"np"}}}


def is_open(piece):
    calls = [node for node in ast.walk(ast.parse(piece)) if isinstance(node, ast.Call)]
    given = [argument for call in calls for argument in (*call.args, *(word.value for word in call.keywords))]
    return any(isinstance(argument, ast.Constant) and argument.value is ... for argument in given)


def outcome(call):
    """Return what a call gives, or the refusal that it raises."""
    try:
        return call()
    except interop.InteropError as refusal:
        return refusal


def follow(x, to="numpy", limit=4, retry=lambda x, refusal: refusal.retry()):
    """Return what a conversion gives, following the hint of each refusal; Filled where a hint leaves something open.

    `retry` answers a refusal that names permissions.
    """
    for _ in range(limit):
        made = outcome(lambda x=x: interop.convert(x, to))
        if not isinstance(made, interop.InteropError):
            return made
        if made.permissions:
            return retry(x, made)
        pieces = calls_in(made.hint)
        assert pieces, f"nothing to call: {made.hint}"
        if is_open(pieces[0]):
            raise Filled(made.hint)
        x = outcome(lambda x=x, piece=pieces[0]: eval(piece, {"x": x, **spaces(piece)}))
        if isinstance(x, interop.InteropError):
            return x.retry()
        if pieces[0].startswith("interop.tree"):
            return x
    raise AssertionError(f"the hints go on and on: {x!r}")


def numbers(result):
    """Return plain, exact numbers of an array, or of a container of arrays."""
    if isinstance(result, dict):
        return {name: numbers(value) for name, value in result.items()}
    if isinstance(result, list | tuple):
        return [numbers(value) for value in result]
    if isinstance(result, torch.Tensor):
        return result.detach().tolist()
    return result.astype("float64").tolist() if isinstance(result, np.ndarray) and result.dtype.kind not in "biuMmOV" else result.tolist()


# Objects of Python, whose numbers a hint could change.


@dataclasses.dataclass
class Batch:
    image: object


class Point(ctypes.Structure):
    _fields_ = (("Position", ctypes.c_int64),)


class Kind(enum.IntEnum):
    BIG = BIG


def saved(values):
    file = io.BytesIO()
    np.save(file, values)
    file.seek(0)
    return np.load(file)


def mapped():
    made = mmap.mmap(-1, 8)
    made[:] = np.array([BIG]).tobytes()
    return made


def swapped_dates():
    return np.array([BIG], ">M8[s]")


RAW = np.frombuffer(np.array([BIG]).tobytes(), "uint8").tolist()
ONE = torch.ones(1)

OF_PYTHON = {
    "memoryview": (lambda: memoryview(np.array([BIG])), [BIG]),
    "memoryview of bytes": (lambda: memoryview(b"ab"), [97, 98]),
    "array of integers": (lambda: array.array("q", [BIG]), [BIG]),
    "array of doubles": (lambda: array.array("d", [0.1]), [0.1]),
    "ctypes": (lambda: (ctypes.c_int64 * 1)(BIG), [BIG]),
    "ctypes matrix": (lambda: ((ctypes.c_uint8 * 2) * 1)((1, 2)), [[1, 2]]),
    "shared ctypes": (lambda: multiprocessing.Array(ctypes.c_int64, [BIG]), [BIG]),
    "bytes": (lambda: np.array([BIG]).tobytes(), RAW),
    "bytearray": (lambda: bytearray(np.array([BIG]).tobytes()), RAW),
    "mmap": (mapped, RAW),
    "list": (lambda: [BIG], [BIG]),
    "list of lists": (lambda: [[1, 2], [3, BIG]], [[1, 2], [3, BIG]]),
    "unsigned": (lambda: [2**64 - 1, 2**63], [2**64 - 1, 2**63]),
    "floats and small integers": (lambda: [1, 0.5, True], [1, 0.5, 1]),
    "deque": (lambda: collections.deque([BIG]), [BIG]),
    "range": (lambda: range(BIG, BIG + 2), [BIG, BIG + 1]),
    "torch.Size": (lambda: torch.Size([BIG]), [BIG]),
    "number": (lambda: BIG, BIG),
    "enumeration": (lambda: [Kind.BIG], [BIG]),
    "file in memory": (lambda: io.BytesIO(np.array([BIG]).tobytes()), RAW),
    "namespace": (lambda: types.SimpleNamespace(a=ONE), None),
    "truth": (lambda: True, True),
    "NumPy's scalars": (lambda: [np.int64(BIG), np.int64(1)], [BIG, 1]),
    "dict": (lambda: {"a": ONE}, {"a": [1]}),
    "ordered": (lambda: torch.nn.Linear(1, 1, bias=False).requires_grad_(False).state_dict(), None),
    "proxy": (lambda: types.MappingProxyType({"a": ONE}), {"a": [1]}),
    "dataclass": (lambda: Batch(ONE), None),
    "list of Parameters": (lambda: [torch.nn.Parameter(ONE)], [[1]]),
    "values and indices": (lambda: torch.max(torch.ones(2, 2), 0), [[1, 1], [0, 0]]),
    "set": (lambda: {BIG}, [BIG]),
    "generator": (lambda: (one for one in [BIG]), [BIG]),
    "generator of arrays": (lambda: iter([ONE, ONE]), [[1], [1]]),
    "values of a dict": ({"a": ONE}.values, [[1]]),
    "module": (lambda: torch.nn.BatchNorm1d(1, affine=False), None),
    "untyped storage": (lambda: torch.tensor([BIG]).untyped_storage(), RAW),
    "typed storage": (lambda: torch.tensor([BIG]).storage(), [BIG]),
    "dates": (lambda: np.array([BIG], "M8[s]"), [BIG]),
    "dates in the other byte order": (swapped_dates, [BIG]),
    "spans": (lambda: np.array([BIG], "m8[ns]"), [BIG]),
    "record": (lambda: np.array([(BIG, 0.5)], [("n", "i8"), ("w", "f4")]), [BIG]),
    "saved bfloat16": (lambda: saved(np.array([1.5, 2.0], ml_dtypes.bfloat16)), [1.5, 2.0]),
    "shells of torch": (lambda: torch.tensor([3], dtype=torch.uint8).view(torch.uint4), [3]),
}


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # torch's, on making the source
@pytest.mark.parametrize("to", ["numpy", "torch"])
@pytest.mark.parametrize("name", OF_PYTHON)
def test_followed_to_the_letter_the_values_are_those_of_the_source(name, to):
    make, expected = OF_PYTHON[name]
    x = make()
    if isinstance(x, np.ndarray | torch.Tensor):  # at home nothing has to change
        to = {"numpy": "torch", "torch": "numpy"}[type(x).__module__.partition(".")[0]]
    result = follow(x, to)
    assert expected is None or numbers(result) == expected


@pytest.mark.parametrize(
    ("x", "word"),
    [
        ([2**64, 1], "dtype=..."),
        ([2**63, -1], "dtype=..."),
        ([2**63, BIG], "dtype=..."),
        ([BIG, 0.5], "dtype=..."),
        ([None, 1], "dtype=..."),
        (2**64, "dtype=..."),
        (decimal.Decimal("0.1"), "dtype=..."),
        (saved(np.array([1.5], ml_dtypes.float8_e4m3fn)), "x.view(...)"),
        (np.zeros(2, "V5"), "x.view(...)"),
    ],
    ids=str,
)
def test_what_only_the_user_knows_is_left_open(x, word):
    """Any dtype that the hint could name would change some of these numbers, or guess what was written."""
    with pytest.raises(Filled, match=re.escape(word)):
        follow(x, "torch")


@pytest.mark.parametrize(
    ("x", "word", "never"),
    [
        (["a", "b"], "encode them", "dtype="),
        ([[1], [1, 2]], "differ in length", "asarray"),
        (np.array(["a"]), "Encode the strings", "dtype="),
        (np.array([object()]), "objects of Python's", "float"),
        (torch.ones(2).__dlpack__(), "the array itself", "asarray"),
        (torch.nn.Linear(1, 1), "state_dict", "asarray"),
        ("photo.png", "a file has to be read first", "asarray"),
        (None, "Pass an array", "asarray"),
        (object(), "Pass an array", "asarray"),
        (len, "Pass an array", "list("),
        (ctypes.pointer(ctypes.c_int(3)), "Pass an array", "asarray"),
        ((ctypes.c_void_p * 2)(), "Pass an array", "asarray"),
        (np.ndarray, "not a class", "asarray"),
    ],
    ids=lambda one: type(one).__name__ if not isinstance(one, str) else one,
)
def test_where_nothing_can_be_called_nothing_is(x, word, never):
    with pytest.raises(interop.InteropError) as caught:
        interop.to_torch(x)
    assert word in caught.value.hint
    assert never not in caught.value.hint


@pytest.mark.parametrize("device", [0, 2, np.int64(0), -1, np.int32(-2), True, False])
def test_a_number_is_no_device_and_the_one_to_write_is_one(device):
    with pytest.raises(TypeError, match="does not say of which kind") as caught:
        interop.to_torch(np.ones(1), device=device)
    written = re.search(r"write (?:one, as in )?device='(.*)'", str(caught.value))[1]
    index = 0 if isinstance(device, bool) or device < 0 else device
    assert interop.Device.parse(written) == interop.Device("cuda", index)
    assert ("as in" in str(caught.value)) == (str(device) != str(index))


TEXT = {
    "strings": np.array(["0", "1", "2"]),
    "bytes": np.array([b"0", b"1"]),
    "objects": np.array(["0", 1], object),
    "variable": np.array(["0", "1"], np.dtypes.StringDType()) if hasattr(np.dtypes, "StringDType") else np.array(["0"]),
}


@pytest.mark.parametrize("to", ["numpy", "torch"])
@pytest.mark.parametrize("name", TEXT)
def test_text_is_read_as_numbers_before_it_is_true_or_false(name, to):
    with pytest.raises(interop.DTypeError, match="every word but an empty one") as caught:
        interop.convert(TEXT[name], to, dtype="bool")
    named = re.search(r"dtype='(\w+)'", caught.value.hint)[1]
    read = interop.convert(TEXT[name], to, dtype=named)
    assert numbers(interop.convert(read, to, dtype="bool")) == [bool(int(one)) for one in TEXT[name]]


def test_numbers_in_objects_are_true_or_false():
    """The negative control: what is refused is text, not every object."""
    assert interop.to_torch(np.array([0, 2.5, True], object), dtype="bool").tolist() == [False, True, True]


def test_the_call_for_a_container_has_the_keywords_of_the_call():
    with pytest.raises(interop.UnsupportedTypeError) as caught:
        interop.to_numpy([torch.nn.Parameter(ONE)], grad="detach", blocking=True)
    assert "interop.tree.convert(x, 'numpy', grad='detach')" in caught.value.hint


def test_a_record_of_ctypes_leads_to_its_fields():
    assert numbers(follow((Point * 1)(Point(BIG)), "torch")) == [BIG]


def test_a_list_that_contains_itself_is_refused():
    endless = [ONE]
    endless.append(endless)
    with pytest.raises(interop.UnsupportedTypeError, match=r"tree\.convert"):
        interop.to_numpy(endless)


@pytest.mark.parametrize("name", ["memoryview", "list", "number", "dates in the other byte order"])
def test_a_hint_that_changes_values_is_found(name, monkeypatch):
    """The negative control: a float32, and a view of swapped bytes."""
    make, expected = OF_PYTHON[name]
    wrong = "Make an array of it first: numpy.asarray(x, dtype='float32')."
    monkeypatch.setattr(advice, "_AS_IT_IS", wrong)
    monkeypatch.setitem(advice._NUMBERS, "exact", wrong)
    monkeypatch.setattr("interop.backends.numpy.backend._advice", lambda dtype: "Convert the counts: x.view('int64').")
    assert numbers(follow(make(), "torch")) != expected


# Other libraries' objects, by their own words.


def library(name):
    return pytest.importorskip(name, reason="the source")


def h5(tmp_path):
    return library("h5py").File(tmp_path / "x.h5", "w")


def netcdf(tmp_path):
    made = library("netCDF4").Dataset(tmp_path / "x.nc", "w")
    made.createDimension("n", 1)
    made.createVariable("v", "i8", ("n",))[:] = [BIG]
    return made


def slices(tmp_path):
    library("safetensors.numpy").save_file({"d": np.array([BIG])}, tmp_path / "x.st")
    return library("safetensors").safe_open(tmp_path / "x.st", "np")


def npz(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.array([BIG]))
    return np.load(tmp_path / "x.npz")


def pytables(tmp_path):
    return library("tables").open_file(tmp_path / "t.h5", "w").create_array("/", "a", np.array([BIG]))


MIXED = {"id": [BIG], "w": [0.5]}
OF_OTHERS = {
    "pandas.Series": (lambda _: library("pandas").Series([BIG]), [BIG]),
    "pandas.Index": (lambda _: library("pandas").Index([BIG]), [BIG]),
    "pandas Int64": (lambda _: library("pandas").Series([BIG], dtype="Int64"), [BIG]),
    "pandas Int64, missing": (lambda _: library("pandas").Series([BIG, None], dtype="Int64"), [BIG]),
    "pandas boolean, missing": (lambda _: library("pandas").Series([True, None], dtype="boolean"), [True]),
    "pandas array, missing": (lambda _: library("pandas").array([BIG, None], dtype="Int64"), [BIG]),
    "pandas of Arrow, missing": (lambda _: library("pyarrow") and library("pandas").Series([BIG, None], dtype="int64[pyarrow]"), [BIG]),
    "pandas.DataFrame": (lambda _: library("pandas").DataFrame({"a": [BIG], "b": [1]}), [[BIG, 1]]),
    "pandas mixed": (lambda _: library("pandas").DataFrame(MIXED), [BIG]),
    "pandas mixed, missing": (lambda _: library("pandas").DataFrame({0: library("pandas").array([BIG, None]), 1: [0.5, 1]}), [BIG]),
    "polars.Series": (lambda _: library("polars").Series([BIG]), [BIG]),
    "polars nulls": (lambda _: library("polars").Series([BIG, None]), [BIG]),
    "polars.DataFrame": (lambda _: library("polars").DataFrame({"a": [BIG], "b": [1]}), [[BIG, 1]]),
    "polars mixed": (lambda _: library("polars").DataFrame(MIXED), [BIG]),
    "polars nulls in a frame": (lambda _: library("polars").DataFrame({"a": [BIG, None]}), [BIG]),
    "polars.LazyFrame": (lambda _: library("polars").LazyFrame({"a": [BIG]}), [[BIG]]),
    "pyarrow.Table": (lambda _: library("pyarrow").table(MIXED), [BIG]),
    "pyarrow.RecordBatch": (lambda _: library("pyarrow").RecordBatch.from_pydict({"a": [BIG, None]}), [BIG]),
    "pyarrow.Buffer": (lambda _: library("pyarrow").py_buffer(np.array([BIG]).tobytes()), RAW),
    "pyarrow.Scalar": (lambda _: library("pyarrow").scalar(BIG), BIG),
    "xarray.DataArray": (lambda _: library("xarray").DataArray(np.array([BIG])), [BIG]),
    "xarray.Variable": (lambda _: library("xarray").Variable("n", np.array([BIG])), [BIG]),
    "xarray.Dataset": (lambda _: library("xarray").Dataset({"a": ("n", [BIG])}), [BIG]),
    "xarray of Dask": (lambda _: library("dask") and library("xarray").DataArray(np.array([BIG])).chunk(), [BIG]),
    "dask.array": (lambda _: library("dask.array").from_array(np.array([BIG])), [BIG]),
    "dask.dataframe": (lambda _: library("dask.dataframe").from_pandas(library("pandas").DataFrame(MIXED), npartitions=1), [BIG]),
    "h5py.Dataset": (lambda path: h5(path).create_dataset("x", data=np.array([BIG])), [BIG]),
    "h5py.Group": (lambda path: h5(path).create_dataset("g/x", data=np.array([BIG])).parent, [BIG]),
    "zarr.Array": (lambda _: library("zarr").array(np.array([BIG])), [BIG]),
    "netCDF4.Dataset": (netcdf, [BIG]),
    "netCDF4.Variable": (lambda path: netcdf(path)["v"], [BIG]),
    "tables.Array": (pytables, [BIG]),
    "blosc2.NDArray": (lambda _: library("blosc2").asarray(np.array([BIG])), [BIG]),
    "safetensors slice": (lambda path: slices(path).get_slice("d"), [BIG]),
    "safetensors file": (slices, [BIG]),
    "npz": (npz, [BIG]),
    "Pillow": (lambda _: library("PIL.Image").new("RGB", (1, 1), (1, 2, 3)), [[[1, 2, 3]]]),
    "scipy.sparse": (lambda _: library("scipy.sparse").csr_array(np.array([[BIG, 0]])), [[BIG, 0]]),
    "sparse.COO": (lambda _: library("sparse").COO.from_numpy(np.array([BIG, 0])), [BIG, 0]),
    "awkward.Array": (lambda _: library("awkward").Array([[BIG]]), [[BIG]]),
    "TensorDict": (lambda _: library("tensordict").TensorDict({"a": torch.tensor([BIG])}, [1]), {"a": [BIG]}),
    "astropy.table": (lambda _: library("astropy.table").Table({"a": [BIG]}), [BIG]),
    "jax int4": (lambda _: library("jax.numpy").array([-8, 7], "int4"), [-8, 7]),
    "jax uint4": (lambda _: library("jax.numpy").array([15], "uint4"), [15]),
    "jax float4": (lambda _: library("jax.numpy").array([0.5, 1.5]).astype("float4_e2m1fn"), [0.5, 1.5]),
}


def arrow(values, kind=None, sizes=()):
    pa = library("pyarrow")
    made = pa.array(values, kind(pa) if kind else None)
    for size in sizes:
        made = pa.FixedSizeListArray.from_arrays(made, size)
    return made


def union():
    pa = library("pyarrow")
    return pa.UnionArray.from_dense(pa.array([1, 0], "int8"), pa.array([0, 0], "int32"), [pa.array([1]), pa.array([0.5])])


def of_dictionary(values):
    return library("pyarrow").DictionaryArray.from_arrays([0, 0], arrow(values))


def run_ends():
    return library("pyarrow.compute").run_end_encode(arrow([BIG, BIG]))


def pandas(values, dtype=None):
    return library("pandas").Series(values, dtype=dtype)


def pandas_of_arrow(values, kind):
    pa = library("pyarrow")
    return pandas(values, library("pandas").ArrowDtype(kind(pa)))


def duplicated(first, second):
    """Return a table of pandas' with two columns of one name."""
    made = library("pandas").concat([pandas(first), pandas(second)], axis=1)
    return made.set_axis(["a", "a"], axis=1)


def pl(values, kind=None):
    library("polars")
    return library("polars").Series(values, dtype=kind(library("polars")) if kind else None)


DAY = datetime.date(2020, 1, 1)
NOON = datetime.datetime(2020, 1, 1, 12, tzinfo=datetime.UTC)
COLUMNS = {
    "Arrow struct, missing": (lambda: arrow([{"a": BIG}, None, {"a": 3}]), [BIG, None, 3]),
    "Arrow struct, missing, sliced": (lambda: arrow([{"a": 1}, {"a": BIG}, None])[1:], [BIG, None]),
    "Arrow struct, missing, in chunks": (lambda: library("pyarrow").chunked_array([arrow([{"a": BIG}, None])] * 2), [BIG, None] * 2),
    "Arrow lists of strings": (lambda: arrow(["b", "a"], sizes=[2]), [0, 1]),
    "Arrow lists of structs": (lambda: arrow([{"a": BIG}, None], sizes=[1]), [BIG, None]),
    "Arrow lists of days": (lambda: arrow([DAY], sizes=[1, 1]), [18262]),
    "Arrow lists of decimals": (lambda: arrow([decimal.Decimal("0.5")], sizes=[1]), [0.5]),
    "Arrow lists of codes": (lambda: library("pyarrow").FixedSizeListArray.from_arrays(of_dictionary([BIG]), 2), [BIG, BIG]),
    "Arrow lists of lists": (lambda: arrow([[1], [BIG, 2]], sizes=[2]), [1, BIG, 2]),
    "Arrow lists of one length": (lambda: arrow([[BIG, 2], [3, 4]]), [[BIG, 2], [3, 4]]),
    "Arrow lists of one length, missing": (lambda: arrow([[BIG, 2], None]), [[BIG, 2], None]),
    "Arrow lists of one length, in chunks": (lambda: library("pyarrow").chunked_array([arrow([[BIG]]), arrow([[2]])]), [[BIG], [2]]),
    "Arrow large lists of one length": (lambda: arrow([[BIG, 2]], lambda pa: pa.large_list(pa.int64())), [[BIG, 2]]),
    "Arrow lists of several lengths": (lambda: arrow([[BIG], [2, 3], None, [None]]), [BIG, 2, 3, None]),
    "Arrow list views": (lambda: arrow([[BIG, 2], [3, 4]], lambda pa: pa.list_view(pa.int64())), [BIG, 2, 3, 4]),
    "Arrow empty lists": (lambda: arrow([[], []], lambda pa: pa.list_(pa.int64())), []),
    "Arrow map": (lambda: arrow([[(1, BIG)], None, [(2, 3)]], lambda pa: pa.map_(pa.int8(), pa.int64()))[1:], [2]),
    "Arrow union": (union, [0.5, 1]),
    "Arrow dictionary": (lambda: of_dictionary([BIG]), [BIG, BIG]),
    "Arrow dictionary of structs": (lambda: of_dictionary([{"a": BIG}]), [BIG, BIG]),
    "Arrow runs": (run_ends, [BIG, BIG]),
    "Arrow table of lists": (lambda: library("pyarrow").table({"a": [[BIG, None], [3, 4]]}), [[BIG, None], [3, 4]]),
    "Arrow table of structs": (lambda: library("pyarrow").table({"a": [{"b": BIG}, {"b": None}]}), [BIG, None]),
    "Arrow time zone": (lambda: arrow([NOON]), [NOON.timestamp() * 10**6]),
    "pandas, one name twice": (lambda: duplicated([BIG], [0.5]), [BIG]),
    "pandas, one name twice, missing": (lambda: duplicated(library("pandas").array([BIG, None]), [0.5, 1]), [BIG]),
    "pandas, one dtype, not NumPy's": (lambda: library("pandas").DataFrame({np.nan: library("pandas").array([BIG])}), [BIG]),
    "pandas lists of Arrow": (lambda: pandas_of_arrow([[BIG, None], [3]], lambda pa: pa.list_(pa.int64())), [BIG, None, 3]),
    "pandas structs of Arrow": (lambda: pandas_of_arrow([{"a": BIG}, None], lambda pa: pa.struct([("a", pa.int64())])), [BIG, None]),
    "pandas days of Arrow": (lambda: pandas_of_arrow([DAY, None], lambda pa: pa.date32()), [18262, None]),
    "pandas strings of Arrow": (lambda: pandas_of_arrow(["b", None, "a"], lambda pa: pa.string()), [0, None, 1]),
    "pandas strings": (lambda: pandas(["b", None], "string"), [0, -1]),
    "pandas categories": (lambda: pandas([BIG, None], "Int64").astype("category"), [0, -1]),
    "pandas categories, index": (lambda: library("pandas").CategoricalIndex(["a", "b"]), [0, 1]),
    "pandas time zone": (lambda: pandas([NOON, None]).astype("datetime64[us, UTC]"), [NOON.timestamp() * 10**6]),
    "pandas time zone, array": (lambda: pandas([NOON]).astype("datetime64[us, UTC]").array, [NOON.timestamp() * 10**6]),
    "pandas periods": (lambda: library("pandas").period_range(DAY, periods=1, freq="D"), [18262]),
    "pandas intervals": (lambda: library("pandas").interval_range(0, 2), [0, 1]),
    "polars fixed lists": (lambda: pl([[BIG, 2]], lambda pl: pl.Array(pl.Int64, 2)), [[BIG, 2]]),
    "polars fixed lists, missing inside": (lambda: pl([[BIG, None], [3, 4]], lambda pl: pl.Array(pl.Int64, 2)), [BIG, 3, 4]),
    "polars fixed lists, missing": (lambda: pl([[BIG, 2], None], lambda pl: pl.Array(pl.Int64, 2)), [BIG, 2]),
    "polars fixed lists, deeply": (lambda: pl([[[BIG, None]]], lambda pl: pl.Array(pl.Array(pl.Int64, 2), 1)), [BIG]),
    "polars fixed lists of days": (lambda: pl([[DAY, None]], lambda pl: pl.Array(pl.Date, 2)), [18262]),
    "polars fixed lists of nothing": (lambda: pl([], lambda pl: pl.Array(pl.Int64, 2)), []),
    "polars structs": (lambda: pl([{"a": BIG, "b": 2.5}, None]), [BIG]),
    "polars fixed lists of structs": (
        lambda: pl([[{"a": BIG, "b": 0.5}]], lambda pl: pl.Array(pl.Struct({"a": pl.Int64, "b": pl.Float64}), 1)),
        [BIG],
    ),
    "polars lists of one length": (lambda: pl([[BIG, 2], [3, 4]]), [[BIG, 2], [3, 4]]),
    "polars lists of one length, missing inside": (lambda: pl([[BIG, None], [3, 4]]), [BIG, 3, 4]),
    "polars lists of several lengths": (lambda: pl([[BIG, None], [], None, [3]]), [BIG, 3]),
    "polars lists of structs": (lambda: pl([[{"a": BIG, "b": 0.5}], []]), [BIG]),
    "polars Int128": (lambda: pl([BIG, None], lambda pl: pl.Int128), [BIG]),
    "polars Int128, unsigned": (lambda: pl([2**64 - 1], lambda pl: pl.Int128), [2**64 - 1]),
    "polars Decimal": (lambda: pl([decimal.Decimal("0.5"), None]), [0.5]),
    "polars strings": (lambda: pl(["b", None, "a"]), [2, 1]),
    "polars bytes": (lambda: pl([b"b", b"a"]), [2, 1]),
    "polars categories": (lambda: pl(["b", "a", None], lambda pl: pl.Enum(["a", "b"])), [1, 0]),
    "polars times": (lambda: pl([datetime.time(1), None]), [3600 * 10**9]),
    "polars time zone": (lambda: pl([NOON]), [NOON.timestamp() * 10**6]),
    "polars table of structs": (lambda: library("polars").DataFrame({"a": [{"b": BIG, "c": 0.5}]}), [BIG]),
    "polars table of fixed lists": (lambda: pl([[BIG, None]], lambda pl: pl.Array(pl.Int64, 2)).to_frame(), [BIG]),
    "polars table of Int128": (lambda: pl([BIG], lambda pl: pl.Int128).to_frame(), [BIG]),
    "xarray tree": (lambda: library("xarray").DataTree.from_dict({"/g/h": library("xarray").Dataset({"a": ("n", [BIG])})}), [BIG]),
}


def as_it_came(x, refusal):
    """Return what has nulls as Arrow's own numbers: mask='drop', which the refusal names, gives what is stored under them."""
    return refusal.retry() if "mask" not in refusal.permissions else x


@pytest.mark.parametrize("name", COLUMNS)
def test_the_elements_of_a_column_keep_their_numbers(name):
    make, expected = COLUMNS[name]
    made = follow(make(), limit=6, retry=as_it_came)
    assert (made.to_pylist() if hasattr(made, "to_pylist") else numbers(made)) == expected


EMPTY = {
    "Arrow nulls": (lambda: arrow([None]), "nothing but nulls"),
    "Arrow structs without fields": (lambda: arrow([{}]), "no fields"),
    "Arrow table without columns": (lambda: library("pyarrow").table({}), "holds no arrays"),
    "polars nulls": (lambda: pl([None]), "nothing but nulls"),
    "xarray.Dataset": (lambda: library("xarray").Dataset(), "holds no arrays"),
    "xarray.DataTree": (lambda: library("xarray").DataTree(), "holds no arrays"),
}


@pytest.mark.parametrize("name", EMPTY)
def test_where_nothing_is_held_nothing_is_called(name):
    make, word = EMPTY[name]
    with pytest.raises(interop.InteropError) as caught:
        interop.to_numpy(make())
    assert word in caught.value.hint
    assert not calls_in(caught.value.hint)


def test_integers_that_no_dtype_holds_are_not_said_to_fit():
    with pytest.raises(interop.UnsupportedTypeError, match="If float64 is precise enough"):
        interop.to_numpy(pl([2**100], lambda pl: pl.Int128))


class Computes:
    """Has a compute() and the question of Dask's, as pint's quantities have, whose answer it is."""

    def __init__(self, graph):
        self.graph = graph

    def __dask_graph__(self):
        return self.graph

    def compute(self):
        return np.array([BIG]) if self.graph else self

    def toarray(self):
        return np.array([BIG])


@pytest.mark.parametrize(("graph", "word"), [({"a": 1}, "x.compute()"), (None, "x.toarray()")])
def test_only_what_is_lazy_is_computed(graph, word):
    with pytest.raises(interop.UnsupportedTypeError) as caught:
        interop.to_numpy(Computes(graph))
    assert word in caught.value.hint
    assert numbers(follow(Computes(graph))) == [BIG]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("Arrow struct, missing", lambda x: x.field(0).to_numpy()),
        ("polars fixed lists, missing inside", lambda x: x.to_numpy()),
        ("polars structs", lambda x: x.to_numpy()),
        ("pandas, one name twice", lambda x: x["a"].to_numpy()),
        ("pandas time zone", lambda x: x.dropna().to_numpy()),
    ],
)
def test_the_usual_call_would_change_the_elements(name, wrong):
    """The negative control of the columns."""
    make, expected = COLUMNS[name]
    assert wrong(make()).ravel().tolist() != expected


@pytest.mark.parametrize("name", OF_OTHERS)
def test_another_librarys_object_keeps_its_numbers(name, tmp_path):
    make, expected = OF_OTHERS[name]
    assert numbers(follow(make(tmp_path))) == expected


@pytest.mark.parametrize(
    ("name", "word"),
    [("pandas Int64, missing", "NA"), ("polars nulls", "null"), ("pandas mixed", "column by column"), ("polars mixed", "column by column")],
)
def test_what_the_usual_call_would_lose_is_said(name, word, tmp_path):
    with pytest.raises(interop.InteropError) as caught:
        interop.to_numpy(OF_OTHERS[name][0](tmp_path))
    assert word in str(caught.value)


def test_the_usual_call_would_change_these_values():
    """The negative control: without a look at what is missing, 2**53 + 1 becomes a float."""
    assert library("pandas").Series([BIG, None], dtype="Int64").to_numpy().tolist() != [BIG, None]
    assert library("polars").Series([BIG, None]).to_numpy().tolist()[0] != BIG


# The project's own corpus: every refusal in it, by target.


COUNTS = {"numpy-datetime": [20778], "numpy-timedelta": [1], "numpy-structured": [0, 0, 0], "jax-int4": corpus.GRID}
"""What those of the corpus are that have no meaning as numbers unless a hint is followed."""


@pytest.mark.parametrize("source", corpus.SOURCES, ids=str)
def test_every_hint_of_the_corpus_runs_and_keeps_the_values(source):
    with source.inside(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sources announce that they are prototypes
        x = source.make()
        for to, policy in itertools.product(("numpy", "torch"), ("default", "strict")):
            error = outcome(lambda: interop.convert(x, to, policy=policy))  # noqa: B023 - called at once
            if isinstance(error, interop.InteropError):
                check_hint(source, x, error)


def check_hint(source, x, error):
    assert error.hint
    if error.permissions:
        result = eval(error.hint.rpartition("write ")[2], {"x": x, "convert": interop.convert})
        assert source.truth is None or same_values(result, source.truth), error.hint
        return
    for piece in calls_in(error.hint):
        if not is_open(piece):
            made = eval(piece, {"x": x, **spaces(piece)})
            if source.name in COUNTS:
                assert numbers(interop.to_numpy(made)) == COUNTS[source.name], error.hint


def test_nothing_that_is_no_array_has_a_call_that_fails():
    for x in corpus.NOT_ARRAYS:
        with pytest.raises(interop.UnsupportedTypeError) as caught:
            interop.to_torch(x)
        for piece in calls_in(caught.value.hint):
            assert is_open(piece) or eval(piece, {"x": x, **spaces(piece)}) is not None


PERMITTED = [
    call for calls in messages.CALLS.values() for call in calls if call.startswith("interop.") and re.search(r"\.(convert|to_\w+)\(", call)
]


@pytest.mark.parametrize("call", PERMITTED)
def test_each_refusal_with_permissions_can_be_retried(call):
    names = messages.namespace()
    try:
        refusal = outcome(lambda: eval(call, names))
    except (TypeError, ValueError, AttributeError):
        return  # a wrong word, whose answer is in `tests.messages`
    assert isinstance(refusal, interop.InteropError)
    if refusal.permissions:
        assert refusal.retry() is not None
    else:
        with pytest.raises(type(refusal)):
            refusal.retry()
