// The floor of exec: the fewest kernel calls that give what `exec /bin/true` gives. No JSON, no state, no checks, no terminal.
// usage: floor-exec PID CGROUP COMMAND…   (PID: the first process of a container in its own namespaces; CGROUP: its directory)
// The container must have the six namespaces of a default config.json, and /bin/true gets the capabilities of one.
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#define CK(x) do { if ((x) < 0) { perror(#x); _exit(1); } } while (0)
#define KEPT (1u << CAP_KILL | 1u << CAP_NET_BIND_SERVICE | 1u << CAP_AUDIT_WRITE)

// clone3 without libc's function: its return address would be on the stack that both processes use until execve.
static inline __attribute__((always_inline)) long clone3(struct clone_args *args) {
#ifdef __x86_64__
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(SYS_clone3), "D"(args), "S"(sizeof *args) : "rcx", "r11", "memory");
  return result;
#else
  args->flags &= ~(uint64_t)(CLONE_VM | CLONE_VFORK);
  return syscall(SYS_clone3, args, sizeof *args);
#endif
}

static __attribute__((noinline, noreturn)) void child(int pidfd, char **command) {
  // Here, as a cgroup file system with nsdelegate refuses CLONE_INTO_CGROUP from inside the container's cgroup namespace.
  CK(setns(pidfd, CLONE_NEWCGROUP));
  CK(setsid());
  for (int capability = 0; capability <= CAP_LAST_CAP; capability++)
    if (!(KEPT & (capability < 32 ? 1u << capability : 0))) prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  CK(syscall(SYS_setgroups, 0, 0));
  CK(syscall(SYS_setresgid, 0, 0, 0));
  CK(syscall(SYS_setresuid, 0, 0, 0));
  CK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct sets[2] = {{.effective = KEPT, .permitted = KEPT}};
  CK(syscall(SYS_capset, &header, sets));
  char *environment[] = {"PATH=/bin", 0};
  execve(command[0], command, environment);
  perror(command[0]);
  _exit(127);
}

int main(int argc, char **argv) {
  if (argc < 4) { fprintf(stderr, "floor-exec PID CGROUP COMMAND...\n"); return 2; }
  int pidfd = syscall(SYS_pidfd_open, atoi(argv[1]), 0);
  CK(pidfd);
  int cgroup = open(argv[2], O_PATH | O_DIRECTORY | O_CLOEXEC);
  CK(cgroup);
  CK(setns(pidfd, CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET));
  struct clone_args args = {.flags = CLONE_VM | CLONE_VFORK | CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = cgroup};
  long pid = clone3(&args);
  CK(pid);
  if (pid == 0) child(pidfd, argv + 3);
  int status;
  CK(waitpid(pid, &status, 0));
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}
