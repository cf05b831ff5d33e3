"""What is known of libraries that have no backend here, and that DLPack does not say: one line for each.

Found by the packages in which a type and its bases are defined, so that nothing is imported and the object is asked nothing.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from interop._model.spelling import module_of
from interop.backends.units import asked, is_unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PRODUCERS", "Facts", "facts_of", "is_tracked"]


def _flag(x: Any, name: str) -> bool | None:
    """Return the truth of an attribute, whatever its class (`numpy.True_`, 1); None if there is none, or if it is something to call."""
    value = getattr(x, name, None)
    return None if value is None or callable(value) else bool(value)


def _says_so(x: Any) -> bool:
    return _flag(x, "requires_grad") is True


def _is_in_a_tape(x: Any) -> bool:
    """Return whether a tape or a forward accumulator of TensorFlow watches it: `tf.custom_gradient` and its own operations ask this."""
    tapes = sys.modules.get("tensorflow.python.pywrap_tfe")
    return tapes is not None and tapes.TFE_Py_TapeSetPossibleGradientTypes([x]) != 0


def _is_drjits(x: Any) -> bool:
    drjit = sys.modules.get("drjit")
    return drjit is not None and bool(drjit.grad_enabled(x))


class Facts(NamedTuple):
    """What is known of the arrays of a library.

    Attributes
    ----------
    readonly : bool or None
        Whether the library holds their memory to be constant; None where that depends on the array, or is not known.
    tracked : callable
        Whether its autograd tracks an array, which DLPack does not say.
    aborting : frozenset of str
        Names of dtypes whose export ends the process.
    """

    readonly: bool | None = None
    tracked: Callable[[Any], bool] = _says_so
    aborting: frozenset[str] = frozenset()


PRODUCERS = {
    "drjit": Facts(readonly=True, tracked=_is_drjits),  # a literal or a computed variable may be shared by others; Dr.Jit copies on write
    "jaxlib": Facts(readonly=True),  # JAX's own exports come here for the host, and are legacy ones
    "mlx": Facts(readonly=True),
    "paddle": Facts(tracked=lambda x: _flag(x, "stop_gradient") is False),
    "tensorflow": Facts(readonly=True, tracked=_is_in_a_tape, aborting=frozenset({"string", "variant", "resource"})),
    "warp": Facts(readonly=False),  # kernels write to them (warp#97)
}
"""By the top-level package. All but Paddle export legacy capsules, which cannot say whether they are read-only (November 2026)."""

_NONE = Facts()


def facts_of(x: Any) -> Facts:
    """Return what is known of the library that an object's class, or a base of it, comes from."""
    packages = (module_of(base).partition(".")[0] for base in type(x).__mro__)
    return next((PRODUCERS[package] for package in packages if package in PRODUCERS), _NONE)


def is_tracked(x: Any) -> bool | None:
    """Return whether the autograd of an object's library tracks it; None where asking raises, or where the answer is neither yes nor no."""
    answer: bool = asked(facts_of(x).tracked, x)
    return None if is_unreadable(answer) else answer
