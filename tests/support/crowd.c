/* Four threads with a context each, on one set of weights and one pool: how many runs were wrong. */
#include <classifier.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { CROWD = 4, RUNS = 200, MOST = 4096 };

static tmn_options options = CLASSIFIER_OPTIONS;

typedef struct {
    pthread_t thread;
    int number, wrong;
} member;

static void fill(float *input, int number) {
    size_t count = classifier_info()->inputs[0].bytes / sizeof(float);
    for (size_t i = 0; i < count; i++) input[i] = (float)((i + (size_t)number) % 11) / 11;
}

static void *serve(void *data) {
    member *mine = (member *)data;
    classifier_context *context;
    float first[MOST];
    size_t bytes = classifier_info()->outputs[0].bytes;
    mine->wrong = RUNS;
    if (bytes > sizeof first || classifier_create(&options, &context) != TMN_OK) return NULL;
    fill((float *)classifier_input(context, 0), mine->number);
    mine->wrong = 0;
    for (int run = 0; run < RUNS; run++) {
        if (classifier_run(context, NULL, NULL) != TMN_OK) mine->wrong++;
        if (run == 0) memcpy(first, classifier_output(context, 0), bytes);
        if (memcmp(first, classifier_output(context, 0), bytes) != 0) mine->wrong++;
    }
    classifier_destroy(context);
    return NULL;
}

int main(int argc, char **argv) {
    tmn_pool_options threads = TMN_POOL_OPTIONS;
    tmn_weights *weights;
    tmn_pool *pool;
    member members[CROWD];
    int wrong = 0;
    threads.threads = 2;
    threads.spin_us = 5; /* so that its threads sleep now and then */
    if (argc != 2 || classifier_weights_open(argv[1], TMN_MAP, &weights) != TMN_OK) return 1;
    if (classifier_pool_create(&threads, &pool) != TMN_OK) return 1;
    tmn_parallel parallel = classifier_pool_parallel(pool);
    options.weights = weights;
    options.parallel = &parallel;
    for (int i = 0; i < CROWD; i++) {
        members[i].number = i;
        if (pthread_create(&members[i].thread, NULL, serve, &members[i]) != 0) return 1;
    }
    for (int i = 0; i < CROWD; i++) {
        pthread_join(members[i].thread, NULL);
        wrong += members[i].wrong;
    }
    classifier_pool_destroy(pool);
    classifier_weights_close(weights);
    printf("%d runs, %d wrong\n", CROWD * RUNS, wrong);
    return 0;
}
