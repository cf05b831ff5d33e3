"""What only the values decide: whether objects, strings and dates can be cast to the dtype that was asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from interop._model.dtypes import DTYPES
from interop.errors import InteropError, Refusal

if TYPE_CHECKING:
    from interop._model.plan import Plan
    from interop.backends.base import Backend


def tried(plan: Plan, x: Any, source: Backend, dtype: str | None) -> Plan:
    """Return the plan of a cast with the refusal that its execution would end with, if any.

    Such a cast is tried, on the host and at the cost of a copy, because neither a plan nor the permissions of another refusal may
    promise what the values forbid. Numbers need no trial.
    """
    if dtype is None or plan.description.dtype in DTYPES or plan.final:
        return plan
    try:
        source.cast(x, dtype)
    except InteropError as error:
        return replace(plan, steps=(), refusals=(*plan.refusals, Refusal.from_error(error)))
    return plan
