"""Functions of other libraries inside torch's graph, with gradients that are right; and torch's inside JAX's.

`wrap` is in `_wrap`, what it makes in `_wrapped`; a call is flattened in `_arguments`, crosses in `_border`, is run in `_operation`, its
rules in `_residuals` and `_rules`, and it is put into the graph by `interop.autograd._torch.functions`.
"""

from interop.autograd._context import Context
from interop.autograd._jax.to_jax import to_jax
from interop.autograd._wrap import wrap
from interop.autograd._wrapped import Wrapped

__all__ = ["Context", "Wrapped", "to_jax", "wrap"]


def __dir__() -> list[str]:
    return sorted(__all__)
