"""What `neutral` keeps of a function's type: parameters, names, defaults and the result; misuse is an error.

mypy checks it with the rest (``make typing``), and nobody runs it. Each ``type: ignore`` is a misuse: with one that were allowed,
the comment would be unused, which ``strict`` reports.
"""

from typing import Protocol, assert_type

import numpy as np
import numpy.typing as npt

from interop import neutral

Array = npt.NDArray[np.float64]


@neutral
def one(x: Array, k: int = 2) -> float:
    return 2.0


@neutral(runs_on="numpy", grad="detach")
def two(x: Array, *, k: int = 2) -> str:
    return ""


class One(Protocol):
    def __call__(self, x: Array, k: int = 2) -> float: ...


class Two(Protocol):
    def __call__(self, x: Array, *, k: int = 2) -> str: ...


kept_one: One = one
kept_two: Two = two
assert_type(one(np.ones(2), k=3), float)
assert_type(two(np.ones(2)), str)

one("x", 3)  # type: ignore[arg-type]
one(np.ones(2), q=3)  # type: ignore[call-arg]
two(np.ones(2), 3)  # type: ignore[call-arg]
neutral(runs_on="numpy", grad="detatch")  # type: ignore[call-overload]
