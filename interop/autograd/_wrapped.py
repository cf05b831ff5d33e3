"""Wrapped functions: what `interop.autograd.wrap` makes, and how they are called."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from interop.autograd._arguments import Arguments, FunctionSignature, taken
from interop.autograd._fast_path import FastTask
from interop.autograd._torch.functions import TENSORS, apply
from interop.autograd._torch.operators import holds_tensor, is_transformed
from interop.backends.torch.modes import autocast, leave_alone, transforms
from interop.backends.torch.tracking import rules_for
from interop.errors import GradError

if TYPE_CHECKING:
    from collections.abc import Callable

    from interop.autograd._operation import Operation
    from interop.autograd._operators import Operator

F = TypeVar("F", bound="Callable[..., Any]")


class Wrapped:
    """A wrapped function; `wrap` makes it.

    Attributes
    ----------
    operation : Operation
        The function and its rules.
    """

    def __init__(self, operation: Operation, signature: FunctionSignature, cast_inputs: str | None) -> None:
        self.operation, self._signature, self._cast_inputs = operation, signature, cast_inputs
        self._tasks: dict[int, FastTask] = {}
        simple = operation.once and not operation.takes_ctx and operation.derivatives is None and operation.border.tables() is not None
        self._has_fast_path = simple and cast_inputs is None
        functools.update_wrapper(self, operation.forward, updated=())  # not its attributes: they are not ours
        self.__signature__ = signature.signature
        self._owner: Any = None  # of a method

    def __repr__(self) -> str:
        return f"<{self.operation.name} of {self.operation.border.library}, wrapped for torch>"

    def __reduce__(self) -> Any:
        """Pickle and copy as a function: by its name, and to itself; a method to that of a copied object."""
        if self._owner is not None:
            return getattr, (self._owner, vars(self)["__name__"])
        return str(vars(self).get("__qualname__", self.operation.name))

    def backward(self, rule: F) -> F:
        """Take a function as the backward rule; a decorator."""
        return self._take("backward", rule)

    def jvp(self, rule: F) -> F:
        """Take a function as the rule of forward mode; a decorator."""
        return self._take("jvp", rule)

    def setup_context(self, rule: F) -> F:
        """Take a function that saves what the rules need; a decorator."""
        return self._take("setup_context", rule)

    def _take(self, what: str, rule: F) -> F:
        if not callable(rule):
            raise TypeError(f"@{self.operation.name}.{what} decorates a function, got {rule!r}.")
        setattr(self.operation, what, rule)
        return rule

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Return the function as a method."""
        if instance is None or not hasattr(self.operation.forward, "__get__"):
            return self  # what is written in C is no method, nor is it in a class without this
        forward = self.operation.forward.__get__(instance, owner)
        signature = FunctionSignature(forward)
        derivatives = None if signature.takes_ctx else self.operation.derivatives
        bound = replace(self.operation, forward=forward, takes_ctx=signature.takes_ctx, derivatives=derivatives)
        method = Wrapped(bound, signature, self._cast_inputs)
        method._owner = instance
        return method

    @leave_alone
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function: in torch's graph if there is a tensor among the arguments."""
        if not kwargs and args and TENSORS.issuperset(map(id, map(type, args))) and (task := self._fast_task(len(args))) is not None:
            return task(args)
        arguments = taken(self._signature, args, kwargs, TENSORS)
        tensors = arguments.tensors
        if not tensors:
            return self.operation.run_eagerly(args, kwargs)
        if arguments.words and not self.operation.derives:
            self._refuse_by_keyword(arguments)
        if self._cast_inputs is not None:
            tensors = autocast(tensors, self._cast_inputs)
        made, residuals = apply(self.operation.task(arguments), tensors)
        return residuals.results.filled(made[: len(made) - residuals.extras])

    def _fast_task(self, number: int) -> FastTask | None:
        """Return the task for the fast path of a call with so many tensors; None where it has to take the general path."""
        operation = self.operation
        if operation.setup_context is not None or not self._has_fast_path or transforms():
            return None
        if number not in self._tasks:
            self._tasks[number] = FastTask(operation, Arguments.flat(self._signature, (None,) * number, list(range(number))))
        return self._tasks[number]

    def _refuse_by_keyword(self, arguments: Arguments) -> None:
        """Refuse tensors in keyword-only arguments that would need a gradient: a rule returns none for them."""
        for name, tensor, word in zip(arguments.names(), arguments.tensors, arguments.by_keyword(), strict=True):
            if word and rules_for(tensor):
                message = f"{self.operation.name}: {name!r} is given by keyword only, and gradients flow through arguments by position."
                raise GradError(message, hint=f"Pass {name}.detach(), or let the function take it by position.")


class Named(Wrapped):
    """A wrapped function that is an operator of torch: `wrap` makes it of one with a name.

    `torch.compile` looks into its call, and finds the operator. The operator is given all arguments, those by default too, and
    so are `setup_context`, which is run in the backward pass, and the rule. Where the rule returns None the gradient is zeros.
    Results are copied that share memory with an argument or are not contiguous. A graph may run the function once for two equal
    calls, or not at all if nothing needs it, and may write to its results.
    """

    def __init__(self, operation: Operation, signature: FunctionSignature, cast_inputs: str | None, operator: Operator) -> None:
        super().__init__(operation, signature, cast_inputs)
        self._operator = operator

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Refuse to be a method: an operator cannot be given an object."""
        if instance is None:
            return self
        raise TypeError(f"{self.operation.name} is an operator, and not a method: define it outside of the class, or in a staticmethod.")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the operator, or the function itself if there is no tensor among the arguments."""
        if not holds_tensor([*args, *kwargs.values()]):
            return self.operation.run_eagerly(args, kwargs)
        if is_transformed():  # without the operator, which has no forward mode there
            args, kwargs = self._operator.filled(args, kwargs)
            return super().__call__(*args, **kwargs)
        return self._operator(args, kwargs)
