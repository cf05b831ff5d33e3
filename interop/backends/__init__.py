"""The backends: which there are, and which one a given array, name or namespace belongs to.

`interop._libraries.BUILTIN` is the only list. A backend's file is imported the first time it is needed: if the user holds
a tensor, torch is loaded already; if the user names a target, its library is about to be needed.

What the author of a backend needs is here too: `Backend`, `ArrayAPIBackend`, `Capabilities`, `Description`, `Device`, `Shortcut` and
`KnownIssue`, each loaded when it is asked for. The page "Your own library as a backend" (docs/backend.md) shows how.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from interop._libraries import BUILTIN
from interop._model.identity import is_found_by_identity
from interop._model.spelling import module_of, no_attribute, type_name, unknown
from interop._model.words import WORDS_OF_OTHERS
from interop.backends.units import said, wrapper_attribute
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
        raise no_attribute(__name__, name, __all__)
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


WORDS_OF_OTHERS.update((name, dict(built_in.words)) for name, built_in in BUILTIN.items())

_PACKAGES = {package: name for name, built_in in BUILTIN.items() for package in built_in.packages}

FOREIGN = "dlpack"
"""The backend of every other object that speaks DLPack; a source only."""

_WRAPPERS = "interop.backends.wrappers"

SOURCES = frozenset({"pyarrow"})
"""Libraries whose arrays can be a source only, each in its folder; for everything else they are among those of `FOREIGN`."""

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
_under_way: dict[str, Backend] = {}
_observers: list[Callable[[Backend], None]] = []
_registering = threading.RLock()
if hasattr(os, "register_at_fork"):  # a thread that holds it is not there in the child
    os.register_at_fork(after_in_child=lambda: globals().update(_registering=threading.RLock()))
_by_type: WeakKeyDictionary[type, Backend] = WeakKeyDictionary()
_no_arrays: WeakSet[type] = WeakSet()
_of_wrappers: dict[Backend, Backend] = {}
_points: dict[tuple[str, ...], Any] = {}
"""The entry points of third parties, as found on this import path: looking for them takes milliseconds."""


def backend_names() -> list[str]:
    """Return the names of all backends, those of third parties included."""
    return [*BUILTIN, *(point.name for point in _entry_points())]


def is_backend(name: str) -> bool:
    """Return whether there is a backend of this name; third parties are asked for last, because it takes long."""
    return name in BUILTIN or name in backend_names()


def when_loaded(observe: Callable[[Backend], None]) -> None:
    """Have a function called with each backend as it is loaded, and now with those that are."""
    with _registering:
        for backend in _loaded.values():
            observe(backend)
        _observers.append(observe)


def load_backend(name: str) -> Backend:
    """Return a backend, importing its library; BackendNotInstalledError if that fails, ValueError if unknown."""
    if name not in _loaded:
        # Outside of the lock: Python locks each module itself, and the thread that imports a library may need a backend meanwhile.
        _register(name, _imported(name))
    return _loaded.get(name) or _under_way[name]


def _register(name: str, backend: Backend) -> None:
    """Show a backend to the observers, in one thread; the others that load it wait for that."""
    with _registering:
        if name in _loaded or name in _under_way:  # under way: an observer asks for it
            return
        _under_way[name] = backend
        try:
            for observe in _observers:
                observe(backend)
            _loaded[name] = backend
        finally:
            del _under_way[name]


def _imported(name: str) -> Backend:
    if name not in BUILTIN and name not in SOURCES and name != FOREIGN:
        return _load_entry_point(name)
    try:
        module = importlib.import_module(f"interop.backends.{name}" if name == FOREIGN else f"interop.backends.{name}.backend")
    except BROKEN as error:
        raise _not_installed(name, error) from error
    backend: Backend = module.backend
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
    path = tuple(sys.path)
    if path not in _points:
        from importlib.metadata import entry_points  # on request: it is a third of what `import interop` would cost

        _points.clear()
        _points[path] = entry_points(group="interop.backends")
    return _points[path]


def find_backend(x: Any, tree: Callable[[], str] | None = None) -> Backend:
    """Return the backend that owns `x`, found from its type; UnsupportedTypeError if there is none.

    A type is asked for by the top-level packages of its bases, so that nothing is imported that the
    user has not imported; the backend then confirms (``torch.dtype`` is torch's too, but no array).
    `tree` returns the call that a container is for instead, with ``{}`` in the place of its expression.
    """
    kind = type(x)
    lasting = is_found_by_identity(kind)
    found = _by_type.get(kind) if lasting else None
    if found is not None:
        return found
    if not lasting or kind not in _no_arrays:
        found = _look(x, kind, lasting=lasting)
        if found is not None:
            return found
    raise _unsupported(x, kind, tree)


def is_array(x: Any) -> bool:
    """Return whether `x` is an array that some backend owns; asked once for each type."""
    kind = type(x)
    lasting = is_found_by_identity(kind)
    if lasting and kind in _by_type:
        return True
    return not (lasting and kind in _no_arrays) and _look(x, kind, lasting=lasting) is not None


def _look(x: Any, kind: type, *, lasting: bool) -> Backend | None:
    """Return the backend that owns `x`; remembered for its type, unless it is a wrapper, whose backend is that of what is inside."""
    found = _find(x, kind)
    attribute = wrapper_attribute(kind) if found is None or found.name == FOREIGN else None
    if attribute is not None:
        inside = said(x, attribute)
        return _backend_of_wrappers(find_backend(inside)) if is_array(inside) else found
    if lasting and found is None:
        _no_arrays.add(kind)
    elif lasting and found is not None:
        _by_type[kind] = found
    return found


def _backend_of_wrappers(inner: Backend) -> Backend:
    if inner not in _of_wrappers:
        _of_wrappers[inner] = importlib.import_module(_WRAPPERS).backend_of_wrappers(inner)
    return _of_wrappers[inner]


def _find(x: Any, kind: type) -> Backend | None:
    known = backend_names()
    for base in kind.__mro__:
        package = module_of(base).partition(".")[0]
        name = _PACKAGES.get(package, package)
        if (name in known or name in SOURCES) and load_backend(name).owns(x):
            return load_backend(name)
    return load_backend(FOREIGN) if hasattr(kind, "__dlpack__") and hasattr(kind, "__dlpack_device__") else None


def _unsupported(x: Any, kind: type, tree: Callable[[], str] | None) -> UnsupportedTypeError:
    advice_for = importlib.import_module("interop.backends.advice").advice_for  # on request: only refusals need it
    message = f"{type_name(x)} is not an array that interop knows, and does not speak DLPack (__dlpack__ and __dlpack_device__)."
    # A type that equals others is asked nothing: tables of abstract classes would take it for one of those.
    hint = advice_for(x, is_array, tree) if is_found_by_identity(kind) else "Pass an array."
    return UnsupportedTypeError(message, hint=hint)


def name_of_target(to: Any, keyword: str = "to") -> str:
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
        raise TypeError(f"{keyword}= is a backend's name or its namespace module, got {to!r}{_name_meant_by(to)}")
    if not is_backend(name):
        if meant := next((right for right, library in BUILTIN.items() if name in library.aliases), None):
            raise ValueError(f"{name!r} is not a backend; did you mean {meant!r}? Known: {', '.join(backend_names())}.")
        if any(name.partition(":")[0] in library.devices for library in BUILTIN.values()):
            raise ValueError(f"{name!r} is a device, and the target is a library: write device={name!r} beside it.")
        raise ValueError(unknown(name, "backend", backend_names()))
    return name


def _name_meant_by(to: Any) -> str:
    """Return what to write for a target that is neither a name nor a module: an array, or a class or a dtype of its library."""
    if is_array(to):
        return "; for an array use like=."
    package = module_of(to if isinstance(to, type) else type(to)).partition(".")[0]
    name = _PACKAGES.get(package, package)
    return f": write {name!r}." if is_backend(name) else "."
