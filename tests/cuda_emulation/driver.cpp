/* A CUDA driver for a GPU that is this CPU: the calls that tvm_mobilenet/cuda/host.c makes.

   Compiled together with one network's kernels (kernels.h); a module's contents are ignored. What
   this GPU is comes from the environment, so that a test can ask for one that is too old or full:
   EMULATED_GPU_SM (90), EMULATED_GPU_MEMORY in bytes, EMULATED_GPU_ORDER (forward, backward). */
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <functional>
#include <map>
#include <string>
#include <time.h>
#include <vector>

#include "kernels.h"

Index threadIdx, blockIdx;

/* Fibers */

extern "C" void fiber_switch(void **from, void *to);
asm(R"(.text
.globl fiber_switch
fiber_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
)");

enum { STACK = 64 * 1024, MAX_THREADS = 1024 };

struct Fiber {
  void *stack_pointer;
  Index index;
  Wait waits;
  bool done;
  int turn;
  char *stack;
};

static Fiber fibers[MAX_THREADS];
static int running;
static void *scheduler;
static std::function<void()> body;
static Exchange tables[MAX_THREADS / 32][2];

int lane() { return running % 32; }
Exchange *exchange() { return &tables[running / 32][fibers[running].turn++ % 2]; }

void wait_for(Wait what) {
  fibers[running].waits = what;
  fiber_switch(&fibers[running].stack_pointer, scheduler);
}

static void enter() {
  body();
  fibers[running].done = true;
  fiber_switch(&fibers[running].stack_pointer, scheduler);
  std::abort();
}

static void prepare(Fiber &fiber, Index index) {
  if (!fiber.stack) fiber.stack = (char *)std::aligned_alloc(64, STACK);
  void **top = (void **)(fiber.stack + STACK - 64);
  *--top = nullptr; /* where enter would return to; keeps the stack aligned as after a call */
  *--top = (void *)enter;
  for (int i = 0; i < 6; i++) *--top = nullptr;
  fiber.stack_pointer = top;
  fiber.index = index;
  fiber.waits = NOTHING;
  fiber.done = false;
  fiber.turn = 0;
}

/* Let those go on that wait for a barrier which all of theirs have reached. */
static bool release(int first, int last, Wait what) {
  for (int i = first; i < last; i++)
    if (!fibers[i].done && fibers[i].waits != what) return false;
  bool any = false;
  for (int i = first; i < last; i++)
    if (!fibers[i].done) fibers[i].waits = NOTHING, any = true;
  return any;
}

static void run_block(int threads, bool backward) {
  for (;;) {
    int alive = 0, ran = 0;
    for (int n = 0; n < threads; n++) {
      running = backward ? threads - 1 - n : n;
      Fiber &fiber = fibers[running];
      if (fiber.done) continue;
      alive++;
      if (fiber.waits != NOTHING) continue;
      threadIdx = fiber.index;
      fiber_switch(&scheduler, fiber.stack_pointer);
      ran++;
    }
    if (!alive) return;
    bool released = false;
    for (int warp = 0; warp < threads; warp += 32)
      released |= release(warp, warp + 32 < threads ? warp + 32 : threads, THE_WARP);
    released |= release(0, threads, THE_BLOCK);
    if (!released && !ran) {
      std::fprintf(stderr, "emulated GPU: threads wait at different barriers\n");
      std::abort();
    }
  }
}

/* The driver */

extern char __start_emulated_shared[] __attribute__((weak));
extern char __stop_emulated_shared[] __attribute__((weak));
using Kernel = void (*)(void *, void *, void *, void *, void *, void *, void *, void *);
using Work = std::function<void()>;

static std::map<void *, size_t> allocations;
static size_t in_use;
static std::vector<Work> *recording;

static const char *setting(const char *name, const char *otherwise) {
  const char *value = std::getenv(name);
  return value ? value : otherwise;
}

static void launch(Kernel kernel, Index grid, Index block, std::vector<void *> p) {
  bool backward = std::string(setting("EMULATED_GPU_ORDER", "forward")) == "backward";
  p.resize(8);
  body = [&] { kernel(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]); };
  for (int b = 0; b < grid.x * grid.y * grid.z; b++) {
    blockIdx = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
    if (__start_emulated_shared)
      std::memset(__start_emulated_shared, 0xff, __stop_emulated_shared - __start_emulated_shared);
    int threads = 0;
    for (int z = 0; z < block.z; z++)
      for (int y = 0; y < block.y; y++)
        for (int x = 0; x < block.x; x++) prepare(fibers[threads++], {x, y, z});
    run_block(threads, backward);
  }
}

static int enqueue(Work work) {
  if (recording)
    recording->push_back(work);
  else
    work();
  return 0;
}

extern "C" int emulated_argument_count(void *kernel); /* generated beside the kernels */

struct Event {
  double milliseconds;
};

extern "C" {
int cuInit(unsigned) { return std::atoi(setting("EMULATED_GPU_INIT", "0")); }
int cuDeviceGetCount(int *count) { return *count = 1, 0; }
int cuDeviceGet(int *device, int) { return *device = 0, 0; }
int cuDeviceGetName(char *name, int size, int) { return std::snprintf(name, size, "Emulated GPU"), 0; }
int cuDeviceGetAttribute(int *value, int attribute, int) {
  int sm = std::atoi(setting("EMULATED_GPU_SM", "90"));
  *value = attribute == 75 ? sm / 10 : sm % 10;
  return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int) { return *context = (void *)1, 0; }
int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
int cuCtxSetCurrent(void *) { return 0; }
int cuCtxSynchronize() { return 0; }
int cuModuleLoadData(void **module, const void *) { return *module = (void *)1, 0; }
int cuModuleUnload(void *) { return 0; }
int cuModuleGetFunction(void **function, void *, const char *name) {
  Dl_info here;
  dladdr((void *)&cuInit, &here);
  void *self = dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD);
  *function = dlsym(self, name);
  dlclose(self);
  return *function ? 0 : 500;
}
int cuMemAlloc_v2(void **pointer, size_t bytes) {
  if (in_use + bytes > std::strtoull(setting("EMULATED_GPU_MEMORY", "8000000000"), nullptr, 10)) return 2;
  *pointer = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  std::memset(*pointer, 0xff, bytes); /* NaN: what nobody writes is seen */
  allocations[*pointer] = bytes;
  in_use += bytes;
  return 0;
}
int cuMemFree_v2(void *pointer) {
  in_use -= allocations[pointer];
  allocations.erase(pointer);
  std::free(pointer);
  return 0;
}
int cuMemAllocHost_v2(void **pointer, size_t bytes) { return *pointer = std::calloc(1, bytes), 0; }
int cuMemFreeHost(void *pointer) { return std::free(pointer), 0; }
int cuMemcpyHtoD_v2(void *to, const void *from, size_t bytes) { return std::memcpy(to, from, bytes), 0; }
int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t bytes, void *) {
  return enqueue([=] { std::memcpy(to, from, bytes); });
}
int cuMemcpyDtoHAsync_v2(void *to, void *from, size_t bytes, void *) {
  return enqueue([=] { std::memcpy(to, from, bytes); });
}
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void *, void **arguments, void **) {
  if (bx * by * bz > MAX_THREADS || shared) return 1;

  std::vector<void *> values;
  for (int i = 0; i < emulated_argument_count(function); i++) values.push_back(*(void **)arguments[i]);
  return enqueue([=] {
    launch((Kernel)function, {(int)gx, (int)gy, (int)gz}, {(int)bx, (int)by, (int)bz}, values);
  });
}
int cuStreamCreate(void **stream, unsigned) { return *stream = (void *)1, 0; }
int cuStreamDestroy_v2(void *) { return 0; }
int cuStreamSynchronize(void *) { return 0; }
int cuStreamBeginCapture_v2(void *, int) { return recording = new std::vector<Work>, 0; }
int cuStreamEndCapture(void *, void **graph) { return *graph = recording, recording = nullptr, 0; }
int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long) {
  return *executable = new std::vector<Work>(*(std::vector<Work> *)graph), 0;
}
int cuGraphLaunch(void *executable, void *) {
  for (Work &work : *(std::vector<Work> *)executable) work();
  return 0;
}
int cuGraphDestroy(void *graph) { return delete (std::vector<Work> *)graph, 0; }
int cuGraphExecDestroy(void *executable) { return delete (std::vector<Work> *)executable, 0; }
int cuEventCreate(void **event, unsigned) { return *event = new Event, 0; }
int cuEventRecord(void *event, void *) {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  ((Event *)event)->milliseconds = now.tv_sec * 1e3 + now.tv_nsec * 1e-6;
  return 0;
}
int cuEventElapsedTime(float *milliseconds, void *from, void *to) {
  *milliseconds = (float)(((Event *)to)->milliseconds - ((Event *)from)->milliseconds);
  return 0;
}
int cuEventDestroy_v2(void *event) { return delete (Event *)event, 0; }
int cuGetErrorString(int code, const char **text) {
  *text = code == 2 ? "out of memory" : code == 100 ? "no CUDA-capable device is detected" : "error";
  return 0;
}
}
