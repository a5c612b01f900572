/* A CUDA driver for a GPU that is this CPU: the calls that tvm_mobilenet/cuda/host.c makes.

   A module's kernels (kernels.h, fibers.cpp) are a library that is the module's image, as the nvcc
   in emulated_nvcc.py makes it; or, for any other image, compiled together with this driver. What
   this GPU is comes from the environment, so that a test can ask for one that is too old or full:
   EMULATED_GPU_SM (90), EMULATED_GPU_MEMORY in bytes, EMULATED_GPU_INIT. */
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <functional>
#include <map>
#include <time.h>
#include <unistd.h>
#include <vector>

enum { MAX_THREADS = 1024, MAX_ARGUMENTS = 8 };
using Work = std::function<void()>;

static std::map<void *, size_t> allocations;
static std::multimap<size_t, void *> returned; /* memory, as it was left */
static size_t in_use;
static std::vector<Work> *recording;

static const char *setting(const char *name, const char *otherwise) {
  const char *value = std::getenv(name);
  return value ? value : otherwise;
}

static int enqueue(Work work) {
  if (recording)
    recording->push_back(work);
  else
    work();
  return 0;
}

/* What begins the image of a module that is a library, and the library's size */
struct Image {
  char magic[8];
  uint64_t bytes;
};

static void *load(const Image *image) {
  char path[] = "/tmp/emulated-module-XXXXXX";
  int file = mkstemp(path);
  bool written = write(file, image + 1, image->bytes) == (ssize_t)image->bytes;
  void *library = written ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
  close(file);
  unlink(path);
  return library;
}

static void *own_library();

struct Function {
  void *kernel;
  void (*launch)(void *, const int *, const int *, void **); /* emulated_launch */
  int arguments;
};

struct Event {
  double milliseconds;
};

extern "C" {
int cuInit(unsigned) { return std::atoi(setting("EMULATED_GPU_INIT", "0")); }
int cuDriverGetVersion(int *version) { return *version = 13000, 0; }
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
int cuModuleLoadData(void **module, const void *data) {
  const Image *image = (const Image *)data;
  *module = std::memcmp(image->magic, "EMULATED", 8) ? own_library() : load(image);
  return *module ? 0 : 200;
}
int cuModuleUnload(void *module) { return dlclose(module), 0; }
int cuModuleGetFunction(void **function, void *module, const char *name) {
  void *kernel = dlsym(module, name);
  if (!kernel) return 500;
  auto count = (int (*)(void *))dlsym(module, "emulated_argument_count"); /* beside the kernels */
  auto launch = (decltype(Function::launch))dlsym(module, "emulated_launch");
  *function = new Function{kernel, launch, count(kernel)};
  return 0;
}
int cuMemAlloc_v2(void **pointer, size_t bytes) {
  if (in_use + bytes > std::strtoull(setting("EMULATED_GPU_MEMORY", "8000000000"), nullptr, 10)) return 2;
  auto known = returned.find(bytes);
  if (known != returned.end()) { /* within a process nothing clears it */
    *pointer = known->second;
    returned.erase(known);
  } else {
    *pointer = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    std::memset(*pointer, 0x3c, bytes); /* some number */
  }
  allocations[*pointer] = bytes;
  in_use += bytes;
  return 0;
}
int cuMemFree_v2(void *pointer) {
  in_use -= allocations[pointer];
  returned.emplace(allocations[pointer], pointer);
  allocations.erase(pointer);
  return 0;
}
int cuMemsetD8_v2(void *to, unsigned char value, size_t bytes) { return std::memset(to, value, bytes), 0; }
int cuMemAllocHost_v2(void **pointer, size_t bytes) { return *pointer = std::calloc(1, bytes), 0; }
int cuMemFreeHost(void *pointer) { return std::free(pointer), 0; }
int cuMemcpyHtoD_v2(void *to, const void *from, size_t bytes) { return std::memcpy(to, from, bytes), 0; }
int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t bytes, void *) {
  return enqueue([=] { std::memcpy(to, from, bytes); });
}
int cuMemcpyDtoHAsync_v2(void *to, void *from, size_t bytes, void *) {
  return enqueue([=] { std::memcpy(to, from, bytes); });
}
int cuLaunchKernel(Function *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void *, void **arguments, void **) {
  if (bx * by * bz > MAX_THREADS || shared) return 1;
  std::vector<void *> values(MAX_ARGUMENTS);
  for (int i = 0; i < function->arguments; i++) values[i] = *(void **)arguments[i];
  return enqueue([=]() mutable {
    int grid[] = {(int)gx, (int)gy, (int)gz}, block[] = {(int)bx, (int)by, (int)bz};
    function->launch(function->kernel, grid, block, values.data());
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

static void *own_library() {
  Dl_info here;
  dladdr((void *)&cuInit, &here);
  return dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD);
}
