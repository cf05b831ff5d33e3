/* The quick path in C: look a short cut up by type, ask its guards, hand over.
 *
 * It is `interop/_engine/fastpath.py` again, statement for statement, for the hundred nanoseconds that matter when a
 * handoff costs half a microsecond; where there is no compiler, the Python one is used. It knows no array
 * library: guards and handoffs are data that the backends declare. `tests/engine/test_fastpath.py` runs both.
 */

#define BUILD 10 /* counted up with every change of what passes to and from interop/_engine/fastpath.py */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

/* Only the array structure is read; no function of NumPy's C API is called. */
#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <numpy/ndarraytypes.h>

#include "records.h"

static PyObject *no_arguments; /* the empty tuple */
static PyObject *minus_one;

/* Memory is hardly ever below: what lies there is looked at more closely. The same number as in interop/_engine/fastpath.py. */
#define LOW ((npy_uintp)1 << 38)

/* Guarded: one short cut. Called with an array it returns the result, or None for the long way. */

typedef struct {
    PyObject_HEAD
    PyObject *strict;   /* callable without arguments, or None: while it returns true, the handoff itself sees to `falsy` */
    PyObject *falsy;    /* tuple of paths, a path being a tuple of descriptors */
    PyObject *truthy;   /* tuple of paths */
    PyObject *negative; /* tuple of (dict, key) */
    PyObject *quiet;    /* tuple of callables */
    PyObject *via;      /* path from the array to what is handed over; may be empty */
    PyObject *handoff;  /* callable */
    PyObject *refuses;  /* tuple of exception classes */
    PyObject *borrows;  /* numpy.ndarray where the result must be exactly one, on borrowed memory; else None */
    PyObject *lives;    /* callable that says whether x has memory at all, asked about a result at a low address; or None */
    int sealed;         /* whether such a result is made read-only */
    vectorcallfunc vectorcall;
} Guarded;

/* Ask a descriptor for its value on x. Directly: looking its name up on every call costs as much as the answer. */
static PyObject *
ask(PyObject *descriptor, PyObject *x)
{
    if (Py_IS_TYPE(descriptor, &PyGetSetDescr_Type) && PyObject_TypeCheck(x, PyDescr_TYPE(descriptor))) {
        PyGetSetDef *getset = ((PyGetSetDescrObject *)descriptor)->d_getset;
        return getset->get(x, getset->closure);
    }
    return Py_TYPE(descriptor)->tp_descr_get(descriptor, x, (PyObject *)Py_TYPE(x));
}

/* Call a function, or an unbound method, with x alone. */
static PyObject *
call(PyObject *callable, PyObject *x)
{
    if (Py_IS_TYPE(callable, &PyMethodDescr_Type) && PyObject_TypeCheck(x, PyDescr_TYPE(callable))) {
        PyMethodDef *method = ((PyMethodDescrObject *)callable)->d_method;
        if (method->ml_flags == (METH_VARARGS | METH_KEYWORDS)) {
            return ((PyCFunctionWithKeywords)(void (*)(void))method->ml_meth)(x, no_arguments, NULL);
        }
    }
    return PyObject_CallOneArg(callable, x);
}

/* Call a function of a C library without arguments. */
static PyObject *
call_empty(PyObject *callable)
{
    if (!PyCFunction_CheckExact(callable)) {
        return PyObject_CallNoArgs(callable);
    }
    PyCFunction function = PyCFunction_GET_FUNCTION(callable);
    switch (PyCFunction_GET_FLAGS(callable)) {
    case METH_NOARGS:
        return function(PyCFunction_GET_SELF(callable), NULL);
    case METH_FASTCALL | METH_KEYWORDS:
        return ((_PyCFunctionFastWithKeywords)(void (*)(void))function)(PyCFunction_GET_SELF(callable), NULL, 0, NULL);
    case METH_VARARGS | METH_KEYWORDS:
        return ((PyCFunctionWithKeywords)(void (*)(void))function)(PyCFunction_GET_SELF(callable), no_arguments, NULL);
    default:
        return PyObject_CallNoArgs(callable);
    }
}

/* Return what a path leads to from x. */
static PyObject *
follow(PyObject *x, PyObject *path)
{
    PyObject *at = Py_NewRef(x);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(path); i++) {
        PyObject *next = ask(PyTuple_GET_ITEM(path, i), at);
        Py_DECREF(at);
        if (next == NULL) {
            return NULL;
        }
        at = next;
    }
    return at;
}

/* Return the truth of a path from x: 0, 1, or -1 with an exception set. */
static int
path_is_true(PyObject *x, PyObject *path)
{
    PyObject *found = follow(x, path);
    if (found == NULL) {
        return -1;
    }
    int truth = PyObject_IsTrue(found);
    Py_DECREF(found);
    return truth;
}

/* Return 1 if the attributes of the array allow the short cut, 0 if not, -1 on error. */
static int
attributes_allow(Guarded *self, PyObject *x)
{
    int seen_to = 0;
    if (self->strict != Py_None) {
        PyObject *answer = call_empty(self->strict);
        if (answer == NULL) {
            return -1;
        }
        seen_to = Py_IsTrue(answer);
        Py_DECREF(answer);
    }
    for (Py_ssize_t i = 0; !seen_to && i < PyTuple_GET_SIZE(self->falsy); i++) {
        int truth = path_is_true(x, PyTuple_GET_ITEM(self->falsy, i));
        if (truth != 0) {
            return truth < 0 ? -1 : 0;
        }
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->truthy); i++) {
        int truth = path_is_true(x, PyTuple_GET_ITEM(self->truthy, i));
        if (truth <= 0) {
            return truth;
        }
    }
    return 1;
}

/* Return 1 if the library is in no mode or level that forbids the short cut, 0 if it is, -1 on error. */
static int
library_is_quiet(Guarded *self)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->negative); i++) {
        PyObject *pair = PyTuple_GET_ITEM(self->negative, i);
        PyObject *found = PyDict_GetItemWithError(PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
        if (found == NULL) {
            if (!PyErr_Occurred()) {
                PyErr_SetObject(PyExc_KeyError, PyTuple_GET_ITEM(pair, 1));
            }
            return -1;
        }
        if (found == minus_one) { /* the usual answer, and a singleton */
            continue;
        }
        long level = PyLong_AsLong(found);
        if (level == -1 && PyErr_Occurred()) {
            return -1;
        }
        if (level >= 0) {
            return 0;
        }
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->quiet); i++) {
        PyObject *found = call_empty(PyTuple_GET_ITEM(self->quiet, i));
        if (found == NULL) {
            return -1;
        }
        int truth = PyObject_IsTrue(found);
        Py_DECREF(found);
        if (truth != 0) {
            return truth < 0 ? -1 : 0;
        }
    }
    return 1;
}

/* Whether there is memory behind a result. An offset into a storage that was freed is an address too, and a low one. */
static int
lives_at(Guarded *self, PyObject *x, PyArrayObject *result)
{
    if ((npy_uintp)PyArray_DATA(result) >= LOW || self->lives == Py_None) {
        return 1;
    }
    PyObject *answer = PyObject_CallOneArg(self->lives, x);
    int truth = answer == NULL ? 0 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return truth > 0;
}

static PyObject *
attempt(Guarded *self, PyObject *x)
{
    int allowed = attributes_allow(self, x);
    if (allowed > 0) {
        allowed = library_is_quiet(self);
    }
    if (allowed <= 0) {
        return allowed < 0 ? NULL : Py_NewRef(Py_None);
    }
    PyObject *handed = follow(x, self->via);
    if (handed == NULL) {
        return NULL;
    }
    PyObject *result = call(self->handoff, handed);
    Py_DECREF(handed);
    if (result == NULL) {
        if (!PyErr_ExceptionMatches(self->refuses)) {
            return NULL;
        }
        PyErr_Clear();
        return Py_NewRef(Py_None);
    }
    if (self->borrows == Py_None) {
        return result;
    }
    /* The type first: under a mode of the library the result can be anything at all. */
    if ((PyObject *)Py_TYPE(result) != self->borrows || (PyArray_FLAGS((PyArrayObject *)result) & NPY_ARRAY_OWNDATA) ||
        !lives_at(self, x, (PyArrayObject *)result)) {
        Py_DECREF(result);
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    if (self->sealed) {
        PyArray_CLEARFLAGS((PyArrayObject *)result, NPY_ARRAY_WRITEABLE);
    }
    return result;
}

static PyObject *
guarded_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    if (PyVectorcall_NARGS(nargsf) != 1 || (kwnames != NULL && PyTuple_GET_SIZE(kwnames) > 0)) {
        PyErr_SetString(PyExc_TypeError, "a short cut takes one array");
        return NULL;
    }
    return attempt((Guarded *)self, args[0]);
}

/* Return whether it is a tuple of descriptors; sets TypeError if not. */
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
are_paths(PyObject *paths)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(paths); i++) {
        if (!is_path(PyTuple_GET_ITEM(paths, i))) {
            return 0;
        }
    }
    return 1;
}

static int
are_levels(PyObject *levels)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(levels); i++) {
        PyObject *pair = PyTuple_GET_ITEM(levels, i);
        if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2 || !PyDict_Check(PyTuple_GET_ITEM(pair, 0))) {
            PyErr_SetString(PyExc_TypeError, "a level is a pair of a dict and a key");
            return 0;
        }
    }
    return 1;
}

static PyObject *
guarded_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"strict", "falsy", "truthy", "negative", "quiet", "via", "handoff", "refuses", "borrows", "lives", "sealed", NULL};
    PyObject *strict, *falsy, *truthy, *negative, *quiet, *via, *handoff, *refuses, *borrows, *lives;
    int sealed;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!O!O!O!O!OO!OOp", names, &strict, &PyTuple_Type, &falsy, &PyTuple_Type, &truthy,
                                     &PyTuple_Type, &negative, &PyTuple_Type, &quiet, &PyTuple_Type, &via, &handoff, &PyTuple_Type, &refuses,
                                     &borrows, &lives, &sealed)) {
        return NULL;
    }
    int sound = are_paths(falsy) && are_paths(truthy) && is_path(via) && are_levels(negative);
    Guarded *self = sound ? (Guarded *)type->tp_alloc(type, 0) : NULL;
    if (self == NULL) {
        return NULL;
    }
    self->strict = Py_NewRef(strict);
    self->falsy = Py_NewRef(falsy);
    self->truthy = Py_NewRef(truthy);
    self->negative = Py_NewRef(negative);
    self->quiet = Py_NewRef(quiet);
    self->via = Py_NewRef(via);
    self->handoff = Py_NewRef(handoff);
    self->refuses = Py_NewRef(refuses);
    self->borrows = Py_NewRef(borrows);
    self->lives = Py_NewRef(lives);
    self->sealed = sealed;
    self->vectorcall = guarded_vectorcall;
    return (PyObject *)self;
}

static int
guarded_traverse(Guarded *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->strict);
    Py_VISIT(self->falsy);
    Py_VISIT(self->truthy);
    Py_VISIT(self->negative);
    Py_VISIT(self->quiet);
    Py_VISIT(self->via);
    Py_VISIT(self->handoff);
    Py_VISIT(self->refuses);
    Py_VISIT(self->borrows);
    Py_VISIT(self->lives);
    return 0;
}

static int
guarded_clear(Guarded *self)
{
    Py_CLEAR(self->strict);
    Py_CLEAR(self->falsy);
    Py_CLEAR(self->truthy);
    Py_CLEAR(self->negative);
    Py_CLEAR(self->quiet);
    Py_CLEAR(self->via);
    Py_CLEAR(self->handoff);
    Py_CLEAR(self->refuses);
    Py_CLEAR(self->borrows);
    Py_CLEAR(self->lives);
    return 0;
}

static void
guarded_dealloc(Guarded *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    guarded_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef guarded_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Guarded, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot guarded_slots[] = {
    {Py_tp_doc, "One short cut: called with an array, returns the result, or None for the long way."},
    {Py_tp_new, guarded_new},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_traverse, guarded_traverse},
    {Py_tp_clear, guarded_clear},
    {Py_tp_dealloc, guarded_dealloc},
    {Py_tp_members, guarded_members},
    {0, NULL},
};

static PyType_Spec guarded_spec = {
    .name = "interop.native.fastpath.Guarded",
    .basicsize = sizeof(Guarded),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = guarded_slots,
};

static PyTypeObject *guarded_type;

/* Front: a verb with the quick path in front of it. */

typedef struct {
    PyObject_HEAD
    PyObject *plain;     /* dict: type -> short cut */
    PyObject *detaching; /* dict: type -> short cut, for grad="detach" */
    PyObject *hurdle;    /* context variable that is None where the quick path may be taken */
    PyObject *long_way;  /* callable */
    PyObject *dict;
    PyObject *weakrefs;
    vectorcallfunc vectorcall;
} Front;

static PyObject *word_grad, *word_detach;

/* Return the result of a table's short cut for the array, None if there is none, NULL on error. */
static PyObject *
look_up(PyObject *table, PyObject *x)
{
    PyObject *found = PyDict_GetItemWithError(table, (PyObject *)Py_TYPE(x)); /* borrowed */
    if (found == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    Py_INCREF(found); /* the handoff may run code that changes the table */
    PyObject *result = Py_IS_TYPE(found, guarded_type) ? attempt((Guarded *)found, x) : PyObject_CallOneArg(found, x);
    Py_DECREF(found);
    return result;
}

/* Return 1 if there are no keywords, 2 if there is only grad="detach", 0 otherwise, -1 on error. */
static int
quick_words(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t count = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    if (nargs != 1 || count > 1) {
        return 0;
    }
    if (count == 0) {
        return 1;
    }
    int same = PyObject_RichCompareBool(PyTuple_GET_ITEM(kwnames, 0), word_grad, Py_EQ);
    if (same > 0 && PyUnicode_CheckExact(args[nargs])) {
        same = PyObject_RichCompareBool(args[nargs], word_detach, Py_EQ);
        return same > 0 ? 2 : same;
    }
    return same < 0 ? -1 : 0;
}

/* Whether a hurdle was ever set in this process. Sticky: a context may outlive the scope that set it. */
static int watched = 0;

/* Return 1 if no hurdle is set in this context, 0 if one is, -1 on error. */
static int
is_clear(PyObject *hurdle)
{
    if (!watched) {
        return 1;
    }
    PyObject *barred = NULL;
    if (PyContextVar_Get(hurdle, Py_None, &barred) < 0) {
        return -1;
    }
    int clear = Py_IsNone(barred);
    Py_DECREF(barred);
    return clear;
}

static PyObject *
watch(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    watched = 1;
    Py_RETURN_NONE;
}

/* Whether optree has to leave x alone although it could take it apart; asked of every node of a tree. */
static PyObject *
stops(PyObject *Py_UNUSED(module), PyObject *x)
{
    if (PyTuple_Check(x)) {
        return PyBool_FromLong(!PyTuple_CheckExact(x) && Py_TYPE(x)->tp_base != &PyTuple_Type);
    }
    if (!PyODict_CheckExact(x)) {
        Py_RETURN_FALSE;
    }
    PyObject *attributes = PyObject_GetAttrString(x, "__dict__");
    if (attributes == NULL) {
        return NULL;
    }
    int some = PyDict_GET_SIZE(attributes) > 0;
    Py_DECREF(attributes);
    return PyBool_FromLong(some);
}

/* Where a leaf was met before: a table of positions by address, with open addressing; at most half of it is filled. */
typedef struct {
    Py_ssize_t *slots; /* position + 1; 0 for an empty slot */
    size_t mask;
} Seen;

/* Return the slot of a leaf: its own, or the empty one where it belongs. */
static Py_ssize_t *
slot_of(Seen *seen, PyObject *leaves, PyObject *leaf)
{
    size_t at = ((size_t)leaf >> 4) * (size_t)0x9E3779B97F4A7C15ULL >> 20;
    for (;; at++) {
        Py_ssize_t *slot = &seen->slots[at & seen->mask];
        if (*slot == 0 || PyList_GET_ITEM(leaves, *slot - 1) == leaf) {
            return slot;
        }
    }
}

/* Return the result for one leaf, a new reference: that of the same leaf before, or its type's short cut, or None. */
static PyObject *
swept(Seen *seen, PyObject *leaves, PyObject *attempts, PyObject *results, Py_ssize_t n)
{
    PyObject *leaf = PyList_GET_ITEM(leaves, n);
    PyObject *attempt = PyDict_GetItemWithError(attempts, (PyObject *)Py_TYPE(leaf));
    if (attempt == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    Py_ssize_t *slot = slot_of(seen, leaves, leaf);
    if (*slot != 0) {
        return Py_NewRef(PyList_GET_ITEM(results, *slot - 1));
    }
    *slot = n + 1;
    return PyObject_CallOneArg(attempt, leaf);
}

/* Call the short cut for each leaf's type; a leaf that occurs again gets the same result, one without a short cut None. */
static PyObject *
sweep(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyList_CheckExact(args[0]) || !PyDict_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "sweep(leaves: list, attempts: dict)");
        return NULL;
    }
    /* A handoff runs code of the libraries, which must not change the list under our feet. */
    PyObject *leaves = PyList_GetSlice(args[0], 0, PyList_GET_SIZE(args[0]));
    Py_ssize_t size = leaves == NULL ? 0 : PyList_GET_SIZE(leaves);
    Seen seen = {NULL, 15};
    while (seen.mask < 2 * (size_t)size) {
        seen.mask = seen.mask * 2 + 1;
    }
    PyObject *results = leaves == NULL ? NULL : PyList_New(size);
    seen.slots = PyMem_Calloc(seen.mask + 1, sizeof(Py_ssize_t));
    if (seen.slots == NULL && results != NULL) {
        PyErr_NoMemory();
        Py_CLEAR(results);
    }
    for (Py_ssize_t n = 0; results != NULL && n < size; n++) {
        PyObject *result = swept(&seen, leaves, args[1], results, n);
        if (result == NULL) {
            Py_CLEAR(results);
            break;
        }
        PyList_SET_ITEM(results, n, result);
    }
    PyMem_Free(seen.slots);
    Py_XDECREF(leaves);
    return results;
}

static PyMethodDef functions[] = {
    {"gather", (PyCFunction)(void (*)(void))gather, METH_FASTCALL, "Return the leaves of leaves and records, or None."},
    {"scatter", (PyCFunction)(void (*)(void))scatter, METH_FASTCALL, "Return leaves and records made anew around others."},
    {"stops", stops, METH_O, "Whether optree has to leave it alone."},
    {"sweep", (PyCFunction)(void (*)(void))sweep, METH_FASTCALL, "Call the short cut for each leaf's type."},
    {"watch", watch, METH_NOARGS, "From now on, ask the hurdle before every short cut."},
    {NULL, NULL, 0, NULL},
};

static PyObject *
front_vectorcall(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Front *self = (Front *)callable;
    int words = quick_words(args, PyVectorcall_NARGS(nargsf), kwnames);
    if (words < 0) {
        return NULL;
    }
    if (words > 0) {
        int clear = is_clear(self->hurdle);
        if (clear < 0) {
            return NULL;
        }
        if (clear) {
            PyObject *result = words == 2 ? look_up(self->detaching, args[0]) : Py_NewRef(Py_None);
            if (result == Py_None) {
                Py_DECREF(result);
                result = look_up(self->plain, args[0]);
            }
            if (result != Py_None) {
                return result;
            }
            Py_DECREF(result);
        }
    }
    return PyObject_Vectorcall(self->long_way, args, nargsf & ~PY_VECTORCALL_ARGUMENTS_OFFSET, kwnames);
}

static PyObject *
front_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"plain", "detaching", "hurdle", "long_way", NULL};
    PyObject *plain, *detaching, *hurdle, *long_way;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!O!O", names, &PyDict_Type, &plain, &PyDict_Type, &detaching,
                                     &PyContextVar_Type, &hurdle, &long_way)) {
        return NULL;
    }
    Front *self = (Front *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->plain = Py_NewRef(plain);
    self->detaching = Py_NewRef(detaching);
    self->hurdle = Py_NewRef(hurdle);
    self->long_way = Py_NewRef(long_way);
    self->vectorcall = front_vectorcall;
    return (PyObject *)self;
}

static int
front_traverse(Front *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->plain);
    Py_VISIT(self->detaching);
    Py_VISIT(self->hurdle);
    Py_VISIT(self->long_way);
    Py_VISIT(self->dict);
    return 0;
}

static int
front_clear(Front *self)
{
    Py_CLEAR(self->plain);
    Py_CLEAR(self->detaching);
    Py_CLEAR(self->hurdle);
    Py_CLEAR(self->long_way);
    Py_CLEAR(self->dict);
    return 0;
}

static void
front_dealloc(Front *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    front_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* pickle by name, as a function is: multiprocessing sends verbs to its workers. */
static PyObject *
front_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyObject_GetAttrString(self, "__qualname__");
}

static PyObject *
front_repr(PyObject *self)
{
    PyObject *name = PyObject_GetAttrString(self, "__qualname__");
    if (name == NULL) {
        PyErr_Clear();
        return PyUnicode_FromFormat("<verb of interop at %p>", self);
    }
    PyObject *text = PyUnicode_FromFormat("<verb interop.%U>", name);
    Py_DECREF(name);
    return text;
}

static PyMethodDef front_methods[] = {
    {"__reduce__", front_reduce, METH_NOARGS, "Pickle by qualified name, as a function is."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef front_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Front, vectorcall), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(Front, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Front, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef front_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot front_slots[] = {
    {Py_tp_new, front_new},
    {Py_tp_repr, front_repr},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_traverse, front_traverse},
    {Py_tp_clear, front_clear},
    {Py_tp_dealloc, front_dealloc},
    {Py_tp_methods, front_methods},
    {Py_tp_members, front_members},
    {Py_tp_getset, front_getset},
    {0, NULL},
};

static PyType_Spec front_spec = {
    .name = "interop.native.fastpath.Front",
    .basicsize = sizeof(Front),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = front_slots,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "interop.native.fastpath",
    .m_doc = "The quick path in C; see interop/_engine/fastpath.py.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC
PyInit_fastpath(void)
{
    PyObject *made = PyModule_Create(&module);
    if (made == NULL) {
        return NULL;
    }
    no_arguments = PyTuple_New(0);
    minus_one = PyLong_FromLong(-1);
    word_grad = PyUnicode_InternFromString("grad");
    word_detach = PyUnicode_InternFromString("detach");
    guarded_type = (PyTypeObject *)PyType_FromSpec(&guarded_spec);
    PyObject *front_type = PyType_FromSpec(&front_spec);
    if (no_arguments == NULL || minus_one == NULL || word_grad == NULL || word_detach == NULL || guarded_type == NULL || front_type == NULL ||
        PyModule_AddObjectRef(made, "Guarded", (PyObject *)guarded_type) < 0 ||
        PyModule_AddObjectRef(made, "Front", front_type) < 0 || PyModule_AddIntConstant(made, "BUILD", BUILD) < 0) {
        Py_DECREF(made);
        return NULL;
    }
    Py_DECREF(front_type);
    return made;
}
