"""`assert_close` and `assert_equal`: values, dtype, shape, device and library, of arrays and of whole trees.

An array that arrives from another library or device than it should is a finding like a wrong value: nothing is moved
silently to make a comparison possible. Everything that differs is reported at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interop._model.spelling import type_name
from interop.backends import is_array
from interop.testing._values import Finding, Rules, Side, compare

if TYPE_CHECKING:
    from interop._trees.structure import FlatTree

__all__ = ["assert_close", "assert_equal"]


def assert_close(
    actual: Any,
    desired: Any,
    *,
    rtol: float | None = None,
    atol: float = 0.0,
    equal_nan: bool = True,
    check_library: bool = True,
    check_dtype: bool = True,
    check_shape: bool = True,
    check_device: bool = True,
) -> None:
    """Raise AssertionError unless two arrays, or trees of them, agree: ``|actual - desired| <= atol + rtol * |desired|``.

    Tracked by autograd or not, read-only or not, on any device, pending conjugations, bfloat16 and float8: all are taken, and none
    is touched. Those are no differences either; library, dtype, shape and device are.

    Parameters
    ----------
    actual, desired : array, number, or tree of them
        Trees (dicts, lists, dataclasses, ...) must have the same structure. A Python number has a value and the shape ``()``;
        its library, dtype and device are not compared. Other leaves (strings, ...) must be equal.
    rtol : float, optional
        Default: by the coarser dtype of the two: ``4 * sqrt(eps)`` from float32 on, two units in the last place for shorter floats
        (see `default_rtol`), 0 for integers and booleans.
    atol : float
        Absolute tolerance.
    equal_nan : bool
        Whether two NaNs agree.
    check_library, check_dtype, check_shape, check_device : bool
        What is compared besides the values. Without `check_shape` the two are broadcast against each other.

    Raises
    ------
    AssertionError
        It names everything that differs, and of the values how many, how far and where the worst is.
    InteropError
        If an array has no values that could be compared: masked (`MaskError`), meta, fake or traced (`NoDataError`),
        sparse (`LayoutError`).

    Examples
    --------
    >>> import numpy as np, torch
    >>> assert_close(torch.ones(2, requires_grad=True), torch.ones(2))
    >>> assert_close(np.ones(2), np.asarray([1.0, 1.5]))
    Traceback (most recent call last):
    ...
    AssertionError: assert_close: actual and desired differ in 1 of 2 values
      values: 1 of 2 elements, by more than 0 + 5.96e-08 * |desired|
        greatest difference 0.5 absolute, 0.333333 relative
        worst at [1]: actual 1.0, desired 1.5
      actual: numpy.ndarray float64[2] on cpu
      desired: numpy.ndarray float64[2] on cpu
    """
    __tracebackhide__ = True
    checks = {"library": check_library, "dtype": check_dtype, "shape": check_shape, "device": check_device}
    if not atol >= 0 or (rtol is not None and not rtol >= 0):
        raise ValueError(f"a tolerance is not negative, got rtol={rtol!r}, atol={atol!r}")
    _check("assert_close", actual, desired, Rules(rtol, atol, equal_nan, checks))


def assert_equal(
    actual: Any,
    desired: Any,
    *,
    equal_nan: bool = True,
    check_library: bool = True,
    check_dtype: bool = True,
    check_shape: bool = True,
    check_device: bool = True,
) -> None:
    """Raise AssertionError unless two arrays, or trees of them, have the same values; otherwise like `assert_close`.

    Zeros are equal whatever their sign. A Python number is rounded to the other side's float dtype, as arithmetic with it would.

    Examples
    --------
    >>> import numpy as np
    >>> assert_equal({"n": np.arange(3)}, {"n": np.arange(3)})
    >>> assert_equal({"n": np.arange(3)}, {"n": np.arange(3, dtype="int32")})
    Traceback (most recent call last):
    ...
    AssertionError: assert_equal: actual and desired differ at 1 of 1 leaves
    at actual['n'], in dtype
      dtype: actual int64, desired int32 (check_dtype=False leaves this out)
      actual: numpy.ndarray int64[3] on cpu
      desired: numpy.ndarray int32[3] on cpu
    """
    __tracebackhide__ = True
    checks = {"library": check_library, "dtype": check_dtype, "shape": check_shape, "device": check_device}
    _check("assert_equal", actual, desired, Rules(0.0, 0.0, equal_nan, checks))


def _check(verb: str, actual: Any, desired: Any, rules: Rules) -> None:
    __tracebackhide__ = True
    if actual is None and desired is None:
        raise TypeError(f"{verb}: actual and desired are None, so there is nothing to compare.")
    from interop._trees.structure import flatten  # on request: it loads optree

    left, right = flatten(actual, once=False), flatten(desired, once=False)
    if _structure(left) != _structure(right):
        raise AssertionError(_different_structures(verb, actual, desired, left, right))
    paths, pairs = list(left.paths("actual")), zip(left.leaves, right.leaves, strict=True)
    reports = [report for path, (a, d) in zip(paths, pairs, strict=True) if (report := _Leaf(path, a, d).report(rules))]
    if reports and paths == ["actual"]:
        raise AssertionError(f"{verb}: actual and desired differ {reports[0].partition(', ')[2]}")
    if reports:
        raise AssertionError("\n".join([f"{verb}: actual and desired differ at {len(reports)} of {len(paths)} leaves", *reports]))


class _Leaf:
    """Two leaves at the same place."""

    def __init__(self, path: str, actual: Any, desired: Any) -> None:
        self.path, self.actual, self.desired = path, actual, desired

    def report(self, rules: Rules) -> str:
        """Return what differs; empty if nothing does."""
        found, sides = self._compared(rules)
        if not found:
            return ""
        lines = [line for finding in found for line in finding.text.splitlines()]
        return "\n  ".join([f"at {self.path}, in {_listed([finding.what for finding in found])}", *lines, *sides])

    def _compared(self, rules: Rules) -> tuple[list[Finding], list[str]]:
        if not (_has_values(self.actual) and _has_values(self.desired)):
            return self._others(), []
        sides = Side(self.path, self.actual), Side("desired" + self.path.removeprefix("actual"), self.desired)
        lines = [f"{word}: {side.in_words()}" for word, side in zip(("actual", "desired"), sides, strict=True)]
        return compare(*sides, rules), lines

    def _others(self) -> list[Finding]:
        if not (_has_values(self.actual) or _has_values(self.desired)) and bool(self.actual == self.desired):
            return []
        return [
            Finding(
                "kind" if type(self.actual) is not type(self.desired) else "value",
                f"actual {_in_words(self.actual)}, desired {_in_words(self.desired)}",
            )
        ]


def _has_values(x: Any) -> bool:
    return isinstance(x, bool | int | float | complex) or is_array(x)


def _in_words(x: Any) -> str:
    return f"is a {type_name(x)}" if is_array(x) else f"is {x!r}"


def _listed(words: list[str]) -> str:
    return " and ".join([part for part in (", ".join(words[:-1]), words[-1]) if part])


def _structure(node: FlatTree) -> Any:
    """Return what two trees have in common if they are built alike, to be compared with ``==``."""
    inner = {}
    for position, opened in node.containers.items():
        parts = [_structure(opened.subtrees[at]) if at in opened.subtrees else None for at in range(len(opened.children or ()))]
        inner[position] = (type(opened.container), opened.entries(), parts)
    return node.treespec, inner


def _different_structures(verb: str, actual: Any, desired: Any, left: FlatTree, right: FlatTree) -> str:
    lines = [f"{verb}: the two are built differently: actual is {_whole(actual)}, desired is {_whole(desired)}"]
    both = [list(node.paths("")) for node in (left, right)]
    for word, own, other in (("actual", *both), ("desired", *both[::-1])):
        only = [path for path in own if path and path not in other]
        if only:
            lines.append(f"only in {word}: {', '.join(only[:10])}{', ...' if len(only) > 10 else ''}")
    if is_array(actual) and isinstance(desired, list | tuple):
        lines.append("A list or a tuple is a tree here. Make an array of it first: xp.asarray(desired)")
    return "\n  ".join(lines)


def _whole(x: Any) -> str:
    return "None" if x is None else f"a {type_name(x)}"
