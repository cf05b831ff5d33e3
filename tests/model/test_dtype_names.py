"""A dtype by any library's name for it is that dtype, or an error; never another one."""

import ctypes
import struct
import sys

import ml_dtypes
import numpy as np
import pytest
import torch

import interop
from interop._model.dtypes import _CODES, DTYPES, dtype_name

OURS, THEIRS = ("<", ">") if sys.byteorder == "little" else (">", "<")


@pytest.mark.parametrize("code", [*"?bBhHiIlLqQpPefdgFDG", "b1", "f2", "f4", "f8", "i1", "u8", "c8", "c16"])
@pytest.mark.parametrize("order", ["", OURS, "="])
def test_a_code_is_what_numpy_says_it_is(code, order):
    wide = {"float128": "longdouble", "complex256": "clongdouble"}
    said = np.dtype(order + code).name
    assert dtype_name(order + code) == wide.get(said, said)


def test_each_code_is_tried():
    assert {*"?bBhHiIlLqQpPefdgFDG", "b1"} == set(_CODES)


NUMPYS = [
    "half",
    "single",
    "double",
    "byte",
    "ubyte",
    "short",
    "ushort",
    "intc",
    "uintc",
    "longlong",
    "ulonglong",
    "intp",
    "uintp",
    "int_",
    "uint",
]
NUMPYS += ["bool_", "csingle", "cdouble", *(["long", "ulong"] if struct.calcsize("l") == 8 else [])]


@pytest.mark.parametrize("name", NUMPYS)
def test_a_name_is_what_numpy_says_it_is(name):
    assert dtype_name(name) == np.dtype(getattr(np, name)).name == dtype_name(getattr(np, name))


@pytest.mark.parametrize("name", [name for name, value in vars(torch).items() if isinstance(value, torch.dtype)])
def test_a_dtype_of_torchs_is_that_dtype(name):
    """By the object, and by its qualified name; by the name alone where that means the same everywhere."""
    dtype = getattr(torch, name)
    canonical = str(dtype).removeprefix("torch.")
    if canonical not in DTYPES:
        with pytest.raises(ValueError, match="not a dtype that interop can move"):
            dtype_name(dtype)
        return
    assert dtype_name(dtype) == canonical
    if name not in ("float", "int", "bit"):  # Python's and NumPy's are of 64 bits; and nobody else says bit
        assert dtype_name(name) == canonical
    if name != "bit":
        assert dtype_name(f"torch.{name}") == canonical


@pytest.mark.parametrize("name", ["Float", "Double", "Half", "Int", "Long", "Short", "Byte", "Char", "Bool"])
def test_a_class_of_torchs_tensors_names_the_dtype_of_its_tensors(name):
    tensor = getattr(torch, f"{name}Tensor")()
    assert dtype_name(tensor.type()) == dtype_name(tensor.dtype)


@pytest.mark.parametrize("name", ["numpy.float", "jnp.complex", "torch.uint", "np.long", "torch.complex"])
def test_what_depends_on_the_library_is_an_error_without_a_guess(name):
    with pytest.raises(ValueError, match=r"not a dtype that interop can move: \w+ depends on the library") as caught:
        dtype_name(name)
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "right"),
    [("DOUBLE", "float64"), ("Half", "float16"), ("FLOAT32", "float32"), ("torch.flaot32", "float32"), ("bfloat", "bfloat16")],
)
def test_a_word_that_is_nearly_a_name_leads_to_its_dtype(name, right):
    with pytest.raises(ValueError, match=f"did you mean '{right}'"):
        dtype_name(name)


@pytest.mark.parametrize("dtype", [THEIRS + "f4", THEIRS + "c16", np.dtype(THEIRS + "i8")], ids=str)
def test_a_foreign_byte_order_is_no_dtype_of_a_result(dtype):
    with pytest.raises(ValueError, match=f"write dtype={np.dtype(dtype).name!r}"):
        dtype_name(dtype)


def test_a_byte_has_no_order():
    assert [dtype_name(f"{order}{code}") for order in "<>=|" for code in ("u1", "b1")] == ["uint8", "bool"] * 4


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "<",
        "|f4",
        "<half",
        "f3",
        "S4",
        "U",
        "O",
        "V2",
        "M8[s]",
        "m8",
        "FLOAT32",
        "flaot32",
        "Int128",
        "string[pyarrow]",
        "float32[polars]",
        None,
        3,
        str,
        object,
        ctypes.c_int,
        np.dtype("V4"),
    ],
    ids=repr,
)
def test_other_words_are_errors(wrong):
    with pytest.raises(ValueError, match="not a dtype that interop can move"):
        dtype_name(wrong)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.dtype(ml_dtypes.bfloat16), torch.bfloat16, "bfloat16"], ids=repr)
def test_a_small_float_of_any_library(dtype):
    assert dtype_name(dtype) == "bfloat16"


def capitalized(name):
    return name.replace("uint", "UInt") if name.startswith("u") else name.capitalize()


PLAIN = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)] + ["float32", "float64"]


@pytest.mark.parametrize("name", [*PLAIN, "float16"])
def test_a_dtype_of_pyarrow(name):
    pa = pytest.importorskip("pyarrow", reason="its dtypes")
    assert dtype_name(getattr(pa, name)()) == name  # float32 prints as "float"


def test_other_dtypes_of_pyarrow():
    pa = pytest.importorskip("pyarrow", reason="its dtypes")
    assert dtype_name(pa.bool_()) == "bool"
    for other in (
        pa.timestamp("s"),
        pa.decimal128(5),
        pa.string(),
        pa.list_(pa.float32()),
        pa.dictionary(pa.int8(), pa.float32()),
        pa.float32,
    ):
        with pytest.raises(ValueError, match="not a dtype"):
            dtype_name(other)


@pytest.mark.parametrize("name", PLAIN)
def test_a_dtype_of_polars(name):
    pl = pytest.importorskip("polars", reason="its dtypes")
    kind = getattr(pl, capitalized(name))
    assert dtype_name(kind) == dtype_name(kind()) == dtype_name(str(kind)) == name


def test_other_dtypes_of_polars():
    pl = pytest.importorskip("polars", reason="its dtypes")
    assert dtype_name(pl.Boolean) == dtype_name(pl.Boolean()) == "bool"
    for other in (pl.String, pl.Date, pl.Decimal(5, 2), pl.List(pl.Int8), pl.Array(pl.Float32, 2), pl.Categorical):
        with pytest.raises(ValueError, match="not a dtype"):
            dtype_name(other)


@pytest.mark.parametrize("name", PLAIN)
def test_a_dtype_of_pandas(name):
    pd = pytest.importorskip("pandas", reason="its dtypes")
    kind = getattr(pd, f"{capitalized(name)}Dtype")()
    assert dtype_name(kind) == dtype_name(str(kind)) == dtype_name(capitalized(name)) == name


@pytest.mark.parametrize("name", [*PLAIN, "float16", "bool_"])
def test_a_dtype_of_arrows_in_pandas(name):
    pd, pa = (pytest.importorskip(library, reason="its dtypes") for library in ("pandas", "pyarrow"))
    kind = pd.ArrowDtype(getattr(pa, name)())
    assert dtype_name(kind) == dtype_name(str(kind)) == name.removesuffix("_")  # "float[pyarrow]" is float32


def test_other_dtypes_of_pandas():
    pd = pytest.importorskip("pandas", reason="its dtypes")
    assert dtype_name(pd.BooleanDtype()) == dtype_name("boolean") == "bool"
    for other in (
        pd.CategoricalDtype(),
        pd.StringDtype("python"),
        pd.PeriodDtype("D"),
        pd.DatetimeTZDtype("ns", "UTC"),
        pd.SparseDtype("float32"),
    ):
        with pytest.raises(ValueError, match="not a dtype"):
            dtype_name(other)
    pa = pytest.importorskip("pyarrow", reason="its dtypes, in pandas")
    assert dtype_name(pd.ArrowDtype(pa.float32())) == "float32"


@pytest.mark.parametrize("dtype", ["<f4", "f", np.float32, np.dtype("f4"), torch.float32], ids=repr)
def test_a_verb_takes_each(dtype):
    assert interop.to_numpy(torch.ones(2, dtype=torch.float64), dtype=dtype).dtype == "float32"
