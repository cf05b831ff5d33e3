"""What is missing in an array: masked elements, and times that are none (NaT)."""

from __future__ import annotations

from typing import Any

import numpy as np

from interop.backends.units import asked, is_unreadable, said
from interop.errors import DTypeError

_Array = np.ndarray[Any, Any]


def is_masked(x: Any) -> bool:
    """Return whether something is masked: by numpy.ma, or by any subclass that has a mask (astropy's).

    A full mask is looked at, as most are that `numpy.ma` makes: ``a / 2`` has one of zeros. One that cannot be read counts.
    """
    # Guards against deviation `numpy-mask-export`.
    if type(x) is np.ndarray or isinstance(x, np.generic) or "mask" in (x.dtype.names or ()):  # a record's field of that name
        return False
    mask = said(x, "mask")
    if mask is None or mask is np.ma.nomask:
        return False
    return is_unreadable(mask) or asked(_any, np.asarray, mask) is not False


def _any(plain: Any, mask: Any) -> bool:
    found = plain(mask)
    if found.dtype.names is not None:  # a flag for each field
        return any(_any(plain, found[name]) for name in found.dtype.names)
    return found.dtype.kind not in "biuf" or bool(found.any())


def cast(x: _Array, dtype: np.dtype[Any], via: np.dtype[Any] | None = None) -> _Array:
    """Return a copy with another dtype, in which a time that is none (NaT) is NaN; DTypeError where the dtype has none.

    For NumPy it is the number -9223372036854775808 (numpy/numpy#26177), or True. `via` is the dtype of a step between.
    """
    if dtype.kind == "b" and _is_text(x):
        hint = "Read the numbers in it first, as in dtype='int64', and cast those; or compare the words with the one that means True."
        raise DTypeError(f"NumPy cannot cast {x.dtype} to {dtype}: it would take every word but an empty one for True.", hint=hint)
    none = _no_times(x)
    if none is None or not none.any():
        return (x if via is None else x.astype(via)).astype(dtype, copy=True)
    if not _has_nan(dtype):
        hint = "Fill in what is missing first, or ask for a dtype that has NaN, as in dtype='float64'."
        raise DTypeError(
            f"NumPy cannot cast {x.dtype} to {dtype}: what is missing in it (NaT, None) is no number, and {dtype} has no NaN.", hint=hint
        )
    made = x.copy() if x.dtype.kind == "O" else x.astype(via or dtype)
    np.ndarray.view(made, np.ndarray)[none] = np.nan
    return made.astype(via or dtype).astype(dtype, copy=False)


def _is_text(x: _Array) -> bool:
    """Return whether an array holds strings: NumPy asks whether they are empty ('0' is True), and reads them for every other dtype."""
    plain = np.ndarray.view(x, np.ndarray)
    return plain.dtype.kind in "SUT" or (plain.dtype.kind == "O" and any(isinstance(one, str | bytes) for one in plain.flat))


def _no_times(x: _Array) -> _Array | None:
    """Return where there is no time; None for an array that holds neither times nor objects."""
    plain = np.ndarray.view(x, np.ndarray)
    if plain.dtype.kind in "mM":
        return np.isnat(plain)
    if plain.dtype.kind != "O":
        return None
    return np.fromiter((_is_no_time(one) for one in plain.flat), bool, plain.size).reshape(plain.shape)


def _is_no_time(x: Any) -> bool:
    if isinstance(x, np.datetime64 | np.timedelta64):
        return bool(np.isnat(x))
    return x is None or type(x).__name__ == "NaTType"  # pandas'


def _has_nan(dtype: np.dtype[Any]) -> bool:
    try:
        return bool(np.isnan(np.array(np.nan).astype(dtype)))
    except (TypeError, ValueError):
        return False
