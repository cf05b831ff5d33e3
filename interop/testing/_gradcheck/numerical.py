"""Gradients against numerical derivatives: torch's own `gradcheck`, and where it fails, what, by how much, and where.

torch's gradcheck gives the verdict. It prints whole Jacobians by number, so where it fails they are made once more here, of
real numbers, to report names and places. Not its gradgradcheck: a gradient that lost its graph is none of the outputs
that it looks at, so a term that is dropped whole passes. Here such a gradient counts as constant, and is compared.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch.autograd import forward_ad
from torch.autograd.gradcheck import GradcheckError, gradcheck

from interop.errors import GradError
from interop.testing._gradcheck.case import Case, Limits, differences, spot, summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Function = Callable[..., tuple[torch.Tensor, ...]]

Jacobian = dict[tuple[int, int], torch.Tensor]

# torch's errors for what it cannot differentiate: a function of its own, and an autograd.Function.
_REFUSALS = ("not implemented", "once_differentiable", "must implement the jvp", "has not been implemented yet")


def gradients(case: Case) -> Iterator[str]:
    """Check the backward rule; what it returns is what other checks compare with."""
    _, case.grads = case.run(case.tensors())
    yield from _Numerical(case, _plain(case), case.tensors()).findings()
    yield from _nonlinear(case)


def double_backward(case: Case, *, must: bool) -> Iterator[str]:
    """Check the gradient of the gradient; one that refuses to be differentiated passes, unless it `must` be right."""

    def given() -> list[torch.Tensor]:
        return [*case.tensors(), *(one.requires_grad_() for one in case.incoming())]

    def twice() -> None:
        grads = _gradients_of(case)(*given())
        # Not autograd.grad: asked for certain inputs only, torch does not reach the node with which once_differentiable raises.
        torch.autograd.backward(grads, [one.detach() for one in grads])

    if not _refused(twice, must=must):
        names = [*case.names, *(f"the gradient of {case.outputs[at]}" for at in case.live)]
        yield from _Numerical(case, _gradients_of(case), given(), names, case.gradients).findings()


def forward_mode(case: Case, *, must: bool) -> Iterator[str]:
    """Check the forward-mode rule; a function that refuses forward mode passes, unless it `must` be right."""
    _load_forward_mode()

    def once() -> None:
        tensors = case.tensors()
        with forward_ad.dual_level():
            case.function([_dual(one, one.detach().clone()) if at in case.wanted else one for at, one in enumerate(tensors)])

    if not _refused(once, must=must):
        yield from _Numerical(case, _plain(case), case.tensors(), forward=True).findings()


def _plain(case: Case) -> Function:
    return lambda *tensors: tuple(case.lively(case.function(tensors)))


def _gradients_of(case: Case) -> Function:
    """Return the gradients as a function of inputs and incoming gradients."""

    def vjp(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given, grads = tensors[: len(case.names)], tensors[len(case.names) :]
        sources = [given[at] for at in case.wanted]
        found = torch.autograd.grad(case.lively(case.function(given)), sources, grads, create_graph=True, allow_unused=True)
        constant = sum(one.real.sum() * 0 for one in grads)  # what has no graph gets one, with derivatives of zero
        made = [torch.zeros_like(one) if grad is None else grad for one, grad in zip(sources, found, strict=True)]
        return tuple(one if one.requires_grad else one + constant for one in made)

    return vjp


def _dual(tensor: torch.Tensor, tangent: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = forward_ad.make_dual(tensor.detach(), tangent)
    return made


def _load_forward_mode() -> None:
    """Let torch load its forward mode: the first time it warns of its own use of torch.jit.script."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        # Of any class: a DeprecationWarning up to torch 2.13, a FutureWarning from 2.14 on, for whom the message is another on
        # Python 3.14 (https://github.com/pytorch/pytorch/blob/v2.14.0/torch/_decomp/decompositions_for_jvp.py#L93).
        warnings.filterwarnings("ignore", message="`torch.jit.script`")
        _dual(torch.zeros(()), torch.zeros(()))


def _refused(run: Callable[[], None], *, must: bool) -> bool:
    """Whether a function raises that it cannot be differentiated so; raises the error if it must be, and any other."""
    try:
        run()
    except RuntimeError as error:
        if must or not (isinstance(error, GradError) or any(text in str(error) for text in _REFUSALS)):
            raise
        return True
    return False


def _nonlinear(case: Case) -> Iterator[str]:
    """Check that a backward rule is linear: torch's check has ones and zeros come in, of which the squares are themselves."""
    results = case.function(tensors := case.tensors())
    first, second = case.incoming(), [-3 * one.flip(tuple(range(one.dim()))) for one in case.incoming()]
    both = case.vjp(results, tensors, [2 * one - other for one, other in zip(first, second, strict=True)])
    apart = (case.vjp(results, tensors, grads) for grads in (first, second))
    expected = [2 * one - other for one, other in zip(*apart, strict=True)]
    for text in differences(case.gradients, both, expected, case.limits.atol, case.limits.rtol):
        yield f"the rule is not linear in the incoming gradient: {text}"


class _Numerical:
    """One comparison of a function's derivatives with numerical ones."""

    def __init__(
        self,
        case: Case,
        function: Function,
        tensors: list[torch.Tensor],
        names: list[str] | None = None,
        outputs: list[str] | None = None,
        *,
        forward: bool = False,
    ) -> None:
        self.limits: Limits = case.limits
        self.function, self.tensors, self.forward = function, tensors, forward
        self.names = case.names if names is None else names
        self.outputs = [case.outputs[at] for at in case.live] if outputs is None else outputs
        self.wanted = [at for at, one in enumerate(tensors) if one.requires_grad]

    def findings(self) -> Iterator[str]:
        """Yield what differs."""
        limits = self.limits
        try:
            # Results that are not used are a check of their own, of which torch would also warn.
            gradcheck(
                self.function,
                tuple(self.tensors),
                eps=limits.eps,
                atol=limits.atol,
                rtol=limits.rtol,
                nondet_tol=limits.nondet_tol,
                check_undefined_grad=self.forward,
                check_forward_ad=self.forward,
                check_backward_ad=not self.forward,
            )
        except GradcheckError as error:
            yield from list(self._located()) or [summary(error).partition(": ")[2].partition("\n")[0]]

    def _located(self) -> Iterator[str]:
        numerical, analytical = self._numerical(), self._forward() if self.forward else self._reverse()
        for source in self.wanted:
            for at, output in enumerate(self.outputs):
                if not numerical.keys() & analytical.keys() & {(at, source)}:
                    continue  # one of the two has no elements
                want, have = numerical[at, source], analytical[at, source]
                apart = (have - want).abs().nan_to_num(torch.inf)
                bad = ~(apart <= self.limits.atol + self.limits.rtol * want.abs())
                if bad.any():
                    worst = int(torch.where(bad, apart, -1).argmax())
                    row, column = divmod(worst, want.shape[1])
                    places = f"from {self.names[source]}{_part(self.tensors[source], row)} to {output}{_part(self.function(*self.tensors)[at], column)}"
                    values = f"analytical {have.flatten()[worst]:.6g}, numerical {want.flatten()[worst]:.6g}"
                    many = f"{int(bad.sum())} of {bad.numel()} derivatives by {self.names[source]!r}"
                    yield f"{many} differ, the greatest by {apart.flatten()[worst]:.6g} {places}: {values}"

    # Jacobians of real numbers: a row for each real number of an input, a column for each of an output.

    def _numerical(self) -> Jacobian:
        def ends(source: int, row: int, step: float) -> list[torch.Tensor]:
            moved = [one.detach().clone().requires_grad_(one.requires_grad) for one in self.tensors]
            _reals(moved[source].detach())[row] += step
            return [_reals(one) for one in self.function(*moved)]

        def column(source: int, row: int) -> list[torch.Tensor]:
            sides = zip(ends(source, row, self.limits.eps), ends(source, row, -self.limits.eps), strict=True)
            return [(after - before) / (2 * self.limits.eps) for after, before in sides]

        return self._stacked(column)

    def _forward(self) -> Jacobian:
        def column(source: int, row: int) -> list[torch.Tensor]:
            tangent = torch.zeros_like(self.tensors[source])
            _reals(tangent)[row] = 1
            with forward_ad.dual_level():
                given = [_dual(one, tangent) if at == source else one.detach() for at, one in enumerate(self.tensors)]
                pairs = [forward_ad.unpack_dual(one) for one in self.function(*given)]
                return [_reals(torch.zeros_like(one.primal) if one.tangent is None else one.tangent).clone() for one in pairs]

        return self._stacked(column)

    def _reverse(self) -> Jacobian:
        found: Jacobian = {}
        results = self.function(*self.tensors)
        sources = [self.tensors[at] for at in self.wanted]
        for at, result in enumerate(results):
            columns: list[list[torch.Tensor]] = [[] for _ in sources]
            for number in range(len(_reals(result))):
                cotangent = torch.zeros_like(result, memory_format=torch.contiguous_format)
                _reals(cotangent)[number] = 1
                grads = torch.autograd.grad(result, sources, cotangent, retain_graph=True, allow_unused=True)
                for column, source, grad in zip(columns, sources, grads, strict=True):
                    column.append(_reals(torch.zeros_like(source) if grad is None else grad).clone())
            found |= {(at, source): torch.stack(column, dim=1) for source, column in zip(self.wanted, columns, strict=True) if column}
        return found

    def _stacked(self, column: Callable[[int, int], list[torch.Tensor]]) -> Jacobian:
        found: Jacobian = {}
        for source in self.wanted:
            rows: Sequence[list[torch.Tensor]] = [column(source, row) for row in range(len(_reals(self.tensors[source])))]
            found |= {(at, source): torch.stack(parts) for at, parts in enumerate(zip(*rows, strict=True))}
        return found


def _reals(tensor: torch.Tensor) -> torch.Tensor:
    """Return the real numbers of a tensor, in one row; of its own memory if it is contiguous."""
    bare = tensor.detach()
    return (torch.view_as_real(bare.resolve_conj()) if bare.is_complex() else bare).reshape(-1)


def _part(tensor: torch.Tensor, number: int) -> str:
    """Return which element of a tensor one of its real numbers is."""
    if not tensor.is_complex():
        return spot(number, tensor.shape)
    return spot(number // 2, tensor.shape) + (".imag" if number % 2 else ".real")
