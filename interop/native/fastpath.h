/* What the files of `interop.native.fastpath` share: the module's state, and the functions that stand in its table.
 *
 * References: a `PyObject *` that a function returns is new, and NULL means that an exception is set, unless its
 * comment says otherwise; parameters are borrowed. A function that runs code of other libraries, or Python, says so:
 * whatever was borrowed from a list or a dict before may be gone after.
 */

#ifndef INTEROP_FASTPATH_H
#define INTEROP_FASTPATH_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

/* One for each interpreter, and for each time the module is made: nothing is kept in C statics. */
typedef struct {
    PyObject *no_arguments; /* the empty tuple */
    PyObject *minus_one;    /* a small integer: one object in an interpreter */
    PyObject *word_grad;
    PyObject *word_detach;
    PyTypeObject *guarded_type;
} State;

typedef struct Guarded Guarded;

extern PyType_Spec guarded_spec;
extern PyType_Spec verb_spec;

/* Whether a type equals nothing but itself. One whose metaclass has an equality or a hash of its own may say that it
 * equals `list`: in a dict by type it would be found as `list`, and taken for one. */
static inline int
is_found_by_identity(PyTypeObject *type)
{
    PyTypeObject *meta = Py_TYPE(type);
    return meta->tp_richcompare == PyType_Type.tp_richcompare && meta->tp_hash == PyType_Type.tp_hash;
}

/* Return the entry of a type in a dict by type, borrowed; NULL without an exception where there is none. Runs no code
 * of a metaclass: such types are not in the dicts, which Python fills with the same care. */
static inline PyObject *
entry_of(PyObject *by_type, PyTypeObject *type)
{
    return is_found_by_identity(type) ? PyDict_GetItemWithError(by_type, (PyObject *)type) : NULL;
}

/* guarded.c. Runs code of the libraries. Returns the result, or None for the general way. */
PyObject *guarded_attempt(Guarded *self, PyObject *x);

/* leaves.c: what trees ask of each of their nodes, and do with each of their leaves. */
PyObject *is_opaque(PyObject *module, PyObject *x);
PyObject *convert_all(PyObject *module, PyObject *const *args, Py_ssize_t count);

/* flatten.c, unflatten.c: plain containers, their leaves, and new ones with others. */
PyObject *flatten(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *unflatten(PyObject *module, PyObject *const *args, Py_ssize_t count);

#endif
