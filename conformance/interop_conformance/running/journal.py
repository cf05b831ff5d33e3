"""A file of JSON lines, each written at once: what is in it after a crash, a kill or a power cut is what happened before.

The results are made from it, so a run that was stopped at any moment has results, and can go on where it was.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Journal", "write_whole"]


def write_whole(path: Path, data: bytes) -> None:
    """Write a file in one step: a reader finds the old one or the new one, never a part, whenever the process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():  # a device or a pipe takes the bytes, and must not be replaced by a file
        path.write_bytes(data)
        return
    path = path.resolve()  # a link stays one
    beside = path.with_name(f".{path.name}.{os.getpid()}")  # the same folder, since a rename across file systems is a copy
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except BaseException:  # a full disk, or an interrupt: no half file stays
        beside.unlink(missing_ok=True)
        raise


class Journal:
    """Events in the order in which they were written; several processes may write, one after the other.

    Parameters
    ----------
    path : Path
        The file; made with the first event, its folder too.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> journal = Journal(pathlib.Path(tempfile.mkdtemp()) / "events.jsonl")
    >>> journal.write(event="started", item="a")
    >>> journal.events()
    [{'event': 'started', 'item': 'a'}]
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, **event: Any) -> None:
        """Append one event, and close the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - 1))
            # The writer before may have been killed in the middle of a line.
            start = b"" if file.read(1) in (b"", b"\n") else b"\n"
            file.write(start + json.dumps(event).encode() + b"\n")

    def events(self) -> list[dict[str, Any]]:
        """Return what was written, without lines that were not finished."""
        found = []
        for line in self.path.read_bytes().splitlines() if self.path.exists() else ():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found
