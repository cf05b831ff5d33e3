"""A plan: the steps that a conversion takes, or everything that blocks it.

Only data and how it reads; the deciding is in `interop._model.decide`, the doing in `interop._engine.execute`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from interop._model.policy import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from interop._model.capabilities import Capabilities
    from interop._model.description import Description, Device
    from interop._model.policy import Policy
    from interop.errors import Refusal

Side = Literal["source", "border", "target"]

# Steps after which the memory is no longer the source's.
FRESH = frozenset({"densify", "resolve", "cast", "copy", "transfer"})


class Request(NamedTuple):
    """A call of `convert`, with every keyword resolved and nothing left to look up.

    `device_named` tells an explicit ``device=`` (which permits the crossing) from the device of ``like=``.
    `home` is where data go that cannot stay; `unavailable` says why the target device is not there, and
    `stream_problem` why the stream is none. `forbidden` is what the guards in scope forbid (`interop._watch.ledger`).
    """

    source: Capabilities
    target: Capabilities
    policy: Policy
    home: Device
    device: Device | None = None
    device_named: bool = False
    dtype: str | None = None
    streamed: bool = False
    unavailable: str | None = None
    stream_problem: str | None = None
    forbidden: frozenset[str] = frozenset()


class Step(NamedTuple):
    """One thing to do: its kind, on whose side, why, and the bytes that it copies."""

    kind: str
    side: Side
    reason: str
    bytes: int = 0
    dtype: str | None = None
    device: Device | None = None


class Refusable:
    """What a plan for one array and a plan for a tree have in common: refusals, and what would lift them."""

    __slots__ = ()
    refusals: tuple[Refusal, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing blocks it."""
        return not self.refusals

    @property
    def permissions(self) -> dict[str, Any]:
        """The keyword arguments that make the call succeed; empty if it does, or if a refusal is final."""
        return merged_permissions(self.refusals)

    @property
    def final(self) -> bool:
        """Whether it is refused for good."""
        return any(refusal.final for refusal in self.refusals)

    def _advice(self) -> str:
        """Return what a refused plan says last: what to pass, or else what to do instead."""
        words = ", ".join(f"{name}={value!r}" for name, value in self.permissions.items())
        return f"  Hint: {hint_for(self.refusals, f'pass {words}.' if words else '') or 'final.'}"


def merged_permissions(refusals: Iterable[Refusal]) -> dict[str, Any]:
    """Return what permits all of them: of two values of one permission the later in its list, which permits more.

    Empty if one of them is final.
    """
    merged: dict[str, Any] = {}
    for refusal in refusals:
        if refusal.final:
            return {}
        for name, value in refusal.permissions.items():
            merged[name] = _laxer(name, merged[name], value) if name in merged else value
    return merged


def _laxer(name: str, one: Any, other: Any) -> Any:
    values = FIELDS[name].values if name in FIELDS else (one, other)
    return max(one, other, key=values.index)


def hint_for(refusals: Iterable[Refusal], permit: str) -> str:
    """Return the hint for refusals: what permits them, after their libraries' own calls, or what to do instead where nothing does."""
    if not permit:
        return final_hint(refusals)
    hints = {refusal.hint for refusal in refusals}  # where another refusal would be left, following one is not enough
    return "; or ".join([*hints, permit] if len(hints) == 1 and all(hints) else [permit])


def final_hint(refusals: Iterable[Refusal]) -> str:
    """Return what to do instead where refusals are final, each hint once."""
    return " ".join(dict.fromkeys(refusal.hint for refusal in refusals if refusal.final and refusal.hint))


SHOWN = 100
"""So many paths of one reason are printed; ``refusals`` has them all."""


def grouped(refusals: Iterable[Refusal]) -> list[str]:
    """Return the lines for refusals, as errors and plans print them: each reason once, and where in a tree."""
    places: dict[tuple[str, str], list[str]] = {}
    for refusal in refusals:
        places.setdefault((refusal.code, refusal.reason), []).append(refusal.path)
    return [f"  - [{code}] {reason}" + (f"\n      at {listed(paths)}" if any(paths) else "") for (code, reason), paths in places.items()]


def listed(paths: list[str]) -> str:
    """Return paths of a tree in one line."""
    more = f" and {len(paths) - SHOWN:,} more (.refusals has them all)" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more


@dataclass(frozen=True, slots=True)
class Plan(Refusable):
    """What a conversion will do; prints as a short list.

    Attributes
    ----------
    description : Description
        The source.
    target : str
        Name of the target backend.
    device, dtype
        Of the result.
    steps : tuple of Step
        In order; empty if the source is returned as it is.
    refusals : tuple of Refusal
        Everything that blocks the conversion; empty if it will be done.
    """

    description: Description
    target: str
    device: Device
    dtype: str
    steps: tuple[Step, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    @property
    def shares_memory(self) -> bool:
        """Whether the result will be on the source's own bytes."""
        return self.ok and not self.copies

    @property
    def bytes_copied(self) -> int:
        """Bytes written by all steps together."""
        return sum(step.bytes for step in self.steps)

    @property
    def copies(self) -> tuple[Step, ...]:
        """The steps after which the memory is new, each with its reason; empty if it is shared."""
        return tuple(step for step in self.steps if step.kind in FRESH)

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain data for JSON."""
        return {
            "source": self.description.as_dict(),
            "target": self.target,
            "device": str(self.device),
            "dtype": self.dtype,
            "shares_memory": self.shares_memory,
            "bytes_copied": self.bytes_copied,
            "steps": [{"kind": s.kind, "side": s.side, "reason": s.reason, "bytes": s.bytes} for s in self.steps],
            "refusals": [{"code": r.code, "reason": r.reason, "permissions": r.permissions} for r in self.refusals],
            "permissions": self.permissions,
            "final": self.final,
        }

    def __str__(self) -> str:
        head = f"{self.description} -> {self.target} {self.dtype} on {self.device}"
        if self.refusals:
            return "\n".join([f"{head}: refused", *grouped(self.refusals), self._advice()])
        ending = "shares memory" if self.shares_memory else f"{self.bytes_copied:,} bytes copied"
        lines = [f"  {n}. {step.kind}: {step.reason}" for n, step in enumerate(self.steps, 1)]
        return "\n".join([f"{head}: {ending}", *(lines or ["  nothing to do: returned as it is"])])
