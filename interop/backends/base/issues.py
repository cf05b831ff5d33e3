"""What is known to be broken in which versions of a library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KnownIssue"]


@dataclass(frozen=True, slots=True)
class KnownIssue:
    """Something that is broken in a range of versions, for ``interop doctor``.

    Attributes
    ----------
    id : str
        Names it for good, as in ``"numpy-no-bfloat16"``.
    requires : mapping of str to str
        For each distribution the versions (PEP 440) in which it happens; all of them have to be installed.
    happens, advice : str
        What happens, and what to do about it; a sentence each.
    link : str
        Where it is reported.
    """

    id: str
    requires: Mapping[str, str]
    happens: str
    advice: str
    link: str
