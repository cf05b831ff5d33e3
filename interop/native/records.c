/* Plain containers, taken apart and made anew: `interop/_trees/walk.py` again, for trees that hold thousands of them.
 *
 * It knows no array library. What the objects of a type are stands in `known`, a dict by type: None for a leaf, the names
 * of a record's fields, or the type itself for list, tuple, dict and named tuples.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "records.h"

/* Return the `__dict__` of a record, a new reference; None where its fields are slots. */
static PyObject *
own_of(PyObject *x)
{
    return Py_TYPE(x)->tp_dictoffset == 0 ? Py_NewRef(Py_None) : PyObject_GenericGetDict(x, NULL);
}

/* Return the value of a field, a new reference; NULL without an exception where it is not set. */
static PyObject *
field_of(PyObject *x, PyObject *own, PyObject *name)
{
    if (own != Py_None) {
        return Py_XNewRef(PyDict_GetItemWithError(own, name));
    }
    PyObject *found = PyObject_GetAttr(x, name);
    if (found == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
    }
    return found;
}

/* Whether it is a type whose objects can be walked over. */
static int
is_walked(PyObject *kind)
{
    return kind == (PyObject *)&PyList_Type || kind == (PyObject *)&PyDict_Type ||
           (PyType_Check(kind) && PyType_IsSubtype((PyTypeObject *)kind, &PyTuple_Type));
}

/* Return the keys of a dict in the order in which optree has them, None for a single one, which needs no list; NULL without an
 * exception where they have no order. */
static PyObject *
keys_of(PyObject *x)
{
    if (PyDict_GET_SIZE(x) == 1) {
        return Py_NewRef(Py_None);
    }
    PyObject *keys = PyDict_Keys(x);
    if (keys != NULL && PyList_Sort(keys) < 0) {
        Py_CLEAR(keys);
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
        }
    }
    return keys;
}

static Py_ssize_t
count_of(PyObject *keys)
{
    return keys == Py_None ? 1 : PyList_GET_SIZE(keys);
}

/* Return a value of a dict, and its key, both new references; NULL, perhaps without an exception, where it is gone. */
static PyObject *
value_at(PyObject *x, PyObject *keys, Py_ssize_t i, PyObject **key)
{
    PyObject *value = NULL;
    Py_ssize_t start = 0;
    *key = NULL;
    if (keys != Py_None) {
        *key = PyList_GET_ITEM(keys, i);
        value = PyDict_GetItemWithError(x, *key);
    }
    else if (PyDict_GET_SIZE(x) == 1) {
        PyDict_Next(x, &start, key, &value);
    }
    Py_XINCREF(*key);
    return Py_XNewRef(value);
}

/* How deep a walk goes; `DEPTH` of interop/_trees/walk.py. */
#define DEPTH 200

/* What a walk over the items has in hand. */
typedef struct {
    PyObject *known, *met, *own, *ask, *leaves;
    int depth;
} Gathering;

/* Return what the type of x is, a new reference, asking for it where it is not known. */
static PyObject *
kind_of(Gathering *at, PyObject *x)
{
    PyObject *kind = PyDict_GetItemWithError(at->known, (PyObject *)Py_TYPE(x));
    if (kind != NULL || PyErr_Occurred()) {
        return Py_XNewRef(kind);
    }
    kind = PyObject_CallOneArg(at->ask, x);
    if (kind != NULL && kind != Py_None && kind != Py_False && !PyTuple_CheckExact(kind) && !is_walked(kind)) {
        PyErr_Format(PyExc_TypeError, "a kind is None, False, a tuple of names, or a type of list, tuple or dict, not %R", kind);
        Py_CLEAR(kind);
    }
    if (kind != NULL && PyDict_SetItem(at->known, (PyObject *)Py_TYPE(x), kind) < 0) {
        Py_CLEAR(kind);
    }
    return kind;
}

/* Note that a record was met; 0 if it was before, -1 on error. */
static int
is_first(Gathering *at, PyObject *x)
{
    PyObject *key = PyLong_FromVoidPtr(x);
    if (key == NULL) {
        return -1;
    }
    /* Most often nothing was met outside of this walk, and one look is enough for both: whether it is there, and putting it there. */
    int found = PyDict_GET_SIZE(at->met) > 0 ? PyDict_Contains(at->met, key) : 0;
    Py_ssize_t before = PyDict_GET_SIZE(at->own);
    if (found == 0 && PyDict_SetDefault(at->own, key, Py_False) == NULL) {
        found = -1;
    }
    Py_DECREF(key);
    return found != 0 ? (found < 0 ? -1 : 0) : PyDict_GET_SIZE(at->own) > before;
}

static int gathered(Gathering *at, PyObject *x);

static int
gathered_fields(Gathering *at, PyObject *x, PyObject *names)
{
    PyObject *own = own_of(x);
    if (own == NULL) {
        return -1;
    }
    /* What is no field would have to be carried over: that is for the long way. */
    int fine = own == Py_None || PyDict_GET_SIZE(own) == PyTuple_GET_SIZE(names);
    for (Py_ssize_t i = 0; fine > 0 && i < PyTuple_GET_SIZE(names); i++) {
        PyObject *part = field_of(x, own, PyTuple_GET_ITEM(names, i));
        fine = part != NULL ? gathered(at, part) : PyErr_Occurred() ? -1 : 0;
        Py_XDECREF(part);
    }
    Py_DECREF(own);
    return fine;
}

static int
gathered_members(Gathering *at, PyObject *x)
{
    int fine = 1;
    if (PyDict_CheckExact(x)) {
        PyObject *keys = keys_of(x);
        if (keys == NULL) {
            return PyErr_Occurred() ? -1 : 0;
        }
        for (Py_ssize_t i = 0; fine > 0 && i < count_of(keys); i++) {
            PyObject *key, *part = value_at(x, keys, i, &key);
            fine = part != NULL ? gathered(at, part) : PyErr_Occurred() ? -1 : 0;
            Py_XDECREF(part);
            Py_XDECREF(key);
        }
        Py_DECREF(keys);
        return fine;
    }
    /* The length is asked for each time: `ask` runs Python. */
    for (Py_ssize_t i = 0; fine > 0 && i < PySequence_Fast_GET_SIZE(x); i++) {
        PyObject *part = Py_NewRef(PySequence_Fast_GET_ITEM(x, i));
        fine = gathered(at, part);
        Py_DECREF(part);
    }
    return fine;
}

/* Append the leaves of x; 1 if that is all there is to it, 0 if it is for the long way, -1 on error. */
static int
gathered(Gathering *at, PyObject *x)
{
    PyObject *kind = kind_of(at, x);
    if (kind == NULL) {
        return -1;
    }
    int fine;
    if (kind == Py_None) {
        fine = PyList_Append(at->leaves, x) < 0 ? -1 : 1;
    }
    else if (kind == Py_False) {
        fine = 0;
    }
    else if (PyTuple_CheckExact(kind) && PyTuple_GET_SIZE(kind) == 0) {
        fine = 1;
    }
    else {
        fine = at->depth == DEPTH ? 0 : PyType_Check(kind) ? 1 : is_first(at, x);
        if (fine > 0) {
            at->depth++;
            fine = PyType_Check(kind) ? gathered_members(at, x) : gathered_fields(at, x, kind);
            at->depth--;
        }
    }
    Py_DECREF(kind);
    return fine;
}

PyObject *
gather(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 4 || !PyList_CheckExact(args[0]) || !PyDict_CheckExact(args[1]) || !PyDict_CheckExact(args[2])) {
        PyErr_SetString(PyExc_TypeError, "gather(items: list, known: dict, met: dict, ask)");
        return NULL;
    }
    Gathering at = {args[1], args[2], PyDict_New(), args[3], PyList_New(0), 0};
    int fine = at.own == NULL || at.leaves == NULL ? -1 : 1;
    /* The length is asked for each time: `ask` runs Python. */
    for (Py_ssize_t n = 0; fine > 0 && n < PyList_GET_SIZE(args[0]); n++) {
        PyObject *item = Py_NewRef(PyList_GET_ITEM(args[0], n));
        fine = gathered(&at, item);
        Py_DECREF(item);
    }
    if (fine > 0 && PyDict_Update(at.met, at.own) < 0) {
        fine = -1;
    }
    Py_XDECREF(at.own);
    if (fine <= 0) {
        Py_XDECREF(at.leaves);
        return fine < 0 ? NULL : Py_NewRef(Py_None);
    }
    return at.leaves;
}

typedef struct {
    PyObject *known, *leaves, *results, *renewed;
    Py_ssize_t next;
    int inside; /* how many records the walk is inside of */
} Scattering;

static PyObject *
changed_meanwhile(void)
{
    PyErr_SetString(PyExc_RuntimeError, "the tree was changed while it was being converted");
    return NULL;
}

/* Return an object of x's class with these values in its fields. Its class is not asked: it may be frozen, or check. */
static PyObject *
fresh(PyObject *x, PyObject *names, PyObject *values)
{
    PyObject *empty = PyTuple_New(0);
    PyObject *made = empty == NULL ? NULL : PyBaseObject_Type.tp_new(Py_TYPE(x), empty, NULL);
    Py_XDECREF(empty);
    for (Py_ssize_t i = 0; made != NULL && i < PyTuple_GET_SIZE(names); i++) {
        if (PyObject_GenericSetAttr(made, PyTuple_GET_ITEM(names, i), PyTuple_GET_ITEM(values, i)) < 0) {
            Py_CLEAR(made);
        }
    }
    return made;
}

static PyObject *scattered(Scattering *at, PyObject *x);

/* Fill `values` with what comes in the place of the fields; 1 if any of them is new, 0 if none is, -1 on error. */
static int
scattered_fields(Scattering *at, PyObject *x, PyObject *names, PyObject *values)
{
    PyObject *own = own_of(x);
    int changed = own == NULL ? -1 : 0;
    if (changed == 0 && own != Py_None && PyDict_GET_SIZE(own) != PyTuple_GET_SIZE(names)) {
        changed_meanwhile();
        changed = -1;
    }
    for (Py_ssize_t i = 0; changed >= 0 && i < PyTuple_GET_SIZE(names); i++) {
        PyObject *old = field_of(x, own, PyTuple_GET_ITEM(names, i));
        if (old == NULL && !PyErr_Occurred()) {
            changed_meanwhile();
        }
        PyObject *value = old == NULL ? NULL : scattered(at, old);
        changed = value == NULL ? -1 : changed || value != old;
        PyTuple_SET_ITEM(values, i, value); /* may be NULL: nobody reads it then */
        Py_XDECREF(old);
    }
    Py_XDECREF(own);
    return changed;
}

static PyObject *
scattered_record(Scattering *at, PyObject *x, PyObject *names)
{
    PyObject *values = PyTuple_New(PyTuple_GET_SIZE(names));
    at->inside++;
    int changed = values == NULL ? -1 : scattered_fields(at, x, names, values);
    at->inside--;
    PyObject *made = changed < 0 ? NULL : changed ? fresh(x, names, values) : Py_NewRef(x);
    Py_XDECREF(values);
    if (made == NULL || at->renewed == Py_None) {
        return made;
    }
    PyObject *key = PyLong_FromVoidPtr(x);
    if (key == NULL || PyDict_SetItem(at->renewed, key, made) < 0) {
        Py_CLEAR(made);
    }
    Py_XDECREF(key);
    return made;
}

/* Return what comes in the place of a dict, the new one in the order of the old. */
static PyObject *
scattered_dict(Scattering *at, PyObject *x)
{
    PyObject *keys = keys_of(x), *made = keys == NULL ? NULL : PyDict_Copy(x);
    int changed = 0;
    for (Py_ssize_t i = 0; made != NULL && i < count_of(keys); i++) {
        PyObject *key, *old = value_at(x, keys, i, &key);
        PyObject *value = old == NULL ? NULL : scattered(at, old);
        changed |= value != old;
        if (value == NULL || PyDict_SetItem(made, key, value) < 0) {
            Py_CLEAR(made);
        }
        Py_XDECREF(value);
        Py_XDECREF(old);
        Py_XDECREF(key);
    }
    Py_XDECREF(keys);
    if (made == NULL) {
        return PyErr_Occurred() ? NULL : changed_meanwhile();
    }
    if (!changed && at->inside > 0) {
        Py_SETREF(made, Py_NewRef(x));
    }
    return made;
}

/* Return a named tuple of these values. Its class is not asked: it may check. */
static PyObject *
named(PyTypeObject *type, PyObject *values)
{
    PyObject *args = PyTuple_Pack(1, values);
    PyObject *made = args == NULL ? NULL : PyTuple_Type.tp_new(type, args, NULL);
    Py_XDECREF(args);
    return made;
}

/* Return what comes in the place of a list or a tuple. */
static PyObject *
scattered_sequence(Scattering *at, PyObject *x)
{
    PyObject *made = PyList_New(0);
    int changed = 0;
    for (Py_ssize_t i = 0; made != NULL && i < PySequence_Fast_GET_SIZE(x); i++) {
        PyObject *old = Py_NewRef(PySequence_Fast_GET_ITEM(x, i));
        PyObject *value = scattered(at, old);
        changed |= value != old;
        if (value == NULL || PyList_Append(made, value) < 0) {
            Py_CLEAR(made);
        }
        Py_XDECREF(value);
        Py_DECREF(old);
    }
    if (made != NULL && !changed && at->inside > 0) {
        Py_SETREF(made, Py_NewRef(x));
    }
    else if (made != NULL && PyTuple_Check(x)) {
        Py_SETREF(made, PyList_AsTuple(made));
        if (made != NULL && !PyTuple_CheckExact(x)) {
            Py_SETREF(made, named(Py_TYPE(x), made));
        }
    }
    return made;
}

static PyObject *
scattered_members(Scattering *at, PyObject *x)
{
    return PyDict_CheckExact(x) ? scattered_dict(at, x) : scattered_sequence(at, x);
}

/* Return what comes in the place of x, a new reference. A list or dict that is no part of a record is a new one always. */
static PyObject *
scattered(Scattering *at, PyObject *x)
{
    PyObject *kind = PyDict_GetItemWithError(at->known, (PyObject *)Py_TYPE(x));
    if (kind == NULL || kind == Py_False) {
        return PyErr_Occurred() ? NULL : changed_meanwhile();
    }
    if (kind == Py_None) {
        if (at->next >= PyList_GET_SIZE(at->results) || at->next >= PyList_GET_SIZE(at->leaves) ||
            PyList_GET_ITEM(at->leaves, at->next) != x) {
            return changed_meanwhile();
        }
        return Py_NewRef(PyList_GET_ITEM(at->results, at->next++));
    }
    if (PyTuple_CheckExact(kind) && PyTuple_GET_SIZE(kind) == 0) {
        return Py_NewRef(x);
    }
    if (Py_EnterRecursiveCall(" while making a record anew")) {
        return NULL;
    }
    Py_INCREF(kind);
    PyObject *made = PyType_Check(kind) ? scattered_members(at, x) : scattered_record(at, x, kind);
    Py_DECREF(kind);
    Py_LeaveRecursiveCall();
    return made;
}

PyObject *
scatter(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 5 || !PyList_CheckExact(args[0]) || !PyDict_CheckExact(args[1]) || !PyList_CheckExact(args[2]) ||
        !PyList_CheckExact(args[3]) || (args[4] != Py_None && !PyDict_CheckExact(args[4]))) {
        PyErr_SetString(PyExc_TypeError, "scatter(items: list, known: dict, leaves: list, results: list, renewed: dict or None)");
        return NULL;
    }
    Scattering at = {args[1], args[2], args[3], args[4], 0, 0};
    /* Nothing that is made here is garbage: looking through thousands of new containers again and again, while more are
     * made, would take longer than making them. The collector looks when it is asked next. */
    int collects = PyGC_Disable();
    PyObject *made = PyList_New(0);
    for (Py_ssize_t n = 0; made != NULL && n < PyList_GET_SIZE(args[0]); n++) {
        PyObject *item = Py_NewRef(PyList_GET_ITEM(args[0], n));
        PyObject *one = scattered(&at, item);
        Py_DECREF(item);
        if (one == NULL || PyList_Append(made, one) < 0) {
            Py_CLEAR(made);
        }
        Py_XDECREF(one);
    }
    if (made != NULL && (at.next != PyList_GET_SIZE(at.results) || at.next != PyList_GET_SIZE(at.leaves))) {
        Py_CLEAR(made);
        changed_meanwhile();
    }
    if (collects) {
        PyGC_Enable();
    }
    return made;
}
