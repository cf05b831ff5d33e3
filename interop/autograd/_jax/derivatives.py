"""JAX's derivatives, for torch's graph; and what torch's functions need to have derivatives in JAX.

Derivatives are functions of the saved inputs, recomputed from them (``jax.vjp(f, *inputs)[1](grads)``): JAX holds none
of torch's memory between the passes, and torch notices where a saved tensor was changed. They are pure functions
themselves, with derivatives of their own, to any order.

Gradients of complex arrays are conjugated on both ways: JAX's is the derivative, torch's the direction of ascent
(https://github.com/jax-ml/jax/issues/9110).
"""

from __future__ import annotations

from collections import OrderedDict
from numbers import Number
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

Arrays = list[Any]
_float0 = jax.dtypes.float0
_spec: Any = jax.ShapeDtypeStruct
LIMIT = 256
"""The size of the cache of compiled rules of one function; the least recently used go first."""


class Derivatives:
    """What derives from one function, compiled if it is compiled itself.

    Parameters
    ----------
    forward : callable
        The function as its author wrote it.
    """

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.compiles = hasattr(forward, "lower")
        self._compiled: OrderedDict[Hashable, Any] = OrderedDict()

    def pure(self, function: Callable[..., Arrays], key: tuple[Hashable, ...] | None, others: Sequence[Any]) -> Pure:
        """Return the function of one call, from arrays to a list of arrays.

        Parameters
        ----------
        function : callable
            The function of the arrays alone.
        key : tuple or None
            Tells what of the call is fixed; None if that cannot be compared.
        others : sequence
            What is fixed. Trees of JAX's are not, even where they have a hash: they hold arrays, which may be others
            next time. Numbers may well be.
        """
        fixed = self.compiles and key is not None and all(one is None or jax.tree_util.all_leaves([one]) for one in others)
        changing = any(isinstance(one, Number) and not isinstance(one, bool) for one in others)
        return Pure(self, function, key if fixed else None, changing=changing)

    def compiled(self, key: tuple[Hashable, ...], make: Callable[[], Callable[..., Arrays]], *, changing: bool) -> Callable[..., Arrays]:
        """Return the compiled rule of a key; of one that may change with each call, when it is met for the second time."""
        met = key in self._compiled
        found = self._compiled.pop(key, None)
        if found is None and (met or not changing):
            found = jax.jit(make())
        self._compiled[key] = found
        if len(self._compiled) > LIMIT:
            self._compiled.popitem(last=False)
        return found or make()


class Pure:
    """A pure function of arrays, and what derives from it: each is again a pure function of arrays."""

    def __init__(
        self, home: Derivatives, function: Callable[..., Arrays], key: tuple[Hashable, ...] | None, *, changing: bool, is_rule: bool = False
    ) -> None:
        self._home, self._function, self._key, self._changing, self._is_rule = home, function, key, changing, is_rule

    def __call__(self, *arrays: Any) -> Arrays:
        return self._function(*arrays)

    def vjp(self, needs: tuple[bool, ...], holes: tuple[bool, ...]) -> Pure:
        """Return the function from inputs and gradients to the gradients that are needed; outputs in `holes` have none."""
        return self._derived(("vjp", needs, holes), lambda: _vjp(self._function, needs, holes))

    def jvp(self, moves: tuple[bool, ...]) -> Pure:
        """Return the function from inputs, and tangents of those that move, to the tangents of all outputs that can have one."""
        return self._derived(("jvp", moves), lambda: _jvp(self._function, moves))

    def vmap(self) -> Pure:
        """Return the function for arrays with one more axis in front."""
        return self._derived(("map",), lambda: jax.vmap(self._function), is_rule=self._is_rule)

    def _derived(self, step: tuple[Hashable, ...], make: Callable[[], Callable[..., Arrays]], *, is_rule: bool = True) -> Pure:
        key = None if self._key is None else (*self._key, step)
        # What is no rule has to run in Python each time: its caller looks at the form of its results.
        compiles = key is not None and is_rule
        made = self._home.compiled(key, make, changing=self._changing) if compiles and key else make()
        return Pure(self._home, made, key, changing=self._changing, is_rule=is_rule)


def _vjp(function: Callable[..., Arrays], needs: tuple[bool, ...], holes: tuple[bool, ...]) -> Callable[..., Arrays]:
    def vjp(*arrays: Any) -> Arrays:
        inputs, given = arrays[: len(needs)], iter(arrays[len(needs) :])
        part, primals = _in_part(function, inputs, needs)
        outputs, transpose = jax.vjp(part, *primals)
        incoming = [_no_gradient(output) if hole else jax.numpy.conj(next(given)) for output, hole in zip(outputs, holes, strict=True)]
        return [jax.numpy.conj(grad) for grad in transpose(incoming)]

    return vjp


def _jvp(function: Callable[..., Arrays], moves: tuple[bool, ...]) -> Callable[..., Arrays]:
    def jvp(*arrays: Any) -> Arrays:
        part, primals = _in_part(function, arrays[: len(moves)], moves)
        outputs, tangents = jax.jvp(part, primals, list(arrays[len(moves) :]))
        return [tangent for output, tangent in zip(outputs, tangents, strict=True) if _is_inexact(output)]

    return jvp


def _in_part(function: Callable[..., Arrays], inputs: Sequence[Any], chosen: tuple[bool, ...]) -> tuple[Callable[..., Arrays], Arrays]:
    """Return the function of the chosen inputs only, and those."""

    def part(*some: Any) -> Arrays:
        left = iter(some)
        return function(*(next(left) if choice else one for choice, one in zip(chosen, inputs, strict=True)))

    return part, [one for choice, one in zip(chosen, inputs, strict=True) if choice]


def _is_inexact(x: Any) -> bool:
    return bool(jax.numpy.issubdtype(x.dtype, jax.numpy.inexact))


def _no_gradient(x: Any) -> Any:
    return jax.numpy.zeros_like(x) if _is_inexact(x) else np.zeros(x.shape, _float0)


# The other way: functions of torch within JAX.


def embed(task: Any, arrays: Sequence[Any], vmap_method: str) -> Arrays:
    """Run a task, which works on arrays outside of JAX, where JAX can differentiate, vectorise and compile it.

    A task is defined in `interop.autograd._jax.to_jax`. Where JAX traces, it runs in a callback; otherwise at once, so that its
    errors arrive as they are. A callback makes no arrays of JAX's: that may wait for the very thread that waits for it
    (https://github.com/jax-ml/jax/issues/24255).
    """

    @jax.custom_vjp
    def function(*arrays: Any) -> Arrays:
        if not any(isinstance(one, jax.core.Tracer) for one in arrays):
            return list(task.run(arrays))
        specs = [_spec(shape, dtype) for shape, dtype in task.specs([(one.shape, one.dtype.name) for one in arrays])]
        return list(jax.pure_callback(task.host, specs, *arrays, vmap_method=vmap_method))

    def forward(*arrays: Any) -> tuple[Arrays, tuple[Any, ...]]:
        return function(*arrays), arrays

    def backward(inputs: tuple[Any, ...], cotangents: Arrays) -> tuple[Any, ...]:
        needs, moved = tuple(map(_is_inexact, inputs)), tuple(one.dtype != _float0 for one in cotangents)
        given = [one for one, moves in zip(cotangents, moved, strict=True) if moves]
        grads = iter(embed(task.vjp(needs, moved), [*inputs, *given], vmap_method))
        return tuple(next(grads) if need else np.zeros(one.shape, _float0) for one, need in zip(inputs, needs, strict=True))

    function.defvjp(forward, backward)
    return list(function(*map(jax.numpy.asarray, arrays)))
