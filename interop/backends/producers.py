"""What is known of libraries that have no backend here, and that DLPack does not say: one line for each.

Found by the packages in which a type and its bases are defined, so that nothing is imported and the object is asked nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["PRODUCERS", "Facts", "facts_of"]


class Facts(NamedTuple):
    """What is known of the arrays of a library.

    Attributes
    ----------
    readonly : bool or None
        Whether the library holds their memory to be constant; None where that depends on the array, or is not known.
    """

    readonly: bool | None = None


PRODUCERS = {
    "drjit": Facts(readonly=True),  # a literal or a computed variable may be shared by others; Dr.Jit copies on write
    "jaxlib": Facts(readonly=True),  # JAX's own exports come here for the host, and are legacy ones
    "mlx": Facts(readonly=True),
    "tensorflow": Facts(readonly=True),
    "warp": Facts(readonly=False),  # kernels write to them (warp#97)
}
"""By the top-level package. All of them export legacy capsules, which cannot say it (November 2026)."""

_NONE = Facts()


def facts_of(x: Any) -> Facts:
    """Return what is known of the library that an object's class, or a base of it, comes from."""
    packages = (str(base.__module__).partition(".")[0] for base in type(x).__mro__)
    return next((PRODUCERS[package] for package in packages if package in PRODUCERS), _NONE)
