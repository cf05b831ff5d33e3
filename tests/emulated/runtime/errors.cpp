/* Errors: the last one of a thread, and their names. The names need no driver that was started. */

#include "emulated.h"

#include <map>

namespace {

thread_local int last_error = SUCCESS;

const std::map<int, const char *> names{
    {SUCCESS, "CUDA_SUCCESS"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
    {NO_KERNEL_IMAGE, "CUDA_ERROR_NO_BINARY_FOR_GPU"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
    {NOT_READY, "CUDA_ERROR_NOT_READY"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS"},
    {710, "CUDA_ERROR_ASSERT"},
    {716, "CUDA_ERROR_MISALIGNED_ADDRESS"},
    {719, "CUDA_ERROR_LAUNCH_FAILED"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
};

} // namespace

void set_last_error(int status) { last_error = status; }

/* CUDA Runtime API, cudaGetLastError: returns the error of the thread's last failed call and resets it, unless it has ended the context.
 * Not emulated: only a kernel that cannot be launched is remembered, since with `<<<>>>` nothing else tells; other calls only return their
 * errors. */
EXPORT cudaGetLastError() {
    int status = context_error() != SUCCESS ? context_error() : last_error;
    last_error = SUCCESS;
    return status;
}

/* CUDA Runtime API, cudaPeekAtLastError: returns what cudaGetLastError would, and does not reset it. */
EXPORT cudaPeekAtLastError() { return context_error() != SUCCESS ? context_error() : last_error; }

/* CUDA Driver API, cuGetErrorName: stores the name of an error, and needs no context; CUDA_ERROR_INVALID_VALUE for a number of none. */
EXPORT cuGetErrorName(int status, const char **name) {
    auto found = names.find(status);
    return *name = found == names.end() ? nullptr : found->second, found == names.end() ? INVALID_VALUE : SUCCESS;
}

/* CUDA Driver API, cuGetErrorString: stores a description of an error. Not emulated: the description is the name. */
EXPORT cuGetErrorString(int status, const char **text) { return cuGetErrorName(status, text); }
