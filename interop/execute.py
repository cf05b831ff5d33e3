"""Carry out a plan: one verb of a backend for each step, nothing decided here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interop.description import CPU, Device

if TYPE_CHECKING:
    from interop.backends._base import Backend
    from interop.plan import Plan, Step

__all__ = ["execute"]


def execute(plan: Plan, x: Any, source: Backend, target: Backend, stream: int | None) -> Any:
    """Return the result of a plan that has no refusals; `stream` is the consumer's, as a number."""
    if source is target:
        for step in plan.steps:
            x = _verb(source, x, step, stream)
        return x
    with source.plainly(), target.plainly():
        return _cross(plan, x, source, target, stream)


def _cross(plan: Plan, x: Any, source: Backend, target: Backend, stream: int | None) -> Any:
    x = source.strip(x)
    here, crossed = plan.description.device, False
    for step in plan.steps:
        if step.side == "source":
            x = _verb(source, x, step, stream)
            here = step.device or here
        elif step.side == "border":
            x, crossed = _share(x, here, source, target, stream), True
        elif not crossed:  # the target has no arrays on the host: it copies from there
            x, crossed = target.arrive(source.host_view(x), step.device or CPU, stream), True
        else:
            x = _verb(target, x, step, stream)
    return x


def _share(x: Any, here: Device, source: Backend, target: Backend, stream: int | None) -> Any:
    if here == CPU:
        return target.from_host(source.host_view(x))
    return target.adopt(source.export(x, stream), here)


def _verb(backend: Backend, x: Any, step: Step, stream: int | None) -> Any:
    if step.kind == "transfer":
        return backend.transfer(x, step.device or CPU, stream)
    if step.kind == "cast":
        return backend.cast(x, step.dtype or "")
    return getattr(backend, step.kind)(x)
