/* A pool of threads: idle ones look for work for a bounded time, then sleep.

   The calling thread does the first part of a job, thread i of the pool the i-th, so that a part
   finds in its CPU's cache what it left there. One job at a time: who finds the pool busy is told
   so. In a forked child, where the pool has no threads, it is busy for good. */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "pinning.h"

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

enum { LOOKS = 64 }; /* looks for work from one look at the clock to the next */

typedef struct worker {
    tmn_pool *pool;
    pthread_t thread;
    int32_t index;
    tmn_pin pin;
} worker;

struct tmn_pool {
    /* what all threads read, apart from what the workers write */
    _Alignas(TMN_ALIGNMENT) atomic_uint job; /* counts jobs; it has changed: there is a new one */
    tmn_task task;
    void *data;
    int32_t count;
    atomic_int ending;
    _Alignas(TMN_ALIGNMENT) atomic_int running; /* workers that are not done with the job */
    _Alignas(TMN_ALIGNMENT) atomic_int busy;
    atomic_int sleepers;
    pthread_mutex_t mutex; /* of those who sleep, and who wakes them */
    pthread_cond_t wake;
    int32_t threads;
    int64_t spin_ns;
    volatile int *alive; /* a page that a forked child finds zeroed; NULL: see owner */
    size_t page;
    pid_t owner;
    worker *workers;
};

static int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int has_threads(const tmn_pool *pool) {
    return pool->alive ? *pool->alive : getpid() == pool->owner;
}

/* Until there is a job other than number seen. */
static void wait_for_job(tmn_pool *pool, unsigned seen) {
    int64_t end = 0;
    for (;;) {
        for (int look = 0; look < LOOKS; look++) {
            if (atomic_load_explicit(&pool->job, memory_order_acquire) != seen) return;
            tmn_pause();
        }
        int64_t now = now_ns();
        if (!end) end = now + pool->spin_ns;
        if (now >= end) break;
    }
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1); /* before the look: who makes a job looks after it */
    while (atomic_load(&pool->job) == seen) pthread_cond_wait(&pool->wake, &pool->mutex);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->mutex);
}

static void *work(void *data) {
    worker *mine = data;
    tmn_pool *pool = mine->pool;
    for (unsigned seen = 0;;) {
        wait_for_job(pool, seen);
        seen = atomic_load(&pool->job);
        if (atomic_load(&pool->ending)) return NULL;
        if (mine->index < pool->count) pool->task(pool->data, mine->index);
        atomic_fetch_sub_explicit(&pool->running, 1, memory_order_release);
    }
}

static void announce(tmn_pool *pool) {
    atomic_fetch_add(&pool->job, 1);
    if (atomic_load(&pool->sleepers) > 0) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->mutex);
    }
}

/* tmn_parallel's run. */
static int run(void *self, tmn_task task, void *data, int32_t count) {
    tmn_pool *pool = self;
    if (count > pool->threads || !has_threads(pool) || atomic_exchange(&pool->busy, 1)) return 1;
    pool->task = task;
    pool->data = data;
    pool->count = count;
    atomic_store(&pool->running, pool->threads - 1);
    announce(pool);
    task(data, 0);
    for (int spins = 1; atomic_load_explicit(&pool->running, memory_order_acquire) > 0; spins++) {
        tmn_pause();
        if (spins % TMN_SPINS == 0) sched_yield(); /* who is waited for may wait for this CPU */
    }
    atomic_store(&pool->busy, 0);
    return 0;
}

/* A page that the system zeroes in a forked child; NULL where it cannot. */
static int *make_mark(size_t page) {
#if defined(__linux__) && defined(MADV_WIPEONFORK)
    int *mark = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mark == MAP_FAILED) return NULL;
    if (madvise(mark, page, MADV_WIPEONFORK) == 0) {
        *mark = 1;
        return mark;
    }
    munmap(mark, page);
#else
    (void)page;
#endif
    return NULL;
}

static tmn_status start(tmn_pool *pool, int32_t pin) {
    sigset_t all, before;
    sigfillset(&all); /* signals are the program's own threads' */
    /* but for those of a thread's own instructions: blocked, they end the program past its handlers */
    sigdelset(&all, SIGBUS), sigdelset(&all, SIGFPE), sigdelset(&all, SIGILL);
    sigdelset(&all, SIGSEGV), sigdelset(&all, SIGSYS), sigdelset(&all, SIGTRAP);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    int32_t started = 0;
    for (; started < pool->threads - 1 && !error; started++) {
        worker *one = &pool->workers[started];
        *one = (worker){.pool = pool, .index = started + 1, .pin = TMN_UNPINNED};
        error = pthread_create(&one->thread, NULL, work, one);
        if (error) break;
        if (pin) one->pin = tmn_pin_thread(one->thread);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!error) return TMN_OK;
    pool->threads = started + 1; /* those that end */
    return tmn_fail(TMN_NO_THREAD, "thread %d of the pool does not start: %s", (int)started + 1,
                    strerror(error));
}

tmn_status tmn_pool_make(const tmn_pool_options *given, tmn_pool **result) {
    tmn_pool_options options = TMN_POOL_OPTIONS;
    if (!result) return tmn_fail(TMN_BAD_ARGUMENT, "pool is NULL");
    *result = NULL;
    if (given) options = *given;
    if (options.version != TMN_VERSION)
        return tmn_fail(TMN_BAD_VERSION, "the options are of version %u, the library of %d",
                        (unsigned)options.version, TMN_VERSION);
    int32_t threads = options.threads ? options.threads : tmn_usable_cpus();
    if (threads < 1 || threads > TMN_MOST_THREADS)
        return tmn_fail(TMN_BAD_ARGUMENT, "threads: expected 0 to %d, got %d", TMN_MOST_THREADS,
                        (int)threads);
    void *memory = NULL;
    if (posix_memalign(&memory, TMN_ALIGNMENT, sizeof(tmn_pool)))
        return tmn_fail(TMN_NO_MEMORY, "no memory for a pool of threads");
    tmn_pool *pool = memory;
    memset(pool, 0, sizeof *pool);
    pool->threads = threads;
    pool->spin_ns = (int64_t)(options.spin_us < 0 ? TMN_DEFAULT_SPIN_US : options.spin_us) * 1000;
    pool->page = (size_t)sysconf(_SC_PAGESIZE);
    pool->alive = make_mark(pool->page);
    pool->owner = getpid();
    pool->workers = calloc((size_t)threads, sizeof *pool->workers);
    if (!pool->workers || pthread_mutex_init(&pool->mutex, NULL) ||
        pthread_cond_init(&pool->wake, NULL)) {
        if (pool->alive) munmap((void *)(uintptr_t)pool->alive, pool->page);
        free(pool->workers);
        free(pool);
        return tmn_fail(TMN_NO_MEMORY, "no memory for a pool of threads");
    }
    tmn_status status = start(pool, options.pin);
    if (status != TMN_OK) {
        tmn_pool_end(pool);
        return status;
    }
    *result = pool;
    return TMN_OK;
}

tmn_parallel tmn_pool_threads(tmn_pool *pool) {
    return (tmn_parallel){.run = run, .self = pool, .threads = pool->threads, .together = 1};
}

void tmn_pool_end(tmn_pool *pool) {
    if (!pool) return;
    if (has_threads(pool)) {
        atomic_store(&pool->ending, 1);
        announce(pool);
        for (int32_t i = 0; i < pool->threads - 1; i++) {
            pthread_join(pool->workers[i].thread, NULL);
            tmn_unpin(pool->workers[i].pin);
        }
        pthread_cond_destroy(&pool->wake);
        pthread_mutex_destroy(&pool->mutex);
    }
    if (pool->alive) munmap((void *)(uintptr_t)pool->alive, pool->page);
    free(pool->workers);
    free(pool);
}

TMN_API tmn_status NAME(pool_create)(const tmn_pool_options *options, tmn_pool **pool) {
    return tmn_pool_make(options, pool);
}

TMN_API tmn_parallel NAME(pool_parallel)(tmn_pool *pool) {
    return pool ? tmn_pool_threads(pool) : (tmn_parallel){.run = NULL, .threads = 1};
}

TMN_API void NAME(pool_destroy)(tmn_pool *pool) { tmn_pool_end(pool); }
