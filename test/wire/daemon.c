#include "wire/daemon.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

uint16_t daemon_free_port(void)
{
    uint32_t first = 30000 + (uint32_t)getpid() % 2000;

    for (uint32_t i = 0; i < 2000; i++) {
        struct sockaddr_in a = { .sin_family = AF_INET };
        int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        a.sin_port = htons((uint16_t)(first + i));
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        int rc = bind(fd, (struct sockaddr *)&a, sizeof(a));
        close(fd);
        if (rc == 0)
            return (uint16_t)(first + i);
    }
    return 0;
}

static void become(const struct daemon *d, const char *const env[])
{
    char log[300], store[300], port[16];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(log, sizeof(log), "%s/log", d->dir);
    snprintf(store, sizeof(store), "%s/store", d->dir);
    snprintf(port, sizeof(port), "%u", d->port);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (fd >= 0) {
        dup2(fd, 1);
        dup2(fd, 2);
    }
    if (d->preload != NULL)
        setenv("LD_PRELOAD", d->preload, 1);
    for (; env != NULL && *env != NULL; env++)
        putenv((char *)(uintptr_t)*env);
    execl(d->binary, d->binary, "-p", port, "-w", "0", "-m", "0", "-sd", store,
          (char *)NULL);
    perror(d->binary);
    _exit(127);
}

bool daemon_start(struct daemon *d, const char *const env[])
{
    mkdir(d->dir, 0755);
    fflush(NULL);
    d->pid = fork();
    if (d->pid == 0)
        become(d, env);
    if (d->pid < 0)
        d->pid = 0;
    return d->pid > 0;
}

void daemon_kill(struct daemon *d)
{
    if (d->pid <= 0)
        return;
    kill(d->pid, SIGKILL);
    waitpid(d->pid, NULL, 0);
    d->pid = 0;
}

int daemon_wait(struct daemon *d, uint32_t wait_ms)
{
    for (uint32_t i = 0; i <= wait_ms; i++) {
        int status;

        if (d->pid <= 0)
            return -1;
        if (waitpid(d->pid, &status, WNOHANG) == d->pid) {
            d->pid = 0;
            return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
        }
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    }
    return -1;
}

int daemon_stop(struct daemon *d, uint32_t wait_ms)
{
    if (d->pid > 0)
        kill(d->pid, SIGTERM);
    return daemon_wait(d, wait_ms);
}

/* === Folders === */

static bool run(const char *const argv[])
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

bool folder_remove(const char *path)
{
    return run((const char *const[]){ "rm", "-rf", path, NULL });
}

bool folder_copy(const char *from, const char *to)
{
    return folder_remove(to) &&
           run((const char *const[]){ "cp", "-a", "--sparse=always", from, to, NULL });
}

static uint64_t folder_sum;

static int add_size(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)path, (void)at;
    if (type == FTW_F)
        folder_sum += (uint64_t)st->st_size;
    return 0;
}

uint64_t folder_bytes(const char *path)
{
    folder_sum = 0;
    nftw(path, add_size, 16, FTW_PHYS);
    return folder_sum;
}
