"""`wrap`: a function of another library inside torch's graph."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from interop.autograd._arguments import Signature, taken
from interop.autograd._border import Border
from interop.autograd._operation import Call, Operation
from interop.backends import name_of_target
from interop.backends._torch_functions import TENSORS, apply, autocast, leave_alone, tracks
from interop.dtypes import dtype_name
from interop.errors import GradError
from interop.policy import FIELDS, check_names, nearest

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from interop.autograd._arguments import Arguments
    from interop.calls import Permissions

__all__ = ["Wrapped", "wrap"]

_VMAP = ("loop", "leading")
_PERMISSIONS = (*(name for name in FIELDS if name != "grad"), "policy")


def wrap(
    forward: Callable[..., Any] | None = None,
    backward: Callable[..., Any] | None = None,
    /,
    *,
    backend: str,
    setup_context: Callable[..., Any] | None = None,
    jvp: Callable[..., Any] | None = None,
    vmap: str = "loop",
    once_differentiable: bool = True,
    cast_inputs: Any = None,
    **permissions: Unpack[Permissions],
) -> Any:
    """Put a function of another library, with its gradient, into torch's graph.

    Parameters
    ----------
    forward : callable
        ``forward(*args)``: it is given arrays of `backend` in the place of tensors, on their memory and read-only where the
        library can say so, and returns arrays (a tuple of them, or trees). All other arguments are handed over as they are.
        If its first parameter is called ``ctx`` it is given the context too, and may keep on it what the rules need.
    backward : callable, optional
        ``backward(ctx, *grads)``: given a gradient for each result, it returns one for each argument, None where there is none
        (a tree for a tree). Without it a backward pass through the function raises `GradError`.
    backend : str
        The library of the function.
    setup_context : callable, optional
        ``setup_context(ctx, inputs, output)``, as in torch: says with ``ctx.save_for_backward`` what the rules need. Without it,
        and without a ``ctx`` in `forward`, the inputs are saved.
    jvp : callable, optional
        ``jvp(ctx, *tangents)``, the rule of forward mode: given a tangent for each argument (None for what has none), it
        returns one for each result.
    vmap : str
        Under `torch.vmap`: ``"loop"`` runs the function once for each slice; ``"leading"`` once for all, if function and
        rules take arrays with one more axis in front (every array has it then).
    once_differentiable : bool
        False says that `backward` is made of wrapped functions and torch's own: it is given tensors, and can be differentiated.
    cast_inputs : dtype, optional
        Inside of `torch.autocast`, tensors of floats (but float64) are cast to this one first, as by `torch.amp.custom_fwd`.
        Without it they arrive in the dtype that they have.
    **permissions
        Of `interop.convert`, for all that crosses, both ways: ``transfer="allow"`` for tensors on a device that the library
        cannot work on; ``casting=`` for dtypes that it lacks, and for gradients in another dtype than their input;
        ``readonly="share"`` hands out writable arrays, and shares results that cannot be written to.

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

    Examples
    --------
    >>> import numpy as np, torch
    >>> from interop.autograd import wrap
    >>> @wrap(backend="numpy")
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
    """
    if forward is None:
        words: dict[str, Any] = {
            "backend": backend,
            "setup_context": setup_context,
            "jvp": jvp,
            "vmap": vmap,
            "once_differentiable": once_differentiable,
        }
        return functools.partial(wrap, **words, cast_inputs=cast_inputs, **permissions)
    if not callable(forward):
        raise TypeError(f"wrap takes a function, got {forward!r}.")
    if vmap not in _VMAP:
        raise ValueError(f"vmap={vmap!r} is not a value{nearest(str(vmap), _VMAP)} Values: {', '.join(map(repr, _VMAP))}.")
    shape = Signature(forward)
    operation = Operation(
        shape.name,
        _border(backend, dict(permissions)),
        forward,
        backward,
        jvp,
        setup_context,
        takes_ctx=shape.takes_ctx,
        once=once_differentiable,
        leading=vmap == "leading",
    )
    return Wrapped(operation, shape, dtype_name(cast_inputs) if cast_inputs is not None else None)


def _border(backend: str, permissions: dict[str, Any]) -> Border:
    check_names(permissions, _PERMISSIONS)
    name = name_of_target(backend)
    if name == "torch":
        raise ValueError(
            "backend='torch' needs no wrapping: torch differentiates its own functions, see torch.autograd.Function for a rule."
        )
    border = Border(name, "its autograd.wrap(...)", permissions)
    border.policy()  # raises for values that there are not
    return border


class Wrapped:
    """A wrapped function; `wrap` makes it.

    Attributes
    ----------
    operation : Operation
        The function and its rules.
    """

    def __init__(self, operation: Operation, shape: Signature, cast_inputs: str | None) -> None:
        self.operation, self._shape, self._cast_inputs = operation, shape, cast_inputs
        functools.update_wrapper(self, operation.forward)

    def __repr__(self) -> str:
        return f"<{self.operation.name} of {self.operation.border.backend}, wrapped for torch>"

    def backward(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Take a function as the backward rule; a decorator."""
        return self._take("backward", rule)

    def jvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Take a function as the rule of forward mode; a decorator."""
        return self._take("jvp", rule)

    def setup_context(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Take a function that says what is saved; a decorator."""
        return self._take("setup_context", rule)

    def _take(self, what: str, rule: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(rule):
            raise TypeError(f"@{self.operation.name}.{what} decorates a function, got {rule!r}.")
        setattr(self.operation, what, rule)
        return rule

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Return the function as a method."""
        if instance is None:
            return self
        forward = self.operation.forward.__get__(instance, owner)
        return Wrapped(replace(self.operation, forward=forward), Signature(forward), self._cast_inputs)

    @leave_alone
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function: in torch's graph if there is a tensor among the arguments."""
        arguments = taken(self._shape, args, kwargs, TENSORS)
        tensors = arguments.tensors
        if not tensors:
            return self.operation.plainly(args, kwargs)
        if arguments.words:
            self._refuse_by_keyword(arguments)
        if self._cast_inputs is not None:
            tensors = autocast(tensors, self._cast_inputs)
        made, trace = apply(Call(self.operation, arguments), tensors)
        return trace.results.filled(made[: len(made) - trace.extras])

    def _refuse_by_keyword(self, arguments: Arguments) -> None:
        """Refuse tensors in keyword-only arguments that would need a gradient: a rule returns none for them."""
        for name, tensor, word in zip(arguments.names(), arguments.tensors, arguments.by_keyword(), strict=True):
            if word and tracks(tensor):
                message = f"{self.operation.name}: {name!r} is given by keyword only, and gradients flow through arguments by position."
                raise GradError(message, hint=f"Pass {name}.detach(), or let the function take it by position.")
