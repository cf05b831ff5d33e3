"""The public names and their signatures are those of the contract, and spell out every permission."""

import inspect

import pytest

import interop
from interop._engine.call import KEYWORDS, Permissions
from interop._model.policy import FIELDS

VERBS = [interop.convert, interop.to_numpy, interop.to_torch, interop.to_cupy, interop.explain]
COMMON = ["device", "dtype", "copy", "stream", "policy", *(name for name in FIELDS if name != "copy")]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_signatures(verb):
    parameters = inspect.signature(verb).parameters
    keywords = [name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    general = verb in (interop.convert, interop.explain)
    waits = ["blocking"] if verb is interop.to_numpy else []
    assert keywords == ["like"] * general + COMMON + waits
    assert all(parameters[name].default is None for name in keywords)
    positional = [name for name, parameter in parameters.items() if parameter.kind is parameter.POSITIONAL_ONLY]
    assert positional == ["x", "to"][: 1 + general]


def test_the_verbs_that_pass_keywords_on_have_the_same():
    """As a typed dict, so that an editor completes them there too."""
    assert sorted(KEYWORDS) == sorted(["like", *COMMON])
    assert sorted(Permissions.__annotations__) == sorted(["policy", *FIELDS])
    for verb in (interop.tree.convert, interop.tree.explain):
        parameters = inspect.signature(verb).parameters
        assert parameters["as_convert"].annotation == "Unpack[Keywords]"
    assert inspect.signature(interop.neutral).parameters["permissions"].kind is inspect.Parameter.VAR_KEYWORD


def test_public_names():
    contract = [
        "array_namespace",
        "convert",
        "guard",
        "neutral",
        "record",
        "tree",
        "to_numpy",
        "to_torch",
        "to_cupy",
        "Policy",
        "STRICT",
        "DEFAULT",
        "COERCE",
        "policy",
        "describe",
        "explain",
        "shares_memory",
        "Description",
        "Plan",
        "InteropError",
        "GradError",
        "TransferError",
        "CopyError",
        "ReadOnlyError",
        "DTypeError",
        "LayoutError",
        "MaskError",
        "NoDataError",
        "UnsupportedTypeError",
        "BackendNotInstalledError",
        "DeviceUnavailableError",
        "MixedBackendsError",
        "StreamError",
        "Transfer",
    ]
    assert set(contract) <= set(interop.__all__)
    assert all(hasattr(interop, name) for name in interop.__all__)


@pytest.mark.parametrize("name", interop.__all__)
def test_everything_public_is_documented(name):
    assert getattr(interop, name).__doc__
