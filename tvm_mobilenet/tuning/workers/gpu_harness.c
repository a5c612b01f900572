/* Linked with cuda/host.c into every candidate that a GPU measures over RPC: host.c's functions, as
 * TVM's RPC calls them. By itself, with a host.c that has no kernels, it tells of the GPU.
 *
 * about() -> status, and the GPU, or the error, is the message.
 * open(parameters, limit_s) -> status; then infer(), output(tensor), time(samples) -> status; close().
 * message() -> bytes, of the last call that failed, or of about.
 *
 * A kernel that does not end cannot be stopped from within its process, and the driver cannot be
 * jumped out of: after limit_s the process ends, and its memory on the GPU and the kernel with it.
 * It is one of the RPC server's for this session alone, and the server survives a status of 0.
 */
#include <string.h>
#include <unistd.h>

#include <tvm/ffi/c_api.h>

#include "guard.h"

/* of cuda/host.c */
typedef struct Session Session;
int tvm_mobilenet_about(const char* driver, int device, char* text, size_t size);
int tvm_mobilenet_open(const char* driver, int device, const void* parameters, Session** session,
                       char* error, size_t error_size);
int tvm_mobilenet_infer(Session* session, char* error, size_t error_size);
int tvm_mobilenet_time(Session* session, int runs, float* milliseconds, char* error,
                       size_t error_size);
void* tvm_mobilenet_buffer(Session* session, int number);
void tvm_mobilenet_close(Session* session);

enum { FIRST_GPU = 0, FIRST_OUTPUT = 1 };
static const char DRIVER[] = "libcuda.so.1";

static Session* session;
static char message[512];

static void leave(int number) {
  (void)number;
  _exit(0);
}

static int answer(TVMFFIAny* result, int status) {
  result->type_index = kTVMFFIInt;
  result->zero_padding = 0;
  result->v_int64 = status;
  return 0;
}

static const DLTensor* tensor_of(const TVMFFIAny* argument) {
  if (argument->type_index == kTVMFFIDLTensorPtr) return argument->v_ptr;
  return (const DLTensor*)(argument->v_obj + 1);
}

TVM_FFI_DLL_EXPORT int __tvm_ffi_about(void* self, const TVMFFIAny* args, int32_t count,
                                       TVMFFIAny* result) {
  (void)self, (void)args, (void)count;
  return answer(result, tvm_mobilenet_about(DRIVER, FIRST_GPU, message, sizeof(message)));
}

TVM_FFI_DLL_EXPORT int __tvm_ffi_message(void* self, const TVMFFIAny* args, int32_t count,
                                         TVMFFIAny* result) {
  TVMFFIByteArray bytes = {message, strlen(message)};
  (void)self, (void)args, (void)count;
  return TVMFFIBytesFromByteArray(&bytes, result);
}

TVM_FFI_DLL_EXPORT int __tvm_ffi_open(void* self, const TVMFFIAny* args, int32_t count,
                                      TVMFFIAny* result) {
  (void)self, (void)count;
  begin_guard(leave);
  set_alarm(args[1].v_float64);
  int status = tvm_mobilenet_open(DRIVER, FIRST_GPU, tensor_of(&args[0])->data, &session, message,
                                  sizeof(message));
  if (status) end_guard();
  return answer(result, status);
}

TVM_FFI_DLL_EXPORT int __tvm_ffi_infer(void* self, const TVMFFIAny* args, int32_t count,
                                       TVMFFIAny* result) {
  (void)self, (void)args, (void)count;
  return answer(result, tvm_mobilenet_infer(session, message, sizeof(message)));
}

/* output(tensor): as many bytes as it has of what the last inference left */
TVM_FFI_DLL_EXPORT int __tvm_ffi_output(void* self, const TVMFFIAny* args, int32_t count,
                                        TVMFFIAny* result) {
  const DLTensor* to = tensor_of(&args[0]);
  (void)self, (void)count;
  memcpy(to->data, tvm_mobilenet_buffer(session, FIRST_OUTPUT), (size_t)to->shape[0]);
  return answer(result, 0);
}

/* time(samples): milliseconds of the kernel alone, into as many floats as the tensor has */
TVM_FFI_DLL_EXPORT int __tvm_ffi_time(void* self, const TVMFFIAny* args, int32_t count,
                                      TVMFFIAny* result) {
  const DLTensor* samples = tensor_of(&args[0]);
  (void)self, (void)count;
  return answer(result, tvm_mobilenet_time(session, (int)samples->shape[0], samples->data, message,
                                           sizeof(message)));
}

TVM_FFI_DLL_EXPORT int __tvm_ffi_close(void* self, const TVMFFIAny* args, int32_t count,
                                       TVMFFIAny* result) {
  (void)self, (void)args, (void)count;
  tvm_mobilenet_close(session);
  session = NULL;
  end_guard();
  return answer(result, 0);
}
