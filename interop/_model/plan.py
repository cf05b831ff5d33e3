"""A plan: the steps that a conversion takes, or everything that stands in its way.

Only data and how it reads; the deciding is in `interop._model.decide`, the doing in `interop._engine.execute`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from interop._model.capabilities import Capabilities
    from interop._model.description import Description, Device
    from interop._model.policy import Policy
    from interop.errors import InteropError

__all__ = ["Plan", "Refusal", "Request", "Step"]

Side = Literal["source", "border", "target"]

# Steps after which the memory is no longer the source's.
FRESH = frozenset({"densify", "resolve", "cast", "copy", "transfer"})


class Request(NamedTuple):
    """A call of `convert`, with every keyword resolved and nothing left to look up.

    `device_named` tells an explicit ``device=`` (which permits the crossing) from the device of ``like=``.
    `home` is where data go that cannot stay; `unavailable` says why the target device is not there, and
    `stream_problem` why the stream is none. `forbidden` is what a guard in scope lets nobody do (`interop._watch.ledger`).
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


class Refusal(NamedTuple):
    """One obstacle: the error it raises, why, and what would permit it (nothing, if it is final); in a tree also where."""

    error: type[InteropError]
    reason: str
    permissions: dict[str, Any] = {}  # noqa: RUF012  # a tuple's field; nothing changes it
    hint: str = ""
    path: str = ""

    @property
    def code(self) -> str:
        """The stable code of the error."""
        return self.error.code

    @property
    def final(self) -> bool:
        """Whether no permission lifts it."""
        return not self.permissions


class Step(NamedTuple):
    """One thing to do: its kind, on whose side, why, and the bytes that it copies."""

    kind: str
    side: Side
    reason: str
    bytes: int = 0
    dtype: str | None = None
    device: Device | None = None


@dataclass(frozen=True, slots=True)
class Plan:
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
        Everything that stands in the way; empty if the conversion will be done.
    """

    description: Description
    target: str
    device: Device
    dtype: str
    steps: tuple[Step, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing stands in the way."""
        return not self.refusals

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

    @property
    def permissions(self) -> dict[str, Any]:
        """The keyword arguments that make the call succeed; empty if it does, or if a refusal is final."""
        if any(refusal.final for refusal in self.refusals):
            return {}
        return {name: value for refusal in self.refusals for name, value in refusal.permissions.items()}

    @property
    def final(self) -> bool:
        """Whether it is refused for good."""
        return any(refusal.final for refusal in self.refusals)

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
            return "\n".join([f"{head}: refused", *obstacles(self.refusals), f"  Hint: {self._advice()}"])
        ending = "shares memory" if self.shares_memory else f"{self.bytes_copied:,} bytes copied"
        lines = [f"  {n}. {step.kind}: {step.reason}" for n, step in enumerate(self.steps, 1)]
        return "\n".join([f"{head}: {ending}", *(lines or ["  nothing to do: returned as it is"])])

    def _advice(self) -> str:
        if self.permissions:
            return "pass " + ", ".join(f"{name}={value!r}" for name, value in self.permissions.items()) + "."
        return " ".join(refusal.hint for refusal in self.refusals if refusal.final and refusal.hint) or "final."


def obstacles(refusals: tuple[Refusal, ...]) -> list[str]:
    """Return one line for each obstacle, as errors and plans print them."""
    return [f"  - [{refusal.code}] {refusal.reason}" for refusal in refusals]
