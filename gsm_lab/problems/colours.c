/* The colours of colours.py, which says what is computed and why; the same numbers, in a tenth of the time.

   A colour is a number modulo the prime 2^89 - 1, held in 128 bits. Products of two such numbers have up to 178 bits;
   they are folded at bit 89, since 2^89 counts as 1. What definitions are coloured with comes from palette.py. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

typedef unsigned __int128 colour;

enum { BITS = 89, MOST_OPERATIONS = 16, REMEMBERED = 256, BYTES = 16 };

static const colour PRIME = ((colour)1 << BITS) - 1;

typedef struct {
    PyObject *operation; /* a member of Operation, which lives as long as its module */
    colour shape;        /* without the number */
    colour plain;        /* with the constant None */
    colour numbered[REMEMBERED];
    char is_known[REMEMBERED];
} Definition;

static Definition definitions[MOST_OPERATIONS];
static int num_definitions;
static colour ADDED, SUBTRACTED, COUNT, RATE, ASKED, TOP, USED, USES;
static PyObject *colour_of, *nested_total;

/* A quantity as the passes need it: its definition's colours, its parents, and what becomes of it. */
typedef struct {
    PyObject *parents; /* a tuple, borrowed from the node */
    Py_ssize_t size, added;
    colour shape, number;           /* its own colour so far, without and with numbers */
    colour shape_uses, number_uses; /* products over what uses it, where is_used */
    char is_nested, is_used;
} Vertex;

/* Below 2^90 for anything; equal numbers modulo the prime may differ by it. */
static inline colour fold(colour x) { return (x & PRIME) + (x >> BITS); }

/* The product of two numbers below 2^96, below 2^90 and equal modulo the prime. */
static inline colour times(colour a, colour b) {
    uint64_t a0 = (uint64_t)a, b0 = (uint64_t)b, a1 = (uint64_t)(a >> 64), b1 = (uint64_t)(b >> 64);
    colour low = (colour)a0 * b0;
    colour middle = (colour)a1 * b0 + (colour)b1 * a0; /* counts 2^64 */
    colour high = (colour)a1 * b1;                     /* counts 2^128, which is 2^39 */
    const colour below25 = ((colour)1 << (BITS - 64)) - 1;
    colour sum = fold(low) + (middle >> (BITS - 64)) + ((middle & below25) << 64);
    colour carried = high << (128 - BITS);
    return fold(fold(carried) + sum);
}

static inline colour reduced(colour x) {
    x = fold(fold(x));
    return x >= PRIME ? x - PRIME : x;
}

static int as_colour(PyObject *number, colour *to) {
    unsigned char bytes[BYTES];
    PyObject *text;
    if (number == NULL) return -1;
    text = PyObject_CallMethod(number, "to_bytes", "is", BYTES, "little");
    if (text == NULL) return -1;
    memcpy(bytes, PyBytes_AS_STRING(text), BYTES);
    Py_DECREF(text);
    *to = 0;
    for (int at = BYTES - 1; at >= 0; at--) *to = *to << 8 | bytes[at];
    return 0;
}

static PyObject *as_number(colour x) {
    char digits[2 * BYTES + 1];
    x = reduced(x);
    for (int at = 2 * BYTES - 1; at >= 0; at--, x >>= 4) digits[at] = "0123456789abcdef"[x & 15];
    digits[2 * BYTES] = 0;
    return PyLong_FromString(digits, NULL, 16);
}

/* colour_of(operation, constant), as palette.py has it; without a constant if it is NULL. */
static int ask_for_colour(PyObject *operation, PyObject *constant, colour *to) {
    PyObject *number = PyObject_CallFunctionObjArgs(colour_of, operation, constant, NULL);
    int failed = as_colour(number, to);
    Py_XDECREF(number);
    return failed;
}

static int look_up(PyObject *operation, PyObject *constant, Vertex *vertex) {
    Definition *found = definitions, *end = definitions + num_definitions;
    long value;
    int overflow;
    while (found < end && found->operation != operation) found++;
    if (found == end) {
        PyErr_Format(PyExc_TypeError, "%R is no Operation", operation);
        return -1;
    }
    vertex->shape = found->shape;
    vertex->is_nested = operation == nested_total;
    if (constant == Py_None) {
        vertex->number = found->plain;
        return 0;
    }
    value = PyLong_CheckExact(constant) ? PyLong_AsLongAndOverflow(constant, &overflow) : -1;
    if (value < 0 || value >= REMEMBERED) return ask_for_colour(operation, constant, &vertex->number);
    if (!found->is_known[value]) {
        if (ask_for_colour(operation, constant, &found->numbered[value])) return -1;
        found->is_known[value] = 1;
    }
    vertex->number = found->numbered[value];
    return 0;
}

static inline Py_ssize_t parent_of(const Vertex *vertex, Py_ssize_t number) {
    return PyLong_AsSsize_t(PyTuple_GET_ITEM(vertex->parents, number)); /* read_vertex has seen that it is one */
}

static int read_vertex(PyObject *node, Py_ssize_t at, Vertex *vertex) {
    PyObject *minus;
    Py_ssize_t num_minus;
    if (!PyTuple_Check(node) || PyTuple_GET_SIZE(node) != 5 || !PyTuple_Check(PyTuple_GET_ITEM(node, 3))) {
        PyErr_Format(PyExc_TypeError, "%R is no Node", node);
        return -1;
    }
    vertex->parents = PyTuple_GET_ITEM(node, 3);
    vertex->size = PyTuple_GET_SIZE(vertex->parents);
    minus = PyTuple_GET_ITEM(node, 4);
    num_minus = PyLong_AsSsize_t(minus);
    if (num_minus == -1 && PyErr_Occurred()) return -1;
    vertex->added = vertex->size - num_minus;
    vertex->is_used = 0;
    for (Py_ssize_t number = 0; number < vertex->size; number++) {
        Py_ssize_t parent = parent_of(vertex, number);
        if (parent == -1 && PyErr_Occurred()) return -1;
        if (parent < 0 || parent >= at) {
            PyErr_Format(PyExc_IndexError, "quantity %zd has the parent %zd", at, parent);
            return -1;
        }
    }
    if (look_up(PyTuple_GET_ITEM(node, 1), PyTuple_GET_ITEM(node, 2), vertex)) return -1;
    if (vertex->is_nested && vertex->size % 2) {
        PyErr_Format(PyExc_IndexError, "quantity %zd has counts without averages", at);
        return -1;
    }
    return 0;
}

static inline colour role_of(const Vertex *vertex, Py_ssize_t number) {
    return number < vertex->added ? ADDED : SUBTRACTED;
}

/* Colours from definitions and parents; `pairs` says whether nested totals pair them, as among what is needed. */
static void from_below(Vertex *all, Py_ssize_t at, int pairs) {
    Vertex *vertex = all + at, *one, *other;
    colour shape = 1, number = 1;
    if (pairs && vertex->is_nested) {
        for (Py_ssize_t place = 0; place < vertex->size; place += 2) {
            one = all + parent_of(vertex, place);
            other = all + parent_of(vertex, place + 1);
            shape = times(shape, ADDED + times(COUNT + one->shape, RATE + other->shape));
            number = times(number, ADDED + times(COUNT + one->number, RATE + other->number));
        }
    } else if (vertex->size == 1) {
        one = all + parent_of(vertex, 0);
        shape = one->shape, number = one->number;
    } else {
        for (Py_ssize_t place = 0; place < vertex->size; place++) {
            colour role = role_of(vertex, place);
            one = all + parent_of(vertex, place);
            shape = times(shape, role + one->shape);
            number = times(number, role + one->number);
        }
    }
    vertex->shape += shape, vertex->number += number;
    vertex->shape = times(vertex->shape, vertex->shape);
    vertex->number = times(vertex->number, vertex->number);
}

static inline void use(Vertex *vertex, colour shape, colour number) {
    vertex->shape_uses = vertex->is_used ? times(vertex->shape_uses, shape) : shape;
    vertex->number_uses = vertex->is_used ? times(vertex->number_uses, number) : number;
    vertex->is_used = 1;
}

/* Final colours, from the last quantity to `start`, into the products; those before `start` only count if used. */
static void from_above(Vertex *all, Py_ssize_t size, Py_ssize_t start, int pairs, colour *shapes, colour *numbers) {
    for (Py_ssize_t at = size - 1; at >= 0; at--) {
        Vertex *vertex = all + at;
        if (at < start && !vertex->is_used) continue;
        colour shape = times(vertex->shape + USED, (vertex->is_used ? vertex->shape_uses : 0) + USES);
        colour number = times(vertex->number + USED, (vertex->is_used ? vertex->number_uses : 0) + USES);
        *shapes = times(*shapes, ADDED + shape);
        *numbers = times(*numbers, ADDED + number);
        if (at < start) continue;
        vertex->shape = shape, vertex->number = number;
        for (Py_ssize_t place = 0; place < vertex->size; place++) {
            colour role = pairs && vertex->is_nested ? (place % 2 ? RATE : COUNT) : role_of(vertex, place);
            use(all + parent_of(vertex, place), role + shape, role + number);
        }
    }
}

static PyObject *colours_of(PyObject *module, PyObject *const *arguments, Py_ssize_t num_arguments) {
    Py_ssize_t size, num_needed, top, asked;
    colour structure = 1, numbers = 1, shapes_of_others = 1, whole = 1;
    PyObject *nodes, *result = NULL;
    Vertex *all;
    if (num_arguments != 4) {
        PyErr_SetString(PyExc_TypeError, "colours_of takes the arguments nodes, num_needed, top and asked");
        return NULL;
    }
    num_needed = PyLong_AsSsize_t(arguments[1]);
    top = PyLong_AsSsize_t(arguments[2]);
    asked = PyLong_AsSsize_t(arguments[3]);
    if (PyErr_Occurred()) return NULL;
    nodes = PySequence_Fast(arguments[0], "nodes are no sequence");
    if (nodes == NULL) return NULL;
    size = PySequence_Fast_GET_SIZE(nodes);
    if (num_needed < 0 || num_needed > size || top < 0 || top >= num_needed || asked < 0 || asked >= num_needed) {
        Py_DECREF(nodes);
        return PyErr_Format(PyExc_IndexError, "%zd of %zd quantities are needed, not top %zd or asked %zd", num_needed,
                            size, top, asked);
    }
    all = PyMem_New(Vertex, size);
    if (all == NULL) {
        Py_DECREF(nodes);
        return PyErr_NoMemory();
    }
    for (Py_ssize_t at = 0; at < size; at++) {
        if (read_vertex(PySequence_Fast_GET_ITEM(nodes, at), at, all + at)) goto done;
        if (at >= num_needed) continue;
        if (all[at].size) from_below(all, at, 1);
        else if (at == asked) all[at].shape += ASKED, all[at].number += ASKED;
    }
    use(all + top, TOP, TOP);
    use(all + asked, ASKED, ASKED);
    from_above(all, num_needed, 0, 1, &structure, &numbers);
    whole = numbers;
    if (num_needed < size) {
        for (Py_ssize_t at = 0; at < size; at++) {
            all[at].is_used = 0;
            if (at >= num_needed && all[at].size) from_below(all, at, 0);
        }
        whole = 1;
        from_above(all, size, num_needed, 0, &shapes_of_others, &whole);
        whole = times(whole, numbers);
    }
    result = Py_BuildValue("NNN", as_number(structure), as_number(numbers), as_number(whole));
done:
    PyMem_Free(all);
    Py_DECREF(nodes);
    return result;
}

static int take_role(PyObject *palette, const char *name, colour *to) {
    PyObject *number = PyObject_GetAttrString(palette, name);
    int failed = as_colour(number, to);
    Py_XDECREF(number);
    return failed;
}

/* What palette.py and graph.py say. */
static int prepare(void) {
    PyObject *palette = PyImport_ImportModule("gsm_lab.problems.palette");
    PyObject *graph = PyImport_ImportModule("gsm_lab.problems.graph");
    PyObject *operations = NULL, *members = NULL;
    colour prime;
    int failed = -1;
    if (palette == NULL || graph == NULL) goto done;
    if (take_role(palette, "PRIME", &prime) || take_role(palette, "ADDED", &ADDED) ||
        take_role(palette, "SUBTRACTED", &SUBTRACTED) || take_role(palette, "COUNT", &COUNT) ||
        take_role(palette, "RATE", &RATE) || take_role(palette, "ASKED", &ASKED) ||
        take_role(palette, "TOP", &TOP) || take_role(palette, "USED", &USED) || take_role(palette, "USES", &USES))
        goto done;
    colour_of = PyObject_GetAttrString(palette, "colour_of");
    operations = PyObject_GetAttrString(graph, "Operation");
    if (colour_of == NULL || operations == NULL) goto done;
    nested_total = PyObject_GetAttrString(operations, "NESTED_TOTAL");
    members = PySequence_List(operations);
    if (nested_total == NULL || members == NULL) goto done;
    if (prime != PRIME || PyList_GET_SIZE(members) > MOST_OPERATIONS) {
        PyErr_SetString(PyExc_ImportError, "colours.c has another prime than palette.py, or too few operations");
        goto done;
    }
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(members); at++) {
        Definition *one = definitions + at;
        one->operation = Py_NewRef(PyList_GET_ITEM(members, at));
        if (ask_for_colour(one->operation, NULL, &one->shape)) goto done;
        if (ask_for_colour(one->operation, Py_None, &one->plain)) goto done;
        num_definitions++;
    }
    failed = 0;
done:
    Py_XDECREF(palette);
    Py_XDECREF(graph);
    Py_XDECREF(operations);
    Py_XDECREF(members);
    return failed;
}

static PyMethodDef methods[] = {
    {"colours_of", (PyCFunction)(void (*)(void))colours_of, METH_FASTCALL,
     "colours_of(nodes, num_needed, top, asked): see colours.py"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef described = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "colours",
    .m_doc = "The colours of colours.py.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit_colours(void) { return prepare() ? NULL : PyModule_Create(&described); }
