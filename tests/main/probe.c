/* What a system call filter does to a process, told line by line. Static, and with nothing but what it is asked for between its lines.
 *
 *   probe call [32:]NUMBER...   makes each call in a child of its own, all arguments 0; 32: through int 0x80. Prints the number and what
 *                               the kernel returned, or the signal that killed the child.
 *   probe thread NUMBER         makes the call in a second thread, and says that the process goes on
 *   probe trap NUMBER           makes the call with a handler for SIGSYS, and prints what the handler was given
 *   probe watch COMMAND...      runs the command under a filter that tells of every seccomp(2): prints their flags, and lets them go on
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static long call(const char *word) {
    int narrow = strncmp(word, "32:", 3) == 0;
    unsigned long number = strtoul(word + 3 * narrow, 0, 0);
    long result = -ENOSYS;
#ifdef __x86_64__
    register long r10 __asm__("r10") = 0, r8 __asm__("r8") = 0, r9 __asm__("r9") = 0;
    if (!narrow) {
        __asm__ volatile("syscall"
                         : "=a"(result)
                         : "a"(number), "D"(0L), "S"(0L), "d"(0L), "r"(r10), "r"(r8), "r"(r9)
                         : "rcx", "r11", "memory");
    } else {
        int half;
        __asm__ volatile("int $0x80"
                         : "=a"(half)
                         : "a"((int)number), "b"(0), "c"(0), "d"(0), "S"(0), "D"(0)
                         : "r8", "r9", "r10", "r11", "memory");
        result = half;
    }
#else
    result = syscall(number, 0, 0, 0, 0, 0, 0);
    if (result < 0) result = -errno;
#endif
    return result;
}

static void calls(char **words) {
    for (; *words; words++) {
        int out[2], status;
        if (pipe(out)) exit(2);
        pid_t child = fork();
        if (child == 0) {
            long result = call(*words);
            if (write(out[1], &result, sizeof result) < 0) _exit(2);
            _exit(0);
        }
        close(out[1]);
        waitpid(child, &status, 0);
        long result = 0;
        if (WIFSIGNALED(status)) printf("%s signal %d\n", *words, WTERMSIG(status));
        else if (read(out[0], &result, sizeof result) == sizeof result) printf("%s %ld\n", *words, result);
        close(out[0]);
    }
}

static void *second(void *word) {
    call(word);
    puts("the thread goes on");
    return 0;
}

static void trapped(int signal, siginfo_t *info, void *context) {
    (void)context;
    printf("signal %d code %d syscall %d errno %d arch %x\n", signal, info->si_code, info->si_syscall, info->si_errno, info->si_arch);
}

static int watch(char **command) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    int out[2];
    if (pipe(out)) return 2;
    /* The child needs the filter, its parent must not have it: it hands the listener up by its number. */
    pid_t child = fork();
    if (child == 0) {
        int listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
        if (listener < 0 || write(out[1], &listener, sizeof listener) < 0) _exit(2);
        usleep(300000); /* until it is taken; the number is then closed by execve */
        execv(command[0], command);
        _exit(127);
    }
    int theirs, status;
    if (read(out[0], &theirs, sizeof theirs) != sizeof theirs) return 2;
    int listener = syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, child, 0), theirs, 0);
    if (listener < 0) return 2;
    for (;;) {
        struct pollfd wait = {listener, POLLIN, 0};
        poll(&wait, 1, -1);
        if (!(wait.revents & POLLIN)) break;
        struct seccomp_notif asked;
        struct seccomp_notif_resp answer = {0};
        memset(&asked, 0, sizeof asked);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked)) continue;
        /* Address 0 is how the runtime asks which flags there are. */
        if (asked.data.args[2]) printf("flags %llx\n", asked.data.args[1]);
        answer.id = asked.id;
        answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

int main(int count, char **words) {
    if (count < 3) return 2;
    setvbuf(stdout, 0, _IONBF, 0);
    if (strcmp(words[1], "call") == 0) calls(words + 2);
    if (strcmp(words[1], "thread") == 0) {
        pthread_t thread;
        if (pthread_create(&thread, 0, second, words[2])) return 2;
        pthread_join(thread, 0);
        puts("the process goes on");
    }
    if (strcmp(words[1], "trap") == 0) {
        struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};
        sigaction(SIGSYS, &action, 0);
        call(words[2]);
    }
    return strcmp(words[1], "watch") == 0 ? watch(words + 2) : 0;
}
