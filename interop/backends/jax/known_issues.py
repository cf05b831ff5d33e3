"""What is known to be broken in which versions of JAX.

Imports no JAX: the doctor also reads this where JAX itself cannot be imported. Every entry was tried on JAX 0.4.38 to
0.12.0; a range is open at the end where the newest of them still has the issue.
"""

from __future__ import annotations

from interop.backends.base import KnownIssue

__all__ = ["DISTRIBUTIONS", "KNOWN_ISSUES", "findings"]

DISTRIBUTIONS = ("jax",)
"""The distributions that install this library."""

_ISSUES = "https://github.com/jax-ml/jax/issues"

KNOWN_ISSUES: tuple[KnownIssue, ...] = (
    KnownIssue(
        "jax-transposed-wrong-values",
        {"jax": ">=0.6.1,<0.7.2"},
        "jax.dlpack.from_dlpack of a transposed array (a.T, Fortran order) gives wrong values, without an error.",
        "pip install --upgrade 'jax>=0.8'. Until then: np.ascontiguousarray(a) before the handoff.",
        f"{_ISSUES}/17784",
    ),
    KnownIssue(
        "jax-copy-comes-late",
        {"jax": ">=0.4.38,!=0.7.2"},
        "jnp.array(a, copy=True) of a NumPy array may return before it has read it, so that what is written to it next arrives in the copy "
        "(as of JAX 0.12.0).",
        "interop copies with NumPy, or waits. Elsewhere: jnp.array(a.copy()), or .block_until_ready() before a is written to.",
        "https://github.com/NVIDIA/DALI/issues/5617",
    ),
    KnownIssue(
        "jax-device-put-aliases",
        {"jax": ">=0.4.38"},
        "jax.device_put(a, may_alias=False) of a NumPy array shares its memory all the same (as of JAX 0.12.0).",
        "interop does not go through it. Elsewhere: jax.device_put(a.copy()).",
        f"{_ISSUES}/37830",
    ),
    KnownIssue(
        "jax-x64-narrowing",
        {"jax": ">=0.4.38"},
        "With jax_enable_x64 off, which is the default, 64-bit NumPy arrays become 32-bit ones; integers wrap around silently "
        "(as of JAX 0.12.0).",
        "interop asks for casting='same_kind' first. Elsewhere: jax.config.update('jax_enable_x64', True).",
        f"{_ISSUES}/18385",
    ),
    KnownIssue(
        "jax-legacy-export",
        {"jax": "<0.12"},
        "JAX exports only the DLPack from before 1.0, which cannot say read-only: a write to torch.from_dlpack(x) changes the immutable x.",
        "interop copies for libraries without read-only arrays, unless readonly='share'. Elsewhere: never write to the tensor.",
        f"{_ISSUES}/19123",
    ),
    KnownIssue(
        "jax-copy-false-copies",
        {"jax": "<0.8.1"},
        "jax.dlpack.from_dlpack(a, copy=False) copies memory that is not aligned to 64 bytes, where the standard says BufferError.",
        "interop looks at the address first. Elsewhere: pip install --upgrade jax.",
        f"{_ISSUES}/29810",
    ),
    KnownIssue(
        "jax-read-only-refused",
        {"jax": "<0.12"},
        "jax.dlpack.from_dlpack refuses read-only NumPy arrays: BufferError.",
        "interop shares them, and JAX writes to none of its arrays. Elsewhere: jnp.asarray(a), or JAX 0.12 or newer.",
        f"{_ISSUES}/40789",
    ),
)
"""Worst first: silently wrong values, then aliases, then loud errors."""


def findings() -> list[str]:
    """Return what is wrong with the JAX that is installed; what can be is seen from outside (`interop.doctor.examination`)."""
    return []
