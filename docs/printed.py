"""What the pages say is printed, from a run: their Python is executed, and what it prints is written below it.

Three forms. On the pages of `PRINTED`, a ``text`` block shows what the ``python`` block before it prints. On every page, a ``text``
block of ``>>> `` lines shows what each of them raises or returns, and a ``console`` block of ``$ interop explain`` lines what that prints.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import warnings
from typing import Any

__all__ = ["PRINTED", "render"]

PRINTED = ("docs/autograd.md", "docs/errors.md", "docs/neutral.md")

_BLOCK = re.compile(r"(```(python|text|console)\n)(.*?)(```)", re.DOTALL)
_COMMAND = "$ interop explain "


def render(text: str, page: str) -> str:
    """Return a page with what is printed written anew."""
    names: dict[str, Any] = {}
    out = io.StringIO()
    transcripts = ">>> " in text

    def block(found: re.Match[str]) -> str:
        language, shown = found[2], found[3]
        if language == "python" and (page in PRINTED or transcripts):
            out.seek(0)
            out.truncate()
            exec(compile(shown, page, "exec"), names)  # noqa: S102 - the page's own code
        elif language == "text" and shown.startswith(">>> "):
            shown = "".join(_answered(line, names) for line in shown.splitlines() if line.startswith(">>> "))
        elif language == "text" and page in PRINTED:
            shown = out.getvalue()
        elif language == "console" and shown.startswith(_COMMAND):
            shown = "".join(_explained(line) for line in shown.splitlines() if line.startswith(_COMMAND))
        return f"{found[1]}{shown}{found[4]}"

    with contextlib.redirect_stdout(out), warnings.catch_warnings():
        # torch's own, on the first dual tensor of a process
        warnings.filterwarnings("ignore", ".torch.jit.script")
        return _BLOCK.sub(block, text)


def _answered(line: str, names: dict[str, Any]) -> str:
    """Return a line and what it raises or returns, as Python's prompt shows it, without the traceback."""
    try:
        answer = repr(eval(line.removeprefix(">>> "), names))  # noqa: S307 - the page's own code
    except NameError:
        raise  # the page's own mistake, and no answer of interop's
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    return f"{line}\n{answer}\n"


def _explained(line: str) -> str:
    """Return a line and what the command prints."""
    from click.testing import CliRunner

    from interop.cli import cli

    return f"{line}\n{CliRunner().invoke(cli, shlex.split(line)[2:], prog_name='interop').output}"
