/* A time limit for a candidate, and its crash as a signal that a handler gets: set for as long as the
 * candidate runs, what was there before is put back. */
#ifndef TVM_MOBILENET_GUARD_H
#define TVM_MOBILENET_GUARD_H

#include <signal.h>
#include <string.h>
#include <sys/time.h>

/* what a candidate, a driver or an emulated GPU may crash with, and the end of the limit */
static const int SIGNALS[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGALRM};
enum { SIGNAL_COUNT = sizeof(SIGNALS) / sizeof(SIGNALS[0]) };
static struct sigaction before_guard[SIGNAL_COUNT];

static void set_alarm(double seconds) {
  struct itimerval timer;
  memset(&timer, 0, sizeof(timer));
  timer.it_value.tv_sec = (time_t)seconds;
  timer.it_value.tv_usec = (suseconds_t)((seconds - (double)timer.it_value.tv_sec) * 1e6);
  setitimer(ITIMER_REAL, &timer, NULL);
}

static void begin_guard(void (*handler)(int)) {
  struct sigaction action;
  memset(&action, 0, sizeof(action));
  action.sa_handler = handler;
  for (int i = 0; i < SIGNAL_COUNT; ++i) sigaction(SIGNALS[i], &action, &before_guard[i]);
}

static void end_guard(void) {
  set_alarm(0);
  for (int i = 0; i < SIGNAL_COUNT; ++i) sigaction(SIGNALS[i], &before_guard[i], NULL);
}

#endif
