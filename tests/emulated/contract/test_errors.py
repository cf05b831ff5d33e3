"""The last error of a thread, and the names of errors."""

from ctypes import byref, c_char_p

from tests.emulated.contract.cuda import INVALID_VALUE, of, on_a_device
from tests.emulated.contract.test_kernels import launch_nothing

pytestmark = on_a_device


@of("cudaGetLastError")
def test_the_last_error_is_reset_when_it_is_read(cuda, function):
    failed = launch_nothing(cuda, "cudaLaunchKernel")
    assert failed != 0
    assert cuda.status(function) == failed
    assert cuda.status(function) == 0


@of("cudaPeekAtLastError")
def test_a_look_at_the_last_error_resets_nothing(cuda, function):
    failed = launch_nothing(cuda, "cudaLaunchKernel")
    assert [cuda.status(function) for _ in range(2)] == [failed] * 2
    cuda.status("cudaGetLastError")
    assert cuda.status(function) == 0


@of("cuGetErrorName")
def test_errors_have_names(cuda, function):
    name = c_char_p()
    for status, expected in {0: b"CUDA_SUCCESS", 1: b"CUDA_ERROR_INVALID_VALUE", 600: b"CUDA_ERROR_NOT_READY"}.items():
        cuda(function, status, byref(name))
        assert name.value == expected
    assert cuda.status(function, 12345, byref(name)) == INVALID_VALUE
    assert name.value is None


@of("cuGetErrorString")
def test_errors_have_descriptions(cuda, function):
    text = c_char_p()
    cuda(function, 700, byref(text))
    assert text.value
    assert cuda.status(function, 12345, byref(text)) == INVALID_VALUE
