/* Records what a process does to the files below one folder, in order, and makes calls fail on demand.
 *
 * Loaded with LD_PRELOAD into the process under test (tests/powercut/record.py builds and starts it). Rules:
 *
 * 1. One lock is held over the real call and its record: the order of the log is the order of the effects, and a write
 *    that is logged before a sync was done before it.
 * 2. "-shm" and ".lock" files are left out: nothing durable stands in them. So are reads.
 * 3. A record is: op (1 byte), fd (int32), a (int64), b (int64), length (uint32), then that many bytes; little endian.
 *    A call that failed leaves no record, for it changed nothing; a short write leaves what it wrote.
 * 4. Faults: recorder_fail(k, error, count) lets the k-th changing call from now on (0: the next one) and those behind
 *    it, `count` in all, fail with that errno; error 0 means a write of half its bytes, once, then ENOSPC.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define MAX_FDS 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char tracked[MAX_FDS];
static char root[PATH_MAX];
static int log_fd = -1;
static long fail_after = -1, fail_count = 0, calls = 0;
static int fail_errno = 0;

static void put(const void *data, size_t size) {
    const char *at = data;
    while (size > 0) {
        long done = syscall(SYS_write, log_fd, at, size);
        if (done <= 0) _exit(99); /* a log with a hole would prove nothing */
        at += done;
        size -= done;
    }
}

static void record(char op, int32_t fd, int64_t a, int64_t b, const void *data, uint32_t size) {
    if (log_fd < 0) return;
    int kept = errno;
    char head[25];
    head[0] = op;
    memcpy(head + 1, &fd, 4);
    memcpy(head + 5, &a, 8);
    memcpy(head + 13, &b, 8);
    memcpy(head + 21, &size, 4);
    put(head, sizeof head);
    put(data, size);
    errno = kept;
}

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("RECORD_FOLDER"), *name = getenv("RECORD_LOG");
    if (folder) strncpy(root, folder, sizeof root - 1);
    if (folder && name) {
        int fd = syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        /* Out of the way of low numbers, which programs count on. */
        log_fd = fd < 0 ? -1 : syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 900);
        if (fd >= 0) syscall(SYS_close, fd);
    }
}

static int ends(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static int inside(const char *path) {
    size_t n = strlen(root);
    return n && path && strncmp(path, root, n) == 0 && (path[n] == '/' || !path[n]) && !ends(path, "-shm") &&
           !ends(path, ".lock");
}

static int is_tracked(int fd) { return fd >= 0 && fd < MAX_FDS && tracked[fd]; }

/* Called with the lock held: whether this call is to fail; 2: to write half. */
static int faulty(void) {
    calls++;
    if (fail_after < 0) return 0;
    if (fail_after > 0) {
        fail_after--;
        return 0;
    }
    if (fail_count <= 0) return 0;
    fail_count--;
    if (!fail_errno) {
        fail_errno = ENOSPC;
        return 2;
    }
    errno = fail_errno;
    return 1;
}

void recorder_mark(const char *text) {
    pthread_mutex_lock(&lock);
    record('M', -1, 0, 0, text, strlen(text));
    pthread_mutex_unlock(&lock);
}

void recorder_fail(long after, int error, long count) {
    pthread_mutex_lock(&lock);
    fail_after = after;
    fail_errno = error;
    fail_count = count;
    pthread_mutex_unlock(&lock);
}

long recorder_calls(void) { return calls; }

static int open_at(int dir, const char *path, int flags, mode_t mode) {
    /* Only whole paths are followed; the programs under test use no others. */
    if (!inside(path)) return syscall(SYS_openat, dir, path, flags, mode);
    pthread_mutex_lock(&lock);
    int fd = -1;
    int changes = (flags & (O_CREAT | O_TRUNC)) != 0;
    if (!(changes && faulty())) fd = syscall(SYS_openat, dir, path, flags, mode);
    if (fd >= 0 && fd < MAX_FDS) {
        tracked[fd] = 1;
        record('O', fd, flags & (O_CREAT | O_TRUNC), (flags & O_DIRECTORY) != 0, path, strlen(path));
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN(name)                              \
    int name(const char *path, int flags, ...) { \
        va_list rest;                           \
        va_start(rest, flags);                  \
        mode_t mode = va_arg(rest, int);        \
        va_end(rest);                           \
        return open_at(AT_FDCWD, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
#define OPENAT(name)                                     \
    int name(int dir, const char *path, int flags, ...) { \
        va_list rest;                                    \
        va_start(rest, flags);                           \
        mode_t mode = va_arg(rest, int);                 \
        va_end(rest);                                    \
        return open_at(dir, path, flags, mode);          \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
    if (!is_tracked(fd)) return fd == log_fd ? 0 : syscall(SYS_close, fd);
    pthread_mutex_lock(&lock);
    tracked[fd] = 0;
    int result = syscall(SYS_close, fd);
    record('C', fd, 0, 0, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}

static ssize_t write_at(int fd, const void *data, size_t size, int64_t offset) {
    pthread_mutex_lock(&lock);
    ssize_t done = -1;
    int fault = faulty();
    if (fault != 1) {
        if (fault == 2) size = size > 1 ? size / 2 : size;
        int64_t at = offset;
        if (at < 0) {
            struct stat status;
            int flags = syscall(SYS_fcntl, fd, F_GETFL);
            at = syscall(SYS_lseek, fd, 0, SEEK_CUR);
            if ((flags & O_APPEND) && fstat(fd, &status) == 0) at = status.st_size;
            done = syscall(SYS_write, fd, data, size);
        } else {
            done = syscall(SYS_pwrite64, fd, data, size, at);
        }
        if (done > 0) record('W', fd, at, 0, data, done);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t write(int fd, const void *data, size_t size) {
    return is_tracked(fd) ? write_at(fd, data, size, -1) : syscall(SYS_write, fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    return is_tracked(fd) ? write_at(fd, data, size, offset) : syscall(SYS_pwrite64, fd, data, size, offset);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) { return pwrite(fd, data, size, offset); }

/* Calls that change one open file: logged once they are done. */
#define CHANGE(op, fd, a, b, call)        \
    if (!is_tracked(fd)) return call;     \
    pthread_mutex_lock(&lock);            \
    int result = faulty() ? -1 : (int)(call); \
    if (result == 0) record(op, fd, a, b, "", 0); \
    pthread_mutex_unlock(&lock);          \
    return result;

int ftruncate(int fd, off_t size) { CHANGE('T', fd, size, 0, syscall(SYS_ftruncate, fd, size)) }
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }
int fsync(int fd) { CHANGE('S', fd, 0, 0, syscall(SYS_fsync, fd)) }
int fdatasync(int fd) { CHANGE('S', fd, 1, 0, syscall(SYS_fdatasync, fd)) }
int posix_fallocate(int fd, off_t offset, off_t size) {
    if (!is_tracked(fd)) return syscall(SYS_fallocate, fd, 0, offset, size) ? errno : 0;
    pthread_mutex_lock(&lock);
    int result = faulty() ? (fail_errno ? fail_errno : ENOSPC) : syscall(SYS_fallocate, fd, 0, offset, size) ? errno : 0;
    if (!result) record('A', fd, offset + size, 0, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int posix_fallocate64(int fd, off64_t offset, off64_t size) { return posix_fallocate(fd, offset, size); }

/* Calls that change names: both ones, with a 0 between. */
static int change_names(char op, const char *one, const char *two, long number) {
    char both[2 * PATH_MAX];
    size_t n = strlen(one), m = two ? strlen(two) : 0;
    pthread_mutex_lock(&lock);
    int result = -1;
    if (!faulty()) {
        if (op == 'R') result = syscall(SYS_rename, one, two);
        if (op == 'L') result = syscall(SYS_link, one, two);
        if (op == 'U') result = syscall(SYS_unlink, one);
        if (op == 'D') result = syscall(SYS_mkdir, one, number);
    }
    if (result == 0 && n + m + 1 < sizeof both) {
        memcpy(both, one, n);
        both[n] = 0;
        if (two) memcpy(both + n + 1, two, m);
        record(op, -1, 0, 0, both, two ? n + 1 + m : n);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int rename(const char *one, const char *two) {
    return inside(one) ? change_names('R', one, two, 0) : syscall(SYS_rename, one, two);
}
int link(const char *one, const char *two) {
    return inside(one) ? change_names('L', one, two, 0) : syscall(SYS_link, one, two);
}
int unlink(const char *one) { return inside(one) ? change_names('U', one, NULL, 0) : syscall(SYS_unlink, one); }
int mkdir(const char *one, mode_t mode) {
    return inside(one) ? change_names('D', one, NULL, mode) : syscall(SYS_mkdir, one, mode);
}
