/* How long a cache line takes from one CPU to another and back: two threads that answer each other
   through one word. CPUs that share a cache take about 100 ns, others several times that. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#define WARM_UP 50

struct side {
  atomic_int *word;
  int cpu, turns, number; /* number 0 begins */
  double ns;              /* of a turn, where number is 0 */
};

static double now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e9 + time.tv_nsec;
}

static void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

static void *play(void *argument) {
  struct side *side = argument;
  pin(side->cpu);
  double start = 0;
  for (int turn = 0; turn < side->turns; turn++) {
    if (turn == WARM_UP) start = now_ns();
    while (atomic_load_explicit(side->word, memory_order_acquire) != 2 * turn + side->number) {
    }
    atomic_store_explicit(side->word, 2 * turn + side->number + 1, memory_order_release);
  }
  side->ns = (now_ns() - start) / (side->turns - WARM_UP);
  return 0;
}

/* Nanoseconds there and back; negative where no thread could be started. The calling thread, which
   may be pinned elsewhere, is back there afterwards. */
double handover_ns(int first_cpu, int second_cpu, int turns) {
  static _Alignas(64) atomic_int word;
  struct side sides[2] = {{&word, first_cpu, turns + WARM_UP, 0, 0},
                          {&word, second_cpu, turns + WARM_UP, 1, 0}};
  pthread_t other;
  cpu_set_t before;
  atomic_store(&word, 0);
  if (pthread_create(&other, 0, play, &sides[1])) return -1;
  pthread_getaffinity_np(pthread_self(), sizeof before, &before);
  play(&sides[0]);
  pthread_join(other, 0);
  pthread_setaffinity_np(pthread_self(), sizeof before, &before);
  return sides[0].ns;
}
