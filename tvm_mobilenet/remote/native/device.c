/* What the desk asks of a device beyond TVM's own RPC: a library that is uploaded and loaded there.

   TVM's file transfer asks a file for its size first, which is 0 for every file in /proc and a
   whole page for one in /sys, so a device's description has to be read here. */

#define _GNU_SOURCE /* RTLD_DEFAULT */

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tvm/ffi/c_api.h>

#include "tiles.h"

enum { LARGEST_FILE = 1 << 20 };

static int fail(const char *why) {
    TVMFFIErrorSetRaisedFromCStr("RuntimeError", why);
    return -1;
}

/* The text of an argument, ended by NUL; the caller frees it. NULL where it is no text.
   network.c uses it too. */
char *text_of(const TVMFFIAny *argument) {
    const char *data;
    size_t size;
    if (argument->type_index == kTVMFFIRawStr) {
        data = argument->v_c_str;
        size = strlen(data);
    } else if (argument->type_index == kTVMFFISmallStr) {
        data = argument->v_bytes;
        size = argument->small_str_len;
    } else if (argument->type_index == kTVMFFIStr) {
        const TVMFFIByteArray *bytes = (const TVMFFIByteArray *)(argument->v_obj + 1);
        data = bytes->data;
        size = bytes->size;
    } else {
        return NULL;
    }
    char *text = malloc(size + 1);
    if (text) {
        memcpy(text, data, size);
        text[size] = 0;
    }
    return text;
}

/* read_file(path) -> bytes: at most LARGEST_FILE of a file's beginning. */
TVM_FFI_DLL_EXPORT int __tvm_ffi_read_file(void *self, const TVMFFIAny *arguments, int32_t count,
                                           TVMFFIAny *result) {
    (void)self;
    char *path = count == 1 ? text_of(&arguments[0]) : NULL;
    if (!path) return fail("read_file takes a path");
    FILE *file = fopen(path, "rb");
    free(path);
    if (!file) return fail(strerror(errno));
    char *data = malloc(LARGEST_FILE);
    TVMFFIByteArray bytes = {data, data ? fread(data, 1, LARGEST_FILE, file) : 0};
    int failed = !data || ferror(file);
    fclose(file);
    int status = failed ? fail("the file cannot be read") : TVMFFIBytesFromByteArray(&bytes, result);
    free(data);
    return status;
}

/* run_python(code) -> int: 0 done, -1 it raised, -2 this process holds no Python.
   What the code has to tell, it writes into a file. */
TVM_FFI_DLL_EXPORT int __tvm_ffi_run_python(void *self, const TVMFFIAny *arguments, int32_t count,
                                            TVMFFIAny *result) {
    (void)self;
    char *code = count == 1 ? text_of(&arguments[0]) : NULL;
    if (!code) return fail("run_python takes Python code");
    int (*run)(const char *) = (int (*)(const char *))dlsym(RTLD_DEFAULT, "PyRun_SimpleString");
    int (*lock)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "PyGILState_Ensure");
    void (*unlock)(int) = (void (*)(int))dlsym(RTLD_DEFAULT, "PyGILState_Release");
    result->type_index = kTVMFFIInt;
    result->v_int64 = -2;
    if (run && lock && unlock) {
        int state = lock();
        result->v_int64 = run(code);
        unlock(state);
    }
    free(code);
    return 0;
}

/* permit_tiles() -> int: whether this process, which runs what is loaded here, may use the tiles of
   AMX; 1 on CPUs of other kinds, which ask for none. */
TVM_FFI_DLL_EXPORT int __tvm_ffi_permit_tiles(void *self, const TVMFFIAny *arguments, int32_t count,
                                              TVMFFIAny *result) {
    (void)self, (void)arguments;
    if (count != 0) return fail("permit_tiles takes nothing");
    result->type_index = kTVMFFIInt;
    result->v_int64 = tiles_permitted();
    return 0;
}
