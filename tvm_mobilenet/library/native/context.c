/* A context: the network's workspace, and the threads that run it. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "internal.h"

enum { MAGIC = 0x544D4E43, PATIENCE_US = 100, LOOKS = 64, CLOSED = 1 << 20 };

/* What a thread is at while it runs a part of the network. */
typedef struct thread_state {
    struct context *context;
    unsigned char *scratch;
    size_t used;
} thread_state;

typedef struct context {
    uint32_t magic;
    atomic_int busy;
    atomic_int starved; /* a kernel got no scratch */
    const tmn_weights *weights; /* NULL: those in the library */
    const unsigned char *weights_data;
    tmn_parallel parallel; /* run NULL: the calling thread alone */
    tmn_pool *own_pool;
    unsigned char *plan, *scratch;
    unsigned char *tensors[TMN_MOST_TENSORS]; /* its own inputs, then outputs */
    void *mapped; /* the workspace, where it is its own */
    size_t mapped_bytes;
} context;

_Static_assert(sizeof(context) <= TMN_CONTEXT_BYTES, "a context fits its place");

static _Thread_local thread_state current;

static size_t aligned(size_t bytes) {
    return (bytes + TMN_ALIGNMENT - 1) / TMN_ALIGNMENT * TMN_ALIGNMENT;
}

/* The threads that so many CPUs stand for. */
static int32_t threads_of(const tmn_options *options) {
    if (options->parallel) return options->parallel->threads;
    if (options->threads) return options->threads;
    int32_t cpus = tmn_usable_cpus(), most = tmn_this_network.info.most_threads;
    return cpus < most ? cpus : most;
}

static const tmn_tensor *tensor(int32_t index) {
    const tmn_info *info = &tmn_this_network.info;
    return index < info->input_count ? &info->inputs[index]
                                     : &info->outputs[index - info->input_count];
}

/* Where all lies, from the workspace's begin: the plan first, on its boundary. Returns its bytes,
   or SIZE_MAX, which no allocation gives, where a size_t cannot hold them. */
static size_t lay_out(context *made, unsigned char *begin, int32_t threads) {
    const tmn_network *network = &tmn_this_network;
    size_t at = aligned(network->plan_bytes) + TMN_CONTEXT_BYTES;
    int32_t count = network->info.input_count + network->info.output_count;
    for (int32_t i = 0; i < count; i++) {
        if (made) made->tensors[i] = begin + at;
        at += aligned(tensor(i)->bytes);
    }
    if (made) {
        made->plan = begin;
        made->scratch = begin + at;
    }
    size_t scratch, bytes;
    if (__builtin_mul_overflow(aligned(network->scratch_bytes), (size_t)threads, &scratch) ||
        __builtin_add_overflow(at, scratch, &bytes))
        return SIZE_MAX;
    return bytes;
}

TMN_API size_t NAME(workspace_bytes)(const tmn_options *given) {
    tmn_options options = tmn_options_of(given);
    if (tmn_check_options(&options) != TMN_OK) return 0;
    return lay_out(NULL, NULL, threads_of(&options));
}

static tmn_status use_threads(context *made, const tmn_options *options, int32_t threads) {
    made->parallel = (tmn_parallel){.threads = 1};
    if (threads == 1) return TMN_OK;
    if (options->parallel) {
        made->parallel = *options->parallel;
        return TMN_OK;
    }
    tmn_pool_options of_pool = {TMN_VERSION, threads, options->spin_us, options->pin};
    tmn_status status = tmn_pool_make(&of_pool, &made->own_pool);
    if (status == TMN_OK) made->parallel = tmn_pool_threads(made->own_pool);
    return status;
}

TMN_API tmn_status NAME(create)(const tmn_options *given, struct context **result) {
    tmn_options options = tmn_options_of(given);
    if (!result) return tmn_fail(TMN_BAD_ARGUMENT, "context is NULL");
    *result = NULL;
    tmn_status status = tmn_check_options(&options);
    if (status == TMN_OK) status = tmn_check_cpu(options.any_cpu);
    if (status == TMN_OK) status = tmn_check_weights(options.weights);
    if (status != TMN_OK) return status;

    int32_t threads = threads_of(&options);
    size_t needed = lay_out(NULL, NULL, threads), mapped_bytes = 0;
    void *mapped = NULL;
    unsigned char *begin = options.workspace;
    status = tmn_check_workspace(&options, needed);
    if (status != TMN_OK) return status;
    if (!begin) begin = tmn_allocate(needed, &mapped, &mapped_bytes);
    if (!begin) return tmn_fail(TMN_NO_MEMORY, "no memory for a workspace of %zu bytes", needed);

    context *made = (context *)(void *)(begin + aligned(tmn_this_network.plan_bytes));
    memset(made, 0, sizeof *made);
    lay_out(made, begin, threads);
    made->mapped = mapped;
    made->mapped_bytes = mapped_bytes;
    status = use_threads(made, &options, threads);
    if (status != TMN_OK) {
        tmn_release(mapped, mapped_bytes);
        return status;
    }
    made->weights = options.weights;
    made->weights_data = options.weights ? options.weights->data : tmn_this_network.weights;
    if (made->weights) tmn_weights_keep(made->weights);
    made->magic = MAGIC;
    *result = made;
    return TMN_OK;
}

TMN_API void NAME(weights_close)(tmn_weights *weights);

TMN_API void NAME(destroy)(struct context *old) {
    if (!old || old->magic != MAGIC) return;
    old->magic = 0;
    tmn_pool_end(old->own_pool);
    NAME(weights_close)((tmn_weights *)(uintptr_t)old->weights);
    tmn_release(old->mapped, old->mapped_bytes); /* which holds the context */
}

TMN_API void *NAME(input)(struct context *of, int32_t index) {
    int32_t count = tmn_this_network.info.input_count;
    return of && index >= 0 && index < count ? of->tensors[index] : NULL;
}

TMN_API void *NAME(output)(struct context *of, int32_t index) {
    const tmn_info *info = &tmn_this_network.info;
    int known = of && index >= 0 && index < info->output_count;
    return known ? of->tensors[info->input_count + index] : NULL;
}

TMN_API int32_t NAME(threads)(const struct context *of) { return of ? of->parallel.threads : 0; }

/* What the compiled code calls: one region of the network, for all threads together. */

typedef struct group {
    void *unused;
    int32_t count;
} group;

typedef int (*region)(int32_t thread, group *threads, void *closure);

typedef struct team {
    context *context;
    region body;
    void *closure;
    int32_t wanted;
    int64_t end_ns;     /* when the team starts with whoever is there */
    atomic_int joined;  /* CLOSED is added when it has started */
    atomic_int members; /* 0: it has not */
    atomic_int failed;
} team;

static int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void work(team *mine, int32_t thread, int32_t threads) {
    thread_state before = current;
    size_t scratch = aligned(tmn_this_network.scratch_bytes);
    current = (thread_state){mine->context, mine->context->scratch + scratch * (size_t)thread, 0};
    group together = {NULL, threads};
    if (mine->body(thread, &together, mine->closure) != 0) atomic_store(&mine->failed, 1);
    current = before;
}

/* A part in threads that surely run together. */
static void work_together(void *data, int32_t index) {
    team *mine = data;
    uint64_t mode = tmn_enter_fast_float();
    work(mine, index, mine->wanted);
    tmn_restore_float(mode);
}

/* The first of a team waits for the others, not for long; how many have come. */
static int32_t close_team(team *mine) {
    for (;;) {
        for (int look = 0; look < LOOKS; look++) {
            if (atomic_load(&mine->joined) >= mine->wanted) goto close;
            tmn_pause();
        }
        if (now_ns() >= mine->end_ns) break;
        sched_yield();
    }
close:;
    int32_t members = atomic_fetch_add(&mine->joined, CLOSED);
    atomic_store(&mine->members, members);
    return members;
}

/* A part in threads of which nothing is known: those that come in time share the work. */
static void work_in_team(void *data, int32_t index) {
    team *mine = data;
    (void)index;
    int place = atomic_load(&mine->joined);
    do {
        if (place >= CLOSED) return; /* the others do it all */
    } while (!atomic_compare_exchange_weak(&mine->joined, &place, place + 1));
    int32_t members = 0;
    if (place == 0) members = close_team(mine);
    for (int spins = 1; !members && !(members = atomic_load(&mine->members)); spins++) {
        tmn_pause();
        if (spins % TMN_SPINS == 0) sched_yield();
    }
    uint64_t mode = tmn_enter_fast_float();
    work(mine, place, members);
    tmn_restore_float(mode);
}

static int launch(region body, void *closure, int count) {
    (void)count; /* 0: as many as there are */
    context *here = current.context;
    const tmn_parallel *threads = &here->parallel;
    team one = {.context = here, .body = body, .closure = closure, .wanted = threads->threads};
    int alone = threads->threads == 1;
    if (!alone && threads->together)
        alone = threads->run(threads->self, work_together, &one, one.wanted);
    else if (!alone) {
        one.end_ns = now_ns() + (int64_t)PATIENCE_US * 1000;
        alone = threads->run(threads->self, work_in_team, &one, one.wanted);
    }
    if (alone) work(&one, 0, 1);
    return atomic_load(&one.failed) ? -1 : 0;
}

static void *take_scratch(int device, int number, uint64_t bytes, int code, int bits) {
    (void)device, (void)number, (void)code, (void)bits;
    size_t free_bytes = aligned(tmn_this_network.scratch_bytes) - current.used;
    if (bytes > free_bytes) { /* the kernel ends early, and nobody hears of it but from here */
        atomic_store(&current.context->starved, 1);
        return NULL;
    }
    void *taken = current.scratch + current.used;
    current.used += aligned((size_t)bytes);
    return taken;
}

static int give_scratch(int device, int number, void *taken) {
    (void)device, (void)number;
    current.used = (size_t)((unsigned char *)taken - current.scratch); /* the last one taken */
    return 0;
}

/* Through these the compiled code finds them. */
extern int (*__TVMBackendParallelLaunch)(region, void *, int) TMN_HIDDEN;
extern void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) TMN_HIDDEN;
extern int (*__TVMBackendFreeWorkspace)(int, int, void *) TMN_HIDDEN;
int (*__TVMBackendParallelLaunch)(region, void *, int) = launch;
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = take_scratch;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = give_scratch;

static tmn_status infer(context *in, void *const *inputs, void *const *outputs, int64_t *stamps) {
    thread_state before = current;
    current = (thread_state){.context = in};
    uint64_t mode = tmn_enter_fast_float();
    int failed = tmn_this_network.run(inputs, in->weights_data, in->plan, outputs, stamps,
                                      stamps != NULL);
    tmn_restore_float(mode);
    current = before;
    int starved = atomic_exchange(&in->starved, 0); /* the next run's is its own */
    if (failed || starved)
        return tmn_fail(TMN_NO_MEMORY, "a kernel asked for more scratch than there is");
    return TMN_OK;
}

static tmn_status enter(struct context *in) {
    if (!in || in->magic != MAGIC) return tmn_fail(TMN_BAD_ARGUMENT, "there is no such context");
    if (atomic_exchange_explicit(&in->busy, 1, memory_order_acquire))
        return tmn_fail(TMN_BUSY, "the context is running in another thread; make one a thread");
    return TMN_OK;
}

static void leave(struct context *in) {
    atomic_store_explicit(&in->busy, 0, memory_order_release);
}

TMN_API tmn_status NAME(run)(struct context *in, const void *const *inputs, void *const *outputs) {
    const tmn_info *info = &tmn_this_network.info;
    void *given[TMN_MOST_TENSORS], *wanted[TMN_MOST_TENSORS];
    tmn_status status = tmn_check_tensors(inputs, outputs);
    if (status == TMN_OK) status = enter(in);
    if (status != TMN_OK) return status;
    unsigned char *const *own = in->tensors;
    for (int32_t i = 0; i < info->input_count; i++, own++) {
        const void *from = inputs ? inputs[i] : *own;
        int fits = (uintptr_t)from % TMN_ALIGNMENT == 0;
        if (!fits) memcpy(*own, from, info->inputs[i].bytes);
        given[i] = fits ? (void *)(uintptr_t)from : *own;
    }
    for (int32_t i = 0; i < info->output_count; i++)
        wanted[i] = outputs && (uintptr_t)outputs[i] % TMN_ALIGNMENT == 0 ? outputs[i] : own[i];
    status = infer(in, given, wanted, NULL);
    for (int32_t i = 0; outputs && i < info->output_count; i++)
        if (wanted[i] != outputs[i]) memcpy(outputs[i], wanted[i], info->outputs[i].bytes);
    leave(in);
    return status;
}

TMN_API tmn_status NAME(profile)(struct context *in, int64_t *stamps) {
    if (!stamps) return tmn_fail(TMN_BAD_ARGUMENT, "stamps is NULL");
    tmn_status status = enter(in);
    if (status != TMN_OK) return status;
    void *tensors[TMN_MOST_TENSORS];
    for (int i = 0; i < TMN_MOST_TENSORS; i++) tensors[i] = in->tensors[i];
    status = infer(in, tensors, tensors + tmn_this_network.info.input_count, stamps);
    leave(in);
    return status;
}

extern int32_t tmn_kernel_fma_peak(float *scratch) TMN_HIDDEN;
extern int32_t tmn_kernel_stream_read(const float *rows, float *sums) TMN_HIDDEN;

TMN_API void NAME(fma_peak)(float *scratch) { tmn_kernel_fma_peak(scratch); }

TMN_API void NAME(stream_read)(const float *rows, float *sums) {
    tmn_kernel_stream_read(rows, sums);
}

#ifdef TMN_BYTES_PEAK
extern int32_t tmn_kernel_bytes_peak(float *scratch) TMN_HIDDEN;
TMN_API void NAME(bytes_peak)(float *scratch) { tmn_kernel_bytes_peak(scratch); }
#endif

#ifdef TMN_FP16_PEAK
extern int32_t tmn_kernel_fp16_peak(float *scratch) TMN_HIDDEN;
TMN_API void NAME(fp16_peak)(float *scratch) { tmn_kernel_fp16_peak(scratch); }
#endif

#ifdef TMN_BF16_PEAK
extern int32_t tmn_kernel_bf16_peak(float *scratch) TMN_HIDDEN;
TMN_API void NAME(bf16_peak)(float *scratch) { tmn_kernel_bf16_peak(scratch); }
#endif

#ifdef TMN_BYTES_TILES_PEAK
extern int32_t tmn_kernel_bytes_tiles_peak(float *scratch) TMN_HIDDEN;
TMN_API void NAME(bytes_tiles_peak)(float *scratch) { tmn_kernel_bytes_tiles_peak(scratch); }
#endif

#ifdef TMN_BF16_TILES_PEAK
extern int32_t tmn_kernel_bf16_tiles_peak(float *scratch) TMN_HIDDEN;
TMN_API void NAME(bf16_tiles_peak)(float *scratch) { tmn_kernel_bf16_tiles_peak(scratch); }
#endif
