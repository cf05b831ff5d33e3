/* Descriptors and functions of C libraries called as directly as CPython itself calls them. All of it runs code of the
 * libraries. */

#ifndef INTEROP_CALLS_H
#define INTEROP_CALLS_H

#include "fastpath.h"

/* Ask a descriptor for its value on x. Directly: looking its name up on every call costs as much as the answer.
 * The type is checked as `getset_get` of CPython does it, because the C function behind it trusts its argument. */
static inline PyObject *
ask(PyObject *descriptor, PyObject *x)
{
    if (Py_IS_TYPE(descriptor, &PyGetSetDescr_Type) && PyObject_TypeCheck(x, PyDescr_TYPE(descriptor))) {
        PyGetSetDef *getset = ((PyGetSetDescrObject *)descriptor)->d_getset;
        if (getset->get != NULL) { /* one that is only written to says so by the other way */
            return getset->get(x, getset->closure);
        }
    }
    return Py_TYPE(descriptor)->tp_descr_get(descriptor, x, (PyObject *)Py_TYPE(x));
}

/* Call a function, or an unbound method, with x alone. Without a bound method, an argument tuple, or the recursion
 * check, where it is C that takes `(*args, **kwargs)`, as torch's methods do. */
static inline PyObject *
call(State *state, PyObject *callable, PyObject *x)
{
    if (Py_IS_TYPE(callable, &PyMethodDescr_Type) && PyObject_TypeCheck(x, PyDescr_TYPE(callable))) {
        PyMethodDef *method = ((PyMethodDescrObject *)callable)->d_method;
        if (method->ml_flags == (METH_VARARGS | METH_KEYWORDS)) {
            return ((PyCFunctionWithKeywords)(void (*)(void))method->ml_meth)(x, state->no_arguments, NULL);
        }
    }
    return PyObject_CallOneArg(callable, x);
}

/* Call a function without arguments; one of a C library as it wants to be called (`ml_flags` says how). */
static inline PyObject *
call_empty(State *state, PyObject *callable)
{
    if (!PyCFunction_CheckExact(callable)) {
        return PyObject_CallNoArgs(callable);
    }
    PyCFunction function = PyCFunction_GET_FUNCTION(callable);
    PyObject *self = PyCFunction_GET_SELF(callable); /* borrowed from `callable`, which a Guarded owns */
    switch (PyCFunction_GET_FLAGS(callable)) {
    case METH_NOARGS:
        return function(self, NULL);
    case METH_FASTCALL | METH_KEYWORDS:
        return ((_PyCFunctionFastWithKeywords)(void (*)(void))function)(self, NULL, 0, NULL);
    case METH_VARARGS | METH_KEYWORDS:
        return ((PyCFunctionWithKeywords)(void (*)(void))function)(self, state->no_arguments, NULL);
    default:
        return PyObject_CallNoArgs(callable);
    }
}

#endif
