"""What the user's code does in torch past interop, inside of ``guard(..., native=True)``: seen, and refused.

torch shows its work in two places, and neither is enough. A *dispatch mode* sits below autograd and sees every
operation: copies between devices, numbers read off a device, and `detach`, whichever way it was written. But
`numpy`, `tolist` and `__dlpack__` are no operations. A *function mode* sees those, at the border to Python; but not
what they do inside. So there are two modes for a block, and one `_Watch` that both report to.

A detached tensor looks like any other. So the storages are remembered, weakly, that hold values of tracked tensors
without their graph: a `detach`, or a view or copy under ``no_grad``, and copies of those. What is *computed* from them
is a new value, as it is to autograd, and a Python number (`item`, `float`, the loss in a log) is no array: neither is
refused. Nor is a host tensor without dimensions taken for data where an operation mixes it with a device's tensors, or
a device's tensor for data where it is made from Python numbers. Fake tensors are judged by the device that they tell:
under ``FakeTensorMode`` a guard shows without a GPU whether code would move data. Nothing comes back from the meta
device, so only the way there is refused. An operation in a block costs some 15 microseconds more, and the first one a
second or two: torch loads its compiler for any dispatch mode.

Three harmless things are refused too: ``torch.from_dlpack`` of a detached tensor, which asks as any consumer does;
`numpy` in the forward of an ``autograd.Function``, because it cannot be known what its backward makes of it; and an
untracked tensor on the same memory as a detached one. These go unseen (`tests/watch/test_torch.py` shows it of each):

- what was detached before the block, or is detached in it and then passed to interop;
- ``torch.utils.dlpack.to_dlpack`` and the exchange table in C (``tvm_ffi.from_dlpack``): no mode sees them;
- memory by its address or as a storage (``data_ptr()``, ``untyped_storage()``), and files (``torch.save``);
- what is detached while it has no storage: sparse tensors, and those inside of ``torch.func.grad``;
- `numpy` and the like where torch's own Python code calls the user's (hooks, in ``Tensor.backward``) or torch function
  is disabled; copies between devices are seen there;
- printing, for which torch turns the modes off, and answers that it reads itself (``torch.equal``, ``torch.allclose``);
- other threads, also those that the block starts;
- inside of kernels that ``torch.compile`` made; operations that its backend leaves to torch are seen.

A compiled function is compiled once more for blocks like this: it depends on the function modes. If there is NumPy
code in it, torch 2.13 fails at that, and 2.15 does not (pytorch#140884).
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from numbers import Number
from types import EllipsisType, NoneType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch import overrides
from torch.autograd import forward_ad
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _python_dispatch

from interop._model.description import CPU, Device
from interop._model.scope import block, in_force, undone
from interop.backends.torch import kinds
from interop.backends.torch.backend import backend
from interop.backends.torch.crossings import COPIES, CROSSINGS, WRITES, pairs, sent
from interop.errors import GradError, InteropError, TransferError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_aten: Any = torch.ops.aten
_Tensor: Any = torch.Tensor
_duals: Any = forward_ad
_NUMPY, _ARRAY, _TOLIST, _DLPACK = _Tensor.numpy, _Tensor.__array__, _Tensor.tolist, _Tensor.__dlpack__
_CUDA_ARRAY = _Tensor.__cuda_array_interface__.__get__
_DETACHING = frozenset({torch.detach, _Tensor.detach, _Tensor.detach_, _Tensor.data.__get__})
_SETTING_GRAD = frozenset({_Tensor.requires_grad_, _Tensor.requires_grad.__set__})
# Where Python numbers become tensors, on whatever device: the place of the data among the arguments.
_MAKING = {torch.tensor: 0, torch.as_tensor: 0, torch.asarray: 0, _Tensor.new_tensor: 1}
_INDEXING = frozenset({_Tensor.__getitem__, _Tensor.__setitem__})
_LITERALS = (Number, np.generic, NoneType, EllipsisType, slice, range)


@block
def native_guard(forbidden: frozenset[str]) -> Iterator[None]:
    """Return a context in which torch itself raises for what is forbidden, in this thread and this context.

    Parameters
    ----------
    forbidden : frozenset of str
        Any of ``"transfers"`` (copies from one device to another, numbers read off a device), ``"grads"`` (arrays that
        leave torch while autograd tracks their values) and ``"copies"`` (torch may make as many as it likes: nothing).

    Raises
    ------
    TransferError, GradError
        From torch's own functions, before anything is copied or exported. Always final.

    Examples
    --------
    >>> weight = torch.nn.Parameter(torch.ones(2))
    >>> with native_guard(frozenset({"grads"})):
    ...     array = weight.detach().numpy()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    interop.errors.GradError: torch.Tensor.numpy, in a guard that forbids grads, exports values of a tracked tensor, ...
    """
    if not forbidden & {"transfers", "grads"}:
        yield
        return
    watch = _Watch(forbidden)
    functions, operations = cast("Any", _Functions(watch)), cast("Any", _Operations(watch))  # torch's own stubs lack types
    flags, depth = {name: getattr(_python_dispatch, name) for name in _FLAGS}, len(_DISPATCH_MODES.stack())
    left: list[list[Any]] = []

    def undo() -> None:
        if not left:  # or it goes on where it was interrupted
            left[:] = [[mode for mode in modes.stack() if mode not in (functions, operations)] for modes in _STACKS]
        for modes, wanted in zip(_STACKS, left, strict=True):
            modes.set(wanted)
        if len(left[1]) <= depth:
            _set_flags(flags)
        _watching.set(tuple(other for other in _watching.get() if other is not watch))
        watch.detached_storages.refs.clear()

    with undone(undo):
        left.clear()
        _watching.set((*_watching.get(), watch))
        functions.__enter__()
        operations.__enter__()
        yield


class _Modes(NamedTuple):
    """One of the thread's two stacks of modes; other tasks of the event loop may have put theirs on it since."""

    stack: Callable[[], list[Any]]
    pop: Callable[[], Any]
    push: Callable[[Any], None]

    def set(self, wanted: list[Any]) -> None:
        """Change the stack by as little as possible; the outermost mode comes first."""
        now = self.stack()
        same = next((at for at, (one, other) in enumerate(zip(now, wanted, strict=False)) if one is not other), min(len(now), len(wanted)))
        for _ in now[same:]:
            self.pop()
        for mode in wanted[same:]:
            self.push(mode)


_FUNCTION_MODES = _Modes(overrides._get_current_function_mode_stack, overrides._pop_mode, overrides._push_mode)
_DISPATCH_MODES = _Modes(_python_dispatch._get_current_dispatch_mode_stack, _python_dispatch._pop_mode, _python_dispatch._push_mode)
_STACKS = (_FUNCTION_MODES, _DISPATCH_MODES)

# What a dispatch mode sets besides, for the whole process, and not in one step with the stack.
_FLAGS = [name for name in vars(_python_dispatch) if name.startswith("_is_in_")]


def _set_flags(flags: dict[str, bool]) -> None:
    vars(_python_dispatch).update(flags)
    if _IGNORED in flags:
        _python_dispatch.set_is_in_mode_without_ignore_compile_internals(flags[_IGNORED])


_IGNORED = "_is_in_any_mode_without_ignore_compile_internals"


class _Watch:
    """What one block forbids, and what both of its modes know."""

    def __init__(self, forbidden: frozenset[str]) -> None:
        self.transfers, self.grads = "transfers" in forbidden, "grads" in forbidden
        self.detached_storages = _Storages()
        self.thread = threading.get_ident()
        self.keys = torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set()
        self.calling: Any = None  # torch's function that the user called, for the words of a refusal further down
        self.literal = False  # and whether its data are Python numbers

    def here(self) -> bool:
        """Return whether this is the block's own context: the modes are seen by all tasks of an event loop."""
        # autograd works in threads of its own, which have the modes but no context.
        if in_force("unwatched"):
            return False
        return self in _watching.get() or threading.get_ident() != self.thread

    def check_crossings(self, func: Any, crossings: Iterable[tuple[Any, Device]]) -> None:
        """Raise for the first tensor that would go to another device."""
        for x, goal in crossings:
            here = kinds.device_of(x)
            if here not in (goal, Device("meta")) and not (self.literal and here == CPU):
                raise self.refusal(TransferError, "transfers", func, x, f"copies from {here} to {goal}")

    def check_gradient(self, func: Any, x: Any) -> None:
        """Raise for a tensor that would leave torch without its gradient."""
        if _tracked(x):
            raise self.refusal(GradError, "grads", func, x, "exports without its gradient")
        if x in self.detached_storages:
            raise self.refusal(GradError, "grads", func, x, "exports values of a tracked tensor, taken out of their graph in this block")

    def refusal(self, kind: type[InteropError], forbidden: str, func: Any, x: Any, deed: str) -> InteropError:
        """Return the error, with the tensor in interop's words."""
        with torch._C._ForceDispatchKeyGuard(*self.keys):  # below autograd a tangent cannot be asked for
            description = backend.describe(x)
        call, inner = _name(self.calling or func), _name(func)
        call = call if inner.startswith(call) else f"{call} ({inner})"
        hint = f"Do it through interop, outside of the guard that forbids {forbidden}."
        message = f"{call}, in a guard that forbids {forbidden}, {deed}: {description}."
        return kind(message, hint=hint, description=description)


_watching: ContextVar[tuple[_Watch, ...]] = ContextVar("interop_torch_native_guard", default=())


class _Storages:
    """Storages by identity, held weakly: an address that is referred to so is not given to another one."""

    def __init__(self) -> None:
        self.refs: dict[int, StorageWeakRef] = {}
        self.limit = 64

    def __contains__(self, x: Any) -> bool:
        return len(self.refs) > 0 and torch._C._has_storage(x) and x.untyped_storage()._cdata in self.refs

    def add(self, x: Any) -> None:
        if not torch._C._has_storage(x) or x in self:
            return
        if len(self.refs) >= self.limit:
            self.refs = {address: ref for address, ref in self.refs.items() if not ref.expired()}
            self.limit = max(64, 2 * len(self.refs))
        ref = StorageWeakRef(x.untyped_storage())
        self.refs[ref.cdata] = ref

    def discard(self, x: Any) -> None:
        if x in self:
            del self.refs[x.untyped_storage()._cdata]


class _Functions(overrides.TorchFunctionMode):
    """Sees torch's functions and methods as they are called from Python."""

    def __init__(self, watch: _Watch) -> None:
        self.watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # torch.compile traces these lines, and it cannot look up a getter in a set. At an exit it breaks its graph.
        if func is _NUMPY or func is _ARRAY or func is _TOLIST or func is _DLPACK:
            return self.exit(func, args, kwargs or {})
        if torch.compiler.is_dynamo_compiling():
            return func(*args, **(kwargs or {}))
        return self.call(func, args, kwargs or {})

    @torch._disable_dynamo
    def exit(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Call what lets arrays out of torch, if this one may go."""
        x, watch = args[0], self.watch
        with torch._C.DisableTorchFunction():
            if watch.here():
                if watch.transfers:
                    watch.check_crossings(func, sent(func, x, kwargs))
                if watch.grads and not (func is _TOLIST and x.dim() == 0):
                    watch.check_gradient(func, x)
        return self.call(func, args, kwargs)

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Call any function, and note what it does to the graph."""
        watch = self.watch
        if not watch.here():
            return func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            literal = watch.transfers and (func in _MAKING or func in _INDEXING) and self.literal(func, args, kwargs)
            detached = watch.grads and func in _DETACHING and _tracked(args[0])
            if watch.grads and func == _CUDA_ARRAY and args[0].is_cuda:  # on the host there is none, and hasattr() asks
                watch.check_gradient(func, args[0])
        before, (watch.calling, watch.literal) = (watch.calling, watch.literal), (func, literal)
        try:
            result = func(*args, **kwargs)
        finally:
            watch.calling, watch.literal = before
        with torch._C.DisableTorchFunction():
            if detached:
                watch.detached_storages.add(result)
            elif func in _SETTING_GRAD and not args[0].requires_grad:  # a leaf taken out of autograd for good
                watch.detached_storages.discard(args[0])
        return result

    def literal(self, func: Any, args: Any, kwargs: Any) -> bool:
        """Return whether all data of a call are Python numbers; tensors among such that lie on a device are refused."""
        place, nested = _MAKING.get(func), list | tuple
        if place is None:
            data, nested = args[1:], list  # a tuple there holds the indices of several axes
        else:
            data = args[place : place + 1] or (kwargs.get("data", kwargs.get("obj")),)
        read = _leaves([item for item in data if isinstance(item, nested)])
        self.watch.check_crossings(func, ((leaf, CPU) for leaf in read if isinstance(leaf, torch.Tensor)))
        return all(isinstance(leaf, _LITERALS) for leaf in _leaves(data))


class _Operations(_python_dispatch.TorchDispatchMode):
    """Sees the operations below autograd, also those of a backward pass."""

    supports_higher_order_operators = True  # torch.cond and its like refuse to run under a mode that does not say so

    def __init__(self, watch: _Watch) -> None:
        self.watch = watch

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        # Otherwise a compiled function that was called in a block would stay uncompiled for ever after (pytorch#190286).
        return True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, watch = kwargs or {}, self.watch
        packet = getattr(func, "overloadpacket", None)  # a higher-order operator has none
        if packet is None or not watch.here():
            return func(*args, **kwargs)
        if watch.transfers and packet in CROSSINGS:
            with torch._C.DisableTorchFunction():
                watch.check_crossings(func, CROSSINGS[packet](args, kwargs))
        result = func(*args, **kwargs)
        if watch.grads and (func.is_view or packet in COPIES):
            with torch._C.DisableTorchFunction():
                self.follow(packet, args, result)
        return result

    def follow(self, packet: Any, args: Any, result: Any) -> None:
        """Remember the results of a view or a copy that have left the graph."""
        if packet in WRITES:
            found = pairs(args)
        else:
            source = next((x for x in args if isinstance(x, torch.Tensor)), None)
            found = [(output, source) for output in (result if isinstance(result, list | tuple) else (result,))]
        for output, source in found:
            if source is not None and _differentiable(output) and self.has_left_graph(packet, source):
                self.watch.detached_storages.add(output)

    def has_left_graph(self, packet: Any, x: Any) -> bool:
        """Return whether a view or a copy of `x` has its values without its graph."""
        if x.requires_grad:
            return packet is _aten.detach or not torch.is_grad_enabled()
        return x in self.watch.detached_storages


def _leaves(data: Any) -> Iterator[Any]:
    if isinstance(data, list | tuple):
        for item in data:
            yield from _leaves(item)
    else:
        yield data


def _tracked(x: Any) -> bool:
    return bool(x.requires_grad) or (_duals._current_level >= 0 and _duals.unpack_dual(x).tangent is not None)


def _differentiable(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and (x.is_floating_point() or x.is_complex())


def _name(func: Any) -> str:
    return overrides.resolve_name(func) or getattr(func, "__name__", "") or str(func)
