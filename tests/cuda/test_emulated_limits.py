"""The tests that the emulated device is known to be no device for: tests/emulated/limits.toml."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.emulated import limits

ROOT = Path(__file__).parent.parent.parent
LIMITS = tomllib.loads(limits.FILE.read_text())["limit"]


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit["reason"])
def test_each_is_about_tests_that_there_are(limit):
    assert set(limit) == {"tests", "reason"}
    for pattern in limit["tests"]:
        file, _, name = pattern.partition("::")
        function = re.split(r"[\[*?]", name)[0]
        assert re.search(rf"def {function}", (ROOT / file).read_text()), pattern


@pytest.fixture
def some(tmp_path, monkeypatch):
    file = tmp_path / "limits.toml"
    file.write_text("""
[[limit]]
tests = ["tests/a.py::test_x*", "tests/b.py::test_one[1-a]"]
reason = "so it is"
""")
    monkeypatch.setattr(limits, "FILE", file)
    limits._limits.cache_clear()
    yield
    limits._limits.cache_clear()


@pytest.mark.parametrize("name", ["tests/a.py::test_x", "tests/a.py::test_xyz[1-2]", "tests/b.py::test_one[1-a]"])
def test_the_reason_of_a_test(some, name):
    assert limits.reason_for(name) == "so it is"


@pytest.mark.parametrize("name", ["tests/a.py::test_y", "tests/b.py::test_one", "tests/b.py::test_one1", "tests/b.py::test_one[1-b]", ""])
def test_any_other_has_none(some, name):
    assert limits.reason_for(name) is None
