/* The 8 KB of AMX's registers are no part of what Linux saves of a thread until a process asks for
 * them; then they are, of all its threads. The system refuses where a thread's alternate stack is
 * too small for a signal to save them on. */
#ifndef TVM_MOBILENET_TILES_H
#define TVM_MOBILENET_TILES_H

#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM, and the feature */
static int tiles_permitted(void) {
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
#else
static int tiles_permitted(void) { return 1; }
#endif

#endif
