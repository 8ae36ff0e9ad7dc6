/* Lets one process believe in another wall clock. Preloaded; 64-bit systems only.
 *
 * Every answer about CLOCK_REALTIME is off by as many ns as the file at CHAOS_CLOCK says, an int64
 * that may change at any time. What waits until a moment of that clock is told the true moment, or
 * a jump would make waits longer that the kernel would have ended. Other clocks are left alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(long) == 8 && sizeof(time_t) == 8, "a 64-bit system is needed");

#define SECOND_NS 1000000000L

static volatile int64_t *offset_ns;

__attribute__((constructor)) static void map_offset(void) {
    const char *path = getenv("CHAOS_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof *offset_ns, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) offset_ns = mapped;
}

static void shift(struct timespec *moment, int sign) {
    int64_t by_ns = offset_ns ? sign * *offset_ns : 0;
    moment->tv_sec += by_ns / SECOND_NS;
    moment->tv_nsec += by_ns % SECOND_NS;
    if (moment->tv_nsec < 0) {
        moment->tv_sec--;
        moment->tv_nsec += SECOND_NS;
    } else if (moment->tv_nsec >= SECOND_NS) {
        moment->tv_sec++;
        moment->tv_nsec -= SECOND_NS;
    }
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*next)(clockid_t, struct timespec *);
    if (!next) next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = next(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) shift(now, 1);
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone; /* obsolete, and unknown to Linux */
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    *now = (struct timeval){exact.tv_sec, exact.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME_COARSE, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}

int timespec_get(struct timespec *now, int base) {
    return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, now) ? base : 0;
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
    static int (*next)(sem_t *, const struct timespec *);
    if (!next) next = (int (*)(sem_t *, const struct timespec *))dlsym(RTLD_NEXT, "sem_timedwait");
    struct timespec moment = *until;
    shift(&moment, -1);
    return next(semaphore, &moment);
}

/* Locks of gRPC wait by calls of their own, until moments of the wall clock. */
long syscall(long number, ...) {
    static long (*next)(long, ...);
    if (!next) next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    long words[6];
    va_list rest;
    va_start(rest, number);
    for (int i = 0; i < 6; i++) words[i] = va_arg(rest, long);
    va_end(rest);
    struct timespec moment;
    if (number == SYS_futex && (words[1] & FUTEX_CLOCK_REALTIME) && words[3]) {
        moment = *(const struct timespec *)words[3];
        shift(&moment, -1);
        words[3] = (long)&moment;
    }
    return next(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}
