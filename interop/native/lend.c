/* A DLPack capsule with deferred release: `interop.backends.cupy.release` has to know when a consumer calls the
 * deleter.
 *
 * The array of the other capsule is exported as it is, with a deleter of ours. It does not release the memory but
 * passes it to a Python function, as an object whose destructor releases it.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>

/* dlpack.h of DLPack 1.0; the legacy structure, and the versioned one. */
typedef struct {
    void *data;
    struct {
        int32_t type, id;
    } device;
    int32_t ndim;
    struct {
        uint8_t code, bits;
        uint16_t lanes;
    } dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
} Tensor;

typedef struct Legacy {
    Tensor tensor;
    void *context;
    void (*deleter)(struct Legacy *);
} Legacy;

typedef struct Versioned {
    uint32_t major, minor;
    void *context;
    void (*deleter)(struct Versioned *);
    uint64_t flags;
    Tensor tensor;
} Versioned;

#define MAJOR 1 /* of DLPack: the version whose layout these are */

/* A capsule keeps the pointer to its name, not the name: these live as long as the process. */
static const char *const FRESH[] = {"dltensor", "dltensor_versioned"};
static const char *const USED[] = {"used_dltensor", "used_dltensor_versioned"};
static const char *const MEMORY = "interop.memory";

/* Owned by the capsule of ours until a consumer takes it, then by the consumer; freed by our deleter, which is called
 * once. */
typedef struct {
    union {
        Legacy legacy;
        Versioned versioned;
    } ours;       /* what the new capsule points to: a copy of theirs, shape and strides still theirs */
    void *theirs; /* owned: its deleter is due, and called by the destructor of the memory object */
    int is_versioned;
    PyObject *on_release; /* owned */
} DeferredRelease;

/* Release what a producer exported. Its deleter may run Python: the GIL is held wherever this is called. An error that is
 * on the way goes on, and one that the deleter leaves behind is shown. */
static void
call_deleter(void *theirs, int is_versioned)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (is_versioned) {
        Versioned *managed = theirs;
        if (managed->deleter != NULL) {
            managed->deleter(managed);
        }
    } else {
        Legacy *managed = theirs;
        if (managed->deleter != NULL) {
            managed->deleter(managed);
        }
    }
    if (PyErr_Occurred()) {
        PyErr_WriteUnraisable(NULL);
    }
    PyErr_Restore(type, value, traceback);
}

/* The memory as an object: the address of their structure; its context says of which kind it is. */
static void
memory_destructor(PyObject *memory)
{
    if (PyCapsule_IsValid(memory, MEMORY)) { /* else another has renamed it, and with that taken it */
        call_deleter(PyCapsule_GetPointer(memory, MEMORY), PyCapsule_GetContext(memory) != NULL);
    }
}

/* Return the memory as an object, which owns `theirs` from then on. */
static PyObject *
memory_of(DeferredRelease *deferred)
{
    PyObject *memory = PyCapsule_New(deferred->theirs, MEMORY, memory_destructor);
    if (memory != NULL) {
        /* A flag, and never followed: the object outlives what it points to. */
        PyCapsule_SetContext(memory, deferred->is_versioned ? deferred : NULL);
    }
    return memory;
}

#if PY_VERSION_HEX >= 0x030D0000
#define IS_FINALIZING Py_IsFinalizing
#else
#define IS_FINALIZING _Py_IsFinalizing
#endif

/* Any thread may call this, with an error set or without the interpreter's lock. */
static void
end(DeferredRelease *deferred)
{
    if (!Py_IsInitialized() || (IS_FINALIZING() && !PyGILState_Check())) {
        return; /* the interpreter is gone, or lets no other thread in any more; the memory goes with the process */
    }
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback); /* a consumer may release while an error of its own is on the way */
    PyObject *memory = memory_of(deferred);
    if (memory == NULL) {
        call_deleter(deferred->theirs, deferred->is_versioned); /* too early is better than never */
        PyErr_WriteUnraisable(deferred->on_release);
    } else {
        PyObject *result = PyObject_CallOneArg(deferred->on_release, memory);
        if (result == NULL) {
            PyErr_WriteUnraisable(deferred->on_release);
        }
        Py_XDECREF(result);
        Py_DECREF(memory);
    }
    Py_DECREF(deferred->on_release);
    PyMem_RawFree(deferred);
    PyErr_Restore(type, value, traceback);
    PyGILState_Release(state);
}

static void
end_legacy(Legacy *ours)
{
    end(ours->context);
}

static void
end_versioned(Versioned *ours)
{
    end(ours->context);
}

/* A capsule that no consumer took. */
static void
delete_unconsumed(PyObject *capsule)
{
    for (int is_versioned = 0; is_versioned < 2; is_versioned++) {
        if (PyCapsule_IsValid(capsule, FRESH[is_versioned])) {
            call_deleter(PyCapsule_GetPointer(capsule, FRESH[is_versioned]), is_versioned);
        }
    }
}

static PyObject *
defer_release(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 2 || !PyCapsule_CheckExact(args[0]) || !PyCallable_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "defer_release(capsule, on_release)");
        return NULL;
    }
    int is_versioned = PyCapsule_IsValid(args[0], FRESH[1]);
    void *theirs = PyCapsule_GetPointer(args[0], FRESH[is_versioned]);
    if (theirs == NULL) {
        return NULL; /* ValueError: taken already, or of another kind */
    }
    if (is_versioned && ((Versioned *)theirs)->major != MAJOR) {
        /* Nothing behind the deleter may be read: its layout is that of another major version. */
        return PyErr_Format(PyExc_BufferError, "DLPack %u.%u is not a version that is read here", ((Versioned *)theirs)->major,
                            ((Versioned *)theirs)->minor);
    }
    DeferredRelease *deferred = PyMem_RawCalloc(1, sizeof *deferred);
    if (deferred == NULL) {
        return PyErr_NoMemory();
    }
    deferred->theirs = theirs;
    deferred->is_versioned = is_versioned;
    void *ours;
    if (is_versioned) {
        deferred->ours.versioned = *(Versioned *)theirs;
        deferred->ours.versioned.context = deferred;
        deferred->ours.versioned.deleter = end_versioned;
        ours = &deferred->ours.versioned;
    } else {
        deferred->ours.legacy = *(Legacy *)theirs;
        deferred->ours.legacy.context = deferred;
        deferred->ours.legacy.deleter = end_legacy;
        ours = &deferred->ours.legacy;
    }
    PyObject *made = PyCapsule_New(ours, FRESH[is_versioned], delete_unconsumed);
    /* The new name is what takes the other capsule: from here on its destructor leaves `theirs` alone. */
    if (made == NULL || PyCapsule_SetName(args[0], USED[is_versioned]) != 0) {
        if (made != NULL) {
            PyCapsule_SetDestructor(made, NULL); /* `theirs` stays the other capsule's */
            Py_DECREF(made);
        }
        PyMem_RawFree(deferred);
        return NULL;
    }
    deferred->on_release = Py_NewRef(args[1]);
    return made;
}

static PyMethodDef methods[] = {
    {"defer_release", (PyCFunction)(void (*)(void))defer_release, METH_FASTCALL,
     "defer_release(capsule, on_release): a capsule with the array of another one, which is consumed. When the "
     "consumer "
     "calls its deleter, on_release(memory) is called; the memory is released with that object."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
#if PY_VERSION_HEX >= 0x030C0000
    /* A consumer's deleter may run on a thread that Python does not know. PyGILState_Ensure is the only way in from
     * there, and it leads to the main interpreter. */
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    /* Two threads that take one capsule: only the GIL keeps the look at its name and the new name together. */
    {Py_mod_gil, Py_MOD_GIL_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "interop.native.lend",
    .m_doc = "DLPack capsules with deferred release; see interop.backends.cupy.release.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit_lend(void)
{
    return PyModuleDef_Init(&definition);
}
