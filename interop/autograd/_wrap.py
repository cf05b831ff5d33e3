"""`wrap`: a function of another library inside torch's graph."""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003 - typing.get_type_hints of `wrap` has to find it
from typing import TYPE_CHECKING, Any, overload

from interop._engine.call import Ungraded, spelled_out
from interop._model.dtypes import dtype_name
from interop._model.spelling import no_value
from interop.autograd._arguments import FunctionSignature
from interop.autograd._border import Border
from interop.autograd._keywords import function_or_decorator
from interop.autograd._operation import Operation
from interop.autograd._operators import Operator
from interop.autograd._wrapped import Named, Wrapped
from interop.backends import library_part, load_backend, name_of_target

if TYPE_CHECKING:
    from typing import Unpack

_VMAP = ("loop", "leading")


class _Options(Ungraded, total=False):
    """The keywords of `wrap` besides its rules, for type checkers."""

    setup_context: Callable[..., Any] | None
    jvp: Callable[..., Any] | None
    vmap: str
    once_differentiable: bool
    cast_inputs: Any
    name: str | None
    fake: Callable[..., Any] | None
    schema: str | None


@overload
def wrap(
    forward: Callable[..., Any], backward: Callable[..., Any] | None = None, /, *, runs_on: Any, **options: Unpack[_Options]
) -> Wrapped: ...
@overload
def wrap(*, runs_on: Any, **options: Unpack[_Options]) -> Callable[[Callable[..., Any]], Wrapped]: ...


@function_or_decorator
@spelled_out(Ungraded)
def wrap(
    forward: Any = None,
    backward: Callable[..., Any] | None = None,
    /,
    *,
    runs_on: Any,
    setup_context: Callable[..., Any] | None = None,
    jvp: Callable[..., Any] | None = None,
    vmap: str = "loop",
    once_differentiable: bool = True,
    cast_inputs: Any = None,
    name: str | None = None,
    fake: Callable[..., Any] | None = None,
    schema: str | None = None,
    **permissions: Unpack[Ungraded],
) -> Any:
    """Put a function of another library, with its gradient, into torch's graph.

    Parameters
    ----------
    forward : callable
        ``forward(*args)``: it is given arrays of the library `runs_on` in the place of tensors, on their memory and read-only where
        the library can mark them so, and returns arrays (a tuple of them, or trees). All other arguments are passed as they are.
        If its first parameter is called ``ctx`` it is given the context too, and may store on it what the rules need.
    backward : callable, optional
        ``backward(ctx, *grads)``: given a gradient for each result, it returns one for each argument, None where there is none
        (a tree for a tree). Without it a backward pass through the function raises `GradError`; but a pure function of JAX needs
        no rule: `jax.vjp`, `jax.jvp` and `jax.vmap` make its derivatives, of every order, unless any rule is given.
    runs_on : str or module
        The library that the function is written for: a name (``"numpy"``), or its namespace module.
    setup_context : callable, optional
        ``setup_context(ctx, inputs, output)``, as in torch: saves with ``ctx.save_for_backward`` what the rules need. Without it,
        and without a ``ctx`` in `forward`, the inputs are saved.
    jvp : callable, optional
        ``jvp(ctx, *tangents)``, the rule of forward mode: given a tangent for each argument (None for what is no tensor of
        floats; zeros where none came in, or None after ``ctx.set_materialize_grads(False)``), it returns one for each result.
    vmap : str
        Under `torch.vmap`: ``"loop"`` runs the function once for each slice; ``"leading"`` once for all, if function and
        rules take arrays with one more axis in front (every array has it then).
    once_differentiable : bool
        False: `backward` is made of wrapped functions and torch's own. It is given tensors, and can be differentiated.
    cast_inputs : dtype, optional
        Inside of `torch.autocast`, tensors of floats (but float64) are cast to this one first, as by `torch.amp.custom_fwd`, and
        function and rule run outside of it. Without it they arrive in the dtype that they have.
    name : str, optional
        ``"lib::op"`` makes the function an operator of torch, ``torch.ops.lib.op``, which `torch.compile` and `torch.export`
        take as it is, with its backward pass. Arguments are tensors, lists of them, and numbers; results are tensors.
    fake : callable, optional
        For an operator: what the function returns for tensors without data, as in ``lambda x: torch.empty_like(x)``.
        Only shapes, dtypes and devices count.
    schema : str, optional
        For an operator, as torch writes it: ``"(Tensor x, float a=1.0) -> (Tensor, Tensor)"``. Without it, it is inferred from the
        annotations: what is not annotated as a number is a tensor, and one is returned unless the annotation is ``tuple[...]``.
    copy, policy, transfer, readonly, casting, mask, units, extension, layout : optional
        The permissions of `interop.convert`, for all that crosses, both ways: ``transfer="allow"`` for tensors on a device that the
        library cannot work on; ``casting=`` for dtypes that it lacks, and for gradients in another dtype than their input;
        ``readonly="share"`` makes the arrays writable, and shares results that are read-only.

    Returns
    -------
    Wrapped
        Called with tensors it is a node of torch's graph. Called without, it is the function itself.

    Raises
    ------
    GradError
        In the backward pass: without a rule; for a gradient whose shape is not its input's; differentiated once more.
    DTypeError
        For a gradient in another dtype than its input.
    InteropError
        Where an array cannot cross; the text names it.

    Notes
    -----
    A gradient of a shape that the input's broadcasts to is summed. Complex gradients are in torch's convention (the conjugate
    Wirtinger derivative). What was saved and is changed in place before the backward pass raises torch's own error.

    JAX's derivatives are recomputed from the inputs, and compiled if the function is (`jax.jit`). Arguments that are no tensors
    are constants in them: one that changes with each call is better passed as a tensor. For float64 JAX needs ``jax_enable_x64``.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from interop.autograd import wrap
    >>> @wrap(runs_on="numpy")
    ... def sinc(x):
    ...     return np.sinc(x)
    >>> @sinc.backward
    ... def _(ctx, grad):
    ...     (x,) = ctx.saved_tensors
    ...     return grad * (np.cos(np.pi * x) - np.sinc(x)) / x
    >>> x = torch.tensor([0.5, 1.5], requires_grad=True)
    >>> sinc(x).sum().backward()
    >>> x.grad
    tensor([-1.2732,  0.1415])

    A function of JAX has its rules already:

    >>> import jax.numpy as jnp
    >>> log_cosh = wrap(lambda x: jnp.log(jnp.cosh(x)).sum(), runs_on="jax")
    >>> torch.autograd.functional.hessian(log_cosh, torch.zeros(2))
    tensor([[1., 0.],
            [0., 1.]])
    """
    if isinstance(forward, Wrapped):
        raise TypeError(f"{forward!r} is wrapped already: give it rules with its .backward and .jvp, or wrap the function inside of it.")
    if vmap not in _VMAP:
        raise ValueError(no_value("vmap", vmap, _VMAP))
    signature, library = FunctionSignature(forward), name_of_target(runs_on, "runs_on")
    if library == "torch":
        why = "torch differentiates its own functions, see torch.autograd.Function for a rule."
        raise ValueError(f"runs_on='torch' needs no wrapping: {why}")
    border = Border(library, "its autograd.wrap(...)", dict(permissions))
    border.policy()  # raises for values that no permission has
    operation = Operation(
        signature.name,
        border,
        forward,
        backward,
        jvp,
        setup_context,
        takes_ctx=signature.takes_ctx,
        once=once_differentiable,
        leading=vmap == "leading",
        derivatives=None if signature.takes_ctx else _derivatives(library, forward),
        casts=cast_inputs is not None,
    )
    cast = dtype_name(cast_inputs) if cast_inputs is not None else None
    if name is not None:
        return Named(operation, signature, cast, Operator(operation, signature, name, fake=fake, schema=schema, cast=cast))
    if fake is not None or schema is not None:
        raise TypeError("fake= and schema= are those of an operator: give it a name, as in name='lib::op'.")
    return Wrapped(operation, signature, cast)


def _derivatives(name: str, forward: Callable[..., Any]) -> Any | None:
    """Return what makes the derivatives of a function of a library that differentiates by itself; None if it does not."""
    part = library_part("interop.autograd._{}.derivatives", name)
    return load_backend(name).derivatives(forward) if part is None else part.Derivatives(forward)
