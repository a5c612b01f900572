/* What every call is checked for, on a CPU and on a GPU alike. */
#include "internal.h"

static const tmn_options DEFAULTS = {.version = TMN_VERSION, .threads = 1, .spin_us = -1};

tmn_options tmn_options_of(const tmn_options *given) {
    tmn_options options = given ? *given : DEFAULTS;
    if (!given) options.signature = tmn_this_network.info.signature;
    return options;
}

TMN_API const tmn_info *NAME(info)(void) { return &tmn_this_network.info; }

tmn_status tmn_check_options(const tmn_options *options) {
    const tmn_info *info = &tmn_this_network.info;
    if (options->version != TMN_VERSION)
        return tmn_fail(TMN_BAD_VERSION, "the options are of version %u, the library of %d",
                        (unsigned)options->version, TMN_VERSION);
    if (options->signature != info->signature)
        return tmn_fail(TMN_BAD_VERSION, "the header is not that of this library of %s; take the "
                        "header and the library of one compilation", info->name);
    const tmn_parallel *given = options->parallel;
    int32_t threads = given ? given->threads : options->threads;
    int32_t least = given ? 1 : 0;
    if (threads < least || threads > TMN_MOST_THREADS)
        return tmn_fail(TMN_BAD_ARGUMENT, "threads: expected %d to %d, got %d", (int)least,
                        TMN_MOST_THREADS, (int)threads);
    if (given && !given->run && threads > 1)
        return tmn_fail(TMN_BAD_ARGUMENT, "parallel->run is NULL");
    return TMN_OK;
}

tmn_status tmn_check_weights(const tmn_weights *weights) {
    const tmn_network *network = &tmn_this_network;
    if (!weights && !network->weights)
        return tmn_fail(TMN_BAD_ARGUMENT, "weights is NULL, and %s holds none itself",
                        network->info.name);
    if (weights && (weights->signature != network->info.signature ||
                    weights->hash != network->info.weights_hash))
        return tmn_fail(TMN_BAD_WEIGHTS, "these weights are another network's, not %s's",
                        network->info.name);
    return TMN_OK;
}

tmn_status tmn_check_workspace(const tmn_options *options, size_t needed) {
    if (!options->workspace) return TMN_OK;
    if ((uintptr_t)options->workspace % TMN_ALIGNMENT)
        return tmn_fail(TMN_BAD_WORKSPACE, "the workspace is not aligned to %d bytes",
                        TMN_ALIGNMENT);
    if (options->workspace_bytes < needed)
        return tmn_fail(TMN_BAD_WORKSPACE, "expected a workspace of %zu bytes, got %zu", needed,
                        options->workspace_bytes);
    return TMN_OK;
}

static int overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes) {
    uintptr_t x = (uintptr_t)a, y = (uintptr_t)b;
    return x < y + b_bytes && y < x + a_bytes;
}

tmn_status tmn_check_tensors(const void *const *inputs, void *const *outputs) {
    const tmn_info *info = &tmn_this_network.info;
    for (int32_t i = 0; inputs && i < info->input_count; i++)
        if (!inputs[i]) return tmn_fail(TMN_BAD_ARGUMENT, "inputs[%d] is NULL", (int)i);
    for (int32_t o = 0; outputs && o < info->output_count; o++) {
        if (!outputs[o]) return tmn_fail(TMN_BAD_ARGUMENT, "outputs[%d] is NULL", (int)o);
        for (int32_t i = 0; inputs && i < info->input_count; i++)
            if (overlap(inputs[i], info->inputs[i].bytes, outputs[o], info->outputs[o].bytes))
                return tmn_fail(TMN_BAD_ARGUMENT, "inputs[%d] and outputs[%d] overlap", (int)i,
                                (int)o);
        for (int32_t p = 0; p < o; p++)
            if (overlap(outputs[p], info->outputs[p].bytes, outputs[o], info->outputs[o].bytes))
                return tmn_fail(TMN_BAD_ARGUMENT, "outputs[%d] and outputs[%d] overlap", (int)p,
                                (int)o);
    }
    return TMN_OK;
}
