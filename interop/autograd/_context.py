"""What a function passes on to its rules: the ``ctx`` of `torch.autograd.Function`, for arrays of any library."""

from __future__ import annotations

from typing import Any


class Context:
    """The ``ctx`` that a wrapped function, its ``setup_context`` and its rules get; torch's names, with arrays.

    Attributes that are set on it are there in the rules. Arrays belong into `save_for_backward`: those that are inputs or
    outputs are saved as the tensors that they came from, so that torch notices a change in place.
    """

    def __init__(self) -> None:
        self._saved: tuple[Any, ...] | None = None
        self._saved_forward: tuple[Any, ...] | None = None
        self._dead: tuple[Any, ...] = ()
        self._materializes = True
        self._arrays: tuple[Any, ...] | None = None
        self._needs: tuple[Any, ...] | None = None

    # In the forward pass.

    def save_for_backward(self, *arrays: Any) -> None:
        """Save arrays (inputs, outputs, or others) for the backward rule; None stays None. The last call counts."""
        self._saved = arrays

    def save_for_forward(self, *arrays: Any) -> None:
        """Save arrays for the forward-mode rule; without it, it finds those that are saved for backward."""
        self._saved_forward = arrays

    def mark_non_differentiable(self, *outputs: Any) -> None:
        """Mark outputs that no gradient flows through. Those of integers and booleans need not be named."""
        self._dead = outputs

    def set_materialize_grads(self, value: bool) -> None:  # noqa: FBT001 - torch's signature
        """Set whether the gradient of an output that was not used comes as zeros (the default) or as None."""
        self._materializes = value

    def mark_dirty(self, *_: Any) -> None:
        """Refuse: the inputs of a wrapped function are read-only wherever its library can mark them so."""
        raise TypeError("a wrapped function cannot modify its inputs in place, so there is nothing to mark: return a new array.")

    # In the rules.

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """The saved arrays, in the library of the function; read-only where it can mark them so."""
        if self._arrays is None:
            raise RuntimeError("ctx.saved_tensors is there in the rules (backward, jvp), not while the function runs.")
        return self._arrays

    @property
    def needs_input_grad(self) -> tuple[Any, ...]:
        """Whether each input needs a gradient: a boolean for an array, a tree of them for a tree. In the backward rule."""
        if self._needs is None:
            raise RuntimeError("ctx.needs_input_grad is there in the backward rule: which gradients are needed is known only then.")
        return self._needs

    @classmethod
    def for_rule(cls, arrays: tuple[Any, ...], needs: tuple[Any, ...]) -> Context:
        """Return one that nothing was set on, for one run of a rule."""
        made = cls.__new__(cls)
        made._arrays, made._needs = arrays, needs
        return made

    def with_saved(self, arrays: tuple[Any, ...], needs: tuple[Any, ...] | None = None) -> Context:
        """Return a copy for one run of a rule, with the saved arrays. This one must not refer to them: it lives as long as the graph."""
        made = Context.__new__(Context)
        vars(made).update(vars(self))
        made._arrays, made._needs = arrays, needs
        return made

    @property
    def has_attributes(self) -> bool:
        """Whether an attribute was set on it."""
        return bool(vars(self).keys() - vars(Context()).keys())

    def count_saved(self, array: Any) -> int:
        """Return how many references to an array are those of what is saved or marked."""
        groups = (self._saved, self._saved_forward, self._dead)
        return sum(one is array for some in groups if some for one in some)

    def release_saved(self) -> Context:
        """Drop the references to arrays that torch has saved."""
        self._saved = self._saved_forward = None
        self._dead = ()
        return self
