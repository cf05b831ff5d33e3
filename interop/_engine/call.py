"""A call of a public verb: its keywords resolved, its plan made and executed, its errors given their context.

The verbs themselves are in `interop._verbs`.
"""

from __future__ import annotations

import contextlib
from inspect import Parameter, signature
from numbers import Integral
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, TypeVar, get_type_hints

from interop._engine.execute import begin, execute
from interop._engine.transfer import Transfer
from interop._engine.trial import tried
from interop._model.decide import decide, resolve_device
from interop._model.description import STREAMED, Description, Device
from interop._model.dtypes import dtype_name
from interop._model.plan import Plan, Request, grouped, hint_for, merged_permissions
from interop._model.policy import FIELDS, Casting, Extension, Grad, Layout, Mask, Policy, ReadOnly, TransferRule, Units, resolve_policy
from interop._model.spelling import type_name
from interop._watch.ledger import forbidden, log_plan
from interop.backends import FOREIGN, backend_names, find_backend, is_array, is_backend, load_backend, name_of_target
from interop.dlpack import stream_number
from interop.errors import InteropError, Refusal, StreamError, UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from interop.backends.base import Backend

Function = TypeVar("Function", bound="Callable[..., Any]")


class Ungraded(TypedDict, total=False):
    """The keywords of `interop.convert` that permit something, without ``grad``: where gradients flow, nothing is detached."""

    copy: bool | None
    policy: Policy | str | None
    transfer: TransferRule | None
    readonly: ReadOnly | None
    casting: Casting | None
    mask: Mask | None
    units: Units | None
    extension: Extension | None
    layout: Layout | None


class Permissions(Ungraded, total=False):
    """All of them, for the verbs that pass them on."""

    grad: Grad | None


class TargetKeywords(Permissions, total=False):
    """All keywords of the verbs with a fixed target."""

    device: Any
    dtype: Any
    stream: Any


class Keywords(TargetKeywords, total=False):
    """All keywords of `interop.convert`."""

    like: Any


NO_DATA = "a Description has no data to convert"

KEYWORDS = tuple(dict.fromkeys(("like", "device", "dtype", "copy", "stream", "policy", *FIELDS)))
"""The names of `Keywords`, in the order of signatures."""


def spelled_out(keywords: type) -> Callable[[Function], Function]:
    """Spell out the ``**keywords`` of a function, a typed dict, in the signature and the annotations that help and editors read."""
    known = get_type_hints(keywords)
    hints = {name: known[name] for name in KEYWORDS if name in known}
    spelled = [Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=hint) for name, hint in hints.items()]

    def decorate(function: Function) -> Function:
        parameters = list(signature(function).parameters.values())
        made: Any = function
        made.__signature__ = signature(function).replace(parameters=[*parameters[:-1], *spelled])
        made.__annotations__ = {name: hint for name, hint in made.__annotations__.items() if name != parameters[-1].name} | hints
        return function

    return decorate


def target_of(to: Any, like: Any) -> str:
    """Return the target backend's name for exactly one of ``to`` and ``like``."""
    if (to is None) == (like is None):
        raise TypeError("name the target once: by position, as in (x, 'torch'), or with like=.")
    if like is None:
        return name_of_target(to)
    if isinstance(like, str | ModuleType):
        raise TypeError(f"like= is an array whose library is meant; a library is given by position, as in (x, {name_of_target(like)!r}).")
    if not is_array(like):
        hint = "Give one of its arrays, or the library by position."
        raise UnsupportedTypeError(
            f"like= is an array whose library is meant, and {type_name(like)} is none that interop knows.", hint=hint
        )
    name = find_backend(like).name
    if name == FOREIGN:
        hint = f"The backends that can be targets: {', '.join(backend_names())}."
        raise UnsupportedTypeError(f"like= is a {type_name(like)}: arrays of that library can be a source, not a target.", hint=hint)
    return name


class Call:
    """One call of a verb: its name, and the keywords that the caller gave."""

    def __init__(self, verb: str, x: Any, target: str, *, to: Any = None, subject: str = "x", **keywords: Any) -> None:
        self.verb, self.x, self.target, self.to, self.subject = verb, x, target, to, subject
        self.repeat: Callable[[dict[str, Any]], Any] | None = None
        self.keywords = {name: value for name, value in keywords.items() if value is not None}

    def text(self, changes: dict[str, Any] | None = None) -> str:
        """Return the call as source text, with these keywords changed."""
        target = [repr(self.target)] if self.to is not None else []
        named = [f"{name}={_spell(name, value)}" for name, value in (self.keywords | (changes or {})).items()]
        return f"{self.verb}({', '.join([self.subject, *target, *named])})"

    def again(self, changes: dict[str, Any]) -> Any:
        """Make the call again, with these keywords changed, as its verb makes it."""
        if self.repeat is not None:
            return self.repeat(changes)
        call = Call(self.verb, self.x, self.target, to=self.to, subject=self.subject, **self.keywords | changes)
        return start(call) if call.keywords.get("blocking") is False else run(call)

    def tree_text(self) -> str:
        """Return the call that does the same for what a container holds, with ``{}`` in the container's place."""
        keywords = {name: value for name, value in self.keywords.items() if name in KEYWORDS}
        return Call("interop.tree.convert", None, self.target, to=self.to or self.target, subject="{}", **keywords).text()


class DecoratedCall(Call):
    """A conversion on behalf of a decorated function: its text is what the user wrote, and where a permission would go."""

    def __init__(self, text: str, place: str, *, to: Any = None, like: Any = None, **keywords: Any) -> None:
        super().__init__(text, None, target_of(to, like), to=to, like=like, **keywords)
        self.place = place

    def again(self, changes: dict[str, Any]) -> Any:
        """Raise TypeError: the call is the decorated function's, and has no such keywords."""
        raise TypeError(f"permissions of a decorated function are its decorator's: write {self.text(changes)}.")

    def text(self, changes: dict[str, Any] | None = None) -> str:
        """Return what the user wrote, or where these keywords would have to be written."""
        if not changes:
            return self.verb
        words = ", ".join(f"{name}={value!r}" for name, value in changes.items())
        # The decorator's permissions override the scope's.
        overridden = changes.keys() & self.keywords.keys() or "policy" in self.keywords
        return f"{words} into {self.place}" + ("" if overridden else f", or call it inside `with interop.policy({words})`")


def _spell(name: str, value: Any) -> str:
    # An array is not printed: that would synchronise a device, or run a wrapper's own code.
    if name == "dtype":
        value = dtype_name(value)
    text = "..." if name == "like" else repr(value)
    return text if len(text) <= 60 else "..."


class Prepared(NamedTuple):
    """A conversion that was looked at and planned: all that executing it needs."""

    plan: Plan
    x: Any
    source: Backend
    target: Backend
    stream: int | None


def run(call: Call) -> Any:
    """Describe, plan, execute."""
    with error_context(call.text):
        return finish(_permitted(call))


def start(call: Call) -> Transfer:
    """Describe, plan, and begin: what has to wait for data to arrive is done when the result is asked for."""
    with error_context(call.text):
        ready = _permitted(call)
        is_ready, end = begin(ready.plan, ready.x, ready.source, ready.target, ready.stream)
        log_plan(ready.plan)
    call.x = None  # the text of an error does not need it

    def finish() -> Any:
        with error_context(call.text):
            return end()

    return Transfer(ready.plan, is_ready, finish)


def _permitted(call: Call) -> Prepared:
    if isinstance(call.x, Description):
        raise UnsupportedTypeError(f"{NO_DATA}.", hint="Plan with it: interop.explain(x, ...).")
    ready = prepare(call)
    if ready.plan.refusals:
        raise refused(call, ready.plan.refusals, ready.plan.description)
    return ready


def finish(ready: Prepared, path: str = "") -> Any:
    """Execute a plan that has no refusals, and log it; `path` is the array's place in a tree."""
    result = execute(ready.plan, ready.x, ready.source, ready.target, ready.stream)
    log_plan(ready.plan, path)
    return result


def plan_call(call: Call) -> Plan:
    """Describe and plan; a refusal from a backend becomes part of the plan, as every other does."""
    try:
        ready = prepare(call)
        given = call.keywords.get("dtype")
        known = given is None or isinstance(call.x, Description) or ready.plan.refusals
        return ready.plan if known else tried(ready.plan, ready.x, ready.source, dtype_name(given))
    except InteropError as error:
        seen = _seen(call.x)
        return Plan(seen, call.target, seen.device, seen.dtype, refusals=(Refusal.from_error(error),))


def _seen(x: Any) -> Description:
    """Return what is known of a source whose conversion could not even be planned."""
    if isinstance(x, Description):
        return x
    with contextlib.suppress(InteropError):
        return find_backend(x).describe(x)
    return Description(backend="unknown", type=type_name(x), dtype="unknown")


@contextlib.contextmanager
def error_context(call: Callable[[], str]) -> Iterator[None]:
    """Put the call in front of an error that a backend raised: it stated the fact, and does not know the call.

    An error that has its context, from here or from `refused`, goes through as it is.
    """
    try:
        yield
    except InteropError as error:
        if error.refusals:
            raise
        refusals = (Refusal.from_error(error),)
        complete = type(error)(f"{call()}: {error.message}", hint=error.hint, permissions=error.permissions, refusals=refusals)
        raise complete from (error.__cause__ or error)


def check_keywords(call: Call) -> None:
    """Raise what `prepare` would raise for the call's keywords, whatever its source is."""
    keywords = call.keywords
    resolve_policy(keywords.get("policy"), {name: keywords[name] for name in FIELDS if name in keywords})
    target = load_backend(call.target)
    if "dtype" in keywords:
        dtype_name(keywords["dtype"])
    if "device" in keywords:
        _named_device(keywords["device"], target)


def prepare(call: Call) -> Prepared:
    """Resolve the call's keywords, look at the source, and plan."""
    keywords = call.keywords
    permissions = {name: keywords[name] for name in FIELDS if name in keywords}
    policy = resolve_policy(keywords.get("policy"), permissions)
    dtype = dtype_name(keywords["dtype"]) if "dtype" in keywords else None
    planned = isinstance(call.x, Description)
    target = load_backend(call.target)
    source = load_backend(call.x.backend) if planned else find_backend(call.x, call.tree_text)
    device = _device(keywords, target)

    def stream_for(at: Device) -> int | None:
        # Where the target cannot work on the memory, it is only looked at: there is nothing to wait for.
        works = at.type in target.capabilities.devices and target.why_unavailable(at) is None
        return target.stream_pointer(keywords.get("stream"), at) if works else -1

    x = call.x if planned or source is target else source.import_producer(call.x, stream_for)
    description = x if planned else source.describe(x)
    home = Device(target.capabilities.default_device) if planned else target.default_device()
    request = Request(
        source.capabilities,
        target.capabilities,
        policy,
        home,
        device,
        "device" in keywords,
        dtype,
        keywords.get("stream") is not None,
        stream_problem=_stream_problem(keywords.get("stream")),
        forbidden=forbidden(),
    )
    result_device = resolve_device(description, request)
    if not planned and (result_device != description.device or source is not target):
        request = request._replace(unavailable=target.why_unavailable(result_device))
    plan = decide(description, request, result_device)
    if request.source.wraps == target.name and not planned:  # from here on it is an array of the target's own
        x, source = source.inside(x), target
    if plan.refusals and not planned:
        plan = tried(plan, x, source, dtype)
    works = plan.ok and (plan.steps or "stream" in keywords) and not planned
    stream = _stream(plan, source, target, keywords.get("stream")) if works else None
    return Prepared(plan, x, source, target, stream)


def _device(keywords: dict[str, Any], target: Backend) -> Device | None:
    if "device" in keywords:
        return _named_device(keywords["device"], target)
    return find_backend(keywords["like"]).describe(keywords["like"]).device if "like" in keywords else None


def _named_device(device: Any, target: Backend) -> Device:
    """Return the device that a string means to the target, or a native device object to its own library."""
    if isinstance(device, str | Device):  # before the names of third parties are looked up, which takes long
        return target.parse_device(device)
    if isinstance(device, Integral):  # NumPy's too; -1 and True name none
        kind = next((one for one in ("cuda", "rocm") if one in target.capabilities.devices), "cpu")
        named = int(device) >= 0 and not isinstance(device, bool)
        index = "" if kind == "cpu" else f":{device if named else 0}"
        raise TypeError(f"device={device} does not say of which kind: write {'' if named else 'one, as in '}device='{kind}{index}'.")
    library = str(type(device).__module__).partition(".")[0]
    owner = load_backend(library) if is_backend(library) else target
    return owner.parse_device(device)


def _stream_problem(stream: Any) -> str | None:
    try:
        stream_number(-1 if stream is None else stream)
    except StreamError as error:
        return error.message
    return None


def _stream(plan: Plan, source: Backend, target: Backend, stream: Any) -> int | None:
    """Return the stream's number for the accelerator that takes part: the target's, else the one that is left."""
    if plan.device.type in STREAMED:
        return target.stream_pointer(stream, plan.device)
    if plan.description.device.type in STREAMED:
        return source.stream_pointer(stream, plan.description.device)
    return None


def refused(call: Call, refusals: tuple[Refusal, ...], description: Description | None, subject: str = "") -> InteropError:
    """Return the error for a plan with refusals: the class of the first, the text of all, the call to write."""
    permissions = merged_permissions(refusals)
    hint = hint_for(refusals, f"write {call.text(permissions)}" if permissions else "")
    text = "\n".join([f"{call.text()} cannot convert {subject or description}; blocked by:", *grouped(refusals)])
    again = call.again if permissions else None
    return refusals[0].error(text, hint=hint, permissions=permissions, description=description, refusals=refusals, again=again)
