// rss COMMAND…: prints the largest resident set, in KiB, of COMMAND and of all that it waited for; its output is dropped.
// cc -O2 -static. Started by vfork from this small program, so that the starter's memory does not count (getrusage(2)).
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  pid_t pid = vfork();
  if (pid == 0) {
    dup2(null, 0), dup2(null, 1), dup2(null, 2);
    execvp(argv[1], argv + 1);
    _exit(127);
  }
  int status;
  struct rusage usage;
  if (pid < 0 || wait4(pid, &status, 0, &usage) < 0) { perror("rss"); return 1; }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return 1;
  printf("%ld\n", usage.ru_maxrss);
  return 0;
}
