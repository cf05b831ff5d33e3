/* Guarded: the fast path from one type to one library. The guards are asked in order, then the array is exported.
 *
 * It is `guarded_in_python` of `interop/_engine/fastpath.py` again, for the hundred nanoseconds that matter when a
 * handoff costs half a microsecond. A guard that says no means None, the general way; an error of a guard is the
 * caller's.
 */

#include "fastpath.h"
#include "calls.h"

/* Only the array structure is read; no function of NumPy's C API is called, so nothing has to be imported first. */
#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <numpy/ndarraytypes.h>

/* Memory is hardly ever below: what lies there is looked at more closely. The same number as in
 * interop/backends/shortcut.py. */
#define LOW ((npy_uintp)1 << 38)

/* What a Guarded refers to; each is owned from `guarded_new` to `guarded_clear`, and never changed in between. */
#define OWNED(DO) \
    DO(checks_itself) /* callable without arguments, or None: while true, the handoff sees to `must_be_false` */ \
    DO(must_be_false) /* tuple of paths, a path being a tuple of descriptors */ \
    DO(must_be_true)  /* tuple of paths */ \
    DO(no_level)      /* tuple of (dict, key) */ \
    DO(no_mode)       /* tuple of callables */ \
    DO(getter)        /* path from the array to what is exported; may be empty */ \
    DO(handoff)       /* callable */ \
    DO(declines)      /* tuple of exception classes */ \
    DO(expects_view)  /* numpy.ndarray where the result must be exactly one, on borrowed memory; else None */ \
    DO(has_storage)   /* callable, asked about x where the result is at a low address; or None */ \
    DO(offset)        /* callable, which returns how far into its storage x begins; or None */

#define FIELD(name) PyObject *name;
#define OWN(name) self->name = Py_NewRef(name);
#define VISIT(name) Py_VISIT(self->name);
#define CLEAR(name) Py_CLEAR(self->name);

struct Guarded {
    PyObject_HEAD OWNED(FIELD) int read_only; /* whether such a result is made read-only */
    int is_cleared;                           /* by the collector, before what refers to it is gone as well */
    PyObject *module;                         /* owned to the end: what has the state */
    State *state;                             /* the module's */
    vectorcallfunc vectorcall;
};

/* Return the truth of a new reference, which is consumed: 0, 1, or -1 with an exception set (also for NULL). */
static int
truth_of(PyObject *answer)
{
    int truth = answer == Py_False ? 0 : answer == Py_True ? 1 : answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return truth;
}

/* Return what a path leads to from x; runs code of the libraries. */
static PyObject *
follow(PyObject *x, PyObject *path)
{
    PyObject *at = Py_NewRef(x);
    for (Py_ssize_t i = 0; at != NULL && i < PyTuple_GET_SIZE(path); i++) {
        Py_SETREF(at, ask(PyTuple_GET_ITEM(path, i), at));
    }
    return at;
}

/* Return 1 if all paths lead to something of this truth, 0 if one does not, -1 on error. */
static int
all_are(PyObject *x, PyObject *paths, int expected)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(paths); i++) {
        int truth = truth_of(follow(x, PyTuple_GET_ITEM(paths, i)));
        if (truth != expected) {
            return truth < 0 ? -1 : 0;
        }
    }
    return 1;
}

/* Return 1 if no level of the library is entered: each is a number in a dict of its own that is negative outside. */
static int
is_at_no_level(State *state, PyObject *levels)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(levels); i++) {
        PyObject *pair = PyTuple_GET_ITEM(levels, i), *key = PyTuple_GET_ITEM(pair, 1);
        PyObject *found = PyDict_GetItemWithError(PyTuple_GET_ITEM(pair, 0), key); /* borrowed */
        if (found == NULL) {
            if (!PyErr_Occurred()) {
                PyErr_SetObject(PyExc_KeyError, key);
            }
            return -1;
        }
        if (found == state->minus_one) { /* what it is nearly always */
            continue;
        }
        Py_INCREF(found); /* one that is no int may run Python to become one */
        long level = PyLong_AsLong(found);
        Py_DECREF(found);
        if (level >= 0 || PyErr_Occurred()) {
            return level >= 0 ? 0 : -1;
        }
    }
    return 1;
}

/* Return 1 if no mode of the library is on, 0 if one is, -1 on error. */
static int
is_in_no_mode(State *state, PyObject *modes)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(modes); i++) {
        int truth = truth_of(call_empty(state, PyTuple_GET_ITEM(modes, i)));
        if (truth != 0) {
            return truth < 0 ? -1 : 0;
        }
    }
    return 1;
}

/* Return 1 if every guard allows it, 0 if one does not, -1 on error. */
static int
guards_allow(Guarded *self, PyObject *x)
{
    int allowed = 0;
    if (self->checks_itself != Py_None) {
        allowed = truth_of(call_empty(self->state, self->checks_itself));
    }
    if (allowed == 0) {
        allowed = all_are(x, self->must_be_false, 0);
    }
    if (allowed > 0) {
        allowed = all_are(x, self->must_be_true, 1);
    }
    if (allowed > 0) {
        allowed = is_at_no_level(self->state, self->no_level);
    }
    return allowed > 0 ? is_in_no_mode(self->state, self->no_mode) : allowed;
}

/* Return 1 if there is memory behind a result, 0 if not, -1 on error. An offset into a storage that was freed is an
 * address too, and a low one. */
static int
has_memory(Guarded *self, PyObject *x, PyArrayObject *result)
{
    if ((npy_uintp)PyArray_DATA(result) >= LOW || self->has_storage == Py_None) {
        return 1;
    }
    if (self->offset != Py_None) {
        int offset = truth_of(call(self->state, self->offset, x));
        if (offset <= 0) {
            return offset < 0 ? -1 : PyArray_DATA(result) != NULL;
        }
    }
    return truth_of(PyObject_CallOneArg(self->has_storage, x));
}

/* Return the result if it is the view that is expected, else None. Consumes `result`. */
static PyObject *
checked_view(Guarded *self, PyObject *x, PyObject *result)
{
    /* The type first: under a mode of the library the result can be anything at all, and only of an ndarray itself is
     * the structure known. One that owns its memory is a copy, or was made around a null pointer. */
    int is_view = (PyObject *)Py_TYPE(result) == self->expects_view && !(PyArray_FLAGS((PyArrayObject *)result) & NPY_ARRAY_OWNDATA);
    if (is_view) {
        is_view = has_memory(self, x, (PyArrayObject *)result);
    }
    if (is_view <= 0) {
        Py_DECREF(result);
        return is_view < 0 ? NULL : Py_NewRef(Py_None);
    }
    if (self->read_only) {
        PyArray_CLEARFLAGS((PyArrayObject *)result, NPY_ARRAY_WRITEABLE); /* no other reference exists yet */
    }
    return result;
}

PyObject *
guarded_attempt(Guarded *self, PyObject *x)
{
    if (self->is_cleared) {
        PyErr_SetString(PyExc_ReferenceError, "a fast path was called that the garbage collector has cleared");
        return NULL;
    }
    int allowed = guards_allow(self, x);
    if (allowed <= 0) {
        return allowed < 0 ? NULL : Py_NewRef(Py_None);
    }
    PyObject *handed = follow(x, self->getter);
    if (handed == NULL) {
        return NULL;
    }
    PyObject *result = call(self->state, self->handoff, handed);
    Py_DECREF(handed);
    if (result == NULL) {
        if (!PyErr_ExceptionMatches(self->declines)) {
            return NULL;
        }
        PyErr_Clear();
        return Py_NewRef(Py_None);
    }
    return self->expects_view == Py_None ? result : checked_view(self, x, result);
}

static PyObject *
guarded_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    if (PyVectorcall_NARGS(nargsf) != 1 || (kwnames != NULL && PyTuple_GET_SIZE(kwnames) > 0)) {
        PyErr_SetString(PyExc_TypeError, "a fast path takes one array");
        return NULL;
    }
    return guarded_attempt((Guarded *)self, args[0]);
}

/* What is checked here once need not be checked on any call. Returns 1, or 0 with TypeError set. */
static int
is_path(PyObject *path)
{
    if (!PyTuple_Check(path)) {
        PyErr_SetString(PyExc_TypeError, "a path is a tuple of descriptors");
        return 0;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(path); i++) {
        if (Py_TYPE(PyTuple_GET_ITEM(path, i))->tp_descr_get == NULL) {
            PyErr_Format(PyExc_TypeError, "%R is not a descriptor", PyTuple_GET_ITEM(path, i));
            return 0;
        }
    }
    return 1;
}

static int
is_level(PyObject *pair)
{
    if (PyTuple_Check(pair) && PyTuple_GET_SIZE(pair) == 2 && PyDict_Check(PyTuple_GET_ITEM(pair, 0))) {
        return 1;
    }
    PyErr_SetString(PyExc_TypeError, "a level is a pair of a dict and a key");
    return 0;
}

/* Only of an ndarray itself is the structure known that is read of a result. */
static int
is_view_type(PyObject *expects_view)
{
    if (expects_view == Py_None) {
        return 1;
    }
    PyObject *numpy = PyImport_ImportModule("numpy");
    PyObject *ndarray = numpy == NULL ? NULL : PyObject_GetAttrString(numpy, "ndarray");
    Py_XDECREF(numpy);
    if (ndarray == NULL) {
        return 0;
    }
    int same = ndarray == expects_view;
    Py_DECREF(ndarray);
    if (!same) {
        PyErr_Format(PyExc_TypeError, "expects_view is numpy.ndarray or None, not %R", expects_view);
    }
    return same;
}

static int
all_pass(PyObject *items, int (*check)(PyObject *))
{
    int passed = 1;
    for (Py_ssize_t i = 0; passed && i < PyTuple_GET_SIZE(items); i++) {
        passed = check(PyTuple_GET_ITEM(items, i));
    }
    return passed;
}

static PyObject *
guarded_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"checks_itself", "must_be_false", "must_be_true", "no_level",  "no_mode", "getter", "handoff",
                            "declines",      "expects_view",  "has_storage",  "read_only", "offset",  NULL};
    PyObject *checks_itself, *must_be_false, *must_be_true, *no_level, *no_mode;
    PyObject *getter, *handoff, *declines, *expects_view, *has_storage, *offset = Py_None;
    int read_only;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!O!O!O!O!OO!OOp|O", names, &checks_itself, &PyTuple_Type, &must_be_false,
                                     &PyTuple_Type, &must_be_true, &PyTuple_Type, &no_level, &PyTuple_Type, &no_mode, &PyTuple_Type,
                                     &getter, &handoff, &PyTuple_Type, &declines, &expects_view, &has_storage, &read_only, &offset)) {
        return NULL;
    }
    int sound = all_pass(must_be_false, is_path) && all_pass(must_be_true, is_path) && is_path(getter) && all_pass(no_level, is_level) &&
                is_view_type(expects_view);
    PyObject *module = sound ? PyType_GetModule(type) : NULL; /* the type has no subclasses */
    Guarded *self = module != NULL ? (Guarded *)type->tp_alloc(type, 0) : NULL;
    if (self == NULL) {
        return NULL;
    }
    OWNED(OWN)
    self->read_only = read_only;
    self->module = Py_NewRef(module);
    self->state = PyModule_GetState(module);
    self->vectorcall = guarded_vectorcall;
    return (PyObject *)self;
}

static int
guarded_traverse(Guarded *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self)); /* a heap type is owned by its objects */
    Py_VISIT(self->module);
    OWNED(VISIT)
    return 0;
}

/* What refers to it may be called later still: a destructor in C that is run by the same collection. */
static int
guarded_clear(Guarded *self)
{
    self->is_cleared = 1;
    OWNED(CLEAR)
    return 0;
}

static void
guarded_dealloc(Guarded *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self); /* first: what is cleared below may run a collection */
    guarded_clear(self);
    PyObject *module = self->module; /* which has the type, so it goes last */
    type->tp_free(self);
    Py_XDECREF(module);
    Py_DECREF(type);
}

static PyMemberDef guarded_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Guarded, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot guarded_slots[] = {
    {Py_tp_doc, "One fast path: called with an array, returns the result, or None for the general way."},
    {Py_tp_new, guarded_new},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_traverse, guarded_traverse},
    {Py_tp_clear, guarded_clear},
    {Py_tp_dealloc, guarded_dealloc},
    {Py_tp_members, guarded_members},
    {0, NULL},
};

PyType_Spec guarded_spec = {
    .name = "interop.native.fastpath.Guarded",
    .basicsize = sizeof(Guarded),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = guarded_slots,
};
