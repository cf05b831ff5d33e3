"""The wording of every message stands in one file, and is what is said; each code of an error is in it."""

import pytest

from interop.errors import ERRORS
from tests.messages import CALLS, FILE, difference, render


@pytest.fixture(scope="module")
def said():
    return render()


def test_messages_are_those_in_the_file(said):
    assert not difference(FILE.read_text(), said), "if that is meant: python -m tests.messages"


def test_a_changed_word_is_seen(said):
    """The negative control."""
    assert "+GradError: to_numpy(x)" in difference(said.replace("GradError: to_numpy(x)", "GradError: to_torch(x)", 1), said)


@pytest.mark.parametrize("code", sorted(ERRORS.keys() - {"interop"}))
def test_each_code_is_raised_by_the_first_call_under_its_name(said, code):
    first = said.partition(f"\n== {code}\n")[2].split("\n")[2]
    assert first.startswith(f"{ERRORS[code].__name__}: ")


def test_each_call_is_refused(said):
    answers = said.split("\n>>> ")[1:]
    assert len(answers) == sum(map(len, CALLS.values()))
    for call, _, answer in (one.partition("\n") for one in answers):
        assert "Error: " in answer.splitlines()[0] or ": refused" in answer.splitlines()[0], call
