/* A library of one operator for onnxruntime, `graph.example::Twice`: float tensor in, the same times two out.
 *
 * It goes by onnxruntime's binary interface alone, whose tables only ever grow at their end: the numbers are the places
 * of functions in struct OrtApi (onnxruntime_c_api.h). Where MARKER is set, its constructor makes that file, so that
 * tests see whether the library was opened.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

typedef void *(*function)();

struct base {
    const function *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
};

/* struct OrtCustomOp as of API version 8. */
struct operator {
    uint32_t version;
    void *(*create_kernel)(const struct operator *, const function *, const void *);
    const char *(*get_name)(const struct operator *);
    const char *(*get_provider)(const struct operator *);
    int (*get_input_type)(const struct operator *, size_t);
    size_t (*get_input_count)(const struct operator *);
    int (*get_output_type)(const struct operator *, size_t);
    size_t (*get_output_count)(const struct operator *);
    void (*compute)(void *kernel, void *context);
    void (*destroy)(void *kernel);
    int (*get_input_characteristic)(const struct operator *, size_t);
    int (*get_output_characteristic)(const struct operator *, size_t);
};

enum { CREATE_DOMAIN = 26, DOMAIN_ADD = 27, ADD_DOMAIN = 28, TENSOR_DATA = 51, DIMENSION_COUNT = 61, DIMENSIONS = 62,
       ELEMENT_COUNT = 64, TYPE_AND_SHAPE = 65, CONTEXT_INPUT = 90, CONTEXT_OUTPUT = 91, RELEASE_SHAPE = 99 };
enum { FLOAT = 1, REQUIRED = 0, VERSION = 8 };

static const function *api;

static void *create_kernel(const struct operator *self, const function *table, const void *info) {
    (void)self, (void)info;
    api = table;
    return malloc(1);
}
static void destroy(void *kernel) { free(kernel); }
static const char *get_name(const struct operator *self) { return (void)self, "Twice"; }
static const char *get_provider(const struct operator *self) { return (void)self, NULL; }
static int is_float(const struct operator *self, size_t index) { return (void)self, (void)index, FLOAT; }
static size_t one(const struct operator *self) { return (void)self, 1; }
static int required(const struct operator *self, size_t index) { return (void)self, (void)index, REQUIRED; }

static void compute(void *kernel, void *context) {
    (void)kernel;
    void *input = NULL, *output = NULL, *shape = NULL;
    float *from = NULL, *to = NULL;
    size_t rank = 0, count = 0;
    int64_t dimensions[16];
    api[CONTEXT_INPUT](context, (size_t)0, &input);
    api[TYPE_AND_SHAPE](input, &shape);
    api[DIMENSION_COUNT](shape, &rank);
    if (rank > 16)
        abort();
    api[DIMENSIONS](shape, dimensions, rank);
    api[ELEMENT_COUNT](shape, &count);
    api[CONTEXT_OUTPUT](context, (size_t)0, dimensions, rank, &output);
    api[TENSOR_DATA](input, &from);
    api[TENSOR_DATA](output, &to);
    for (size_t index = 0; index < count; index++)
        to[index] = 2 * from[index];
    api[RELEASE_SHAPE](shape);
}

static const struct operator twice = {VERSION, create_kernel, get_name, get_provider, is_float, one, is_float,
                                      one, compute, destroy, required, required};

__attribute__((visibility("default"))) void *RegisterCustomOps(void *options, const struct base *base) {
    void *domain = NULL;
    api = base->get_api(VERSION);
    void *status = api[CREATE_DOMAIN]("graph.example", &domain);
    if (!status)
        status = api[DOMAIN_ADD](domain, &twice);
    return status ? status : api[ADD_DOMAIN](options, domain);
}

#ifdef MARKER
__attribute__((constructor)) static void mark(void) { close(open(MARKER, O_CREAT | O_WRONLY, 0644)); }
#endif
