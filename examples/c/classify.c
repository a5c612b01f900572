/* Classify an image: classify WEIGHTS IMAGE, a binary PPM (P6) of the network's size. */
#include <classifier.h>
#include <stdio.h>

static int complain(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    return 1;
}

static int fail(const char *what) { return complain(what, classifier_last_error()); }

int main(int argc, char **argv) {
    const tmn_info *info = classifier_info();
    const int64_t *shape = info->inputs[0].shape; /* N, C, H, W */
    const tmn_pixels *pixels = info->inputs[0].pixels;
    int width, height, levels, best = 0;
    FILE *image = argc == 3 ? fopen(argv[2], "rb") : NULL;
    if (!image || fscanf(image, "P6 %d %d %d", &width, &height, &levels) != 3 ||
        height != shape[2] || width != shape[3] || levels != 255 || fgetc(image) == EOF)
        return complain("arguments", "expected weights, and a PPM of the network's size");

    tmn_weights *weights;
    classifier_context *context;
    tmn_options options = CLASSIFIER_OPTIONS;
    if (classifier_weights_open(argv[1], TMN_MAP, &weights) != TMN_OK) return fail(argv[1]);
    options.weights = weights;
    if (classifier_create(&options, &context) != TMN_OK) return fail("create");

    float *input = (float *)classifier_input(context, 0);
    for (int i = 0; i < width * height; i++)
        for (int c = 0; c < 3; c++)
            input[c * width * height + i] =
                ((float)fgetc(image) * pixels->scale - pixels->mean[c]) / pixels->std[c];
    if (feof(image)) return complain(argv[2], "is cut short");
    fclose(image);
    if (classifier_run(context, NULL, NULL) != TMN_OK) return fail("run");

    const float *scores = (const float *)classifier_output(context, 0);
    for (int i = 1; i < (int)info->outputs[0].shape[1]; i++)
        if (scores[i] > scores[best]) best = i;
    printf("class %d, score %g\n", best, (double)scores[best]);
    classifier_destroy(context);
    classifier_weights_close(weights);
    return 0;
}
