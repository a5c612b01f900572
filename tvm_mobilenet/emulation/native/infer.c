/* Runs a bundle's library through the C interface of TVM's runtime: no Python on the device.

   infer LIBRARY PARAMETERS WORKSPACE_BYTES THREADS REPEATS TENSOR...
   A TENSOR is FILE:DIM,DIM,...; the first one is the float32 input and is read from its file,
   the others are the float32 outputs and are written to theirs. */

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tvm/ffi/c_api.h>

enum { ALIGNMENT = 64, MAX_TENSORS = 8, MAX_DIMENSIONS = 8 };

typedef struct {
    const char *file;
    int64_t shape[MAX_DIMENSIONS];
    DLTensor value;
} Tensor;

static void fail(const char *what, const char *why) {
    fprintf(stderr, "infer: %s: %s\n", what, why ? why : "?");
    exit(1);
}

static void *load_library(const char *name) {
    void *library = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
    if (!library) fail(name, dlerror());
    return library;
}

static void *symbol(void *library, const char *name) {
    void *address = dlsym(library, name);
    if (!address) fail(name, dlerror());
    return address;
}

static void *allocate(size_t bytes) {
    size_t rounded = (bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
    void *data = aligned_alloc(ALIGNMENT, rounded);
    if (!data) fail("allocate", "no memory");
    memset(data, 0, rounded);
    return data;
}

static size_t read_file(const char *name, void **data) {
    FILE *file = fopen(name, "rb");
    if (!file) fail(name, "cannot be read");
    fseek(file, 0, SEEK_END);
    size_t size = ftell(file);
    rewind(file);
    *data = allocate(size);
    if (fread(*data, 1, size, file) != size) fail(name, "cannot be read whole");
    fclose(file);
    return size;
}

static DLTensor tensor(void *data, int dimensions, int64_t *shape, DLDataType dtype) {
    DLTensor result = {.data = data, .device = {kDLCPU, 0}, .ndim = dimensions, .dtype = dtype};
    result.shape = shape;
    return result;
}

static Tensor parse_tensor(char *text) {
    Tensor result = {.file = strtok(text, ":")};
    int dimensions = 0;
    size_t bytes = sizeof(float);
    for (char *dim; (dim = strtok(NULL, ",")) && dimensions < MAX_DIMENSIONS; dimensions++) {
        result.shape[dimensions] = atoll(dim);
        bytes *= result.shape[dimensions];
    }
    result.value = tensor(allocate(bytes), dimensions, NULL, (DLDataType){kDLFloat, 32, 1});
    return result;
}

static size_t bytes_of(const Tensor *t) {
    size_t bytes = sizeof(float);
    for (int i = 0; i < t->value.ndim; i++) bytes *= t->shape[i];
    return bytes;
}

static int (*call)(TVMFFIObjectHandle, TVMFFIAny *, int32_t, TVMFFIAny *);
static int (*get_global)(const TVMFFIByteArray *, TVMFFIObjectHandle *);

static TVMFFIAny call_global(const char *name, TVMFFIAny *arguments, int count) {
    TVMFFIByteArray bytes = {name, strlen(name)};
    TVMFFIObjectHandle function = NULL;
    TVMFFIAny result = {.type_index = kTVMFFINone};
    if (get_global(&bytes, &function) || !function) fail(name, "not registered");
    if (call(function, arguments, count, &result)) fail(name, "raised an error");
    return result;
}

static TVMFFIAny text(const char *string) {
    return (TVMFFIAny){.type_index = kTVMFFIRawStr, .v_c_str = string};
}

static void use_threads(void *runtime, int threads) {
    if (threads == 1) { /* parallel loops then run inline, without a pool */
        void (*maximum)(int) =
            (void (*)(int))symbol(runtime, "_ZN3tvm7runtime9threading17SetMaxConcurrencyEi");
        maximum(1);
    } else {
        TVMFFIAny arguments[] = {{.type_index = kTVMFFIInt, .v_int64 = 1},
                                 {.type_index = kTVMFFIInt, .v_int64 = threads}};
        call_global("runtime.config_threadpool", arguments, 2);
    }
}

int main(int argc, char **argv) {
    if (argc < 8 || argc > 6 + MAX_TENSORS) fail("arguments", "see the comment in infer.c");
    void *ffi = load_library("libtvm_ffi.so");
    void *runtime = load_library("libtvm_runtime.so");
    call = symbol(ffi, "TVMFFIFunctionCall");
    get_global = symbol(ffi, "TVMFFIFunctionGetGlobal");
    use_threads(runtime, atoi(argv[4]));

    TVMFFIAny path = text(argv[1]);
    TVMFFIAny module = call_global("ffi.ModuleLoadFromFile", &path, 1);
    TVMFFIAny wanted[] = {module, text("infer"), {.type_index = kTVMFFIBool, .v_int64 = 0}};
    TVMFFIAny infer = call_global("ffi.ModuleGetFunction", wanted, 3);
    if (infer.type_index < kTVMFFIStaticObjectBegin) fail(argv[1], "exports no function infer");

    DLDataType bytes = {kDLUInt, 8, 1};
    void *data;
    int64_t parameters_bytes = read_file(argv[2], &data);
    DLTensor parameters = tensor(data, 1, &parameters_bytes, bytes);
    int64_t workspace_bytes = atoll(argv[3]);
    DLTensor workspace = tensor(allocate(workspace_bytes), 1, &workspace_bytes, bytes);

    Tensor tensors[MAX_TENSORS];
    TVMFFIAny arguments[MAX_TENSORS + 2];
    int count = argc - 6;
    for (int i = 0; i < count; i++) {
        tensors[i] = parse_tensor(argv[6 + i]);
        tensors[i].value.shape = tensors[i].shape;
        int place = i == 0 ? 0 : i + 2;
        arguments[place] =
            (TVMFFIAny){.type_index = kTVMFFIDLTensorPtr, .v_ptr = &tensors[i].value};
    }
    arguments[1] = (TVMFFIAny){.type_index = kTVMFFIDLTensorPtr, .v_ptr = &parameters};
    arguments[2] = (TVMFFIAny){.type_index = kTVMFFIDLTensorPtr, .v_ptr = &workspace};
    if (read_file(tensors[0].file, &tensors[0].value.data) != bytes_of(&tensors[0]))
        fail(tensors[0].file, "has another size than its shape says");

    for (int i = atoi(argv[5]); i > 0; i--) {
        TVMFFIAny result = {.type_index = kTVMFFINone};
        if (call(infer.v_obj, arguments, count + 2, &result)) fail(argv[1], "infer failed");
    }
    for (int i = 1; i < count; i++) {
        FILE *file = fopen(tensors[i].file, "wb");
        size_t size = bytes_of(&tensors[i]);
        if (!file || fwrite(tensors[i].value.data, 1, size, file) != size || fclose(file))
            fail(tensors[i].file, "cannot be written");
    }
    return 0;
}
