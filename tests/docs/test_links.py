"""Between the pages every link leads to a file, and to a heading where it names one; names and paths in backticks are there.

Links to the outside are checked by a workflow (`.github/workflows/links.yml`): here nothing asks the network.
"""

import pkgutil
import re
from collections import Counter
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from docs.generate import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")])
FOLDERS = "(?:interop|conformance|tests|docs|tools|benchmarks|examples|.github)"
NAME = re.compile(r"@?(interop(?:_conformance)?(?:\.[A-Za-z_]\w*)+)(?![\w.*])")
PLACEHOLDER = "MYLIB"  # where a recipe is about any library
PATH = re.compile(rf"{FOLDERS}/[\w./-]*\w/?")


def tokens(page):
    return MarkdownIt("commonmark").enable("table").parse(page.read_text())


def inline(page, kind):
    return [child for token in tokens(page) if token.type == "inline" for child in token.children if child.type == kind]


def anchors(page):
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    listed = tokens(page)
    seen, found = Counter(), set()
    for at, token in enumerate(listed):
        if token.type == "heading_open":
            text = "".join(child.content for child in listed[at + 1].children)
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return found


def broken(page):
    """Return the links of a page that lead nowhere."""
    wrong = []
    for link in inline(page, "link_open"):
        target, _, anchor = link.attrs["href"].partition("#")
        if "://" in target:
            continue
        there = (page.parent / target) if target else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            wrong.append(link.attrs["href"])
    return wrong


def unknown(page):
    """Return what stands in backticks as a name of interop, or as a path in the repository, and is not there."""
    wrong = []
    for code in inline(page, "code_inline"):
        if name := NAME.match(code.content):
            try:
                pkgutil.resolve_name(name[1])
            except (ImportError, AttributeError):
                wrong.append(name[1])
        elif PATH.fullmatch(code.content) and PLACEHOLDER not in code.content and not (ROOT / code.content).exists():
            wrong.append(code.content)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    assert not broken(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_and_paths_in_backticks_are_there(page):
    assert not unknown(page)


def test_a_broken_link_and_a_name_that_is_gone_are_seen(tmp_path):
    """The negative control."""
    page = Path(tmp_path / "page.md")
    page.write_text(
        "# One `code`, two\n\n# Twice\n\n# Twice\n\n[a](#one-code-two) [b](#one) [c](other.md) [d](page.md#twice-1) [e](page.md#twice-2)\n\n"
        "| `interop.convert(x)` | `interop.convertt(x)` |\n| --- | --- |\n| `interop/gone.py` | `interop/errors.py` |\n"
    )
    assert broken(page) == ["#one", "other.md", "page.md#twice-2"]
    assert unknown(page) == ["interop.convertt", "interop/gone.py"]


def test_the_workflow_checks_every_page():
    """Its patterns are lychee's, which are those of `Path.glob` here."""
    workflow = (ROOT / ".github/workflows/links.yml").read_text()
    patterns = re.findall(r"[\w./*]+\.md", re.search(r"args: >-\n(.*?)\n +fail:", workflow, re.DOTALL)[1])
    assert sorted({page for pattern in patterns for page in ROOT.glob(pattern)}) == PAGES


def test_every_page_is_in_the_navigation():
    """Sphinx says so too, but only `make docs` runs it."""
    trees = re.findall(r"```\{toctree\}\n(.*?)```", (ROOT / "docs/index.md").read_text(), re.DOTALL)
    listed = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    assert sorted(["index", *listed]) == sorted(page.stem for page in (ROOT / "docs").glob("*.md"))
