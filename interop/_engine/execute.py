"""Execute a plan: one verb of a backend for each step, nothing decided here."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from interop._model.description import CPU, Device

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from interop._model.plan import Plan, Step
    from interop.backends.base import Backend


def execute(plan: Plan, x: Any, source: Backend, target: Backend, stream: int | None) -> Any:
    """Return the result of a plan that has no refusals; `stream` is the consumer's, as a number."""
    if source is target:
        return _within(plan, x, source, stream)
    with source.without_modes(), target.without_modes():
        return _cross(plan.steps, source.strip(x), plan.description.device, (source, target), stream)


def _within(plan: Plan, x: Any, library: Backend, stream: int | None) -> Any:
    if not plan.steps and stream is None:
        return x
    if not any(step.kind == "transfer" for step in plan.steps):
        with library.ordered_after_current(x, stream):
            for step in plan.steps:
                x = _verb(library, x, step, stream)
            return x
    moved = None
    for step in plan.steps:
        with library.on_stream(stream, moved) if moved is not None else contextlib.nullcontext():
            x = _verb(library, x, step, stream)
        moved = (step.device or CPU) if step.kind == "transfer" else moved
    return x


def begin(plan: Plan, x: Any, source: Backend, target: Backend, stream: int | None) -> tuple[Callable[[], bool], Callable[[], Any]]:
    """Begin with a plan, up to the point where data leave for the host.

    Returns what tells whether they are there, and what waits for them, does the rest and returns the result.
    """
    at = next((n for n, step in enumerate(plan.steps) if _leaves(step)), None)
    if source is target or at is None:
        made = execute(plan, x, source, target, stream)
        return (lambda: True), (lambda: made)
    with source.without_modes():
        origin = x = source.strip(x)
        for step in plan.steps[:at]:
            x = _verb(source, x, step, stream)
        pending = source.start_copy_to_host(x, stream, origin)

    def finish() -> Any:
        pending.wait()
        with source.without_modes(), target.without_modes():
            return _cross(plan.steps[at + 1 :], pending.host, CPU, (source, target), stream)

    return pending.is_ready, finish


def _leaves(step: Step) -> bool:
    return step.kind == "transfer" and step.side == "source" and step.device in (None, CPU)


def _cross(steps: Sequence[Step], x: Any, here: Device, libraries: tuple[Backend, Backend], stream: int | None) -> Any:
    (source, target), crossed = libraries, False
    for step in steps:
        if step.side == "source":
            x = _verb(source, x, step, stream)
            here = step.device or here
        elif step.side == "border":
            x, crossed = _share(x, here, (source, target), stream, imported=step.dtype is not None), True
        elif not crossed:  # the target has no arrays on the host: it copies from there
            here = step.device or CPU
            x, crossed = target.copy_from_host(source.host_view(x), here, stream), True
        else:
            with target.on_stream(stream, here):
                x = _verb(target, x, step, stream)
            here = step.device or here
    return x


def _share(x: Any, here: Device, libraries: tuple[Backend, Backend], stream: int | None, *, imported: bool) -> Any:
    source, target = libraries
    if here == CPU and not imported:
        return target.from_host(source.host_view(x))
    return target.from_dlpack(source.export(x, stream), here)


def _verb(backend: Backend, x: Any, step: Step, stream: int | None) -> Any:
    if step.kind == "transfer":
        return backend.transfer(x, step.device or CPU, stream)
    if step.kind == "cast":
        return backend.cast(x, step.dtype or "")
    return getattr(backend, step.kind)(x)
