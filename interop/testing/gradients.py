"""`gradcheck`: everything that can be wrong with a function in torch's graph, tried on it.

This module takes a call apart and puts the findings together; what is tried is in `interop.testing._gradcheck.numerical`
(against numerical derivatives) and `interop.testing._gradcheck.runs` (against another run). All checks are made, and all that
fail are reported, except where the function cannot be run twice alike, or backward at all: then the others would add nothing.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from interop.testing.memory import assert_source_untouched

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from interop.testing._gradcheck.case import Case

__all__ = ["gradcheck"]

_MOST_FINDINGS = 6  # findings of each check; a wrong rule is wrong under every pattern and layout


def gradcheck(
    function: Callable[..., Any],
    inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    nondet_tol: float = 0.0,
    double: bool | None = None,
    forward_mode: bool | None = None,
    patterns: bool = True,
    layouts: bool | Collection[str] = True,
    threads: int = 4,
    vmap: bool = True,
) -> None:
    """Raise AssertionError unless the gradients of a function are right, however it is called.

    Made for functions of `interop.autograd.wrap`; any function of tensors can be checked. It is always checked that two runs
    give the same, that gradients agree with numerical ones and are linear in the incoming gradient, that inputs and incoming gradients
    are left as they were, that a second backward pass adds to the first, that results that are not used do no harm, and that calls
    do not disturb each other. Some of it needs other values than those given, as threads do that must not mix up theirs; where the
    function does not take them, a UserWarning names what could not be checked.

    Parameters
    ----------
    function : callable
        It takes tensors, and returns tensors (or trees of them).
    inputs : tensor or tuple
        Its arguments: tensors, trees of tensors, and anything else. Those that require a gradient are differentiated; all tensors
        of floats, if none does. They have to be float64 or complex128. The function is given copies.
    kwargs : dict, optional
        Further arguments of the function, by keyword.
    eps, atol, rtol, nondet_tol : float
        As `torch.autograd.gradcheck` takes them: the step of numerical derivatives, how far gradients may be from them, and how far two
        runs from each other. What is compared with another run may differ by rounding besides.
    double : bool, optional
        The gradient of the gradient. True: it must be right. None: so it must, if the function has ``once_differentiable=False``
        or its library differentiates by itself (JAX); others may also refuse with an error. False leaves it out.
    forward_mode : bool, optional
        The same for forward mode; it must be right if the function has a ``jvp``, or a library that makes one.
    patterns : bool
        Every choice of inputs that need a gradient, up to five inputs; of more, each alone and all but one.
    layouts : bool or collection of str
        Inputs and incoming gradients that lie otherwise in memory: ``"strided"`` (with gaps), ``"transposed"``, ``"expanded"`` (of
        stride 0, as from ``.sum()``; of an input all slices become the first), ``"conjugated"``, ``"negated"`` (pending).
    threads : int
        So many threads at once, each with other values and its own backward pass; less than two leave this out. The caller's
        context variables are there in each; what is set for its thread only, as by `jax.enable_x64`, is not.
    vmap : bool
        `torch.vmap` of function and gradient against a loop over the slices.

    Raises
    ------
    AssertionError
        It names every check that failed, and for each what differed, by how much and where. What the function itself raises
        when it is simply called is raised as it is.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from interop.autograd import wrap
    >>> from interop.testing import gradcheck
    >>> @wrap(runs_on="numpy")
    ... def cube(x):
    ...     return x**3
    >>> @cube.backward
    ... def _(ctx, grad):
    ...     (x,) = ctx.saved_tensors
    ...     return 2 * x**2 * grad
    >>> gradcheck(cube, torch.tensor([1.0, 2.0], dtype=torch.float64))
    Traceback (most recent call last):
    ...
    AssertionError: gradcheck: cube fails 1 of 14 checks: gradients
    gradients:
      2 of 4 derivatives by 'x' differ, the greatest by 4 from x[1] to the result[1]: analytical 8, numerical 12
    """
    __tracebackhide__ = True
    from interop.testing._gradcheck.case import Case, Limits  # on request: it loads torch

    call = _Call(function, inputs, kwargs)
    kinds = _kinds(layouts)
    case = Case.of(call.run, call.names, call.tensors, Limits(eps, atol, rtol, nondet_tol))
    case.start(lambda: call.outputs)
    checks = [
        *_always(case),
        *_derivatives(case, function, double=double, forward_mode=forward_mode),
        *_other_runs(case, patterns=patterns, kinds=kinds, threads=threads, vmap=vmap),
    ]
    _report(call.name, checks, case)
    if case.unchecked:
        warnings.warn("\n".join([f"gradcheck: {call.name} passes, but some of it could not be checked.", *_unchecked(case)]), stacklevel=2)


def _unchecked(case: Case) -> list[str]:
    return [f"Not checked: {what} ({why})" for what, why in case.unchecked.items()]


class _Call:
    """The function as one of tensors only."""

    def __init__(self, function: Callable[..., Any], inputs: Any, kwargs: Mapping[str, Any] | None) -> None:
        from interop.autograd._arguments import FunctionSignature, taken
        from interop.autograd._torch.functions import TENSORS

        signature = FunctionSignature(function)
        args = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
        self.function, self.name = function, signature.name
        self.arguments = taken(signature, args, dict(kwargs or {}), TENSORS)
        self.tensors, self.names = self.arguments.tensors, self.arguments.names()
        self.outputs: list[str] = []

    def run(self, tensors: Sequence[Any]) -> list[Any]:
        """Call it, and return the tensors of its result."""
        from interop._trees.structure import flatten  # on request: it loads optree
        from interop.backends import find_backend, is_array

        args, kwargs = self.arguments.filled(tensors)
        node = flatten(self.function(*args, **kwargs))
        there = [at for at, leaf in enumerate(node.leaves) if is_array(leaf) and find_backend(leaf).name == "torch"]
        if not self.outputs:
            paths = list(node.paths("the result"))
            self.outputs = [paths[at] for at in there]
        return [node.leaves[at] for at in there]


class _Check(NamedTuple):
    """One check: how it is called, which keyword leaves it out, and whether a failure makes the other checks meaningless.

    `run` yields what it finds.
    """

    name: str
    keyword: str
    run: Callable[[], Iterable[str]]
    decides: str = ""  # "raised": only where it could not be made


def _always(case: Case) -> Iterator[_Check]:
    from interop.testing._gradcheck import numerical, runs

    yield _Check("determinism", "", lambda: runs.determinism(case), "failed")
    yield _Check("untouched inputs", "", lambda: _untouched_inputs(case), "failed")
    yield _Check("gradients", "", lambda: numerical.gradients(case), "raised")
    yield _Check("untouched gradients", "", lambda: _untouched_gradients(case))
    yield _Check("accumulated gradients", "", lambda: runs.accumulated(case))
    yield _Check("unused results", "", lambda: runs.unused(case))
    yield _Check("interleaved calls", "", lambda: runs.interleaved(case))


def _derivatives(case: Case, function: Any, *, double: bool | None, forward_mode: bool | None) -> Iterator[_Check]:
    from interop.testing._gradcheck import numerical

    operation = getattr(function, "operation", None)  # of a wrapped one
    derives = getattr(operation, "derives", False)
    twice = double or derives or not getattr(operation, "once", True)
    forward = forward_mode or derives or getattr(operation, "jvp", None) is not None
    if double is not False:
        yield _Check("double backward", "double", lambda: numerical.double_backward(case, must=twice))
    if forward_mode is not False:
        yield _Check("forward mode", "forward_mode", lambda: numerical.forward_mode(case, must=forward))


def _other_runs(case: Case, *, patterns: bool, kinds: Collection[str], threads: int, vmap: bool) -> Iterator[_Check]:
    from interop.testing._gradcheck import runs

    if patterns:
        yield _Check("patterns", "patterns", lambda: runs.patterns(case))
    if kinds:
        yield _Check("layouts of inputs", "layouts", lambda: runs.input_layouts(case, kinds))
        yield _Check("layouts of incoming gradients", "layouts", lambda: runs.incoming_layouts(case, kinds))
    if threads > 1:
        yield _Check("threads", "threads", lambda: runs.several_threads(case, threads))
    if vmap:
        yield _Check("vmap", "vmap", lambda: runs.slices(case))


def _kinds(layouts: Any) -> Collection[str]:
    from interop.testing._gradcheck.runs import LAYOUTS

    if isinstance(layouts, bool):
        return tuple(LAYOUTS) if layouts else ()
    if isinstance(layouts, str) or (unknown := [kind for kind in layouts if kind not in LAYOUTS]):
        wrong = layouts if isinstance(layouts, str) else unknown[0]
        raise ValueError(f"layouts: {wrong!r} is none of a collection of {', '.join(map(repr, LAYOUTS))}.")
    return tuple(layouts)


def _untouched(names: Sequence[str], tensors: Sequence[Any], run: Callable[[], Any]) -> Iterator[str]:
    ran = False
    try:
        with assert_source_untouched(dict(zip(names, tensors, strict=True))):
            run()
            ran = True
    except AssertionError as error:
        if not ran:  # it is the function's own
            raise
        yield from (line.removeprefix("arrays[0]") for line in str(error).splitlines()[1:])


def _untouched_inputs(case: Case) -> Iterator[str]:
    tensors = case.tensors()
    yield from _untouched(case.names, tensors, lambda: case.function(tensors))


def _untouched_gradients(case: Case) -> Iterator[str]:
    """Check the backward pass: it may write neither into what was saved nor into what comes in."""
    tensors, incoming = case.tensors(), case.incoming()
    names = [*case.names, *(f"the gradient of {case.outputs[at]}" for at in case.live)]
    results = case.function(tensors)
    yield from _untouched(names, [*tensors, *incoming], lambda: case.vjp(results, tensors, incoming))


def _report(name: str, checks: list[_Check], case: Case) -> None:
    __tracebackhide__ = True
    from interop.testing._gradcheck.case import finding  # on request: it loads torch

    failed: list[tuple[_Check, list[str]]] = []
    cause: Exception | None = None
    made = 0
    for check in checks:
        raised = False
        try:
            found = list(check.run())
        except Exception as error:  # of the function that is checked: whatever it is, it is the finding
            found, raised, cause = [finding(error)], True, cause or error
        made += 1
        if found:
            failed.append((check, found))
            if check.decides == "failed" or (raised and check.decides):
                break
    if failed:
        raise AssertionError("\n".join([_failure(name, failed, made, len(checks)), *_unchecked(case)])) from cause


def _failure(name: str, failed: list[tuple[_Check, list[str]]], made: int, count: int) -> str:
    lines = [f"gradcheck: {name} fails {len(failed)} of {count} checks: {', '.join(check.name for check, _ in failed)}"]
    for check, found in failed:
        leaves_out = f" ({check.keyword}={0 if check.keyword == 'threads' else False} leaves this out)" if check.keyword else ""
        lines.append(f"{check.name}{leaves_out}:")
        lines += [f"  {text}" for text in found[:_MOST_FINDINGS]]
        if len(found) > _MOST_FINDINGS:
            lines.append(f"  ... and {len(found) - _MOST_FINDINGS} more")
    if made < count:
        lines.append(f"The other {count - made} checks were not made: they would add nothing.")
    return "\n".join(lines)
