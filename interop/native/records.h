/* The functions of records.c, which are methods of the module in fastpath.c. */

#ifndef INTEROP_QUICK_WALK_H
#define INTEROP_QUICK_WALK_H

#include <Python.h>

/* gather(items, known, met, ask): the leaves of leaves and plain containers; None if any is something else. */
PyObject *gather(PyObject *module, PyObject *const *args, Py_ssize_t count);

/* scatter(items, known, leaves, results, renewed): the items with these leaves replaced by results; what became of a record goes
 * to `renewed`, if that is not None. */
PyObject *scatter(PyObject *module, PyObject *const *args, Py_ssize_t count);

#endif
