/* `interop.native.fastpath`: what a conversion and a tree do thousands of times a second, without a decision in it.
 *
 * `interop/_engine/fastpath.py` says what each part is for, and has the same in Python where there is no compiler
 * (except for flatten and unflatten, without which optree does it). The module knows no array library: guards and
 * handoffs are data that the backends declare. `tests/engine/test_fastpath.py` and `tests/trees/test_records.py` hold C
 * against Python.
 */

#include "fastpath.h"

#define BUILD 13 /* counted up with every change of what passes to and from interop/_engine/fastpath.py; as in compiled.py */

static PyMethodDef functions[] = {
    {"flatten", (PyCFunction)(void (*)(void))flatten, METH_FASTCALL, "Return the leaves of plain containers, or None."},
    {"unflatten", (PyCFunction)(void (*)(void))unflatten, METH_FASTCALL, "Return plain containers rebuilt with other leaves."},
    {"is_opaque", is_opaque, METH_O, "Whether optree has to leave a node alone."},
    {"convert_all", (PyCFunction)(void (*)(void))convert_all, METH_FASTCALL, "Call the fast path of each leaf's type."},
    {NULL, NULL, 0, NULL},
};

/* Make a type that belongs to the module, so that its objects find the state. Returns a new reference. */
static PyTypeObject *
add_type(PyObject *module, PyType_Spec *spec)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    if (type != NULL && PyModule_AddType(module, type) < 0) {
        Py_CLEAR(type);
    }
    return type;
}

static int
fastpath_exec(PyObject *module)
{
    State *state = PyModule_GetState(module);
    state->no_arguments = PyTuple_New(0);
    state->minus_one = PyLong_FromLong(-1);
    state->word_grad = PyUnicode_InternFromString("grad");
    state->word_detach = PyUnicode_InternFromString("detach");
    state->guarded_type = add_type(module, &guarded_spec);
    PyTypeObject *verb_type = add_type(module, &verb_spec);
    Py_XDECREF(verb_type); /* the module has one of its own */
    int whole = state->no_arguments && state->minus_one && state->word_grad && state->word_detach && state->guarded_type && verb_type;
    return whole ? PyModule_AddIntConstant(module, "BUILD", BUILD) : -1; /* what was made goes with the module */
}

static int
fastpath_traverse(PyObject *module, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(module);
    Py_VISIT(state->guarded_type); /* it refers back to the module; the others are a number, strings and an empty tuple */
    return 0;
}

/* The others are in no cycle, and what is called while a collection goes on still needs them. */
static int
fastpath_clear(PyObject *module)
{
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->guarded_type);
    return 0;
}

static void
fastpath_free(void *module)
{
    State *state = PyModule_GetState(module);
    fastpath_clear(module);
    Py_CLEAR(state->no_arguments);
    Py_CLEAR(state->minus_one);
    Py_CLEAR(state->word_grad);
    Py_CLEAR(state->word_detach);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, fastpath_exec},
#if PY_VERSION_HEX >= 0x030C0000
    /* Everything that lasts is in the state or in objects of one interpreter. */
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    /* Items of lists, dicts and the tables of fast paths are borrowed until they are counted, which only the GIL makes
     * safe; and torch's and NumPy's own state that the guards ask may change in between. */
    {Py_mod_gil, Py_MOD_GIL_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "interop.native.fastpath",
    .m_doc = "The fast path in C; see interop/_engine/fastpath.py.",
    .m_size = sizeof(State),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = fastpath_traverse,
    .m_clear = fastpath_clear,
    .m_free = fastpath_free,
};

PyMODINIT_FUNC
PyInit_fastpath(void)
{
    return PyModuleDef_Init(&definition);
}
