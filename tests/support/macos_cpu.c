/* What the library's check of the CPU says on a Mac that lacks a setting of sysctl, one after the
 * other of those in the arguments, and first on one that has them all. */

#include <stdarg.h>

#include "cpu.c"
#include "network_features.h" /* the test's: a target's, as the description of a network has them */

static const char *missing = "";

int sysctlbyname(const char *name, void *value, size_t *size, void *set, size_t set_size) {
    (void)set, (void)set_size;
    if (strcmp(name, missing) == 0 || *size != sizeof(int)) return -1;
    *(int *)value = 1;
    return 0;
}

tmn_status tmn_fail(tmn_status status, const char *format, ...) {
    va_list values;
    va_start(values, format);
    vprintf(format, values);
    va_end(values);
    return status;
}

const tmn_network tmn_this_network = {
    .info = {.name = "network", .target = "arm-apple-m2"},
    .features = features,
};

int main(int argc, char **argv) {
    for (int i = 0; i < argc; i++) {
        missing = argv[i];
        if (tmn_check_cpu(0) == TMN_OK) printf("ok");
        putchar('\n');
    }
    return 0;
}
