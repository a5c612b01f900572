/* Statuses in words. */
#include <stdarg.h>
#include <stdio.h>

#include "internal.h"

enum { MESSAGE_BYTES = 256 };

static _Thread_local char message[MESSAGE_BYTES];

tmn_status tmn_fail(tmn_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return status;
}

TMN_API const char *NAME(last_error)(void) { return message; }

TMN_API const char *NAME(status_text)(tmn_status status) {
    switch (status) {
        case TMN_OK: return "ok";
        case TMN_BAD_ARGUMENT: return "an argument is NULL or out of range";
        case TMN_BAD_VERSION: return "the header and the library are not of one another";
        case TMN_BAD_CPU: return "this CPU lacks instructions that the network was compiled for";
        case TMN_BAD_WEIGHTS: return "the weights are damaged, or another network's";
        case TMN_BAD_WORKSPACE: return "the workspace is too small or misaligned";
        case TMN_NO_MEMORY: return "there is no memory left";
        case TMN_NO_THREAD: return "the system starts no further thread";
        case TMN_NO_FILE: return "the file of weights cannot be read";
        case TMN_BUSY: return "the context is running in another thread";
        case TMN_BAD_GPU: return "there is no NVIDIA driver, or no GPU that the code is for";
        case TMN_FAILED: return "the GPU failed";
    }
    return "no status of this library";
}
