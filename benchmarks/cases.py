"""The cases on the host: 8x8 float32 unless a title says otherwise, one thread.

The budgets are the project's promises. A row without a budget is there to be read: what a call costs that needs a decision
(the general way), and what the peers cost.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.case import Case, Reference

__all__ = ["CASES", "WITHOUT_EXTENSION"]

RAW = Reference("t.numpy()")
NOTHING = Reference("t.numpy()", budget=0.5, or_ns=400)

TO_NUMPY = Case(
    id="to-numpy",
    title="A tensor, shared with NumPy",
    call="to_numpy(t)",
    references=(
        Reference("t.numpy()", budget=1.35),
        Reference("t.detach().cpu().numpy()", budget=0.75),
        Reference("np.asarray(t)"),
        Reference("np.from_dlpack(t)"),
        Reference("tvm_ffi.from_dlpack(t)"),
    ),
)
DETACH = Case(
    id="to-numpy-detach",
    title="A parameter, detached and shared with NumPy",
    call='to_numpy(p, grad="detach")',
    references=(Reference("p.detach().cpu().numpy()", budget=1.0),),
)
TO_TORCH = Case(
    id="to-torch",
    title="An ndarray, shared with torch",
    call="to_torch(a)",
    references=(
        Reference("torch.from_numpy(a)", budget=1.5),
        Reference("torch.from_dlpack(a)", budget=0.7),
        Reference("torch.asarray(a)"),
    ),
)
NUMPY_ITSELF = Case(id="numpy-itself", title="An ndarray, asked for as NumPy", call="to_numpy(a)", references=(NOTHING,))
TORCH_ITSELF = Case(id="torch-itself", title="A tensor, asked for as torch", call="to_torch(t)", references=(NOTHING,))

QUICK = (TO_NUMPY, DETACH, TO_TORCH, NUMPY_ITSELF, TORCH_ITSELF)

LARGE = (
    Case(
        id="to-numpy-large",
        title="A tensor of 1 GiB costs what a small one costs",
        call="to_numpy(large_t)",
        references=(Reference("to_numpy(t)", budget=1.2),),
        note="1 GiB",
    ),
    Case(
        id="to-torch-large",
        title="An ndarray of 1 GiB costs what a small one costs",
        call="to_torch(large_a)",
        references=(Reference("to_torch(a)", budget=1.2),),
        note="1 GiB",
    ),
)

LONG = (
    Case(
        id="to-numpy-strict",
        title="A tensor, shared with NumPy, under the strict policy",
        call="to_numpy(t)",
        references=(RAW,),
        note="strict policy",
        scope='policy("strict")',
    ),
    Case(id="to-numpy-long", title="The general way to NumPy", call="to_numpy(t, copy=None)", references=(RAW,)),
    Case(
        id="to-torch-long",
        title="The general way to torch",
        call="to_torch(a, copy=None)",
        references=(Reference("torch.from_numpy(a)"),),
    ),
    Case(
        id="to-numpy-copy",
        title="A copy, under its own name",
        call="to_numpy(t, copy=True)",
        references=(Reference("t.numpy().copy()"),),
    ),
    Case(
        id="to-numpy-bfloat16",
        title="bfloat16, which NumPy does not have itself",
        call="to_numpy(b)",
        note="bfloat16",
        references=(Reference("b.view(torch.int16).numpy().view(ml_dtypes.bfloat16)"), Reference("b.float().numpy()")),
    ),
    Case(id="convert", title="The general verb", call='convert(t, "numpy")', references=(RAW,)),
    Case(id="explain", title="The plan alone", call='explain(t, "numpy")', references=(RAW,)),
    Case(id="describe", title="The description alone", call="describe(t)", references=(RAW,)),
)

TREE = (
    Case(
        id="tree",
        title="A tree costs what its leaves cost one by one",
        call='tree.convert(model, "numpy")',
        references=(Reference("[to_numpy(x) for x in leaves]", budget=1.5),),
        note="10,000 tensors",
    ),
    Case(
        id="tree-copy",
        title="A tree costs what its leaves cost one by one, also the general way",
        call='tree.convert(model, "numpy", copy=True)',
        references=(Reference("[to_numpy(x, copy=True) for x in leaves]", budget=1.5),),
        note="10,000 tensors",
    ),
    Case(
        id="tree-records",
        title="A list of dataclasses, each of which is rebuilt",
        call='tree.convert(records, "numpy")',
        references=(Reference("[to_numpy(x) for x in leaves]", budget=1.5),),
        note="10,000 tensors in dataclasses of ten",
    ),
    Case(
        id="tree-singles",
        title="The worst of the plain trees: a dataclass or a dict for each tensor",
        call='tree.convert(singles, "numpy")',
        references=(Reference("[to_numpy(x) for x in leaves]", budget=1.5),),
        note="10,000 tensors, half of them in a dataclass, half in a dict of their own",
    ),
)

NEUTRAL = (
    Case(
        id="neutral-numpy",
        title="A neutral function that returns its argument, an ndarray",
        call="same(a)",
        references=(Reference("array_namespace(a)", budget=2.5),),
    ),
    Case(
        id="neutral-torch",
        title="A neutral function that returns its argument, a tensor",
        call="same(t)",
        references=(Reference("array_namespace(t)", budget=2.5),),
    ),
    Case(
        id="neutral-runs-on",
        title="A function written for NumPy, called with a tensor: there and back",
        call="plus(t)",
        references=(Reference("torch.from_numpy(t.numpy() + 0)"),),
    ),
)

# Last: importing jax starts its threads.
JAX = (
    Case(
        id="to-numpy-jax",
        title="A jax array, through DLPack, to NumPy",
        call="to_numpy(j)",
        note="jax",
        references=(Reference("np.asarray(j)"), Reference("np.from_dlpack(j)")),
    ),
    Case(
        id="to-torch-jax",
        title="A jax array, through DLPack, to torch",
        call="to_torch(j)",
        note="jax",
        references=(Reference("torch.from_dlpack(j)"),),
    ),
    Case(
        id="neutral-jax",
        title="A neutral function that returns its argument, a jax array",
        call="same(j)",
        references=(Reference("array_namespace(j)", budget=2.5),),
    ),
)

AUTOGRAD = (
    Case(
        id="autograd",
        title="A wrapped function, forward and backward, costs what a torch.autograd.Function by hand costs",
        call="gradient(wrapped(p), p, ones)",
        references=(
            Reference("gradient(by_hand(p), p, ones)", budget=1.25),
            Reference("gradient(with_ctx(p), p, ones)"),
        ),
    ),
)

CASES: tuple[Case, ...] = (*QUICK, *LARGE, *LONG, *TREE, *NEUTRAL, *AUTOGRAD, *JAX)
"""What is measured with interop as it is installed."""


def _for_information(case: Case) -> Case:
    """Return the case as it is measured without the compiled extension: the budgets are promised with it."""
    references = tuple(Reference(reference.statement) for reference in case.references if reference.budget is not None)
    words = "without the extension"
    return replace(case, id=f"{case.id}-without-extension", title=f"{case.title}, {words}", references=references, note=words)


WITHOUT_EXTENSION: tuple[Case, ...] = tuple(map(_for_information, QUICK))
"""What is measured where only the fast path in Python is there."""
