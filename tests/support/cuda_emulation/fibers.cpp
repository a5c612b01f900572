/* The threads of emulated kernels (kernels.h), as fibers of one thread: a block at a time.

   EMULATED_GPU_ORDER (forward, backward) says which of them goes first. */
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

#include "kernels.h"

Index threadIdx, blockIdx;

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

extern char __start_emulated_shared[] __attribute__((weak));
extern char __stop_emulated_shared[] __attribute__((weak));
using Kernel = void (*)(void *, void *, void *, void *, void *, void *, void *, void *);

/* Run a whole grid; `p` are eight arguments. */
extern "C" void emulated_launch(Kernel kernel, const int *grid, const int *block, void **p) {
  const char *order = std::getenv("EMULATED_GPU_ORDER");
  bool backward = order && std::string(order) == "backward";
  body = [&] { kernel(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]); };
  for (int b = 0; b < grid[0] * grid[1] * grid[2]; b++) {
    blockIdx = {b % grid[0], b / grid[0] % grid[1], b / grid[0] / grid[1]};
    if (__start_emulated_shared)
      std::memset(__start_emulated_shared, 0xff, __stop_emulated_shared - __start_emulated_shared);
    int threads = 0;
    for (int z = 0; z < block[2]; z++)
      for (int y = 0; y < block[1]; y++)
        for (int x = 0; x < block[0]; x++) prepare(fibers[threads++], {x, y, z});
    run_block(threads, backward);
  }
}
