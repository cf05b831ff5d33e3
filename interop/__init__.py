"""Move arrays between NumPy, PyTorch and CuPy without copying, and never in silence.

>>> import numpy as np, interop
>>> t = interop.to_torch(np.ones((2, 2), "float32"))  # shares memory
>>> a = interop.to_numpy(t)  # shares memory
>>> interop.shares_memory(a, t)
True

`import interop` imports no array library; a backend is loaded when the first of its arrays, or its name, is met.
"""

from interop._version import __version__
from interop.convert import convert, describe, explain, shares_memory, to_cupy, to_numpy, to_torch
from interop.description import Description, Device
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
from interop.plan import Plan
from interop.policy import COERCE, DEFAULT, STRICT, Policy, policy

__all__ = [
    "COERCE",
    "DEFAULT",
    "STRICT",
    "BackendNotInstalledError",
    "CopyError",
    "DTypeError",
    "Description",
    "Device",
    "DeviceUnavailableError",
    "GradError",
    "InteropError",
    "LayoutError",
    "MaskError",
    "MixedBackendsError",
    "NoDataError",
    "Plan",
    "Policy",
    "ReadOnlyError",
    "StreamError",
    "TransferError",
    "UnsupportedTypeError",
    "__version__",
    "convert",
    "describe",
    "explain",
    "policy",
    "shares_memory",
    "to_cupy",
    "to_numpy",
    "to_torch",
]
