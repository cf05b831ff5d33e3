"""Nothing is left behind by a Ctrl-C or a full stack, wherever it comes; `tests.interrupting` does the work, in processes of its own."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def swept(group, *names):
    """Return for each body of a group the number of its points, and what was left behind after which."""
    command = [sys.executable, "-m", "tests.interrupting", group, *names]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return {name: (points, found) for name, points, found in map(json.loads, ran.stdout.splitlines())}


@pytest.mark.parametrize(
    ("group", "names"),
    [
        ("torch", ("reversed",)),
        ("blocks", ("policy",)),
        *(pytest.param(group, (), marks=pytest.mark.slow) for group in ("torch", "below", "blocks", "jax")),
    ],
)
def test_an_interrupt_at_any_point_leaves_nothing_behind(group, names):
    """Overrides, modes, levels, streams, JAX's options and trace, NumPy's warnings, context variables: all as they were."""
    results = swept(group, *names)
    assert len(results) >= len(names) > 0 or len(results) > 1
    for name, (points, found) in results.items():
        assert points > 100, name
        assert found == [], name


def test_a_block_that_loses_what_it_entered_is_found():
    """The negative control."""
    ((points, found),) = swept("leaky").values()
    assert points > 100
    assert len(found) == 1
    assert "ExitStack.enter_context" in found[0]
    assert found[0].endswith("overrides: True -> False")


OVERFLOW = """
    import numpy as np, torch, interop
    from interop._model.policy import current_policy
    from interop._model.scope import fast_path_off, in_force
    from interop._watch.ledger import unwatched
    from tests.interrupting import torchs

    tracked, reverse = torch.ones(3, requires_grad=True), np.ones(3)[::-1]
    BLOCKS = {
        "policy": lambda: interop.policy(grad="detach"),
        "guard": lambda: interop.guard(transfers="error"),
        "native guard": lambda: interop.guard(transfers="error", native=True),
        "record": interop.record,
        "unwatched": unwatched,
    }

    def scope(make):
        with make():
            interop.to_torch(reverse)
            interop.to_numpy(tracked, grad="detach")

    def deep(n, make):
        return deep(n - 1, make) if n else scope(make)

    before, overflown = torchs(), 0
    for name, make in BLOCKS.items():
        scope(make)
        for depth in range(800, 998):
            try:
                deep(depth, make)
            except RecursionError:
                overflown += 1
            now = (current_policy(), fast_path_off.get(), in_force("record"), in_force("guard"), in_force("unwatched"), torchs())
            assert now == (interop.DEFAULT, None, [], [], [], before), f"{name} at depth {depth}: {now}"
    print(overflown)
"""


def test_a_stack_that_overflows_leaves_nothing_in_force():
    """A RecursionError at any depth: as a block is entered, inside of it, and as it is left."""
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(OVERFLOW)], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert int(ran.stdout) > 50
