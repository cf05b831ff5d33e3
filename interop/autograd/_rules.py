"""The rules as tasks: where torch may differentiate or vectorise them, they are run like the function itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from interop.autograd._torch.tasks import Residuals, Task
from interop.errors import GradError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interop.autograd._residuals import ForwardResiduals


@dataclass(frozen=True)
class _Rule(Task):
    """A rule, to be run on what was saved and what comes in, of which some are None (`holes`); `lead`: the sizes of vmap's axes in front."""

    residuals: ForwardResiduals
    holes: tuple[bool, ...]
    lead: tuple[int, ...] = ()

    what = ""

    @property
    def name(self) -> str:
        """What it is called in the graph."""
        return f"{self.residuals.operation.name}_{self.what}"

    def leading(self, level: int, size: int) -> _Rule | None:  # noqa: ARG002 - at every level the same
        """Return the rule for arrays with one more axis in front, if the operation takes them."""
        return replace(self, lead=(size,)) if self.residuals.operation.leading and not self.lead else None

    def _filled(self, tensors: Sequence[Any]) -> tuple[list[Any], list[Any], ForwardResiduals]:
        """Return saved tensors and the others, with None in the holes, and the residuals for them."""
        left = iter(tensors)
        whole = [None if hole else next(left) for hole in self.holes]
        cut = len(whole) - self._others()
        return whole[:cut], whole[cut:], self.residuals.led(self.lead)

    def _others(self) -> int:
        raise NotImplementedError


@dataclass(frozen=True)
class VjpTask(_Rule):
    """The backward rule."""

    needs: tuple[bool, ...] = ()

    what = "backward"

    def _others(self) -> int:
        return len(self.residuals.results.slots)

    def run(self, tensors: Sequence[Any]) -> tuple[list[Any], RuleResiduals]:
        """Return the gradients that there are."""
        saved, grads, residuals = self._filled(tensors)
        return RuleResiduals.of(self, residuals.vjp(saved, grads, self.needs))


@dataclass(frozen=True)
class JvpTask(_Rule):
    """The forward-mode rule."""

    what = "jvp"

    def _others(self) -> int:
        return len(self.residuals.specs)

    def run(self, tensors: Sequence[Any]) -> tuple[list[Any], RuleResiduals]:
        """Return the tangents that there are."""
        saved, tangents, residuals = self._filled(tensors)
        return RuleResiduals.of(self, residuals.jvp(saved, tangents))


class RuleResiduals(Residuals):
    """The residuals of a rule, which has no rules of its own: asked for one they raise."""

    once = False  # so that torch asks at once
    ends = True

    def __init__(self, rule: _Rule, present: list[bool]) -> None:
        self.rule, self.present = rule, present

    @classmethod
    def of(cls, rule: _Rule, found: list[Any]) -> tuple[list[Any], RuleResiduals]:
        """Return the tensors among what a rule returned, and the residuals that know where they were."""
        present = [one is not None for one in found]
        return [one for one in found if one is not None], cls(rule, present)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        name, what = self.rule.residuals.operation.name, self.rule.what
        message = f"the {what} of {name} is not differentiable: it works on arrays, where torch cannot look."
        hint = "Make it of wrapped functions and torch's own, and write wrap(..., once_differentiable=False): then it is given tensors."
        raise GradError(message, hint=hint if what == "backward" else "Differentiate in reverse mode, or in forward mode only.")

    vjp = vjp_task = jvp_task = _refuse
