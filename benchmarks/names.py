"""What the names in the statements stand for: made when a case needs them, dropped after it.

So a peer that is not installed costs only its own rows, the large arrays live only while they are measured, and
a library that starts threads at its import (jax) does it after the cases that do without it.
"""

from __future__ import annotations

import dataclasses
import importlib
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["HOST", "library", "ndarray", "resolve", "tensor", "verb"]

SIDE, LARGE_SIDE = 8, 16384
"""Sides of the small and of the 1 GiB float32 matrix."""
LEAVES = 10_000
"""Arrays in the tree."""


def library(name: str) -> Callable[[], Any]:
    """Return a function that imports a module."""
    return lambda: importlib.import_module(name)


def verb(name: str) -> Callable[[], Any]:
    """Return a function that finds a public name of interop."""
    return lambda: getattr(importlib.import_module("interop"), name)


def _torch() -> Any:
    import torch

    torch.set_num_threads(1)
    return torch


def ndarray(side: int) -> Any:
    """Return a float32 matrix of zeros; no page of it is touched, so that the 1 GiB one costs address space only."""
    import numpy as np

    return np.zeros((side, side), "float32")


def tensor(side: int, dtype: str = "float32") -> Any:
    """Return a matrix, as untouched if it is large. A small one has numbers in it: adding what memory holds may overflow."""
    torch = _torch()
    make = torch.empty if side == LARGE_SIDE else torch.zeros
    return make(side, side, dtype=getattr(torch, dtype))


def _model() -> dict[str, dict[str, Any]]:
    return {f"layer{n:03}": {f"parameter{m}": tensor(SIDE) for m in range(10)} for n in range(LEAVES // 10)}


def _records() -> list[Any]:
    record = dataclasses.make_dataclass("Record", [f"field{m}" for m in range(10)])
    return [record(*(tensor(SIDE) for _ in range(10))) for _ in range(LEAVES // 10)]


def _singles() -> dict[str, list[Any]]:
    record = dataclasses.make_dataclass("Record", ["field"])
    return {"records": [record(tensor(SIDE)) for _ in range(LEAVES // 2)], "dicts": [{"key": tensor(SIDE)} for _ in range(LEAVES // 2)]}


def _same() -> Callable[[Any], Any]:
    from interop import neutral

    @neutral
    def same(x: Any, xp: Any = None) -> Any:  # noqa: ARG001 - given and not needed: only the finding is measured
        return x

    return same


def _plus() -> Callable[[Any], Any]:
    from interop import neutral

    return neutral(runs_on="numpy")(lambda x: x + 0)


def _by_hand() -> Any:
    """Return NumPy's sine as a function of torch's, written as torch's documentation recommends."""
    import numpy as np

    torch = _torch()

    class Sine(torch.autograd.Function):
        @staticmethod
        def forward(x: Any) -> Any:
            return torch.from_numpy(np.sin(x.detach().numpy()))

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG004 - torch's signature
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            (x,) = ctx.saved_tensors
            return torch.from_numpy(grad.numpy() * np.cos(x.detach().numpy()))

    return Sine


def _by_hand_with_ctx() -> Any:
    """Return the same in the older form, which `torch.func` refuses."""
    import numpy as np

    torch = _torch()

    class Sine(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return torch.from_numpy(np.sin(x.detach().numpy()))

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            (x,) = ctx.saved_tensors
            return torch.from_numpy(grad.numpy() * np.cos(x.detach().numpy()))

    return Sine


def _wrapped() -> Any:
    import numpy as np

    from interop.autograd import wrap

    return wrap(np.sin, lambda ctx, grad: grad * np.cos(ctx.saved_tensors[0]), runs_on="numpy")


VERBS = ("convert", "describe", "explain", "policy", "to_cupy", "to_jax", "to_numpy", "to_torch")

HOST: dict[str, Callable[[], Any]] = {
    **{name: verb(name) for name in VERBS},
    "np": library("numpy"),
    "ml_dtypes": library("ml_dtypes"),
    "tvm_ffi": library("tvm_ffi"),
    "jnp": library("jax.numpy"),
    "torch": _torch,
    "a": partial(ndarray, SIDE),
    "large_a": partial(ndarray, LARGE_SIDE),
    "t": partial(tensor, SIDE),
    "large_t": partial(tensor, LARGE_SIDE),
    "p": lambda: _torch().nn.Parameter(tensor(SIDE)),
    "b": partial(tensor, SIDE, "bfloat16"),
    "array_namespace": lambda: importlib.import_module("array_api_compat").array_namespace,
    "tree": library("interop.tree"),
    "model": _model,
    "records": _records,
    "singles": _singles,
    "leaves": lambda: [tensor(SIDE) for _ in range(LEAVES)],
    "gradient": lambda: _torch().autograd.grad,
    "ones": lambda: _torch().ones(SIDE, SIDE),
    "wrapped": _wrapped,
    "by_hand": lambda: _by_hand().apply,
    "with_ctx": lambda: _by_hand_with_ctx().apply,
    "same": _same,
    "plus": _plus,
    "j": lambda: importlib.import_module("jax.numpy").zeros((SIDE, SIDE), "float32"),
}
"""Arrays on the host: NumPy `a`, torch `t`, parameter `p`, bfloat16 `b`, jax `j`; trees `model`, `records` and `singles`, and
as many tensors in a list, `leaves`; sines of NumPy in torch's graph, `wrapped`, `by_hand` and `with_ctx` (its older form); neutral functions: `same` returns its argument, `plus` is written for NumPy."""


def resolve(names: Iterable[str], makers: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Return a namespace with these names; raises ModuleNotFoundError for a library that is not installed."""
    return {name: makers[name]() for name in names}
