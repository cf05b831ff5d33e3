"""Graphs: instances, launches, and how long they live."""

from ctypes import byref, c_size_t, c_ulonglong, c_void_p

import pytest

from tests.emulated.contract.cuda import NOT_READY, SIZE, THREAD_LOCAL, of, on_a_device

pytestmark = on_a_device


@pytest.fixture(name="graph")
def graph_of_two_fills(cuda, stream, memory):
    """Return a graph that fills memory with 3 and then with 4; a test that destroys it says so."""
    made = c_void_p()
    cuda("cudaStreamBeginCapture", stream, THREAD_LOCAL)
    for value in (3, 4):
        cuda("cudaMemsetAsync", memory, value, c_size_t(SIZE), stream)
    cuda("cudaStreamEndCapture", stream, byref(made))
    yield made
    if made:
        cuda("cudaGraphDestroy", made)


def instance(cuda, graph, function="cudaGraphInstantiate"):
    return cuda.get(c_void_p, function, graph, c_ulonglong(0))


@of("cudaGraphInstantiate", "cudaGraphInstantiateWithFlags")
def test_an_instance_does_nothing_before_it_is_launched(cuda, function, graph, stream, memory):
    made = instance(cuda, graph, function)
    assert cuda.read(memory, stream) == bytes(SIZE)
    cuda("cudaGraphLaunch", made, stream)
    assert cuda.read(memory, stream) == b"\4" * SIZE
    cuda("cudaGraphExecDestroy", made)


@of("cudaGraphGetNodes")
def test_each_captured_call_is_a_node(cuda, function, graph):
    count = c_size_t()
    cuda(function, graph, None, byref(count))
    assert count.value == 2


@of("cudaGraphLaunch")
def test_a_launch_is_in_the_streams_turn_and_may_be_repeated(cuda, function, graph, stream, memory):
    made = instance(cuda, graph)
    for _ in range(2):
        with cuda.held(stream):
            cuda("cudaMemsetAsync", memory, 7, c_size_t(SIZE), stream)
            cuda(function, made, stream)
            assert cuda.status("cudaStreamQuery", stream) == NOT_READY
        assert cuda.read(memory, stream) == b"\4" * SIZE
        cuda("cudaMemsetAsync", memory, 0, c_size_t(SIZE), stream)
    cuda("cudaGraphExecDestroy", made)


@of("cudaGraphUpload")
def test_an_upload_executes_nothing(cuda, function, graph, stream, memory):
    made = instance(cuda, graph)
    cuda(function, made, stream)
    assert cuda.read(memory, stream) == bytes(SIZE)
    cuda("cudaGraphExecDestroy", made)


@of("cudaGraphDestroy")
def test_an_instance_outlives_its_graph(cuda, function, graph, stream, memory):
    made = instance(cuda, graph)
    cuda(function, graph)
    graph.value = None
    cuda("cudaGraphLaunch", made, stream)
    assert cuda.read(memory, stream) == b"\4" * SIZE
    cuda("cudaGraphExecDestroy", made)


@of("cudaGraphExecDestroy")
def test_a_launch_that_is_under_way_is_completed(cuda, function, graph, stream, memory):
    made = instance(cuda, graph)
    with cuda.held(stream):
        cuda("cudaGraphLaunch", made, stream)
        cuda(function, made)
    assert cuda.read(memory, stream) == b"\4" * SIZE
