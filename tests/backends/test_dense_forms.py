"""Tensors that have one dense form: what can make it is asked to, with ``layout="dense"``; and masks of torch that mask nothing."""

import warnings

import numpy as np
import pytest
import torch

import interop
from interop import CopyError, GradError, InteropError, LayoutError, MaskError, describe, explain, shares_memory, to_numpy

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")


class Quantized(torch.Tensor):
    """A tensor that stands for the numbers that its `dequantize` makes, as torchao's do."""

    made_dtype = torch.float32

    @staticmethod
    def __new__(cls, data, scale):
        return torch.Tensor._make_wrapper_subclass(cls, data.shape, dtype=torch.float32)

    def __init__(self, data, scale):
        self.data_of, self.scale = data, scale

    def dequantize(self, output_dtype=None):
        """Return what it stands for."""
        return self.data_of.to(output_dtype or self.made_dtype) * self.scale

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.detach.default:
            return args[0]
        raise NotImplementedError(f"{func} of {cls.__name__}")


class Untold(Quantized):
    """One that has to be told more."""

    def dequantize(self, scale):
        """Return what it stands for at a scale."""
        return self.data_of.float() * scale


class Mistaken(Quantized):
    """One that makes something else of itself than it says."""

    made_dtype = torch.float64


def quantized(kind=Quantized):
    return kind(torch.tensor([1, 2, 3], dtype=torch.int8), 0.5)


def nested(*shapes, layout=torch.strided):
    parts = [torch.arange(float(np.prod(shape))).reshape(shape) for shape in shapes]
    return torch.nested.nested_tensor(parts, layout=layout)


REGULAR = {
    "strided": lambda: nested((2, 3), (2, 3)),
    "one": lambda: nested((2, 3)),
    "jagged": lambda: nested((2, 3), (2, 3), layout=torch.jagged),
    "jagged, transposed": lambda: nested((2, 3), (2, 3), layout=torch.jagged).transpose(1, 2),
    "narrowed": lambda: torch.nested.narrow(
        torch.arange(12.0).reshape(2, 6), 1, torch.tensor([0, 1]), torch.tensor([2, 2]), layout=torch.jagged
    ),
    "empty parts": lambda: nested((0, 3), (0, 3), layout=torch.jagged),
    "wrapper": quantized,
}


def parts_of(x):
    return torch.stack(x.unbind()) if x.is_nested else torch.tensor([0.5, 1.0, 1.5])


@pytest.mark.parametrize("make", REGULAR.values(), ids=REGULAR)
def test_what_has_a_dense_form_converts(make):
    x = make()
    seen = describe(x)
    assert seen.densifies
    assert seen.shape == tuple(parts_of(x).shape)
    assert explain(x, "numpy").permissions == {"layout": "dense"}
    with pytest.raises(LayoutError) as caught:
        to_numpy(x)
    for words in (caught.value.permissions, {"policy": "coerce"}):
        assert to_numpy(x, **words).tolist() == parts_of(x).tolist()
    with pytest.raises(CopyError):
        to_numpy(x, layout="dense", copy=False)
    assert to_numpy(x, layout="dense", dtype="float64").dtype == np.float64


@pytest.mark.parametrize(
    "make",
    [
        lambda: nested((2, 3), (1, 3)),
        lambda: nested((2, 3), (2, 4)),
        lambda: nested((2, 3), (1, 3), layout=torch.jagged),
        lambda: torch.nested.nested_tensor([]),
        lambda: quantized(Untold),
    ],
    ids=["rows", "columns", "jagged", "nothing", "untold"],
)
def test_what_has_none_is_refused_for_good(make):
    x = make()
    assert not describe(x).densifies
    with pytest.raises(LayoutError) as caught:
        to_numpy(x, policy="coerce")
    assert caught.value.permissions == {}
    assert explain(x, "numpy", policy="coerce").final


def test_a_wrapper_that_makes_something_else_is_refused():
    with pytest.raises(LayoutError, match="float64") as caught:
        to_numpy(quantized(Mistaken), layout="dense")
    assert "x.dequantize()" in caught.value.hint


def test_a_gradient_of_a_nested_tensor_is_not_dropped():
    x = torch.nested.nested_tensor([torch.ones(2), torch.ones(2)], requires_grad=True)
    assert explain(x, "numpy").permissions == {"grad": "detach", "layout": "dense"}
    with pytest.raises(GradError):
        to_numpy(x, layout="dense")
    assert to_numpy(x, layout="dense", grad="detach").tolist() == [[1, 1], [1, 1]]


def test_a_mode_is_not_asked_about_the_lengths():
    class Nothing(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            raise AssertionError(func)

    x = nested((2, 3), (2, 3), layout=torch.jagged)
    with Nothing():
        assert describe(x).shape == (2, 2, 3)


def test_the_quantized_tensors_of_torchao():
    torchao = pytest.importorskip("torchao.quantization", reason="needs torchao")
    layer = torch.nn.Linear(64, 32).bfloat16()
    torchao.quantize_(layer, torchao.Int8WeightOnlyConfig())
    x = layer.weight.detach()
    assert np.array_equal(to_numpy(x, policy="coerce").astype("float32"), x.dequantize().float().numpy())


# Masks of torch


def masked(mask, data=None, **words):
    from torch.masked import masked_tensor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls itself a prototype on every use
        data = torch.arange(2.0) if data is None else data
        return masked_tensor(data, torch.tensor(mask), **words), data


def test_a_mask_of_torch_that_masks_nothing_is_no_mask():
    x, _ = masked([True, True])
    assert not describe(x).masked
    result = to_numpy(x)
    assert result.tolist() == [0, 1]
    assert shares_memory(x, result)
    assert to_numpy(x, dtype="int64").tolist() == [0, 1]


def test_a_masked_element_of_torch_is_enough():
    x, _ = masked([True, False])
    with pytest.raises(MaskError) as caught:
        to_numpy(x)
    result = to_numpy(x, **caught.value.permissions)
    assert result.tolist() == [0, 1]
    assert shares_memory(x, result)


def test_a_masked_tensor_is_tracked_all_the_same():
    x, _ = masked([True, True], requires_grad=True)
    with pytest.raises(GradError):
        to_numpy(x)
    assert to_numpy(x, grad="detach").tolist() == [0, 1]


def test_a_sparse_tensor_masks_what_it_leaves_out():
    from torch.masked import masked_tensor

    data = torch.eye(2).to_sparse()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = masked_tensor(data, data.to(torch.bool))
    assert explain(x, "numpy").permissions == {"mask": "drop", "layout": "dense"}


def unusual():
    dense = torch.ones(2, 2)
    parts = [torch.ones(2), torch.ones(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some announce that they are prototypes, or on their way out
        return {
            "mkldnn": dense.to_mkldnn(),
            "quantized": torch.quantize_per_tensor(dense, 0.1, 0, torch.qint8),
            "nested": torch.nested.nested_tensor(parts),
            "ragged": torch.nested.nested_tensor([torch.ones(3), torch.ones(2)]),
            "jagged": torch.nested.nested_tensor(parts, layout=torch.jagged),
            "coo": dense.to_sparse(),
            "csr": dense.to_sparse_csr(),
            "bsc": dense.to_sparse_bsc((2, 2)),
        }


@pytest.mark.filterwarnings("ignore:.*quantize.*")
@pytest.mark.parametrize(
    "words", [{"dtype": "float64"}, {"dtype": "float16", "device": "meta"}, {"device": "meta"}, {"copy": True}], ids=str
)
@pytest.mark.parametrize("more", [{}, {"copy": False}, {"policy": "strict"}], ids=str)
@pytest.mark.parametrize("name", unusual())
def test_the_plan_knows_what_torch_cannot_do_with_a_layout(name, more, words):
    x, words = unusual()[name], {**more, **words}
    plan = interop.explain(x, "torch", **words)
    cannot = {"mkldnn": {"dtype", "device"}, "quantized": {"device"}, "nested": {"device"}, "ragged": {"device"}}.get(name, set())
    if name == "quantized" and "dtype" in words:  # it is dense from there on
        cannot = set()
    if cannot & words.keys():
        with pytest.raises(InteropError, match=r"torch cannot (cast|move) to \S+ the \w+ layout") as caught:
            interop.convert(x, "torch", **words)
        assert caught.value.permissions == plan.permissions == {}
        assert plan.final
    else:
        made = interop.convert(x, "torch", **{**words, **plan.permissions})
        assert made.device.type == words.get("device", "cpu")
