/* What the CPU can do, how many of them there are for this process, and their floating-point mode. */
#include "internal.h"
#include "tiles.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#include <sys/syscall.h>
#endif
#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#elif defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

enum { WORDS = 7, LINE_BYTES = 512 };

/* The words that tmn_feature.word counts; tvm_mobilenet/library/cpu_bits.py has the same order. */
#if defined(__x86_64__) || defined(__i386__)
static uint32_t read_words(uint32_t words[WORDS]) {
    uint32_t a = 0, b = 0, c = 0, d = 0, state = 0;
    if (__get_cpuid_count(1, 0, &a, &b, &c, &d)) {
        words[0] = c;
        words[1] = d;
        if (c & (1u << 27)) { /* the system saves what XGETBV says */
            uint32_t high;
            __asm__ volatile("xgetbv" : "=a"(state), "=d"(high) : "c"(0));
        }
    }
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        words[2] = b;
        words[3] = c;
        words[4] = d;
        if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) words[5] = a;
    }
    if (__get_cpuid_count(0x80000001u, 0, &a, &b, &c, &d)) words[6] = c;
    return state;
}
#elif defined(__linux__)
#ifndef AT_HWCAP2
#define AT_HWCAP2 26
#endif
static uint32_t read_words(uint32_t words[WORDS]) {
    words[0] = (uint32_t)getauxval(AT_HWCAP);
    words[1] = (uint32_t)getauxval(AT_HWCAP2);
    return UINT32_MAX;
}
#elif defined(__APPLE__) && defined(__aarch64__)
/* macOS has a setting for each feature; tvm_mobilenet/hardware/macos.py has the same. They are put
 * where Linux has them. */
#define ARM "hw.optional.arm.FEAT_"
static const struct {
    const char *name;
    uint32_t word, bit;
} settings[] = {
    {"hw.optional.floatingpoint", 0, 0}, {"hw.optional.AdvSIMD", 0, 1}, {ARM "AES", 0, 3},
    {ARM "PMULL", 0, 4}, {ARM "SHA1", 0, 5}, {ARM "SHA256", 0, 6},
    {"hw.optional.armv8_crc32", 0, 7}, {ARM "LSE", 0, 8}, {ARM "FP16", 0, 9}, {ARM "FP16", 0, 10},
    {ARM "RDM", 0, 12}, {ARM "JSCVT", 0, 13}, {ARM "FCMA", 0, 14}, {ARM "LRCPC", 0, 15},
    {ARM "DPB", 0, 16}, {ARM "SHA3", 0, 17}, {ARM "DotProd", 0, 20}, {ARM "SHA512", 0, 21},
    {ARM "FHM", 0, 23}, {ARM "LSE2", 0, 25}, {ARM "LRCPC2", 0, 26}, {ARM "FlagM", 0, 27},
    {ARM "DPB2", 1, 0}, {ARM "FlagM2", 1, 7}, {ARM "FRINTTS", 1, 8}, {ARM "I8MM", 1, 13},
    {ARM "BF16", 1, 14},
};
static uint32_t read_words(uint32_t words[WORDS]) {
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        int has = 0;
        size_t size = sizeof has;
        if (sysctlbyname(settings[i].name, &has, &size, NULL, 0) == 0 && has)
            words[settings[i].word] |= 1u << settings[i].bit;
    }
    return UINT32_MAX;
}
#else
static uint32_t read_words(uint32_t words[WORDS]) { /* a system of one CPU */
    memset(words, 0xFF, WORDS * sizeof *words);
    return UINT32_MAX;
}
#endif

tmn_status tmn_check_cpu(int any_cpu) {
    const tmn_network *network = &tmn_this_network;
    uint32_t words[WORDS] = {0}, state = read_words(words);
    const tmn_feature *feature = network->features;
    for (; feature->name; feature++) {
        int permitted = strcmp(feature->name, "amx_tile") || tiles_permitted();
        if (any_cpu) continue;
        if (!(words[feature->word] >> feature->bit & 1))
            return tmn_fail(TMN_BAD_CPU, "%s is compiled for %s; this CPU has no %s",
                            network->info.name, network->info.target, feature->name);
        if ((state & feature->state) != feature->state)
            return tmn_fail(TMN_BAD_CPU, "%s is compiled for %s; this system does not enable %s",
                            network->info.name, network->info.target, feature->name);
        if (!permitted)
            return tmn_fail(TMN_BAD_CPU, "%s is compiled for %s; this system gives no permission "
                            "for AMX (%s): use Linux 5.16 or later", network->info.name,
                            network->info.target, strerror(errno));
    }
    return TMN_OK;
}

#ifdef __linux__
/* Whole CPUs of a quota, at least one; INT32_MAX where the file names none. */
static int32_t quota_of(const char *file) {
    char text[64];
    long long quota, period;
    FILE *stream = fopen(file, "re");
    if (!stream) return INT32_MAX;
    int found = fgets(text, sizeof text, stream) && sscanf(text, "%lld %lld", &quota, &period) == 2;
    fclose(stream);
    if (!found || quota <= 0 || period <= 0) return INT32_MAX; /* "max 100000" */
    return quota / period < 1 ? 1 : quota / period > INT32_MAX ? INT32_MAX : (int32_t)(quota / period);
}

static int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }

/* The least quota of this process's cgroup and those above it; of version 2, as systems are today. */
static int32_t cgroup_quota(void) {
    char line[LINE_BYTES], file[LINE_BYTES + 64];
    FILE *stream = fopen("/proc/self/cgroup", "re");
    int32_t least = INT32_MAX;
    if (!stream) return least;
    while (fgets(line, sizeof line, stream)) {
        if (strncmp(line, "0::", 3) != 0) continue;
        line[strcspn(line, "\n")] = 0;
        for (char *path = line + 3, *end;;) {
            snprintf(file, sizeof file, "/sys/fs/cgroup%s/cpu.max", path);
            least = smaller(least, quota_of(file));
            if (!(end = strrchr(path, '/'))) break;
            *end = 0;
        }
    }
    fclose(stream);
    return least;
}
#endif

static long allowed_cpus(void) {
#ifdef __linux__
    cpu_set_t allowed;
    long cpus, quota = cgroup_quota();
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) cpus = CPU_COUNT(&allowed);
    else cpus = sysconf(_SC_NPROCESSORS_ONLN); /* more CPUs than a cpu_set_t has */
    return cpus < quota ? cpus : quota;
#else
    return sysconf(_SC_NPROCESSORS_ONLN);
#endif
}

int32_t tmn_usable_cpus(void) {
    long cpus = allowed_cpus();
    return cpus < 1 ? 1 : cpus > TMN_MOST_THREADS ? TMN_MOST_THREADS : (int32_t)cpus;
}

TMN_API int32_t NAME(default_threads)(void) { return tmn_usable_cpus(); }

/* Denormal numbers take a hundred times as long as others, and are below what a result shows. */
#if defined(__x86_64__) || defined(__i386__)
enum { DEFAULT_MODE = 0x1F80, FLUSH = 0x8040 }; /* no traps; FTZ and DAZ */
uint64_t tmn_enter_fast_float(void) {
    uint32_t before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(DEFAULT_MODE | FLUSH);
    return before;
}
void tmn_restore_float(uint64_t mode) { __builtin_ia32_ldmxcsr((uint32_t)mode); }
#elif defined(__aarch64__)
enum { FLUSH = 1 << 24 };
uint64_t tmn_enter_fast_float(void) {
    uint64_t before, flags, mode = FLUSH;
    __asm__ volatile("mrs %0, fpcr\n\tmrs %1, fpsr" : "=r"(before), "=r"(flags));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory");
    return before << 32 | (uint32_t)flags;
}
void tmn_restore_float(uint64_t mode) {
    uint64_t before = mode >> 32, flags = (uint32_t)mode;
    __asm__ volatile("msr fpcr, %0\n\tmsr fpsr, %1" : : "r"(before), "r"(flags) : "memory");
}
#elif defined(__arm__) && defined(__ARM_FP)
enum { FLUSH = 1 << 24 }; /* NEON flushes in any case, VFP where this says so */
uint64_t tmn_enter_fast_float(void) {
    uint32_t before, mode = FLUSH;
    __asm__ volatile("vmrs %0, fpscr" : "=r"(before));
    __asm__ volatile("vmsr fpscr, %0" : : "r"(mode) : "memory");
    return before;
}
void tmn_restore_float(uint64_t mode) {
    uint32_t before = (uint32_t)mode;
    __asm__ volatile("vmsr fpscr, %0" : : "r"(before) : "memory");
}
#else
uint64_t tmn_enter_fast_float(void) { return 0; }
void tmn_restore_float(uint64_t mode) { (void)mode; }
#endif
