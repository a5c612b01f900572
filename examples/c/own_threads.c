/* A caller's threads: own_threads WEIGHTS. What a program has in place of parallel_for goes here; this
   one starts a thread for each call, which is simple, and slow. */
#include <classifier.h>
#include <pthread.h>
#include <stdio.h>

enum { THREADS = 2 };

typedef struct {
    tmn_task task;
    void *data;
    int32_t index;
} call;

static void *do_call(void *data) {
    const call *mine = (const call *)data;
    mine->task(mine->data, mine->index);
    return NULL;
}

/* task(data, 0) ... task(data, count - 1), each in a thread; 0 when all have returned. */
static int parallel_for(void *self, tmn_task task, void *data, int32_t count) {
    pthread_t threads[THREADS];
    call calls[THREADS];
    int32_t started = 1;
    (void)self;
    if (count > THREADS) return 1; /* none was called: the network runs in this thread */
    for (; started < count; started++) {
        calls[started].task = task;
        calls[started].data = data;
        calls[started].index = started;
        if (pthread_create(&threads[started], NULL, do_call, &calls[started]) != 0) break;
    }
    task(data, 0);
    for (int32_t late = started; late < count; late++) task(data, late); /* one after the other */
    for (int32_t i = 1; i < started; i++) pthread_join(threads[i], NULL);
    return 0;
}

int main(int argc, char **argv) {
    tmn_parallel parallel = {parallel_for, NULL, THREADS, 0};
    tmn_options options = CLASSIFIER_OPTIONS;
    tmn_weights *weights;
    classifier_context *context;
    tmn_status status = classifier_weights_open(argc == 2 ? argv[1] : "", TMN_COPY, &weights);
    if (status == TMN_OK) {
        options.weights = weights;
        options.parallel = &parallel;
        status = classifier_create(&options, &context);
    }
    for (int run = 0; run < 3 && status == TMN_OK; run++)
        status = classifier_run(context, NULL, NULL);
    if (status != TMN_OK) {
        fprintf(stderr, "%s: %s\n", classifier_status_text(status), classifier_last_error());
        return 1;
    }
    printf("%g\n", (double)*(float *)classifier_output(context, 0));
    classifier_destroy(context);
    classifier_weights_close(weights);
    return 0;
}
