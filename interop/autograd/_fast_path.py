"""The fast path of the usual call: tensors only, one array as result, the inputs saved, no decision to make.

It does nothing that `interop.autograd._operation` does not do as well. As soon as a step is not the usual one, that takes over, with what is
done already: a function is never run twice.
"""

from __future__ import annotations

from sys import getrefcount
from typing import TYPE_CHECKING, Any

from interop._engine.fastpath import convert_all, entry_of
from interop._model.scope import fast_path_off
from interop.autograd._context import Context
from interop.autograd._operation import ForwardTask
from interop.autograd._residuals import SINGLE, ForwardResiduals, TensorSpec
from interop.autograd._torch.functions import alive, functions_named
from interop.autograd._torch.tasks import Residuals, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interop.autograd._arguments import Arguments
    from interop.autograd._operation import Operation


class FastTask(Task):
    """A call with tensors by position only; one task serves all calls with as many."""

    def __init__(self, operation: Operation, arguments: Arguments) -> None:
        self.operation, self.arguments = operation, arguments
        tables = operation.border.tables()
        assert tables is not None, "only a border with tables has a fast path"
        self.to_arrays, self.to_tensors = tables
        self.borrows = operation.border.target.may_be_aliased
        self.numbers = tuple(range(len(arguments.slots)))
        self.apply, *_ = functions_named(operation.name)

    def __call__(self, tensors: Sequence[Any]) -> Any:
        """Run it in torch's graph, and return what the function returns."""
        made = self.apply(self, *map(alive, tensors))
        if type(made) is not tuple:
            return made
        *results, residuals = made
        return residuals.results.filled(results)

    @property
    def name(self) -> str:
        """What it is called in the graph."""
        return self.operation.name

    def run(self, tensors: Sequence[Any]) -> tuple[list[Any], Residuals]:
        """Return the result as a tensor, and the residuals."""
        arrays = convert_all(list(tensors), self.to_arrays) if fast_path_off.get() is None else [None]
        for array in arrays:
            if array is None:
                return ForwardTask(self.operation, self.arguments).run(tensors)
        result = self.operation.forward(*arrays)
        attempt = entry_of(self.to_tensors, result)
        # Two references: the name here and the argument of getrefcount. With no other owner, torch may write to it.
        free = attempt is not None and getrefcount(result) <= 2 and not self.borrows(result)
        made = attempt(result) if attempt is not None and free else None
        if made is None:
            box = [result]
            del result
            return ForwardTask(self.operation, self.arguments).finish(tensors, arrays, box, Context())
        return [made], FastResiduals(self, [(tensor.shape, tensor.dtype, tensor.device) for tensor in tensors], made)


class FastResiduals(Residuals):
    """The residuals of such a call; what is not on the fast path is left to `ForwardResiduals`."""

    single = True

    def __init__(self, task: FastTask, specs: list[tuple[Any, Any, Any]], made: Any) -> None:
        self.task, self.specs = task, specs
        operation = task.operation
        self.usual = operation.backward is not None and operation.jvp is None
        if operation.backward is not None or operation.jvp is not None:
            self.saved = task.numbers
        if operation.jvp is not None:
            self.saved_forward, self.output = task.numbers, TensorSpec.of(made)

    @property
    def results(self) -> Any:
        """One array."""
        return SINGLE

    def vjp(self, saved: Sequence[Any], grads: Sequence[Any], needs: Sequence[bool]) -> list[Any]:
        """Run the backward rule: return a gradient or None for each input."""
        rule = self.task.operation.backward
        if rule is None or not self.saved or fast_path_off.get() is not None:
            return self.general().vjp(saved, grads, needs)
        arrays = convert_all([*saved, *grads], self.task.to_arrays)
        for array in arrays:
            if array is None:
                return self.general().vjp(saved, grads, needs)
        inputs = tuple(arrays[:-1])
        context = Context.for_rule(inputs, tuple(needs))
        box = [rule(context, arrays[-1])]
        results = self._fitting(box, inputs, needs)
        return self.general().finish_vjp(box, saved, grads, needs, arrays[-1:]) if results is None else results

    def _fitting(self, box: list[Any], inputs: tuple[Any, ...], needs: Sequence[bool]) -> list[Any] | None:
        """Return the gradients in the box as tensors, if each is just what it should be; else None."""
        if type(box[0]) is tuple and getrefcount(box[0]) > 2:
            return None
        given = box[0] if type(box[0]) is tuple else box
        if len(given) != len(inputs):
            return None
        results: list[Any] = []
        for at, (array, need) in enumerate(zip(inputs, needs, strict=True)):
            if given[at] is None or not need:
                results.append(None)
                continue
            made = self._made(given[at], array) if getrefcount(given[at]) <= 2 else None
            if made is None:
                return None
            results.append(made)
        return results  # each on memory of its own: an array that is in two places has another owner

    def _made(self, grad: Any, array: Any) -> Any:
        attempt = entry_of(self.task.to_tensors, grad)
        if attempt is None or grad.shape != array.shape or (grad.dtype is not array.dtype and grad.dtype != array.dtype):
            return None
        return None if self.task.borrows(grad) else attempt(grad)

    def general(self) -> ForwardResiduals:
        """Return what the general path leaves."""
        specs = [TensorSpec(*spec) for spec in self.specs]
        residuals = ForwardResiduals(self.task.operation, self.task.arguments, SINGLE, Context(), specs)
        residuals.saved, residuals.saved_forward = self.saved, self.saved_forward
        residuals.outputs = [self.output] if self.saved_forward else []
        return residuals

    def vjp_task(self, needs: Sequence[bool], holes: Sequence[bool]) -> Task:
        """Return the backward rule as a task."""
        return self.general().vjp_task(needs, holes)

    def jvp_task(self, holes: Sequence[bool]) -> Task:
        """Return the forward-mode rule as a task."""
        return self.general().jvp_task(holes)
