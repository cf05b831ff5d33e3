"""Test code on every array library, device and state that is installed: a pytest plugin, and assertions for any test runner.

A test takes the fixture::

    def test_it_centres_its_columns(xp):  # runs on numpy, numpy:readonly, torch, torch:grad, jax, ...
        x = xp.asarray(REFERENCE)
        with assert_source_untouched(x), assert_no_crossings():
            y = centre(x)
        assert_close(y, xp.asarray(REFERENCE - REFERENCE.mean(axis=0)))

The `xp` fixture comes from `interop.testing.plugin`, the only module here that imports pytest. Without pytest
the same rows are at hand:

>>> from interop.testing import RowNamespace, assert_equal, list_rows
>>> for row in list_rows(["numpy", "torch"], devices=["cpu"]):
...     xp = RowNamespace(row)
...     assert_equal(xp.sum(xp.ones(3), axis=0), 3.0)
"""

from interop.testing._values import default_rtol
from interop.testing.assertions import assert_close, assert_equal
from interop.testing.crossings import assert_no_crossings
from interop.testing.gradients import gradcheck
from interop.testing.memory import assert_copied, assert_shares_memory, assert_source_untouched
from interop.testing.namespace import RowNamespace
from interop.testing.rows import Row, list_rows

__all__ = [
    "Row",
    "RowNamespace",
    "assert_close",
    "assert_copied",
    "assert_equal",
    "assert_no_crossings",
    "assert_shares_memory",
    "assert_source_untouched",
    "default_rtol",
    "gradcheck",
    "list_rows",
]


def __dir__() -> list[str]:
    return sorted(__all__)
