"""What to call for an object that is no array here: other libraries' own words, as data. Imports none of them.

A hint is followed to the letter, so none of these calls changes a value or a dtype. Where a library's usual call does, for some of
its objects (integers become floats for a missing value, or for the sake of another column), a row before it knows these.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from itertools import chain
from numbers import Number
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from interop._model.identity import is_found_by_identity
from interop._model.spelling import module_of
from interop.backends.units import advice_for_wrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


class Row(NamedTuple):
    """What to write for an object of a class.

    ``{tree[...]}`` in the text stands for the call on a container, ``{found!r}`` for what `when` returned: None if it is another row's.
    """

    text: str
    when: Callable[[Any], Any] | None = None


def _if(question: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: True if question(x) else None


def _first(names: Callable[[Any], Iterable[Any]] = iter, question: Callable[[Any], Any] | None = None) -> Callable[[Any], Any]:
    """Return the name of the first part, where there is one and the question is answered with yes."""
    return lambda x: next(iter(names(x)), None) if question is None or question(x) else None


def _is_missing(x: Any) -> Any:
    """Return whether a column of pandas lacks values and knows it: in plain NumPy dtypes, NaN is a value."""
    return hasattr(x.dtype, "na_value") and x.isna().any()


def _has_numbers(x: Any) -> Any:
    """Return whether the elements of a column of pandas are numbers, or whatever NumPy itself has under the dtype."""
    return x.dtype.kind in "biufc" or not hasattr(x.dtype, "na_value")


def _is_table(x: Any) -> bool:
    """Return whether the columns of a table of pandas have one dtype, of NumPy: only then has one array of them the same."""
    kinds = set(x.dtypes)
    return len(kinds) <= 1 and not any(hasattr(kind, "na_value") for kind in kinds)


_TIMES = ("PeriodDtype", "DatetimeTZDtype")
_WIDE = ("Int128", "UInt128")


def _class_of(*names: str) -> Callable[[Any], Any]:
    return _if(lambda x: type(x.dtype).__name__ in names)


def _is_number(dtype: Any) -> bool:
    """Return whether a dtype of polars' is NumPy's too."""
    return type(dtype).__name__ == "Boolean" or (dtype.is_numeric() and type(dtype).__name__ not in ("Decimal", *_WIDE))


def _is_regular(x: Any) -> bool:
    """Return whether an Array of polars' holds numbers only: its own null_count() sees the outer level alone."""
    dtype, whole = x.dtype, x
    while type(dtype).__name__ == "Array":
        if whole.null_count():
            return False
        dtype, whole = dtype.inner, whole.explode()
    return _is_number(dtype) and not (len(x) and whole.null_count())


def _length(x: Any) -> Any:
    """Return the length that all lists of a column of polars' have; None if they have none in common."""
    if type(x.dtype).__name__ != "List":
        return None
    shortest, longest = x.list.len().min(), x.list.len().max()
    return longest if shortest == longest else None


def _integers(x: Any) -> Any:
    """Return the name of the dtype that holds a column's wide integers."""
    if type(x.dtype).__name__ not in _WIDE:
        return None
    low, high = x.min() or 0, x.max() or 0
    return "Int64" if low >= -(2**63) and high < 2**63 else "UInt64" if low >= 0 and high < 2**64 else None


def _is_lazy(x: Any) -> bool:
    """Return whether it stands for a graph of Dask's: the question that ``dask.is_dask_collection`` asks. Other classes compute too."""
    return x.__dask_graph__() is not None


_OWN = "Call x.{}() first, and convert the result."
_FILL = "It has missing values (null, NA), which plain arrays do not, and its to_numpy() would turn the others into floats or objects. "
_FILL += "Leave them out: x.{}().to_numpy(), or fill them first."
_BY_COLUMN = "One array has one dtype and nothing missing, and its columns have several, null or NA, or lists. "
_BY_COLUMN += "Convert column by column: {}."
_INTO_OBJECTS = "Its to_numpy() would make objects of Python's, or floats. "
_COUNTS = "Convert the counts: x.{}."
_ENCODE = _INTO_OBJECTS + "Encode the values as numbers: {}."
_ELEMENTS = "Its elements are lists, and one array has no lists, and nothing missing. "
_ELEMENTS += "Convert what is in them, all in one row: x.explode().drop_nulls(), or fill what is missing first."
_PRECISE = "If float64 is precise enough, x.cast(polars.Float64)."
_LAZY = "It is not read yet. Read it first: {}."
_BYTES = "These are bytes: numpy.frombuffer({}, dtype='uint8'), and the result's view(...) as the dtype that was written."
_PART = "It holds several arrays. Convert them one by one: {}."

_HOLDS = "Convert what it holds: {}."
_ON_DEVICE = "Its memory as an array of CuPy: cupy.asarray(x)."
_KEEPS = "Call x.to_numpy() first, which keeps its dtype."
_ONE_DTYPE = "Its columns have one dtype, which x.to_numpy() keeps: call that first."
_COLUMNS = "A table holds one array for each column. Convert it column by column{}: x.column(0){}."
_EMPTY = "It holds no arrays."
_STORAGE = "Take its memory as {}: torch.empty(0, dtype={}, device=x.device).set_(x)"

ADVICE: dict[str, tuple[Row, ...]] = {
    **dict.fromkeys(
        ("pandas.Series", "pandas.Index", "pandas.ExtensionArray"),
        (
            Row(_FILL.format("dropna"), _if(lambda x: _has_numbers(x) and _is_missing(x))),
            Row(_KEEPS, _if(_has_numbers)),
            Row(
                _INTO_OBJECTS + "Convert Arrow's own column: pyarrow.array(x).", _if(lambda x: hasattr(x.dtype, "pyarrow_dtype"))
            ),  # before the others, as it has a kind too
            Row(
                "Leave out what is missing (NaT): x.dropna(), and convert the counts of the others.",
                _if(lambda x: type(x.dtype).__name__ in _TIMES and _is_missing(x)),
            ),
            Row(_COUNTS.format("astype('int64')"), _class_of(*_TIMES)),
            Row(_ENCODE.format("x.factorize()[0], where -1 stands for a missing one")),
        ),
    ),
    "pandas.DataFrame": (
        Row(_ONE_DTYPE, _if(_is_table)),
        Row(_BY_COLUMN.format("x.iloc[:, 0]")),  # names may be there twice, or be NaN
    ),
    "polars.Series": (
        Row(_KEEPS, _if(lambda x: _is_number(x.dtype) and not x.null_count())),
        Row(_FILL.format("drop_nulls"), _if(lambda x: _is_number(x.dtype))),
        Row(_KEEPS, _if(lambda x: type(x.dtype).__name__ == "Array" and _is_regular(x))),
        Row(
            "Convert one field at a time: x.struct.field({found!r}).",
            _first(lambda x: x.struct.fields, lambda x: type(x.dtype).__name__ == "Struct"),
        ),
        Row("Its lists have one length, and may be an axis: x.list.to_array({found!r}).", _length),
        Row(_ELEMENTS, _class_of("List", "Array")),
        Row(_COUNTS.format("to_physical()"), _if(lambda x: x.dtype.is_temporal())),
        Row(_ENCODE.format("x.to_physical()"), _class_of("Categorical", "Enum")),
        Row(_ENCODE.format("x.rank('dense')"), _class_of("String", "Binary")),
        Row("No plain array has integers of 128 bits. These fit into fewer: x.cast(polars.{found}).", _integers),
        Row(_PRECISE, _class_of("Decimal", *_WIDE)),
        Row("It holds nothing but nulls.", _class_of("Null")),
        Row(_INTO_OBJECTS + "Take the values of Python's: x.to_list()."),
    ),
    "polars.DataFrame": (
        Row(_ONE_DTYPE, _if(lambda x: len(set(x.dtypes)) <= 1 and all(_is_number(one.dtype) and not one.null_count() for one in x))),
        Row(_BY_COLUMN.format("x.to_series(0)")),
    ),
    "polars.LazyFrame": (Row(_LAZY.format("x.collect()")),),
    **dict.fromkeys(
        ("pyarrow.Table", "pyarrow.RecordBatch"),
        (
            Row(_EMPTY, _if(lambda x: not x.num_columns)),
            Row(_COLUMNS.format(", without missing values (null)", ".drop_null()"), _if(lambda x: x.column(0).null_count)),
            Row(_COLUMNS.format("", "")),
        ),
    ),
    "pyarrow.Buffer": (Row(_BYTES.format("x")),),
    "pyarrow.Scalar": (Row("Take the Python value: x.as_py()."),),
    **dict.fromkeys(("xarray.DataArray", "xarray.Variable"), (Row("Convert the array inside of it, as it is: x.data."),)),
    "xarray.Dataset": (Row(_PART.format("x[{found!r}].data"), _first()), Row(_EMPTY)),
    "xarray.DataTree": (
        Row(_PART.format("x[{found!r}].data"), _first(lambda x: x.data_vars)),
        Row("It holds several nodes. Convert them one by one: x.children[{found!r}].", _first(lambda x: x.children)),
        Row(_EMPTY),
    ),
    **dict.fromkeys(("h5py.Dataset", "zarr.Array", "netCDF4.Variable", "blosc2.NDArray"), (Row(_LAZY.format("x[...]")),)),
    **dict.fromkeys(("h5py.Group", "zarr.Group"), (Row(_PART.format("x[{found!r}][...]"), _first()),)),
    "netCDF4.Dataset": (Row(_PART.format("x[{found!r}][...]"), _first(lambda x: x.variables)),),
    "tables.Leaf": (Row(_LAZY.format("x.read()")),),
    "tensorstore.TensorStore": (Row(_LAZY.format("x.read().result()")),),
    "builtins.PySafeSlice": (Row(_LAZY.format("x[:]")),),
    "builtins.safe_open": (Row(_PART.format("x.get_tensor({found!r})"), _first(lambda x: x.keys())),),
    "numpy.NpzFile": (Row(_PART.format("x[{found!r}]"), _first()),),
    "PIL.Image": (Row("Make an array of its pixels, as they are: numpy.asarray(x)."),),
    **dict.fromkeys(("cv2.UMat",), (Row("Bring it to the host first: x.get()."),)),
    "cv2.GpuMat": (Row("Bring it to the host first: x.download()."),),
    "scipy.SparseABC": (Row("It is sparse. Make it dense first: x.toarray()."),),
    "sparse.SparseArray": (Row("It is sparse. Make it dense first: x.todense()."),),
    "awkward.Array": (Row("If it is regular, call x.to_numpy() first, which keeps its dtype; if ragged, convert its parts."),),
    "tensordict.TensorDictBase": (Row("It holds several arrays: {tree[x.to_dict()]}."),),
    "astropy.Table": (Row(_PART.format("x[{found!r}]"), _first(lambda x: x.colnames)),),
    **dict.fromkeys(("mxnet.NDArray", "decord.NDArray"), (Row(_OWN.format("asnumpy")),)),
    **dict.fromkeys(
        ("torch.Module", "torch.Optimizer"),
        (Row("It holds arrays and is none. Convert those in its state_dict(): {tree[x.state_dict()]}."),),
    ),
    "torch.UntypedStorage": (Row(_STORAGE.format("bytes", "torch.uint8") + ", and view(...) that as the dtype that was written."),),
    "torch.TypedStorage": (Row(_STORAGE.format("a tensor of its dtype", "x.dtype") + "."),),
    "numba.DeviceNDArray": (Row(_ON_DEVICE),),
    "multiprocessing.SynchronizedArray": (Row("Its memory, while nobody else writes to it: numpy.asarray(x.get_obj())."),),
    "multiprocessing.SharedMemory": (Row(_BYTES.format("x.buf")),),
    "builtins.PyCapsule": (
        Row("A bare capsule was made for one consumer, and cannot be asked for what another needs: pass the array itself."),
    ),
    "builtins.bytes": (Row(_BYTES.format("x")),),
    "builtins.bytearray": (Row(_BYTES.format("x")),),
    "mmap.mmap": (Row(_BYTES.format("x")),),
    "_io.BytesIO": (Row(_BYTES.format("x.getbuffer()")),),
    "types.SimpleNamespace": (Row(_HOLDS.format("{tree[x]}")),),
    "builtins.str": (Row("Pass an array (a file has to be read first)."),),
    "builtins.NoneType": (Row("Pass an array."),),
}
"""By package and class, without the modules between; of several rows the first whose question is answered."""

_AS_IT_IS = "Make an array of it first, in its own dtype: numpy.asarray(x)."

_BY_METHOD = {
    "__dask_graph__": Row(_LAZY.format("x.compute()"), _if(_is_lazy)),
    **{method: Row(_OWN.format(method)) for method in ("to_numpy", "toarray", "todense", "asnumpy")},
    "__cuda_array_interface__": Row(_ON_DEVICE),
    **dict.fromkeys(("__array_interface__", "__array__"), Row(_AS_IT_IS)),
}
"""For classes that no row knows, by the first of these that the class has."""


class _Trees:
    """Fills ``{tree[...]}`` in: the call for a container, whose expression stands in the brackets."""

    def __init__(self, call: Callable[[], str] | None) -> None:
        self.call = call

    def __getitem__(self, expression: str) -> str:
        return (self.call() if self.call else "interop.tree.describe({})").replace("{}", expression)


def advice_for(x: Any, is_array: Callable[[Any], bool], tree: Callable[[], str] | None = None) -> str:
    """Return what to write for an object that is not converted; `tree` returns the call for a container that holds it."""
    kind = type(x)
    trees = _Trees(tree)
    if isinstance(x, type | ModuleType):
        return "Pass an array, not a class or a module."
    for base in kind.__mro__:
        package = module_of(base).partition(".")[0]
        for row in ADVICE.get(f"{package}.{base.__qualname__}") or ():
            if (found := _answer(row, x)) is not None:
                return row.text.format(tree=trees, found=found)
    own = next((row.text for method, row in _BY_METHOD.items() if hasattr(kind, method) and _answer(row, x) is not None), None)
    # An array of a number with a unit would be without it, and with the stored number, which may not be what is meant.
    with_unit = advice_for_wrapper(x) if own in (None, _AS_IT_IS) else ""
    return with_unit or own or _of_python(x, is_array, trees) or "Pass an array."


def _answer(row: Row, x: Any) -> Any:
    """Return what a row found, True for one that asks nothing; None if it is not for this object."""
    if row.when is None:
        return True
    with suppress(AttributeError, LookupError, TypeError, ValueError, OSError):  # a version, or a subclass, in which it is otherwise
        return row.when(x)
    return None


def _of_python(x: Any, is_array: Callable[[Any], bool], trees: _Trees) -> str:
    """Return what to write for objects of Python itself; empty for those that hold nothing."""
    if isinstance(x, list | tuple | deque):
        return _of_sequence(x, is_array, trees)
    if isinstance(x, Number | range):
        return _NUMBERS[_same([x.start, x.stop] if isinstance(x, range) else [x])]
    if isinstance(x, dict) or is_dataclass(x):
        return _HOLDS.format(trees["x"])
    if isinstance(x, Mapping):
        return _HOLDS.format(trees["dict(x)"])
    if _is_buffer(x):
        return _AS_IT_IS
    return "Take its items first: list(x)." if isinstance(x, Iterable) and not callable(x) else ""


_NUMBERS = {
    "exact": "Make an array of it first: numpy.asarray(x).",
    "inexact": "No dtype that NumPy would choose holds these numbers exactly. Name the one that is meant: numpy.asarray(x, dtype=...).",
    "strings": "Strings are no numbers: encode them first.",
    "objects": "These are no numbers of Python's. Name the dtype that is meant: numpy.asarray(x, dtype=...).",
    "ragged": "Its parts differ in length, and an array's do not. Make an array of each, or pad them first.",
}


def _of_sequence(x: Any, is_array: Callable[[Any], bool], trees: _Trees) -> str:
    """Return what to write for nested sequences: numbers make one array, arrays stay in their container."""
    level, met, ragged = list(x), {id(x)}, False
    while inner := [one for one in level if isinstance(one, list | tuple)]:
        if met & set(map(id, inner)):  # it contains itself, which `interop.tree` says
            return _HOLDS.format(trees["x"])
        met |= set(map(id, inner))
        ragged = ragged or len(inner) < len(level) or len(set(map(len, inner))) > 1
        level = [one for one in level if not isinstance(one, list | tuple)] + list(chain.from_iterable(inner))
    samples = dict(zip(map(id, map(type, level)), level, strict=True))
    if len(samples) == 1 and isinstance(level[0], _numpy_scalars()) and not ragged:
        return _NUMBERS["exact"]
    if any(
        is_array(one) or (is_found_by_identity(type(one)) and isinstance(one, Mapping)) or is_dataclass(one) for one in samples.values()
    ):
        return _HOLDS.format(trees["x"])
    return _NUMBERS["ragged" if ragged else _same(level)]


def _numpy_scalars() -> Any:
    """Return the class of NumPy's scalars, which make an array of their own dtype; where it is not loaded there are none."""
    return getattr(sys.modules.get("numpy"), "generic", ())


def _same(values: Collection[Any]) -> str:
    """Return whether NumPy, left to choose, chooses a dtype that holds these numbers exactly; else what is the matter."""
    if not all(map(is_found_by_identity, map(type, values))):
        return "objects"
    kinds = set(map(type, values))
    if kinds <= {str, bytes} and kinds:
        return "strings"
    if not all(issubclass(kind, int | float | complex) for kind in kinds):
        return "objects"
    integers = [int(one) for one in values if isinstance(one, int)]
    low, high = min(integers, default=0), max(integers, default=0)
    if not all(issubclass(kind, int) for kind in kinds):
        return "exact" if max(-low, high) <= 2**53 else "inexact"
    if high >= 2**63:  # beside one that only uint64 holds, NumPy makes floats of the others
        return "exact" if high < 2**64 and min(integers) >= 2**63 else "inexact"
    return "exact" if low >= -(2**63) else "inexact"


def _is_buffer(x: Any) -> bool:
    """Return whether NumPy reads it as a buffer; one of pointers it does not."""
    try:
        with memoryview(x) as view:
            return view.format.startswith("T{") or not set(view.format) & set("&PXO")
    except (TypeError, ValueError, BufferError):
        return False
