/* Loaded into a server before the C library: a slow disk and a wrong wall clock, both changed while the server runs.
 *
 * The numbers are in a file that is mapped, so that whoever writes the file changes them at once, for every process of
 * the server. Only the wall clock is wrong: the steady clock, which timers use, goes on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct control {
    int64_t ahead_us;  /* of the true time */
    int64_t sync_us;   /* before each fsync and fdatasync */
    int64_t delayed;   /* written here: how many were delayed */
};

static struct control nothing;
static struct control *control = &nothing;
static int (*real_clock)(clockid_t, struct timespec *);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);

__attribute__((constructor)) static void start(void) {
    real_clock = dlsym(RTLD_NEXT, "clock_gettime");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    const char *path = getenv("TEST_SUPPORT_PRELOAD");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) control = mapped;
    close(file);
}

static int64_t ahead(void) { return __atomic_load_n(&control->ahead_us, __ATOMIC_RELAXED); }

int clock_gettime(clockid_t id, struct timespec *out) {
    /* Others may be loaded, and ask for the time, before this is. */
    int result = real_clock ? real_clock(id, out) : (int)syscall(SYS_clock_gettime, id, out);
    int64_t us = ahead();
    if (result == 0 && us != 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        int64_t nanos = out->tv_nsec + us % 1000000 * 1000;
        out->tv_sec += us / 1000000 + (nanos >= 1000000000) - (nanos < 0);
        out->tv_nsec = (nanos + 1000000000) % 1000000000;
    }
    return result;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    struct timespec now;
    (void)zone;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    if (result == 0) *out = (struct timeval){ now.tv_sec, now.tv_nsec / 1000 };
    return result;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

static void wait_for_the_disk(void) {
    int64_t us = __atomic_load_n(&control->sync_us, __ATOMIC_RELAXED);
    if (us <= 0) return;
    __atomic_add_fetch(&control->delayed, 1, __ATOMIC_RELAXED);
    struct timespec left = { us / 1000000, us % 1000000 * 1000 };
    while (nanosleep(&left, &left) != 0) {}
}

int fsync(int file) {
    wait_for_the_disk();
    return real_fsync ? real_fsync(file) : (int)syscall(SYS_fsync, file);
}

int fdatasync(int file) {
    wait_for_the_disk();
    return real_fdatasync ? real_fdatasync(file) : (int)syscall(SYS_fdatasync, file);
}
