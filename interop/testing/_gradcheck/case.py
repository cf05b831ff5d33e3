"""A function of tensors that is to be checked, and the tensors to check it with: run it, compute gradients, compare.

What the checks of `interop.testing.gradcheck` use; they are in `interop.testing._gradcheck.numerical` (against numerical derivatives)
and `.runs` (against another run of the same function). Every run gets tensors of its own, so that no check can
spoil the next, and neither can a function that writes where it should not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from interop.errors import LayoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Tensors = list[torch.Tensor]
_DOUBLE = (torch.float64, torch.complex128)

# Other values of the same kind. Scaled down, what is positive, within the unit ball or positive definite stays so; scaled up,
# what is greater than one does; rolled, what adds up to one.
_VARIATIONS: tuple[Callable[[torch.Tensor, int], torch.Tensor], ...] = (
    lambda value, number: value * (1 - number / 64),
    lambda value, number: value * (1 + number / 64),
    lambda value, number: value.roll(number, -1) if value.dim() else value,
)
_SAME = 6e-8  # of the greatest value: half the digits of float64, for sums in another order


@dataclass(frozen=True)
class Limits:
    """Tolerances, in the words of `torch.autograd.gradcheck`; `nondet_tol` is for what should be the same to the last bit."""

    eps: float
    atol: float
    rtol: float
    nondet_tol: float


@dataclass
class Case:
    """A function of tensors only, and values for them.

    Attributes
    ----------
    function : callable
        Takes a list of tensors and returns the tensors of its result, in order.
    names, outputs : list of str
        What the tensors are called that go in and come out.
    values : list of tensor
        What goes in, detached; every run gets copies.
    wanted : list of int
        Which of them are differentiated.
    live : list of int
        The results that a gradient flows through.
    cotangents : list of tensor
        A gradient for each of those.
    results, grads : list of tensor
        What comes out, and the gradients that the rule has for `cotangents`; all else is compared with them.
    unchecked : dict of str to str
        What could not be compared, because the function does not take the values for it, and why.
    """

    function: Callable[[Sequence[Any]], Tensors]
    names: list[str]
    values: Tensors
    wanted: list[int]
    limits: Limits
    outputs: list[str] = field(default_factory=list)
    live: list[int] = field(default_factory=list)
    cotangents: Tensors = field(default_factory=list)
    results: Tensors = field(default_factory=list)
    grads: Tensors = field(default_factory=list)
    unchecked: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, function: Callable[[Sequence[Any]], Tensors], names: list[str], tensors: Sequence[torch.Tensor], limits: Limits) -> Case:
        """Return the case for tensors of a caller: those that require a gradient are differentiated, or all if none does."""
        floats = [at for at, one in enumerate(tensors) if one.is_floating_point() or one.is_complex()]
        wanted = [at for at in floats if tensors[at].requires_grad] or floats
        if not wanted:
            raise TypeError("gradcheck: there is no tensor of floats among the inputs, so there is nothing to differentiate.")
        for at, name in enumerate(names):
            _check(tensors[at], name, wanted=at in wanted)
        values = [one.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format) for one in tensors]
        return cls(function, names, values, wanted, limits)

    def start(self, outputs: Callable[[], list[str]]) -> None:
        """Run the function once: see what comes out, and what of it carries a gradient."""
        results = self.function(self.tensors())
        self.results, self.outputs = [one.detach().clone() for one in results], outputs()
        self.live = [at for at, one in enumerate(results) if one.requires_grad]
        if not self.live:
            raise AssertionError("gradcheck: no result requires a gradient, so none could be right.")
        for at in self.live:
            if (dtype := results[at].dtype) not in _DOUBLE:
                raise _too_coarse(self.outputs[at], dtype, " throughout.")
        source = torch.Generator().manual_seed(0)
        for one in (results[at] for at in self.live):
            made = torch.randn(one.shape, dtype=one.dtype, generator=source)
            self.cotangents.append(made.to(one.device))

    def tensors(self, values: Sequence[torch.Tensor] | None = None, needs: Iterable[int] | None = None) -> Tensors:
        """Return tensors for one run, of which those in `needs` (default: in `wanted`) require a gradient."""
        tracked = set(self.wanted if needs is None else needs)
        copies = [value.clone() for value in (self.values if values is None else values)]
        return [one.requires_grad_() if at in tracked else one for at, one in enumerate(copies)]

    def put(self, at: int, tensor: torch.Tensor) -> Tensors:
        """Return tensors for one run, with this one, laid out as it is, at one place."""
        made = self.tensors()
        made[at] = tensor.detach().requires_grad_(at in self.wanted)
        return made

    def incoming(self) -> Tensors:
        """Return the gradients for the results, for one run."""
        return [one.clone() for one in self.cotangents]

    def lively(self, results: Sequence[torch.Tensor]) -> Tensors:
        """Return those of the results that a gradient flows through."""
        return [results[at] for at in self.live]

    def vjp(self, results: Sequence[torch.Tensor], tensors: Sequence[torch.Tensor], cotangents: Sequence[Any] | None = None) -> Tensors:
        """Return the gradient of each tensor that is differentiated and requires one; zeros where torch has none."""
        sources = [one for at, one in enumerate(tensors) if at in self.wanted and one.requires_grad]
        pairs = zip(self.lively(results), self.incoming() if cotangents is None else cotangents, strict=True)
        pairs_there = [(one, grad) for one, grad in pairs if one.requires_grad and grad is not None]
        if not pairs_there or not sources:
            return [torch.zeros_like(one) for one in sources]
        ends, grads = zip(*pairs_there, strict=True)
        found = torch.autograd.grad(ends, sources, grads, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(one) if grad is None else grad for one, grad in zip(sources, found, strict=True)]

    def run(self, tensors: Sequence[torch.Tensor], cotangents: Sequence[Any] | None = None) -> tuple[Tensors, Tensors]:
        """Return the results, copied before anything can be written over them, and the gradients of one run, copied too."""
        results = self.function(tensors)
        copies = [one.detach().clone() for one in results]
        return copies, [one.clone() for one in self.vjp(results, tensors, cotangents)]

    def samples(self, count: int, varied: Sequence[int], purpose: str) -> Iterator[tuple[Tensors, tuple[Tensors, Tensors]]]:
        """Yield values that differ a little at the places `varied`, with results and gradients of a run with them.

        Where the function takes no others the values are the same, and what they are for, `purpose`, is noted as unchecked.
        """
        yield self.values, self.run(self.tensors())
        for number in range(1, count):
            yield self._sample(number, varied, purpose)

    def _sample(self, number: int, varied: Sequence[int], purpose: str) -> tuple[Tensors, tuple[Tensors, Tensors]]:
        why = "no other values could be made of those that were given"
        for vary in _VARIATIONS:
            values = [vary(value, number) if at in varied else value for at, value in enumerate(self.values)]
            if all(map(torch.equal, values, self.values)):
                continue
            try:
                return values, self.run(self.tensors(values))
            except Exception as error:  # the function, whatever it is, does not take them
                why = f"the function takes no other values: {summary(error)}"
        if any(self.values[at].numel() for at in varied):
            self.unchecked.setdefault(purpose, why)
        return self.values, (self.results, self.grads)

    def compare(self, found: tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]], expected: tuple[Tensors, Tensors]) -> Iterator[str]:
        """Yield what differs between the results and gradients of two runs."""
        yield from differences(self.outputs, found[0], expected[0], self.limits.nondet_tol)
        yield from differences(self.gradients, found[1], expected[1], self.limits.nondet_tol)

    @property
    def gradients(self) -> list[str]:
        """What the gradients are called."""
        return [f"the gradient of {self.names[at]!r}" for at in self.wanted]


def _check(tensor: torch.Tensor, name: str, *, wanted: bool) -> None:
    if tensor.layout is not torch.strided or tensor.is_meta:
        raise LayoutError(f"gradcheck: {name} is {tensor.layout} on {tensor.device}.", hint="Check with dense tensors that have data.")
    if wanted and tensor.dtype not in _DOUBLE:
        choice = "or let only those require a gradient that are to be differentiated."
        raise _too_coarse(name, tensor.dtype, f": pass {name}.double(), {choice}")


def _too_coarse(name: str, dtype: torch.dtype, rest: str) -> TypeError:
    return TypeError(f"gradcheck: {name} is {dtype}, and numerical derivatives need float64 or complex128{rest}")


def differences(
    names: Sequence[str], found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], atol: float, rtol: float = _SAME
) -> Iterator[str]:
    """Yield, for each pair of tensors that differ, by how much and where; `rtol` is of the greatest value."""
    for name, one, other in zip(names, found, expected, strict=True):
        if one.shape != other.shape or one.dtype != other.dtype:
            yield f"{name} is {one.dtype} of shape {tuple(one.shape)}, expected {other.dtype} of shape {tuple(other.shape)}"
            continue
        have, want = one.detach(), other.detach()
        if want.dtype not in _DOUBLE:
            have, want = have.to(torch.complex128), want.to(torch.complex128)
        apart = (have - want).abs().nan_to_num(torch.inf)
        apart[(have == want) | (have.isnan() & want.isnan())] = 0
        if not apart.numel() or apart.max() <= atol + rtol * want.abs().nan_to_num(0, 0, 0).max():
            continue
        at = spot(int(apart.argmax()), apart.shape)
        values = f"{have.flatten()[apart.argmax()].item():.6g}, expected {want.flatten()[apart.argmax()].item():.6g}"
        yield f"{name}: greatest difference {apart.max():.6g}{at and f' at {at}'}: {values}"


def spot(number: int, shape: Sequence[int]) -> str:
    """Return the place of an element as an index: ``[0, 1]``; of none if there are no axes."""
    index = [int(one) for one in torch.unravel_index(torch.tensor(number), tuple(shape))]
    return f"[{', '.join(map(str, index))}]" if index else ""


def summary(error: BaseException) -> str:
    """Return an error in a few words."""
    return f"{type(error).__name__}: {' '.join(map(str, error.args)).strip().partition(chr(10) + chr(10))[0]}"


def finding(error: BaseException) -> str:
    """Return the finding for an error of the function that is checked."""
    return f"raised {summary(error)}"


def tried(label: str, run: Callable[..., Iterable[str]], *args: Any) -> Iterator[str]:
    """Yield what a run finds, or raises, with a label."""
    try:
        found = list(run(*args))
    except Exception as error:  # of the function that is checked: whatever it is, it is the finding
        found = [finding(error)]
    yield from (f"{label}: {one}" for one in found)
