/* What the files of a network's library share. TMN_NAME is the network's name. */
#ifndef TMN_INTERNAL_H
#define TMN_INTERNAL_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "types.h"

#define TMN_JOIN_(a, b) a##_##b
#define TMN_JOIN(a, b) TMN_JOIN_(a, b)
#define NAME(function) TMN_JOIN(TMN_NAME, function)
#define TMN_API __attribute__((visibility("default")))
#define TMN_HIDDEN __attribute__((visibility("hidden")))

/* A context takes so many bytes of its workspace, for so many inputs and outputs at most;
   tvm_mobilenet/library/description.py counts with the same numbers. */
enum { TMN_ALIGNMENT = 64, TMN_CONTEXT_BYTES = 1024, TMN_MOST_TENSORS = 64 };

/* Up to so many, the kernels' division that tells a thread its number is exact, as
   tvm_mobilenet/compiler/cpu/sharing.py explains. */
enum { TMN_MOST_THREADS = 800 };

enum { TMN_SPINS = 1 << 10, TMN_DEFAULT_SPIN_US = 200 };

/* A feature of the CPU: where its bit is, as cpu.c reads them, and the state that the system must
   save for it (x86's XCR0). */
typedef struct tmn_feature {
    const char *name;
    uint32_t word, bit, state;
} tmn_feature;

/* The generated description of the network. */
typedef struct tmn_network {
    tmn_info info;
    const tmn_feature *features; /* as many as info.cpu_features names */
    const unsigned char *weights; /* embedded ones, or NULL */
    size_t plan_bytes;            /* what the kernels' tensors and counters take */
    size_t scratch_bytes;         /* what a thread's kernels ask for beside, at most */
    /* NULL on a GPU, whose graph is the whole network */
    int (*run)(void *const *inputs, const void *weights, void *workspace, void *const *outputs,
               int64_t *stamps, int32_t stamped);
} tmn_network;

extern const tmn_network tmn_this_network TMN_HIDDEN;

struct tmn_weights {
    uint64_t signature; /* the network's, for the case that another network gets them */
    uint64_t hash;
    const unsigned char *data;
    void *mapped; /* what close gives back, or NULL */
    size_t mapped_bytes;
    atomic_int users;
};

/* memory.c: zeroed memory on large pages where the system has some, every page of it there. */
TMN_HIDDEN void *tmn_allocate(size_t bytes, void **mapped, size_t *mapped_bytes);
TMN_HIDDEN void tmn_release(void *mapped, size_t mapped_bytes);

/* calls.c: the options, or those of a caller who gives none; and whether what was given will do. */
TMN_HIDDEN tmn_options tmn_options_of(const tmn_options *given);
TMN_HIDDEN tmn_status tmn_check_options(const tmn_options *options);
TMN_HIDDEN tmn_status tmn_check_weights(const tmn_weights *weights);
TMN_HIDDEN tmn_status tmn_check_workspace(const tmn_options *options, size_t needed);
TMN_HIDDEN tmn_status tmn_check_tensors(const void *const *inputs, void *const *outputs);

/* weights.c */
TMN_HIDDEN void tmn_weights_keep(const tmn_weights *weights);

/* pool.c */
TMN_HIDDEN tmn_status tmn_pool_make(const tmn_pool_options *options, tmn_pool **pool);
TMN_HIDDEN tmn_parallel tmn_pool_threads(tmn_pool *pool);
TMN_HIDDEN void tmn_pool_end(tmn_pool *pool);

/* cpu.c */
TMN_HIDDEN tmn_status tmn_check_cpu(int any_cpu);
TMN_HIDDEN int32_t tmn_usable_cpus(void);
/* Let the calling thread flush denormal numbers, in the default rounding; what it was, to restore. */
TMN_HIDDEN uint64_t tmn_enter_fast_float(void);
TMN_HIDDEN void tmn_restore_float(uint64_t mode);

/* errors.c: the status, with what it was in this case for NAME_last_error. */
TMN_HIDDEN tmn_status tmn_fail(tmn_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static inline void tmn_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __asm__ volatile("pause");
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#elif defined(__arm__)
    __asm__ volatile("yield");
#endif
}

#endif
