/* Rebuild plain containers that flatten.c has flattened, with other leaves. The trees they were may have been changed
 * since: that is an error, and never results in the wrong places. */

#include "fastpath.h"
#include "containers.h"

/* What one call has in hand, borrowed from its arguments. */
typedef struct {
    PyObject *schemas; /* dict: type -> schema */
    PyObject *leaves;  /* list: those that flatten returned */
    PyObject *results; /* list: what comes in their places */
    PyObject *rebuilt; /* dict: id of a record -> what comes in its place; or None */
    Py_ssize_t next;
    int inside;    /* how many records we are inside of */
    int is_paused; /* whether the collector was switched off, and is to be switched on again */
} Rebuilding;

static PyObject *
changed_meanwhile(void)
{
    PyErr_SetString(PyExc_RuntimeError, "the tree was changed while it was being converted");
    return NULL;
}

/* Nothing that is made here is garbage: looking through thousands of new containers again and again, while more are
 * made, would take longer than making them. But the switch is the whole process': while it is off no code of others
 * runs, so no other thread either, which could switch it off for itself and find it on again. */
static void
pause_collector(Rebuilding *at)
{
    at->is_paused = PyGC_Disable();
}

static void
resume_collector(Rebuilding *at)
{
    if (at->is_paused) {
        at->is_paused = 0;
        PyGC_Enable();
    }
}

/* Whether hashing and comparing the keys of a dict runs no code but Python's own. */
static int
has_plain_keys(PyObject *x)
{
    PyObject *key, *value;
    for (Py_ssize_t at = 0; PyDict_Next(x, &at, &key, &value);) {
        if (!PyUnicode_CheckExact(key) && !PyLong_CheckExact(key)) {
            return 0;
        }
    }
    return 1;
}

/* Return what comes in the place of x: a new reference, to x itself where nothing has changed inside of a record. */
static PyObject *replaced(Rebuilding *at, PyObject *x);

/* Return an object of x's class with these values in its fields. Its class is not asked: it may be frozen, or check. */
static PyObject *
new_record(PyObject *x, PyObject *names, PyObject *values)
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

/* Fill `values`, a new tuple, with what comes in the place of the fields; 1 if any of them is new, 0 if none is, -1 on
 * error. */
static int
replace_fields(Rebuilding *at, PyObject *x, PyObject *names, PyObject *values)
{
    PyObject *attributes = attributes_of(x);
    int changed = attributes == NULL ? -1 : 0;
    if (changed == 0 && attributes != Py_None && PyDict_GET_SIZE(attributes) != PyTuple_GET_SIZE(names)) {
        changed_meanwhile();
        changed = -1;
    }
    for (Py_ssize_t i = 0; changed >= 0 && i < PyTuple_GET_SIZE(names); i++) {
        PyObject *old = field_of(x, attributes, PyTuple_GET_ITEM(names, i));
        if (old == NULL && !PyErr_Occurred()) {
            changed_meanwhile();
        }
        PyObject *value = old == NULL ? NULL : replaced(at, old);
        changed = value == NULL ? -1 : changed || value != old;
        PyTuple_SET_ITEM(values, i, value); /* owned by the tuple; NULL on error, when it is not read */
        Py_XDECREF(old);
    }
    Py_XDECREF(attributes);
    return changed;
}

/* A record that is met again is not walked again: what became of it stands in `rebuilt`, for the holder of the other
 * reference. */
static PyObject *
replaced_record(Rebuilding *at, PyObject *x, PyObject *names)
{
    PyObject *values = PyTuple_New(PyTuple_GET_SIZE(names));
    at->inside++;
    int changed = values == NULL ? -1 : replace_fields(at, x, names, values);
    at->inside--;
    PyObject *made = changed < 0 ? NULL : changed ? new_record(x, names, values) : Py_NewRef(x);
    Py_XDECREF(values);
    if (made == NULL || at->rebuilt == Py_None) {
        return made;
    }
    PyObject *key = PyLong_FromVoidPtr(x);
    if (key == NULL || PyDict_SetItem(at->rebuilt, key, made) < 0) {
        Py_CLEAR(made);
    }
    Py_XDECREF(key);
    return made;
}

/* Return what comes in the place of a dict, the new one in the order of the old. */
static PyObject *
replaced_dict(Rebuilding *at, PyObject *x)
{
    if (!has_plain_keys(x)) {
        resume_collector(at); /* for the rest of the call */
    }
    /* A copy first, so that the keys stay in their order, whatever the order in which the values are replaced. */
    PyObject *keys = keys_of(x), *made = keys == NULL ? NULL : PyDict_Copy(x);
    int changed = 0;
    for (Py_ssize_t i = 0; made != NULL && i < count_of(keys); i++) {
        PyObject *key, *old = value_at(x, keys, i, &key);
        PyObject *value = old == NULL ? NULL : replaced(at, old);
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
new_named_tuple(PyTypeObject *type, PyObject *values)
{
    PyObject *args = PyTuple_Pack(1, values);
    PyObject *made = args == NULL ? NULL : PyTuple_Type.tp_new(type, args, NULL);
    Py_XDECREF(args);
    return made;
}

/* Return a list of what comes in the places of the items of a list or a tuple; `changed` says whether any is new. */
static PyObject *
replaced_items(Rebuilding *at, PyObject *x, int *changed)
{
    PyObject *made = PyList_New(0);
    /* The length is asked for each time, and the item counted: comparing keys further down may run Python. */
    for (Py_ssize_t i = 0; made != NULL && i < PySequence_Fast_GET_SIZE(x); i++) {
        PyObject *old = Py_NewRef(PySequence_Fast_GET_ITEM(x, i));
        PyObject *value = replaced(at, old);
        *changed |= value != old;
        if (value == NULL || PyList_Append(made, value) < 0) {
            Py_CLEAR(made);
        }
        Py_XDECREF(value);
        Py_DECREF(old);
    }
    return made;
}

static PyObject *
replaced_sequence(Rebuilding *at, PyObject *x)
{
    int changed = 0;
    PyObject *made = replaced_items(at, x, &changed);
    if (made != NULL && !changed && at->inside > 0) {
        Py_SETREF(made, Py_NewRef(x));
    } else if (made != NULL && PyTuple_Check(x)) {
        Py_SETREF(made, PyList_AsTuple(made));
        if (made != NULL && !PyTuple_CheckExact(x)) {
            Py_SETREF(made, new_named_tuple(Py_TYPE(x), made));
        }
    }
    return made;
}

/* The next result, if x is the leaf that flatten found at this place: compared by identity. */
static PyObject *
replaced_leaf(Rebuilding *at, PyObject *x)
{
    if (at->next >= PyList_GET_SIZE(at->results) || at->next >= PyList_GET_SIZE(at->leaves) || PyList_GET_ITEM(at->leaves, at->next) != x) {
        return changed_meanwhile();
    }
    return Py_NewRef(PyList_GET_ITEM(at->results, at->next++));
}

static PyObject *
replaced(Rebuilding *at, PyObject *x)
{
    PyObject *schema = entry_of(at->schemas, Py_TYPE(x)); /* borrowed */
    if (schema == NULL || schema == Py_False || (PyType_Check(schema) && !is_plain(x))) {
        return PyErr_Occurred() ? NULL : changed_meanwhile();
    }
    if (schema == Py_None) {
        return replaced_leaf(at, x);
    }
    if (PyTuple_CheckExact(schema) && PyTuple_GET_SIZE(schema) == 0) {
        return Py_NewRef(x); /* None, or a record without fields */
    }
    /* flatten went no deeper than DEPTH, but the tree may have grown since. */
    if (Py_EnterRecursiveCall(" while rebuilding a record")) {
        return NULL;
    }
    Py_INCREF(schema); /* what compares keys may run code that changes the dict */
    PyObject *made = !PyType_Check(schema)  ? replaced_record(at, x, schema)
                     : PyDict_CheckExact(x) ? replaced_dict(at, x)
                                            : replaced_sequence(at, x);
    Py_DECREF(schema);
    Py_LeaveRecursiveCall();
    return made;
}

/* unflatten(items, schemas, leaves, results, rebuilt): the items with their leaves replaced by results. A list or dict
 * that is no part of a record is a new one always, a record in which nothing has changed is itself. */
PyObject *
unflatten(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 5 || !PyList_CheckExact(args[0]) || !PyDict_CheckExact(args[1]) || !PyList_CheckExact(args[2]) ||
        !PyList_CheckExact(args[3]) || (args[4] != Py_None && !PyDict_CheckExact(args[4]))) {
        PyErr_SetString(PyExc_TypeError, "unflatten(items: list, schemas: dict, leaves: list, results: list, rebuilt: dict or None)");
        return NULL;
    }
    Rebuilding at = {args[1], args[2], args[3], args[4], 0, 0, 0};
    int changed = 0;
    pause_collector(&at);
    PyObject *made = replaced_items(&at, args[0], &changed);
    if (made != NULL && (at.next != PyList_GET_SIZE(at.results) || at.next != PyList_GET_SIZE(at.leaves))) {
        Py_CLEAR(made);
        changed_meanwhile();
    }
    resume_collector(&at);
    return made;
}
