"""What the suite needs to know of a library: seven things, and a few that it can take a default for."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import ExitStack

    import numpy as np

    from interop_conformance.matrix.layouts import Layout

__all__ = ["Adapter", "Idiom", "SuiteFault", "Unsupported", "installed_version", "why_missing"]


def installed_version(distribution: str) -> str:
    """Return the version of what is installed, without importing it."""
    return importlib.metadata.version(distribution)


class Unsupported(Exception):  # noqa: N818 - not an error: the library has no such thing; the message is the reason
    """The library has no such array, dtype, layout, state or route; the message is the reason."""


class SuiteFault(Exception):  # noqa: N818 - read as a sentence: the suite's own fault, not a library's
    """The suite, or an adapter, is at fault; the case is recorded as not run, and the run as one with findings."""


class NotItsOwn(Exception):  # noqa: N818 - not an error: what came is another library's; the message is the reason
    """An array or a view is of another library, as NumPy's is for many: what comes of it says nothing of this one. Not run, and no finding."""


class Idiom(NamedTuple):
    """What people write to bring one library's array into another, past DLPack's own verb.

    `permits` names what the line gives up by name (``detach()`` gives up ``grad``); `refuses` the exception classes that the
    documentation, or its source, gives for what it cannot do. `again`, if the route has it, does what a refusal proposes.
    """

    text: str
    call: Callable[[Any], Any]
    permits: frozenset[str] = frozenset()
    refuses: tuple[type[BaseException], ...] = ()
    again: Callable[[Any, Any], Any] | None = None


class Adapter(ABC):
    """One library, as the suite sees it.

    A third party subclasses this in a package of its own and fills in `name` and the seven methods; see
    ``docs/conformance-adapter.md``. Everything else has a default.

    Attributes
    ----------
    name : str
        What it is called in tables and in ``--producer``; lower case, dashes.
    distribution : str
        Whose version `version` returns, and deviations are about; several adapters may be about one library. Default: `name`.
    states : tuple of str
        The states that `put` knows, ``plain`` first. See `interop_conformance.matrix.states`.
    produces, consumes : bool
        Whether its arrays are exported, and whether it imports others' by `from_dlpack`.
    refuses : tuple of exception classes
        What its documentation gives, besides the specification's `BufferError`, for an import or export that it cannot do.
    target : str or None
        The name of the interop backend, if interop converts to this library.
    since : str
        The oldest version that the suite knows of, if there is one: `why_missing` says so of an older one.
    twin : str
        The adapter of the same library on another device, if there is one: arrays that stay on that device are its cases.
    """

    name: ClassVar[str]
    distribution: ClassVar[str] = ""
    device: ClassVar[str] = "cpu"
    states: ClassVar[tuple[str, ...]] = ("plain",)
    produces: ClassVar[bool] = True
    consumes: ClassVar[bool] = True
    refuses: ClassVar[tuple[type[BaseException], ...]] = ()
    target: ClassVar[str | None] = None
    since: ClassVar[str] = ""
    twin: ClassVar[str] = ""

    # The seven.

    @abstractmethod
    def available(self) -> str:
        """Return an empty text if the library can be used here, else the reason why not."""

    @abstractmethod
    def version(self) -> str:
        """Return the library's version."""

    @abstractmethod
    def make(self, values: np.ndarray) -> Any:
        """Return a fresh array of these values, compact and row-major, in memory that the library owns.

        Not by DLPack, nor by what the suite tests. dtypes that NumPy lacks come as those of `ml_dtypes`. Raises `Unsupported`.
        """

    @abstractmethod
    def from_dlpack(self, x: Any, /, **keywords: Any) -> Any:
        """Call the library's own ``from_dlpack``; raises `Unsupported` for a keyword that it does not know."""

    @abstractmethod
    def values(self, x: Any) -> np.ndarray:
        """Return what the array means, as a NumPy array with memory of its own; not by DLPack."""

    @abstractmethod
    def pointer(self, x: Any) -> int:
        """Return the address of the first element, in bytes; 0 for none."""

    @abstractmethod
    def writeable(self, x: Any) -> bool:
        """Return whether the array can be written through, or exported as writeable."""

    # What may stay as it is.

    def lay(self, x: Any, layout: Layout) -> Any:
        """Return a view of a compact array in a layout; by indexing, if the library does not say otherwise."""
        return layout.view(x)

    def put(self, x: Any, state: str, stack: ExitStack) -> Any:  # noqa: ARG002 - for subclasses
        """Return the array in a state; what it means must stay the same. Contexts that have to stay open go on the stack."""
        if state == "plain":
            return x
        raise Unsupported(f"{self.name} has no state {state!r}")

    def pending(self, state: str) -> bool:  # noqa: ARG002 - for subclasses
        """Return whether an array in this state is still being written: to look at it before the handoff would be to wait for that."""
        return False

    def keeps(self, x: Any) -> frozenset[str]:  # noqa: ARG002 - for subclasses
        """Return what the array carries besides its values: ``grad``, ``mask``."""
        return frozenset()

    def looks(self, x: Any) -> Mapping[str, Any]:  # noqa: ARG002 - for subclasses
        """Return what must be the same before and after a handoff, besides values, pointer and writeable."""
        return {}

    def idiom(self, producer: str) -> Idiom:
        """Return what people write to bring that library's array here."""
        raise Unsupported(f"people bring {producer} to {self.name} by from_dlpack, which is the dlpack route")

    def flip(self, pointer: int) -> None:
        """Flip the lowest bit of the byte at an address, to see who else sees it."""
        ctypes.c_uint8.from_address(pointer).value ^= 1

    def synchronize(self) -> None:  # noqa: B027 - most have nothing to wait for
        """Wait, after a case, for what it left running, and end the process if later cases would suffer from what it did."""

    def hardware(self) -> str | None:
        """Return what the library computes on, besides the processor; None for nothing."""
        return None

    def prepare(self) -> None:  # noqa: B027 - nothing to do is an answer
        """Import the library, without starting threads: the process will fork after it."""

    def warm_up(self) -> None:  # noqa: B027 - nothing to do is an answer
        """Have the library import what it imports on first use, once before many cases; without starting threads either."""


def why_missing(adapter: Adapter, module: str) -> str:
    """Return why a library cannot be used: it is not installed, or older than `Adapter.since`; else an empty text. Does not import it."""
    distribution = adapter.distribution or adapter.name
    if not importlib.util.find_spec(module):
        return f"{distribution} is not installed"
    if adapter.since and Version(found := adapter.version()).release < Version(adapter.since).release:
        return f"{distribution} {found} is older than {adapter.since}; pip install '{distribution}>={adapter.since}'"
    return ""
