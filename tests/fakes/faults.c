/* Makes one system call of a process fail, or kills the process at it: loaded before the C library.
 *
 * Counted are the calls of one kind, of the process that was armed alone and not of its children. Which is to fail is
 * said by `faults_arm`, or in the environment: FAULTS=KIND:NUMBER:ERRNO, where errno 0 stands for SIGKILL. What a kind
 * was called altogether is written to the file that FAULTS_SEEN names.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN, WRITE, FSYNC, RENAME, CLOSE, SEND, MKDIR, KINDS };
static const char *const names[KINDS] = {"open", "write", "fsync", "rename", "close", "send", "mkdir"};

static atomic_int seen[KINDS];
static int kind_armed = -1, number_armed, error_armed, only_main;
static pid_t process;

void faults_arm(int kind, int number, int error, int main_thread_only) {
    process = getpid();
    only_main = main_thread_only;
    for (int i = 0; i < KINDS; i++) atomic_store(&seen[i], 0);
    number_armed = number;
    error_armed = error;
    kind_armed = kind;
}

void faults_disarm(void) { process = 0; }

int faults_seen(int kind) { return atomic_load(&seen[kind]); }

static int fails(int kind) {
    if (process == 0 || getpid() != process || (only_main && syscall(SYS_gettid) != process)) return 0;
    int number = atomic_fetch_add(&seen[kind], 1);
    if (kind != kind_armed || number != number_armed) return 0;
    if (error_armed == 0) kill(process, SIGKILL);
    errno = error_armed;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPENS(name)                                                     \
    int name(const char *path, int flags, ...) {                        \
        mode_t mode = 0;                                                \
        if (flags & (O_CREAT | O_TMPFILE)) {                            \
            va_list rest;                                               \
            va_start(rest, flags);                                      \
            mode = va_arg(rest, mode_t);                                \
            va_end(rest);                                               \
        }                                                               \
        return fails(OPEN) ? -1 : REAL(name)(path, flags, mode);        \
    }
#define OPENS_AT(name)                                                  \
    int name(int folder, const char *path, int flags, ...) {            \
        mode_t mode = 0;                                                \
        if (flags & (O_CREAT | O_TMPFILE)) {                            \
            va_list rest;                                               \
            va_start(rest, flags);                                      \
            mode = va_arg(rest, mode_t);                                \
            va_end(rest);                                               \
        }                                                               \
        return fails(OPEN) ? -1 : REAL(name)(folder, path, flags, mode); \
    }
OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)

ssize_t write(int fd, const void *data, size_t size) { return fails(WRITE) ? -1 : REAL(write)(fd, data, size); }
ssize_t writev(int fd, const struct iovec *v, int n) { return fails(WRITE) ? -1 : REAL(writev)(fd, v, n); }
ssize_t pwrite(int fd, const void *d, size_t n, off_t at) { return fails(WRITE) ? -1 : REAL(pwrite)(fd, d, n, at); }
ssize_t pwrite64(int fd, const void *d, size_t n, off64_t at) {
    return fails(WRITE) ? -1 : REAL(pwrite64)(fd, d, n, at);
}
int fsync(int fd) { return fails(FSYNC) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return fails(FSYNC) ? -1 : REAL(fdatasync)(fd); }
int syncfs(int fd) { return fails(FSYNC) ? -1 : REAL(syncfs)(fd); }
int rename(const char *old, const char *new) { return fails(RENAME) ? -1 : REAL(rename)(old, new); }
int renameat(int a, const char *old, int b, const char *new) {
    return fails(RENAME) ? -1 : REAL(renameat)(a, old, b, new);
}
int mkdir(const char *path, mode_t mode) { return fails(MKDIR) ? -1 : REAL(mkdir)(path, mode); }
int mkdirat(int folder, const char *path, mode_t mode) { return fails(MKDIR) ? -1 : REAL(mkdirat)(folder, path, mode); }
ssize_t send(int fd, const void *data, size_t size, int flags) {
    return fails(SEND) ? -1 : REAL(send)(fd, data, size, flags);
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    return fails(SEND) ? -1 : REAL(sendmsg)(fd, message, flags);
}

/* Closed it is in any case, as Linux does it. */
int close(int fd) {
    int failed = fails(CLOSE), error = errno, result = REAL(close)(fd);
    if (!failed) return result;
    errno = error;
    return -1;
}

__attribute__((constructor)) static void from_environment(void) {
    const char *said = getenv("FAULTS");
    char kind[16];
    int number, error;
    if (said == NULL || sscanf(said, "%15[a-z]:%d:%d", kind, &number, &error) != 3) return;
    for (int i = 0; i < KINDS; i++)
        if (strcmp(kind, names[i]) == 0) faults_arm(i, number, error, 0);
}

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("FAULTS_SEEN");
    if (path == NULL || getpid() != process) return;
    process = 0;
    FILE *file = fopen(path, "w");
    if (file == NULL) return;
    for (int i = 0; i < KINDS; i++) fprintf(file, "%s %d\n", names[i], atomic_load(&seen[i]));
    fclose(file);
}
