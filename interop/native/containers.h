/* Plain containers as flatten.c and unflatten.c both see them: lists, tuples, dicts, named tuples, and records, which
 * are objects that hold nothing but declared fields.
 *
 * What the objects of a type are stands in `schemas`, a dict by type: None for a leaf, the names of a record's fields,
 * the type itself for list, tuple, dict and named tuples, False for what is for the general way.
 */

#ifndef INTEROP_CONTAINERS_H
#define INTEROP_CONTAINERS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Whether x is a list, a dict or a tuple, whatever its schema says: what walks over it trusts its structure. */
static inline int
is_plain(PyObject *x)
{
    return PyList_CheckExact(x) || PyDict_CheckExact(x) || PyTuple_Check(x);
}

/* Return the `__dict__` of a record; None where its fields are slots. */
static inline PyObject *
attributes_of(PyObject *x)
{
    return Py_TYPE(x)->tp_dictoffset == 0 ? Py_NewRef(Py_None) : PyObject_GenericGetDict(x, NULL);
}

/* Return the value of a field; NULL without an exception where it is not set. Runs no code of the class: its schema
 * says that `object` itself reads and sets its fields. */
static inline PyObject *
field_of(PyObject *x, PyObject *attributes, PyObject *name)
{
    if (attributes != Py_None) {
        return Py_XNewRef(PyDict_GetItemWithError(attributes, name));
    }
    PyObject *found = PyObject_GetAttr(x, name);
    if (found == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
    }
    return found;
}

/* Return the keys of a dict in optree's order, None for a single one, which needs no list; NULL without an exception
 * where they have no order. Comparing the keys may run Python. */
static inline PyObject *
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

static inline Py_ssize_t
count_of(PyObject *keys)
{
    return keys == Py_None ? 1 : PyList_GET_SIZE(keys);
}

/* Return a value of a dict, and its key, both new references; NULL, perhaps without an exception, where it is gone:
 * what ran since `keys_of` may have changed the dict. */
static inline PyObject *
value_at(PyObject *x, PyObject *keys, Py_ssize_t i, PyObject **key)
{
    PyObject *value = NULL;
    Py_ssize_t start = 0;
    *key = NULL;
    if (keys != Py_None) {
        *key = PyList_GET_ITEM(keys, i);
        value = PyDict_GetItemWithError(x, *key);
    } else if (PyDict_GET_SIZE(x) == 1) {
        PyDict_Next(x, &start, key, &value);
    }
    Py_XINCREF(*key);
    return Py_XNewRef(value);
}

#endif
