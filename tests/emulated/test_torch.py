"""torch on the emulated device, where it was built for CUDA: its own runtime is a shared library, in whose place the emulated one is."""

import os
import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.skipif(torch.version.cuda is None, reason="this torch is a build for the CPU")


def run(code, *options, **variables):
    command = [sys.executable, *options, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=os.environ | variables)
    return ended.returncode, ended.stdout + ended.stderr


def test_installing_warns_of_nothing():
    """torch 2.11 warns of the first operator that is replaced."""
    assert run("import torch; assert float(torch.ones(3, device='cuda').sum()) == 3", "-W", "error") == (0, "")


def test_the_warning_is_there_without_that():
    """The negative control."""
    code = """
import torch
library = torch.library.Library("aten", "IMPL")
library.impl("fill_.Scalar", lambda x, value: x, "CUDA", allow_override=True)
"""
    if torch.__version__ < "2.12":
        assert "Warning only once for all operators" in run(code, "-W", "always", INTEROP_EMULATED_LIBRARY="")[1]


@pytest.mark.parametrize("view", [lambda x: x.T, lambda x: x[:, ::2], lambda x: x[1], lambda x: x.expand(2, 3, 4)], ids=range(4))
@pytest.mark.parametrize("dtype", [torch.float32, torch.int8, torch.complex64])
def test_copies_of_every_kind(gpu, view, dtype):
    x = torch.arange(12.0).reshape(3, 4).to(dtype)
    there = view(x.cuda())
    assert torch.equal(there.cpu(), view(x))
    assert torch.equal(there.clone().cpu(), view(x))
    assert torch.equal(there.to(torch.float64).cpu(), view(x).to(torch.float64))
    target = torch.zeros(there.shape, dtype=torch.complex128, device="cuda").transpose(0, -1)
    target.copy_(there.transpose(0, -1))
    assert torch.equal(target.cpu(), view(x).transpose(0, -1).to(torch.complex128))


def test_results_whose_shape_depends_on_the_values(gpu):
    x = torch.tensor([0, 2, 0, 2, 5], device="cuda")
    assert x.nonzero().tolist() == [[1], [3], [4]]
    assert x[x > 0].tolist() == [2, 2, 5]
    assert x.unique().tolist() == [0, 2, 5]


def test_operators_wait_for_their_turn_and_the_host_does_not(gpu):
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        x = torch.zeros(1000, device="cuda")
        stream.synchronize()
        gpu.sleep(stream.cuda_stream)
        x.fill_(3)
        y = (x * 2).add_(1)
        assert not stream.query()
    stream.synchronize()
    assert y.tolist() == [7] * 1000


def test_a_graph_is_replayed(gpu):
    x = torch.ones(8, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = (x * 2).sum()
    for value in (3, 5):
        x.fill_(value)
        graph.replay()
        assert float(y) == 16 * value


def test_inference_tensors(gpu):
    with torch.inference_mode():
        x = torch.ones(3, device="cuda") * 2
        assert x.add_(1).tolist() == [3] * 3
    assert x.is_inference()


def test_gradients_come_from_autograds_own_threads(gpu):
    x = torch.ones(3, device="cuda", requires_grad=True)
    (x.exp() * x).sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach().exp())


def test_two_devices(gpu):
    x = torch.full((1000,), 3.0, device="cuda:1")
    assert x.to("cuda:0").device.index == 0
    assert (x.to("cuda:0") + 1).tolist() == [4] * 1000
    assert torch.cuda.current_device() == 0


def test_a_kernel_that_is_not_known_is_an_error(gpu):
    quantized = torch.quantize_per_tensor(torch.ones(3, device="cuda"), 1.0, 0, torch.qint8)
    with pytest.raises(RuntimeError, match="no kernel image is available"):
        quantized.int_repr()


def test_an_index_past_the_end_breaks_the_context():
    code = """
import torch
try:
    torch.zeros(1, device="cuda")[torch.tensor([5], device="cuda")].tolist()
except torch.AcceleratorError as error:
    print("first", error.error_code)
try:
    torch.cuda.synchronize()
except torch.AcceleratorError as error:
    print("then", error.error_code)
"""
    status, output = run(code)
    assert status == 0
    assert "first 710" in output
    assert "then 710" in output


def test_no_memory_left_is_torchs_own_error(gpu):
    with pytest.raises(torch.cuda.OutOfMemoryError):
        torch.empty(1 << 50, dtype=torch.uint8, device="cuda")


def test_a_child_of_a_process_that_started_it_has_no_device():
    code = """
import os, torch
torch.zeros(3, device="cuda")
child = os.fork()
if not child:
    try:
        torch.zeros(3, device="cuda")
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    assert "Cannot re-initialize CUDA in forked subprocess" in run(code)[1]


def test_asking_nvml_for_devices_starts_nothing(monkeypatch):
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    code = """
import os, torch
assert torch.cuda.is_available()
child = os.fork()
if not child:
    os._exit(int(torch.ones(3, device="cuda").sum()) != 3)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(code) == (0, "")
