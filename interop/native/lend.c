/* A DLPack capsule whose memory comes back to us: `interop.backends.cupy.release` has to know when a consumer lets go of it.
 *
 * The array of the other capsule is handed on as it is, with a deleter of ours. It does not let go of the memory but hands it to a
 * function of Python's, as an object that lets go of it when it goes itself.
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

static const char *const FRESH[] = {"dltensor", "dltensor_versioned"};
static const char *const USED[] = {"used_dltensor", "used_dltensor_versioned"};
static const char *const MEMORY = "interop.memory";

typedef struct {
    union {
        Legacy legacy;
        Versioned versioned;
    } ours;
    void *theirs;
    int is_versioned;
    PyObject *came_back;
} Loan;

static void
let_go(void *theirs, int is_versioned)
{
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
}

/* The memory as an object: the address of their structure; its context says of which kind it is. */
static void
memory_is_gone(PyObject *memory)
{
    let_go(PyCapsule_GetPointer(memory, MEMORY), PyCapsule_GetContext(memory) != NULL);
}

static PyObject *
memory_of(Loan *loan)
{
    PyObject *memory = PyCapsule_New(loan->theirs, MEMORY, memory_is_gone);
    if (memory != NULL) {
        PyCapsule_SetContext(memory, loan->is_versioned ? loan : NULL);
    }
    return memory;
}

/* Any thread may call this, with an error set or without the interpreter's lock. */
static void
end(Loan *loan)
{
    if (!Py_IsInitialized()) {
        return; /* the interpreter is gone, and the memory goes with the process */
    }
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *memory = memory_of(loan);
    if (memory == NULL) {
        let_go(loan->theirs, loan->is_versioned);
        PyErr_WriteUnraisable(loan->came_back);
    } else {
        PyObject *result = PyObject_CallOneArg(loan->came_back, memory);
        if (result == NULL) {
            PyErr_WriteUnraisable(loan->came_back);
        }
        Py_XDECREF(result);
        Py_DECREF(memory);
    }
    Py_DECREF(loan->came_back);
    PyMem_RawFree(loan);
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

/* A capsule that nobody took. */
static void
never_taken(PyObject *capsule)
{
    for (int is_versioned = 0; is_versioned < 2; is_versioned++) {
        if (PyCapsule_IsValid(capsule, FRESH[is_versioned])) {
            let_go(PyCapsule_GetPointer(capsule, FRESH[is_versioned]), is_versioned);
        }
    }
}

static PyObject *
lend(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 2 || !PyCapsule_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "lend(capsule, came_back)");
        return NULL;
    }
    int is_versioned = PyCapsule_IsValid(args[0], FRESH[1]);
    void *theirs = PyCapsule_GetPointer(args[0], FRESH[is_versioned]);
    if (theirs == NULL) {
        return NULL; /* ValueError: taken already, or of another kind */
    }
    Loan *loan = PyMem_RawCalloc(1, sizeof *loan);
    if (loan == NULL) {
        return PyErr_NoMemory();
    }
    loan->theirs = theirs;
    loan->is_versioned = is_versioned;
    void *ours;
    if (is_versioned) {
        loan->ours.versioned = *(Versioned *)theirs;
        loan->ours.versioned.context = loan;
        loan->ours.versioned.deleter = end_versioned;
        ours = &loan->ours.versioned;
    } else {
        loan->ours.legacy = *(Legacy *)theirs;
        loan->ours.legacy.context = loan;
        loan->ours.legacy.deleter = end_legacy;
        ours = &loan->ours.legacy;
    }
    PyObject *made = PyCapsule_New(ours, FRESH[is_versioned], never_taken);
    if (made == NULL || PyCapsule_SetName(args[0], USED[is_versioned]) != 0) {
        if (made != NULL) {
            PyCapsule_SetDestructor(made, NULL);
            Py_DECREF(made);
        }
        PyMem_RawFree(loan);
        return NULL;
    }
    loan->came_back = Py_NewRef(args[1]);
    return made;
}

static PyMethodDef methods[] = {
    {"lend", (PyCFunction)(void (*)(void))lend, METH_FASTCALL,
     "lend(capsule, came_back): a capsule with the array of another one, which is taken. When the consumer lets go of the memory, "
     "came_back(memory) is called; the memory goes with that object."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "interop.native.lend", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit_lend(void)
{
    return PyModule_Create(&definition);
}
