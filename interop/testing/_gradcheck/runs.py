"""Gradients against those of another run, which should be the same: other patterns, layouts, threads, slices, orders.

None of these needs a derivative to be right: the gradients that are compared with are those of a plain run, which
`interop.testing._gradcheck.numerical` compares with numerical ones. So they are compared far more closely than numbers that were differenced.
"""

from __future__ import annotations

import contextvars
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from threading import Barrier
from typing import TYPE_CHECKING, Any

import torch

from interop.testing._gradcheck.case import differences, summary, tried

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from interop.testing._gradcheck.case import Case

Tensors = list[torch.Tensor]
_SLICES = 3
_ALL_PATTERNS = 5  # inputs, up to which every subset of them is tried: 32 runs


def determinism(case: Case) -> Iterator[str]:
    """Check that a second run has the results of the first."""
    found = [one.detach() for one in case.function(case.tensors())]
    yield from differences(case.outputs, found, case.results, case.limits.nondet_tol, 0)


def interleaved(case: Case) -> Iterator[str]:
    """Check that a call is not disturbed by another before its backward pass, nor its results."""
    samples = list(case.samples(2, case.wanted, "calls that disturb each other"))
    runs = [(tensors := case.tensors(values), case.function(tensors)) for values, _ in samples]
    for (tensors, results), (_, expected) in zip(runs, samples, strict=True):
        yield from case.compare((results, case.vjp(results, tensors)), expected)


class _Unused(torch.autograd.Function):
    """Lets no gradient through, as a result has that is not used."""

    @staticmethod
    def forward(_: Any, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.clone()

    @staticmethod
    def backward(*_: Any) -> None:
        return None


def _unused_result(result: torch.Tensor) -> torch.Tensor:
    apply: Callable[[torch.Tensor], torch.Tensor] = _Unused.apply
    return apply(result)


def unused(case: Case) -> Iterator[str]:
    """Check that a result that is not used counts as one whose gradient is zero."""
    for number, at in enumerate(case.live):
        yield from tried(f"without {case.outputs[at]}", _without, case, number, at)


def _without(case: Case, number: int, at: int) -> Iterator[str]:
    results = case.function(tensors := case.tensors())
    zeros = [torch.zeros_like(one) if position == number else one for position, one in enumerate(case.incoming())]
    expected = case.vjp(results, tensors, zeros)
    found = case.vjp([*results[:at], _unused_result(results[at]), *results[at + 1 :]], tensors)
    yield from differences(case.gradients, found, expected, case.limits.nondet_tol)


def accumulated(case: Case) -> Iterator[str]:
    """Check that a second backward pass adds to the first, and that what torch adds up is not the function's own memory."""
    results = case.function(tensors := case.tensors())
    for _ in range(2):
        torch.autograd.backward(case.lively(results), case.incoming(), retain_graph=True)
    sources = [tensors[at] for at in case.wanted]
    found = [torch.zeros_like(one) if one.grad is None else one.grad for one in sources]
    yield from differences(case.gradients, found, [2 * grad for grad in case.grads], case.limits.nondet_tol)
    for text in differences(case.gradients, case.vjp(results, tensors), case.grads, case.limits.nondet_tol):
        yield f"after gradients were added up in place: {text}"


# Which inputs need a gradient.


def patterns(case: Case) -> Iterator[str]:
    """Check that each gradient is the same whichever other inputs need one."""
    for needs in _subsets(case.wanted):
        names = [repr(case.names[at]) for at in needs]
        label = f"with a gradient for {' and '.join(names) or 'no input'}{' only' if names else ''}"
        yield from tried(label, _pattern, case, needs)


def _subsets(wanted: Sequence[int]) -> list[tuple[int, ...]]:
    sizes = range(len(wanted) + 1) if len(wanted) <= _ALL_PATTERNS else (0, 1, len(wanted) - 1, len(wanted))
    return [needs for size in sizes for needs in combinations(wanted, size)]


def _pattern(case: Case, needs: tuple[int, ...]) -> Iterator[str]:
    tensors = case.tensors(needs=needs)
    results = case.function(tensors)
    if not needs and (tracked := [name for name, one in zip(case.outputs, results, strict=True) if one.requires_grad]):
        yield f"{tracked[0]} requires a gradient"
    yield from differences(case.outputs, results, case.results, case.limits.nondet_tol)
    pairs = [(name, grad) for at, name, grad in zip(case.wanted, case.gradients, case.grads, strict=True) if at in needs]
    found = case.vjp(results, tensors)
    yield from differences([name for name, _ in pairs], found, [grad for _, grad in pairs], case.limits.nondet_tol)


# How tensors lie in memory. Each returns the values in another layout, or None where there is none.


def _strided(value: torch.Tensor) -> torch.Tensor | None:
    floats = value.is_floating_point() or value.is_complex()
    between = torch.full_like(value, torch.nan) if floats else torch.zeros_like(value)  # what must not be read
    return torch.stack((between, value), dim=-1)[..., 1]


def _transposed(value: torch.Tensor) -> torch.Tensor | None:
    order = tuple(reversed(range(value.dim())))
    made = value.permute(order).contiguous().permute(order)
    return None if made.is_contiguous() else made


def _expanded(value: torch.Tensor) -> torch.Tensor | None:
    axis = next((axis for axis, size in enumerate(value.shape) if size > 1), None)
    return None if axis is None else value.narrow(axis, 0, 1).expand_as(value)


def _conjugated(value: torch.Tensor) -> torch.Tensor | None:
    return value.conj().resolve_conj().conj() if value.is_complex() else None


def _negated(value: torch.Tensor) -> torch.Tensor | None:
    if value.dtype not in (torch.float32, torch.float64):
        return None
    return torch.complex(torch.zeros_like(value), -value).conj().imag


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor | None]] = {
    "strided": _strided,
    "transposed": _transposed,
    "expanded": _expanded,
    "conjugated": _conjugated,
    "negated": _negated,
}
"""Memory layouts by name: gaps between the elements, axes in reverse order, stride 0, pending conjugation and negation."""


def input_layouts(case: Case, kinds: Collection[str]) -> Iterator[str]:
    """Check that nothing depends on how an input lies in memory."""
    for at, name in enumerate(case.names):
        for kind in kinds:
            laid = LAYOUTS[kind](case.values[at].clone())
            if laid is None:
                continue
            expected = _expected(case, at, laid)
            if isinstance(expected, str):
                case.unchecked[f"{name!r} {kind}"] = expected
            else:
                yield from tried(f"{name!r} {kind}, strides {laid.stride()}", _laid, case, at, laid, expected)


def _laid(case: Case, at: int, laid: torch.Tensor, expected: tuple[Tensors, Tensors]) -> Iterator[str]:
    yield from case.compare(case.run(case.put(at, laid)), expected)


def _expected(case: Case, at: int, laid: torch.Tensor) -> tuple[Tensors, Tensors] | str:
    """Return results and gradients for the same values in plain layout; or why there are none to compare with."""
    plain = laid.resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
    if torch.equal(plain, case.values[at]):
        return case.results, case.grads
    try:
        results, grads = case.run(case.put(at, plain))
    except Exception as error:  # equal rows may make a matrix singular, for one: whatever it raises
        return f"the function does not take these values: {summary(error)}"
    if not _tame([*results, *grads], [*case.results, *case.grads]):
        return "for these values its results are not finite, or so large that rounding decides about them"
    return results, grads


def _tame(found: Tensors, usual: Tensors) -> bool:
    """Whether values are such that rounding does not decide about them: a matrix that is nearly singular has others."""
    return all(
        bool(one.isfinite().all()) and (not one.numel() or one.abs().max() <= 1e6 * (1 + other.abs().max()))
        for one, other in zip(found, usual, strict=True)
    )


def incoming_layouts(case: Case, kinds: Collection[str]) -> Iterator[str]:
    """Check that no gradient depends on how an incoming one lies in memory; ``.sum()`` sends one of stride 0."""
    for number, at in enumerate(case.live):
        for kind in kinds:
            value = case.cotangents[number].clone()
            laid = value.flatten()[:1].squeeze().expand_as(value) if kind == "expanded" and value.numel() else LAYOUTS[kind](value)
            if laid is not None:
                label = f"the gradient of {case.outputs[at]} {kind}, strides {laid.stride()}"
                yield from tried(label, _incoming, case, number, laid)


def _incoming(case: Case, number: int, laid: torch.Tensor) -> Iterator[str]:
    plain = laid.resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
    results = case.function(tensors := case.tensors())
    expected, found = (
        case.vjp(results, tensors, [one if at == number else other for at, other in enumerate(case.incoming())]) for one in (plain, laid)
    )
    yield from differences(case.gradients, found, expected, case.limits.nondet_tol)


# Threads.


def several_threads(case: Case, count: int) -> Iterator[str]:
    """Check that results and gradients in several threads at once are those of each alone, with the backward pass in each thread."""
    samples = list(case.samples(count, case.wanted, "threads that disturb each other"))
    barrier = Barrier(count, timeout=60)

    def work(values: Tensors) -> list[tuple[Tensors, Tensors]]:
        try:
            tensors = case.tensors(values)
            barrier.wait()
            results = case.function(tensors)
            barrier.wait()  # so that all are between forward and backward at once
            found = [(results, case.vjp(results, tensors))]
            return found + [case.run(case.tensors(values)) for _ in range(3)]
        except BaseException:
            barrier.abort()
            raise

    texts = [
        text
        for number, found in enumerate(_at_once(work, [values for values, _ in samples]))
        for text in tried(f"in thread {number + 1} of {count}", _of_thread, case, found, samples[number][1])
    ]
    # Where one thread failed, the others did not meet it.
    yield from [text for text in texts if "BrokenBarrierError" not in text] or texts


def _of_thread(case: Case, found: Any, expected: tuple[Tensors, Tensors]) -> Iterator[str]:
    for one in found():
        texts = list(case.compare(one, expected))
        if texts:
            yield from texts
            return


def _at_once(work: Callable[[Tensors], Any], items: Sequence[Tensors]) -> list[Callable[[], Any]]:
    """Run something in a thread for each item, in the scopes of the caller; return what gives each result, or raises."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns as often as they can, so that what is shared is met half done
    try:
        with ThreadPoolExecutor(len(items)) as pool:
            return [pool.submit(contextvars.copy_context().run, work, item).result for item in items]
    finally:
        sys.setswitchinterval(interval)


# vmap.


def slices(case: Case) -> Iterator[str]:
    """Check that vmap gives what a loop over the slices gives."""
    everything = dict.fromkeys(case.wanted, 0)
    yield from tried("over the first axis of all", _vmapped, case, everything)
    for at in case.wanted:
        last = case.values[at].dim()
        yield from tried(f"over the last axis of {case.names[at]!r} only", _vmapped, case, {at: last})
    yield from tried("over the incoming gradient only", _vmapped_back, case)


def _vmapped(case: Case, dims: dict[int, int]) -> Iterator[str]:
    samples = list(case.samples(_SLICES, list(dims), "vmap that mixes up its slices"))
    columns = zip(*(values for values, _ in samples), strict=True)
    given = [torch.stack(list(column), dims[at]) if at in dims else column[0] for at, column in enumerate(columns)]
    axes = tuple(map(dims.get, range(len(given))))
    results = torch.vmap(lambda *tensors: tuple(case.function(tensors)), in_dims=axes)(*given)
    grads = torch.vmap(lambda *tensors: _differentiated(case, tensors), in_dims=axes)(*given)
    expected = [[torch.stack(column) for column in zip(*rows, strict=True)] for rows in zip(*(both for _, both in samples), strict=True)]
    yield from case.compare((results, grads), (expected[0], expected[1]))


def _differentiated(case: Case, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Return the gradients by way of `torch.func`."""

    def function(*sources: torch.Tensor) -> tuple[torch.Tensor, ...]:
        whole = list(tensors)
        for at, source in zip(case.wanted, sources, strict=True):
            whole[at] = source
        return tuple(case.lively(case.function(whole)))

    _, back, *_ = torch.func.vjp(function, *(tensors[at] for at in case.wanted))
    grads: tuple[torch.Tensor, ...] = back(tuple(case.incoming()))
    return grads


def _vmapped_back(case: Case) -> Iterator[str]:
    results = case.function(tensors := case.tensors())
    batch = [torch.stack([one * (1 - number / 2) for number in range(_SLICES)]) for one in case.incoming()]
    # As torch.autograd.functional.jacobian(vectorize=True) and torch.func.jacrev do.
    found = torch.vmap(lambda *grads: tuple(case.vjp(results, tensors, grads)))(*batch)
    rows = [case.vjp(results, tensors, [one[number] for one in batch]) for number in range(_SLICES)]
    expected = [torch.stack(column) for column in zip(*rows, strict=True)]
    yield from differences(case.gradients, found, expected, case.limits.nondet_tol)
