/* A bundle's C library on a device, as functions that TVM's RPC calls: part of the library that is
   sent along (device.c). The memory of tensors is TVM's; all else is the bundle's. */

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tvm/ffi/c_api.h>

#include "types.h"

enum { MESSAGE_BYTES = 512, NAME_BYTES = 128, MOST_TENSORS = 64 };

typedef struct network {
    void *library, *context;
    tmn_weights *weights;
    const tmn_info *info;
    tmn_status (*run)(void *, const void *const *, void *const *);
    tmn_status (*profile)(void *, int64_t *);
    void *(*input)(void *, int32_t), *(*output)(void *, int32_t);
    void (*fma_peak)(float *), (*bytes_peak)(float *), (*bf16_peak)(float *);
    void (*fp16_peak)(float *);
    void (*bytes_tiles_peak)(float *), (*bf16_tiles_peak)(float *);
    void (*stream_read)(const float *, float *);
    void (*destroy)(void *), (*close_weights)(tmn_weights *);
    const char *(*last_error)(void);
} network;

static int fail(const char *why) {
    TVMFFIErrorSetRaisedFromCStr("RuntimeError", why);
    return -1;
}

static int checked(const network *of, tmn_status status) {
    return status == TMN_OK ? 0 : fail(of->last_error());
}

static DLTensor *tensor_of(const TVMFFIAny *argument) {
    if (argument->type_index == kTVMFFIDLTensorPtr) return argument->v_ptr;
    if (argument->type_index == kTVMFFITensor) return TVMFFITensorGetDLTensorPtr(argument->v_obj);
    return NULL;
}

static void *data_of(const TVMFFIAny *argument) {
    const DLTensor *tensor = tensor_of(argument);
    return tensor ? (char *)tensor->data + tensor->byte_offset : NULL;
}

static network *network_of(const TVMFFIAny *argument) {
    return argument->type_index == kTVMFFIInt ? (network *)(intptr_t)argument->v_int64 : NULL;
}

char *text_of(const TVMFFIAny *argument); /* device.c */

static void *find(const network *in, const char *name, const char *function) {
    char symbol[NAME_BYTES + 32];
    snprintf(symbol, sizeof symbol, "%s_%s", name, function);
    return dlsym(in->library, symbol);
}

/* All of the library's functions; NULL, or what is missing. The probes of dot products may be. */
static const char *look_up(network *in, const char *name) {
    struct {
        const char *function;
        void *place;
    } wanted[] = {
        {"run", &in->run},           {"profile", &in->profile},
        {"input", &in->input},       {"output", &in->output},
        {"fma_peak", &in->fma_peak}, {"stream_read", &in->stream_read},
        {"destroy", &in->destroy},   {"weights_close", &in->close_weights},
        {"last_error", &in->last_error},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        void *found = find(in, name, wanted[i].function);
        if (!found) return wanted[i].function;
        memcpy(wanted[i].place, &found, sizeof found);
    }
    struct {
        const char *function;
        void *place;
    } probes[] = {
        {"bytes_peak", &in->bytes_peak},
        {"bf16_peak", &in->bf16_peak},
        {"fp16_peak", &in->fp16_peak},
        {"bytes_tiles_peak", &in->bytes_tiles_peak},
        {"bf16_tiles_peak", &in->bf16_tiles_peak},
    };
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        void *found = find(in, name, probes[i].function);
        memcpy(probes[i].place, &found, sizeof found);
    }
    return NULL;
}

static void close_network(network *old) {
    if (old->context) old->destroy(old->context);
    if (old->weights) old->close_weights(old->weights);
    if (old->library) dlclose(old->library);
    free(old);
}

/* Make the context; NULL, or why there is none. */
static const char *create(network *made, const char *name, const TVMFFIAny *weights,
                          int32_t threads) {
    const tmn_info *(*info)(void);
    tmn_status (*use)(const void *, size_t, tmn_weights **);
    tmn_status (*create_context)(const tmn_options *, void **);
    void *found[] = {find(made, name, "info"), find(made, name, "weights_from_memory"),
                     find(made, name, "create")};
    /* nothing of the library has failed yet, so that it has nothing to say itself */
    if (!found[0] || !found[1] || !found[2])
        return "the library exports no info, weights_from_memory or create";
    memcpy(&info, &found[0], sizeof info);
    memcpy(&use, &found[1], sizeof use);
    memcpy(&create_context, &found[2], sizeof create_context);
    made->info = info();
    if (made->info->input_count + made->info->output_count > MOST_TENSORS)
        return "the network has too many inputs and outputs";
    tmn_options options = {.version = TMN_VERSION, .signature = made->info->signature};
    options.threads = threads;
    options.spin_us = -1;
    if (!made->info->weights_embedded) {
        const DLTensor *tensor = tensor_of(weights);
        tmn_status status = use(data_of(weights), tensor ? (size_t)tensor->shape[0] : 0,
                                &made->weights);
        if (status != TMN_OK) return made->last_error();
        options.weights = made->weights;
    }
    return create_context(&options, &made->context) == TMN_OK ? NULL : made->last_error();
}

/* network_open(path, name, weights, threads) -> a handle. */
TVM_FFI_DLL_EXPORT int __tvm_ffi_network_open(void *self, const TVMFFIAny *arguments, int32_t count,
                                              TVMFFIAny *result) {
    (void)self;
    if (count != 4) return fail("network_open takes a path, a name, weights and threads");
    char message[MESSAGE_BYTES] = "";
    char *path = text_of(&arguments[0]), *name = text_of(&arguments[1]);
    network *made = calloc(1, sizeof *made);
    if (path && name && made) made->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!made || !made->library) {
        snprintf(message, sizeof message, "%s", made && path ? dlerror() : "no memory");
    } else {
        const char *missing = strlen(name) < NAME_BYTES ? look_up(made, name) : "any function";
        const char *reason = NULL;
        if (!missing) reason = create(made, name, &arguments[2], (int32_t)arguments[3].v_int64);
        if (missing) snprintf(message, sizeof message, "the library exports no %s", missing);
        else if (reason) snprintf(message, sizeof message, "%s", reason);
    }
    free(path);
    free(name);
    if (message[0]) {
        if (made) close_network(made);
        return fail(message);
    }
    result->type_index = kTVMFFIInt;
    result->v_int64 = (intptr_t)made;
    return 0;
}

TVM_FFI_DLL_EXPORT int __tvm_ffi_network_close(void *self, const TVMFFIAny *arguments,
                                               int32_t count, TVMFFIAny *result) {
    (void)self, (void)result;
    network *old = count == 1 ? network_of(&arguments[0]) : NULL;
    if (!old) return fail("network_close takes a handle");
    close_network(old);
    return 0;
}

/* network_infer(handle, inputs..., outputs...) */
TVM_FFI_DLL_EXPORT int __tvm_ffi_network_infer(void *self, const TVMFFIAny *arguments,
                                               int32_t count, TVMFFIAny *result) {
    (void)self, (void)result;
    network *in = count > 0 ? network_of(&arguments[0]) : NULL;
    if (!in || count != 1 + in->info->input_count + in->info->output_count)
        return fail("network_infer takes a handle, all inputs and all outputs");
    void *tensors[MOST_TENSORS];
    for (int32_t i = 1; i < count; i++) tensors[i - 1] = data_of(&arguments[i]);
    const void *const *inputs = (const void *const *)tensors;
    return checked(in, in->run(in->context, inputs, tensors + in->info->input_count));
}

/* network_profile(handle, ..., stamps): of the context's own inputs, whatever is in between. */
TVM_FFI_DLL_EXPORT int __tvm_ffi_network_profile(void *self, const TVMFFIAny *arguments,
                                                 int32_t count, TVMFFIAny *result) {
    (void)self, (void)result;
    network *in = count > 1 ? network_of(&arguments[0]) : NULL;
    if (!in) return fail("network_profile takes a handle, tensors and stamps");
    return checked(in, in->profile(in->context, data_of(&arguments[count - 1])));
}

static int measure_peak(void (*probe)(float *), const TVMFFIAny *scratch) {
    if (!probe) return fail("the library has no such probe");
    probe(data_of(scratch));
    return 0;
}

/* network_fma_peak(handle, scratch), and the same for the other probes of arithmetic */
#define PEAK(function) \
    TVM_FFI_DLL_EXPORT int __tvm_ffi_network_##function(void *self, const TVMFFIAny *arguments, \
                                                        int32_t count, TVMFFIAny *result) { \
        (void)self, (void)result; \
        network *in = count == 2 ? network_of(&arguments[0]) : NULL; \
        if (!in) return fail("network_" #function " takes a handle and a tensor"); \
        return measure_peak(in->function, &arguments[1]); \
    }
PEAK(fma_peak)
PEAK(bytes_peak)
PEAK(bf16_peak)
PEAK(fp16_peak)
PEAK(bytes_tiles_peak)
PEAK(bf16_tiles_peak)

/* network_stream_read(handle, rows, sums) */
TVM_FFI_DLL_EXPORT int __tvm_ffi_network_stream_read(void *self, const TVMFFIAny *arguments,
                                                     int32_t count, TVMFFIAny *result) {
    (void)self, (void)result;
    network *in = count == 3 ? network_of(&arguments[0]) : NULL;
    if (!in) return fail("network_stream_read takes a handle and two tensors");
    in->stream_read(data_of(&arguments[1]), data_of(&arguments[2]));
    return 0;
}
