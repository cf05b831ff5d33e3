"""The rows that tests run on: a library, one of its devices, and a state that its arrays can be in.

Everything comes from the backends (`devices`, `states`), so that a third party's library joins without a line here.
To list the rows is to import their libraries: it is done when a test asks for them, not before.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from interop._model.description import Device
from interop._model.spelling import nearest, unknown
from interop.backends import BROKEN, BUILTIN, backend_names, load_backend
from interop.errors import BackendNotInstalledError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from interop.backends.base import Backend

__all__ = ["Row", "Survey", "backends_of", "check_backend", "check_name", "choose", "kind_of", "list_rows", "split", "survey"]

PLAIN = "plain"
"""The word for arrays that were put in no state."""


@dataclass(frozen=True, slots=True)
class Row:
    """A library, a device of it as the backend's `devices` name it, and a state (empty for none).

    Examples
    --------
    >>> Row("torch").id, Row("torch", "cuda:0", "grad").id, Row("numpy", state="readonly").id
    ('torch', 'torch:cuda:0:grad', 'numpy:readonly')
    """

    backend: str
    device: str = "cpu"
    state: str = ""

    @property
    def id(self) -> str:
        """What the test is called: the parts with colons between them, without ``cpu`` and without an empty state."""
        return ":".join([self.backend, *([] if self.device == "cpu" else [self.device]), *([self.state] if self.state else [])])

    @property
    def words(self) -> frozenset[str]:
        """What may follow the backend in a name that means this row: its device with and without the number, its state."""
        return frozenset({self.device, kind_of(self.device), self.state or PLAIN})

    def matches(self, name: str) -> bool:
        """Return whether a name means this row: the backend, and any of its words.

        >>> row = Row("torch", "cuda:0", "grad")
        >>> [row.matches(name) for name in ("torch", "torch:grad", "torch:cuda", "torch:cuda:0:grad", "torch:cpu", "torch:plain")]
        [True, True, True, True, False, False]
        """
        backend, *words = split(name)
        return backend == self.backend and self.words.issuperset(words)

    def on(self, device: str) -> bool:
        """Return whether the row is on a device, named with or without its number."""
        return device in (self.device, kind_of(self.device))


def split(name: str) -> list[str]:
    """Return the words of a name; a number belongs to the device before it."""
    return re.split(r":(?!\d)", name)


def kind_of(device: str) -> str:
    """Return a device's name without its number."""
    return device.partition(":")[0]


class Survey(NamedTuple):
    """The rows that were found, and why a backend has none, in words, by its name."""

    rows: list[Row]
    missing: dict[str, str]


def survey(names: Iterable[str] | None = None) -> Survey:
    """Load backends (all, unless named) and return their rows; for the same machine always in the same order."""
    rows: list[Row] = []
    missing: dict[str, str] = {}
    for name in dict.fromkeys(backend_names() if names is None else names):
        try:
            found = _rows_of(name)
        except BackendNotInstalledError as error:
            missing[name] = f"{error.message.rstrip('.')} ({error.hint.rstrip('.')})"
        except BROKEN as error:  # an entry point is loaded as it is, and its library may be half installed
            missing[name] = f"{name} cannot be loaded: {type(error).__name__}: {error}"
        else:
            rows += found
            if not found:
                missing[name] = _why_nowhere(load_backend(name))
    return Survey(rows, missing)


def _rows_of(name: str) -> list[Row]:
    # What a library warns about when it is imported and looks for devices is not the test's doing, and must not fail a run
    # with filterwarnings=error.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        backend = load_backend(name)
        return [Row(name, device, state) for device in backend.devices() for state in ("", *backend.states())]


def _why_nowhere(backend: Backend) -> str:
    why = backend.why_unavailable(Device(backend.capabilities.default_device))
    return f"{backend.name} has no device that can be used here" + (f": {why}" if why else "")


def list_rows(backends: Sequence[str] | None = None, devices: Sequence[str] | None = None) -> list[Row]:
    """Return the rows of this machine, or those that are asked for.

    Parameters
    ----------
    backends : sequence of str, optional
        Names of backends or rows. A name means every row that has all its words: ``"torch"`` all of torch's, ``"torch:grad"``
        those with gradients on any device, ``"torch:cuda"`` those on any CUDA device, ``"numpy:plain"`` the one in no state.
        Only their libraries are imported.
    devices : sequence of str, optional
        Devices, as in ``"cuda"`` (any of them) or ``"cuda:1"``.

    Raises
    ------
    ValueError
        If something that is asked for is not there; the text lists what is.

    Examples
    --------
    >>> [row.id for row in list_rows(["numpy"])]
    ['numpy', 'numpy:readonly']
    >>> list_rows(["numpy:gpu"])
    Traceback (most recent call last):
    ...
    ValueError: 'numpy:gpu' is no row here. There are: numpy, numpy:readonly.
    """
    return choose(survey(backends_of(backends)), backends, devices)


def backends_of(names: Sequence[str] | None) -> list[str] | None:
    """Return the backends that names begin with, in the order of all backends; None for None."""
    if names is None:
        return None
    for name in names:
        check_backend(name)
    wanted = {split(name)[0] for name in names}
    return [name for name in backend_names() if name in wanted]


def choose(found: Survey, backends: Sequence[str] | None, devices: Sequence[str] | None) -> list[Row]:
    """Return those of the rows that are asked for; ValueError if a name that was given stands for none of them."""
    named = [row for row in found.rows if backends is None or any(row.matches(name) for name in backends)]
    for name in backends or ():
        if not any(row.matches(name) for row in named):
            why = found.missing.get(split(name)[0])
            raise ValueError(f"{name!r} is not here: {why}." if why else f"{name!r} is no row here. {_there_are(found.rows)}")
    rows = [row for row in named if devices is None or any(row.on(device) for device in devices)]
    for device in devices or ():
        if not any(row.on(device) for row in rows):
            raise ValueError(f"no row is on {device!r}. {_there_are(named)}")
    for name in backends or ():
        if not any(row.matches(name) for row in rows):
            raise ValueError(f"{name!r} has no row on {', '.join(devices or ())}. {_there_are(named)}")
    return rows


def _there_are(rows: list[Row]) -> str:
    return f"There are: {', '.join(row.id for row in rows) or 'none'}."


def check_backend(name: str) -> None:
    """Raise ValueError if a name does not begin with a backend's, or its library is not installed; imports nothing."""
    backend = _backend_in(name)
    if backend in BUILTIN and not _is_installed(backend):
        there = [one for one in backend_names() if one not in BUILTIN or _is_installed(one)]
        raise ValueError(f"{backend} is not installed ({BUILTIN[backend].install}). Installed: {', '.join(there)}.")


def check_name(name: str, loaded: Iterable[str]) -> None:
    """Raise ValueError if no machine can have a row of this name; of a backend that is not loaded only its own name is known."""
    backend = _backend_in(name)
    if backend not in loaded:
        return
    knows = load_backend(backend)
    known = {PLAIN, *knows.states(), *knows.capabilities.devices, *knows.devices()}
    for word in split(name)[1:]:
        if word not in known and kind_of(word) not in known:
            raise ValueError(f"{name!r} names no row: {word!r} is not a state or a device of {backend}{nearest(word, known)}")


def _backend_in(name: str) -> str:
    backend, known = split(name)[0], backend_names()
    if backend not in known:
        raise ValueError(unknown(backend, "backend", known))
    return backend


def _is_installed(package: str) -> bool:
    with contextlib.suppress(ValueError):  # a module without a spec was put together by hand, and is there
        return importlib.util.find_spec(package) is not None
    return True
