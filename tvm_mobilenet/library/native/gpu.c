/* A context on a GPU: the functions that every network's header has, by what host.c does there.

   Weights and workspace lie in the GPU's memory, of each context its own; the caller's workspace
   holds the context alone, and its threads have nothing to do. */
#include <string.h>

#include "internal.h"

enum { MAGIC = 0x544D4E47, FIRST_GPU = 0 };
static const char DRIVER[] = "libcuda.so.1";

/* host.c's, as it explains them. */
enum { DONE = 0, WRONG_MACHINE = 2, NO_MEMORY = 3, LINE_BYTES = 256 };
typedef struct Session Session;
int tvm_mobilenet_open(const char *driver, int device, const void *parameters, Session **session,
                       char *error, size_t error_size);
void *tvm_mobilenet_buffer(Session *session, int number);
int tvm_mobilenet_infer(Session *session, char *error, size_t error_size);
void tvm_mobilenet_close(Session *session);

typedef struct context {
    uint32_t magic;
    atomic_int busy;
    Session *session;
    void *mapped; /* the workspace, where it is its own */
    size_t mapped_bytes;
} context;

_Static_assert(sizeof(context) <= TMN_CONTEXT_BYTES, "a context fits its place");

static tmn_status status_of(int code, const char *line) {
    if (code == DONE) return TMN_OK;
    tmn_status status = code == WRONG_MACHINE ? TMN_BAD_GPU
                        : code == NO_MEMORY   ? TMN_NO_MEMORY
                                              : TMN_FAILED;
    return tmn_fail(status, "%s", line);
}

TMN_API size_t NAME(workspace_bytes)(const tmn_options *given) {
    tmn_options options = tmn_options_of(given);
    return tmn_check_options(&options) == TMN_OK ? TMN_CONTEXT_BYTES : 0;
}

TMN_API tmn_status NAME(create)(const tmn_options *given, struct context **result) {
    tmn_options options = tmn_options_of(given);
    if (!result) return tmn_fail(TMN_BAD_ARGUMENT, "context is NULL");
    *result = NULL;
    tmn_status status = tmn_check_options(&options);
    if (status == TMN_OK) status = tmn_check_weights(options.weights);
    if (status == TMN_OK) status = tmn_check_workspace(&options, TMN_CONTEXT_BYTES);
    if (status != TMN_OK) return status;

    void *mapped = NULL;
    size_t mapped_bytes = 0;
    context *made = options.workspace;
    if (!made) made = tmn_allocate(TMN_CONTEXT_BYTES, &mapped, &mapped_bytes);
    if (!made) return tmn_fail(TMN_NO_MEMORY, "no memory for a context");
    memset(made, 0, sizeof *made);
    made->mapped = mapped;
    made->mapped_bytes = mapped_bytes;
    const void *weights = options.weights ? options.weights->data : tmn_this_network.weights;
    char line[LINE_BYTES] = "";
    int code = tvm_mobilenet_open(DRIVER, FIRST_GPU, weights, &made->session, line, sizeof line);
    if (code != DONE) {
        tmn_release(mapped, mapped_bytes);
        return status_of(code, line);
    }
    made->magic = MAGIC;
    *result = made;
    return TMN_OK;
}

TMN_API void NAME(destroy)(struct context *old) {
    if (!old || old->magic != MAGIC) return;
    old->magic = 0;
    tvm_mobilenet_close(old->session);
    tmn_release(old->mapped, old->mapped_bytes); /* which holds the context */
}

TMN_API void *NAME(input)(struct context *of, int32_t index) {
    int known = of && index >= 0 && index < tmn_this_network.info.input_count;
    return known ? tvm_mobilenet_buffer(of->session, index) : NULL;
}

TMN_API void *NAME(output)(struct context *of, int32_t index) {
    const tmn_info *info = &tmn_this_network.info;
    int known = of && index >= 0 && index < info->output_count;
    return known ? tvm_mobilenet_buffer(of->session, info->input_count + index) : NULL;
}

TMN_API int32_t NAME(threads)(const struct context *of) { return of ? 1 : 0; }

TMN_API tmn_status NAME(run)(struct context *in, const void *const *inputs, void *const *outputs) {
    const tmn_info *info = &tmn_this_network.info;
    tmn_status status = tmn_check_tensors(inputs, outputs);
    if (status != TMN_OK) return status;
    if (!in || in->magic != MAGIC) return tmn_fail(TMN_BAD_ARGUMENT, "there is no such context");
    if (atomic_exchange_explicit(&in->busy, 1, memory_order_acquire))
        return tmn_fail(TMN_BUSY, "the context is running in another thread; make one a thread");
    for (int32_t i = 0; inputs && i < info->input_count; i++)
        if (inputs[i] != NAME(input)(in, i))
            memcpy(NAME(input)(in, i), inputs[i], info->inputs[i].bytes);
    char line[LINE_BYTES] = "";
    status = status_of(tvm_mobilenet_infer(in->session, line, sizeof line), line);
    for (int32_t i = 0; status == TMN_OK && outputs && i < info->output_count; i++)
        if (outputs[i] != NAME(output)(in, i))
            memcpy(outputs[i], NAME(output)(in, i), info->outputs[i].bytes);
    atomic_store_explicit(&in->busy, 0, memory_order_release);
    return status;
}
