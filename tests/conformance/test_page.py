"""The page in a real browser: it counts, opens, is worked by keyboard, fits, and loads nothing from elsewhere."""

import importlib
import json
import os
import shutil
import urllib.parse

import pytest
from interop_conformance.report import html
from interop_conformance.results.files import Results

from tests.conformance.synthetic import ALSO, DEVIATION, LONG, NASTY, OTHER, RESULTS, RULES, environment, known, matrix

REQUIRED = os.environ.get("INTEROP_REQUIRE_BROWSER") == "1"
load = importlib.import_module if REQUIRED else pytest.importorskip
webdriver = load("selenium.webdriver")
from selenium.webdriver.chrome.service import Service  # noqa: E402 - after the import that may skip
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

BROWSER, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = [
    pytest.mark.skipif(
        not ((BROWSER and DRIVER) or REQUIRED),
        reason="there is no chromium with its chromedriver (Debian: apt install chromium chromium-driver)",
    ),
    pytest.mark.slow,
]

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--window-size=1280,900"),
)
PAIR = '[data-cell="pair:handoff/dlpack/{}/{}"]'
NUMPY_JAX, JAX_TORCH, NUMPY_TORCH, BOTH_NUMPY = (
    PAIR.format(*names) for names in (("numpy", "jax"), ("jax", "torch"), ("numpy", "torch"), ("numpy", "numpy"))
)
NONE = "\N{EN DASH}"
SIZES = {"phone": (375, 800), "desk": (1280, 900)}


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    assert BROWSER, "INTEROP_REQUIRE_BROWSER=1, but there is no chromium"
    assert DRIVER, "INTEROP_REQUIRE_BROWSER=1, but there is no chromedriver"
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(html([RESULTS, OTHER], RULES, known), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def browser(chromium, address):
    """The page, freshly loaded, at the desk, in light; at the end there must be nothing in the console, and no request."""
    seen(chromium)
    browse(chromium, address)
    yield chromium
    assert chromium.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)") == []
    assert chromium.get_log("browser") == []


def seen(driver, size="desk", scheme="light", **features):
    width, height = SIZES[size]
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "phone"}
    )
    wanted = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"} | features
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": name, "value": value} for name, value in wanted.items()]})


def browse(driver, address):
    # By way of an empty page: another # alone would not load anything anew.
    driver.get("about:blank")
    driver.get(address)
    wait(driver, lambda: driver.execute_script("return document.documentElement.dataset.ready"))


def wait(driver, condition):
    return WebDriverWait(driver, 10, 0.02).until(lambda _: condition())


def one(driver, selector):
    return driver.find_element(By.CSS_SELECTOR, selector)


def text(driver, selector):
    """Return what is written in an element, without what is for screen readers only and without blanks."""
    return driver.execute_script(
        "const copy = document.querySelector(arguments[0]).cloneNode(true); copy.querySelectorAll('.vh').forEach((each) => each.remove()); return copy.textContent.replace(/\\s+/g, '')",
        selector,
    )


def choose(driver, **filters):
    for name, value in filters.items():
        Select(one(driver, f"select[name={name}]")).select_by_value(value)


def is_open(driver):
    return driver.execute_script("return document.querySelector('dialog').open")


def opened(driver, selector):
    one(driver, f"{selector} button").click()
    wait(driver, lambda: is_open(driver))
    return one(driver, "dialog")


def focused(driver):
    return driver.switch_to.active_element


def shown(driver, selector):
    return [each for each in driver.find_elements(By.CSS_SELECTOR, selector) if each.is_displayed()]


# What it shows.


def test_without_javascript_the_tables_say_the_same(browser, address):
    cells = "return [...document.querySelectorAll('.run:not([hidden]) [data-cell], .run:not([hidden]) [data-total]')].map((each) => each.dataset.cell ?? each.dataset.total)"
    keys = browser.execute_script(cells)
    counted = contents(browser)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(address)
        written = contents(browser)
        assert not shown(browser, "#form, button")
        assert "JavaScript" in one(browser, "noscript").text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert len(keys) > 60
    assert written == counted
    assert counted[f"pair:{'handoff/dlpack/numpy/torch'}"] == "✖3=3"


def contents(driver):
    # Through the protocol, which answers without the page's scripts too.
    script = """JSON.stringify(Object.fromEntries([...document.querySelectorAll('#env1 [data-cell], #env1 [data-total]')].map((each) => {
        const copy = each.cloneNode(true); copy.querySelectorAll('.vh').forEach((one) => one.remove());
        return [each.dataset.cell ?? each.dataset.total, copy.textContent.replace(/\\s+/g, '')]; })))"""
    return json.loads(driver.execute_cdp_cmd("Runtime.evaluate", {"expression": script})["result"]["value"])


def test_filters_count_the_tables_anew(browser):
    assert text(browser, NUMPY_TORCH) == "✖3=3"
    choose(browser, dtype="int8")
    assert text(browser, NUMPY_TORCH) == "✖1=1"
    choose(browser, layout="reversed")
    assert text(browser, NUMPY_TORCH) == "✖1"
    assert "cases match" in one(browser, "#status").text
    choose(browser, route="native")
    assert not shown(browser, NUMPY_TORCH)
    one(browser, "button[type=reset]").click()
    wait(browser, lambda: text(browser, NUMPY_TORCH) == "✖3=3")
    assert one(browser, "#status").text == f"{len(RESULTS.records):,} cases."


@pytest.mark.parametrize(("value", "count"), [("bad+known", 5), ("bad", 5), ("known", 0), ("good", 3 + 6), ("wrong", 1)])
def test_outcomes_and_verdicts_are_filters(browser, value, count):
    choose(browser, route="dlpack", producer="numpy", consumer="numpy", outcome=value)
    total = text(browser, '[data-total="handoff/dlpack/all"]')
    assert total == (f"{count}" if count else NONE)


@pytest.mark.parametrize("words", ["SIGABRT torch int8", "sigabrt NUMPY/TORCH/int8"])
def test_words_are_looked_for_in_reasons_and_ids(browser, words):
    one(browser, "input[name=q]").send_keys(words)
    wait(browser, lambda: "match" in one(browser, "#status").text)
    assert text(browser, NUMPY_TORCH) == "✖1"
    assert not shown(browser, NUMPY_JAX)


def test_another_environment_has_its_own_counts(browser):
    choose(browser, env="env2")
    assert one(browser, "#status").text == f"{len(OTHER.records):,} cases."
    assert [each.text for each in shown(browser, "h2.name")] == ["NVIDIA <H200> · Linux x86_64 · Python 3.11.2"]
    assert "env=env2" in browser.current_url


# A cell's cases.


def test_a_cell_opens_its_cases_with_all_that_is_to_know(browser):
    dialog = opened(browser, NUMPY_JAX)
    assert one(dialog, "h2").text.startswith("numpy → jax")
    group = one(dialog, ".group")  # the worst first, and open
    assert NASTY in group.text.replace("\n", " ")
    assert 'The clause of <producer.flag> & "more"' in group.text
    assert ALSO["clause"] in group.text
    assert "interop conformance run --case 'handoff/dlpack/numpy/jax/bool/compact/plain'" in group.text
    assert browser.title != "gone"
    assert not browser.find_elements(By.CSS_SELECTOR, "img")


def test_a_known_deviation_links_upstream(browser):
    dialog = opened(browser, NUMPY_TORCH)
    assert DEVIATION.happens in dialog.text
    assert one(dialog, ".deviation a").get_attribute("href") == DEVIATION.link


def test_a_rule_opens_its_clause_and_its_cases(browser):
    summary = one(browser, "#env1 .rules summary")
    summary.click()
    details = one(browser, "#env1 .rules details[open]")
    assert "The clause of <producer.flag>" in details.text
    assert one(details, "a").get_attribute("href") == RULES["producer.flag"].link
    assert text(browser, '[data-cell="rule:producer.flag/torch"]') == "⊘1"
    dialog = opened(browser, '[data-cell="rule:producer.flag/torch"]')
    assert "the flag is missing" in dialog.text
    assert one(dialog, ".chip").text.split() == ["⊘", "copied"]


@pytest.mark.parametrize(
    "cell", ['[data-total="handoff/dlpack/crash"]', '[data-cell="token:grad=error"]', '[data-cell="rule:consumer.rename/torch"]']
)
def test_every_kind_of_cell_opens_as_many_cases_as_it_says(browser, cell):
    count = int("".join(filter(str.isdigit, text(browser, cell))))
    assert one(opened(browser, cell), "#cases-count").text.startswith(f"{count} case")


def test_a_hundred_cases_at_a_time(browser):
    dialog = opened(browser, '[data-cell="pair:handoff/native/torch/numpy"]')
    group = next(each for each in dialog.find_elements(By.CSS_SELECTOR, ".group") if LONG in each.text)
    if group.get_attribute("open") is None:
        one(group, "summary").click()
    wait(browser, lambda: len(group.find_elements(By.CSS_SELECTOR, "li")) == 100)
    for expected in (200, 250):
        one(group, ".more").click()
        wait(browser, lambda expected=expected: len(group.find_elements(By.CSS_SELECTOR, "li")) == expected)
        assert focused(browser).get_attribute("class") == "copy"
    assert not one(group, ".more").is_displayed()


def test_copying_says_so(browser):
    dialog = opened(browser, NUMPY_JAX)
    one(dialog, ".copy").click()
    said = wait(browser, lambda: one(browser, "#said").get_attribute("textContent"))
    assert said in {"Copied.", "The command is selected."}
    if said != "Copied.":
        assert browser.execute_script("return getSelection().toString()").startswith("interop conformance run --case")


# The address.


def test_the_address_holds_the_view(browser, address):
    choose(browser, dtype="int8", outcome="bad+known")
    opened(browser, NUMPY_TORCH)
    link = browser.current_url
    given = urllib.parse.parse_qs(urllib.parse.urlsplit(link).fragment)
    assert given == {"dtype": ["int8"], "outcome": ["bad+known"], "cell": ["pair:handoff/dlpack/numpy/torch"]}
    browse(browser, link)
    assert is_open(browser)
    assert one(browser, "#cases-count").text == "1 case under the filters, 1 reason, worst first."
    one(browser, "#cases-close").click()
    wait(browser, lambda: not is_open(browser))
    assert text(browser, NUMPY_TORCH) == "✖1"
    assert "cell=" not in browser.current_url


def test_closing_a_cell_leads_back_to_where_one_was(browser):
    browser.execute_script("arguments[0].scrollIntoView({ block: 'center' })", one(browser, NUMPY_TORCH))
    at = browser.execute_script("return scrollY")
    assert at > 100
    opened(browser, NUMPY_TORCH)
    one(browser, "#cases-close").click()
    wait(browser, lambda: "#" not in browser.current_url)
    assert abs(browser.execute_script("return scrollY") - at) < 2


def test_back_closes_the_cell(browser):
    choose(browser, dtype="int8")
    opened(browser, NUMPY_TORCH)
    browser.back()
    wait(browser, lambda: not is_open(browser))
    assert browser.current_url.endswith("#dtype=int8")


@pytest.mark.parametrize(
    "fragment", ["main", "dtype=nothing&env=nowhere", "cell=nonsense", "cell=pair:a/b/c/d", "cell=rule:gone/torch", "=&&"]
)
def test_a_strange_address_breaks_nothing(browser, address, fragment):
    browse(browser, f"{address}#{fragment}")
    if is_open(browser):
        assert one(browser, "#cases-count").text.startswith("0 cases")
    else:
        assert text(browser, NUMPY_TORCH) == "✖3=3"


# By keyboard.


def test_it_is_worked_by_keyboard(browser):
    body = one(browser, "body")
    body.send_keys(Keys.TAB)
    assert focused(browser).text == "Skip to the tables"
    focused(browser).send_keys(Keys.ENTER)
    assert focused(browser).get_attribute("id") == "main"
    cell = one(browser, f"{NUMPY_TORCH} button")
    for _ in range(80):
        if focused(browser) == cell:
            break
        focused(browser).send_keys(Keys.TAB)
        assert browser.execute_script(
            "const at = document.activeElement; return at.matches(':focus-visible') && getComputedStyle(at).outlineStyle !== 'none'"
        )
    assert focused(browser) == cell
    focused(browser).send_keys(Keys.ENTER)
    wait(browser, lambda: is_open(browser))
    assert focused(browser).get_attribute("id") == "cases-title"
    for _ in range(12):
        focused(browser).send_keys(Keys.TAB)
        # Inside, or in the browser's own bars; never behind the dialog.
        assert browser.execute_script("const at = document.activeElement; return at === document.body || at.closest('dialog') !== null")
    one(browser, "dialog h2").send_keys(Keys.ESCAPE)
    wait(browser, lambda: not is_open(browser))
    wait(browser, lambda: focused(browser) == one(browser, f"{NUMPY_TORCH} button"))


def test_jumps_lead_to_their_parts(browser):
    for link in shown(browser, ".jump a"):
        # Not below the filters, which stay at the top.
        browser.execute_script("arguments[0].scrollIntoView({ block: 'center' })", link)
        link.click()
        target = urllib.parse.urlsplit(link.get_attribute("href")).fragment
        assert browser.execute_script("return document.getElementById(arguments[0]) !== null", target)
    assert text(browser, NUMPY_TORCH) == "✖3=3"


# How it fits.


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_fits_and_follows_the_scheme(browser, address, size, scheme):
    seen(browser, size, scheme)
    browse(browser, address)
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(overflow) <= 0
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    assert text(browser, NUMPY_TORCH) == "✖3=3"
    opened(browser, BOTH_NUMPY)
    assert browser.execute_script("const box = document.querySelector('dialog'); return box.scrollWidth - box.clientWidth") <= 0
    box = one(browser, "dialog").rect
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= SIZES[size][0]


def test_on_a_phone_every_cell_says_its_column_and_is_large_enough(browser, address):
    seen(browser, "phone")
    browse(browser, address)
    assert (
        browser.execute_script("return getComputedStyle(document.querySelector(arguments[0]), '::before').content", NUMPY_TORCH)
        == '"→ torch"'
    )
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('button, select, summary')].filter((each) => each.checkVisibility()).map((each) => each.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 24


def test_motion_is_asked_for(browser):
    behaviour = "return getComputedStyle(document.documentElement).scrollBehavior"
    assert browser.execute_script(behaviour) == "auto"
    seen(browser, **{"prefers-reduced-motion": "no-preference"})
    assert browser.execute_script(behaviour) == "smooth"


def test_on_paper_there_are_the_tables_only(browser):
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    try:
        assert not shown(browser, "#filters, .jump, .status")
        assert shown(browser, NUMPY_TORCH)
        assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_the_whole_matrix_opens_and_filters_quickly(chromium, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(html([Results(environment(), tuple(matrix()))], RULES), encoding="utf-8")
    browse(chromium, path.as_uri())
    assert float(chromium.execute_script("return document.documentElement.dataset.ready")) < 2000
    took = []
    for values in ({"dtype": "d3"}, {"layout": "l1"}, {"dtype": ""}, {"state": "s2"}):
        choose(chromium, **values)
        took.append(float(chromium.execute_script("return document.documentElement.dataset.took")))
    # The least busy moment counts: other work on the machine is not the page's.
    assert min(took) < 200


# What every page owes to those who do not see it.

LACKING = """
const found = [];
const ids = [...document.querySelectorAll('[id]')].map((each) => each.id);
if (new Set(ids).size !== ids.length) found.push('an id twice');
if (!document.documentElement.lang || !document.title) found.push('no language or title');
for (const field of document.querySelectorAll('select, input')) if (!field.labels.length) found.push(`no label: ${field.name}`);
for (const button of document.querySelectorAll('button')) if (!(button.ariaLabel || button.textContent.trim()) && button.checkVisibility()) found.push('a button without a name');
for (const table of document.querySelectorAll('table')) {
  if (!document.getElementById(table.getAttribute('aria-labelledby'))) found.push('a table without a name');
  for (const head of table.querySelectorAll('th')) if (!head.scope) found.push('a head without a scope');
  for (const row of table.rows) if (row.cells[0].tagName !== 'TH') found.push('a row without a head');
}
for (const owner of document.querySelectorAll('[aria-labelledby]')) if (!document.getElementById(owner.getAttribute('aria-labelledby'))) found.push('a name that is nowhere');
let last = 0;
for (const head of document.querySelectorAll('header h1, main h2, main h3, main h4')) {
  const level = Number(head.tagName[1]);
  if (level > last + 1) found.push(`a level is left out before: ${head.textContent}`);
  last = level;
}
if (document.querySelectorAll('h1').length !== 1 || document.querySelectorAll('main').length !== 1) found.push('not one h1 and one main');
for (const live of ['status', 'said']) if (document.getElementById(live).ariaLive !== 'polite') found.push(`not read aloud: ${live}`);
return found;
"""


def test_names_labels_and_headings_are_in_order(browser):
    assert browser.execute_script(LACKING) == []
    assert one(browser, f"{NUMPY_TORCH} button").accessible_name == "numpy to torch: 3 crash, all known; 3 shared"
    opened(browser, BOTH_NUMPY)
    assert browser.execute_script(LACKING) == []


def test_what_is_lacking_would_be_seen(browser):
    """The negative control."""
    browser.execute_script(
        "document.querySelector('main').insertAdjacentHTML('beforeend', '<h4 id=main>x</h4><input name=y><table><tr><td>')"
    )
    assert len(browser.execute_script(LACKING)) >= 4


def test_a_request_would_be_seen(chromium, address):
    """The negative control: the page's own policy stops it, and says so in the console."""
    browse(chromium, address)
    chromium.execute_script("document.body.append(Object.assign(new Image(), { src: 'https://example.invalid/x.png' }))")
    found = wait(chromium, lambda: chromium.get_log("browser"))
    assert any("Content Security Policy" in entry["message"] for entry in found)
