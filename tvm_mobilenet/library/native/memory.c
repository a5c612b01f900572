/* Memory on large pages: weights and activations span some 20 MB, and on small pages a walk through
   them misses the TLB all the time, which costs about 4 % of a run. */
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

static const size_t HUGE_PAGE = (size_t)2 << 20; /* x86-64's, and aarch64's with pages of 4 KiB */

void *tmn_allocate(size_t bytes, void **mapped, size_t *mapped_bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int large = bytes >= HUGE_PAGE / 2;
    size_t unit = large ? HUGE_PAGE : page;
    if (bytes > SIZE_MAX - 2 * unit) return NULL;
    size_t length = (bytes + unit - 1) / unit * unit;
    size_t whole = large ? length + HUGE_PAGE : length; /* to begin on a boundary */
    void *memory = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return NULL;
    unsigned char *start = memory;
    if (large) start += (HUGE_PAGE - (uintptr_t)memory % HUGE_PAGE) % HUGE_PAGE;
#ifdef MADV_HUGEPAGE
    if (large) (void)madvise(start, length, MADV_HUGEPAGE); /* refused where there are none */
#endif
    for (size_t i = 0; i < length; i += page) ((volatile unsigned char *)start)[i] = 0;
    *mapped = memory;
    *mapped_bytes = whole;
    return start;
}

void tmn_release(void *mapped, size_t mapped_bytes) {
    if (mapped) munmap(mapped, mapped_bytes);
}
