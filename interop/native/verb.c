/* Verb: a public verb with a fixed target, and the fast path tried before it is called. */

#include "fastpath.h"

typedef struct {
    PyObject_HEAD PyObject *plain; /* dict: type -> fast path */
    PyObject *detaching;           /* dict: type -> fast path, for grad="detach" */
    PyObject *fast_path_off;       /* context variable that is None where a fast path may be taken */
    PyObject *general;             /* callable: decides, and knows every keyword */
    PyObject *dict;                /* made by PyObject_GenericGetDict on request; holds the signature's attributes */
    PyObject *weakrefs;            /* borrowed: the weak references own themselves */
    int is_cleared;                /* by the collector, see Guarded */
    PyObject *module;              /* owned to the end, see Guarded */
    State *state;                  /* the module's */
    vectorcallfunc vectorcall;
} Verb;

/* Return the result of a table's fast path for the array, None if there is none. Runs code of the libraries. */
static PyObject *
look_up(Verb *self, PyObject *table, PyObject *x)
{
    PyObject *found = entry_of(table, Py_TYPE(x)); /* borrowed */
    if (found == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    Py_INCREF(found); /* the handoff may run code that changes the table */
    PyObject *result = Py_IS_TYPE(found, self->state->guarded_type) ? guarded_attempt((Guarded *)found, x) : PyObject_CallOneArg(found, x);
    Py_DECREF(found);
    return result;
}

typedef enum { FAILED = -1, OTHER, NONE, DETACH } Words;

/* Return which keywords there are: none, only grad="detach", or others, which need a decision. */
static Words
words_of(State *state, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t count = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    if (nargs != 1 || count > 1) {
        return OTHER;
    }
    if (count == 0) {
        return NONE;
    }
    int same = PyObject_RichCompareBool(PyTuple_GET_ITEM(kwnames, 0), state->word_grad, Py_EQ);
    /* Exactly a str: an array compared with a word has an answer for each element. */
    if (same > 0 && PyUnicode_CheckExact(args[nargs])) {
        same = PyObject_RichCompareBool(args[nargs], state->word_detach, Py_EQ);
        return same > 0 ? DETACH : same < 0 ? FAILED : OTHER;
    }
    return same < 0 ? FAILED : OTHER;
}

/* Return 1 if nothing in this context turns the fast path off, 0 if something does, -1 on error. */
static int
is_on(PyObject *fast_path_off)
{
    PyObject *off = NULL;
    if (PyContextVar_Get(fast_path_off, Py_None, &off) < 0) {
        return -1;
    }
    int on = Py_IsNone(off);
    Py_DECREF(off);
    return on;
}

/* Return the result of a fast path, None for the general way. */
static PyObject *
attempted(Verb *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Words words = words_of(self->state, args, nargs, kwnames);
    int on = words > OTHER ? is_on(self->fast_path_off) : 0;
    if (words == FAILED || on < 0) {
        return NULL;
    }
    if (on && words == DETACH) {
        PyObject *result = look_up(self, self->detaching, args[0]);
        if (result != Py_None) {
            return result;
        }
        Py_DECREF(result);
    }
    return on ? look_up(self, self->plain, args[0]) : Py_NewRef(Py_None);
}

/* What is called: borrowed arguments, keyword values behind the positional ones. */
static PyObject *
verb_vectorcall(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Verb *self = (Verb *)callable;
    if (self->is_cleared) {
        PyErr_SetString(PyExc_ReferenceError, "a verb was called that the garbage collector has cleared");
        return NULL;
    }
    PyObject *result = attempted(self, args, PyVectorcall_NARGS(nargsf), kwnames);
    if (result != Py_None) {
        return result;
    }
    Py_DECREF(result);
    /* Without the flag: the slot before the arguments is the caller's, who may have put something there. */
    return PyObject_Vectorcall(self->general, args, nargsf & ~PY_VECTORCALL_ARGUMENTS_OFFSET, kwnames);
}

static PyObject *
verb_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"plain", "detaching", "fast_path_off", "general", NULL};
    PyObject *plain, *detaching, *fast_path_off, *general;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!O!O", names, &PyDict_Type, &plain, &PyDict_Type, &detaching, &PyContextVar_Type,
                                     &fast_path_off, &general)) {
        return NULL;
    }
    PyObject *module = PyType_GetModule(type); /* the type has no subclasses */
    Verb *self = module != NULL ? (Verb *)type->tp_alloc(type, 0) : NULL;
    if (self == NULL) {
        return NULL;
    }
    self->plain = Py_NewRef(plain);
    self->detaching = Py_NewRef(detaching);
    self->fast_path_off = Py_NewRef(fast_path_off);
    self->general = Py_NewRef(general);
    self->module = Py_NewRef(module);
    self->state = PyModule_GetState(module);
    self->vectorcall = verb_vectorcall;
    return (PyObject *)self;
}

/* `state` is not visited: it is no object, and the type keeps the module that has it. */
static int
verb_traverse(Verb *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self)); /* a heap type is owned by its objects */
    Py_VISIT(self->module);
    Py_VISIT(self->plain);
    Py_VISIT(self->detaching);
    Py_VISIT(self->fast_path_off);
    Py_VISIT(self->general);
    Py_VISIT(self->dict);
    return 0;
}

static int
verb_clear(Verb *self)
{
    self->is_cleared = 1;
    Py_CLEAR(self->plain);
    Py_CLEAR(self->detaching);
    Py_CLEAR(self->fast_path_off);
    Py_CLEAR(self->general);
    Py_CLEAR(self->dict);
    return 0;
}

static void
verb_dealloc(Verb *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self); /* first: what is cleared below may run a collection */
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    verb_clear(self);
    PyObject *module = self->module; /* which has the type, so it goes last */
    type->tp_free(self);
    Py_XDECREF(module);
    Py_DECREF(type);
}

/* Pickle by name, as a function is: multiprocessing sends verbs to its workers. */
static PyObject *
verb_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyObject_GetAttrString(self, "__qualname__");
}

static PyObject *
verb_repr(PyObject *self)
{
    PyObject *name = PyObject_GetAttrString(self, "__qualname__"); /* from `dict`: functools.update_wrapper puts it there */
    if (name == NULL) {
        PyErr_Clear();
        return PyUnicode_FromFormat("<verb of interop at %p>", self);
    }
    PyObject *text = PyUnicode_FromFormat("<verb interop.%U>", name);
    Py_DECREF(name);
    return text;
}

/* Bind as a function does (functools.lru_cache's objects too): by this, help() takes a verb for a routine and shows its
 * signature. */
static PyObject *
verb_descr_get(PyObject *self, PyObject *instance, PyObject *Py_UNUSED(owner))
{
    return instance == NULL || instance == Py_None ? Py_NewRef(self) : PyMethod_New(self, instance);
}

static PyMethodDef verb_methods[] = {
    {"__reduce__", verb_reduce, METH_NOARGS, "Pickle by qualified name, as a function is."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef verb_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Verb, vectorcall), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(Verb, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Verb, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef verb_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot verb_slots[] = {
    {Py_tp_new, verb_new},
    {Py_tp_repr, verb_repr},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_traverse, verb_traverse},
    {Py_tp_clear, verb_clear},
    {Py_tp_dealloc, verb_dealloc},
    {Py_tp_methods, verb_methods},
    {Py_tp_members, verb_members},
    {Py_tp_getset, verb_getset},
    {Py_tp_descr_get, verb_descr_get},
    {0, NULL},
};

PyType_Spec verb_spec = {
    .name = "interop.native.fastpath.Verb",
    .basicsize = sizeof(Verb),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = verb_slots,
};
