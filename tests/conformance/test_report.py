"""The reports: three texts that say the same about the same results, whatever words the results hold."""

import base64
import gzip
import hashlib
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from interop_conformance.report import command, html, junit, markdown, readme_table
from interop_conformance.report.columns import FIELDS
from interop_conformance.report.counts import chips, tally, tokens
from interop_conformance.report.page import ASSETS, SCRIPTS
from interop_conformance.report.verdicts import judge, labels, nothing_known
from interop_conformance.results.files import Results
from interop_conformance.results.outcomes import BAD, OUTCOMES
from interop_conformance.results.records import Case, Record

from tests.conformance.synthetic import DEVIATION, NASTY, OTHER, RESULTS, RULES, environment, known, matrix


@pytest.fixture(scope="module")
def page():
    return html([RESULTS, OTHER], RULES, known)


def unpacked(page):
    """Return the head and the columns, read as the page's script reads them."""
    packed = re.search(r'<script type="application/octet-stream" id="data">([^<]+)</script>', page)[1]
    raw = gzip.decompress(base64.b64decode(packed))
    length = int.from_bytes(raw[:4], "little")
    head, at, columns = json.loads(raw[4 : 4 + length]), 4 + length, {}
    count = sum(head["counts"])
    for field in head["fields"]:
        planes = [raw[at + plane * count : at + (plane + 1) * count] for plane in range(field["width"])]
        columns[field["name"]] = [field["values"][sum(byte << 8 * k for k, byte in enumerate(row))] for row in zip(*planes, strict=True)]
        at += count * field["width"]
    assert at == len(raw)
    return head, columns


# What a record comes to.


def marks(results=RESULTS, known=known):
    return {record.case.id: verdict.mark for record, verdict in zip(results.records, judge(results, RULES, known), strict=True)}


def test_the_rule_decides_in_the_protocol_layer_and_the_outcome_elsewhere():
    found = marks()
    assert found["protocol/dlpack/torch/capsule/producer.flag/float32/compact/plain"] == "bad"  # copied, where shared is allowed
    assert found["protocol/dlpack/numpy/capsule/producer.refusal/float32/compact/plain"] == "good"
    assert found["protocol/dlpack/numpy/capsule/producer.wish/float32/compact/plain"] == "neutral"  # may
    assert found["handoff/dlpack/numpy/numpy/int1/1d/plain"] == "good"  # copied
    assert {mark for name, mark in found.items() if name.startswith("handoff/interop")} == {"good"}


def test_a_known_deviation_is_known_where_it_applies():
    assert marks()["handoff/dlpack/numpy/torch/int8/reversed/plain"] == "known"
    assert marks(known=nothing_known)["handoff/dlpack/numpy/torch/int8/reversed/plain"] == "bad"
    without_torch = Results(environment(libraries={}), RESULTS.records)
    assert "known" not in marks(without_torch).values()


def test_only_bad_records_are_looked_up():
    asked = []
    judge(RESULTS, RULES, lambda record, environment: asked.append(record))
    assert asked
    assert all(record.outcome in BAD or record.case.layer == "protocol" for record in asked)


def test_a_rule_that_is_gone_leaves_the_outcome_to_decide():
    case = Case("protocol", "dlpack", "numpy", "capsule", "producer.gone")
    results = Results(environment(), (Record(case, "copied", ""), Record(case, "wrong", "why")))
    assert [verdict.mark for verdict in judge(results, RULES, known)] == ["good", "bad"]


def test_environments_have_names_of_their_own():
    newer = environment(libraries={"numpy": {"distribution": "numpy", "version": "2", "unavailable": ""}})
    assert labels([RESULTS])[0] == "CPU · Linux x86_64 · Python 3.11.2"
    assert labels([RESULTS, Results(newer, ())])[1].endswith("Python 3.11.2 · numpy 2")
    assert [name[-4:] for name in labels([RESULTS, RESULTS])] == [" (1)", " (2)"]


@pytest.mark.parametrize(
    ("name", "quoted"),
    [("numpy", "'layer/route/numpy/torch'"), ("it's", """'layer/route/it'"'"'s/torch'"""), ("a[*]?", "'layer/route/a[[][*]][?]/torch'")],
)
def test_the_command_finds_the_one_case(name, quoted):
    case = Case("layer", "route", name, "torch")
    assert command(case) == f"interop conformance run --case {quoted}"
    if "'" not in name:
        assert case.matches(quoted.strip("'"))


# The page, as text. What it does in a browser is in test_page.py.


def test_the_same_results_are_the_same_bytes(page):
    assert html([RESULTS, OTHER], RULES, known) == page
    assert html([OTHER, RESULTS], RULES, known) != page


def test_every_record_is_in_the_page(page):
    head, columns = unpacked(page)
    assert head["counts"] == [len(RESULTS.records), len(OTHER.records)]
    assert list(columns) == list(FIELDS)
    rows = list(zip(*columns.values(), strict=True))
    for record, row in zip(RESULTS.records + OTHER.records, rows, strict=True):
        assert row[:8] == record.case
        assert (row[8], row[10], row[11]) == (record.outcome, record.reason, " ".join(record.rules))
    assert Counter(columns["mark"][: len(RESULTS.records)]) == Counter(verdict.mark for verdict in judge(RESULTS, RULES, known))
    assert head["deviations"] == {DEVIATION.id: {"happens": DEVIATION.happens, "link": DEVIATION.link}}


def test_wide_columns_survive():
    cases = [Record(Case("handoff", "dlpack", "a", "b", dtype=f"d{number}"), "wrong", f"why {number % 300}") for number in range(70_000)]
    head, columns = unpacked(html([Results(environment(), tuple(cases))], RULES))
    assert {field["name"]: field["width"] for field in head["fields"]}.items() >= {"dtype": 4, "reason": 2, "outcome": 1}.items()
    assert columns["dtype"] == [record.case.dtype for record in cases]
    assert columns["reason"] == [record.reason for record in cases]


def test_the_policy_of_the_head_lets_only_this_script_and_style_run(page):
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; ")
    for tag, name in (("script", "script-src"), ("style", "style-src")):
        text = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_nothing_in_the_page_asks_for_anything(page):
    parser = Tags()
    parser.feed(page)
    for tag, attributes in parser.found:
        assert tag not in {"img", "iframe", "object", "embed", "audio", "video", "source", "base"}
        assert not attributes.keys() & {"src", "srcset", "style", "action"}, (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
        if tag == "link":
            assert attributes["href"] == "data:,"
    assert "url(" not in (ASSETS / "page.css").read_text()
    assert "@import" not in (ASSETS / "page.css").read_text()


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_make_no_markup_from_text_and_no_requests(name):
    text = (ASSETS / name).read_text()
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "fetch(",
        "XMLHttpRequest",
        "import(",
        ".cookie",
        "localStorage",
    ):
        assert word not in text


def test_other_peoples_words_stay_words():
    case = Case("handoff", "dlpack", '"><script>alert(1)</script>', "<s>")
    libraries = {"</dl><script>": {"distribution": "x", "version": "<i>", "unavailable": ""}}
    results = Results(
        environment(libraries=libraries, platform="</h2>", selection={"case": ["<u>"]}),
        (Record(case, "wrong", "</script><script>alert(2)"),),
    )
    page = html([results], RULES)
    assert page.count("<script") == html([RESULTS], RULES).count("<script") == 2
    assert not re.search(r"<(s|i|u)>|</h2>\s*·", page)


def test_a_link_that_is_no_address_on_the_web_is_left_out():
    bad = type(DEVIATION)(id="x", happens="y", link="javascript:alert(1)")
    assert unpacked(html([RESULTS], RULES, lambda record, environment: bad))[0]["deviations"]["x"]["link"] == ""


def test_counts_of_the_written_tables_add_up():
    found = tally(RESULTS.records, judge(RESULTS, RULES, known))
    for kind in ("total", "pair"):
        assert sum(counts.total() for key, counts in found.items() if key.startswith(f"{kind}:")) == len(RESULTS.records)
    assert found["rule:consumer.rename/torch"] == {("crash", "known"): 1}
    assert found["token:grad=error"] == {("refused", "good"): 1}


def test_a_cell_says_in_words_and_signs_what_colours_say():
    cell = tally(RESULTS.records, judge(RESULTS, RULES, known))["pair:handoff/dlpack/numpy/numpy"]
    shown = chips(cell)
    assert [chip.kind for chip in shown if chip.group == "bad"] == [name for name in OUTCOMES if name in BAD]
    assert {chip.kind for chip in shown} == set(OUTCOMES)
    assert len({chip.symbol for chip in shown}) == len(OUTCOMES)
    partly = chips({("crash", "bad"): 1, ("crash", "known"): 2})
    assert [(chip.text, chip.says, chip.solid) for chip in partly] == [("3", "crash, 2 known", True)]
    assert [(chip.says, chip.solid) for chip in chips({("crash", "known"): 2})] == [("crash, all known", False)]
    assert [chip.symbol for chip in chips({("copied", "bad"): 1, ("shared", "good"): 2, ("refused", "neutral"): 3}, rule=True)] == [
        "⊘",
        "✓",
        "-",
    ]


def test_permissions_are_told_apart():
    assert tokens("copy=None, grad=error;mask=drop") == ["copy=None", "grad=error", "mask=drop"]


def test_no_results_are_a_page_too():
    assert "Array handoffs" in html([Results(environment(), ())], RULES)


@pytest.mark.slow
def test_the_whole_matrix_fits_into_one_page():
    records = tuple(matrix())
    assert len(records) > 130_000
    assert len(html([Results(environment(), records)], RULES).encode()) < 2_500_000


# Colours.


def palettes():
    css = (ASSETS / "page.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[:2]
    return {"light": variables(light), "dark": variables(dark)}


def variables(block):
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))


def luminance(colour):
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_computed_as_the_guidelines_do():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=0.01)  # the known shade that just fails


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough(scheme):
    colours = palettes()[scheme]
    kinds = [*OUTCOMES, "fulfilled", "violated"]
    assert colours.keys() == palettes()["light"].keys() >= set(kinds)
    for ground in ("bg", "panel"):
        for name in ("text", "muted", "link", *kinds):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
        assert contrast(colours["focus"], colours[ground]) >= 3
    for name in [*BAD, "violated"]:
        assert contrast(colours["on-solid"], colours[name]) >= 4.5, name
    assert len({colours[name] for name in BAD}) == len(BAD)


# JUnit.


def test_junit_has_a_case_for_each_record():
    root = ElementTree.fromstring(junit([RESULTS, OTHER], RULES, known))
    suites = root.findall("testsuite")
    assert sum(int(suite.get("tests")) for suite in suites) == len(RESULTS.records) + len(OTHER.records) == len(root.findall(".//testcase"))
    for suite in suites:
        assert int(suite.get("failures")) == len(suite.findall(".//failure"))
        assert int(suite.get("skipped")) == len(suite.findall(".//skipped"))
    assert len({suite.get("name") for suite in suites}) == len(suites)


def test_junit_tells_new_known_and_neutral_apart():
    cases = {case.get("name"): case for case in ElementTree.fromstring(junit([RESULTS], RULES, known)).iter("testcase")}
    new = cases["handoff/dlpack/numpy/jax/bool/compact/plain"].find("failure")
    assert (new.get("type"), new.get("message")) == ("wrong", f"wrong: {NASTY}")
    assert "interop conformance run --case 'handoff/dlpack/numpy/jax/bool/compact/plain'" in new.text
    assert DEVIATION.id in cases["handoff/dlpack/numpy/torch/int8/reversed/plain"].find("skipped").get("message")
    assert cases["handoff/dlpack/numpy/numpy/int8/1d/plain"].find("skipped").get("message") == "unsupported: why unsupported"
    assert not list(cases["handoff/interop/numpy/jax/bool/compact/plain"])


def test_junit_survives_what_xml_cannot_say():
    record = Record(Case("handoff", "dlpack", "a\x00", "b"), "wrong", "\x1b[31m red \ud800 \uffff ]]> <")
    found = ElementTree.fromstring(junit([Results(environment(), (record,))], RULES)).find(".//failure")
    assert "red" in found.get("message")
    assert "]]> <" in found.get("message")


# Markdown.


def rows_of(text):
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines() if line.startswith("|")]


def test_every_row_of_a_table_is_as_wide_as_its_head():
    for block in markdown([RESULTS, OTHER], RULES, known).split("\n\n"):
        assert len({len(row) for row in rows_of(block)}) <= 1


def test_markdown_compares_environments():
    text = markdown([RESULTS, OTHER], RULES, known)
    assert text.startswith("## Environments: bad of all\n")
    assert "Environments" not in markdown([RESULTS], RULES, known)
    assert "NVIDIA &lt;H200>" in text


def test_markdown_has_a_table_for_each_route():
    text = markdown([RESULTS], RULES, known)
    parts = dict(re.findall(r"### Handoff, route `(\w+)`: good / bad\n\n((?:\|.*\n)+)", text))
    assert list(parts) == ["dlpack", "native", "interop"]
    cells = {row[0]: row[1:] for row in rows_of(parts["interop"])[2:]}
    assert cells == dict.fromkeys(("numpy", "torch", "jax"), ["6 / 0"] * 3)
    assert "**" in parts["dlpack"]


def test_the_readmes_table_counts_each_outcome_of_each_route():
    head, _, *rows = rows_of(readme_table(RESULTS))
    assert head == ["route", *(f"{outcome.symbol} {name}" for name, outcome in OUTCOMES.items())]
    assert [row[0] for row in rows] == ["`dlpack`", "`native`", "`interop`"]
    for row in rows:
        route = row[0].strip("`")
        expected = Counter(record.outcome for record in RESULTS.records if record.case[:2] == ("handoff", route))
        assert [int(cell.strip("*")) for cell in row[1:]] == [expected[name] for name in OUTCOMES]


def test_the_pages_files_stay_small():
    for path in Path(ASSETS).iterdir():
        assert len(path.read_text().splitlines()) <= 300, path.name
