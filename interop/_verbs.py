"""The public verbs that convert. Those that only look are in `interop._engine.inspection`.

The signatures spell out every permission, so that an editor completes them; `tests/test_signatures.py` holds
them to the one list (`interop._model.policy.FIELDS`).
"""

from __future__ import annotations

from typing import Any

from interop._engine.call import Call, run, start, target_of
from interop._engine.fastpath import with_fast_path, with_fast_path_for_any_target

# Not for type checkers only: typing.get_type_hints of a verb has to find them.
from interop._model.policy import Casting, Grad, Layout, Mask, Policy, ReadOnly, TransferRule  # noqa: TC001

__all__ = ["convert", "to_cupy", "to_jax", "to_numpy", "to_torch"]


@with_fast_path_for_any_target
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
    transfer: TransferRule | None = None,
    readonly: ReadOnly | None = None,
    casting: Casting | None = None,
    mask: Mask | None = None,
    layout: Layout | None = None,
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
        It speaks of copies on the same device; a crossing is permitted by `device` or `transfer`.
    stream : int or native stream, optional
        The consumer's stream, as in ``__dlpack__``; default: the target library's current stream on the device,
        always passed explicitly. The producer's work is ordered before work on that stream; the host does not wait,
        unless the data cross to the host. Memory that is released while still in use on that stream is not reused
        before (dmlc/dlpack#176); ``-1`` leaves both to the caller.
    policy : Policy or str, optional
        A `Policy`, ``"strict"``, ``"default"`` or ``"coerce"``; default: the enclosing scope's.
    grad, transfer, readonly, casting, mask, layout : str, optional
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
    return run(
        Call(
            "convert",
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


@with_fast_path("numpy")
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
    transfer: TransferRule | None = None,
    readonly: ReadOnly | None = None,
    casting: Casting | None = None,
    mask: Mask | None = None,
    layout: Layout | None = None,
    blocking: bool | None = None,
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
    call = Call(
        "to_numpy",
        x,
        "numpy",
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
        blocking=blocking,
    )
    if not isinstance(blocking, bool | None):
        raise TypeError(f"blocking={blocking!r} is no bool.")
    return start(call) if blocking is False else run(call)


@with_fast_path("torch")
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
    transfer: TransferRule | None = None,
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
    return run(
        Call(
            "to_torch",
            x,
            "torch",
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


@with_fast_path("cupy")
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
    transfer: TransferRule | None = None,
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
    return run(
        Call(
            "to_cupy",
            x,
            "cupy",
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


@with_fast_path("jax")
def to_jax(
    x: Any,
    /,
    *,
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
) -> Any:
    """Return `x` as a JAX array; `convert` to ``"jax"``, with the same keywords, result and errors.

    Examples
    --------
    >>> import numpy as np
    >>> to_jax(np.ones(2, "float32")).dtype  # a copy: the array stays writable, and JAX's memory is constant
    dtype('float32')
    """
    return run(
        Call(
            "to_jax",
            x,
            "jax",
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
