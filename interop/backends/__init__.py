"""The backends: which there are, and which one a given array, name or namespace belongs to.

`interop._libraries.BUILTIN` is the only list. A backend's file is imported the first time it is needed: if the user holds
a tensor, torch is loaded already; if the user names a target, its library is about to be needed.

What the author of a backend needs is here too: `Backend`, `ArrayAPIBackend`, `Capabilities`, `Description`, `Device`, `Shortcut` and
`KnownIssue`, each loaded when it is asked for. The page "Your own library as a backend" (docs/backend.md) shows how.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from interop._libraries import BUILTIN
from interop._model.spelling import unknown
from interop.errors import BackendNotInstalledError, UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from interop._model.capabilities import Capabilities
    from interop._model.description import Description, Device
    from interop.backends.array_api import ArrayAPIBackend
    from interop.backends.base import Backend, KnownIssue
    from interop.backends.shortcut import Shortcut

__all__ = [
    "BUILTIN",
    "FOREIGN",
    "ArrayAPIBackend",
    "Backend",
    "Capabilities",
    "Description",
    "Device",
    "KnownIssue",
    "Shortcut",
    "backend_names",
    "find_backend",
    "is_array",
    "is_backend",
    "library_part",
    "load_backend",
    "name_of_target",
    "when_loaded",
]


# For authors of backends, by the module in which each is: none of them is needed to find an array's backend.
_PUBLIC = {
    "ArrayAPIBackend": "interop.backends.array_api",
    "Backend": "interop.backends.base",
    "Capabilities": "interop._model.capabilities",
    "Description": "interop._model.description",
    "Device": "interop._model.description",
    "KnownIssue": "interop.backends.base",
    "Shortcut": "interop.backends.shortcut",
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


_PACKAGES = {package: name for name, built_in in BUILTIN.items() for package in built_in.packages}

FOREIGN = "dlpack"
"""The backend of every other object that speaks DLPack; a source only."""

# Broad, because half an installation raises anything: ImportError (a missing symbol), OSError (a missing .so),
# RuntimeError (CUDA), AttributeError, NameError, LookupError and SyntaxError (mixed files), ValueError ("dtype
# size changed"), AssertionError ("not compiled with CUDA"), TypeError and BufferError (the probes). Named, and not
# Exception, so that a bug of ours (a ZeroDivisionError, say) is not reported as a broken installation.
BROKEN = (
    ImportError,
    OSError,
    RuntimeError,
    AttributeError,
    NameError,
    LookupError,
    SyntaxError,
    ValueError,
    AssertionError,
    TypeError,
    BufferError,
)
"""What the import of a library raises that is missing, half installed, or built for another NumPy: anything but a bug of ours."""

_loaded: dict[str, Backend] = {}
_observers: list[Callable[[Backend], None]] = []
_by_type: WeakKeyDictionary[type, Backend] = WeakKeyDictionary()
_no_arrays: WeakSet[type] = WeakSet()


def backend_names() -> list[str]:
    """Return the names of all backends, those of third parties included."""
    return [*BUILTIN, *(point.name for point in _entry_points())]


def is_backend(name: str) -> bool:
    """Return whether there is a backend of this name; third parties are asked for last, because it takes long."""
    return name in BUILTIN or name in backend_names()


def when_loaded(observe: Callable[[Backend], None]) -> None:
    """Have a function called with each backend as it is loaded, and now with those that are."""
    for backend in _loaded.values():
        observe(backend)
    _observers.append(observe)


def load_backend(name: str) -> Backend:
    """Return a backend, importing its library; BackendNotInstalledError if that fails, ValueError if unknown."""
    if name not in _loaded:
        _loaded[name] = _load(name)
    return _loaded[name]


def _load(name: str) -> Backend:
    if name in BUILTIN or name == FOREIGN:
        try:
            module = importlib.import_module(f"interop.backends.{name}" if name == FOREIGN else f"interop.backends.{name}.backend")
        except BROKEN as error:
            raise _not_installed(name, error) from error
        backend: Backend = module.backend
    else:
        backend = _load_entry_point(name)
    for observe in _observers:
        observe(backend)
    return backend


def library_part(pattern: str, name: str) -> Any | None:
    """Return the module that another package of interop has for a built-in library; None if it has none.

    `pattern` is its name with the library's left open, as in ``"interop._watch.{}"``. A backend imports nothing that stands on it.
    """
    module = pattern.format(name)
    return importlib.import_module(module) if name in BUILTIN and _is_there(module) else None


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even its package
        return False


def _not_installed(name: str, error: Exception) -> BackendNotInstalledError:
    missing = isinstance(error, ModuleNotFoundError) and error.name == name
    why = f"{name} is not installed" if missing else f"{name} is installed but cannot be imported: {error}"
    hint = BUILTIN[name].install if missing and name in BUILTIN else "Run `interop doctor`: it looks for mixed and broken installations."
    return BackendNotInstalledError(f"{why}.", hint=hint)


def _load_entry_point(name: str) -> Backend:
    for point in _entry_points():
        if point.name == name:
            loaded: Backend = point.load()
            return loaded
    raise ValueError(unknown(name, "backend", backend_names()))


def _entry_points() -> Any:
    from importlib.metadata import entry_points  # on request: it is a third of what `import interop` would cost

    return entry_points(group="interop.backends")


def find_backend(x: Any) -> Backend:
    """Return the backend that owns `x`, found from its type; UnsupportedTypeError if there is none.

    A type is asked for by the top-level packages of its bases, so that nothing is imported that the
    user has not imported; the backend then confirms (``torch.dtype`` is torch's too, but no array).
    """
    kind = type(x)
    found = _by_type.get(kind)
    if found is None:
        found = _by_type[kind] = _find(x, kind)
    return found


def is_array(x: Any) -> bool:
    """Return whether `x` is an array that some backend owns; asked once for each type."""
    kind = type(x)
    if kind in _by_type:
        return True
    if kind in _no_arrays:
        return False
    try:
        find_backend(x)
    except UnsupportedTypeError:
        _no_arrays.add(kind)
        return False
    return True


def _find(x: Any, kind: type) -> Backend:
    known = backend_names()
    for base in kind.__mro__:
        package = str(base.__module__).partition(".")[0]
        name = _PACKAGES.get(package, package)
        if name in known and load_backend(name).owns(x):
            return load_backend(name)
    if hasattr(kind, "__dlpack__") and hasattr(kind, "__dlpack_device__"):
        return load_backend(FOREIGN)
    raise _unsupported(x, kind)


def _unsupported(x: Any, kind: type) -> UnsupportedTypeError:
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    if isinstance(x, type | ModuleType):
        hint = "Pass an array, not a class or a module."
    elif owned := next((method for method in ("to_numpy", "toarray") if hasattr(kind, method)), None):
        hint = f"Call its own {owned}() first, and convert the result."
    elif isinstance(x, str | bytes) or x is None or callable(x):
        hint = "Pass an array (a file has to be read first)." if isinstance(x, str) else "Pass an array."
    elif isinstance(x, dict):
        hint = "Convert its values one by one."
    else:
        hint = "Make an array of it first, and name the dtype: numpy.asarray(x, dtype='float32')."
    message = f"{name} is not an array that interop knows, and does not speak DLPack (__dlpack__ and __dlpack_device__)."
    return UnsupportedTypeError(message, hint=hint)


def name_of_target(to: Any) -> str:
    """Return the backend's name for a name or a namespace module, array-api-compat's wrappers included.

    >>> import numpy, array_api_compat.numpy
    >>> name_of_target("torch"), name_of_target(numpy), name_of_target(array_api_compat.numpy)
    ('torch', 'numpy', 'numpy')
    """
    if isinstance(to, str):
        name = to
    elif isinstance(to, ModuleType):
        # array_api_compat.torch, also where a library vendors it: sklearn.externals.array_api_compat.torch
        name = to.__name__.rpartition("array_api_compat.")[2].partition(".")[0]
    else:
        raise TypeError(f"to= is a backend's name or its namespace module, got {to!r}; for an array use like=.")
    if not is_backend(name):
        raise ValueError(unknown(name, "backend", backend_names()))
    return name
