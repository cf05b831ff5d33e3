"""Functions of other libraries inside torch's graph, with `interop.autograd.wrap`, each trained through to a measured result.

Each file wraps one function that torch does not have, with its gradient, and holds a training that could not be done
without it: an optimizer of torch's changes what goes into the function, until what comes out agrees with data. The result
is measured against what is known of the parameters from elsewhere. `python -m examples.autograd` runs them all.
"""

from typing import Any

__all__ = ["Tensor"]

# Of torch. Inside of a wrapped function and its rules it is an array of the function's own library.
Tensor = Any
