/* Memory for torch from CUDA's own stream-ordered pool, for `interop.cuda.cupy_pool`.
 *
 * torch calls `allocate` and `release` with the lock of its allocator held, so there is no Python in them: who waits
 * for the interpreter's lock there may wait for a thread that waits for the allocator's (pytorch#97833).
 *
 * Only the driver is called, which is looked up when it is needed: the same binary works with every runtime, and
 * without one.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#define EXPORTED __attribute__((visibility("default")))
#define DEVICES 64

typedef int result; /* CUresult; 0 is success */

static struct {
    result (*init)(unsigned);
    result (*device)(int *, int);
    result (*retain)(void **, int);
    result (*push)(void *);
    result (*pop)(void **);
    result (*capturing)(void *, int *);
    result (*mode)(int *);
    result (*wait)(void);
    result (*allocate)(uint64_t *, size_t);
    result (*release)(uint64_t);
    result (*allocate_async)(uint64_t *, size_t, void *);
    result (*release_async)(uint64_t, void *);
} cuda;

static const struct {
    const char *name;
    void **place;
} symbols[] = {
    {"cuInit", (void **)&cuda.init},
    {"cuDeviceGet", (void **)&cuda.device},
    {"cuDevicePrimaryCtxRetain", (void **)&cuda.retain},
    {"cuCtxPushCurrent_v2", (void **)&cuda.push},
    {"cuCtxPopCurrent_v2", (void **)&cuda.pop},
    {"cuStreamIsCapturing", (void **)&cuda.capturing},
    {"cuThreadExchangeStreamCaptureMode", (void **)&cuda.mode},
    {"cuCtxSynchronize", (void **)&cuda.wait},
    {"cuMemAlloc_v2", (void **)&cuda.allocate},
    {"cuMemFree_v2", (void **)&cuda.release},
    {"cuMemAllocAsync", (void **)&cuda.allocate_async},
    {"cuMemFreeAsync", (void **)&cuda.release_async},
};

static void *contexts[DEVICES]; /* the primary context of each device that was used, retained once and for good */

/* Make the device's context current; the caller pops it. */
static int
enter(int ordinal)
{
    int device;
    if (ordinal < 0 || ordinal >= DEVICES) {
        return 0;
    }
    if (contexts[ordinal] == NULL && (cuda.device(&device, ordinal) != 0 || cuda.retain(&contexts[ordinal], device) != 0)) {
        return 0;
    }
    return cuda.push(contexts[ordinal]) == 0;
}

static void
leave(void)
{
    void *left;
    cuda.pop(&left);
}

/* Whether a graph is being captured on a stream: what is allocated there in stream order would be the graph's own. */
typedef enum { NO, YES, UNKNOWN } Capturing;

static Capturing
is_capturing(void *stream)
{
    int status = 0;
    result failed = cuda.capturing(stream, &status);
    if (failed >= 900 && failed <= 908) { /* CUDA_ERROR_STREAM_CAPTURE_*: a capture on another stream forbids the question */
        return YES;
    }
    return failed != 0 ? UNKNOWN : status != 0 ? YES : NO; /* unknown: the stream is gone, or the driver */
}

/* Return memory, NULL if there is none: then torch raises its own error. */
EXPORTED void *
allocate(ssize_t size, int device, void *stream)
{
    uint64_t pointer = 0;
    if (!enter(device)) {
        return NULL;
    }
    if (is_capturing(stream) != NO) { /* memory of its own is right in any case */
        int mode = 2;                 /* relaxed: the call is not for the graph */
        cuda.mode(&mode);
        if (cuda.allocate(&pointer, (size_t)size) != 0) {
            pointer = 0;
        }
        cuda.mode(&mode);
    } else if (cuda.allocate_async(&pointer, (size_t)size, stream) != 0) {
        pointer = 0;
    }
    leave();
    return (void *)(uintptr_t)pointer;
}

/* Memory that came back while its stream was capturing: giving it back then would be the graph's work, not ours. */
typedef struct Later {
    struct Later *next;
    void *pointer, *stream;
    int device;
} Later;

static Later *later;
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

/* Give memory back in the order of its stream; 0 if that is capturing. Called with `guard` held. */
static int
released(void *pointer, int device, void *stream)
{
    if (!enter(device)) {
        return 1; /* the device is gone, and its memory with it */
    }
    int now = is_capturing(stream) != YES;
    if (now && cuda.release_async((uint64_t)(uintptr_t)pointer, stream) != 0) {
        /* Allocated during a capture, or its stream is gone, whose work need not be done: there is no order to do it
         * in. */
        int mode = 2;
        cuda.mode(&mode);
        cuda.wait();
        cuda.release((uint64_t)(uintptr_t)pointer);
        cuda.mode(&mode);
    }
    leave();
    return now;
}

EXPORTED void
release(void *pointer, ssize_t size, int device, void *stream)
{
    (void)size;
    Later *new = pointer == NULL ? NULL : malloc(sizeof *new);
    pthread_mutex_lock(&guard);
    if (new != NULL) {
        *new = (Later){later, pointer, stream, device};
        later = new;
    } else if (pointer != NULL) {
        /* No memory to remember it by. What cannot be given back now is lost, which is better than a wrong graph. */
        released(pointer, device, stream);
    }
    for (Later **at = &later; *at != NULL;) {
        Later *one = *at;
        if (released(one->pointer, one->device, one->stream)) {
            *at = one->next;
            free(one);
        } else {
            at = &one->next;
        }
    }
    pthread_mutex_unlock(&guard);
}

/* Fill `cuda` from the driver's library, which is never closed: torch may call in until the process ends. */
static PyObject *
load(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *path;
    if (!PyArg_ParseTuple(args, "s", &path)) {
        return NULL;
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        PyErr_SetString(PyExc_OSError, dlerror());
        return NULL;
    }
    for (size_t n = 0; n < sizeof symbols / sizeof symbols[0]; n++) {
        void *found = dlsym(library, symbols[n].name);
        if (found == NULL) {
            return PyErr_Format(PyExc_OSError, "%s has no %s", path, symbols[n].name);
        }
        *symbols[n].place = found;
    }
    result status = cuda.init(0);
    if (status != 0) {
        return PyErr_Format(PyExc_OSError, "%s does not start: error %d", path, status);
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"load", load, METH_VARARGS, "Look the driver's functions up; OSError if they are not there."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
#if PY_VERSION_HEX >= 0x030C0000
    /* torch has one allocator in a process, and CUDA one driver: what is found here is for all of it. */
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    /* `load` fills the table above without a lock of its own; what torch calls takes `guard` and no Python. */
    {Py_mod_gil, Py_MOD_GIL_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "interop.native.async_pool",
    .m_doc = "Memory for torch from CUDA's stream-ordered pool; see interop.cuda.cupy_pool.",
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit_async_pool(void)
{
    return PyModuleDef_Init(&definition);
}
