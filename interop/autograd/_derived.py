"""Functions of a library that differentiates by itself: their rules are functions of that library too.

A call's function, from flat arrays to flat arrays, is pure, and so is whatever derives from it: its gradient, its tangent,
its run on arrays with one more axis. Each is one task of the same kind, so that every order and mixture of torch's transformations
comes out of three steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Number
from typing import TYPE_CHECKING, Any

from interop.autograd._arguments import Results
from interop.autograd._torch.tasks import Residuals, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from interop.autograd._arguments import Arguments
    from interop.autograd._border import Border
    from interop.autograd._operation import Operation

    Names = Callable[[], list[str]]
    Chosen = tuple[str, Names, Sequence[bool]]


@dataclass
class DerivedTask(Task):
    """A pure function, to be run on tensors.

    Attributes
    ----------
    border : Border
        Between torch and its library.
    node : str
        What it is called in the graph.
    text : str
        What it is called in messages.
    pure : object
        The function of the library, as its backend's `derivatives` makes them.
    incoming, outgoing : callable
        What its arrays are called in messages.
    present : tuple of bool
        For a rule: for which inputs or outputs it returns something.
    form : _FlatFunction or None
        For what is no rule: what knows the form of the results.
    """

    border: Border
    node: str
    text: str
    pure: Any
    incoming: Names
    outgoing: Names
    present: tuple[bool, ...] = ()
    form: _FlatFunction | None = None

    @classmethod
    def of(cls, operation: Operation, arguments: Arguments) -> DerivedTask:
        """Return the run of an operation on the tensors of a call."""
        form = _FlatFunction(operation, arguments)
        others = [operation.forward, getattr(operation.forward, "__self__", None), *form.arguments.leaves]
        pure = operation.derivatives.pure(form, form.key(), others)
        text = f"{operation.name}(...)"
        return cls(operation.border, operation.name, text, pure, form.arguments.names, form.names, form=form)

    @property
    def name(self) -> str:
        """What it is called in the graph."""
        return self.node

    def run(self, tensors: Sequence[Any]) -> tuple[list[Any], DerivedResiduals]:
        """Return the results as tensors, and the residuals."""
        found = self.pure(*self.border.to_arrays(tensors, self.text, self.incoming))
        # The device by name: whose a native one is takes long to find out.
        made = self.border.to_tensors(found, tensors[0].device, f"the result of {self.text}", self.outgoing, beside=tensors)
        return made, DerivedResiduals(self, tensors, made)

    def leading(self, level: int, size: int) -> DerivedTask:  # noqa: ARG002 - at every level the same
        """Return the run on arrays with one more axis in front, by the library's own vmap."""
        return replace(self, pure=self.pure.vmap())

    def vjp(self, needs: tuple[bool, ...], holes: tuple[bool, ...]) -> DerivedTask:
        """Return the backward rule."""
        grads = ("the gradient of", self.outgoing, [not hole for hole in holes])
        return self._rule("backward", self.pure.vjp(needs, holes), grads, ("the gradient of", self.incoming, needs))

    def jvp(self, moves: tuple[bool, ...], present: tuple[bool, ...]) -> DerivedTask:
        """Return the forward-mode rule."""
        tangents = ("the tangent of", self.incoming, moves)
        return self._rule("jvp", self.pure.jvp(moves), tangents, ("the tangent of", self.outgoing, present))

    def _rule(self, what: str, pure: Any, given: Chosen, returned: Chosen) -> DerivedTask:
        def incoming() -> list[str]:
            return [*self.incoming(), *names_of(*given)]

        name, text = f"{self.name}_{what}", f"the {what} of {self.text}"
        return DerivedTask(self.border, name, text, pure, incoming, lambda: names_of(*returned), tuple(returned[2]))


class DerivedResiduals(Residuals):
    """What is left of a run: which of its inputs and outputs have derivatives. The inputs are saved by torch."""

    materializes = False

    def __init__(self, task: DerivedTask, tensors: Sequence[Any], made: Sequence[Any]) -> None:
        self.task, self.present = task, task.present
        self.results = task.form.results if task.form is not None else None
        self.inexact, self.inexact_results = tuple(map(_is_inexact, tensors)), tuple(map(_is_inexact, made))
        self.saved = self.saved_forward = tuple(range(len(tensors)))

    def vjp_task(self, needs: Sequence[bool], holes: Sequence[bool]) -> DerivedTask:
        """Return the backward rule as a task."""
        wanted = tuple(need and inexact for need, inexact in zip(needs, self.inexact, strict=True))
        return self.task.vjp(wanted, tuple(holes[len(self.inexact) :]))

    def vjp(self, saved: Sequence[Any], grads: Sequence[Any], needs: Sequence[bool]) -> list[Any]:
        """Run the backward rule."""
        given = [*saved, *grads]
        made, residuals = self.vjp_task(needs, [one is None for one in given]).run([one for one in given if one is not None])
        return residuals.spread(made)

    def jvp_task(self, holes: Sequence[bool]) -> DerivedTask:
        """Return the forward-mode rule as a task."""
        return self.task.jvp(tuple(not hole for hole in holes[len(self.inexact) :]), self.inexact_results)


class _FlatFunction:
    """The function of a call, from flat arrays to flat arrays; it remembers the form of the results.

    A compiled rule refers to it, and may live long: it holds no tensor.
    """

    results: Results

    def __init__(self, operation: Operation, arguments: Arguments) -> None:
        self.forward, self.name, self.arguments = operation.forward, operation.name, arguments.emptied()

    def __call__(self, *arrays: Any) -> list[Any]:
        args, kwargs = self.arguments.filled(arrays)
        results = Results(self.forward(*args, **kwargs), self.name)
        made, results.arrays = results.arrays, []
        self.results = results
        return made

    def names(self) -> list[str]:
        return self.results.names()

    def key(self) -> tuple[Hashable, ...] | None:
        """Return what calls have in common that differ in their arrays only; None if that cannot be compared."""
        arguments = self.arguments
        forms: list[Any] = []
        if arguments.node is not None:
            forms = [(at, node.structure) for at, node in arguments.node.containers[0].subtrees.items()]
            if any(form is None for _, form in forms):
                return None
        # Numbers by their text: 0.0 is not -0.0, and all NaNs are the same.
        fixed = [
            (at, type(one), repr(one) if isinstance(one, Number) else one) for at, one in enumerate(arguments.leaves) if one is not None
        ]
        key = (self.forward, arguments.positions, arguments.words, tuple(arguments.slots), *forms, *fixed)
        try:
            hash(key)
        except TypeError:
            return None
        return key


def _is_inexact(tensor: Any) -> bool:
    return bool(tensor.is_floating_point() or tensor.is_complex())


def names_of(what: str, names: Names, chosen: Sequence[bool]) -> list[str]:
    """Return what the gradients or tangents of some tensors are called in messages."""
    return [f"{what} {name}" for name, choice in zip(names(), chosen, strict=True) if choice]
