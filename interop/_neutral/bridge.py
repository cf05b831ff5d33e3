"""``neutral(runs_on=..., grad="bridge")``: where torch follows an argument, the crossing is a node of torch's graph.

Part of `interop._neutral.decorator`. Any other call goes the way of `interop._neutral.arguments`, and needs no torch: the function is wrapped
(`interop.autograd.wrap`) when the first tensor comes that torch follows.
"""

from __future__ import annotations

import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from interop._neutral.arguments import Bringer, refuse_generators
from interop._neutral.namespace import arrays_in, refuse_mixed
from interop.backends import load_backend
from interop.errors import GradError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Concatenate, Self

    from interop._model.call_signature import Shape
    from interop._neutral.namespace import Found
    from interop.autograd import Wrapped

__all__ = ["Bridged", "bridging"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True)
Rule = TypeVar("Rule", bound="Callable[..., Any]")


class Bridged(Protocol[P, R_co]):
    """What ``neutral(runs_on=..., grad="bridge")`` makes of a function: one that takes rules, in the words of `interop.autograd.wrap`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the function."""

    @overload
    def __get__(self, instance: None, owner: type, /) -> Self: ...
    @overload
    def __get__(self: Bridged[Concatenate[Any, Q], R_co], instance: object, owner: type | None = None, /) -> Callable[Q, R_co]: ...

    def backward(self, rule: Rule, /) -> Rule:
        """Take a function as the backward rule, ``(ctx, *grads)``; a decorator."""

    def jvp(self, rule: Rule, /) -> Rule:
        """Take a function as the rule of forward mode, ``(ctx, *tangents)``; a decorator."""

    def setup_context(self, rule: Rule, /) -> Rule:
        """Take a function that says what is saved, ``(ctx, inputs, output)``; a decorator."""


def bridging(function: Any, shape: Shape, *, mixed: str | None, runs_on: str | None, permissions: dict[str, Any]) -> Any:
    """Return the function with its arguments and results converted, and with gradients through the conversions."""
    if runs_on is None:
        raise TypeError(
            "grad='bridge' takes gradients across to the library that a function is written for: say which, "
            "as in neutral(runs_on='numpy', grad='bridge')."
        )
    bridge = _Bridge(function, shape, mixed, runs_on, permissions)

    def call(*args: Any, **kwargs: Any) -> Any:
        found = arrays_in(shape.named(args, kwargs))
        if followed := _followed(found):
            return bridge.across(args, kwargs, found, followed)
        args, kwargs, back = bridge.bring(args, kwargs, found)
        return back(bridge.function(*args, **kwargs))

    # The names of the function itself: a Wrapped has attributes that are its own business.
    made: Any = functools.update_wrapper(call, bridge.inner)
    made.__signature__ = shape.signature
    made.backward, made.jvp, made.setup_context = bridge.backward, bridge.jvp, bridge.setup_context
    bridge.made = made
    if "torch" in sys.modules:
        bridge.leave_alone()
    return made


class _Bridge(Bringer):
    """Takes the tensors of one function that torch follows across in torch's graph, and its other arguments as `Bringer` does."""

    def __init__(self, function: Any, shape: Shape, mixed: str | None, runs_on: str, permissions: dict[str, Any]) -> None:
        super().__init__(shape, mixed, runs_on, permissions)
        self.inner, self.function = function, function
        self.made: Any = None  # the function that callers call
        self.rules: dict[str, Callable[..., Any]] = {}
        if self.runs_on == "torch":
            raise ValueError("grad='bridge' is for functions of other libraries: through one of torch's own, gradients flow without it.")
        if _is_wrapped(function):
            self._take_over(function)
        elif shape.names[shape.skipped : shape.skipped + 1] == ["ctx"]:
            hint = f"leave it out, and keep what the rules need in a function under @{self.word}.setup_context."
            raise TypeError(f"{shape.name} takes ctx, which its callers do not have: {hint}")
        refuse_generators(self.inner, shape)
        if inspect.iscoroutinefunction(self.inner):
            why = "a node of torch's graph is made in one go, without waiting."
            raise TypeError(
                f"{shape.name} is a coroutine function: {why} Bridge a plain function that computes, and await around its call."
            )

    def _take_over(self, wrapped: Wrapped) -> None:
        """Use what is wrapped already, with the permissions that it has."""
        operation, shape = wrapped.operation, self.shape
        border = operation.border
        if border.backend != self.runs_on:
            raise ValueError(f"{shape.name} is wrapped for {border.backend!r}, so it runs there: write runs_on={border.backend!r}.")
        if self.permissions:
            words = ", ".join(f"{name}={value!r}" for name, value in self.permissions.items())
            raise TypeError(f"{shape.name} is wrapped already, with permissions of its own: write {words} into {border.place}.")
        self.inner, self.function, self.wrapped = operation.forward, self.run, wrapped
        self.permissions, self.place = border.permissions, border.place
        _leave_out_ctx(shape)

    def leave_alone(self) -> None:
        """Let `torch.compile` call it as it is; to be done before it does."""
        from interop.backends.torch.modes import leave_alone  # on request: it needs torch

        leave_alone(self.made)

    @property
    def word(self) -> str:
        """What the neutral function is called where its rules are registered."""
        word = self.shape.name.rpartition(".")[2]
        return word if word.isidentifier() else "f"

    # The rules.

    @functools.cached_property
    def wrapped(self) -> Wrapped:
        """The function, wrapped for torch."""
        from interop.autograd import wrap  # on request: it needs torch

        self.leave_alone()
        made: Wrapped = wrap(self.inner, backend=str(self.runs_on), **self.permissions)
        made.operation.border.place = self.place
        for what, rule in self.rules.items():
            getattr(made, what)(rule)
        return made

    def backward(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Take a function as the backward rule; a decorator."""
        return self._take("backward", rule)

    def jvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Take a function as the rule of forward mode; a decorator."""
        return self._take("jvp", rule)

    def setup_context(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Take a function that says what is saved; a decorator."""
        return self._take("setup_context", rule)

    def _take(self, what: str, rule: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(rule):
            raise TypeError(f"@{self.word}.{what} decorates a function, got {rule!r}.")
        self.rules[what] = rule
        if "wrapped" in vars(self):
            getattr(self.wrapped, what)(rule)
        return rule

    # A call.

    def across(self, args: tuple[Any, ...], kwargs: dict[str, Any], found: list[Found], followed: list[Found]) -> Any:
        """Run the function as a node of torch's graph; its results are tensors."""
        self._refuse(found, followed)
        tensors = [one for one in found if one.backend.name == "torch"]
        if len({one.device for one in tensors}) > 1:  # in the graph, so that the results are where those of any call would be
            args, kwargs = self._moved(args, kwargs, tensors, {"like": tensors[0].array})
        if others := [one for one in found if one.backend.name not in ("torch", self.runs_on)]:
            args, kwargs = self._moved(args, kwargs, others, {"to": self.runs_on})
        if self.shape.takes_xp and not self.shape.gives_xp(args, kwargs):
            args, kwargs = self._with_xp(args, kwargs)
        return self.run(*args, **kwargs)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run what is wrapped; a method bound."""
        if not self.shape.skipped:
            return self.wrapped(*args, **kwargs)
        return self.wrapped.__get__(args[0], type(args[0]))(*args[1:], **kwargs)

    def _with_xp(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        space, at = load_backend(str(self.runs_on)).namespace(), self.shape.xp_at
        return ((*args[:at], space, *args[at + 1 :]), kwargs) if len(args) > at else (args, kwargs | {"xp": space})

    def _refuse(self, found: list[Found], followed: list[Found]) -> None:
        """Raise for a call in which a gradient would be lost all the same, before the function is run."""
        if self.mixed is None:
            refuse_mixed(f"{self.shape.name}(...)", found)
        leader = self._leader(found, self.mixed)
        library = leader.backend.name if leader else str(self.mixed)
        if library != "torch":
            lost = f"mixed={self.mixed!r} takes the results to {_title(library)}, outside its graph: the gradient would be lost."
            hint = f"Let everything follow torch, mixed='torch'; or pass {followed[0].path}.detach(); or {_DETACHED}."
            raise GradError(f"{self.shape.name}(...): autograd tracks {_paths(followed)}, and {lost}", hint=hint)
        self._refuse_without("backward", "gradient", followed)
        self._refuse_without("jvp", "tangent", followed)

    def _refuse_without(self, rule: str, what: str, followed: list[Found]) -> None:
        from interop.backends.torch.tracking import rules_for  # on request: it needs torch

        operation = self.wrapped.operation
        if operation.derives or getattr(operation, rule) is not None:
            return
        if lost := [one for one in followed if rule in rules_for(one.array)]:
            outside = f"{_title(str(self.runs_on))} is outside its graph and {self.shape.name} has no {rule}: the {what} would be lost."
            hint = f"Register one: @{self.word}.{rule}, above {self._sketch(rule)}. Or {_DETACHED}."
            raise GradError(f"{self.shape.name}(...): autograd tracks {_paths(lost)}, {outside}", hint=hint)

    def _sketch(self, rule: str) -> str:
        """Return in words what a rule is."""
        if rule == "jvp":
            return "a function (ctx, *tangents) that returns the tangent of each result"
        names = ", ".join(self.shape.names[self.shape.skipped :])
        return "a function (ctx, *grads) that returns the gradient, or None, of each argument" + (f" ({names})" if names else "")


_DETACHED = "drop it: grad='detach' in its @neutral(...), in the place of 'bridge'"


def _title(library: str) -> str:
    return load_backend(library).capabilities.title


def _paths(found: list[Found]) -> str:
    return ", ".join(one.path for one in found)


def _followed(found: list[Found]) -> list[Found]:
    """Return the tensors that torch follows."""
    tensors = [one for one in found if one.backend.name == "torch"]
    if not tensors:
        return []
    from interop.backends.torch.tracking import is_followed  # on request: it needs torch

    return [one for one in tensors if is_followed(one.array)]


def _is_wrapped(function: Any) -> bool:
    """Whether it is a `Wrapped`: who has one has loaded what makes them, and torch with it."""
    autograd = sys.modules.get("interop.autograd")
    return autograd is not None and isinstance(function, autograd.Wrapped)


def _leave_out_ctx(shape: Shape) -> None:
    """Leave out the context that a wrapped function may begin with: callers do not give it."""
    at = shape.skipped
    if shape.signature is not None and shape.names[at : at + 1] == ["ctx"]:
        parameters = list(shape.signature.parameters.values())
        shape.signature = shape.signature.replace(parameters=parameters[:at] + parameters[at + 1 :])
        shape.names, shape.xp_at = shape.names[:at] + shape.names[at + 1 :], shape.xp_at - 1
