"""Two arrays side by side on the host: what differs about them, and which of their values.

The copies that this takes are interop's own and not the test's: hidden from its records and guards, under a policy of
their own. NumPy is used through its backend, as every other library is.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NamedTuple

from interop._model.dtypes import DTYPES
from interop._model.policy import Policy
from interop._verbs import to_numpy
from interop._watch.ledger import unwatched
from interop.backends import find_backend, is_array, load_backend
from interop.errors import InteropError, MaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from interop._model.description import Description

_INTEGER = ("int", "uint")
_LOOK = Policy(grad="detach", transfer="allow", casting="safe")


class Rules(NamedTuple):
    """What a comparison allows; `checks` has ``library``, ``dtype``, ``shape`` and ``device``."""

    rtol: float | None
    atol: float
    equal_nan: bool
    checks: Mapping[str, bool]


class Finding(NamedTuple):
    """Something that differs: in a word for the headline, and in full."""

    what: str
    text: str


class Side:
    """One of the two: an array, or a Python number, which has a value and the shape ``()`` and nothing else to compare."""

    def __init__(self, name: str, x: Any) -> None:
        self.name = name
        self.number = x if not is_array(x) else None
        self.description = find_backend(x).describe(x) if is_array(x) else None
        self.host: Any = self._to_host(x) if self.description is not None else None

    def _to_host(self, x: Any) -> Any:
        assert self.description is not None
        if self.description.masked:
            raise MaskError(f"{self.name} is {self.description}: masked values are not compared.", hint="Compare the data and the masks.")
        try:
            with unwatched():
                return to_numpy(x, policy=_LOOK)
        except InteropError as error:
            error.add_note(f"This was {self.name}, whose values had to be read.")
            raise

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Its shape."""
        return self.description.shape if self.description is not None else ()

    def values_like(self, other: Side) -> Any:
        """Return its values on the host; a number is rounded as the standard does it, to the float type of the other side."""
        if self.host is not None:
            return self.host
        host = load_backend("numpy").namespace()
        return _quietly(host.asarray, self.number, dtype=other.host.dtype if _takes(other.host, self.number) else None)

    def in_words(self) -> str:
        """Return it in words, for messages."""
        return str(self.description) if self.description is not None else f"the Python number {self.number!r}"


def _takes(array: Any, number: Any) -> bool:
    kind = _kind(array) if array is not None else ""
    return kind == "complex" or (kind == "float" and not isinstance(number, complex))


def compare(actual: Side, desired: Side, rules: Rules) -> list[Finding]:
    """Return everything that differs."""
    found = [finding for what in rules.checks for finding in _facts(what, actual, desired, checked=rules.checks[what])]
    if "shape" in [finding.what for finding in found]:
        return found  # there is no telling which element belongs to which
    a, d = actual.values_like(desired), desired.values_like(actual)
    host = load_backend("numpy").namespace()
    try:  # not broadcast_arrays: to ask its results for their flags is a FutureWarning
        a, d = (host.broadcast_to(one, host.broadcast_shapes(a.shape, d.shape)) for one in (a, d))
    except ValueError:
        return [*found, Finding("shape", f"shape: actual {a.shape} and desired {d.shape} cannot be broadcast against each other")]
    return [*found, *_values(a, d, rules)]


def _facts(what: str, actual: Side, desired: Side, *, checked: bool) -> list[Finding]:
    if not checked:
        return []
    if what == "shape":
        sides = (actual.shape, desired.shape)
    elif actual.description is None or desired.description is None:
        return []
    else:
        sides = (_fact(what, actual.description), _fact(what, desired.description))
    if sides[0] == sides[1]:
        return []
    return [Finding(what, f"{what}: actual {sides[0]}, desired {sides[1]} (check_{what}=False leaves this out)")]


def _fact(what: str, x: Description) -> Any:
    if what == "library":
        return x.backend if x.backend != "dlpack" else x.type.partition(".")[0]
    return x.dtype if what == "dtype" else x.device


def default_rtol(dtype: str) -> float:
    """Return the relative tolerance for a dtype: 0 unless it is a float or complex.

    For the dtypes that compute (`float32`, `float64`, complex ones) ``4 * sqrt(eps)``: half the digits, and two bits. For the
    shorter ones, where that would let anything pass, two units in the last place, and never more than a half.

    >>> from interop.testing import default_rtol
    >>> [float(f"{default_rtol(name):.1g}") for name in ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "int8")]
    [6e-08, 0.001, 0.002, 0.02, 0.2, 0.0]
    """
    if dtype not in DTYPES or DTYPES[dtype].kind not in ("float", "complex"):
        return 0.0
    precision = DTYPES[dtype].precision
    eps = 2.0 ** (1 - precision)
    return float(4 * eps**0.5) if precision >= 24 else min(2 * eps, 0.5)


def _values(a: Any, d: Any, rules: Rules) -> list[Finding]:
    host = load_backend("numpy").namespace()
    rtol = max(default_rtol(_name(a)), default_rtol(_name(d))) if rules.rtol is None else rules.rtol
    wide = _widened(a), _widened(d)
    bad = host.logical_not(_quietly(_same, *wide, rtol, rules))
    count = int(host.count_nonzero(bad))
    if not count:
        return []
    limit = f", by more than {rules.atol:g} + {rtol:.3g} * |desired|" if rtol or rules.atol else ""
    number = f"{count} of {bad.size}"
    return [Finding(f"{number} values", f"values: {number} elements{limit}{_worst(a, d, wide, bad)}")]


def _same(a: Any, d: Any, rtol: float, rules: Rules) -> Any:
    """Return where the values agree, as booleans."""
    host = load_backend("numpy").namespace()
    if {_kind(a) in _INTEGER, _kind(d) in _INTEGER} == {True, False} and _numeric(a) and _numeric(d) and rtol == rules.atol == 0:
        a, d = a.astype(object), d.astype(object)  # Python compares an int with a float exactly, NumPy rounds the int first
    equal = host.asarray(a == d, dtype=bool)
    if rules.equal_nan:
        equal |= _nans(a) & _nans(d)
    if not (rtol or rules.atol) or not (_numeric(a) and _numeric(d)):
        return equal
    return equal | host.isclose(a, d, rtol=rtol, atol=rules.atol)


def _nans(x: Any) -> Any:
    """Return where a value is not itself: NaN and NaT, also in arrays of objects, which isnan does not take."""
    host = load_backend("numpy").namespace()
    return host.asarray(operator.ne(x, x), dtype=bool)


def _worst(a: Any, d: Any, wide: tuple[Any, Any], bad: Any) -> str:
    """Return, in words, where the values are farthest apart, and how far."""
    host = load_backend("numpy").namespace()
    if not (_numeric(a) and _numeric(d)):
        index = host.unravel_index(int(host.argmax(bad)), bad.shape)
        return f"\n  first{_spot(index)}: actual {a[index]!r}, desired {d[index]!r}"
    apart, relative = _quietly(_distances, *wide, bad)
    ranked = host.where(bad, host.where(host.isnan(apart), host.inf, apart), -1)
    index = host.unravel_index(int(host.argmax(ranked)), bad.shape)
    ratio = host.max(host.where(host.isnan(relative), host.inf, relative))
    exact = _apart(wide[0][index].item(), wide[1][index].item())
    greatest = f"\n  greatest difference {exact:.6g} absolute, {ratio:.6g} relative"
    return f"{greatest}\n  worst{_spot(index)}: actual {a[index]}, desired {d[index]}"


def _distances(a: Any, d: Any, bad: Any) -> tuple[Any, Any]:
    """Return how far the values are apart, absolutely and relative to those desired."""
    host = load_backend("numpy").namespace()
    x, y = (host.asarray(side, dtype=complex if _kind(side) == "complex" else float) for side in (a, d))
    apart = host.abs(x - y)
    return apart, host.where(bad, apart / host.abs(y), 0)


def _apart(a: Any, d: Any) -> float:
    try:
        return float(abs(a - d))  # of Python's numbers: two large integers are not one float
    except OverflowError:
        return float("inf")


def _spot(index: tuple[Any, ...]) -> str:
    return f" at [{', '.join(str(int(axis)) for axis in index)}]" if index else ""


def _name(array: Any) -> str:
    return load_backend("numpy").describe(array).dtype


def _kind(array: Any) -> str:
    name = _name(array)
    return DTYPES[name].kind if name in DTYPES else ""


def _numeric(array: Any) -> bool:
    return _kind(array) != ""


def _widened(array: Any) -> Any:
    """Return the values in a dtype that NumPy computes in: what arrives from ml_dtypes, and short floats, become wide without loss."""
    kind, name = _kind(array), _name(array)
    if kind in ("float", "complex") and "long" not in name:
        return array.astype({"float": "float64", "complex": "complex128"}[kind])
    if kind in ("int", "uint", "bool") and array.dtype.kind not in "biu":
        return array.astype("int64")
    return array


def _quietly(function: Callable[..., Any], *args: Any, **words: Any) -> Any:
    from interop.backends.numpy.backend import quietly  # on request: importing the kit loads no library

    return quietly(function, *args, **words)
