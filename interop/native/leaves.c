/* What a tree of thousands of nodes asks of each, and does with each of its leaves; in Python in
 * interop/_engine/fastpath.py. */

#include "fastpath.h"

/* Whether optree has to leave x alone although it could flatten it; asked of every node of a tree. */
PyObject *
is_opaque(PyObject *Py_UNUSED(module), PyObject *x)
{
    if (PyTuple_Check(x) && !PyTuple_CheckExact(x) && Py_TYPE(x)->tp_base != &PyTuple_Type) {
        Py_RETURN_TRUE;
    }
    if (PyTuple_Check(x) ? Py_TYPE(x)->tp_dictoffset == 0 : !PyODict_CheckExact(x)) {
        Py_RETURN_FALSE;
    }
    PyObject *attributes = PyObject_GenericGetDict(x, NULL); /* not what a class says is its `__dict__` */
    if (attributes == NULL) {
        return NULL;
    }
    int some = PyDict_GET_SIZE(attributes) > 0;
    Py_DECREF(attributes);
    return PyBool_FromLong(some);
}

/* Where a leaf was met before: positions by address, with open addressing; at most half of it is filled. It refers to
 * nothing: the leaves stay in a list of our own as long as it lives. */
typedef struct {
    Py_ssize_t *slots; /* position + 1; 0 for an empty slot */
    size_t mask;
} Seen;

/* Return the slot of a leaf: its own, or the empty one where it belongs. */
static Py_ssize_t *
slot_of(Seen *seen, PyObject *leaves, PyObject *leaf)
{
    /* Fibonacci hashing: addresses are multiples of 16, and neighbours lie side by side. */
    size_t at = ((size_t)leaf >> 4) * (size_t)0x9E3779B97F4A7C15ULL >> 20;
    for (;; at++) {
        Py_ssize_t *slot = &seen->slots[at & seen->mask];
        if (*slot == 0 || PyList_GET_ITEM(leaves, *slot - 1) == leaf) {
            return slot;
        }
    }
}

/* Return the result for one leaf: that of the same leaf before, or its type's fast path's, or None. Runs code of the
 * libraries. */
static PyObject *
converted(Seen *seen, PyObject *leaves, PyObject *attempts, PyObject *results, Py_ssize_t n)
{
    PyObject *leaf = PyList_GET_ITEM(leaves, n);           /* borrowed: the list is ours */
    PyObject *attempt = entry_of(attempts, Py_TYPE(leaf)); /* borrowed */
    if (attempt == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    Py_ssize_t *slot = slot_of(seen, leaves, leaf);
    if (*slot != 0) {
        return Py_NewRef(PyList_GET_ITEM(results, *slot - 1));
    }
    *slot = n + 1;
    Py_INCREF(attempt); /* what it runs may change the table */
    PyObject *result = PyObject_CallOneArg(attempt, leaf);
    Py_DECREF(attempt);
    return result;
}

/* Call the fast path of each leaf's type; a leaf that occurs again gets the same result, one without a fast path None.
 */
PyObject *
convert_all(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyList_CheckExact(args[0]) || !PyDict_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "convert_all(leaves: list, attempts: dict)");
        return NULL;
    }
    /* A list of our own: a handoff runs code of the libraries, which must not change it under our feet. */
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
        PyObject *result = converted(&seen, leaves, args[1], results, n);
        if (result == NULL) {
            Py_CLEAR(results); /* its empty slots are NULL, which a list takes */
            break;
        }
        PyList_SET_ITEM(results, n, result); /* which owns it now */
    }
    PyMem_Free(seen.slots);
    Py_XDECREF(leaves);
    return results;
}
