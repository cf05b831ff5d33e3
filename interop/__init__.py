"""Move arrays between NumPy, PyTorch and CuPy without copying, and never in silence.

>>> import numpy as np, interop
>>> t = interop.to_torch(np.ones((2, 2), "float32"))  # shares memory
>>> a = interop.to_numpy(t)  # shares memory
>>> interop.shares_memory(a, t)
True

`import interop` imports no array library; a backend is loaded when the first of its arrays, or its name, is met.
"""

import importlib
from typing import TYPE_CHECKING, Any

from interop._engine.transfer import Transfer
from interop._model.description import Description, Device
from interop._model.plan import Plan
from interop._model.policy import COERCE, DEFAULT, STRICT, Policy, policy
from interop._neutral.decorator import neutral
from interop._neutral.namespace import array_namespace
from interop._verbs import convert, describe, explain, shares_memory, to_cupy, to_numpy, to_torch
from interop._version import __version__
from interop._watch.ledger import Crossing, Log, guard, record
from interop.errors import (
    BackendNotInstalledError,
    CopyError,
    DeviceUnavailableError,
    DTypeError,
    GradError,
    InteropError,
    LayoutError,
    MaskError,
    MixedBackendsError,
    NoDataError,
    ReadOnlyError,
    StreamError,
    TransferError,
    UnsupportedTypeError,
)

if TYPE_CHECKING:
    from interop import tree

__all__ = [
    "COERCE",
    "DEFAULT",
    "STRICT",
    "BackendNotInstalledError",
    "CopyError",
    "Crossing",
    "DTypeError",
    "Description",
    "Device",
    "DeviceUnavailableError",
    "GradError",
    "InteropError",
    "LayoutError",
    "Log",
    "MaskError",
    "MixedBackendsError",
    "NoDataError",
    "Plan",
    "Policy",
    "ReadOnlyError",
    "StreamError",
    "Transfer",
    "TransferError",
    "UnsupportedTypeError",
    "__version__",
    "array_namespace",
    "convert",
    "describe",
    "explain",
    "guard",
    "neutral",
    "policy",
    "record",
    "shares_memory",
    "to_cupy",
    "to_numpy",
    "to_torch",
    "tree",
]


def __getattr__(name: str) -> Any:
    # On request: trees need optree, which takes half as long to import as all the rest, and gradients need torch.
    if name in ("autograd", "cuda", "tree"):
        return importlib.import_module(f"interop.{name}")
    raise AttributeError(f"module 'interop' has no attribute {name!r}")
