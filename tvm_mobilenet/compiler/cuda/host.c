/* The host's half of a bundle for NVIDIA GPUs: loads the kernels and runs the network as one graph.

   Everything goes through the driver, libcuda, which is looked up when a session opens: the library
   loads on a machine that has none, and says so. It needs neither the CUDA runtime nor TVM's, so
   that one source serves a server with CUDA 13 and a Jetson with CUDA 12.

   plan.h, generated, has the launches in order and where their arguments lie. A function returns
   0, or FAILED, WRONG_MACHINE or NO_MEMORY with one line in `error`. */

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DONE = 0, FAILED = 1, WRONG_MACHINE = 2, NO_MEMORY = 3 };
enum { MAX_ARGUMENTS = 8 };
enum { PARAMETERS, WORKSPACE, INPUTS }; /* buffers; inputs are INPUTS, INPUTS + 1, …, then outputs */

typedef struct {
  int buffer;
  size_t offset;
} Argument;

typedef struct {
  const char *kernel;
  unsigned grid[3], block[3];
  int count;
  Argument arguments[MAX_ARGUMENTS];
} Launch;

#include "plan.h" /* ARCH_MAJOR, ARCH_MINOR, BUFFERS, OUTPUTS, buffer_bytes, LAUNCHES, launches */

/* kernels.fatbin: the architecture's machine code, and PTX for newer ones */
__asm__(
    ".pushsection .rodata\n.balign 64\ntvm_mobilenet_fatbin:\n.incbin \"kernels.fatbin\"\n"
    ".byte 0\n.popsection\n");
extern const unsigned char tvm_mobilenet_fatbin[] __attribute__((visibility("hidden")));

/* The part of the driver that this uses; types as in cuda.h */
typedef int Result;
typedef int Device;
typedef uint64_t Address;
typedef void *Handle;
enum {
  SUCCESS = 0,
  OUT_OF_MEMORY = 2,
  NO_DEVICE = 100,
  NO_BINARY_FOR_GPU = 209,
  CAPABILITY_MAJOR = 75,
  CAPABILITY_MINOR = 76,
  NON_BLOCKING = 1,
  CAPTURE_THREAD_LOCAL = 1
};

#define DRIVER(call)                                                                        \
  call(Init, "cuInit", (unsigned))                                                          \
  call(DriverGetVersion, "cuDriverGetVersion", (int *))                                     \
  call(DeviceGetCount, "cuDeviceGetCount", (int *))                                         \
  call(DeviceGet, "cuDeviceGet", (Device *, int))                                           \
  call(DeviceGetName, "cuDeviceGetName", (char *, int, Device))                             \
  call(DeviceGetAttribute, "cuDeviceGetAttribute", (int *, int, Device))                    \
  call(PrimaryCtxRetain, "cuDevicePrimaryCtxRetain", (Handle *, Device))                    \
  call(PrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2", (Device))                         \
  call(CtxSetCurrent, "cuCtxSetCurrent", (Handle))                                          \
  call(CtxSynchronize, "cuCtxSynchronize", (void))                                          \
  call(ModuleLoadData, "cuModuleLoadData", (Handle *, const void *))                        \
  call(ModuleUnload, "cuModuleUnload", (Handle))                                            \
  call(ModuleGetFunction, "cuModuleGetFunction", (Handle *, Handle, const char *))          \
  call(MemAlloc, "cuMemAlloc_v2", (Address *, size_t))                                      \
  call(MemFree, "cuMemFree_v2", (Address))                                                  \
  call(MemsetD8, "cuMemsetD8_v2", (Address, unsigned char, size_t))                         \
  call(MemAllocHost, "cuMemAllocHost_v2", (void **, size_t))                                \
  call(MemFreeHost, "cuMemFreeHost", (void *))                                              \
  call(MemcpyHtoD, "cuMemcpyHtoD_v2", (Address, const void *, size_t))                      \
  call(MemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2", (Address, const void *, size_t, Handle))    \
  call(MemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2", (void *, Address, size_t, Handle))          \
  call(LaunchKernel, "cuLaunchKernel",                                                      \
       (Handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,       \
        Handle, void **, void **))                                                          \
  call(StreamCreate, "cuStreamCreate", (Handle *, unsigned))                                \
  call(StreamDestroy, "cuStreamDestroy_v2", (Handle))                                       \
  call(StreamSynchronize, "cuStreamSynchronize", (Handle))                                  \
  call(StreamBeginCapture, "cuStreamBeginCapture_v2", (Handle, int))                        \
  call(StreamEndCapture, "cuStreamEndCapture", (Handle, Handle *))                          \
  call(GraphInstantiate, "cuGraphInstantiateWithFlags", (Handle *, Handle, unsigned long long)) \
  call(GraphLaunch, "cuGraphLaunch", (Handle, Handle))                                      \
  call(GraphDestroy, "cuGraphDestroy", (Handle))                                            \
  call(GraphExecDestroy, "cuGraphExecDestroy", (Handle))                                    \
  call(EventCreate, "cuEventCreate", (Handle *, unsigned))                                  \
  call(EventRecord, "cuEventRecord", (Handle, Handle))                                      \
  call(EventElapsedTime, "cuEventElapsedTime", (float *, Handle, Handle))                   \
  call(EventDestroy, "cuEventDestroy_v2", (Handle))                                         \
  call(GetErrorString, "cuGetErrorString", (Result, const char **))

typedef struct {
#define MEMBER(name, symbol, parameters) Result(*name) parameters;
  DRIVER(MEMBER)
#undef MEMBER
} Driver;

typedef struct {
  Driver cuda;
  void *library;
  Device device;
  char name[96];  /* the GPU's */
  int capability; /* 10 times its major and its minor number */
  Handle context, module, stream;
  Handle functions[LAUNCHES];
  Address memory, addresses[BUFFERS]; /* one allocation, the buffers in it */
  void *pinned[BUFFERS];              /* inputs and outputs on the host */
  Handle kernels, whole;              /* graphs: the launches; and with the copies in and out */
  char *error;
  size_t error_size;
} Session;

static int fail(Session *s, int status, const char *what, Result code) {
  const char *text = NULL;
  if (code != SUCCESS && s->cuda.GetErrorString) s->cuda.GetErrorString(code, &text);
  snprintf(s->error, s->error_size, "%s%s%s", what, text ? ": " : "", text ? text : "");
  return status;
}

/* `call` through the driver; on an error say what was wanted and return */
#define TRY(what, call)                                           \
  do {                                                            \
    Result code_ = s->cuda.call;                                  \
    if (code_ != SUCCESS) return fail(s, FAILED, what, code_);    \
  } while (0)

static int find_driver(Session *s, const char *path) {
  s->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!s->library) return fail(s, WRONG_MACHINE, "this machine has no NVIDIA driver (libcuda)", 0);
#define LOOK_UP(name, symbol, parameters)                                               \
  *(void **)&s->cuda.name = dlsym(s->library, symbol);                                  \
  if (!s->cuda.name) return fail(s, WRONG_MACHINE, "the NVIDIA driver is too old: no " symbol, 0);
  DRIVER(LOOK_UP)
#undef LOOK_UP
  Result code = s->cuda.Init(0);
  if (code != SUCCESS) return fail(s, WRONG_MACHINE, "the NVIDIA driver does not start", code);
  return DONE;
}

static int find_device(Session *s, int ordinal) {
  int count = 0, major = 0, minor = 0;
  char text[64];
  TRY("the driver does not count its GPUs", DeviceGetCount(&count));
  if (ordinal >= count) {
    snprintf(text, sizeof text, "expected a GPU of number %d, got a machine with %d", ordinal, count);
    return fail(s, WRONG_MACHINE, text, 0);
  }
  TRY("no GPU", DeviceGet(&s->device, ordinal));
  TRY("no name of the GPU", DeviceGetName(s->name, sizeof s->name, s->device));
  TRY("no capability", DeviceGetAttribute(&major, CAPABILITY_MAJOR, s->device));
  TRY("no capability", DeviceGetAttribute(&minor, CAPABILITY_MINOR, s->device));
  s->capability = 10 * major + minor;
  return DONE;
}

static int enter_device(Session *s) {
  char text[256];
  if (s->capability < 10 * ARCH_MAJOR + ARCH_MINOR) {
    snprintf(text, sizeof text, "made for sm_%d%d, this GPU (%s) is sm_%d; compile it for cuda-sm_%d",
             ARCH_MAJOR, ARCH_MINOR, s->name, s->capability, s->capability);
    return fail(s, WRONG_MACHINE, text, 0);
  }
  Result code = s->cuda.PrimaryCtxRetain(&s->context, s->device);
  if (code != SUCCESS)
    return fail(s, code == OUT_OF_MEMORY ? NO_MEMORY : FAILED, "the GPU gives no context", code);
  TRY("the GPU gives no context", CtxSetCurrent(s->context));
  return DONE;
}

static int load_kernels(Session *s) {
  Result code = s->cuda.ModuleLoadData(&s->module, tvm_mobilenet_fatbin);
  if (code == NO_BINARY_FOR_GPU)
    return fail(s, WRONG_MACHINE, "no kernels for this GPU; compile it for its target", code);
  if (code != SUCCESS) return fail(s, FAILED, "the kernels do not load", code);
  for (int i = 0; i < LAUNCHES; i++)
    TRY(launches[i].kernel, ModuleGetFunction(&s->functions[i], s->module, launches[i].kernel));
  return DONE;
}

static size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

static int allocate(Session *s, const void *parameters) {
  size_t total = 0;
  char text[128];
  for (int i = 0; i < BUFFERS; i++) total += aligned(buffer_bytes[i]);
  Result code = s->cuda.MemAlloc(&s->memory, total);
  if (code != SUCCESS) {
    snprintf(text, sizeof text, "no GPU memory for %zu bytes of weights and workspace", total);
    return fail(s, code == OUT_OF_MEMORY ? NO_MEMORY : FAILED, text, code);
  }
  /* NaN: what no kernel writes is seen. The memory may hold what another candidate of the tuner
     computed there, and that was right. */
  TRY("the GPU's memory cannot be filled", MemsetD8(s->memory, 0xff, total));
  Address next = s->memory;
  for (int i = 0; i < BUFFERS; i++) {
    s->addresses[i] = next;
    next += aligned(buffer_bytes[i]);
    if (i >= INPUTS) TRY("no pinned memory", MemAllocHost(&s->pinned[i], buffer_bytes[i]));
  }
  TRY("the weights do not reach the GPU",
      MemcpyHtoD(s->addresses[PARAMETERS], parameters, buffer_bytes[PARAMETERS]));
  /* a copy from pageable memory returns before its last bytes arrive, and our stream waits for
     no other */
  TRY("the weights do not reach the GPU", CtxSynchronize());
  return DONE;
}

static int launch(Session *s, int index) {
  const Launch *l = &launches[index];
  Address values[MAX_ARGUMENTS];
  void *pointers[MAX_ARGUMENTS];
  for (int i = 0; i < l->count; i++) {
    values[i] = s->addresses[l->arguments[i].buffer] + l->arguments[i].offset;
    pointers[i] = &values[i];
  }
  TRY(l->kernel, LaunchKernel(s->functions[index], l->grid[0], l->grid[1], l->grid[2], l->block[0],
                              l->block[1], l->block[2], 0, s->stream, pointers, NULL));
  return DONE;
}

static int enqueue(Session *s, int copies) {
  int status = DONE;
  for (int i = INPUTS; copies && i < OUTPUTS; i++)
    TRY("copying an input",
        MemcpyHtoDAsync(s->addresses[i], s->pinned[i], buffer_bytes[i], s->stream));
  for (int i = 0; i < LAUNCHES && status == DONE; i++) status = launch(s, i);
  if (status != DONE) return status;
  for (int i = OUTPUTS; copies && i < BUFFERS; i++)
    TRY("copying an output",
        MemcpyDtoHAsync(s->pinned[i], s->addresses[i], buffer_bytes[i], s->stream));
  return DONE;
}

static int capture(Session *s, int copies, Handle *executable) {
  Handle graph = NULL;
  TRY("capturing the graph", StreamBeginCapture(s->stream, CAPTURE_THREAD_LOCAL));
  int status = enqueue(s, copies);
  Result ended = s->cuda.StreamEndCapture(s->stream, &graph); /* whatever happened in between */
  if (status != DONE) return status;
  if (ended != SUCCESS) return fail(s, FAILED, "capturing the graph", ended);
  Result code = s->cuda.GraphInstantiate(executable, graph, 0);
  s->cuda.GraphDestroy(graph);
  if (code != SUCCESS) return fail(s, FAILED, "making the graph", code);
  return DONE;
}

static int set_up(Session *s, const char *driver, int device, const void *parameters) {
  int status = find_driver(s, driver);
  if (status == DONE) status = find_device(s, device);
  if (status == DONE) status = enter_device(s);
  if (status == DONE) status = load_kernels(s);
  if (status == DONE) status = allocate(s, parameters);
  if (status != DONE) return status;
  TRY("no stream", StreamCreate(&s->stream, NON_BLOCKING));
  status = capture(s, 0, &s->kernels);
  return status == DONE ? capture(s, 1, &s->whole) : status;
}

void tvm_mobilenet_close(Session *s) {
  if (!s) return;
  if (s->context) {
    s->cuda.CtxSetCurrent(s->context);
    if (s->whole) s->cuda.GraphExecDestroy(s->whole);
    if (s->kernels) s->cuda.GraphExecDestroy(s->kernels);
    if (s->stream) s->cuda.StreamDestroy(s->stream);
    for (int i = 0; i < BUFFERS; i++)
      if (s->pinned[i]) s->cuda.MemFreeHost(s->pinned[i]);
    if (s->memory) s->cuda.MemFree(s->memory);
    if (s->module) s->cuda.ModuleUnload(s->module);
    s->cuda.PrimaryCtxRelease(s->device);
  }
  if (s->library) dlclose(s->library);
  free(s);
}

/* Open a session on GPU number `device`; `driver` is libcuda's name. */
int tvm_mobilenet_open(const char *driver, int device, const void *parameters, Session **session,
                       char *error, size_t error_size) {
  Session *s = calloc(1, sizeof *s);
  *session = NULL;
  if (!s) {
    snprintf(error, error_size, "no memory for a session");
    return NO_MEMORY;
  }
  s->error = error, s->error_size = error_size;
  int status = set_up(s, driver, device, parameters);
  if (status != DONE) {
    tvm_mobilenet_close(s);
    s = NULL;
  }
  *session = s;
  return status;
}

/* What GPU number `device` is, into `text`: its name, its architecture as in sm_90, and the CUDA
   that its driver serves, a line each. An error's line goes there too. */
int tvm_mobilenet_about(const char *driver, int device, char *text, size_t size) {
  Session found = {.error = text, .error_size = size}, *s = &found;
  int cuda = 0, status = find_driver(s, driver);
  if (status == DONE) status = find_device(s, device);
  if (status == DONE && s->cuda.DriverGetVersion(&cuda) != SUCCESS)
    status = fail(s, FAILED, "the driver does not tell its version", 0);
  if (status == DONE)
    snprintf(text, size, "%s\nsm_%d\n%d.%d", s->name, s->capability, cuda / 1000, cuda % 1000 / 10);
  if (s->library) dlclose(s->library);
  return status;
}

/* Pinned memory on the host: of the inputs, then of the outputs. */
void *tvm_mobilenet_buffer(Session *s, int number) { return s->pinned[INPUTS + number]; }

/* One inference: the input to the GPU, the kernels, the outputs back, all in one graph. */
int tvm_mobilenet_infer(Session *s, char *error, size_t error_size) {
  s->error = error, s->error_size = error_size;
  TRY("the GPU's context is gone", CtxSetCurrent(s->context));
  TRY("the graph does not start", GraphLaunch(s->whole, s->stream));
  TRY("the GPU failed", StreamSynchronize(s->stream));
  return DONE;
}

/* `runs` times the kernels alone, back to back: the time from each run's end to the next's. */
int tvm_mobilenet_time(Session *s, int runs, float *milliseconds, char *error, size_t error_size) {
  s->error = error, s->error_size = error_size;
  TRY("the GPU's context is gone", CtxSetCurrent(s->context));
  Handle *events = calloc((size_t)runs + 1, sizeof *events);
  if (!events) return fail(s, FAILED, "no memory for the events", 0);
  Result code = SUCCESS;
  for (int i = 0; i <= runs && code == SUCCESS; i++) code = s->cuda.EventCreate(&events[i], 0);
  for (int i = 0; i <= runs && code == SUCCESS; i++) {
    code = s->cuda.GraphLaunch(s->kernels, s->stream); /* the first one's end is where time starts */
    if (code == SUCCESS) code = s->cuda.EventRecord(events[i], s->stream);
  }
  if (code == SUCCESS) code = s->cuda.StreamSynchronize(s->stream);
  for (int i = 0; i < runs && code == SUCCESS; i++)
    code = s->cuda.EventElapsedTime(&milliseconds[i], events[i], events[i + 1]);
  for (int i = 0; i <= runs; i++)
    if (events[i]) s->cuda.EventDestroy(events[i]);
  free(events);
  return code == SUCCESS ? DONE : fail(s, FAILED, "timing on the GPU", code);
}

/* Milliseconds of each launch by itself, LAUNCHES of them: between events around it, once. */
int tvm_mobilenet_profile(Session *s, float *milliseconds, char *error, size_t error_size) {
  s->error = error, s->error_size = error_size;
  TRY("the GPU's context is gone", CtxSetCurrent(s->context));
  Handle events[LAUNCHES + 1] = {NULL};
  Result code = SUCCESS;
  int status = DONE;
  for (int i = 0; i <= LAUNCHES && code == SUCCESS; i++) code = s->cuda.EventCreate(&events[i], 0);
  if (code == SUCCESS) code = s->cuda.EventRecord(events[0], s->stream);
  for (int i = 0; i < LAUNCHES && code == SUCCESS && status == DONE; i++) {
    status = launch(s, i);
    if (status == DONE) code = s->cuda.EventRecord(events[i + 1], s->stream);
  }
  if (code == SUCCESS) code = s->cuda.StreamSynchronize(s->stream);
  for (int i = 0; i < LAUNCHES && code == SUCCESS && status == DONE; i++)
    code = s->cuda.EventElapsedTime(&milliseconds[i], events[i], events[i + 1]);
  for (int i = 0; i <= LAUNCHES; i++)
    if (events[i]) s->cuda.EventDestroy(events[i]);
  if (status != DONE) return status;
  return code == SUCCESS ? DONE : fail(s, FAILED, "timing on the GPU", code);
}
