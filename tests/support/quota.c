/* The CPUs of a cgroup's quota in a file, as the library reads it. */
#include "cpu.c"

const tmn_network tmn_this_network = {0};

tmn_status tmn_fail(tmn_status status, const char *format, ...) {
    (void)format;
    return status;
}

int main(int argc, char **argv) {
    int32_t cpus = argc == 2 ? quota_of(argv[1]) : 0;
    if (cpus == INT32_MAX) puts("unlimited");
    else printf("%d\n", (int)cpus);
    return 0;
}
