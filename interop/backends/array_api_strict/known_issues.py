"""What is known to be broken in which versions of array-api-strict.

Imports no array-api-strict: the doctor also reads this where array-api-strict itself cannot be imported. Both entries were
tried on 2.1.3 to 2.6.1; a range is open at the end where the newest of them still has the issue.
"""

from __future__ import annotations

from interop.backends.base import KnownIssue

__all__ = ["DISTRIBUTIONS", "KNOWN_ISSUES", "findings"]

DISTRIBUTIONS = ("array-api-strict",)
"""The distributions that install this library."""

_ISSUES = "https://github.com/data-apis/array-api-strict/issues"

KNOWN_ISSUES: tuple[KnownIssue, ...] = (
    KnownIssue(
        "array-api-strict-devices-shared",
        {"array-api-strict": ">=2.1"},
        "Arrays on device1 and the like leave through DLPack as host memory, which is shared: a crossing that a test is to catch is not "
        "seen (as of array-api-strict 2.6.1).",
        "interop refuses the crossing, unless transfer='allow'. Elsewhere: look at x.device first.",
        f"{_ISSUES}/233",
    ),
    KnownIssue(
        "array-api-strict-dlpack-device",
        {"array-api-strict": "<2.3"},
        "array_api_strict.from_dlpack gives arrays on a device of their own, which no other array can be combined with.",
        "interop does not go through it. Elsewhere: array_api_strict.asarray(np.from_dlpack(x)), or 2.3 or newer.",
        f"{_ISSUES}/99",
    ),
)
"""Worst first."""


def findings() -> list[str]:
    """Return what is wrong with the array-api-strict that is installed; what can be is seen from outside (`interop.doctor.examination`)."""
    return []
