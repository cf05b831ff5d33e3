"""Runs something that may crash or hang in a process of its own."""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import time
import warnings
from typing import TYPE_CHECKING

from interop_conformance.results.outcomes import Observed

if TYPE_CHECKING:
    from collections.abc import Callable


def alone(run: Callable[[], Observed], limit: float = 30.0) -> Observed:
    """Run it in a forked child; return what it observed, a crash or a timeout."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # JAX, if an earlier test imported it, warns of forks; nothing of it is used in the child.
        warnings.simplefilter("ignore", RuntimeWarning)
        pid = os.fork()
    if pid == 0:
        faulthandler.disable()  # a crash is what is looked for
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 2)
        try:
            os.write(writing, json.dumps(run()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    answer, deadline = b"", time.monotonic() + limit
    while select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(reading, 1 << 16)
        if not part:
            break
        answer += part
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        hung = os.WTERMSIG(status) == signal.SIGKILL
        return Observed("timeout" if hung else "crash", f"signal {os.WTERMSIG(status)}")
    return Observed(*json.loads(answer))
