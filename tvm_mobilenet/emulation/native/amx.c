/* The tile unit of Intel's AMX, for an x86 CPU that has none.
 *
 * There its instructions are invalid ones, which Linux tells a program by SIGILL. The handler here
 * finds what the instruction is, does it in C on tiles of the thread's own, and goes on after it.
 * So the very code that a CPU with AMX runs is run. What is no instruction of AMX goes to the handler
 * that was there before, and so does one that AMX refuses too: of tiles that are not configured, or
 * do not fit each other.
 *
 * After "Intel Architecture Instruction Set Extensions", chapter AMX, and the pages of TDPBUSD and
 * TDPBF16PS in the Software Developer's Manual. */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>
#include <xmmintrin.h>

enum { TILES = 8, ROWS = 16, ROW_BYTES = 64, LANES = ROW_BYTES / 4 };
enum { FLUSH = 0x8040, NO_TRAPS = 0x1F80 }; /* of MXCSR: FTZ and DAZ; to nearest, ties to even */

typedef struct {
    uint8_t bytes[ROWS][ROW_BYTES];
} tile;

typedef struct {
    int configured;
    uint8_t configuration[64];
    uint8_t rows[TILES];
    uint16_t row_bytes[TILES];
    tile tiles[TILES];
} tile_unit;

typedef struct {
    int length, map, prefix, opcode, register_operand; /* a VEX instruction */
    int other_tile, rm_tile;                           /* VEX.vvvv, and ModRM.rm of a register */
    int in_memory, has_index;
    uintptr_t address; /* of its operand in memory, without what an index adds */
    int64_t stride;
} instruction;

static __thread tile_unit unit;
static struct sigaction before;
static atomic_long executed[256]; /* by opcode */
static atomic_long configurations, releases;

static const int registers[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                  REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                  REG_R12, REG_R13, REG_R14, REG_R15};

/* What the bytes at ``code`` are; 0 where they are no VEX instruction of the map of AMX. */
static int decode(const uint8_t *code, const greg_t *values, instruction *found) {
    if (code[0] != 0xC4 || (code[1] & 0x1F) != 2 || code[2] & 0x80 || code[2] & 4) return 0;
    int r = !(code[1] & 0x80) * 8, x = !(code[1] & 0x40) * 8, b = !(code[1] & 0x20) * 8;
    int modrm = code[4], mode = modrm >> 6, rm = modrm & 7, length = 5;
    memset(found, 0, sizeof *found);
    found->prefix = code[2] & 3;
    found->other_tile = ~code[2] >> 3 & 15;
    found->opcode = code[3];
    found->register_operand = (modrm >> 3 & 7) + r;
    if (mode == 3) {
        found->rm_tile = rm + b;
        found->length = length;
        return 1;
    }
    found->in_memory = 1;
    int base = rm + b;
    int based = 1;
    if (rm == 4) {
        int sib = code[length++], index = (sib >> 3 & 7) + x;
        base = (sib & 7) + b;
        based = !((sib & 7) == 5 && mode == 0);
        if (index != 4) {
            found->has_index = 1;
            found->stride = (int64_t)((uint64_t)values[registers[index]] << (sib >> 6));
        }
    } else if (rm == 5 && mode == 0) {
        based = 0;
    }
    int64_t displacement = 0;
    if (mode == 1) {
        displacement = (int8_t)code[length++];
    } else if (mode == 2 || !based) {
        int32_t wide;
        memcpy(&wide, code + length, sizeof wide);
        displacement = wide;
        length += 4;
    }
    uintptr_t start = based ? (uintptr_t)values[registers[base]] : 0;
    if (rm == 5 && mode == 0) start = (uintptr_t)code + length; /* relative to the next instruction */
    found->address = start + (uintptr_t)displacement;
    found->length = length;
    return 1;
}

static int configure(const uint8_t *from) {
    if (from[0] == 0) {
        memset(&unit, 0, sizeof unit);
        return 1;
    }
    if (from[0] != 1) return 0;
    for (int byte = 2; byte < 16; byte++)
        if (from[byte]) return 0;
    uint16_t row_bytes[16];
    memcpy(row_bytes, from + 16, sizeof row_bytes);
    for (int place = 0; place < 16; place++) {
        int rows = from[48 + place];
        if (rows > ROWS || row_bytes[place] > ROW_BYTES) return 0;
        if (!rows != !row_bytes[place]) return 0;
        if (place >= TILES && rows) return 0;
    }
    memset(&unit, 0, sizeof unit);
    memcpy(unit.configuration, from, sizeof unit.configuration);
    memcpy(unit.rows, from + 48, sizeof unit.rows);
    memcpy(unit.row_bytes, row_bytes, sizeof unit.row_bytes);
    unit.configured = 1;
    return 1;
}

static int is_tile(int number) {
    return unit.configured && number < TILES && unit.rows[number];
}

static int load(const instruction *one) {
    int number = one->register_operand;
    if (!is_tile(number)) return 0;
    tile loaded;
    memset(&loaded, 0, sizeof loaded);
    for (int row = 0; row < unit.rows[number]; row++)
        memcpy(loaded.bytes[row], (const void *)(one->address + (uintptr_t)(row * one->stride)),
               unit.row_bytes[number]);
    unit.tiles[number] = loaded;
    return 1;
}

static int store(const instruction *one) {
    int number = one->register_operand;
    if (!is_tile(number)) return 0;
    for (int row = 0; row < unit.rows[number]; row++)
        memcpy((void *)(one->address + (uintptr_t)(row * one->stride)),
               unit.tiles[number].bytes[row], unit.row_bytes[number]);
    return 1;
}

/* Whether three tiles are those of a product: sums, then what is multiplied. */
static int fit(int sums, int left, int right) {
    if (!is_tile(sums) || !is_tile(left) || !is_tile(right)) return 0;
    if (sums == left || sums == right || left == right) return 0;
    if (unit.row_bytes[sums] % 4 || unit.row_bytes[left] % 4 || unit.row_bytes[right] % 4) return 0;
    return unit.rows[sums] == unit.rows[left] && unit.row_bytes[sums] == unit.row_bytes[right] &&
           unit.row_bytes[left] / 4 == unit.rows[right];
}

/* The byte as a number; ``with_sign`` says of which kind. */
static int32_t number(uint8_t byte, int with_sign) { return with_sign ? (int8_t)byte : byte; }

static int multiply_bytes(int sums, int left, int right, int left_signed, int right_signed) {
    if (!fit(sums, left, right)) return 0;
    int steps = unit.row_bytes[left] / 4, lanes = unit.row_bytes[sums] / 4;
    for (int row = 0; row < unit.rows[sums]; row++) {
        int32_t total[LANES];
        memcpy(total, unit.tiles[sums].bytes[row], sizeof total);
        for (int step = 0; step < steps; step++)
            for (int lane = 0; lane < lanes; lane++) {
                int32_t added = 0;
                for (int i = 0; i < 4; i++)
                    added += number(unit.tiles[left].bytes[row][4 * step + i], left_signed) *
                             number(unit.tiles[right].bytes[step][4 * lane + i], right_signed);
                total[lane] = (int32_t)((uint32_t)total[lane] + (uint32_t)added);
            }
        memcpy(unit.tiles[sums].bytes[row], total, sizeof total);
    }
    return 1;
}

static float widened(const uint8_t *from) {
    uint16_t half;
    memcpy(&half, from, sizeof half);
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Numbers of even places and of odd ones are summed apart, by fused multiply-adds, and then together:
 * to nearest, ties to even, and what is no normal number is zero, whatever MXCSR says. */
static int multiply_bf16(int sums, int left, int right) {
    if (!fit(sums, left, right)) return 0;
    unsigned mode = _mm_getcsr();
    _mm_setcsr(NO_TRAPS | FLUSH);
    int steps = unit.row_bytes[left] / 4, lanes = unit.row_bytes[sums] / 4;
    for (int row = 0; row < unit.rows[sums]; row++) {
        float parts[2][LANES] = {{0}}, total[LANES];
        for (int step = 0; step < steps; step++)
            for (int i = 0; i < 2; i++) {
                float one = widened(&unit.tiles[left].bytes[row][4 * step + 2 * i]);
                for (int lane = 0; lane < lanes; lane++)
                    parts[i][lane] = fmaf(
                        one, widened(&unit.tiles[right].bytes[step][4 * lane + 2 * i]), parts[i][lane]);
            }
        memcpy(total, unit.tiles[sums].bytes[row], sizeof total);
        for (int lane = 0; lane < lanes; lane++) {
            volatile float together = parts[0][lane] + parts[1][lane]; /* rounded by itself */
            total[lane] += together;
        }
        memcpy(unit.tiles[sums].bytes[row], total, sizeof total);
    }
    _mm_setcsr(mode);
    return 1;
}

enum { NONE = 0, P66 = 1, PF3 = 2, PF2 = 3 }; /* VEX.pp */

/* Whether the instruction was one of AMX, and was done. */
static int execute(const instruction *one) {
    int sums = one->register_operand, left = one->rm_tile, right = one->other_tile;
    switch (one->opcode) {
        case 0x49:
            if (one->in_memory && one->prefix == NONE) {
                atomic_fetch_add(&configurations, 1);
                return configure((const uint8_t *)one->address);
            }
            if (one->in_memory && one->prefix == P66) {
                memcpy((void *)one->address, unit.configuration, sizeof unit.configuration);
                return 1;
            }
            if (!one->in_memory && one->prefix == NONE && one->register_operand == 0 && left == 0) {
                atomic_fetch_add(&releases, 1);
                memset(&unit, 0, sizeof unit);
                return 1;
            }
            if (one->in_memory || one->prefix != PF2 || !is_tile(sums)) return 0;
            memset(&unit.tiles[sums], 0, sizeof unit.tiles[sums]);
            return 1;
        case 0x4B:
            if (!one->in_memory) return 0;
            if (one->prefix == PF2 || one->prefix == P66) return load(one); /* tileloadd, tileloaddt1 */
            return one->prefix == PF3 ? store(one) : 0;
        case 0x5E: /* TDPBUUD, TDPBUSD, TDPBSUD, TDPBSSD */
            if (one->in_memory) return 0;
            return multiply_bytes(sums, left, right, one->prefix == PF3 || one->prefix == PF2,
                                  one->prefix == P66 || one->prefix == PF2);
        case 0x5C:
            return !one->in_memory && one->prefix == PF3 && multiply_bf16(sums, left, right);
    }
    return 0;
}

/* Say which instruction ends the program, where it says nothing itself. */
static void tell(const uint8_t *code) {
    static const char digits[] = "0123456789abcdef";
    char line[] = "the emulated tiles do not know the instruction 00 00 00 00 00 00 00 00\n";
    for (int byte = 0; byte < 8; byte++) {
        char *at = line + sizeof line - 2 - 3 * (8 - byte) + 1;
        at[0] = digits[code[byte] >> 4];
        at[1] = digits[code[byte] & 15];
    }
    if (write(STDERR_FILENO, line, sizeof line - 1) < 0) return;
}

static void handle(int signal, siginfo_t *info, void *context) {
    greg_t *values = ((ucontext_t *)context)->uc_mcontext.gregs;
    instruction one;
    if (decode((const uint8_t *)values[REG_RIP], values, &one) && execute(&one)) {
        atomic_fetch_add(&executed[one.opcode], 1);
        values[REG_RIP] += one.length;
        return;
    }
    tell((const uint8_t *)values[REG_RIP]);
    if (before.sa_flags & SA_SIGINFO && before.sa_sigaction) {
        before.sa_sigaction(signal, info, context);
        return;
    }
    sigaction(SIGILL, &before, NULL); /* the instruction is tried again, and ends the program */
}

/* From now on; 0, or an error's number. */
int amx_emulate(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    return sigaction(SIGILL, &action, &before);
}

void amx_stop(void) { sigaction(SIGILL, &before, NULL); }

/* How many products of bytes or of bfloat16 there were, times a thread was configured, released. */
void amx_count(long counts[4]) {
    counts[0] = atomic_load(&executed[0x5E]);
    counts[1] = atomic_load(&executed[0x5C]);
    counts[2] = atomic_load(&configurations);
    counts[3] = atomic_load(&releases);
}
