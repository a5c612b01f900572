/* @NAME@.h: the network @NAME@ as a C library, compiled for @TARGET@.

@IO@

   It needs the C library and POSIX threads, and nothing else. In short:

     tmn_options options = @UPPER@_OPTIONS;
     @NAME@_weights_open("parameters.bin", TMN_MAP, &weights);
     options.weights = weights;
     @NAME@_create(&options, &context);
     @NAME@_run(context, inputs, outputs);

   Each returns TMN_OK, or what went wrong; @NAME@_last_error() has it in words.
   Contexts share their weights and may run at the same time, each in one thread at a time. A run
   allocates nothing, takes no lock but to wake threads that sleep, and leaves the caller's
   floating-point mode, signal mask and CPU affinity as they are. In the comments below, names stand
   without the network's. */
#ifndef @GUARD@
#define @GUARD@

#include <stddef.h>
#include <stdint.h>

@TYPES@

#ifdef __cplusplus
extern "C" {
#endif

#define @UPPER@_SIGNATURE UINT64_C(@SIGNATURE@) /* of inputs and outputs: the library has the same */
#define @UPPER@_WEIGHTS_BYTES @WEIGHTS_BYTES@
#define @UPPER@_WORKSPACE_BYTES @WORKSPACE_BYTES@ /* for one thread */
#define @UPPER@_ALIGNMENT 64

/* The options as they are where the caller says nothing: weights in the library, memory of its own,
   the calling thread alone. */
#define @UPPER@_OPTIONS \
    {TMN_VERSION, @UPPER@_SIGNATURE, NULL, NULL, 0, NULL, 1, -1, 0, 0}

typedef struct @NAME@_context @NAME@_context;

/* What the network is. Never fails. */
const tmn_info *@NAME@_info(void);

/* The file of weights, beside the library in a bundle (parameters.bin): its size and hash are
   checked. file NULL stands for the weights in the library, where they are there. */
tmn_status @NAME@_weights_open(const char *file, int32_t how, tmn_weights **weights);

/* The same from memory, aligned to 64 bytes, which the caller keeps for as long. */
tmn_status @NAME@_weights_from_memory(const void *data, size_t bytes,
                                      tmn_weights **weights);

/* Contexts that use them keep them until they are destroyed. NULL is fine. */
void @NAME@_weights_close(tmn_weights *weights);

/* Bytes of workspace that these options ask for; 0 where create would refuse them. */
size_t @NAME@_workspace_bytes(const tmn_options *options);

/* A context to run in. options NULL stands for OPTIONS. With the caller's workspace, and no pool of
   its own, it allocates nothing. */
tmn_status @NAME@_create(const tmn_options *options,
                         @NAME@_context **context);

/* One inference: input_count pointers in, output_count pointers out, in the order of info. What is
   not aligned to 64 bytes is copied. NULL for all inputs, or for all outputs, stands for the
   context's own, which input and output give out. Inputs and outputs may not overlap. */
tmn_status @NAME@_run(@NAME@_context *context,
                      const void *const *inputs, void *const *outputs);

/* The context's own input and output number index, aligned; NULL where there is none of it. */
void *@NAME@_input(@NAME@_context *context, int32_t index);
void *@NAME@_output(@NAME@_context *context, int32_t index);

/* The threads that a run of this context uses. */
int32_t @NAME@_threads(const @NAME@_context *context);

/* NULL is fine. The caller's own workspace, weights and threads stay. */
void @NAME@_destroy(@NAME@_context *context);

/* options NULL stands for TMN_POOL_OPTIONS. The pool may serve networks of other libraries too; it
   must outlive their contexts. */
tmn_status @NAME@_pool_create(const tmn_pool_options *options,
                              tmn_pool **pool);
tmn_parallel @NAME@_pool_parallel(tmn_pool *pool);
void @NAME@_pool_destroy(tmn_pool *pool);

/* CPUs that this process may use, by its affinity and its cgroup's quota (cpu.max); at most 800,
   as many threads as a pool or the caller may have. */
int32_t @NAME@_default_threads(void);

/* A status in words, and what the last failure in this thread was. Never NULL. */
const char *@NAME@_status_text(tmn_status status);
const char *@NAME@_last_error(void);

/* For measuring. profile runs on the context's own inputs and outputs and notes the CPU's counter
   before the first kernel and after each (kernel_count + 1 stamps; not on ARMv7, where programs may
   not read one). The probes do what a core can do at best: fma_peak on 256 floats, stream_read on
   rows of 64 floats, as many as the weights have, into 64. */
tmn_status @NAME@_profile(@NAME@_context *context,
                          int64_t *stamps);
void @NAME@_fma_peak(float *scratch);
@PEAKS@void @NAME@_stream_read(const float *rows, float *sums);

#ifdef __cplusplus
}
#endif
#endif
