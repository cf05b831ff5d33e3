"""What is known to be broken in which versions of NumPy.

Imports no NumPy: the doctor also reads this where NumPy itself cannot be imported. A range is open at the end
where the newest release looked at (NumPy 2.5.2, November 2026) still has the issue.
"""

from __future__ import annotations

from interop.backends.base import KnownIssue

__all__ = ["DISTRIBUTIONS", "KNOWN_ISSUES", "findings"]

DISTRIBUTIONS = ("numpy",)
"""The distributions that install this library."""

_ISSUES = "https://github.com/numpy/numpy/issues"

KNOWN_ISSUES: tuple[KnownIssue, ...] = (
    KnownIssue(
        "numpy-legacy-dlpack",
        {"numpy": "<2.1"},
        "NumPy speaks only the DLPack from before 1.0: read-only arrays cannot be exported, and every import is read-only.",
        "pip install --upgrade 'numpy>=2.2.5'.",
        f"{_ISSUES}/20742",
    ),
    KnownIssue(
        "numpy-imports-read-only",
        {"numpy": ">=2.1,<2.2.5"},
        "np.from_dlpack always returns a read-only array, and the flag cannot be set back.",
        "interop does not go through it. Elsewhere: pip install --upgrade 'numpy>=2.2.5'.",
        f"{_ISSUES}/28599",
    ),
    KnownIssue(
        "numpy-no-bfloat16",
        {"numpy": ">=1.22"},
        'np.from_dlpack refuses bfloat16 and the other small floats: "Unsupported dtype in DLTensor" '
        "(as of NumPy 2.5.2; from 2.5.0 on a dtype can be registered, which ml_dtypes 0.6.0 does not do).",
        "interop hands them over as ml_dtypes, on the same memory. Elsewhere: t.view(torch.int16).numpy().view(ml_dtypes.bfloat16).",
        f"{_ISSUES}/31256",
    ),
)
"""Worst first."""


def findings() -> list[str]:
    """Return what is wrong with the NumPy that is installed; what can be is seen from outside (`interop.doctor.examination`)."""
    return []
