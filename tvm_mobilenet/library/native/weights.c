/* The weights: checked once, then shared by all contexts. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hash.h"
#include "internal.h"

static tmn_status check(const void *data, size_t bytes, const char *where) {
    const tmn_info *info = &tmn_this_network.info;
    if (bytes != info->weights_bytes)
        return tmn_fail(TMN_BAD_WEIGHTS, "%s: expected %zu bytes of weights, got %zu", where,
                        info->weights_bytes, bytes);
    uint64_t hash = tmn_hash(data, bytes);
    if (hash != info->weights_hash)
        return tmn_fail(TMN_BAD_WEIGHTS, "%s: not the weights of %s (hash %016llx, expected %016llx)",
                        where, info->name, (unsigned long long)hash,
                        (unsigned long long)info->weights_hash);
    return TMN_OK;
}

static tmn_status make(const void *data, void *mapped, size_t mapped_bytes, tmn_weights **weights) {
    tmn_weights *made = calloc(1, sizeof *made);
    if (!made) {
        tmn_release(mapped, mapped_bytes);
        return tmn_fail(TMN_NO_MEMORY, "no memory for a handle");
    }
    made->signature = tmn_this_network.info.signature;
    made->hash = tmn_this_network.info.weights_hash;
    made->data = data;
    made->mapped = mapped;
    made->mapped_bytes = mapped_bytes;
    atomic_init(&made->users, 1);
    *weights = made;
    return TMN_OK;
}

static tmn_status copy(const void *data, size_t bytes, tmn_weights **weights) {
    void *mapped;
    size_t mapped_bytes;
    void *own = tmn_allocate(bytes, &mapped, &mapped_bytes);
    if (!own) return tmn_fail(TMN_NO_MEMORY, "no memory for %zu bytes of weights", bytes);
    memcpy(own, data, bytes);
    return make(own, mapped, mapped_bytes, weights);
}

static tmn_status open_file(const char *file, int32_t how, tmn_weights **weights) {
    int descriptor = open(file, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return tmn_fail(TMN_NO_FILE, "%s: %s", file, strerror(errno));
    struct stat about;
    if (fstat(descriptor, &about) != 0 || !S_ISREG(about.st_mode) || about.st_size < 0) {
        close(descriptor);
        return tmn_fail(TMN_NO_FILE, "%s: not a regular file", file);
    }
    size_t bytes = (size_t)about.st_size;
    if (bytes != tmn_this_network.info.weights_bytes) {
        close(descriptor);
        return check(NULL, bytes, file);
    }
    /* private: what another process writes into the file afterwards is not looked for, but a file
       that is cut short under a mapping ends the program: put a new file in its place instead */
    void *data = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, descriptor, 0);
    int error = errno;
    close(descriptor);
    if (data == MAP_FAILED) return tmn_fail(TMN_NO_MEMORY, "%s: %s", file, strerror(error));
    tmn_status status = check(data, bytes, file);
    if (status == TMN_OK && how == TMN_MAP) return make(data, data, bytes, weights);
    if (status == TMN_OK) status = copy(data, bytes, weights);
    munmap(data, bytes);
    return status;
}

TMN_API tmn_status NAME(weights_open)(const char *file, int32_t how, tmn_weights **weights) {
    const tmn_network *network = &tmn_this_network;
    if (!weights) return tmn_fail(TMN_BAD_ARGUMENT, "weights is NULL");
    *weights = NULL;
    if (how != TMN_MAP && how != TMN_COPY)
        return tmn_fail(TMN_BAD_ARGUMENT, "how: expected TMN_MAP or TMN_COPY, got %d", (int)how);
    if (file) return open_file(file, how, weights);
    if (!network->weights)
        return tmn_fail(TMN_BAD_ARGUMENT, "file is NULL, and %s holds no weights itself",
                        network->info.name);
    if (how == TMN_COPY) return copy(network->weights, network->info.weights_bytes, weights);
    return make(network->weights, NULL, 0, weights);
}

TMN_API tmn_status NAME(weights_from_memory)(const void *data, size_t bytes,
                                             tmn_weights **weights) {
    if (!weights) return tmn_fail(TMN_BAD_ARGUMENT, "weights is NULL");
    *weights = NULL;
    if (!data) return tmn_fail(TMN_BAD_ARGUMENT, "data is NULL");
    if ((uintptr_t)data % TMN_ALIGNMENT)
        return tmn_fail(TMN_BAD_ARGUMENT, "data is not aligned to %d bytes", TMN_ALIGNMENT);
    tmn_status status = check(data, bytes, "memory");
    return status == TMN_OK ? make(data, NULL, 0, weights) : status;
}

void tmn_weights_keep(const tmn_weights *weights) {
    atomic_fetch_add(&((tmn_weights *)(uintptr_t)weights)->users, 1);
}

TMN_API void NAME(weights_close)(tmn_weights *weights) {
    if (!weights || atomic_fetch_sub(&weights->users, 1) != 1) return;
    tmn_release(weights->mapped, weights->mapped_bytes);
    free(weights);
}
