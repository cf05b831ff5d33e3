"""A command as a process: standard output is the command's own, and every end has its exit status.

0 all well, 1 findings, 2 wrong use or a broken input or output, 130 interrupted. A reader that goes away, as in ``| head -1``, is 0: it
found nothing.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO

import click

INTERRUPTED = 130
"""What a shell reports of a process that SIGINT has ended."""


class BrokenError(click.ClickException):
    """An input that cannot be read, or an output that cannot be written: one line, and status 2."""

    exit_code = 2


def run(command: click.Command, prog_name: str) -> int:
    """Run a command on this process's arguments; return the exit status."""
    _take_output()
    try:
        return _run(command, prog_name)
    except click.exceptions.Exit as end:  # the reader went away while the rest was written
        return end.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    finally:
        # What libraries print when they are unloaded must not follow the output.
        sys.stdout = sys.stderr


def _run(command: click.Command, prog_name: str) -> int:
    # Not standalone: click ends with 1 then, the status of findings, after an interrupt and for a pipe without a reader.
    status = command.main(prog_name=prog_name, standalone_mode=False)
    if sys.stdout is not None:
        sys.stdout.flush()
    return status if type(status) is int else 0


def _take_output() -> None:
    """Keep standard output for the command; what libraries write to file descriptor 1 goes to standard error.

    For good, and not around the calls into libraries: C's own buffer of standard output is flushed when the process ends.
    """
    try:
        out, err = sys.stdout.fileno(), sys.stderr.fileno()
    except (AttributeError, io.UnsupportedOperation):  # closed, or an object of somebody who calls the command in a process of theirs
        return
    sys.stdout.flush()
    own = os.dup(out)
    os.dup2(err, out)
    sys.stdout = _text(_Output(own), sys.stdout)
    sys.stderr = _text(_Errors(err, closefd=False), sys.stderr)


def _text(raw: io.RawIOBase, like: Any) -> TextIO:
    # backslashreplace: a terminal in Latin-1 still gets the tables.
    return io.TextIOWrapper(io.BufferedWriter(raw), like.encoding, "backslashreplace", line_buffering=like.line_buffering)


class _Output(io.FileIO):
    """Where a write that fails ends the command, and only that: an OSError from elsewhere would be a fault of its own."""

    def __init__(self, descriptor: int, *, closefd: bool = True) -> None:
        super().__init__(descriptor, "w", closefd=closefd)

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            # What is still buffered has no place to go; the interpreter would try again, and end with a status of its own.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return self.failed(error, data)

    def failed(self, error: OSError, _: Any, /) -> int:
        if isinstance(error, BrokenPipeError):
            raise click.exceptions.Exit(0) from None
        raise BrokenError(f"the output cannot be written: {error.strerror}") from None


class _Errors(_Output):
    """Where a failure has no place to be reported."""

    def failed(self, _: OSError, data: Any, /) -> int:
        return memoryview(data).nbytes
