"""What a backend is: one class for each concern, of which a library needs the first.

`Arrays` is what every library has. The others have defaults: `Streams` and `Pools` are for devices, `FastPaths` for speed, `Reports` for
``interop doctor``, `Gradients` for autograd, `Testing` for `interop.testing`.
"""

from __future__ import annotations

from interop.backends.base.arrays import Arrays, PendingCopy
from interop.backends.base.issues import KnownIssue
from interop.backends.base.optional import FastPaths, Gradients, Pools, Reports, Streams, Testing
from interop.backends.shortcut import Shortcut

__all__ = ["Arrays", "Backend", "FastPaths", "Gradients", "KnownIssue", "PendingCopy", "Pools", "Reports", "Shortcut", "Streams", "Testing"]


class Backend(Arrays, Streams, Pools, FastPaths, Reports, Gradients, Testing):
    """An array library: `Arrays` has to be written, everything else has a default.

    A built-in library is a folder of `interop.backends` and a line in its `BUILTIN`; a library from outside is an entry point in the group
    ``interop.backends``. Both name an instance, as ``backend``.

    Examples
    --------
    >>> import numpy
    >>> from interop.backends import load_backend
    >>> [kind.__name__ for kind in Backend.__bases__]
    ['Arrays', 'Streams', 'Pools', 'FastPaths', 'Reports', 'Gradients', 'Testing']
    >>> load_backend("numpy").describe(numpy.ones((2, 3))).strides
    (3, 1)
    """
