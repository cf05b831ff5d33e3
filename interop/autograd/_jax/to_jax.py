"""`to_jax`: a function of torch inside JAX, with its gradient.

What JAX gets is a *task*: it can be run on arrays (``run``), inside of a callback (``host``), and not at all, to see what its
results would be (``specs``); and its gradient is a task again (``vjp``), so that the order of derivatives ends where torch's does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable  # noqa: TC003 - typing.get_type_hints has to find it, and the permissions below
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interop._model.policy import Policy, ReadOnly, TransferRule  # noqa: TC001 - as above
from interop._model.spelling import no_value
from interop.autograd._arguments import Arguments, FunctionSignature, Results, is_tensor, not_an_array
from interop.autograd._border import Border
from interop.autograd._derived import names_of
from interop.autograd._keywords import function_or_decorator
from interop.autograd._torch.gradients import by_itself, copied, specs_of, vjp
from interop.backends import find_backend, is_array, load_backend
from interop.errors import DTypeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interop.autograd._torch.gradients import ArraySpec, Function

# Not "expand_dims": the gradient of what is not batched would come back with an axis of length 1.
_VMAP = ("sequential", "sequential_unrolled", "broadcast_all")
_PLACE = "its autograd.to_jax(...)"


@function_or_decorator
def to_jax(
    function: Any = None,
    /,
    *,
    fake: Callable[..., Any] | None = None,
    vmap_method: str = "sequential",
    readonly: ReadOnly | None = None,
    transfer: TransferRule | None = None,
    policy: Policy | str | None = None,
) -> Any:
    """Put a function of torch, with its gradient, into JAX.

    Parameters
    ----------
    function : callable
        ``function(*args)``: it is given tensors in the place of JAX's and NumPy's arrays, and returns tensors (a tuple of them, or
        trees). All other arguments are passed as they are. NumPy's become JAX's first, by JAX's own rules (without
        ``jax_enable_x64`` 64 bits become 32).
    fake : callable, optional
        Under `jax.jit` and the like the shapes and dtypes of the results have to be known before the function is run. Usually it
        is run once on tensors without data (torch's FakeTensorMode) to see them. `fake` is run so in its place, as in
        `torch.library.register_fake`: for functions that look at values, or leave torch in between.
    vmap_method : str
        Under `jax.vmap`, as in `jax.pure_callback`: ``"sequential"`` and ``"sequential_unrolled"`` run the function for each slice;
        ``"broadcast_all"`` once for all, if it takes tensors with more axes in front (every one has them then).
    readonly, transfer, policy : optional
        As in `interop.convert`. ``readonly="share"`` gives the function tensors on the memory of JAX's arrays, if it never writes
        to its inputs; by default they are copies, since nothing may write to JAX's.

    Returns
    -------
    callable
        A function of JAX, for `jax.jit`, `jax.grad`, `jax.vjp`, `jax.vmap`, `jax.jacrev`.

    Raises
    ------
    NoDataError
        Under `jax.jit`: the function cannot be run on tensors without data.
    DTypeError
        For results in a dtype that JAX lacks; 64 bits without ``jax_enable_x64`` among them.

    Notes
    -----
    Gradients flow to the arrays among the arguments, as often as torch can differentiate the function: ``jacrev(jacrev(f))`` is its
    Hessian. JAX knows its rule for the backward pass only, so `jax.jvp` and what is made of it (`jax.jacfwd`, `jax.hessian`) raise
    JAX's own TypeError. Complex gradients are in JAX's convention.

    **No gradient flows to tensors that the function captures**, the parameters of a module among them, whether they require one or
    not: pass them as arguments, with `torch.func.functional_call`.

    Under `jax.jit` the function runs in a callback on the host, in another thread: its tensors are on the CPU, scopes of `interop.policy`,
    `interop.record` and `interop.guard` do not reach it, and what it raises arrives as JAX's own error with its text.
    As JAX demands, it has to be pure: it may be run more than once, or not at all.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, torch
    >>> from interop.autograd import to_jax
    >>> @to_jax
    ... def smooth(x):
    ...     return torch.nn.functional.softplus(x).sum()
    >>> x = jnp.zeros(2)
    >>> print(jax.jit(smooth)(x), jax.grad(smooth)(x))
    1.3862944 [0.5 0.5]
    """
    if vmap_method not in _VMAP:
        raise ValueError(no_value("vmap_method", vmap_method, _VMAP))
    load_backend("jax")  # with interop's error where it is not installed
    from interop.autograd._jax.derivatives import embed

    signature = FunctionSignature(function)
    permissions = {"readonly": readonly, "transfer": transfer, "policy": policy}
    alone = permissions | {"readonly": "share"}  # of results that were copied: nobody else refers to them
    borders = _Borders(
        Border("jax", _PLACE, permissions), Border("jax", _PLACE, alone), Border("numpy", _PLACE, permissions), signature.name
    )
    borders.jax.policy()  # raises for values that there are not

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        arguments = Arguments(signature, args, kwargs, _is_input)
        arrays = arguments.tensors
        form = _FlatFunction(function, fake, arguments.emptied(), signature.name)
        made = embed(_HostTask(borders, form, form.unreal, form.arguments.names, form.names), arrays, vmap_method)
        return form.results.filled(made)

    return call


@dataclass(frozen=True)
class _Borders:
    """The borders of a function: JAX's, for its arguments and its results, and NumPy's inside of a callback."""

    jax: Border
    results: Border
    numpy: Border
    name: str


class _FlatFunction:
    """The function of a call, from flat tensors to flat tensors; it remembers the form of the results, and holds no array."""

    results: Results

    def __init__(self, function: Callable[..., Any], fake: Callable[..., Any] | None, arguments: Arguments, name: str) -> None:
        self.function, self.fake, self.arguments, self.name = function, fake, arguments, name

    def __call__(self, *tensors: Any) -> list[Any]:
        return self._of(self.function, tensors)

    def unreal(self, specs: Sequence[ArraySpec]) -> list[ArraySpec]:
        """Return what the results would be."""
        return specs_of(lambda *tensors: self._of(self.fake or self.function, tensors), specs, f"{self.name}(...)")

    def names(self) -> list[str]:
        return self.results.names()

    def _of(self, function: Callable[..., Any], tensors: Sequence[Any]) -> list[Any]:
        args, kwargs = self.arguments.filled(tensors)
        results = Results(function(*args, **kwargs), self.name)
        made, results.arrays = results.arrays, []
        for one in made:
            if not is_tensor(one):
                raise not_an_array(one, self.name, "tensors")
        self.results = results
        return made


@dataclass(frozen=True)
class _HostTask:
    """A function of flat tensors, as JAX gets it."""

    borders: _Borders
    function: Function
    unreal: Callable[[Sequence[ArraySpec]], list[ArraySpec]]
    incoming: Callable[[], list[str]]
    outgoing: Callable[[], list[str]]

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """Return the results as arrays of JAX's, on memory of their own: torch may still write to what the function returned."""
        return self.borders.results.to_arrays(list(map(copied, self._tensors(arrays))), self._text(), self.outgoing)

    def host(self, *arrays: Any) -> list[Any]:
        """Return the results as NumPy arrays."""
        return self.borders.numpy.to_arrays(self._tensors(arrays), self._text(), self.outgoing)

    def specs(self, specs: Sequence[ArraySpec]) -> list[ArraySpec]:
        """Return what the results would be."""
        found = self.unreal(specs)
        known = load_backend("jax").capabilities
        for _, dtype in found:
            if dtype not in known.dtypes:
                why = known.why_lacking.get(dtype, "it has no such dtype")
                hint = "Let the function return another one, as in result.float()."
                raise DTypeError(f"{self._text()} returns {dtype}, which JAX does not have here: {why}.", hint=hint)
        return found

    def vjp(self, needs: tuple[bool, ...], moved: tuple[bool, ...]) -> _HostTask:
        """Return the gradient, as a task."""

        def unreal(specs: Sequence[ArraySpec]) -> list[ArraySpec]:
            return [spec for spec, need in zip(specs[: len(needs)], needs, strict=True) if need]

        def incoming() -> list[str]:
            return [*self.incoming(), *names_of("the gradient of", self.outgoing, moved)]

        gradient = vjp(self.function, needs, moved, self._text())
        return _HostTask(self.borders, gradient, unreal, incoming, lambda: names_of("the gradient of", self.incoming, needs))

    def _tensors(self, arrays: Sequence[Any]) -> list[Any]:
        with by_itself():
            return self.function(*self.borders.jax.to_saved_tensors(list(arrays), None, self._text(), self.incoming))

    def _text(self) -> str:
        return f"{self.borders.name}(...)"


def _is_input(leaf: Any) -> bool:
    return is_array(leaf) and find_backend(leaf).name in ("jax", "numpy")
