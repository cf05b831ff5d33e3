"""`make gpu`, without a GPU: what is recorded of small trees of tests that pass, fail, skip, abort, hang and are stopped."""

import functools
import textwrap
import time

import pytest
from interop_conformance.running.journal import Journal

from tests.tools.checkout import FACTS, HEAD, as_run, checkout, outcomes, reasons, run
from tools import gpu
from tools.recorder import anonymous, line
from tools.results import OUTCOMES, IncompleteError, all_passed, compose, read, write

MIXED = """
import sys, warnings

def test_b_passes():
    assert os.environ["INTEROP_REQUIRE_GPU"] == "1"

def test_a_fails(tmp_path):
    assert str(tmp_path) == ""

def test_warns():
    warnings.warn("old", DeprecationWarning)

def test_skips():
    pytest.skip("needs two devices")

@pytest.mark.xfail(reason="a known bug")
def test_is_known_to_fail():
    assert 0

@pytest.mark.xfail(reason="healed")
def test_is_known_to_fail_and_passes():
    pass

@pytest.fixture
def broken():
    raise OSError("no such thing: /some/where/file.bin")

def test_has_a_broken_fixture(broken):
    pass

@pytest.fixture
def untidy():
    yield
    raise OSError("left behind")

def test_has_a_broken_end(untidy):
    pass

def test_asks_for_nothing_known(nothing_known):
    pass
"""


@pytest.fixture(name="tree")
def a_checkout(tmp_path):
    """Return a function that makes a checkout of files of tests, and returns its root."""
    return functools.partial(checkout, tmp_path / "checkout")


# Whole runs.


def test_a_good_run_passes(tree):
    document, path = run(tree(test_it=HEAD + "def test_one():\n    assert True\n", test_else="def test_without_mark():\n    assert 0\n"))
    assert outcomes(document) == {"test_one": "passed"}
    assert read(path)["footer"] == dict.fromkeys(OUTCOMES, 0) | {"passed": 1, "total": 1}
    assert all_passed(document)


def test_every_outcome_keeps_its_name(tree):
    document, path = run(tree(test_mixed=HEAD + MIXED))
    assert outcomes(read(path)) == {
        "test_a_fails": "failed",
        "test_asks_for_nothing_known": "error",
        "test_b_passes": "passed",
        "test_has_a_broken_end": "error",
        "test_has_a_broken_fixture": "error",
        "test_is_known_to_fail": "xfailed",
        "test_is_known_to_fail_and_passes": "failed",  # xfail_strict
        "test_skips": "skipped",
        "test_warns": "failed",
    }
    nodeids = [record["nodeid"] for record in document["tests"]]
    assert nodeids == sorted(nodeids)
    assert not all_passed(document)


def test_reasons_are_told_without_folders(tree, tmp_path):
    _, path = run(tree(test_mixed=HEAD + MIXED))
    said = reasons(read(path))
    assert said["test_skips"] == "needs two devices"
    assert said["test_is_known_to_fail"] == "a known bug"
    assert said["test_has_a_broken_fixture"] == "OSError: no such thing: .../file.bin"
    assert said["test_b_passes"] is None
    assert str(tmp_path) not in path.read_text()


def test_files_without_gpu_tests_are_not_even_collected(tree):
    document, _ = run(tree(test_it=HEAD + "def test_one():\n    pass\n", test_cli="import not_installed_here.part\n", test_bad="1 / 0\n"))
    assert outcomes(document) == {"test_one": "passed"}
    assert all_passed(document)


@pytest.mark.parametrize("source", ["import not_installed_here\n", "x = 1 / 0\n"], ids=["missing", "broken"])
def test_a_file_that_cannot_be_imported_is_an_error(tree, source):
    document, path = run(tree(test_it=HEAD + "def test_one():\n    pass\n", test_bad=HEAD + source))
    assert outcomes(read(path)) == {"test_one": "passed", "tests/test_bad.py": "error"}
    assert not all_passed(document)


def test_no_test_at_all_is_no_success(tree):
    document, path = run(tree(test_else="def test_without_mark():\n    pass\n"))
    assert read(path)["footer"]["total"] == 0
    assert not all_passed(document)


def test_a_library_may_warn_at_its_import(tree):
    root = tree(test_it=HEAD + "def test_one():\n    import warns_at_import\n")
    (root / "warns_at_import.py").write_text("import warnings\nwarnings.warn('old', DeprecationWarning)\n")
    assert all_passed(run(root, preload=("warns_at_import", "not_installed_here"))[0])


def test_without_preloading_that_warning_is_a_failure(tree):
    root = tree(test_it=HEAD + "def test_one():\n    import warns_at_import\n")
    (root / "warns_at_import.py").write_text("import warnings\nwarnings.warn('old', DeprecationWarning)\n")
    assert not all_passed(run(root)[0])


# What a test may record.


def test_figures_stand_in_the_results(tree):
    source = """
        def test_measures(record_property):
            record_property("median_ns", 1200)
            record_property("calls", ["cudaEventRecord"])

        def test_measures_nothing():
            pass
        """
    document, path = run(tree(test_it=HEAD + textwrap.dedent(source)))
    assert read(path) == document
    first, second = document["tests"]
    assert first["figures"] == {"median_ns": 1200, "calls": ["cudaEventRecord"]}
    assert "figures" not in second


# Runs that die: each costs one test.

THREE = """
import time

def test_1():
    pass

def test_2():
    {}

def test_3():
    pass
"""


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("os.abort()", "the process ended here: ended by SIGABRT"),
        ("os._exit(0)", "the process ended here: it ended without a word"),
        ("time.sleep(600)", "the process ended here: no end after 3 seconds"),
        ("raise KeyboardInterrupt", "the process ended here: exit status 2"),
        ("pytest.exit('enough')", "the process ended here: exit status 2"),
    ],
    ids=["aborts", "exits", "hangs", "is-interrupted", "ends-pytest"],
)
def test_what_ends_the_process_costs_one_test(tree, statement, reason):
    document, path = run(tree(test_it=HEAD + THREE.format(statement)), limit=3.0)
    assert outcomes(read(path)) == {"test_1": "passed", "test_2": "crash", "test_3": "passed"}
    assert reasons(document)["test_2"] == reason
    assert not all_passed(document)
    assert f"crash: tests/test_it.py::test_2: {reason}\ntests: 2 passed, 1 crash" in gpu.summary(document)


@pytest.mark.parametrize("statement", ["os.abort()", "os._exit(0)", "__import__('time').sleep(600)"])
def test_a_file_that_ends_the_process_when_it_is_imported_costs_itself(tree, statement):
    document, path = run(tree(test_bad=HEAD + f"{statement}\n", test_it=HEAD + "def test_one():\n    pass\n"), limit=3.0)
    assert outcomes(read(path)) == {"test_one": "passed", "tests/test_bad.py": "crash"}
    assert not all_passed(document)


def test_several_crashes_in_a_row(tree):
    source = "@pytest.mark.parametrize('n', range(6))\ndef test_n(n):\n    assert n % 3 or os.abort()\n"
    document, _ = run(tree(test_it=HEAD + source))
    assert list(outcomes(document).values()) == ["crash", "passed", "passed", "crash", "passed", "passed"]


def test_what_hangs_once_all_is_done_is_not_waited_for(tree, monkeypatch):
    monkeypatch.setattr("tools.supervise.END_S", 1.0)
    source = "import atexit, time\natexit.register(time.sleep, 600)\ndef test_one():\n    pass\n"
    begun = time.monotonic()
    document, _ = run(tree(test_it=HEAD + source), limit=30.0)
    assert all_passed(document)
    assert time.monotonic() - begun < 20


def test_what_hangs_before_the_first_test_has_a_limit(tree):
    root = tree(test_it=HEAD + "def test_one():\n    pass\n", conftest="import time\ntime.sleep(600)\n")
    document, _ = run(root, limit=1.5)
    assert document["stopped"] == "no end after 1.5 seconds"


POISONS = """
from tools import recorder

broken = []
recorder.context_fault.__code__ = (lambda: "CUDA_ERROR_ILLEGAL_ADDRESS" if __import__("sys").modules.get("broken_context") else "").__code__

def test_1_passes_and_leaves_a_dead_context():
    import sys
    sys.modules["broken_context"] = sys

def test_2_fails_and_leaves_one():
    test_1_passes_and_leaves_a_dead_context()
    assert 1 == 2

def test_3():
    pass
"""


def test_a_dead_context_costs_the_test_that_left_it(tree):
    document, path = run(tree(test_it=HEAD + POISONS))
    assert list(outcomes(read(path)).values()) == ["failed", "failed", "passed"]
    said = reasons(document)
    assert said["test_1_passes_and_leaves_a_dead_context"] == "it left a dead CUDA context: CUDA_ERROR_ILLEGAL_ADDRESS"
    assert said["test_2_fails_and_leaves_one"].startswith("assert 1 == 2; it left a dead CUDA context")


def test_a_run_that_never_gets_to_a_test_is_given_up(tree):
    root = tree(test_it=HEAD + "def test_one():\n    pass\n", conftest="import os\nos._exit(5)\n")
    document, path = run(root)
    assert document["stopped"] == "exit status 5"
    with pytest.raises(IncompleteError, match="exit status 5"):
        read(path)


# The file.


def test_a_footer_that_does_not_add_up_is_refused(tree, tmp_path):
    document, _ = run(tree(test_it=HEAD + "def test_one():\n    pass\n"))
    write(document | {"tests": []}, tmp_path / "x.json")
    with pytest.raises(IncompleteError, match="the footer says"):
        read(tmp_path / "x.json")


def test_another_schema_is_refused(tmp_path):
    write({"schema": 99}, tmp_path / "x.json")
    with pytest.raises(IncompleteError, match="schema is 99"):
        read(tmp_path / "x.json")


def test_a_test_without_an_end_makes_no_footer():
    found = [{"event": "collected", "tests": ["t"]}, {"event": "started", "item": "t"}, {"event": "finished"}]
    document = compose(found, FACTS)
    assert "footer" not in document
    assert outcomes(document) == {"t": "not-run"}


def test_what_takes_long_comes_last(tree):
    source = "@pytest.mark.slow\ndef test_1():\n    pass\n\ndef test_2():\n    pass\n"
    root = tree(test_it=HEAD + source)
    (root / "pyproject.toml").write_text((root / "pyproject.toml").read_text().replace("markers = [", 'markers = ["slow: long", '))
    given = as_run(root)
    journal = Journal(root / "events.jsonl")
    words = [*gpu.PYTEST, "--record", str(journal.path), "tests/test_it.py"]
    gpu.launch(given.watched(*words), until=time.monotonic() + 60)
    (collected,) = [event["tests"] for event in journal.events() if event["event"] == "collected"]
    assert collected == ["tests/test_it.py::test_2", "tests/test_it.py::test_1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("E: '/a/b/c.py' and C:\\x\\y\\z.txt", "E: '.../c.py' and .../z.txt"),
        ("float32/float64, a/b, 1 / 2, https://example.org/a/b", "float32/float64, a/b, 1 / 2, https://example.org/a/b"),
    ],
)
def test_anonymous(text, said):
    assert anonymous(text) == said


def test_a_reason_is_one_line_and_not_long():
    assert line("\n\n  first \nsecond") == "first"
    assert len(line("x" * 1000)) == 300
    assert line("") == ""
