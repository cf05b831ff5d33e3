"""The documentation says what is so: its tables are generated, and its code runs."""

import os
import re
import shlex
import subprocess
import sys

import pytest

import interop
from docs.generate import PAGES, PARTS, ROOT, main, render
from interop.errors import ERRORS

ALL = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def test_the_generated_parts_are_up_to_date():
    assert main(["--check"]) == 0


def test_a_stale_part_is_seen():
    """The negative control."""
    stale = "<!-- generated: permissions -->\nold\n<!-- end -->"
    assert render(stale) != stale
    assert set(re.findall(r"generated: (\w+)", "".join((ROOT / page).read_text() for page in PAGES))) == set(PARTS)


JIT = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own, on the first dual


@JIT
@pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)
def test_code_blocks_run(page, capsys):
    namespace = {}
    for language, code in BLOCK.findall(page.read_text()):
        if language == "python":
            exec(compile(code, page.name, "exec"), namespace)


# Their text blocks say what the block before them prints. On other pages a text block may be something else.
PRINTED = [ROOT / "docs" / name for name in ("autograd.md", "errors.md", "neutral.md")]


@JIT
@pytest.mark.parametrize("page", PRINTED, ids=lambda page: page.name)
def test_what_the_docs_say_is_printed_is_what_is_printed(page, capsys):
    namespace, shown = {}, 0
    printed = ""
    for language, code in BLOCK.findall(page.read_text()):
        if language == "python":
            capsys.readouterr()
            exec(compile(code, page.name, "exec"), namespace)
            printed = capsys.readouterr().out
        elif language == "text":
            assert printed == code
            shown += 1
    assert shown


def test_the_error_in_the_readme_is_the_one_that_is_raised():
    import torch

    with pytest.raises(interop.GradError) as caught:
        interop.to_numpy(torch.nn.Parameter(torch.ones(3)))
    shown = next(text for language, text in BLOCK.findall((ROOT / "README.md").read_text()) if "GradError" in text)
    assert shown.partition("GradError: ")[2].strip() == str(caught.value)


def test_every_code_has_its_heading():
    headings = re.findall(r"^## (.+)$", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    assert headings == [code for code in ERRORS if code != "interop"]


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


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
