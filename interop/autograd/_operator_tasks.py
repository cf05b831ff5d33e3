"""The operator of a wrapped function in torch's graph, above the dispatcher's kernels: tasks that call it, and what they leave.

Unlike the run of a function itself, that of an operator leaves its tensors only: its rule is an operator too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interop.autograd._context import Context
from interop.autograd._residuals import ForwardResiduals, TensorSpec
from interop.autograd._rules import JvpTask, RuleResiduals, VjpTask
from interop.autograd._torch.operators import below, is_transformed, zeros
from interop.autograd._torch.tasks import Task
from interop.errors import GradError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interop.autograd._arguments import Arguments
    from interop.autograd._operators import Operator


def materialized_grads(residuals: ForwardResiduals, grads: Sequence[Any], results: Sequence[Any]) -> list[Any]:
    """Return the gradients as the rule expects them: of results without one, zeros or None, by ``ctx.set_materialize_grads``."""
    grads = [None if at in residuals.dead else grad for at, grad in enumerate(grads)]
    if residuals.materializes:
        grads = [zeros(result) if grad is None and result is not None else grad for grad, result in zip(grads, results, strict=True)]
    return list(grads)


@dataclass
class OperatorTask(Task):
    """The operator, to be run below its autograd."""

    operator: Operator
    arguments: Arguments

    def run(self, tensors: Sequence[Any]) -> tuple[list[Any], Any]:
        operator, arguments = self.operator, self.arguments
        args, words = arguments.filled(tensors)
        made = below(operator.forward, *args, *words.values())
        residuals = OperatorResiduals(
            operator.operation, arguments, operator.results(), Context(), list(map(TensorSpec.of, tensors)), operator
        )
        residuals.saved = tuple(range(len(tensors)))
        if operator.operation.setup_context is not None:
            residuals.saved += tuple(~at for at in range(len(made)))
        # Zeros or None: setup_context decides, in the rule's operator.
        residuals.materializes = operator.operation.setup_context is None and not operator.operation.derives
        if operator.operation.jvp is not None:
            residuals.saved_forward = residuals.saved
        return made, residuals

    @property
    def name(self) -> str:
        return self.operator.operation.name

    def leading(self, level: int, size: int) -> Task | None:  # noqa: ARG002 - at every level the same
        return self if self.operator.operation.leading else None


@dataclass
class OperatorResiduals(ForwardResiduals):
    """What is left of a run of the operator: its arguments and, for setup_context, its results."""

    operator: Operator

    def vjp(self, saved: Sequence[Any], grads: Sequence[Any], needs: Sequence[bool]) -> list[Any]:
        """Run the operator of the rule."""
        tensors, results = self._parted(saved)
        if not self.once:
            residuals, saved = self.operator.left(self.arguments, tensors, results)
            return residuals.vjp(saved, materialized_grads(residuals, grads, results), needs)
        args, words = self.arguments.filled(tensors)
        found = iter(below(self.operator.backward, *grads, *results, list(needs), *args, *words.values()))
        return [next(found) if need else None for need in needs]

    def jvp_task(self, holes: Sequence[bool]) -> JvpTask:
        """Return the forward-mode rule as a task, which is no operator."""
        if is_transformed():
            name = self.operation.name
            raise GradError(f"torch.ops has no forward mode of {name} in torch.func.", hint=f"Call {name} itself.")
        return super().jvp_task(holes)

    def jvp(self, saved: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        """Run the rule of forward mode."""
        if self.operation.jvp is None:
            return super().jvp(saved, tangents)  # refuses
        tensors, results = self._parted(saved)
        residuals, saved = self.operator.left(self.arguments, tensors, results, forward=True)
        return residuals.jvp(saved, tangents)

    def _parted(self, saved: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        cut = len(self.specs)
        return list(saved[:cut]), list(saved[cut:]) or [None] * len(self.results.slots)


@dataclass
class OperatorVjpTask(Task):
    """The operator of the rule, to be run below its autograd: what comes out of it is not differentiable."""

    operator: Operator
    arguments: Arguments

    def run(self, tensors: Sequence[Any]) -> tuple[list[Any], RuleResiduals]:
        args, _ = self.arguments.filled(tensors)
        rule: Any = self.operator  # RuleResiduals asks its rule for the operation only
        return RuleResiduals.of(VjpTask(rule, ()), below(self.operator.backward, *args))

    @property
    def name(self) -> str:
        return f"{self.operator.operation.name}_backward"
