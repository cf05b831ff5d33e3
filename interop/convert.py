"""The public verbs: describe, plan, execute; and the context of every error, added here once.

The signatures spell out every permission, so that an editor completes them; `tests/test_signatures.py` holds
them to the one list (`interop.policy.FIELDS`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interop.backends import find_backend, load_backend, name_of_target
from interop.decide import decide, settle
from interop.description import STREAMED, Description, Device
from interop.dtypes import dtype_name
from interop.errors import InteropError
from interop.execute import execute
from interop.plan import Plan, Request, obstacles
from interop.policy import FIELDS, resolve_policy
from interop.quick import checked, front

if TYPE_CHECKING:
    from interop.backends._base import Backend
    from interop.policy import Casting, Grad, Layout, Mask, Policy, ReadOnly, Transfer

__all__ = ["convert", "describe", "explain", "shares_memory", "to_cupy", "to_numpy", "to_torch"]


@checked
def convert(
    x: Any,
    to: Any = None,
    /,
    *,
    like: Any = None,
    device: Any = None,
    dtype: Any = None,
    copy: bool | None = None,
    stream: Any = None,
    policy: Policy | str | None = None,
    grad: Grad | None = None,
    transfer: Transfer | None = None,
    readonly: ReadOnly | None = None,
    casting: Casting | None = None,
    mask: Mask | None = None,
    layout: Layout | None = None,
) -> Any:
    """Return `x` as an array of another library, on the same memory wherever that library can address it.

    Parameters
    ----------
    x : array
        A NumPy, torch or CuPy array, or any object that speaks DLPack. It is never modified.
    to : str or module
        The target: a backend's name, or its namespace module (array-api-compat's wrappers too).
    like : array, optional
        Instead of `to`: the library and the device of this array. Moving there needs ``transfer="allow"``.
    device : str or native device, optional
        Where the result shall live; asking for it permits the crossing. Default: where the data are.
    dtype : str or dtype, optional
        An explicit cast, whose loss is thereby permitted. Default: the dtype of `x`.
    copy : bool, optional
        The array API's meaning: None shares if possible, False shares or raises, True never aliases.
    stream : int or native stream, optional
        The consumer's stream, as in ``__dlpack__``; default: the target library's current stream on the device,
        always passed explicitly. The producer's work is ordered before work on that stream; the host does not wait,
        unless the data cross to the host.
    policy : Policy or str, optional
        A `Policy`, ``"strict"``, ``"default"`` or ``"coerce"``; default: the enclosing scope's.
    grad, transfer, readonly, casting, mask, layout : str, optional
        Single permissions (see `Policy`); None means as the policy says.

    Returns
    -------
    array
        Of the target library. If it shares memory it keeps the source's memory alive. `x` itself if it is
        of the target kind already and nothing has to change.

    Raises
    ------
    InteropError
        The subclass says what stands in the way first, the text names everything, and passing
        ``**error.permissions`` back makes the call succeed unless the refusal is final.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.arange(6.0).reshape(2, 3)
    >>> t = convert(a, "torch")
    >>> t[0, 0] = 7.0
    >>> float(a[0, 0])
    7.0
    """
    return _run(_Call("convert", x, _which(to, like), locals()))


@front("numpy")
def to_numpy(
    x: Any,
    /,
    *,
    device: Any = None,
    dtype: Any = None,
    copy: bool | None = None,
    stream: Any = None,
    policy: Policy | str | None = None,
    grad: Grad | None = None,
    transfer: Transfer | None = None,
    readonly: ReadOnly | None = None,
    casting: Casting | None = None,
    mask: Mask | None = None,
    layout: Layout | None = None,
) -> Any:
    """Return `x` as a NumPy array; `convert` to ``"numpy"``, with the same keywords, result and errors.

    Examples
    --------
    >>> import torch
    >>> p = torch.nn.Parameter(torch.ones(2))
    >>> to_numpy(p, grad="detach")
    array([1., 1.], dtype=float32)
    """
    return _run(_Call("to_numpy", x, "numpy", locals()))


@front("torch")
def to_torch(
    x: Any,
    /,
    *,
    device: Any = None,
    dtype: Any = None,
    copy: bool | None = None,
    stream: Any = None,
    policy: Policy | str | None = None,
    grad: Grad | None = None,
    transfer: Transfer | None = None,
    readonly: ReadOnly | None = None,
    casting: Casting | None = None,
    mask: Mask | None = None,
    layout: Layout | None = None,
) -> Any:
    """Return `x` as a torch tensor; `convert` to ``"torch"``, with the same keywords, result and errors.

    Examples
    --------
    >>> import numpy as np
    >>> to_torch(np.array([3.0, 2.0, 1.0])[::-1])  # a negative stride, which torch does not have: copied
    tensor([1., 2., 3.], dtype=torch.float64)
    """
    return _run(_Call("to_torch", x, "torch", locals()))


@front("cupy")
def to_cupy(
    x: Any,
    /,
    *,
    device: Any = None,
    dtype: Any = None,
    copy: bool | None = None,
    stream: Any = None,
    policy: Policy | str | None = None,
    grad: Grad | None = None,
    transfer: Transfer | None = None,
    readonly: ReadOnly | None = None,
    casting: Casting | None = None,
    mask: Mask | None = None,
    layout: Layout | None = None,
) -> Any:
    """Return `x` as a CuPy array; `convert` to ``"cupy"``, with the same keywords, result and errors.

    Examples
    --------
    >>> import torch
    >>> to_cupy(torch.ones(2, device="cuda"))  # doctest: +SKIP
    array([1., 1.], dtype=float32)
    """
    return _run(_Call("to_cupy", x, "cupy", locals()))


@checked
def explain(
    x: Any,
    to: Any = None,
    /,
    *,
    like: Any = None,
    device: Any = None,
    dtype: Any = None,
    copy: bool | None = None,
    stream: Any = None,
    policy: Policy | str | None = None,
    grad: Grad | None = None,
    transfer: Transfer | None = None,
    readonly: ReadOnly | None = None,
    casting: Casting | None = None,
    mask: Mask | None = None,
    layout: Layout | None = None,
) -> Plan:
    """Return the plan of `convert` with the same arguments; moves nothing, and never raises for a refusal.

    `x` may also be a `Description`, made by hand or by `interop.parse`, so that a GPU case can be planned
    on a machine without one.

    Examples
    --------
    >>> x = Description(backend="torch", type="torch.Tensor", shape=(2, 2), device=Device("cuda"), requires_grad=True, nbytes=16)
    >>> plan = explain(x, "numpy")
    >>> plan.permissions
    {'grad': 'detach', 'transfer': 'allow'}
    >>> explain(x, "numpy", **plan.permissions).bytes_copied
    16
    """
    return _prepare(_Call("explain", x, _which(to, like), locals())).plan


def describe(x: Any) -> Description:
    """Return what interop sees of an array; raises UnsupportedTypeError if it is none.

    Examples
    --------
    >>> import numpy as np
    >>> print(describe(np.zeros((2, 3), "int16")[:, ::2]))
    numpy.ndarray int16[2, 2] on cpu, strides (3, 2)
    """
    return find_backend(x).describe(x)


def shares_memory(a: Any, b: Any) -> bool:
    """Return whether two arrays, of any libraries, have a byte in common.

    Exact: the bytes of the elements count, not the extents between the first and the last (two interleaved
    columns do not overlap). Nothing is read, moved or synchronised. Arrays without strided memory
    (sparse, fake, ...) share with nothing but themselves.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.zeros((4, 2))
    >>> shares_memory(a[:, 0], a[:, 1]), shares_memory(a[:, 0], to_torch(a))
    (False, True)
    """
    first, second = describe(a), describe(b)
    if a is b:
        return bool(first.size)
    known = all(x.pointer and x.size and x.strides is not None and x.layout == "strided" for x in (first, second))
    one_space = first.device == second.device or "plain" not in (first.memory, second.memory)
    if not known or not one_space:
        return known and one_space
    from interop.backends.numpy import overlap

    return overlap(first, second)


def _which(to: Any, like: Any) -> str:
    if (to is None) == (like is None):
        raise TypeError("name the target with exactly one of to= (the second argument) and like=.")
    return name_of_target(to) if like is None else find_backend(like).name


class _Call:
    """One call of a verb: its name, and the keywords that the caller gave."""

    def __init__(self, verb: str, x: Any, target: str, arguments: dict[str, Any]) -> None:
        self.verb, self.x, self.target = verb, x, target
        self.to = arguments.get("to")
        skipped = ("x", "to")
        self.keywords = {name: value for name, value in arguments.items() if name not in skipped and value is not None}

    def text(self, changes: dict[str, Any] | None = None) -> str:
        """Return the call as source text, with these keywords changed."""
        target = [repr(self.target)] if self.to is not None else []
        named = [f"{name}={_spell(name, value)}" for name, value in (self.keywords | (changes or {})).items()]
        return f"{self.verb}({', '.join(['x', *target, *named])})"


def _spell(name: str, value: Any) -> str:
    # An array is not printed: that would synchronise a device, or run a wrapper's own code.
    text = "..." if name == "like" else repr(value)
    return text if len(text) <= 60 else "..."


@dataclass
class _Prepared:
    plan: Plan
    x: Any
    source: Backend | None
    target: Backend
    stream: int | None


def _run(call: _Call) -> Any:
    try:
        ready = _prepare(call)
        if ready.plan.refusals:
            raise _refusal(call, ready.plan)
        assert ready.source is not None
        return execute(ready.plan, ready.x, ready.source, ready.target, ready.stream)
    except InteropError as error:
        if error.refusals:
            raise
        # From a backend: it stated the fact; here it gets the call around it.
        told = type(error)(f"{call.text()}: {error.message}", hint=error.hint, permissions=error.permissions)
        raise told from error.__cause__


def _prepare(call: _Call) -> _Prepared:
    words = call.keywords
    permissions = {name: words[name] for name in FIELDS if name in words}
    policy = resolve_policy(words.get("policy"), permissions)
    dtype = dtype_name(words["dtype"]) if "dtype" in words else None
    planned = isinstance(call.x, Description)
    target = load_backend(call.target)
    source = load_backend(call.x.backend) if planned else find_backend(call.x)
    device = _device(words, target)

    def stream_for(at: Device) -> int | None:
        where = at if at.type in target.capabilities.devices else target.home()
        return target.stream_pointer(words.get("stream"), where)

    x = call.x if planned or source is target else source.open(call.x, stream_for)
    description = x if planned else source.describe(x)
    home = Device(target.capabilities.home) if planned else target.home()
    request = Request(
        source.capabilities, target.capabilities, policy, home, device, "device" in words, dtype, words.get("stream") is not None
    )
    settled = settle(description, request)
    if not planned and settled != description.device:
        request = _with_availability(request, target.why_unavailable(settled))
    plan = decide(description, request)
    stream = _stream(plan, source, target, words.get("stream")) if plan.ok and not planned else None
    return _Prepared(plan, x, source, target, stream)


def _with_availability(request: Request, problem: str | None) -> Request:
    from dataclasses import replace

    return replace(request, unavailable=problem) if problem else request


def _device(words: dict[str, Any], target: Backend) -> Device | None:
    if "device" in words:
        return target.device_of(words["device"])
    return find_backend(words["like"]).describe(words["like"]).device if "like" in words else None


def _stream(plan: Plan, source: Backend, target: Backend, stream: Any) -> int | None:
    """Return the stream's number for the accelerator that takes part: the target's, else the one that is left."""
    if plan.device.type in STREAMED:
        return target.stream_pointer(stream, plan.device)
    if plan.description.device.type in STREAMED:
        return source.stream_pointer(stream, plan.description.device)
    return None


def _refusal(call: _Call, plan: Plan) -> InteropError:
    """Return the error for a plan with refusals: the class of the first, the text of all, the call to write."""
    count = len(plan.refusals)
    things = "this stands" if count == 1 else f"these {count} things stand"
    lines = [f"{call.text()} cannot convert {plan.description}; {things} in the way:", *obstacles(plan.refusals)]
    hints = [refusal.hint for refusal in plan.refusals if refusal.final and refusal.hint]
    hint = " ".join(dict.fromkeys(hints)) if plan.final else f"write {call.text(plan.permissions)}"
    return plan.refusals[0].error(
        "\n".join(lines), hint=hint, permissions=plan.permissions, description=plan.description, refusals=plan.refusals
    )
