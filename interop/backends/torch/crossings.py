"""What torch's operations move: the tensors, and the device to which each goes.

Part of the native guard (`interop._watch.torch`); apart from it so that the table can be read on its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from interop._model.description import CPU, Device
from interop.backends.torch import kinds
from interop.dlpack import device_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_aten: Any = torch.ops.aten
_Tensor: Any = torch.Tensor


def _moved(args: Any, kwargs: Any) -> Iterator[tuple[Any, Device]]:
    for value in (*args[1:], *kwargs.values()):
        if isinstance(value, torch.device):
            yield args[0], _goal(value)
        elif isinstance(value, torch.Tensor):
            yield args[0], kinds.device_of(value)


def _moved_whole(args: Any, kwargs: Any) -> Iterator[tuple[Any, Device]]:
    # Inference mode shows what the user calls. Elsewhere this is torch itself, which finds out a shape on the meta device.
    return (pair for pair in _moved(args, kwargs) if torch.is_inference_mode_enabled() or pair[1].type != "meta")


def _goal(device: Any) -> Device:
    current = torch.cuda.current_device() if device.index is None and device.type == "cuda" and torch.cuda.is_available() else 0
    return Device(device.type, current if device.index is None else device.index)


def _copied(args: Any, _: Any) -> Iterator[tuple[Any, Device]]:
    return ((source, kinds.device_of(target)) for target, source in pairs(args) if not _is_number(source))


def _read(args: Any, _: Any) -> Iterator[tuple[Any, Device]]:
    yield args[0], CPU


def _indexed(args: Any, _: Any) -> Iterator[tuple[Any, Device]]:
    tensors = [index for index in args[1] if index is not None]
    return ((index, kinds.device_of(args[0])) for index in tensors if index.is_cpu and not _is_number(index))


def sent(func: Any, x: Any, kwargs: Any) -> Iterator[tuple[Any, Device]]:
    """Yield where a method that lets arrays out of torch sends them."""
    if func is _Tensor.tolist:
        yield x, CPU
    if kwargs.get("dl_device") is not None:
        yield x, device_of(*kwargs["dl_device"])[0]


# Under inference mode torch shows `to`, `type_as`, `item` and `bool` whole, not what they are made of.
WRITES = frozenset({_aten.copy_, _aten._foreach_copy_})
COPIES = WRITES | {_aten._to_copy, _aten.type_as, _aten.clone}
CROSSINGS: dict[Any, Callable[[Any, Any], Iterator[tuple[Any, Device]]]] = {
    **dict.fromkeys((_aten._to_copy, _aten.type_as), _moved),
    _aten.to: _moved_whole,
    **dict.fromkeys(WRITES, _copied),
    **dict.fromkeys((_aten._local_scalar_dense, _aten.item, _aten.is_nonzero), _read),
    **dict.fromkeys((_aten.index, _aten.index_put, _aten.index_put_), _indexed),
}
"""What is asked of an operation's arguments."""


def pairs(args: Any) -> list[tuple[Any, Any]]:
    """Return (target, source) of a copy into tensors that exist."""
    return list(zip(args[0], args[1], strict=True)) if isinstance(args[0], list | tuple) else [(args[0], args[1])]


def _is_number(x: Any) -> bool:
    return bool(x.is_cpu) and x.dim() == 0
