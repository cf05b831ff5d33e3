"""What a run of a wrapped function leaves for its rules: it runs them, and checks and converts what they return.

Where something may be differentiated or vectorised through a rule, the rule is a task of its own (`interop.autograd._rules`).
"""

from __future__ import annotations

from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from interop._model.dtypes import dtype_name, fallback
from interop.autograd._arguments import Results
from interop.autograd._rules import JvpTask, VjpTask
from interop.autograd._torch.tasks import Residuals
from interop.backends import find_backend, is_array
from interop.backends.torch.modes import no_autocast
from interop.errors import DTypeError, GradError, TransferError, UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from interop.autograd._arguments import Arguments
    from interop.autograd._context import Context
    from interop.autograd._operation import Operation


class TensorSpec(NamedTuple):
    """What a gradient or tangent has to be: shape, dtype and device of an input or result."""

    shape: Any
    dtype: Any
    device: Any

    @classmethod
    def of(cls, tensor: Any) -> TensorSpec:
        """Return that of a tensor."""
        return cls(tensor.shape, tensor.dtype, tensor.device)

    @property
    def is_inexact(self) -> bool:
        """Whether it has derivatives."""
        return bool(self.dtype.is_floating_point or self.dtype.is_complex)


@dataclass
class ForwardResiduals(Residuals):
    """The residuals of a run, from which the rules compute.

    Attributes
    ----------
    specs : list of TensorSpec
        Of the tensors that went in.
    outputs : list of TensorSpec
        Of the results, for the rule of forward mode; empty where they are not known.
    """

    operation: Operation
    arguments: Arguments
    results: Results
    context: Context
    specs: list[TensorSpec]

    def __post_init__(self) -> None:
        self.once = self.operation.once
        self.outputs: list[TensorSpec] = []

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self.operation.name

    @property
    def has_state(self) -> bool:
        """Whether something was set on the context."""
        return self.context.has_attributes

    def fixed(self) -> list[Any]:
        """Return what the run returned besides arrays."""
        return self.results.leaves

    def led(self, lead: tuple[int, ...]) -> ForwardResiduals:
        """Return the residuals for inputs with further axes in front."""
        if not lead:
            return self
        made = copy(self)
        made.specs = [spec._replace(shape=(*lead, *spec.shape)) for spec in self.specs]
        made.outputs = []
        return made

    def vjp_task(self, needs: Sequence[bool], holes: Sequence[bool]) -> VjpTask:
        """Return the backward rule as a task; `holes`: which of what it gets are None."""
        self.rule()
        return VjpTask(self, tuple(holes), needs=tuple(needs))

    def jvp_task(self, holes: Sequence[bool]) -> JvpTask:
        """Return the forward-mode rule as a task."""
        return JvpTask(self, tuple(holes))

    def record_saved(self, arrays: list[Any]) -> list[Any]:
        """Note what the context saves and marks; return the arrays among it that are neither inputs nor outputs."""
        context, outputs = self.context, self.results.arrays
        known = {id(array): ~at for at, array in enumerate(outputs)} | {id(array): at for at, array in enumerate(arrays)}
        others: list[Any] = []

        def number(array: Any) -> int | None:
            if array is None:
                return None
            if id(array) not in known:
                if not is_array(array):
                    hint = "Set it on the context, as an attribute: ctx.name = value."
                    raise UnsupportedTypeError(
                        f"{self.operation.name}: save_for_backward got a {type(array).__name__}, which is no array.", hint=hint
                    )
                known[id(array)] = ~(len(outputs) + len(others))
                others.append(array)
            return known[id(array)]

        self.saved = tuple(map(number, context._saved or ()))
        self.saved_forward = self.saved if context._saved_forward is None else tuple(map(number, context._saved_forward))
        self.dead = tuple(map(self._result, context._dead))
        self.extras, self.materializes = len(others), context._materializes
        return others

    def _result(self, array: Any) -> int:
        """Return which result an array is that was marked as not differentiable."""
        for at, one in enumerate(self.results.arrays):
            if one is array:
                return at
        message = f"{self.operation.name}: mark_non_differentiable got a {type(array).__name__} that is none of its results."
        raise GradError(message, hint="Mark the very array that is returned, not a view or a copy of it.")

    # The rules, on tensors that have memory of their own.

    def vjp(self, saved: Sequence[Any], grads: Sequence[Any], needs: Sequence[bool]) -> list[Any]:
        """Run the backward rule: return the gradient of each input as a tensor, None where there is none."""
        rule, name = self.rule(), f"the backward of {self.operation.name}"
        incoming = [*saved, *grads]
        if self.once:
            incoming = self.operation.border.to_arrays(incoming, name, self._incoming(saved, "the gradient of", self.results.names))
        context = self.context.with_saved(tuple(incoming[: len(saved)]), self.arguments.filled(needs, rest=False)[0])
        given = self.results.spread(incoming[len(saved) :], None)
        with no_autocast() if self.operation.casts else nullcontext():
            box = [rule(context, *given)]
        return self.finish_vjp(box, saved, grads, needs, incoming[len(saved) :])

    def finish_vjp(
        self, box: list[Any], saved: Sequence[Any], grads: Sequence[Any], needs: Sequence[bool], arrays: Sequence[Any]
    ) -> list[Any]:
        """Return the same, of a rule that was run on `arrays` in the place of `grads`; what it returned is in the box, and nowhere else."""
        name = f"the backward of {self.operation.name}"
        found = self.arguments.gradients(box.pop(), name)
        wanted = [at for at, grad in enumerate(found) if grad is not None and needs[at]]
        for at in wanted:
            self._check(found[at], self._gradient_of(at), of_torch=not self.once)
        # A rule may return an array that it was given; the gradient is the tensor that the array came from.
        known = {id(array): grad for array, grad in zip(arrays, grads, strict=True)}
        made = {at: found[at] if not self.once else known.get(id(found[at])) for at in wanted}
        crossing = [at for at in wanted if made[at] is None]
        device = next((tensor.device for tensor in (*grads, *saved) if tensor is not None), None)
        outgoing, count = [found[at] for at in crossing], len(found)
        del found
        crossed = self.operation.border.to_tensors(
            outgoing, device, name, lambda: [f"the gradient of {self._name(at)}" for at in crossing], beside=(*saved, *grads), same=True
        )
        made |= zip(crossing, crossed, strict=True)
        return [self._fitted(made[at], at) if at in made else None for at in range(count)]

    def jvp(self, saved: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        """Run the forward-mode rule: return the tangent of each output as a tensor, None where there is none."""
        operation = self.operation
        if operation.jvp is None:
            raise operation.without("jvp", "forward mode stops here")
        incoming, name = [*saved, *tangents], f"the jvp of {operation.name}"
        arrays = operation.border.to_arrays(incoming, name, self._incoming(saved, "the tangent of", self.arguments.names))
        context = self.context.with_saved(tuple(arrays[: len(saved)]))
        args, _ = self.arguments.filled(arrays[len(saved) :], None)
        found = self.results.tangents(operation.jvp(context, *args), name)
        moving = [at for at, tangent in enumerate(found) if tangent is not None and (not self.outputs or self.outputs[at].is_inexact)]
        for at in moving:
            self._check(found[at], f"{name}: the tangent of {self.results.names()[at]}")
        outgoing = [found[at] for at in moving]
        del found
        device = next(tensor.device for tensor in incoming if tensor is not None)
        made = dict(
            zip(
                moving,
                operation.border.to_tensors(
                    outgoing, device, name, lambda: [f"the tangent of {self.results.names()[at]}" for at in moving], beside=incoming
                ),
                strict=True,
            )
        )
        return [self._moving(made[at], at) if at in made else None for at in range(len(self.results.slots))]

    def _moving(self, tangent: Any, at: int) -> Any:
        """Return a tangent in its result's dtype; raises if it does not fit the result."""
        if not self.outputs:
            return tangent
        spec, label = self.outputs[at], f"the jvp of {self.operation.name}: the tangent of {self.results.names()[at]}"
        if tangent.dtype != spec.dtype:
            tangent = self._in_dtype(tangent, spec, label, "the result")
        if tangent.shape != spec.shape:
            raise _wrong_shape(label, tangent, "the result", spec, "Return a tangent of the result's shape.")
        return tangent

    def rule(self) -> Callable[..., Any]:
        """Return the backward rule; GradError without one."""
        operation = self.operation
        if operation.backward is None:
            raise operation.without("backward", "no gradient can flow through it")
        if self.specs and not self.saved and not operation.takes_ctx and operation.setup_context is None:
            message = f"{operation.name} was given its backward after this call, which saved nothing for it."
            raise GradError(message, hint="Give the rule before the function is called.")
        return operation.backward

    def _incoming(self, saved: Sequence[Any], what: str, names: Callable[[], list[str]]) -> Callable[[], list[str]]:
        return lambda: [*(f"saved_tensors[{at}]" for at in range(len(saved))), *(f"{what} {name}" for name in names())]

    def _name(self, at: int) -> str:
        return repr(self.arguments.names()[at])

    def _check(self, grad: Any, label: str, *, of_torch: bool = False) -> None:
        what = f"{label} is a {type(grad).__name__}"
        if not is_array(grad):
            message, kind = f"{what}, not an array.", "an array of the function's library" if self.once else "a tensor"
            raise UnsupportedTypeError(message, hint=f"Return {kind}, or None where there is no gradient.")
        if of_torch and find_backend(grad).name != "torch":
            hint = "Make the rule of wrapped functions and torch's own, or leave once_differentiable=False out."
            raise UnsupportedTypeError(f"{what}, not a tensor: torch could not differentiate it.", hint=hint)

    def _gradient_of(self, at: int) -> str:
        return f"the backward of {self.operation.name}: the gradient of {self._name(at)}"

    def _fitted(self, grad: Any, at: int) -> Any:
        """Return a gradient in its input's dtype and shape; raises if it does not fit the input."""
        spec = self.specs[at]
        if grad.dtype != spec.dtype:
            grad = self._in_dtype(grad, spec, self._gradient_of(at), "the input")
        if grad.device != spec.device:
            grad = self._on_input_device(grad, spec, at)
        if grad.shape == spec.shape:
            return grad
        if not _broadcasts(spec.shape, grad.shape):
            hint = "Return a gradient of the input's shape, or of one that it broadcasts to, which is summed."
            raise _wrong_shape(self._gradient_of(at), grad, "the input", spec, hint)
        return grad.sum_to_size(spec.shape)

    def _on_input_device(self, grad: Any, spec: TensorSpec, at: int) -> Any:
        border = self.operation.border
        if border.policy().transfer != "allow":
            hint = f"Return it there, or write transfer='allow' into {border.place}."
            message = f"{self._gradient_of(at)} is on {grad.device}, the input on {spec.device}."
            raise TransferError(message, hint=hint, permissions={"transfer": "allow"})
        return border.torch.transfer(grad, border.torch.parse_device(spec.device), None)

    def _in_dtype(self, made: Any, spec: TensorSpec, label: str, of: str) -> Any:
        border = self.operation.border
        have, want = dtype_name(made.dtype), dtype_name(spec.dtype)
        found = fallback(have, frozenset({want}))
        if found is None or border.policy().casting not in (found[1], "same_kind"):
            hint = f"Return it as {want}" + (f", or write casting={found[1]!r} into {border.place}." if found else ".")
            raise DTypeError(f"{label} is {have}, {of} {want}.", hint=hint, permissions={"casting": found[1]} if found else {})
        return border.torch.cast(made, want)


SINGLE = Results.flat(1, single=True)
"""Of a function that returned one array."""


def _wrong_shape(label: str, made: Any, of: str, spec: TensorSpec, hint: str) -> GradError:
    return GradError(f"{label} has shape {tuple(made.shape)}, {of} {tuple(spec.shape)}.", hint=hint)


def _broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    """Whether arrays of one shape are broadcast to another."""
    pairs = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(have in (1, want) for have, want in pairs)
