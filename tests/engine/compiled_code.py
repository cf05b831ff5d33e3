"""Code for `torch.compile`, each case in a process in which nothing was called before: what `tests.engine.test_compile` runs.

``python -m tests.engine.compiled_code CASE@BACKEND... [without-native]`` forks for each case, and prints one line of JSON for it.
"""

import json
import os
import sys

if "without-native" in sys.argv:
    sys.modules["interop.native.fastpath"] = None

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import torch
from torch._dynamo import convert_frame, symbolic_convert

import interop
from interop import array_namespace, neutral

FOLDER = os.path.dirname(interop.__file__) + os.sep  # noqa: PTH120 # a prefix of file names


@neutral(runs_on="numpy", grad="detach")
def sine(x):
    return np.sin(x)


@neutral(to="numpy", grad="detach")
def moved(x, *, xp=None):
    return xp.sin(x)


@neutral(runs_on="numpy", grad="bridge")
def doubled(x):
    return x * 2


@doubled.backward
def _(ctx, grad):
    return grad * 2


@interop.policy(copy=True)
def copied(x):
    return interop.shares_memory(interop.to_numpy(x), x)


def scope_inside(x):
    with interop.policy(grad="detach"):
        return float(interop.to_numpy(x * 2).sum())


detaching = interop.policy(grad="detach")


def scope_made_outside(x):
    with detaching:
        return float(interop.to_numpy(x * 2).sum())


def recorded(x):
    with interop.record() as log:
        sine(x)
        interop.to_numpy((x * 2).detach(), copy=True)
    return log.bytes_copied, [(one.source.backend, one.target) for one in log.crossings]


def guarded(x):
    with interop.guard(copies="error"):
        interop.to_numpy(x.detach())
        try:
            interop.to_numpy(x.detach(), copy=True)
        except interop.CopyError as error:
            return error.code


def generator(x):
    return next(interop.to_numpy(one.detach(), copy=True) for one in (x,))  # a generator is no frame that the compiler takes


LEFT_ALONE = {
    "to_numpy": lambda x: interop.to_numpy((x * 2).detach()) + 1,
    "to_numpy copy": lambda x: interop.to_numpy(x, grad="detach", copy=True) + 1,
    "to_numpy share": lambda x: interop.to_numpy(x, grad="detach", readonly="share") + 1,
    "to_numpy bfloat16": lambda x: interop.to_numpy(x.detach().bfloat16()).astype("float32") + 1,
    "to_numpy dtype": lambda x: interop.to_numpy(x.detach(), dtype="float64") + 1,
    "to_numpy refused": lambda x: interop.to_numpy(x * 2),
    "to_torch": lambda x: interop.to_torch((x * 2).detach()) + 1,
    "to_torch numpy": lambda x: interop.to_torch(interop.to_numpy(x.detach())) + 1,
    "convert": lambda x: interop.convert((x * 2).detach(), "numpy") + 1,
    "convert like": lambda x: interop.convert(interop.to_numpy(x.detach()), like=x) + 1,
    "explain": lambda x: str(interop.explain(x * 2, "numpy")),
    "describe": lambda x: str(interop.describe(x * 2)),
    "shares_memory": lambda x: interop.shares_memory(x * 2, x),
    "tree.convert": lambda x: interop.tree.convert({"a": [(x * 2).detach()]}, "numpy")["a"][0] + 1,
    "tree.convert copy": lambda x: interop.tree.convert([x, x], "numpy", copy=True, grad="detach")[1] + 1,
    "tree.explain": lambda x: str(interop.tree.explain([x], "numpy")),
    "tree.describe": lambda x: str(interop.tree.describe([x])[0]),
    "neutral runs_on": lambda x: sine(x * 2) + 1,
    "neutral to": lambda x: moved(x * 2) + 1,
    "neutral bridge": lambda x: doubled(x * 2) + 1,
    "policy": scope_inside,
    "policy made outside": scope_made_outside,
    "policy decorates": copied,
    "record": recorded,
    "guard": guarded,
    "generator": generator,
}

LOOKED_INTO = {"the function inside": lambda x: interop.describe.__wrapped__(x * 2).requires_grad}
"""The negative control: not by the public name."""


@neutral
def centred(x, *, xp=None):
    return x - xp.mean(x, axis=0)


@neutral
def several(x, y, z=None, *, scale=2.0, axis=0, xp=None):
    return (x - xp.mean(y, axis=axis)) * scale + (0 if z is None else xp.sum(z))


@neutral
def of_mapping(tree, *, xp=None):
    return tree["a"] - xp.mean(tree["a"], axis=0)


@neutral
def of_items(xs, *, xp=None):
    return xp.concat(xs, axis=0)


@neutral
def of_fields(pair, *, xp=None):
    return xp.sum(pair.a) + xp.sum(pair.b)


@neutral
def cast(x, options, dtype, *, xp=None):
    return xp.astype(x, dtype) * options.factor


@neutral
def without_xp(x, y):
    return x @ y.T


@neutral
def by_position(x, xp=None):
    return xp.exp(x)


@neutral(like="first")
def following(x, y, *, xp=None):
    return x - xp.mean(y, axis=0)


@neutral(like="y", transfer="allow")
def following_second(x, y, *, xp=None):
    return x - xp.mean(y, axis=0)


@neutral(like="first", copy=True)
def following_copies(x, y, *, xp=None):
    return x - xp.mean(y, axis=0)


Pair = namedtuple("Pair", "a b")  # noqa: PYI024 # as people write it


@dataclass
class Fields:
    a: object
    b: object
    n: int = 3


class Options:
    factor = 3

    @neutral
    def method(self, x, *, xp=None):
        return xp.sum(x * self.factor)


class Module(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))

    @neutral
    def forward(self, x, *, xp=None):
        return xp.sum(x * self.weight, axis=0)


options, module = Options(), Module()

TRACED = {
    "plain": lambda x: centred(x) + 1,
    "itself": centred,
    "method": lambda x: options.method(x) + 1,
    "bound method": options.method,
    "forward": module,
    "several": lambda x: several(x, x + 1, z=x, scale=3.0),
    "keywords": lambda x: several(y=x, x=x + 1, axis=1),
    "size": lambda x: several(x, x, scale=x.shape[0]),
    "xp=None": lambda x: centred(x, xp=None),
    "xp given": lambda x: centred(x, xp=array_namespace(x)),
    "xp by position": lambda x: by_position(x, None),
    "no xp": lambda x: without_xp(x, x),
    "dict": lambda x: of_mapping({"a": x}) + 1,
    "ordered dict": lambda x: of_mapping(OrderedDict(a=x)) + 1,
    "nested": lambda x: of_mapping({"a": x, "b": [1, {"c": (x, None)}]}) + 1,
    "list": lambda x: of_items([x, x + 1]),
    "tuple": lambda x: of_items((x, x + 1)),
    "named tuple": lambda x: of_fields(Pair(x, x + 1)),
    "dataclass": lambda x: of_fields(Fields(x, x + 1)),
    "object and dtype": lambda x: cast(x, options, torch.float64),
    "like first": lambda x: following(x, x) + 1,
    "like first itself": lambda x: following(x, y=x),
    "like parameter": lambda x: following_second(x, y=x) + 1,
    "array_namespace": lambda x: array_namespace(x, 1.0, None).mean(x, axis=0),
}

BROKEN = {  # what has to be looked at, or converted, breaks the graph
    "like a NumPy array": lambda x: following(x, np.ones((2, 2), "float32")) + 1,
    "like first copy": lambda x: following_copies(x, x) + 1,
    "mixed": lambda x: several(x, np.ones((2, 2), "float32")),
    "no array": lambda x: centred(3),
}

CASES = LEFT_ALONE | LOOKED_INTO | TRACED | BROKEN
TENSOR = torch.tensor([[1.0, 2.0], [3.0, 6.0]])


def same(a, b):
    """Return whether two results agree in everything that a caller sees."""
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return type(a) is type(b) and a.dtype == b.dtype and a.requires_grad == b.requires_grad and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return type(a) is type(b) and a.dtype == b.dtype and a.flags.writeable == b.flags.writeable and np.array_equal(a, b)
    return a == b


def outcome(function, *args):
    try:
        return function(*args)
    except (interop.InteropError, torch._dynamo.exc.TorchDynamoException) as error:
        return type(error).__name__, str(error)


class Watch:
    """Notes which functions of interop the compiler compiles or looks into, and counts the graphs."""

    def __init__(self):
        self.seen, self.graphs = [], 0
        compile_frame, check = convert_frame.CatchErrorsWrapper.__call__, symbolic_convert.InliningInstructionTranslator.check_inlineable

        def compiling(wrapper, frame, *args):
            made = compile_frame(wrapper, frame, *args)
            if made.guarded_code is not None:
                self.note(frame.f_code)
            return made

        def inlining(func):
            checked = check(func)  # raises for what is left alone
            self.note(func.get_code())
            return checked

        convert_frame.CatchErrorsWrapper.__call__ = compiling
        symbolic_convert.InliningInstructionTranslator.check_inlineable = staticmethod(inlining)

    def note(self, code):
        if code.co_filename.startswith(FOLDER):
            self.seen.append(code.co_name)

    def backend(self, graph, inputs):
        self.graphs += 1
        return graph.forward


def report(name, backend):
    """Run a case: compiled, compiled again, as it is, compiled after a reset, and as one graph."""
    watch, function, x = Watch(), CASES[name], torch.nn.Parameter(TENSOR.clone())
    backend = watch.backend if backend == "eager" else backend
    found = [outcome(torch.compile(function, backend=backend), x) for _ in range(2)]
    graphs, seen = watch.graphs, list(watch.seen)
    wanted = outcome(function, x)
    torch.compiler.reset()
    found.append(outcome(torch.compile(function, backend=backend), x))
    torch.compiler.reset()
    whole = outcome(torch.compile(function, backend=backend, fullgraph=True), x)
    return {
        "same": [same(wanted, one) for one in found],
        "found": repr(found),
        "wanted": repr(wanted),
        "seen": seen,
        "graphs": graphs,
        "whole": "same" if same(wanted, whole) else repr(whole),
    }


def main():
    torch.set_num_threads(1)
    for case in [one for one in sys.argv[1:] if "@" in one]:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            try:
                text = json.dumps(report(*case.split("@")))
            except BaseException as error:  # the test says which case it was
                text = json.dumps({"error": repr(error)})
            with os.fdopen(writing, "w") as pipe:
                pipe.write(text)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        _, status = os.waitpid(child, 0)
        print(json.dumps([case, json.loads(text) if text else {"error": f"status {status}"}]), flush=True)


if __name__ == "__main__":
    main()
