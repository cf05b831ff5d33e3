"""A wrapped function with its rules, and the task that runs it on the tensors of a call."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from interop.autograd._arguments import Results
from interop.autograd._context import Context
from interop.autograd._derived import DerivedTask
from interop.autograd._residuals import ForwardResiduals, TensorSpec
from interop.autograd._torch.tasks import Task
from interop.backends.torch.modes import no_autocast
from interop.errors import GradError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from interop.autograd._arguments import Arguments
    from interop.autograd._border import Border


@dataclass(slots=True)
class Operation:
    """A function of another library, and its rules.

    Attributes
    ----------
    forward, backward, jvp, setup_context : callable
        As `interop.autograd.wrap` takes them.
    takes_ctx : bool
        Whether the function takes the context itself, as its first argument.
    once : bool
        Whether the backward rule is given arrays; else it is given tensors, and can be differentiated itself.
    leading : bool
        Whether function and rules also take arrays with one more axis in front.
    derivatives : object, optional
        What the library makes the rules with, if it can (`interop.backends.base.Backend.derivatives`).
    casts : bool
        Whether the inputs are cast to a dtype under `torch.autocast`; then function and rules run outside of it.
    """

    name: str
    border: Border
    forward: Callable[..., Any]
    backward: Callable[..., Any] | None = None
    jvp: Callable[..., Any] | None = None
    setup_context: Callable[..., Any] | None = None
    takes_ctx: bool = False
    once: bool = True
    leading: bool = False
    derivatives: Any = None
    casts: bool = False

    def without(self, rule: str, consequence: str) -> GradError:
        """Return the error for a rule that the function does not have."""
        decorated = self.name if self.name.isidentifier() else "f"
        hint = f"Give it one: wrap(..., {rule}=rule), or @{decorated}.{rule}."
        return GradError(f"{self.name} has no {rule}, so {consequence}.", hint=hint)

    def task(self, arguments: Arguments) -> Task:
        """Return the run on the tensors of a call."""
        return DerivedTask.of(self, arguments) if self.derives else ForwardTask(self, arguments)

    @property
    def derives(self) -> bool:
        """Whether the library itself makes the rules."""
        return self.derivatives is not None and self.backward is self.jvp is self.setup_context is None

    def run_eagerly(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the function on arrays of its own library, without a graph."""
        return self.forward(Context(), *args, **kwargs) if self.takes_ctx else self.forward(*args, **kwargs)


@dataclass
class ForwardTask(Task):
    """The function, to be run on the tensors of a call."""

    operation: Operation
    arguments: Arguments

    def run(self, tensors: Sequence[Any]) -> tuple[list[Any], ForwardResiduals]:
        """Return the results as tensors, after them what else is saved, and the residuals."""
        operation, arguments = self.operation, self.arguments
        arrays = operation.border.to_arrays(tensors, f"{operation.name}(...)", arguments.names)
        args, kwargs = arguments.filled(arrays)
        context, call = Context(), operation.forward
        if operation.takes_ctx:
            call = partial(call, context)
        with no_autocast() if operation.casts else nullcontext():
            box = [call(*args, **kwargs)]
        return self.finish(tensors, arrays, box, context)

    def finish(self, tensors: Sequence[Any], arrays: list[Any], box: list[Any], context: Context) -> tuple[list[Any], ForwardResiduals]:
        """Return the same, of a function that was run on `arrays` and whose result is in the box, and nowhere else."""
        operation, arguments = self.operation, self.arguments
        results = Results(box.pop(), operation.name)
        residuals = ForwardResiduals(operation, arguments.emptied(), results, context, list(map(TensorSpec.of, tensors)))
        if operation.setup_context is not None:
            operation.setup_context(context, arguments.filled(arrays)[0], results.filled(results.arrays))
        if operation.setup_context is not None or operation.takes_ctx:
            others = residuals.record_saved(arrays)
        else:
            residuals.saved = residuals.saved_forward = tuple(range(len(arrays))) if operation.backward or operation.jvp else ()
            others = []
        device, text = tensors[0].device if tensors else None, f"the result of {operation.name}(...)"
        outgoing, results.arrays = results.arrays, []
        refs = [context.count_saved(outgoing[at]) for at in range(len(outgoing))]
        made = operation.border.to_tensors(outgoing, device, text, results.names, beside=tensors, refs=refs)
        residuals.outputs = list(map(TensorSpec.of, made)) if operation.jvp is not None else []
        made += operation.border.to_saved_tensors(others, device, text)
        context.release_saved()
        return made, residuals

    @property
    def name(self) -> str:
        """What it is called in the graph."""
        return self.operation.name

    def leading(self, level: int, size: int) -> Task | None:  # noqa: ARG002 - at every level the same
        """Return the task for arrays with one more axis in front, if the operation takes them."""
        return self if self.operation.leading else None
