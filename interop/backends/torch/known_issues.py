"""What is known to be broken in which versions of torch, and what `interop doctor` asks a torch that is installed.

Imports no torch at its top: the doctor also reads this where torch itself cannot be imported. A range is open at
the end where the newest release looked at (torch 2.15.0, November 2026) still has the issue. A pair's issues
stand with the less common library: torch with CuPy is in `interop.backends.cupy.known_issues`.
"""

from __future__ import annotations

from interop.backends.base import KnownIssue

__all__ = ["DISTRIBUTIONS", "KNOWN_ISSUES", "findings"]

DISTRIBUTIONS = ("torch",)
"""The distributions that install this library."""

_ISSUES = "https://github.com/pytorch/pytorch/issues"

KNOWN_ISSUES: tuple[KnownIssue, ...] = (
    KnownIssue(
        "torch-negative-strides-abort",
        {"torch": "<2.14"},
        "torch.from_dlpack of an array with a negative stride (a[::-1], np.rot90, BGR to RGB) aborts the process.",
        "interop copies such arrays first. Elsewhere: np.ascontiguousarray(a) before the handoff, or torch 2.14 or newer.",
        f"{_ISSUES}/188023",
    ),
    KnownIssue(
        "torch-negative-bit-lost",
        {"torch": ">=2"},
        "A tensor with the negative bit (z.conj().imag) leaves through DLPack with the wrong sign, without an error (as of torch 2.15.0).",
        "interop resolves it first. Elsewhere: t.resolve_neg() before the handoff.",
        f"{_ISSUES}/145000",
    ),
    KnownIssue(
        "torch-read-only-ignored",
        {"torch": ">=2.9"},
        "torch.from_dlpack of read-only memory gives a writable tensor silently (as of torch 2.15.0).",
        "interop copies read-only memory unless readonly='share'. Elsewhere: a.copy(), or never write to the tensor.",
        f"{_ISSUES}/5442",
    ),
    KnownIssue(
        "torch-byte-offset-ignored",
        {"torch": "<2.10"},
        "torch.from_dlpack ignores byte_offset, so producers that use it (not NumPy, not CuPy) arrive with wrong elements.",
        "On the host interop reads the capsule itself. Elsewhere: copy at the producer, or torch 2.10 or newer.",
        f"{_ISSUES}/170432",
    ),
    KnownIssue(
        "torch-refused-export-leaks",
        {"torch": "<2.11"},
        "A DLPack export that raises keeps the tensor's memory for good (float8 before torch 2.10, other refused dtypes before 2.11).",
        "interop looks at the dtype before it exports. Elsewhere: do the same instead of trying and catching, or torch 2.11 or newer.",
        f"{_ISSUES}/171820",
    ),
    KnownIssue(
        "torch-no-stream-no-order",
        {"torch": ">=2.10"},
        "t.__dlpack__() without stream= does not order the consumer after torch's work on the GPU (as of torch 2.15.0).",
        "interop always passes the consumer's stream. Elsewhere: do the same.",
        "https://github.com/data-apis/array-api/issues/974",
    ),
    KnownIssue(
        "torch-no-stream-breaks-capture",
        {"torch": ">=2.9,<2.10"},
        "t.__dlpack__() without stream= makes torch's default stream wait, which breaks the capture of a CUDA graph.",
        "interop always passes the consumer's stream. Elsewhere: do the same, or torch 2.10 or newer.",
        f"{_ISSUES}/163242",
    ),
    KnownIssue(
        "torch-no-stream-unordered",
        {"torch": "<2.9"},
        "t.__dlpack__() without stream= does not order the consumer after torch's work on the GPU.",
        "interop always passes the consumer's stream. Elsewhere: do the same.",
        f"{_ISSUES}/150217",
    ),
    KnownIssue(
        "torch-numpy-2",
        {"torch": "<2.3", "numpy": ">=2"},
        "t.numpy() and torch.from_numpy raise 'RuntimeError: Numpy is not available': this torch was built for NumPy 1.",
        "pip install --upgrade torch (2.3 or newer), or pip install 'numpy<2'.",
        f"{_ISSUES}/132179",
    ),
    KnownIssue(
        "torch-other-gpu",
        {"torch": ">=2.9"},
        "With several GPUs, exporting a tensor of one that is not current is refused: "
        '"Can\'t export tensors on a different CUDA device index" (as of torch 2.15.0).',
        "interop makes the tensor's device current. Elsewhere: with torch.cuda.device(t.device): around the export.",
        f"{_ISSUES}/195721",
    ),
    KnownIssue(
        "torch-pinned-managed-refused",
        {"torch": ">=2.8"},
        'torch.from_dlpack refuses pinned and managed memory of others: "Unsupported device_type" (as of torch 2.15.0).',
        "Pinned: go through NumPy. Managed: torch.as_tensor(x, device='cuda').",
        f"{_ISSUES}/96318",
    ),
    KnownIssue(
        "torch-copy-false-error",
        {"torch": ">=2.9"},
        "t.__dlpack__(copy=False) that would need a copy raises ValueError, where the standard says BufferError (as of torch 2.15.0).",
        "interop's errors are both. Elsewhere: catch both.",
        f"{_ISSUES}/194267",
    ),
    KnownIssue(
        "torch-scikit-learn-abort",
        {"torch": "<2.14", "scikit-learn": ">=0"},
        "scikit-learn's Array API dispatch may hand an array with a negative stride to torch, which then aborts the process.",
        "Upgrade either: torch 2.14 or newer, or a scikit-learn that has the fix.",
        "https://github.com/scikit-learn/scikit-learn/issues/34307",
    ),
)
"""Worst first: aborts and silently wrong data, then leaks, then loud errors."""


def findings() -> list[str]:
    """Return what is wrong with the torch that is installed, in sentences; it has been imported without an error."""
    import torch

    try:
        torch.from_numpy(torch.zeros(1).numpy())
    except RuntimeError as error:
        # "Numpy is not available": torch was built for another major version of NumPy, or NumPy came later.
        repair = "Run pip install --upgrade torch; where torch has to stay as it is, pip install 'numpy<2'"
        return [f"torch and NumPy do not work together: {error}. {repair} ({_ISSUES}/132179)."]
    return []
