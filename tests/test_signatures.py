"""The public names and their signatures are those of the contract, spell out every permission, and are found where one looks for them."""

import importlib
import inspect
import pickle
import pydoc
import re
import subprocess
import sys

import pytest

import interop
from interop import _verbs
from interop._engine.call import KEYWORDS, Permissions
from interop._model.policy import FIELDS

VERBS = [interop.convert, interop.to_numpy, interop.to_torch, interop.to_cupy, interop.to_jax, interop.explain]
COMMON = ["device", "dtype", "copy", "stream", "policy", *(name for name in FIELDS if name != "copy")]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_signatures(verb):
    parameters = inspect.signature(verb).parameters
    keywords = [name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    general = verb in (interop.convert, interop.explain)
    waits = ["blocking"] if verb is interop.to_numpy else []
    assert keywords == waits + ["like"] * general + COMMON
    assert all(parameters[name].default is None for name in keywords)
    positional = [name for name, parameter in parameters.items() if parameter.kind is parameter.POSITIONAL_ONLY]
    assert positional == ["x", "to"][: 1 + general]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_every_keyword_is_passed_on(verb, monkeypatch):
    passed = []
    for name in ("run", "plan_call"):
        monkeypatch.setattr(_verbs, name, passed.append)
    names = [name for name, one in inspect.signature(verb).parameters.items() if one.kind is one.KEYWORD_ONLY and name != "like"]
    given = {name: object() for name in names} | ({"blocking": True} if "blocking" in names else {})
    verb(object(), *(["numpy"] if verb in (interop.convert, interop.explain) else []), **given)
    assert passed[0].keywords == given


@pytest.mark.parametrize("verb", [*VERBS, interop.neutral], ids=lambda verb: verb.__name__)
def test_help_shows_the_signature(verb):
    first = pydoc.render_doc(verb, renderer=pydoc.plaintext).splitlines()[2]
    assert first.startswith(f"{verb.__name__}(")
    words = ["like: ", "to: ", "runs_on: "] if verb is interop.neutral else [f"{name}: " for name in COMMON]
    assert [word for word in words if word not in first] == []


def test_a_verb_in_a_class_is_bound_as_a_function_is():
    class Array:
        numpy = interop.to_numpy
        __array__ = None

    assert Array.numpy is interop.to_numpy
    with pytest.raises(interop.UnsupportedTypeError, match="Array"):
        Array().numpy()


def test_the_verbs_that_pass_keywords_on_have_the_same():
    """As a typed dict, so that an editor completes them there too."""
    assert sorted(KEYWORDS) == sorted(["like", *COMMON])
    assert sorted(Permissions.__annotations__) == sorted(["policy", *FIELDS])
    for verb in (interop.tree.convert, interop.tree.explain):
        parameters = inspect.signature(verb).parameters
        own = ["is_leaf", "others", "objects", "namespace"]
        assert [name for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY] == [*own, *KEYWORDS]
        assert (parameters["others"].default, parameters["objects"].default) == ("keep", "error")
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
        "to_jax",
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


@pytest.mark.parametrize("name", [name for name in interop.__all__ if isinstance(getattr(interop, name), type)])
def test_a_public_class_names_a_public_module(name):
    """A pickle of it is found again wherever the class is defined."""
    one = getattr(interop, name)
    assert one.__module__ in ("interop", "interop.errors")
    assert pickle.loads(pickle.dumps(one)) is one
    assert f"c{one.__module__}\n".encode() in pickle.dumps(one, protocol=0)


MODULES = ["autograd", "backends", "cuda", "dlpack", "doctor", "errors", "notation", "testing", "tree"]


def test_dir_shows_the_public_names_and_modules_alone():
    assert dir(interop) == sorted({*interop.__all__, *MODULES})


@pytest.mark.parametrize("name", MODULES)
def test_a_public_module_is_an_attribute_and_loaded_on_request(name):
    code = f"import interop, sys; print(interop.{name}.__name__)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == f"interop.{name}"


def test_all_names_can_be_imported_without_an_array_library():
    libraries = ["numpy", "torch", "cupy", "jax", "array_api_strict"]
    code = (
        f"import sys\nfrom interop import *\nassert convert and tree and to_jax\nprint([one for one in {libraries} if one in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize("name", [*interop.__all__, *MODULES])
def test_no_module_has_the_name_of_something_else(name):
    try:
        module = importlib.import_module(f"interop.{name}")
    except ModuleNotFoundError:
        assert name not in MODULES
    else:
        assert getattr(interop, name) is module


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("from_numpy", r"interop has no from_numpy: write interop\.convert\(x, 'torch'\) or interop\.to_torch\(x\)"),
        ("as_tensor", r"interop\.to_torch\(x\)"),
        ("to_pytorch", r"interop\.to_torch\(x\)"),
        ("from_torch", r"interop\.to_numpy\(x\)"),
        ("from_dlpack", r"interop\.convert\(x, 'torch'\)"),
        ("asarray", r"interop\.convert\(x, 'torch'\)"),
        ("to_jacks", "did you mean 'to_jax'"),
        ("convrt", "did you mean 'convert'"),
        ("autgrad", "did you mean 'autograd'"),
        ("zzzzzzzz", "no attribute 'zzzzzzzz'"),
        ("_private", "no attribute '_private'$"),
    ],
)
def test_a_name_from_elsewhere_is_answered_with_the_one_to_write(name, says):
    with pytest.raises(AttributeError, match=says):
        getattr(interop, name)
    assert not hasattr(interop, name)


def test_the_verbs_that_an_answer_names_are_there():
    named = {word for answer in interop._ELSEWHERE.values() for word in re.findall(r"interop\.(\w+)", answer)}
    assert named == {"convert", "to_numpy", "to_torch"}
    assert named <= set(dir(interop))
    assert not interop._ELSEWHERE.keys() & set(dir(interop))
