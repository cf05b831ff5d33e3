"""The unit of an array: of NumPy's subclasses, and of wrappers around an array of any library. Imports none of their libraries.

Found by what objects say (`unit`, `units`), so that a class of the user's own is no exception. Where a library spells
something in its own way, it is a row of `_LIBRARIES`, by its top-level package: astropy, unyt, quantities, pint, unxt.
"""

from __future__ import annotations

from inspect import isroutine
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_NONE = frozenset({"", "1", "none", "dimensionless", "(dimensionless)", "unitless"})
_UNREADABLE = object()
_WRAPPERS = (("magnitude", "units"), ("value", "unit"), ("mantissa", "unit"))
"""What a wrapper calls its numbers, and their unit: pint, unxt, saiunit."""


class Unit(NamedTuple):
    """A unit in words, empty if there is none, and the library's own call that gives numbers in one."""

    text: str = ""
    advice: str = ""


class _Library(NamedTuple):
    """What is asked of an array ``x`` in its library's own way.

    Attributes
    ----------
    scaled : callable
        Whether its unit is a mere number (percent, s/h): the stored numbers are not what they mean.
    to_number, in_unit : str
        The calls that give what such an array means, and numbers in a unit.
    unit : callable
        Its unit, where that is neither its `unit` nor its `units`.
    """

    scaled: Callable[[Any], bool]
    to_number: str
    in_unit: str
    unit: Callable[[Any], Any] | None = None


def _is_number(x: Any) -> bool:
    return hasattr(x.unit, "scale") and str(x.unit.physical_type) == "dimensionless"  # a magnitude has no scale, and is no mere number


_LIBRARIES = {
    "astropy": _Library(_is_number, "x.to_value('')", "x.to_value({!r})"),
    "unxt": _Library(_is_number, "x.ustrip('')", "x.ustrip({!r})"),
    "unyt": _Library(lambda x: bool(x.units.is_dimensionless), "x.to_value('dimensionless')", "x.to_value({!r})"),
    "quantities": _Library(
        lambda x: not x.simplified.dimensionality, "x.simplified.magnitude", "x.rescale({!r}).magnitude", lambda x: x.dimensionality
    ),
    "pint": _Library(lambda x: bool(x.dimensionless), "x.m_as('dimensionless')", "x.m_as({!r})"),
}


def unit_of(x: Any) -> Unit:
    """Return the unit of an array; an array whose numbers are what they mean, unscaled, has none."""
    library = next((_LIBRARIES[package] for package in map(_package, type(x).__mro__) if package in _LIBRARIES), None)
    unit = asked(library.unit, x) if library and library.unit else said(x, "unit")
    unit = said(x, "units") if unit is None else unit
    if unit is None or (text := asked(str, unit)) in _NONE:
        return Unit()
    if is_unreadable(unit) or is_unreadable(text):
        return Unit("a kind that cannot be read")
    return Unit(text, _advice(x, text, library))


def _advice(x: Any, text: str, library: _Library | None) -> str:
    if library and asked(library.scaled, x) is True:
        return f"take the numbers that it means, {library.to_number}"
    call = library.in_unit.format(text) if library else ""
    if (
        not call or asked(hasattr, x, call[2:].partition("(")[0].partition(".")[0]) is not True or not text.isascii()
    ):  # a table's column has other calls
        call = next((f"x.{name}" for name in ("magnitude", "value", "quantity") if said(x, name) is not None), "")
    return f"take numbers in a unit that you name, {call}" if call else ""


def advice_for_wrapper(x: Any) -> str:
    """Return what to write for a wrapper around something that is no array, such as one number with a unit; empty for others."""
    attribute = None if hasattr(type(x), "__dataclass_fields__") else wrapper_attribute(type(x))  # records are containers
    if attribute is None:
        return ""
    advice = unit_of(x).advice or f"take what it holds, x.{attribute}"
    return f"{advice[0].upper()}{advice[1:]}, and convert that."


def wrapper_attribute(kind: type) -> str | None:
    """Return the name under which a class keeps the numbers that it gives a unit; None if it is no such wrapper."""
    is_array = any(hasattr(kind, name) for name in ("__array__", "__dlpack__", "__array_namespace__"))
    fields = getattr(kind, "__dataclass_fields__", ()) if is_array else ()  # any other record is a container
    for names in _WRAPPERS:
        if all(name in fields or (hasattr(kind, name) and not isroutine(getattr(kind, name))) for name in names):
            return names[0]
    return None


def said(x: Any, name: str) -> Any:
    """Return an attribute; None if there is none, or if it is a method; something else than all values where it cannot be read."""
    found = asked(getattr, x, name, None)
    return None if isroutine(found) else found


def asked(question: Callable[..., Any], *of: Any) -> Any:
    """Return a foreign object's answer; something else than all values where it raises, whatever that is but no memory and no stack."""
    try:
        return question(*of)
    except (MemoryError, RecursionError):  # not about this object: there is no answer yet
        raise
    except Exception:  # of any class: it is a property of somebody else's, which may read a file
        return _UNREADABLE


def is_unreadable(answer: Any) -> bool:
    """Return whether `asked` or `said` got no answer."""
    return answer is _UNREADABLE


def _package(kind: type) -> str:
    return str(asked(getattr, kind, "__module__", "")).partition(".")[0]  # a metaclass may answer with an error
