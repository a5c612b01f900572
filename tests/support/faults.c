/* What the library says of calls that cannot work: one line each, "call: status: text". */
#include <classifier.h>
#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void say(const char *call, tmn_status status) {
    printf("%s: %d: %s\n", call, (int)status, status == TMN_OK ? "ok" : classifier_last_error());
}

static void open_file(const char *call, const char *file) {
    tmn_weights *weights;
    say(call, classifier_weights_open(file, TMN_MAP, &weights));
    classifier_weights_close(weights);
}

static int refuse(void *self, tmn_task task, void *data, int32_t count) {
    (void)self, (void)task, (void)data, (void)count;
    return 1;
}

static int one_by_one(void *self, tmn_task task, void *data, int32_t count) {
    (void)self;
    while (count > 0) task(data, --count);
    return 0;
}

static classifier_context *in_use;
static tmn_status nested;

static int run_again(void *self, tmn_task task, void *data, int32_t count) {
    (void)self, (void)task, (void)data, (void)count;
    nested = classifier_run(in_use, NULL, NULL);
    return 1;
}

static float run_with(tmn_options options, int (*run)(void *, tmn_task, void *, int32_t)) {
    tmn_parallel parallel = {run, NULL, 3, 0};
    classifier_context *context;
    options.parallel = run ? &parallel : NULL;
    if (classifier_create(&options, &context) != TMN_OK) return -1;
    in_use = context;
    float *input = (float *)classifier_input(context, 0);
    for (size_t i = 0; i < classifier_info()->inputs[0].bytes / sizeof(float); i++)
        input[i] = (float)(i % 17) / 17;
    if (classifier_run(context, NULL, NULL) != TMN_OK) return -2;
    float result = *(float *)classifier_output(context, 0);
    classifier_destroy(context);
    return result;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    tmn_options options = CLASSIFIER_OPTIONS, other;
    classifier_context *context;
    tmn_weights *weights;

    open_file("no file", "/nowhere/parameters.bin");
    open_file("a folder", "/");
    open_file("truncated weights", argv[2]);
    open_file("foreign weights", argv[3]);
    say("weights to NULL", classifier_weights_open(argv[1], TMN_MAP, NULL));
    say("no memory of weights", classifier_weights_from_memory(NULL, 1, &weights));
    say("create to NULL", classifier_create(&options, NULL));
    say("no weights", classifier_create(&options, &context));
    say("no options", classifier_create(NULL, &context));
    if (classifier_weights_open(argv[1], TMN_MAP, &weights) != TMN_OK) return 1;
    options.weights = weights;

    other = options;
    other.version++;
    say("another version", classifier_create(&other, &context));
    other = options;
    other.signature++;
    say("another header", classifier_create(&other, &context));
    other = options;
    other.threads = -1;
    say("threads below zero", classifier_create(&other, &context));
    other.threads = 801;
    say("more threads than know their numbers", classifier_create(&other, &context));
    tmn_parallel many = {refuse, NULL, 801, 0};
    other.parallel = &many;
    say("as many of the caller's", classifier_create(&other, &context));
    tmn_pool_options of_pool = TMN_POOL_OPTIONS;
    tmn_pool *pool;
    of_pool.threads = 801;
    say("as many of a pool", classifier_pool_create(&of_pool, &pool));
    tmn_parallel none = {NULL, NULL, 2, 0};
    other = options;
    other.parallel = &none;
    say("threads of nobody", classifier_create(&other, &context));

    size_t size = classifier_workspace_bytes(&options);
    char *memory = (char *)calloc(1, size + 2 * CLASSIFIER_ALIGNMENT);
    char *workspace = memory + (64 - (size_t)memory % 64) % 64;
    other = options;
    other.workspace = workspace;
    other.workspace_bytes = size - 1;
    say("a small workspace", classifier_create(&other, &context));
    other.workspace = workspace + 4;
    other.workspace_bytes = size;
    say("a misaligned workspace", classifier_create(&other, &context));
    other.workspace = workspace;
    say("a workspace", classifier_create(&other, &context));
    classifier_weights_close(weights); /* the context keeps them */

    size_t in = classifier_info()->inputs[0].bytes, out = classifier_info()->outputs[0].bytes;
    char *input = (char *)calloc(1, in + 4), *output = (char *)calloc(1, out + 4);
    const void *inputs[] = {input + 4}, *nothing[] = {NULL};
    void *outputs[] = {output + 4}, *over[] = {input}, *nowhere[] = {NULL};
    say("run without a context", classifier_run(NULL, inputs, outputs));
    say("run on NULL", classifier_run(context, nothing, outputs));
    say("run to NULL", classifier_run(context, inputs, nowhere));
    say("run onto its input", classifier_run(context, inputs, over));
    fesetround(FE_UPWARD);
    say("run on what is not aligned", classifier_run(context, inputs, outputs));
    printf("rounding mode kept: %d\n", fegetround() == FE_UPWARD);
    fesetround(FE_TONEAREST);
    volatile float tiny = 1e-39f;
    printf("denormals kept: %d\n", tiny * 0.5f > 0);
    printf("output number 7: %d\n", classifier_output(context, 7) != NULL);
    classifier_destroy(context);
    classifier_destroy(NULL);

    if (classifier_weights_open(argv[1], TMN_COPY, &weights) != TMN_OK) return 1;
    options.weights = weights;
    float alone = run_with(options, NULL);
    printf("threads that refuse: %d\n", run_with(options, refuse) == alone);
    printf("threads one by one: %d\n", run_with(options, one_by_one) == alone);
    printf("a context at work: %d", run_with(options, run_again) == alone);
    printf(" %d\n", (int)nested);
    options.threads = 3;
    printf("a pool of its own: %d\n", run_with(options, NULL) == alone);
    options.pin = 1;
    printf("a pinned pool: %d\n", run_with(options, NULL) == alone);
    classifier_weights_close(weights);
    free(memory);
    free(input);
    free(output);
    return 0;
}
