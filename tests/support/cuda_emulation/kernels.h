/* CUDA C++ kernels on a CPU: what the generated code uses of the language, for tests.

   A block runs alone, one fiber a thread. A fiber runs until a barrier, so that between two
   barriers threads run in any order a test asks for, and a value that needed a barrier which is not
   there is read too early. Shared memory starts as NaN in every block. Warp instructions exchange
   registers through a table between two waits of the warp, as the PTX ISA lays out their fragments. */
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __launch_bounds__(n)
#define __forceinline__
#define __shared__ static __attribute__((section("emulated_shared")))
using half = _Float16;

struct Index {
  int x, y, z;
};
extern Index threadIdx, blockIdx; /* of the fiber that runs */

struct int3 { int x, y, z; };
struct uint2 { unsigned x, y; };
struct uint4 { unsigned x, y, z, w; };
struct float2 { float x, y; };
struct float3 { float x, y, z; };
struct float4 { float x, y, z, w; };
inline int3 make_int3(int x, int y, int z) { return {x, y, z}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

struct half2 { half x, y; };
struct half4 { half x, y, z, w; };
inline half __float2half_rn(float value) { return (half)value; }
inline unsigned __pack_half2(half x, half y) {
  half pair[2] = {x, y};
  unsigned bits;
  std::memcpy(&bits, pair, sizeof bits);
  return bits;
}
inline half2 __float22half2_rn(float2 value) { return {(half)value.x, (half)value.y}; }
inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline float max(float a, float b) { return a > b ? a : b; }
inline float min(float a, float b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline int min(int a, int b) { return a < b ? a : b; }
inline int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }

enum Wait { NOTHING, THE_BLOCK, THE_WARP };
void wait_for(Wait what);

/* What the lanes of a warp hand to each other; two turns, so that one wait an exchange is enough */
struct Exchange {
  float a[32][8], b[32][4];
  const void *address[32];
  float value[32];
};
extern Exchange *exchange(); /* this warp's, of this lane's turn */
int lane();

inline void __syncthreads() { wait_for(THE_BLOCK); }
inline unsigned __activemask() { return 0xffffffffu; }

inline float __shfl_down_sync(unsigned, float value, int delta, int width) {
  Exchange *table = exchange();
  table->value[lane()] = value;
  wait_for(THE_WARP);
  int from = lane() % width + delta < width ? lane() + delta : lane();
  return table->value[from];
}

inline float __shfl_sync(unsigned, float value, int source, int width) {
  Exchange *table = exchange();
  table->value[lane()] = value;
  wait_for(THE_WARP);
  return table->value[lane() / width * width + source % width];
}

/* ldmatrix.x4: lane 8 i + r gives the address of row r of matrix i */
inline void emulated_ldmatrix(void *to, const void *address) {
  Exchange *table = exchange();
  table->address[lane()] = address;
  wait_for(THE_WARP);
  for (int i = 0; i < 4; i++)
    std::memcpy((char *)to + 4 * i, (const char *)table->address[8 * i + lane() / 4] + lane() % 4 * 4, 4);
}

/* D += A B of one m16n8kK: a lane's A and B are K / 2 and K / 4 halves */
template <int K>
inline void emulated_mma(float *d, const void *a, const void *b) {
  Exchange *table = exchange();
  int me = lane(), group = me / 4, member = me % 4;
  for (int i = 0; i < K / 2; i++) table->a[me][i] = (float)((const half *)a)[i];
  for (int i = 0; i < K / 4; i++) table->b[me][i] = (float)((const half *)b)[i];
  wait_for(THE_WARP);
  for (int i = 0; i < 4; i++) {
    int row = group + 8 * (i / 2), column = 2 * member + i % 2;
    float sum = 0;
    for (int k = 0; k < K; k++)
      sum += table->a[4 * (row % 8) + k % 8 / 2][4 * (k / 8) + 2 * (row / 8) + k % 2] *
             table->b[4 * column + k % 8 / 2][2 * (k / 8) + k % 2];
    d[i] += sum;
  }
}

inline float tf32_sum(const Exchange *table, int row, int column) {
  float sum = 0;
  for (int k = 0; k < 8; k++)
    sum += table->a[4 * (row % 8) + k % 4][2 * (k / 4) + row / 8] *
           table->b[4 * column + k % 4][k / 4];
  return sum;
}

/* What mma makes of a float whose low 13 bits are not zero is undefined (PTX ISA): here it is NaN,
   so that an operand which nobody rounded is seen */
inline float tf32_operand(float value) {
  unsigned bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits & 0x1fff ? NAN : value;
}

/* cvt.rna: to nearest, ties away from zero */
inline unsigned emulated_cvt_rna_tf32(float value) {
  unsigned bits;
  std::memcpy(&bits, &value, sizeof bits);
  return (bits & 0x7f800000) == 0x7f800000 ? bits : (bits + 0x1000) & 0xffffe000;
}

/* D += A B of one m16n8k8 of tf32: a lane's A and B are 4 and 2 floats */
inline void emulated_mma_tf32(float *d, const void *a, const void *b) {
  Exchange *table = exchange();
  int me = lane(), group = me / 4, member = me % 4;
  for (int i = 0; i < 4; i++) table->a[me][i] = tf32_operand(((const float *)a)[i]);
  for (int i = 0; i < 2; i++) table->b[me][i] = tf32_operand(((const float *)b)[i]);
  wait_for(THE_WARP);
  for (int i = 0; i < 4; i++) d[i] += tf32_sum(table, group + 8 * (i / 2), 2 * member + i % 2);
}
