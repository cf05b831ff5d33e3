"""A word that people bring from another library is answered with interop's own for the same thing, by every function alike."""

import numpy as np
import pytest
import torch

import interop
from interop import autograd, backends, cuda, neutral, tree
from interop._engine.call import KEYWORDS
from interop._model.spelling import ELSEWHERE

X = np.ones(2)

VERBS = {
    "to_numpy": lambda **words: interop.to_numpy(torch.ones(2), **words),
    "to_torch": lambda **words: interop.to_torch(X, **words),
    "convert": lambda **words: interop.convert(X, "torch", **words),
    "explain": lambda **words: interop.explain(X, "torch", **words),
    "tree.convert": lambda **words: tree.convert([X], "torch", **words),
    "tree.explain": lambda **words: tree.explain([X], "torch", **words),
    "neutral": lambda **words: neutral(**words)(len),
    "wrap": lambda **words: autograd.wrap(len, **words),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("given", "right"),
    [
        ({"force": True}, "policy='coerce'"),
        ({"writable": True}, "readonly='share'"),
        ({"todense": True}, "layout='dense'"),
        ({"zero_copy": True}, "copy=False"),
    ],
    ids=str,
)
def test_each_function_answers_alike(verb, given, right):
    with pytest.raises(TypeError) as caught:
        VERBS[verb](**given)
    assert f"write {right}." in str(caught.value).partition("Known:")[0]


@pytest.mark.parametrize(
    ("verb", "given", "right"),
    [
        ("to_numpy", {"detach": True}, "grad='detach'"),
        ("neutral", {"detach": True}, "grad='detach'"),
        ("to_numpy", {"non_blocking": True}, "blocking=False"),
        ("to_torch", {"blocking": False}, "stream="),
        ("to_torch", {"requires_grad": True}, "result.requires_grad_()"),
        ("convert", {"backend": "torch"}, "by position"),
        ("convert", {"library": "torch"}, "by position"),
        ("convert", {"runs_on": "torch"}, "by position"),
        ("neutral", {"backend": "numpy"}, "runs_on="),
        ("neutral", {"library": "numpy"}, "runs_on="),
        ("neutral", {"mixed": "first"}, "like='first'"),
        ("wrap", {"backend": "numpy"}, "runs_on="),
        ("wrap", {"library": "numpy"}, "runs_on="),
    ],
    ids=str,
)
def test_the_right_word(verb, given, right):
    with pytest.raises(TypeError) as caught:
        VERBS[verb](**given)
    assert right in str(caught.value).partition("Known:")[0]


def test_a_function_is_told_no_keyword_that_it_has_not():
    """The negative control: gradients are not detached where they flow, so `wrap` has no ``grad=``."""
    with pytest.raises(TypeError) as caught:
        autograd.wrap(len, runs_on="numpy", detach=True)
    assert "grad='detach'" not in str(caught.value)


def test_the_table_names_what_there_is():
    known = {*KEYWORDS, "runs_on", "blocking"}
    for word, answers in ELSEWHERE.items():
        assert answers
        assert all(needed in known and (needed in text or needed in ("stream", "like", "dtype")) for needed, text in answers), word


@pytest.mark.parametrize(
    ("to", "right"),
    [
        ("jnp", "did you mean 'jax'?"),
        ("np", "did you mean 'numpy'?"),
        ("pytorch", "did you mean 'torch'?"),
        ("cp", "did you mean 'cupy'?"),
        ("toch", "did you mean 'torch'?"),
        ("cuda", "device='cuda'"),
        ("cuda:1", "device='cuda:1'"),
        (torch.Tensor, "write 'torch'"),
        (np.ndarray, "write 'numpy'"),
        (torch.float32, "write 'torch'"),
        (torch.device("cpu"), "write 'torch'"),
        (X, "use like="),
    ],
    ids=str,
)
def test_the_target_that_is_meant(to, right):
    with pytest.raises((TypeError, ValueError)) as caught:
        interop.convert(X, to)
    assert right in str(caught.value)


@pytest.mark.parametrize("like", ["torch", torch], ids=["name", "module"])
def test_like_is_an_array(like):
    with pytest.raises(TypeError, match=r"by position, as in \(x, 'torch'\)"):
        interop.convert(X, like=like)


def test_a_container_is_nothing_to_follow():
    with pytest.raises(interop.UnsupportedTypeError, match=r"like= is an array .* list is none"):
        interop.convert(X, like=[X])


@pytest.mark.parametrize(
    "runs_on", [lambda: neutral(runs_on=np.ndarray)(len), lambda: interop.autograd.wrap(len, runs_on=np.ndarray)], ids=["neutral", "wrap"]
)
def test_a_library_is_named_by_the_keyword_that_was_given(runs_on):
    with pytest.raises(TypeError, match=r"runs_on= is .* write 'numpy'"):
        runs_on()


@pytest.mark.parametrize(
    ("block", "word", "right"), [(interop.guard, "copy", "copies"), (interop.guard, "grad", "grads"), (interop.record, "keeep", "keep")]
)
def test_a_block_names_the_keyword_that_is_meant(block, word, right):
    with pytest.raises(TypeError, match=f"did you mean '{right}'"):
        block(**{word: "error"})
    block(**{right: "error"})  # the negative control


@pytest.mark.parametrize(("verb", "right"), [("to_torch", "'cuda:0'"), ("to_numpy", "'cpu'")])
def test_a_device_is_no_number(verb, right):
    with pytest.raises(TypeError, match=f"write device={right}"):
        VERBS[verb](device=0)


@pytest.mark.parametrize(
    ("module", "name", "right"),
    [
        (interop, "to_nump", "to_numpy"),
        (interop, "from_numpy", "interop.to_torch(x)"),
        (tree, "convrt", "convert"),
        (cuda, "torchpool", "torch_pool"),
        (backends, "Backends", "Backend"),
    ],
)
def test_an_attribute_has_its_nearest(module, name, right):
    with pytest.raises(AttributeError, match=name) as caught:
        getattr(module, name)
    assert right in str(caught.value)
    assert not hasattr(module, "__wrapped__")


# What it costs to be told.


def test_entry_points_are_looked_for_once(monkeypatch):
    looked = []
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **words: looked.append(words) or ())
    monkeypatch.setattr(backends, "_points", {})
    for _ in range(3):
        for refused in (object(), "abc", 3, [1]):
            with pytest.raises(interop.UnsupportedTypeError):
                interop.to_numpy(refused)
        with pytest.raises(ValueError, match="toch"):
            interop.convert(X, "toch")
    assert len(looked) == 1


def test_another_import_path_is_looked_at(monkeypatch, tmp_path):
    """The negative control: what is remembered is what was found on this path."""
    looked = []
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **words: looked.append(words) or ())
    monkeypatch.setattr(backends, "_points", {})
    backends.backend_names()
    monkeypatch.syspath_prepend(tmp_path)
    backends.backend_names()
    assert len(looked) == 2


def test_a_refused_class_is_not_held():
    import gc
    import weakref

    def refuse():
        made = type("Made", (), {})
        with pytest.raises(interop.UnsupportedTypeError):
            interop.to_numpy(made())
        return weakref.ref(made)

    left = refuse()
    gc.collect()
    assert left() is None
