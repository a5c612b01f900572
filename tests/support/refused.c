/* What a bundle's library says of the CPU it runs on: refused LIBRARY NAME. */

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "types.h"

static void *library;
static const char *name;

static void find(const char *function, void *place) {
    char symbol[160];
    snprintf(symbol, sizeof symbol, "%s_%s", name, function);
    void *address = dlsym(library, symbol);
    if (!address) exit(2);
    memcpy(place, &address, sizeof address);
}

int main(int argc, char **argv) {
    if (argc != 3 || !(library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL))) return 2;
    name = argv[2];
    const tmn_info *(*info)(void);
    tmn_status (*create)(const tmn_options *, void **);
    const char *(*last_error)(void);
    find("info", &info), find("create", &create), find("last_error", &last_error);

    tmn_options options = {.version = TMN_VERSION, .signature = info()->signature};
    void *context;
    create(&options, &context);
    puts(last_error());
    return 0;
}
