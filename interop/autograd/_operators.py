"""Wrapped functions as operators of torch, which `torch.compile` takes as they are: what such an operator does.

A compiled graph knows tensors and numbers only, in and out. So nothing that a function leaves for its rules can cross it:
the backward operator is given arguments and results once more, and runs `setup_context` then.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from interop.autograd._arguments import Arguments, Results, taken
from interop.autograd._context import Context
from interop.autograd._derived import DerivedResiduals
from interop.autograd._operation import ForwardTask
from interop.autograd._operator_tasks import OperatorTask, OperatorVjpTask, materialized_grads
from interop.autograd._residuals import ForwardResiduals, TensorSpec
from interop.autograd._torch.annotations import inferred, needed
from interop.autograd._torch.functions import TENSORS
from interop.autograd._torch.operators import Kernels, holds_tensor, is_live, register, zeros
from interop.autograd._torch.schemas import OperatorSchema
from interop.errors import GradError, NoDataError, UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interop.autograd._arguments import FunctionSignature
    from interop.autograd._operation import Operation
    from interop.autograd._torch.tasks import Task

_NAME = re.compile(r"[A-Za-z_]\w*::[A-Za-z_]\w*")


class Operator(Kernels):
    """A wrapped function as an operator.

    Parameters
    ----------
    operation : Operation
        The function and its rules; those may be given to it later.
    signature : FunctionSignature
        Of the function.
    name : str
        As in ``"lib::op"``.
    fake : callable, optional
        What the function returns for tensors without data.
    schema : str, optional
        Of torch's; without it that of the annotations.
    cast : str, optional
        The dtype that floats are cast to inside of `torch.autocast`.
    """

    def __init__(
        self, operation: Operation, signature: FunctionSignature, name: str, *, fake: Any, schema: str | None, cast: str | None
    ) -> None:
        self.operation, self.signature, self._fake = operation, signature, fake
        self._check(name)
        text, single = (schema, None) if schema is not None else inferred(signature, operation.forward)
        self.schema = OperatorSchema(name, text)
        self.single = self.schema.count == 1 if single is None else single
        self.leading = operation.leading
        self._keywords = self._by_keyword()
        # Of a run that only the operator sees nothing is left for the rules.
        self._bare = replace(operation, backward=None, jvp=None, setup_context=None)
        self.forward, self.backward = register(self, owner=_owner(operation.forward), cast=cast)

    def _check(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"name={name!r} is not the name of an operator: write a library's and its own, as in 'lib::op'.")
        function = self.signature.name
        if self.signature.takes_ctx:
            hint = "Let setup_context(ctx, inputs, output) save what the rules need; it is run in the backward pass."
            raise UnsupportedTypeError(f"{function} stores things on ctx, and they cannot cross the operator {name!r}.", hint=hint)
        if self.signature.skipped:
            hint = "Wrap a function, and call it in the method."
            raise UnsupportedTypeError(f"{function} is a method, and no operator can be given its {self.signature.names[0]}.", hint=hint)

    def _by_keyword(self) -> list[str]:
        """Return the arguments that are given to the function by keyword, which are the last; checks that it has them all."""
        names, inspected = self.schema.names, self.signature.signature
        if inspected is None:
            return []
        words = [one.name for one in inspected.parameters.values() if one.kind is one.KEYWORD_ONLY and one.name in names]
        cut = len(names) - len(words)
        loose = any(one.kind is one.VAR_POSITIONAL for one in inspected.parameters.values())
        missing = set(needed(inspected)) - set(names)
        if (names[:cut] != self.signature.names[:cut] and not loose) or names[cut:] != words or missing:
            raise ValueError(f"{self.signature.name}{inspected} cannot be called with the arguments of its schema: {', '.join(names)}.")
        return words

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the operator. `torch.compile` looks into this."""
        if self.superseded:
            raise RuntimeError(f"{self.operation.name} was redefined, and the operator {self.schema.operator!r} is that one now: call it.")
        for name, value in (*zip(self.schema.names, args, strict=False), *kwargs.items()):
            if name in self.schema.numbers and holds_tensor([value]):  # torch would take its value, and drop its gradient
                raise TypeError(f"{self.operation.name}: {name!r} is a number in {self.schema.text}, got a tensor: pass {name}.item().")
        made = self.forward(*args, **kwargs)
        return made if self.single or self.schema.count > 1 else (made,)

    def filled(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call with those by default: an operator does not learn which were given."""
        return self._parted(self.schema.filled(args, kwargs))

    def arguments(self, args: Sequence[Any]) -> Arguments:
        """Return all arguments of the operator as those of the function."""
        return taken(self.signature, *self._parted(args), TENSORS)

    def _parted(self, args: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what is given by position, and by keyword."""
        cut = len(args) - len(self._keywords)
        return tuple(args[:cut]), dict(zip(self._keywords, args[cut:], strict=True))

    # The operator.

    def run(self, args: list[Any]) -> list[Any]:
        """Run the function on tensors that have memory."""
        arguments = self.arguments(args)
        task = self.operation.task(arguments) if self.operation.derives else ForwardTask(self._bare, arguments)
        made, residuals = task.run(arguments.tensors)
        results: Any = residuals.results
        if results.node is None and len(made) == self.schema.count and results.single == self.single:
            return made
        what = "a tree" if results.node is not None else "one array" if results.single else f"a tuple of {len(made)}"
        hint = "Annotate what it returns, as in: tuple[np.ndarray, np.ndarray], or give schema=."
        raise self._unlike_its_schema(self.operation.name, what, hint)

    def _unlike_its_schema(self, function: str, returned: str, hint: str) -> UnsupportedTypeError:
        return UnsupportedTypeError(f"{function} returned {returned}, and its operator is {self.schema.text}.", hint=hint)

    def fake(self, args: list[Any]) -> list[Any]:
        """Return what the function would, without data."""
        name, schema = self.operation.name, self.schema
        if self._fake is None:
            hint = f"wrap(..., name={schema.operator!r}, fake=lambda {', '.join(schema.names)}: torch.empty_like({schema.names[0]}))"
            raise NoDataError(f"{name} has no fake, and what it returns is not known without running it.", hint=hint)
        arguments = self.arguments(args)
        given, words = arguments.filled(arguments.tensors)
        made = self._fake(*given, **words)
        results = list(made) if isinstance(made, tuple | list) else [made]
        if len(results) != schema.count or not all(holds_tensor([one]) for one in results):
            types = ", ".join(type(one).__name__ for one in results)
            raise self._unlike_its_schema(f"the fake of {name}", types, "Return torch tensors, as many.")
        return results

    def task(self, args: list[Any]) -> tuple[Task, Sequence[Any]]:
        """Return the operator as a node of the graph, and its tensors."""
        arguments = self.arguments(args)
        if self.operation.derives and is_live(arguments.tensors):  # what the library derives has derivatives of all orders
            return self.operation.task(arguments), arguments.tensors
        return OperatorTask(self, arguments), arguments.tensors

    def results(self) -> Results:
        """Return the form of what is returned."""
        return Results.flat(self.schema.count, single=self.single)

    # The rule, which is an operator of its own.

    def run_backward(self, grads: list[Any], results: list[Any], needs: list[bool], args: list[Any]) -> list[Any]:
        """Run the rule on tensors that have memory: return the gradient of each that needs one, zeros where the rule returns None."""
        arguments = self.arguments(args)
        tensors = arguments.tensors
        if self.operation.derives:
            found = self._derived(arguments).vjp(tensors, grads, needs)
        else:
            residuals, saved = self.left(arguments, tensors, results)
            found = residuals.vjp(saved, materialized_grads(residuals, grads, results), needs)
        return [zeros(tensor) if grad is None else grad for grad, tensor, need in zip(found, tensors, needs, strict=True) if need]

    def task_backward(self, args: list[Any]) -> tuple[Task, Sequence[Any]]:
        """Return the rule as a node of the graph, and its tensors."""
        node = Arguments(self.signature, tuple(args), {}, lambda leaf: holds_tensor([leaf]))
        return OperatorVjpTask(self, node), node.tensors

    def _derived(self, arguments: Arguments) -> DerivedResiduals:
        task: Any = self.operation.task(arguments)
        task.form.results = self.results()  # a compiled rule does not run the function, which would find it out
        return DerivedResiduals(task, arguments.tensors, ())

    def left(
        self, arguments: Arguments, tensors: Sequence[Any], results: Sequence[Any], *, forward: bool = False
    ) -> tuple[ForwardResiduals, list[Any]]:
        """Return what a run with these results leaves for the rules, and the saved tensors; of forward mode, if so."""
        operation = self.operation
        residuals = ForwardResiduals(operation, arguments, self.results(), Context(), list(map(TensorSpec.of, tensors)))
        if operation.setup_context is None:
            residuals.saved = tuple(range(len(tensors)))
            return residuals, list(tensors)
        if any(result is None for result in results):
            message = f"{operation.name} was given its setup_context after it was compiled."
            raise GradError(message, hint="Give it before, or forget what is compiled: torch.compiler.reset().")
        others = self._set_up(residuals, [*tensors, *results], len(tensors))
        outputs = [*results, *others]
        numbers = residuals.saved_forward if forward else residuals.saved
        return residuals, [None if at is None else tensors[at] if at >= 0 else outputs[~at] for at in numbers]

    def _set_up(self, residuals: ForwardResiduals, everything: list[Any], cut: int) -> list[Any]:
        """Run setup_context; return what it saves that is neither argument nor result."""
        operation, text = self.operation, f"the setup_context of {self.operation.name}"
        assert operation.setup_context is not None
        if operation.once:
            everything = operation.border.to_arrays(everything, text, lambda: [*residuals.arguments.names(), *residuals.results.names()])
        residuals.results.arrays = everything[cut:]
        args, _ = residuals.arguments.filled(everything[:cut])
        operation.setup_context(residuals.context, args, residuals.results.filled(everything[cut:]))
        others = residuals.record_saved(everything[:cut])
        residuals.results.arrays = []
        residuals.context.release_saved()
        return operation.border.to_saved_tensors(others, None, text) if operation.once else others


def _owner(function: Any) -> str:
    """Return the full name of a function; with its id, if it has no name."""
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "<lambda>")
    return f"{module}.{name}" if "<lambda>" not in name else f"{module}.{name} at {id(function)}"
