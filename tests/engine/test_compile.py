"""interop inside of what `torch.compile` compiles: left alone, traced, or refused in torch's own words."""

import functools
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

import interop
from tests.engine.compiled_code import BROKEN, LEFT_ALONE, LOOKED_INTO, TRACED

QUICK = ("to_numpy bfloat16", "convert", "tree.convert copy", "neutral runs_on", "policy", "plain", "dict", "like first")
ALONE = tuple(name for name in (*LEFT_ALONE, *BROKEN) if name != "policy made outside")


@functools.cache
def results(which):
    """Return the reports of cases, each run in a fork of a process in which interop was never called."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.engine.compiled_code", *which]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    return dict(map(json.loads, done.stdout.splitlines()))


def report(name, backend="eager", *more):
    """Return the report of a case; those that are run together are run once."""
    quick = name in QUICK and backend == "eager"
    names = QUICK if quick else [one for one in (*LEFT_ALONE, *LOOKED_INTO, *TRACED, *BROKEN) if one not in QUICK or backend != "eager"]
    if backend == "inductor":
        names = (name,)
    found = results((*(f"{one}@{backend}" for one in names), *more))[f"{name}@{backend}"]
    assert "error" not in found, found
    return found


def cases(names):
    return pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in names])


@cases(LEFT_ALONE)
def test_what_interop_does_is_left_alone(name):
    """The first call of all is the one in compiled code; the compiler's own view is the measure."""
    found = report(name)
    assert found["seen"] == [], found
    assert all(found["same"]), found


@pytest.mark.slow
def test_a_function_that_is_not_left_alone_is_seen():
    """The negative control."""
    assert report("the function inside")["seen"]


@cases(ALONE)
def test_one_graph_of_it_is_refused_in_torchs_words(name):
    whole = report(name)["whole"]
    assert whole.startswith("('Unsupported'"), whole
    assert "interop" in whole


@cases(TRACED)
def test_a_neutral_function_that_converts_nothing_is_one_graph(name):
    found = report(name)
    assert found["graphs"] == 1, found
    assert found["whole"] == "same", found
    assert all(found["same"]), found


@cases(BROKEN)
def test_what_has_to_be_converted_or_refused_breaks_the_graph(name):
    assert all(report(name)["same"])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LEFT_ALONE, *TRACED])
def test_with_gradients_of_aot_autograd(name):
    found = report(name, "aot_eager")
    assert all(found["same"]), found
    assert name in LEFT_ALONE or found["whole"] == "same"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor compiles C++ for the CPU, and there is no g++")
@pytest.mark.parametrize("name", ["neutral runs_on", "plain"])
def test_with_inductor(name):
    assert all(report(name, "inductor")["same"])


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_without_the_compiled_half(name):
    found = report(name, "eager", "without-native")
    assert all(found["same"]), found
    assert name in TRACED or found["seen"] == [], found


def test_a_scope_around_compiled_code_counts():
    shares = torch.compile(lambda x: interop.shares_memory(interop.to_numpy(x), x), backend="eager")
    x, found = torch.ones(3), []
    found.append(shares(x))
    with interop.policy(copy=True):
        found.append(shares(x))
    found.append(shares(x))
    assert found == [True, False, True]
    converted = torch.compile(lambda x: interop.to_numpy(x * 2), backend="eager")
    tracked = torch.ones(3, requires_grad=True)
    with interop.policy(grad="detach"):
        assert converted(tracked).tolist() == [2, 2, 2]
    with pytest.raises(interop.GradError):
        converted(tracked)


# What torch does with read-only arrays (pytorch#112524, pytorch#120868). Where one of these fails, torch has mended it: the known issues end there.


def test_a_read_only_result_inside_is_refused_by_torch_and_a_copy_is_not():
    tracked = torch.ones(3, requires_grad=True)
    for words, works in (({}, False), ({"copy": True}, True), ({"readonly": "share"}, True)):
        torch.compiler.reset()
        compiled = torch.compile(lambda x, words=words: np.sin(interop.to_numpy(x, grad="detach", **words)) + 1, backend="eager")
        if works:
            assert np.allclose(compiled(tracked), np.sin(1) + 1)
        else:
            with pytest.raises(AssertionError, match="nditer"):
                compiled(tracked)
    assert "torch-compile-read-only-refused" in known_issues()


def test_a_read_only_argument_is_made_writable_by_torch():
    source = np.zeros(3)
    source.setflags(write=False)
    torch.compiler.reset()
    torch.compile(lambda a: a + 1, backend="eager")(source)
    assert source.flags.writeable
    assert "torch-compile-read-only-written" in known_issues()


def known_issues():
    from interop.doctor import examine

    return [row["id"] for row in examine()["known_trouble"]]
