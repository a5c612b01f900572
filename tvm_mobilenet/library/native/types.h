/* What all networks of this kind share. Every network's header holds this text; the first one that
   is included declares it. */
#ifndef TMN_VERSION
#define TMN_VERSION 1 /* of this interface: a library refuses options of another */

/* What a function returns. The texts are NAME_status_text's; NAME_last_error says what it was in
   this case. */
typedef enum tmn_status {
    TMN_OK = 0,
    TMN_BAD_ARGUMENT = 1,  /* a pointer is NULL, or a number out of range */
    TMN_BAD_VERSION = 2,   /* the header and the library are not of one another */
    TMN_BAD_CPU = 3,       /* this CPU, or its system, lacks instructions that the code uses */
    TMN_BAD_WEIGHTS = 4,   /* the weights are damaged, or another network's */
    TMN_BAD_WORKSPACE = 5, /* the workspace is too small or misaligned */
    TMN_NO_MEMORY = 6,
    TMN_NO_THREAD = 7, /* the system starts no further thread */
    TMN_NO_FILE = 8,   /* the file of weights cannot be read */
    TMN_BUSY = 9,      /* the context is running in another thread */
    TMN_BAD_GPU = 10,  /* there is no NVIDIA driver, or no GPU that the code is for */
    TMN_FAILED = 11    /* the GPU failed */
} tmn_status;

typedef enum tmn_dtype {
    TMN_FLOAT32 = 1,
    TMN_FLOAT16 = 2,
    TMN_INT64 = 3,
    TMN_INT32 = 4,
    TMN_INT8 = 5,
    TMN_UINT8 = 6
} tmn_dtype;

/* How a pixel of 0 to 255 becomes an input's value: (pixel * scale - mean) / std. */
typedef struct tmn_pixels {
    float scale;
    int32_t channels;
    const float *mean; /* one a channel, red first */
    const float *std;
    int32_t blue_first; /* 1: the input's channels are blue, green, red */
} tmn_pixels;

/* An input or output: dense, in the order of its dimensions. */
typedef struct tmn_tensor {
    const char *name;
    tmn_dtype dtype;
    int32_t rank;
    const int64_t *shape; /* so many numbers */
    const char *layout;   /* a letter a dimension, as in NCHW */
    size_t bytes;
    float scale; /* of quantized values, (q - zero_point) * scale; 0 where they are not quantized */
    int32_t zero_point;
    const tmn_pixels *pixels;  /* NULL where it is no image, or that is not known */
    const char *scores;        /* of an output: logits, softmax, sigmoid, or NULL where not known */
    const char *const *labels; /* of its classes, or NULL */
    int32_t label_count;
} tmn_tensor;

typedef struct tmn_info {
    uint32_t version; /* TMN_VERSION of the library */
    uint64_t signature;
    const char *name;
    const char *target; /* what it was compiled for */
    const char *triple;
    int32_t input_count, output_count;
    const tmn_tensor *inputs, *outputs;
    const char *const *cpu_features; /* as Linux names them; NULL ends the list */
    size_t weights_bytes;
    uint64_t weights_hash;
    int32_t weights_embedded; /* 1: they are in the library, and no file is needed */
    size_t workspace_bytes;   /* for one thread; NAME_workspace_bytes says it for more */
    size_t alignment;         /* of the workspace; of inputs and outputs that are not copied */
    int32_t most_threads;     /* that share the work well */
    int32_t kernel_count;     /* NAME_profile gives one stamp more */
} tmn_info;

/* A part of the work; the caller's threads call it. */
typedef void (*tmn_task)(void *data, int32_t index);

/* Threads to run on: the caller's, or a pool's of this library.

   run(self, task, data, count) calls task(data, 0) to task(data, count - 1), each once, in any
   threads and any order, and returns 0 after all have returned; or it calls none and returns
   anything else, and the network then runs in the calling thread alone. Calls that begin late, or
   one after the other, are no error: the network runs on as many threads as came together. */
typedef struct tmn_parallel {
    int (*run)(void *self, tmn_task task, void *data, int32_t count);
    void *self;
    int32_t threads;
    int32_t together; /* 1: the calls surely run at the same time, each in a thread of its own */
} tmn_parallel;

/* A pool of threads, which may serve several networks, one run at a time: a run that finds it busy
   goes on in its calling thread alone. Idle threads sleep. */
typedef struct tmn_pool tmn_pool;

typedef struct tmn_pool_options {
    uint32_t version;
    int32_t threads; /* with the calling one; 0: NAME_default_threads() */
    int32_t spin_us; /* how long an idle thread stays awake; negative: 200 */
    int32_t pin;     /* 1: each to a CPU that no other pinned thread of such a pool has */
} tmn_pool_options;

#define TMN_POOL_OPTIONS {TMN_VERSION, 0, -1, 0}

typedef struct tmn_weights tmn_weights;

/* How weights are kept in memory. */
enum {
    TMN_MAP = 0, /* as the file's pages, which all processes share: at once */
    TMN_COPY = 1 /* as a copy on large pages, where the system has some: a few percent faster runs */
};

typedef struct tmn_options {
    uint32_t version;
    uint64_t signature;
    const tmn_weights *weights; /* NULL: those in the library */
    void *workspace;            /* NULL: of its own, on large pages where the system has some */
    size_t workspace_bytes;
    const tmn_parallel *parallel; /* NULL: a pool of its own, where threads is not 1 */
    int32_t threads;              /* of its own pool, with the calling one; 0: as many as are of use */
    int32_t spin_us, pin;         /* as in tmn_pool_options */
    int32_t any_cpu; /* 1: do not look for the CPU's features; an instruction it lacks ends the program */
} tmn_options;

#elif TMN_VERSION != 1
#error "two networks' headers are of different versions; compile the networks with one tvm-mobilenet"
#endif
