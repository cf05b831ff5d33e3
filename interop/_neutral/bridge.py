"""``neutral(runs_on=..., grad="bridge")``: where autograd tracks an argument, the call is a node of torch's graph.

Part of `interop._neutral.decorator`. Any other call is converted as in `interop._neutral.arguments`, and needs no torch: the function is
wrapped (`interop.autograd.wrap`) at the first call with a tensor that autograd tracks.
"""

from __future__ import annotations

import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from interop._neutral.arguments import ArgumentConverter, refuse_generators
from interop._neutral.namespace import arrays_in
from interop._untraced import untraced
from interop.backends import load_backend
from interop.errors import GradError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Concatenate, Self, Unpack

    from interop._model.call_signature import CallSignature
    from interop._neutral.arguments import Target
    from interop._neutral.namespace import Found
    from interop.autograd import Wrapped

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
        """Take a function that saves what the rules need, ``(ctx, inputs, output)``; a decorator."""


def with_gradients(function: Any, signature: CallSignature, permissions: dict[str, Any], **target: Unpack[Target]) -> Any:
    """Return the function with its arguments and results converted, and with gradients through the conversions."""
    if target.get("runs_on") is None:
        raise TypeError(
            "grad='bridge' lets gradients flow through a function that is written for another library: say which, "
            "as in neutral(runs_on='numpy', grad='bridge')."
        )
    bridge = _Bridge(function, signature, permissions, **target)

    def call(*args: Any, **kwargs: Any) -> Any:
        found = arrays_in(signature.named(args, kwargs))
        if tracked := _tracked(found):
            return bridge.run_in_graph(args, kwargs, found, tracked)
        args, kwargs, convert_results = bridge.convert_arguments(args, kwargs, found)
        return convert_results(bridge.function(*args, **kwargs))

    # The names of the function itself: a Wrapped has attributes that are its own business.
    made: Any = untraced(functools.update_wrapper(call, bridge.inner))
    made.__signature__ = signature.signature
    made.backward, made.jvp, made.setup_context = bridge.backward, bridge.jvp, bridge.setup_context
    return made


class _Bridge(ArgumentConverter):
    """Converts the tensors of one function that autograd tracks inside its graph, and its other arguments as `ArgumentConverter` does."""

    def __init__(self, function: Any, signature: CallSignature, permissions: dict[str, Any], **target: Unpack[Target]) -> None:
        super().__init__(signature, permissions, **target)
        self.inner, self.function = function, function
        self.rules: dict[str, Callable[..., Any]] = {}
        if _has_graph(str(self.runs_on)):
            raise ValueError("grad='bridge' is for functions of other libraries: through one of torch's own, gradients flow without it.")
        if _is_wrapped(function):
            self._take_over(function)
        elif signature.names[signature.skipped : signature.skipped + 1] == ["ctx"]:
            hint = f"leave it out, and keep what the rules need in a function under @{self.word}.setup_context."
            raise TypeError(f"{signature.name} takes ctx, which its callers do not have: {hint}")
        refuse_generators(self.inner, signature)
        if inspect.iscoroutinefunction(self.inner):
            why = "a node of torch's graph is computed in one call, without waiting."
            raise TypeError(
                f"{signature.name} is a coroutine function: {why} Bridge a plain function that computes, and await around its call."
            )

    def _take_over(self, wrapped: Wrapped) -> None:
        """Use what is wrapped already, with the permissions that it has."""
        operation, name = wrapped.operation, self.signature.name
        border = operation.border
        if border.library != self.runs_on:
            raise ValueError(f"{name} is wrapped for {border.library!r}, so it runs there: write runs_on={border.library!r}.")
        if self.permissions:
            words = ", ".join(f"{word}={value!r}" for word, value in self.permissions.items())
            raise TypeError(f"{name} is wrapped already, with permissions of its own: write {words} into {border.place}.")
        self.inner, self.function, self.wrapped = operation.forward, self.run, wrapped
        self.permissions, self.place = border.permissions, border.place
        _leave_out_ctx(self.signature)

    @property
    def word(self) -> str:
        """What the neutral function is called where its rules are registered."""
        word = self.signature.name.rpartition(".")[2]
        return word if word.isidentifier() else "f"

    # The rules.

    @functools.cached_property
    def wrapped(self) -> Wrapped:
        """The function, wrapped for torch."""
        from interop.autograd import wrap  # on request: it needs torch

        made: Wrapped = wrap(self.inner, runs_on=str(self.runs_on), **self.permissions)
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
        """Take a function that saves what the rules need; a decorator."""
        return self._take("setup_context", rule)

    def _take(self, what: str, rule: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(rule):
            raise TypeError(f"@{self.word}.{what} decorates a function, got {rule!r}.")
        self.rules[what] = rule
        if "wrapped" in vars(self):
            getattr(self.wrapped, what)(rule)
        return rule

    # A call.

    def run_in_graph(self, args: tuple[Any, ...], kwargs: dict[str, Any], found: list[Found], tracked: list[Found]) -> Any:
        """Run the function as a node of torch's graph; its results are tensors."""
        leader = self._leader_in_graph(found, tracked)
        self._refuse_without("backward", "gradient", tracked)
        self._refuse_without("jvp", "tangent", tracked)
        tensors = _tensors(found)
        if len({one.device for one in tensors}) > 1:  # in the graph, so that the results are where those of any call would be
            args, kwargs = self.convert_some(args, kwargs, tensors, {"like": leader.array})
        if others := [one for one in found if not _has_graph(one.backend.name) and one.backend.name != self.runs_on]:
            args, kwargs = self.convert_some(args, kwargs, others, {"to": self.runs_on})
        if self.signature.takes_xp and not self.signature.gives_xp(args, kwargs):
            args, kwargs = self.signature.with_xp(load_backend(str(self.runs_on)).namespace(), args, kwargs)
        return self.run(*args, **kwargs)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run what is wrapped; a method bound."""
        if not self.signature.skipped:
            return self.wrapped(*args, **kwargs)
        return self.wrapped.__get__(args[0], type(args[0]))(*args[1:], **kwargs)

    def _leader_in_graph(self, found: list[Found], tracked: list[Found]) -> Found:
        """Return the tensor that is followed; raises where the results would leave the graph, before the function is run."""
        graph = tracked[0].backend.name
        leader = self.leader(found, library=graph)
        if leader is not None and _has_graph(leader.backend.name):
            return leader
        word = f"to={self.to!r}" if self.to else f"like={self.like!r}"
        library = _title(leader.backend.name if leader else str(self.to))
        lost = f"{word} takes the results to {library}, outside its graph: the gradient would be lost."
        hint = f"Let everything follow torch, to={graph!r} in the place of {word}; or pass {tracked[0].path}.detach(); or {_DETACHED}."
        raise GradError(f"{self.signature.name}(...): autograd tracks {_paths(tracked)}, and {lost}", hint=hint)

    def _refuse_without(self, rule: str, what: str, tracked: list[Found]) -> None:
        """Raise for a gradient or a tangent that nothing computes."""
        from interop.backends.torch.tracking import rules_for  # on request: it needs torch

        operation = self.wrapped.operation
        if operation.derives or getattr(operation, rule) is not None:
            return
        if lost := [one for one in tracked if rule in rules_for(one.array)]:
            outside = f"{_title(str(self.runs_on))} is outside its graph and {self.signature.name} has no {rule}: the {what} would be lost."
            hint = f"Register one: @{self.word}.{rule}, above {self._sketch(rule)}. Or {_DETACHED}."
            raise GradError(f"{self.signature.name}(...): autograd tracks {_paths(lost)}, {outside}", hint=hint)

    def _sketch(self, rule: str) -> str:
        """Return in words what a rule is."""
        if rule == "jvp":
            return "a function (ctx, *tangents) that returns the tangent of each result"
        names = ", ".join(self.signature.names[self.signature.skipped :])
        return "a function (ctx, *grads) that returns the gradient, or None, of each argument" + (f" ({names})" if names else "")


_DETACHED = "drop it: grad='detach' in its @neutral(...), in the place of 'bridge'"


def _title(library: str) -> str:
    return load_backend(library).capabilities.title


def _paths(found: list[Found]) -> str:
    return ", ".join(one.path for one in found)


def _has_graph(library: str) -> bool:
    """Whether gradients flow through a library's own functions, in the graph that a crossing becomes a node of."""
    return library == "torch"


def _tensors(found: list[Found]) -> list[Found]:
    return [one for one in found if _has_graph(one.backend.name)]


def _tracked(found: list[Found]) -> list[Found]:
    """Return the tensors that autograd tracks."""
    tensors = _tensors(found)
    if not tensors:
        return []
    from interop.backends.torch.tracking import is_followed  # on request: it needs torch

    return [one for one in tensors if is_followed(one.array)]


def _is_wrapped(function: Any) -> bool:
    """Whether it is a `Wrapped`: who has one has loaded what makes them, and torch with it."""
    autograd = sys.modules.get("interop.autograd")
    return autograd is not None and isinstance(function, autograd.Wrapped)


def _leave_out_ctx(signature: CallSignature) -> None:
    """Leave out the context that a wrapped function may begin with: callers do not give it."""
    at = signature.skipped
    if signature.signature is not None and signature.names[at : at + 1] == ["ctx"]:
        parameters = list(signature.signature.parameters.values())
        signature.signature = signature.signature.replace(parameters=parameters[:at] + parameters[at + 1 :])
        signature.names, signature.xp_at = signature.names[:at] + signature.names[at + 1 :], signature.xp_at - 1
