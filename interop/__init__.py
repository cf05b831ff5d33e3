"""Move arrays between NumPy, PyTorch, CuPy and JAX without copying, and never silently.

>>> import numpy as np, interop
>>> t = interop.to_torch(np.ones((2, 2), "float32"))  # shares memory
>>> a = interop.to_numpy(t)  # shares memory
>>> interop.shares_memory(a, t)
True

`import interop` imports no array library; a backend is loaded when the first of its arrays, or its name, is met. The public modules
are loaded when they are asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from interop._engine.transfer import Transfer
from interop._model.description import Description, Device
from interop._model.plan import Plan
from interop._model.policy import COERCE, DEFAULT, STRICT, Policy, policy
from interop._model.spelling import no_attribute
from interop._neutral.decorator import neutral
from interop._neutral.namespace import array_namespace
from interop._verbs import convert, describe, explain, shares_memory, to_cupy, to_jax, to_numpy, to_torch
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
    ProducerError,
    ReadOnlyError,
    StreamError,
    TransferError,
    UnitsError,
    UnsupportedTypeError,
)

if TYPE_CHECKING:
    from interop import autograd as autograd
    from interop import backends as backends
    from interop import cuda as cuda
    from interop import dlpack as dlpack
    from interop import doctor as doctor
    from interop import errors as errors
    from interop import notation as notation
    from interop import testing as testing
    from interop import tree as tree

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
    "ProducerError",
    "ReadOnlyError",
    "StreamError",
    "Transfer",
    "TransferError",
    "UnitsError",
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
    "to_jax",
    "to_numpy",
    "to_torch",
    "tree",
]


_MODULES = ("autograd", "backends", "cuda", "dlpack", "doctor", "errors", "notation", "testing", "tree")

_ELSEWHERE = {
    **dict.fromkeys(
        ("array", "as_array", "asarray", "from_dlpack", "to", "to_device"), "interop.convert(x, 'torch'), or like=y for y's library"
    ),
    **dict.fromkeys(("as_tensor", "from_numpy", "tensor", "to_pytorch", "to_tensor"), "interop.convert(x, 'torch') or interop.to_torch(x)"),
    **dict.fromkeys(("asnumpy", "from_torch", "numpy"), "interop.convert(x, 'numpy') or interop.to_numpy(x)"),
    **dict.fromkeys(("from_cupy", "from_jax"), "interop.convert(x, 'numpy') or interop.to_torch(x): the target is named, not the source"),
}
"""What other libraries call it, and what to write here."""


for _class in (Crossing, Description, Device, Log, Plan, Policy, Transfer):
    _class.__module__ = __name__  # as NumPy does it: pickles, help and tracebacks name the place that users know


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})


if not TYPE_CHECKING:  # a type checker has the list above, and finds what is not on it

    def __getattr__(name: str) -> Any:
        # On request: trees need optree, which takes half as long to import as all the rest, and gradients need torch.
        if name in _MODULES:
            return importlib.import_module(f"interop.{name}")
        if name in _ELSEWHERE:
            raise AttributeError(f"interop has no {name}: write {_ELSEWHERE[name]}.")
        raise no_attribute(__name__, name, __dir__())
