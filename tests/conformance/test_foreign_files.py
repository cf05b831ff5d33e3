"""Results that a stranger wrote: malformed, hostile or huge, they end with status 2 and one line, and nothing in them commands a terminal or a page."""

import copy
import gzip
import itertools
import json
import os
import unicodedata
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from interop_conformance.command import command
from interop_conformance.results import deviations, files
from interop_conformance.results.files import Results, read, write
from interop_conformance.results.records import Case, Record

from tests.conformance.synthetic import environment

CASES = (
    Record(Case("handoff", "dlpack", "numpy", "torch", "", "float32", "compact", "plain"), "wrong", "other values"),
    Record(Case("protocol", "dlpack", "numpy", "capsule", "producer.keywords", "int8", "1d", "plain"), "refused", "", ("producer.keywords",)),
    Record(Case("policy", "interop", "torch", "numpy", "grad=error", "int8", "1d", "grad"), "refused", "GradError: grad"),
)  # fmt: skip


@pytest.fixture
def whole(tmp_path):
    """Return a whole file as data, and a function that writes it changed and returns its path."""
    path = tmp_path / "results.json"
    write(Results(environment(), CASES), path)

    def changed(document):
        path.write_text(json.dumps(document))
        return path

    return json.loads(path.read_text()), changed


def invoke(verb, *words):
    return CliRunner().invoke(command, [verb, *map(str, words)])


def refused(done):
    """Hold that a command ended with status 2 and one line on standard error."""
    assert not isinstance(done.exception, Exception), repr(done.exception)
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1
    assert len(done.stderr) < 500
    assert done.stderr[:-1].isprintable()


def test_a_whole_file_is_read(whole):
    document, changed = whole
    assert read(changed(document)) == Results(environment(), CASES)
    assert invoke("report", changed(document)).exit_code == 1  # a finding
    assert invoke("diff", changed(document), changed(document)).exit_code == 0


# Every field, of every other type.

VALUES = (None, True, 0, -1, 1.5, 10**400, "", "text", "\x1b[2J", [], [None], [[]], ["x"], {}, {"x": None}, {"": {}}, "x" * 5000)


def places(value, path=()):
    """Return the way to each value in a document, the containers too."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, key))


def mutated(document, path, change):
    """Return a copy in which the value at a path is changed; `change` gets what holds it, and its key."""
    root = [copy.deepcopy(document)]
    holder, key = root, 0
    for step in path:
        holder, key = holder[key], step
    change(holder, key)
    return root[0]


def put(value):
    def change(holder, key):
        holder[key] = value

    return change


def remove(holder, key):
    del holder[key]


def test_every_field_of_every_other_type_is_read_or_refused(whole, tmp_path):
    """Nothing raises anything but the one error, and what is read can be reported in every form."""
    document, changed = whole
    outcomes = set()
    for path, value in itertools.product(places(document), VALUES):
        outcomes.add(tried(changed(mutated(document, path, put(value))), tmp_path))
    for path in [path for path in places(document) if path]:
        outcomes.add(tried(changed(mutated(document, path, remove)), tmp_path))
    assert outcomes == {1, 2}  # the whole file has a finding


def tried(path, folder):
    try:
        read(path)
    except files.IncompleteError as error:
        said = str(error)
        assert (said.isprintable(), len(said) < 400) == (True, True)
        return 2
    html, markdown, junit = (folder / kind for kind in ("html", "markdown", "junit"))
    done = invoke("report", path, "--html", html, "--markdown", markdown, "--junit", junit)
    assert not isinstance(done.exception, Exception), (path.read_text(), repr(done.exception))
    for verb, paths in (("report", [path]), ("diff", [path, path])):
        shown = invoke(verb, *paths)
        assert not isinstance(shown.exception, Exception), (path.read_text(), repr(shown.exception))
        assert harmless(shown.output)
    ElementTree.fromstring(junit.read_text())
    return done.exit_code


def harmless(text):
    return not any(unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and sign != "\n" for sign in text)


# What commands a terminal or a page.

COMMANDS = "\x1b]0;title\x07\x1b[31m\x9b2J\x7f\x00\u202eevil\u2066\u200b\ufeff\u2028\ud800<script>[x](http://e)|`"


@pytest.mark.parametrize("verb", ["report", "diff"])
def test_no_control_character_reaches_a_terminal_a_page_or_xml(whole, tmp_path, verb):
    document, changed = whole
    for path in list(places(document)):
        value = document
        for step in path:
            value = value[step]
        if isinstance(value, str) and path[-1] not in {"layer", "route", "outcome"}:
            document = mutated(document, path, put(value + COMMANDS))
    document["environment"]["libraries"] = {name + COMMANDS: one for name, one in document["environment"]["libraries"].items()}
    document["environment"]["selection"] = {"case" + COMMANDS: [COMMANDS]}
    path = changed(document)
    assert harmless(invoke(verb, *[path] * (2 if verb == "diff" else 1)).output)
    assert harmless(invoke(verb, *[path] * (2 if verb == "diff" else 1), "--json").output)
    made = [tmp_path / kind for kind in ("html", "markdown", "junit")]
    assert invoke("report", path, "--html", made[0], "--markdown", made[1], "--junit", made[2]).exit_code == 1
    html, markdown, junit = (file.read_text(encoding="utf-8") for file in made)
    assert all(map(harmless, (markdown, junit)))
    assert harmless(html)
    assert "evil<script>" not in html
    assert "<script>" not in markdown
    assert "[x](" not in markdown
    ElementTree.fromstring(junit)


def test_a_character_that_is_to_be_read_stays():
    """The negative control."""
    assert harmless("≠ … é 漢\n")
    assert not harmless("\x1b[2J")
    from interop_conformance.results.texts import printable

    assert printable("≠ … é 漢") == "≠ … é 漢"


# What is no file of results at all.


@pytest.mark.parametrize(
    ("name", "content", "answer"),
    [
        ("deep.json", b"[" * 200_000 + b"]" * 200_000, "RecursionError"),
        ("deep.json", b'{"schema":1,"environment":' * 90_000, "RecursionError"),
        ("half.json.gz", gzip.compress(b'{"schema": 1' * 1000, mtime=0)[:-20], "is not whole"),
        ("none.json.gz", b"{}", "is not whole"),
        ("latin.json", '{"schema": "é"}'.encode("latin-1"), "is not whole"),
        ("nan.json", b'{"schema": NaN}', "NaN is no number"),
        ("twice.json", b'{"schema": 1, "schema": 1}', "a key stands in it twice"),
        ("true.json", b'{"schema": true}', "schema 1 is read here"),
        ("float.json", b'{"schema": 1e999}', "schema 1 is read here"),
        ("long.json", b'{"schema": ' + b"9" * 5000 + b"}", "is not whole"),
        ("empty.json", b"", "is not whole"),
        ("empty.json.gz", b"", "is not whole"),
        ("list.json", b"[]", "schema 1 is read here"),
        ("evil\x1b[2J.json", b"[]", "schema 1 is read here"),
    ],
    ids=lambda word: word if isinstance(word, str) and word.isprintable() else "",
)
@pytest.mark.parametrize("verb", ["report", "diff"])
def test_what_is_no_results_file_is_status_2_and_one_line(tmp_path, verb, name, content, answer):
    path = tmp_path / name
    path.write_bytes(content)
    done = invoke(verb, *[path] * (2 if verb == "diff" else 1))
    refused(done)
    assert answer in done.stderr


def test_a_file_that_unpacks_to_too_much_is_read_no_further(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LIMIT", 1 << 20)
    path = tmp_path / "bomb.json.gz"
    path.write_bytes(gzip.compress(b" " * (64 << 20)))
    assert path.stat().st_size < 100_000
    done = invoke("report", path)
    refused(done)
    assert "holds more than 1 MiB" in done.stderr


def test_names_of_more_libraries_than_a_table_takes_are_refused(tmp_path):
    records = [Record(Case("handoff", "dlpack", f"p{n}", f"c{n}", "", "int8", "1d", "plain"), "shared", "") for n in range(files.LIBRARIES)]
    path = tmp_path / "many.json"
    part = environment(selection={"case": ["x"]})
    write(Results(part, tuple(records)), path)
    refused(invoke("report", path))
    write(Results(part, tuple(records[: files.LIBRARIES // 2])), path)
    assert invoke("report", path).exit_code == 0


@pytest.mark.parametrize("kind", ["folder", "pipe", "nothing", "device", "unreadable", "circle"])
def test_what_is_no_regular_file_is_not_waited_for(tmp_path, monkeypatch, kind):
    path = tmp_path / "results.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "circle":
        path.symlink_to(path)
    elif kind == "unreadable":
        path.write_text("{}")
        monkeypatch.setattr(files.Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    refused(invoke("report", path))


# Files of known deviations.

ROW = {"id": "a", "library": "b", "versions": "<2", "outcome": "wrong", "happens": "c", "link": "d", "match": {"producer": "b"}}


def toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(one)}" for key, one in value.items()) + "}"
    return f"[{', '.join(map(toml, value))}]" if isinstance(value, list) else json.dumps(value)


@pytest.fixture
def listed(monkeypatch):
    """Return what lists the known deviations with a file more, and forgets it."""

    def call(path):
        monkeypatch.setattr(deviations, "_FILES", deviations._FILES[:1])
        deviations.deviations.cache_clear()
        return invoke("list", "--deviations", path)

    yield call
    monkeypatch.undo()
    deviations.deviations.cache_clear()
    deviations._here.cache_clear()


def test_every_field_of_a_file_of_deviations_is_read_or_refused(tmp_path, listed):
    path = tmp_path / "known.toml"
    for key, value in itertools.product(
        [*ROW, "but", "reason", "new"], [True, 0, 1.5, "", "x", [], [1], [[]], {}, {"producer": 1}, [{"x": []}]]
    ):
        path.write_text(f"deviation = [{toml(ROW | {key: value})}]\n")
        done = listed(path)
        assert not isinstance(done.exception, Exception), (path.read_text(), repr(done.exception))
        assert done.exit_code in (0, 2)


@pytest.mark.parametrize(
    "text", ["deviation = 1", "deviation = {}", "[group]\na = ['@a']\n[[deviation]]", "[group]\nx = 1", "\x00", "a = " + "[" * 20_000]
)
def test_what_is_no_file_of_deviations_is_status_2(tmp_path, listed, text):
    (tmp_path / "known.toml").write_text(text)
    done = listed(tmp_path / "known.toml")
    assert not isinstance(done.exception, Exception), repr(done.exception)
    assert done.exit_code in (0, 2)


def test_a_pipe_of_deviations_is_not_waited_for_and_what_they_say_is_printable(tmp_path, listed):
    os.mkfifo(tmp_path / "pipe")
    assert listed(tmp_path / "pipe").exit_code == 2
    path = tmp_path / "known.toml"
    path.write_text(f"deviation = [{toml(ROW | {'happens': COMMANDS[:-20].replace(chr(0xD800), '')})}]\n")
    done = listed(path)
    assert (done.exit_code, harmless(done.stdout)) == (0, True)
    assert "title" in done.stdout
