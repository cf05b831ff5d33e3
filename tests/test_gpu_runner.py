"""`make gpu`, without a GPU: its runner over small trees of tests that pass, fail, skip, abort and hang."""

import json
import re
import shutil
import textwrap
from pathlib import Path

import pytest

from benchmarks.environment import NoDeviceError
from conformance.gpu import SECONDS
from tools import gpu
from tools.recorder import anonymous, line
from tools.results import OUTCOMES, IncompleteError, all_passed, compose, read, write

FACTS = {"gpu": "Test Device 9", "versions": {"torch": "2.11.0", "cupy-cuda13x": "14.2.0"}}

CONFIG = """
[tool.pytest.ini_options]
addopts = ["-ra", "--strict-markers", "--strict-config", "--doctest-modules", "--import-mode=importlib"]
xfail_strict = true
filterwarnings = ["error"]
markers = ["gpu: needs a CUDA device"]
"""

HEAD = "import os, pytest\npytestmark = pytest.mark.gpu\n"

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


@pytest.fixture
def tree(tmp_path):
    """Return a function that makes a checkout of these files, and returns its root."""
    root = tmp_path / "checkout"

    def make(**files):
        (root / "tests").mkdir(parents=True)
        (root / "pyproject.toml").write_text(CONFIG)
        for name, source in files.items():
            (root / "tests" / f"{name}.py").write_text(textwrap.dedent(source))
        return root

    return make


def run(root, seconds=120.0, preload=()):
    path = root / "results" / "gpu.json"
    document = gpu.record_tests(path, FACTS, root=root, seconds=seconds, preload=preload)
    assert json.loads(path.read_text()) == document
    return document, path


def outcomes(document):
    return {record["nodeid"].rpartition("::")[2]: record["outcome"] for record in document["tests"]}


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
    reasons = {record["nodeid"].rpartition("::")[2]: record["reason"] for record in read(path)["tests"]}
    assert reasons["test_skips"] == "needs two devices"
    assert reasons["test_is_known_to_fail"] == "a known bug"
    assert reasons["test_has_a_broken_fixture"] == "OSError: no such thing: .../file.bin"
    assert reasons["test_b_passes"] is None
    assert str(tmp_path) not in path.read_text()


def test_a_file_without_gpu_tests_may_lack_its_libraries(tree):
    document, _ = run(tree(test_it=HEAD + "def test_one():\n    pass\n", test_cli="import not_installed_here.part\n"))
    assert outcomes(document) == {"test_one": "passed", "tests/test_cli.py": "not-run"}
    assert all_passed(document)
    assert "not-run: tests/test_cli.py: no GPU tests in it, and it needs not_installed_here" in gpu.summary(document)


@pytest.mark.parametrize("source", [HEAD + "import not_installed_here\n", "x = 1 / 0\n"], ids=["with-gpu-tests", "broken"])
def test_any_other_file_that_cannot_be_imported_is_an_error(tree, source):
    document, path = run(tree(test_it=HEAD + "def test_one():\n    pass\n", test_bad=source))
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


# Runs that die.


def test_an_abort_leaves_a_file_that_says_so(tree):
    source = "def test_1():\n    pass\n\ndef test_2():\n    os.abort()\n\ndef test_3():\n    pass\n"
    document, path = run(tree(test_it=HEAD + source))
    assert outcomes(document) == {"test_1": "passed", "test_2": "crash"}
    assert document["died"] == {"because": "ended by SIGABRT", "during": "tests/test_it.py::test_2", "missing": 2}
    with pytest.raises(IncompleteError, match="no footer: ended by SIGABRT"):
        read(path)
    assert not all_passed(document)
    assert "the run died (ended by SIGABRT), during tests/test_it.py::test_2; 2 of its tests have no result" in gpu.summary(document)


def test_a_hanging_run_is_stopped_and_says_so(tree):
    document, path = run(tree(test_it=HEAD + "import time\ndef test_hangs():\n    time.sleep(600)\n"), seconds=2.0)
    assert document["died"]["because"] == "stopped after 2 seconds"
    with pytest.raises(IncompleteError, match="stopped after 2 seconds"):
        read(path)


@pytest.mark.parametrize("source", ["import os; os._exit(0)\n", "raise KeyboardInterrupt\n"])
def test_a_run_that_ends_while_it_collects_is_refused(tree, source):
    document, path = run(tree(test_it=HEAD + "def test_one():\n    pass\n", test_bad=source))
    assert not all_passed(document)
    with pytest.raises(IncompleteError):
        read(path)


def test_an_early_stop_is_refused_even_with_status_0(tree):
    document, path = run(tree(test_it=HEAD + "def test_1():\n    os._exit(0)\n\ndef test_2():\n    pass\n"))
    assert document["died"]["because"] == "it ended without telling"
    with pytest.raises(IncompleteError):
        read(path)


def test_before_the_run_ends_the_file_is_refused(tree):
    source = """
        from tools.results import IncompleteError, read

        def test_reads_its_own_results():
            with pytest.raises(IncompleteError, match="begun and not ended"):
                read("results/gpu.json")
        """
    assert all_passed(run(tree(test_it=HEAD + textwrap.dedent(source)))[0])


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
    found = [{"event": "collected", "count": 1}, {"event": "started", "nodeid": "t"}, {"event": "finished", "status": 0}]
    assert "footer" not in compose(found, FACTS, "odd")


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


# The command.

CONFORMANCE = "raise SystemExit(%d)\n"

BENCHMARK = """
import json, pathlib, sys
path = pathlib.Path(sys.argv[sys.argv.index("--output") + 1])
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(json.dumps({"fake": True}))
raise SystemExit(%d)
"""


def checkout(tree, source, conforms=0, measured=0):
    root = tree(test_it=HEAD + source)
    for name, text in (("conformance", CONFORMANCE % conforms), ("benchmarks", BENCHMARK % measured)):
        (root / name).mkdir()
        (root / name / "__init__.py").touch()
        (root / name / "gpu.py").write_text(text)
    return root


@pytest.mark.parametrize(
    ("source", "conforms", "measured", "expected"),
    [("assert True", 0, 0, 0), ("assert False", 0, 0, 1), ("os.abort()", 0, 0, 1), ("assert True", 1, 0, 1), ("assert True", 0, 1, 1)],
    ids=["good", "failing", "aborting", "with-findings", "benchmark-failing"],
)
def test_the_command_writes_both_files_and_judges(tree, tmp_path, capsys, source, conforms, measured, expected):
    root, output = checkout(tree, f"def test_one():\n    {source}\n", conforms, measured), tmp_path / "out"
    assert gpu.main(["--output", str(output), "--root", str(root)], lambda: FACTS) == expected
    files = sorted(path.relative_to(output).as_posix() for path in output.rglob("*.json"))
    assert files == [f"{folder}/results/gpu-test-device-9-torch2.11-cupy14.2.json" for folder in ("benchmarks", "conformance")]
    said = capsys.readouterr().out
    assert f"conformance: {'exit status 1' if conforms else 'done'}" in said
    assert f"benchmarks: {'exit status 1' if measured else 'done'}" in said


def test_what_is_compiled_is_built_in_its_folder_where_it_is_missing(tmp_path, monkeypatch):
    project = Path(__file__).parent.parent
    (tmp_path / "interop").mkdir()
    for path in [project / "setup.py", *(project / "interop").glob("*.[ch]")]:
        shutil.copy(path, tmp_path / path.relative_to(project))
    assert gpu.build(tmp_path) == ""
    built = {path.name.partition(".")[0]: path.stat().st_mtime_ns for path in (tmp_path / "interop").glob("*.so")}
    assert sorted(built) == ["_async_pool", "_lend", "_quick"]
    monkeypatch.setattr(gpu, "launch", pytest.fail)  # and not again
    assert gpu.build(tmp_path) == ""


def test_what_cannot_be_built_is_named(tmp_path):
    (tmp_path / "setup.py").write_text("raise SystemExit('no compiler')\n")
    assert gpu.build(tmp_path) == "interop._quick, interop._lend, interop._async_pool could not be built"


def test_the_list_of_what_is_compiled_is_that_of_the_setup():
    text = Path(__file__).parent.parent.joinpath("setup.py").read_text()
    assert sorted(re.findall(r'"(interop\._\w+)"', text)) == sorted(gpu.COMPILED)


def test_the_environment_can_be_named(tree, tmp_path):
    root = checkout(tree, "def test_one():\n    pass\n")
    assert gpu.main(["--output", str(tmp_path / "out"), "--root", str(root), "--name", "floor"], lambda: FACTS) == 0
    assert read(tmp_path / "out" / "conformance" / "results" / "gpu-floor.json")["environment"] == FACTS


def test_without_a_device_nothing_is_run_or_written(tmp_path, capsys):
    def probe():
        raise NoDeviceError("torch does not see one")

    assert gpu.main(["--output", str(tmp_path)], probe) == gpu.NO_DEVICE == 3
    assert capsys.readouterr().err.startswith("no CUDA device: torch does not see one. Nothing was run")
    assert list(tmp_path.iterdir()) == []


def test_the_time_limits_leave_room_in_ten_minutes():
    assert gpu.BUILD_S + gpu.TESTS_S + gpu.CONFORMANCE_S + gpu.BENCHMARKS_S <= 10 * 60 - 20
    assert SECONDS < gpu.CONFORMANCE_S, "it gives up by itself, and leaves no process behind"


def test_the_tests_of_this_project_can_be_collected_that_way():
    root = Path(__file__).parent.parent
    command = [*gpu.PYTEST, "--collect-only", "-q", "tests/test_gpu_runner.py"]
    assert gpu.launch(command, root=root, seconds=120.0) == "exit status 5"  # none is marked gpu
