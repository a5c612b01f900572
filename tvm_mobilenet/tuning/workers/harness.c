/* Linked into every candidate that is measured over RPC: calls of its kernel, timed by the device's
 * own clock, each with the next copy of the weights; a crash or an endless loop becomes a result, so
 * that it costs neither the RPC session nor the server, which ends with a session that crashes.
 *
 * calls(calls, first, parameters, limit_s, tensors...) -> seconds of one call, or -(signal's number).
 * The tensors are one list of the kernel's parameters for each copy.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <tvm/ffi/c_api.h>

#include "guard.h"

enum { HEAD = 4 };

/* weak: the library that only tries whether a device can load one has no kernel */
extern int __tvm_ffi_main(void* self, const TVMFFIAny* args, int32_t count, TVMFFIAny* result)
    __attribute__((weak));

static sigjmp_buf back;
static pthread_t caller;

static void leave(int number) {
  /* one of the pool's threads cannot jump into the caller's stack; an exit status of 0 is an end
   * of the session that the server survives */
  if (!pthread_equal(pthread_self(), caller)) _exit(0);
  siglongjmp(back, number);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

int __tvm_ffi_calls(void* self, const TVMFFIAny* args, int32_t count, TVMFFIAny* result) {
  const int64_t calls = args[0].v_int64, first = args[1].v_int64;
  const int32_t parameters = (int32_t)args[2].v_int64;
  const double limit_s = args[3].v_float64;
  const int32_t copies = (count - HEAD) / parameters;
  volatile int status = 0;
  volatile double seconds = 0;
  int caught;

  (void)self;
  caller = pthread_self();
  begin_guard(leave);
  caught = sigsetjmp(back, 1);
  if (caught == 0) {
    double start;
    set_alarm(limit_s);
    start = now();
    for (int64_t i = 0; i < calls && status == 0; ++i) {
      TVMFFIAny returned;
      memset(&returned, 0, sizeof(returned));
      status = __tvm_ffi_main(0, args + HEAD + (first + i) % copies * parameters, parameters,
                              &returned);
    }
    seconds = (now() - start) / (double)calls;
  }
  end_guard();
  result->type_index = kTVMFFIFloat;
  result->zero_padding = 0;
  result->v_float64 = caught ? -(double)caught : seconds;
  return status;
}
