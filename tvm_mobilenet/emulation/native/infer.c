/* Runs a bundle by its C library: no Python on the device, and no TVM.

   infer LIBRARY NAME PARAMETERS THREADS REPEATS FILE...
   Of the files, the first ones are the inputs, which are read, the others the outputs, which are
   written; each as raw bytes. PARAMETERS is - where the library holds the weights. */

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "types.h"

enum { FIRST_FILE = 6, NAME_BYTES = 128 };

static void *library;
static const char *name;

static void fail(const char *what, const char *why) {
    fprintf(stderr, "infer: %s: %s\n", what, why ? why : "?");
    exit(1);
}

static void find(const char *function, void *place) {
    char symbol[NAME_BYTES + 32];
    snprintf(symbol, sizeof symbol, "%s_%s", name, function);
    void *address = dlsym(library, symbol);
    if (!address) fail(symbol, dlerror());
    memcpy(place, &address, sizeof address);
}

static const char *(*last_error)(void);

static void check(const char *what, tmn_status status) {
    if (status != TMN_OK) fail(what, last_error());
}

static void transfer(const char *file, const char *mode, const tmn_tensor *tensor, void *data) {
    FILE *stream = fopen(file, mode);
    if (!stream) fail(file, "cannot be opened");
    size_t done = *mode == 'r' ? fread(data, 1, tensor->bytes, stream)
                               : fwrite(data, 1, tensor->bytes, stream);
    int more = *mode == 'r' && fgetc(stream) != EOF;
    if (done != tensor->bytes || more || fclose(stream))
        fail(file, "has another size than the tensor");
}

int main(int argc, char **argv) {
    if (argc <= FIRST_FILE || strlen(argv[2]) >= NAME_BYTES)
        fail("arguments", "see the comment in infer.c");
    library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) fail(argv[1], dlerror());
    name = argv[2];

    const tmn_info *(*info)(void);
    tmn_status (*open_weights)(const char *, int32_t, tmn_weights **);
    tmn_status (*create)(const tmn_options *, void **);
    tmn_status (*run)(void *, const void *const *, void *const *);
    void *(*input)(void *, int32_t), *(*output)(void *, int32_t);
    find("info", &info), find("weights_open", &open_weights), find("create", &create);
    find("run", &run), find("input", &input), find("output", &output);
    find("last_error", &last_error);

    const tmn_info *about = info();
    if (argc != FIRST_FILE + about->input_count + about->output_count)
        fail("arguments", "expected a file for each input and output");
    tmn_options options = {.version = TMN_VERSION, .signature = about->signature, .spin_us = -1};
    options.threads = atoi(argv[4]);
    options.any_cpu = 1; /* an emulator's CPU lacks a few that no network uses */
    tmn_weights *weights = NULL;
    if (strcmp(argv[3], "-") != 0) check(argv[3], open_weights(argv[3], TMN_MAP, &weights));
    options.weights = weights;
    void *context;
    check("create", create(&options, &context));

    char **files = argv + FIRST_FILE;
    for (int32_t i = 0; i < about->input_count; i++)
        transfer(files[i], "rb", &about->inputs[i], input(context, i));
    for (int runs = atoi(argv[5]); runs > 0; runs--) check("run", run(context, NULL, NULL));
    for (int32_t i = 0; i < about->output_count; i++)
        transfer(files[about->input_count + i], "wb", &about->outputs[i], output(context, i));
    return 0;
}
