"""The documentation says what is so: its tables are generated, and its code runs."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from docs.generate import PAGES, PARTS, ROOT, main, render
from docs.printed import PRINTED
from docs.printed import render as printed
from interop.errors import ERRORS

ALL = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def test_the_generated_parts_are_up_to_date():
    assert main(["--check"]) == 0


def test_a_stale_part_is_seen():
    """The negative control."""
    stale = "<!-- generated: permissions -->\nold\n<!-- end -->"
    assert render(stale) != stale
    assert set(re.findall(r"generated: (\w+)", "".join((ROOT / page).read_text() for page in PAGES))) == set(PARTS)


# The code of the other pages is run where what it prints is written (`docs.printed`).
@pytest.mark.parametrize("page", sorted(set(ALL) - {ROOT / page for page in PRINTED}), ids=lambda page: page.name)
def test_code_blocks_run(page, capsys):
    namespace = {}
    for language, code in BLOCK.findall(page.read_text()):
        if language == "python":
            exec(compile(code, page.name, "exec"), namespace)


def test_what_is_printed_is_written_below_the_code():
    page = "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n"
    assert printed(page, PRINTED[0]) == page.replace("3", "2")
    assert printed(page, "docs/cuda.md") == page  # where a text block may be something else


def test_a_transcript_shows_what_is_raised_and_what_is_returned():
    page = "```python\nhalf = 0.5\n```\n\n```text\n>>> half + half\n2.0\n>>> int(half, 2)\n```\n"
    made = ">>> half + half\n1.0\n>>> int(half, 2)\nTypeError: int() can't convert non-string with explicit base\n"
    assert made in printed(page, "docs/cuda.md")


def test_a_console_block_shows_what_the_command_prints():
    page = "```console\n$ interop explain 'numpy:float32[2]' torch\nnothing\n```\n"
    assert "1. share: torch takes the same bytes on cpu\n```" in printed(page, "docs/cuda.md")


def test_every_error_on_the_pages_is_from_a_run():
    """What is shown of an error stands in a block that `docs.printed` writes."""
    for page in ALL:
        for language, code in BLOCK.findall(page.read_text()):
            if "\nHint: " in code or "  Hint: " in code:
                assert str(page.relative_to(ROOT)) in PRINTED or code.startswith((">>> ", "$ interop explain ")), (page, language)


def test_every_code_has_its_heading():
    headings = re.findall(r"^## (.+)$", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    assert headings == [code for code in ERRORS if code != "interop"]


def test_the_readmes_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    for line in re.findall(r"^make .*$", (ROOT / "README.md").read_text(), re.MULTILINE):
        target = shlex.split(line, comments=True)[1]
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_tests_on_the_page_about_testing_pass(tmp_path):
    """With pytest and the plugin, on every row; its marks and its options are tried too."""
    code = "\n\n".join(code for language, code in BLOCK.findall((ROOT / "docs/testing.md").read_text()) if language == "python")
    (tmp_path / "test_page.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "interop.testing.plugin", "-p", "no:cacheprovider", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert ran.returncode == 0, ran.stdout
    rows = re.search(r"^xp: (.*)$", ran.stdout, re.MULTILINE)[1].split(", ")
    assert {"numpy", "numpy:readonly", "torch", "torch:grad", "jax", "array_api_strict", "array_api_strict:device1"} <= set(rows)
    table = re.findall(r"^\| `([\w:]+)`(?:, `(:\w+)`)? \|", (ROOT / "docs/testing.md").read_text(), re.MULTILINE)
    assert {name for name, _ in table} <= set(rows)
    for row in rows:
        assert f"PASSED test_page.py::test_the_columns_have_mean_zero[{row}]" in ran.stdout
