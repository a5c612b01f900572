/* Two networks in one program, on one pool of threads: two_networks WEIGHTS WEIGHTS. */
#include <classifier.h>
#include <second.h>
#include <stdio.h>

static int fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 3) return fail("arguments", "expected the weights of both networks");
    tmn_pool_options threads = TMN_POOL_OPTIONS;
    threads.threads = 2;
    tmn_pool *pool;
    if (classifier_pool_create(&threads, &pool) != TMN_OK)
        return fail("pool", classifier_last_error());
    const tmn_parallel parallel = classifier_pool_parallel(pool);

    tmn_weights *weights[2];
    if (classifier_weights_open(argv[1], TMN_MAP, &weights[0]) != TMN_OK)
        return fail(argv[1], classifier_last_error());
    if (second_weights_open(argv[2], TMN_MAP, &weights[1]) != TMN_OK)
        return fail(argv[2], second_last_error());

    tmn_options options = CLASSIFIER_OPTIONS, of_second = SECOND_OPTIONS;
    options.weights = weights[0];
    of_second.weights = weights[1];
    options.parallel = of_second.parallel = &parallel;
    classifier_context *classifier;
    second_context *second;
    if (classifier_create(&options, &classifier) != TMN_OK)
        return fail("create", classifier_last_error());
    if (second_create(&of_second, &second) != TMN_OK) return fail("create", second_last_error());

    for (int run = 0; run < 3; run++) { /* their own inputs are zeros to begin with */
        if (classifier_run(classifier, NULL, NULL) != TMN_OK)
            return fail("run", classifier_last_error());
        if (second_run(second, NULL, NULL) != TMN_OK) return fail("run", second_last_error());
    }
    printf("%g %g\n", (double)*(float *)classifier_output(classifier, 0),
           (double)*(float *)second_output(second, 0));
    classifier_destroy(classifier);
    second_destroy(second);
    classifier_weights_close(weights[0]);
    second_weights_close(weights[1]);
    classifier_pool_destroy(pool);
    return 0;
}
