"""The names of the dtypes, and which can hold which: pure arithmetic, no array library.

A dtype is known by its canonical name (NumPy's, and ml_dtypes' for the small floats). What a value of it
can be is described by the format (precision, exponent range, infinities, sign), so that "without loss" is
computed, not listed: float8_e5m2 fits into float16, uint32 into int64, int32 into float64.

Names that are not here (object, str, torch's int4 shells, packed fp4) have no numeric meaning in another
library: they are never cast unless the user names a dtype.
"""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from struct import calcsize
from typing import TYPE_CHECKING, Any, NamedTuple

from interop._model.spelling import nearest
from interop._model.words import WORDS_OF_OTHERS

if TYPE_CHECKING:
    from collections.abc import Collection

KINDS = ("bool", "uint", "int", "float", "complex")


class DType(NamedTuple):
    """A numeric format: `bits` of storage; floats have a precision (hidden bit included) and exponents."""

    kind: str
    bits: int
    precision: int = 0
    emin: int = 0
    emax: int = 0
    infinite: bool = True
    signed: bool = True

    @property
    def itemsize(self) -> int:
        """Bytes that one element takes in memory (sub-byte types are stored one to a byte)."""
        return max(self.bits // 8, 1)

    @property
    def smallest(self) -> int:
        """The exponent of the smallest subnormal."""
        return self.emin - (self.precision - 1)


def _float(bits: int, precision: int, emin: int, emax: int, *, infinite: bool = True, signed: bool = True) -> DType:
    return DType("float", bits, precision, emin, emax, infinite, signed)


def _complex(bits: int, part: DType) -> DType:
    return part._replace(kind="complex", bits=bits)


# The small formats are those of the OCP MX and FP8 specifications and of ml_dtypes' documentation.
_FLOATS: dict[str, DType] = {
    "float4_e2m1fn": _float(4, 2, 0, 2, infinite=False),
    "float6_e2m3fn": _float(6, 4, 0, 2, infinite=False),
    "float6_e3m2fn": _float(6, 3, -2, 4, infinite=False),
    "float8_e8m0fnu": _float(8, 1, -127, 127, infinite=False, signed=False),
    "float8_e3m4": _float(8, 5, -2, 3),
    "float8_e4m3": _float(8, 4, -6, 7),
    "float8_e4m3fn": _float(8, 4, -6, 8, infinite=False),
    "float8_e4m3fnuz": _float(8, 4, -7, 7, infinite=False),
    "float8_e4m3b11fnuz": _float(8, 4, -10, 4, infinite=False),
    "float8_e5m2": _float(8, 3, -14, 15),
    "float8_e5m2fnuz": _float(8, 3, -15, 15, infinite=False),
    "float16": _float(16, 11, -14, 15),
    "bfloat16": _float(16, 8, -126, 127),
    "float32": _float(32, 24, -126, 127),
    "float64": _float(64, 53, -1022, 1023),
    "longdouble": _float(128, 64, -16382, 16383),
}

DTYPES: dict[str, DType] = {
    "bool": DType("bool", 8),
    **{f"int{bits}": DType("int", bits) for bits in (1, 2, 4, 8, 16, 32, 64)},
    **{f"uint{bits}": DType("uint", bits) for bits in (1, 2, 4, 8, 16, 32, 64)},
    **_FLOATS,
    "complex32": _complex(32, _FLOATS["float16"]),
    "complex64": _complex(64, _FLOATS["float32"]),
    "complex128": _complex(128, _FLOATS["float64"]),
    "clongdouble": _complex(256, _FLOATS["longdouble"]),
}
"""Every dtype that interop can move, by its canonical name."""

# What libraries and people also call them. NumPy names the extended types by their storage.
_ALIASES = {
    "float128": "longdouble",
    "float96": "longdouble",
    "complex256": "clongdouble",
    "complex192": "clongdouble",
    "half": "float16",
    "halffloat": "float16",
    "single": "float32",
    "byte": "int8",
    "ubyte": "uint8",
    "short": "int16",
    "ushort": "uint16",
    "intc": "int32",
    "uintc": "uint32",
    "longlong": "int64",
    "ulonglong": "uint64",
    **{
        f"{letter}{size}": f"{kind}{size * 8}"
        for letter, kind in (("i", "int"), ("u", "uint"), ("f", "float"), ("c", "complex"))
        for size in (1, 2, 4, 8, 16)
        if f"{kind}{size * 8}" in DTYPES
    },
    "double": "float64",
    "csingle": "complex64",
    "chalf": "complex32",
    "cfloat": "complex64",
    "cdouble": "complex128",
    "bool_": "bool",
    "float": "float64",
    "int": "int64",
    "complex": "complex128",
}

_POINTER, _LONG = 8 * calcsize("P"), 8 * calcsize("l")
_ALIASES |= {"intp": f"int{_POINTER}", "uintp": f"uint{_POINTER}", "int_": f"int{_POINTER}", "uint": f"uint{_POINTER}"}
if _LONG == 64:  # elsewhere one library's "long" has 32 bits and another's 64: there it is no name
    _ALIASES |= {"long": "int64", "ulong": "uint64"}

# The one-letter codes of the array interface and of the buffer protocol, which stand alone or after a byte order.
_CODES = {"?": "bool", "b1": "bool", "b": "int8", "B": "uint8", "h": "int16", "H": "uint16", "i": "int32", "I": "uint32"}
_CODES |= {"l": f"int{_LONG}", "L": f"uint{_LONG}", "q": "int64", "Q": "uint64", "p": f"int{_POINTER}", "P": f"uint{_POINTER}"}
_CODES |= {"e": "float16", "f": "float32", "d": "float64", "g": "longdouble", "F": "complex64", "D": "complex128", "G": "clongdouble"}


_CAPITALIZED = re.compile(r"U?Int\d+|Float\d+|Boolean|boolean")
"""The names that pandas and polars have."""

# What these are depends on the library that says them. Without one they are what Python and the array API's reference say.
_AMBIGUOUS = {"float", "int", "uint", "complex", "long", "ulong"}
_PYTHON = (bool, int, float, complex)
_SWAPPED = ">" if sys.byteorder == "little" else "<"


def canonical(name: str) -> str:
    """Return the name that interop uses for a dtype's name; unknown names come back as they are."""
    return _ALIASES.get(name, name)


def dtype_name(dtype: Any) -> str:
    """Return the canonical name of a dtype given as a name, a code (``"<f4"``), a dtype of any library, or a Python type.

    Raises ValueError with the nearest name if interop knows no such dtype, or if it is in a foreign byte order, which no result is.

    >>> dtype_name("half"), dtype_name(float), dtype_name("bfloat16"), dtype_name("?")
    ('float16', 'float64', 'bfloat16', 'bool')
    """
    name = _named(dtype) if isinstance(dtype, str) else _name_of(dtype)
    if name in DTYPES:
        return name
    depends = f": {name} depends on the library. Write its bits, as in dtype='int32'."
    near = depends if name.lower() in _AMBIGUOUS else nearest(canonical(name.lower()), DTYPES)
    raise ValueError(f"{dtype!r} is not a dtype that interop can move{near}")


def _named(text: str) -> str:
    if text in DTYPES:
        return text
    order, code = text[:1], text[1:]
    if order in ("<", ">", "=", "|"):
        name = _CODES.get(code) or canonical(code)
        if order == _SWAPPED and name in DTYPES and DTYPES[name].bits > 8:
            raise _foreign_order(text, name)
        # A code takes a byte order, a name does not; and what has no order is a byte.
        known = code in _CODES or re.fullmatch(r"[iufc]\d+", code)
        return name if known and (order != "|" or DTYPES[name].bits == 8) else text
    if text in _CODES:
        return _CODES[text]
    if text.endswith("[pyarrow]"):  # as pandas writes Arrow's
        return _word_of("pyarrow", text.removesuffix("[pyarrow]"))
    library, _, name = text.rpartition(".")
    return _word_of(library.partition(".")[0], name) if library else canonical(_lower(name))


def _word_of(library: str, name: str) -> str:
    """Return what a library's own word for a dtype means; a word that is ambiguous comes back as it is."""
    name = _lower(name)
    return WORDS_OF_OTHERS.get(library, {}).get(name) or (name if name in _AMBIGUOUS else canonical(name))


def _lower(name: str) -> str:
    if not _CAPITALIZED.fullmatch(name):
        return name
    return name.lower().replace("boolean", "bool")


def _name_of(dtype: Any) -> str:
    if (storage := getattr(dtype, "pyarrow_dtype", None)) is not None:  # of a column of pandas
        return _name_of(storage)
    name = dtype.__name__ if isinstance(dtype, type) else getattr(dtype, "name", None)
    if not isinstance(name, str):
        name = str(dtype).rpartition(".")[2]
    package = str((dtype if isinstance(dtype, type) else type(dtype)).__module__).partition(".")[0]
    name = canonical(name) if dtype in _PYTHON else _word_of(package, name)
    if getattr(dtype, "isnative", True) is False and name in DTYPES:
        raise _foreign_order(dtype, name)
    return name


def _foreign_order(dtype: Any, name: str) -> ValueError:
    return ValueError(f"{dtype!r} is in a foreign byte order, and results are in this machine's: write dtype={name!r}.")


def can_hold(wide: str, narrow: str) -> bool:
    """Return whether every value of dtype `narrow` is exactly a value of dtype `wide`.

    >>> can_hold("float16", "float8_e5m2"), can_hold("bfloat16", "float16"), can_hold("float64", "int32")
    (True, False, True)
    """
    w, n = DTYPES[wide], DTYPES[narrow]
    if wide == narrow or n.kind == "bool":
        return True
    if w.kind == "bool" or KINDS.index(w.kind) < KINDS.index(n.kind):
        return False
    if n.kind in ("uint", "int"):
        return _holds_integer(w, n)
    return (
        w.precision >= n.precision
        and w.emax >= n.emax
        and w.smallest <= n.smallest
        and (w.infinite or not n.infinite)
        and (w.signed or not n.signed)
    )


def _holds_integer(w: DType, n: DType) -> bool:
    digits = n.bits - (n.kind == "int")
    if w.kind in ("uint", "int"):
        return w.bits - (w.kind == "int") >= digits and (w.kind == "int" or n.kind == "uint")
    return w.precision >= digits and w.emax >= digits and (w.signed or n.kind == "uint")


@lru_cache(maxsize=4096)
def fallback(name: str, supported: Collection[str]) -> tuple[str, str] | None:
    """Return the dtype to cast to when `name` is not supported, and the `casting` that it needs; None if none.

    The nearest that holds every value comes first (``"safe"``: same kind, then fewest bits); else the
    widest of the same kind (``"same_kind"``, with loss).

    >>> fallback("longdouble", frozenset({"float32", "float64"}))
    ('float64', 'same_kind')
    >>> fallback("complex32", frozenset({"complex64", "float32"}))
    ('complex64', 'safe')
    """
    if name not in DTYPES:
        return None
    kind = DTYPES[name].kind
    numeric = [other for other in supported if other in DTYPES]
    holding = [other for other in numeric if can_hold(other, name)]
    if holding:
        best = min(holding, key=lambda o: (KINDS.index(DTYPES[o].kind) - KINDS.index(kind), DTYPES[o].bits, -DTYPES[o].precision, o))
        return best, "safe"
    same = [other for other in numeric if DTYPES[other].kind == kind]
    return (max(same, key=lambda o: (DTYPES[o].bits, DTYPES[o].precision, o)), "same_kind") if same else None
