"""The public names of `interop.testing`, and the signatures that editors and `help` show."""

import inspect
import pydoc

import pytest

from interop import testing

FUNCTIONS = [one for one in (getattr(testing, name) for name in testing.__all__) if inspect.isfunction(one)]


def test_dir_shows_the_public_names_only():
    assert dir(testing) == sorted(testing.__all__)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_help_shows_every_parameter(function):
    first = pydoc.render_doc(function, renderer=pydoc.plaintext).splitlines()[2]
    assert first.startswith(f"{function.__name__}(")
    assert "**" not in first
    assert [name for name in inspect.signature(function).parameters if f"{name}: " not in first] == []


def test_the_functions_are_found():
    assert {one.__name__ for one in FUNCTIONS} >= {"assert_close", "assert_no_crossings", "gradcheck", "list_rows"}
