"""The types of a function with ``grad="bridge"``: parameters, results, rules and methods stay; misuse is an error.

Checked as `plain` is.
"""

from typing import Any, Protocol, assert_type

import numpy as np
import numpy.typing as npt

from interop import neutral
from interop.autograd import Context

Array = npt.NDArray[np.float64]


@neutral(runs_on="numpy", grad="bridge", to="torch", casting="safe")
def f(x: Array, *, k: int = 2) -> Array:
    return x


@f.backward
def rule(ctx: Context, grad: Array) -> Array:
    return grad


class M:
    @neutral(runs_on="numpy", grad="bridge")
    def m(self, x: Array, k: int = 2) -> str:
        return ""

    @m.jvp
    def _(ctx: Any, tangent: Array) -> Array:
        return tangent


class Rule(Protocol):
    def __call__(self, ctx: Context, grad: Array) -> Array: ...


assert_type(f(np.ones(2), k=3), Array)
assert_type(M().m(np.ones(2), 3), str)
kept: Rule = rule

f("x")  # type: ignore[arg-type]
M().m(np.ones(2), "k")  # type: ignore[arg-type]
missing = f.backwards  # type: ignore[attr-defined]
neutral(grad="bridge")  # type: ignore[call-overload]
neutral(runs_on="numpy", grad="brigde")  # type: ignore[call-overload]
neutral(runs_on="numpy", grad="bridge", casting="save")  # type: ignore[call-overload]
