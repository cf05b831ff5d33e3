/* Flatten plain containers into their leaves, for trees that hold thousands of them. It knows no array library. */

#include "fastpath.h"
#include "containers.h"

/* How deep it goes; the same as `DEPTH` of interop/_trees/records.py. What is deeper is for the general way, which has
 * limits of its own: so C recursion is bounded here. */
#define DEPTH 200

/* What one call has in hand; the first three are borrowed from its arguments, the others its own. */
typedef struct {
    PyObject *schemas; /* dict: type -> schema */
    PyObject *met;     /* dict: ids of records that were met before this call */
    PyObject *ask;     /* callable: the schema of an object's type */
    PyObject *own;     /* dict: ids of the records of this call, which go to `met` at its end if it is whole */
    PyObject *leaves;
    int depth;
} Flattening;

/* Whether it is a type whose objects can be walked over. */
static int
is_walked(PyObject *schema)
{
    return schema == (PyObject *)&PyList_Type || schema == (PyObject *)&PyDict_Type ||
           (PyType_Check(schema) && PyType_IsSubtype((PyTypeObject *)schema, &PyTuple_Type));
}

/* Return the schema of x's type, asking for it where it is not known: `ask` runs Python. False for a type that cannot
 * be in a table (see `entry_of`), and where x got another class meanwhile. */
static PyObject *
schema_of(Flattening *at, PyObject *x)
{
    PyTypeObject *type = Py_TYPE(x);
    PyObject *schema = entry_of(at->schemas, type);
    if (schema != NULL || PyErr_Occurred()) {
        return Py_XNewRef(schema); /* counted: asking for the next may replace it in the dict */
    }
    if (!is_found_by_identity(type)) {
        return Py_NewRef(Py_False);
    }
    Py_INCREF(type);
    schema = PyObject_CallOneArg(at->ask, x);
    if (schema != NULL && schema != Py_None && schema != Py_False && !PyTuple_CheckExact(schema) && !is_walked(schema)) {
        PyErr_Format(PyExc_TypeError, "a schema is None, False, a tuple of names, or a type of list, tuple or dict, not %R", schema);
        Py_CLEAR(schema);
    }
    if (schema != NULL && Py_TYPE(x) != type) {
        Py_SETREF(schema, Py_NewRef(Py_False));
    } else if (schema != NULL && PyDict_SetItem(at->schemas, (PyObject *)type, schema) < 0) {
        Py_CLEAR(schema);
    }
    Py_DECREF(type);
    return schema;
}

/* Enter a record as met; 0 if it was before, -1 on error. An id is enough: the tree's holder keeps its records
 * alive. */
static int
is_first(Flattening *at, PyObject *x)
{
    PyObject *key = PyLong_FromVoidPtr(x);
    if (key == NULL) {
        return -1;
    }
    /* Most often nothing was met before this call, and one look is enough for both: whether it is there, and putting it
     * there. */
    int found = PyDict_GET_SIZE(at->met) > 0 ? PyDict_Contains(at->met, key) : 0;
    Py_ssize_t before = PyDict_GET_SIZE(at->own);
    if (found == 0 && PyDict_SetDefault(at->own, key, Py_False) == NULL) {
        found = -1;
    }
    Py_DECREF(key);
    return found != 0 ? (found < 0 ? -1 : 0) : PyDict_GET_SIZE(at->own) > before;
}

static int append_leaves(Flattening *at, PyObject *x);

/* Append the leaves of a child that was looked up, and release it: NULL, perhaps with an exception, is for the general
 * way. */
static int
append_child(Flattening *at, PyObject *child)
{
    int fine = child != NULL ? append_leaves(at, child) : PyErr_Occurred() ? -1 : 0;
    Py_XDECREF(child);
    return fine;
}

static int
append_fields(Flattening *at, PyObject *x, PyObject *names)
{
    PyObject *attributes = attributes_of(x);
    if (attributes == NULL) {
        return -1;
    }
    /* What is no field would have to be carried over: that is for the general way. */
    int fine = attributes == Py_None || PyDict_GET_SIZE(attributes) == PyTuple_GET_SIZE(names);
    for (Py_ssize_t i = 0; fine > 0 && i < PyTuple_GET_SIZE(names); i++) {
        fine = append_child(at, field_of(x, attributes, PyTuple_GET_ITEM(names, i)));
    }
    Py_DECREF(attributes);
    return fine;
}

/* Whether a key holds nothing, by its type alone; what other keys hold is looked up by the general way. */
static int
is_name(PyObject *key)
{
    if (PyTuple_CheckExact(key)) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(key); i++) {
            PyObject *part = PyTuple_GET_ITEM(key, i);
            if (PyTuple_CheckExact(part) || !is_name(part)) {
                return 0;
            }
        }
        return 1;
    }
    return PyUnicode_CheckExact(key) || PyLong_CheckExact(key) || PyBool_Check(key) || PyFloat_CheckExact(key) ||
           PyBytes_CheckExact(key) || key == Py_None;
}

static int
append_values(Flattening *at, PyObject *x)
{
    PyObject *keys = keys_of(x);
    if (keys == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    int fine = 1;
    for (Py_ssize_t i = 0; fine > 0 && i < count_of(keys); i++) {
        PyObject *key = NULL, *value = value_at(x, keys, i, &key);
        if (value != NULL && !is_name(key)) {
            fine = 0;
            Py_DECREF(value);
        } else {
            fine = append_child(at, value);
        }
        Py_XDECREF(key);
    }
    Py_DECREF(keys);
    return fine;
}

static int
append_items(Flattening *at, PyObject *x)
{
    int fine = 1;
    /* The length is asked for each time, and the item counted: `ask` runs Python, which may change a list. */
    for (Py_ssize_t i = 0; fine > 0 && i < PySequence_Fast_GET_SIZE(x); i++) {
        fine = append_child(at, Py_NewRef(PySequence_Fast_GET_ITEM(x, i)));
    }
    return fine;
}

/* Append the leaves of x; 1 if that is all there is to it, 0 if it is for the general way, -1 on error. */
static int
append_leaves(Flattening *at, PyObject *x)
{
    PyObject *schema = schema_of(at, x);
    if (schema == NULL) {
        return -1;
    }
    int fine;
    if (schema == Py_None) {
        fine = PyList_Append(at->leaves, x) < 0 ? -1 : 1;
    } else if (schema == Py_False) {
        fine = 0;
    } else if (PyTuple_CheckExact(schema) && PyTuple_GET_SIZE(schema) == 0) {
        fine = 1; /* None, or a record without fields */
    } else {
        fine = at->depth == DEPTH ? 0 : PyType_Check(schema) ? is_plain(x) : is_first(at, x);
        if (fine > 0) {
            at->depth++;
            fine = !PyType_Check(schema) ? append_fields(at, x, schema) : PyDict_CheckExact(x) ? append_values(at, x) : append_items(at, x);
            at->depth--;
        }
    }
    Py_DECREF(schema);
    return fine;
}

/* flatten(items, schemas, met, ask): the leaves of leaves and plain containers; None if any is something else. */
PyObject *
flatten(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 4 || !PyList_CheckExact(args[0]) || !PyDict_CheckExact(args[1]) || !PyDict_CheckExact(args[2])) {
        PyErr_SetString(PyExc_TypeError, "flatten(items: list, schemas: dict, met: dict, ask)");
        return NULL;
    }
    Flattening at = {args[1], args[2], args[3], PyDict_New(), PyList_New(0), 0};
    int fine = at.own == NULL || at.leaves == NULL ? -1 : append_items(&at, args[0]);
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
