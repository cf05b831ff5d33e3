"""The public verbs: those that convert, and those that only look.

Their keywords are listed once, as typed dicts; `spelled_out` shows them in each signature.
"""

from __future__ import annotations

from typing import Any, Unpack

from interop._engine.call import Call, Keywords, TargetKeywords, error_context, plan_call, run, spelled_out, start, target_of
from interop._engine.fastpath import reject_unknown_keywords, with_fast_path, with_fast_path_for_any_target

# Not for type checkers only: typing.get_type_hints of a verb has to find them.
from interop._model.description import Description  # noqa: TC001
from interop._model.plan import Plan  # noqa: TC001
from interop._untraced import untraced
from interop.backends import find_backend


@with_fast_path_for_any_target
@spelled_out(Keywords)
def convert(
    x: Any,
    to: Any = None,
    /,
    **keywords: Unpack[Keywords],
) -> Any:
    """Return `x` as an array of another library, on the same memory wherever that library can address it.

    Parameters
    ----------
    x : array
        An array of NumPy, torch, CuPy or JAX, or any object that exports DLPack. It is never modified.
    to : str or module
        The target: a backend's name, or its namespace module (array-api-compat's wrappers too).
    like : array, optional
        Instead of `to`: the library and the device of this array. Moving there needs ``transfer="allow"``.
    device : str or native device, optional
        The device of the result; asking for it permits the crossing. Default: the device of `x`.
    dtype : str or dtype, optional
        An explicit cast, whose loss is thereby permitted. Default: the dtype of `x`.
    copy : bool, optional
        The array API's meaning: None shares if possible, False shares or raises, True never aliases.
        A crossing to another device is new memory too, which False forbids.
    stream : int or native stream, optional
        The consumer's stream, as in ``__dlpack__``; default: the target library's current stream on the device,
        always passed explicitly. The producer's work is ordered before work on that stream; the host does not wait,
        unless the data cross to the host. Memory that is released while still in use on that stream is not reused
        before (dmlc/dlpack#176); ``-1`` leaves both to the caller.
    policy : Policy or str, optional
        A `Policy`, ``"strict"``, ``"default"`` or ``"coerce"``; default: the enclosing scope's.
    grad, transfer, readonly, casting, mask, units, extension, layout : str, optional
        Single permissions (see `Policy`); None means as the policy says. With ``grad="detach"`` memory that
        stays shared is read-only where the target can say so; ``readonly="share"`` makes it writable.

    Returns
    -------
    array
        Of the target library. If it shares memory it keeps the source's memory alive. `x` itself if it is
        an array of the target library already and nothing has to change.

    Raises
    ------
    InteropError
        Its class is that of the first refusal, the text names all of them, and passing ``**error.permissions`` back
        makes the call succeed, unless a refusal is final.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.arange(6.0).reshape(2, 3)
    >>> t = convert(a, "torch")
    >>> t[0, 0] = 7.0
    >>> float(a[0, 0])
    7.0
    """
    return run(Call("convert", x, target_of(to, keywords.get("like")), to=to, **keywords))


@with_fast_path("numpy")
@spelled_out(TargetKeywords)
def to_numpy(
    x: Any,
    /,
    *,
    blocking: bool | None = None,
    **keywords: Unpack[TargetKeywords],
) -> Any:
    """Return `x` as a NumPy array; `convert` to ``"numpy"``, with the same keywords, result and errors.

    Parameters
    ----------
    blocking : bool, optional
        With False a `Transfer` is returned at once: its ``result()`` waits for the copy from a device to page-locked memory, which
        the array owns. Arrays on the host are converted at once. Default: waits, and returns the array.

    Examples
    --------
    >>> import torch
    >>> p = torch.nn.Parameter(torch.ones(2))
    >>> to_numpy(p, grad="detach")
    array([1., 1.], dtype=float32)
    """
    call = Call("to_numpy", x, "numpy", blocking=blocking, **keywords)
    if not isinstance(blocking, bool | None):
        raise TypeError(f"blocking={blocking!r} is no bool.")
    return start(call) if blocking is False else run(call)


@with_fast_path("torch")
@spelled_out(TargetKeywords)
def to_torch(
    x: Any,
    /,
    **keywords: Unpack[TargetKeywords],
) -> Any:
    """Return `x` as a torch tensor; `convert` to ``"torch"``, with the same keywords, result and errors.

    Examples
    --------
    >>> import numpy as np
    >>> to_torch(np.array([3.0, 2.0, 1.0])[::-1])  # a negative stride, which torch does not have: copied
    tensor([1., 2., 3.], dtype=torch.float64)
    """
    return run(Call("to_torch", x, "torch", **keywords))


@with_fast_path("cupy")
@spelled_out(TargetKeywords)
def to_cupy(
    x: Any,
    /,
    **keywords: Unpack[TargetKeywords],
) -> Any:
    """Return `x` as a CuPy array; `convert` to ``"cupy"``, with the same keywords, result and errors.

    Examples
    --------
    >>> import torch
    >>> to_cupy(torch.ones(2, device="cuda"))  # doctest: +SKIP
    array([1., 1.], dtype=float32)
    """
    return run(Call("to_cupy", x, "cupy", **keywords))


@with_fast_path("jax")
@spelled_out(TargetKeywords)
def to_jax(
    x: Any,
    /,
    **keywords: Unpack[TargetKeywords],
) -> Any:
    """Return `x` as a JAX array; `convert` to ``"jax"``, with the same keywords, result and errors.

    Examples
    --------
    >>> import numpy as np
    >>> to_jax(np.ones(2, "float32")).dtype  # a copy: the array stays writable, and JAX's memory is constant
    dtype('float32')
    """
    return run(Call("to_jax", x, "jax", **keywords))


@reject_unknown_keywords
@spelled_out(Keywords)
def explain(
    x: Any,
    to: Any = None,
    /,
    **keywords: Unpack[Keywords],
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
    return plan_call(Call("explain", x, target_of(to, keywords.get("like")), to=to, **keywords))


@untraced
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


@untraced
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
