"""The public verbs that only look: what an array is, what a conversion would do, whether two arrays have memory in common."""

from __future__ import annotations

from typing import Any

from interop._engine.call import Call, error_context, plan_call, target_of
from interop._engine.fastpath import reject_unknown_keywords

# Not for type checkers only: typing.get_type_hints of a verb has to find them.
from interop._model.description import Description  # noqa: TC001
from interop._model.plan import Plan  # noqa: TC001
from interop._model.policy import Casting, Grad, Layout, Mask, Policy, ReadOnly, TransferRule  # noqa: TC001
from interop.backends import find_backend

__all__ = ["describe", "explain", "shares_memory"]


@reject_unknown_keywords
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
    transfer: TransferRule | None = None,
    readonly: ReadOnly | None = None,
    casting: Casting | None = None,
    mask: Mask | None = None,
    layout: Layout | None = None,
) -> Plan:
    """Return the plan of `convert` with the same arguments; moves nothing, and never raises for a refusal.

    `x` may also be a `Description`, made by hand or by `interop.notation.parse`, so that a GPU case can be planned
    on a machine without one.

    Examples
    --------
    >>> import interop
    >>> x = interop.Description(backend="torch", type="torch.Tensor", shape=(2, 2), device=interop.Device("cuda"), requires_grad=True, nbytes=16)
    >>> plan = explain(x, "numpy")
    >>> plan.permissions
    {'grad': 'detach', 'transfer': 'allow'}
    >>> explain(x, "numpy", **plan.permissions).bytes_copied
    16
    """
    return plan_call(
        Call(
            "explain",
            x,
            target_of(to, like),
            to=to,
            like=like,
            device=device,
            dtype=dtype,
            copy=copy,
            stream=stream,
            policy=policy,
            grad=grad,
            transfer=transfer,
            readonly=readonly,
            casting=casting,
            mask=mask,
            layout=layout,
        )
    )


def describe(x: Any) -> Description:
    """Return what interop sees of an array; raises UnsupportedTypeError if it is none.

    Examples
    --------
    >>> import numpy as np
    >>> print(describe(np.zeros((2, 3), "int16")[:, ::2]))
    numpy.ndarray int16[2, 2] on cpu, strides (3, 2)
    """
    with error_context(lambda: "describe(x)"):
        return find_backend(x).describe(x)


def shares_memory(a: Any, b: Any) -> bool:
    """Return whether two arrays, of any libraries, have a byte in common.

    Exact: the bytes of the elements count, not the extents between the first and the last (two interleaved
    columns do not overlap). Nothing is read, moved or synchronised. Arrays without strided memory
    (sparse, fake, ...) share with nothing but themselves.

    Examples
    --------
    >>> import interop, numpy as np
    >>> a = np.zeros((4, 2))
    >>> shares_memory(a[:, 0], a[:, 1]), shares_memory(a[:, 0], interop.to_torch(a))
    (False, True)
    """
    with error_context(lambda: "shares_memory(a, b), the first argument"):
        first = find_backend(a).describe(a)
    with error_context(lambda: "shares_memory(a, b), the second argument"):
        second = find_backend(b).describe(b)
    odd = (find_backend(a).capabilities.odd_strides, find_backend(b).capabilities.odd_strides)
    if a is b:
        return bool(first.size)
    strided = all(x.strides is not None or can for x, can in zip((first, second), odd, strict=True))
    known = strided and all(x.pointer and x.size and x.layout == "strided" for x in (first, second))
    one_space = first.device == second.device or "plain" not in (first.memory, second.memory)
    if not known or not one_space:
        return known and one_space
    from interop.backends.numpy.backend import overlap

    # Strides that are not whole elements are known to the ndarray only, which is all that such an array has inside.
    arrays = [find_backend(x).host_view(x) if seen.strides is None else x for x, seen in ((a, first), (b, second))]
    return overlap(first, second, *arrays)
