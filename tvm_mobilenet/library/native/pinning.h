/* One thread to one CPU, by option. A CPU is claimed by a socket's name in Linux's abstract name
   space: no file, one owner on the whole machine, and free again when its owner ends. */
#ifndef TMN_PINNING_H
#define TMN_PINNING_H

#include <pthread.h>
#include <signal.h>

typedef int tmn_pin; /* the socket that holds the claim */
enum { TMN_UNPINNED = -1 };

#if defined(__linux__) && !defined(__ANDROID__)
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static tmn_pin tmn_claim_cpu(int cpu) {
    int claim = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (claim < 0) return TMN_UNPINNED;
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int length = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "tvm-mobilenet-cpu-%d", cpu);
    socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
    if (bind(claim, (struct sockaddr *)&name, bytes) == 0) return claim;
    close(claim);
    return TMN_UNPINNED;
}

/* To a CPU that no other pinned thread has, and not the one that the caller is on; where there is
   none, the thread stays as it is. */
static tmn_pin tmn_pin_thread(pthread_t thread) {
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return TMN_UNPINNED;
    int here = sched_getcpu();
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (cpu == here || !CPU_ISSET(cpu, &allowed)) continue;
        tmn_pin pin = tmn_claim_cpu(cpu);
        if (pin == TMN_UNPINNED) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        if (pthread_setaffinity_np(thread, sizeof one, &one) == 0) return pin;
        close(pin);
    }
    return TMN_UNPINNED;
}

static void tmn_unpin(tmn_pin pin) {
    if (pin != TMN_UNPINNED) close(pin);
}
#else
static tmn_pin tmn_pin_thread(pthread_t thread) {
    (void)thread;
    return TMN_UNPINNED;
}
static void tmn_unpin(tmn_pin pin) { (void)pin; }
#endif

#endif
