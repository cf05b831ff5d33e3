"""The public names of `interop.autograd`, and the signatures that editors and `help` show."""

import inspect
import pydoc
import typing

import pytest

from interop import autograd
from interop._model.policy import FIELDS

PERMISSIONS = {"policy", *FIELDS} - {"grad"}


def test_dir_shows_the_public_names_only():
    assert dir(autograd) == sorted(autograd.__all__)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            autograd.wrap,
            {"runs_on", "setup_context", "jvp", "vmap", "once_differentiable", "cast_inputs", "name", "fake", "schema"} | PERMISSIONS,
        ),
        (autograd.to_jax, {"fake", "vmap_method", "readonly", "transfer", "policy"}),
    ],
)
def test_help_shows_every_keyword(function, words):
    first = pydoc.render_doc(function, renderer=pydoc.plaintext).splitlines()[2]
    assert first.startswith(f"{function.__name__}(")
    assert [word for word in words if f" {word}: " not in first] == []
    parameters = inspect.signature(function).parameters.values()
    assert {one.name for one in parameters if one.kind is one.KEYWORD_ONLY} == words
    assert words <= typing.get_type_hints(function).keys()


def test_a_keyword_that_to_jax_does_not_have():
    with pytest.raises(TypeError, match="'readonyl' is not a keyword of to_jax; did you mean 'readonly'"):
        autograd.to_jax(len, readonyl="share")
