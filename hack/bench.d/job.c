// job RUNS [@prepare COMMAND [@ COMMAND]…] @measure COMMAND [@ COMMAND]…
// Runs the commands after @measure one after another and prints for each run: wall time in µs, processor time in µs (user and system,
// of the commands and all that they waited for), largest resident set of them in KiB. The commands after @prepare come before each run;
// they are not measured, and may fail. Input and output of all are /dev/null.
// cc -O2 -static. Commands are started by vfork from this small program, so that the starter's memory does not count (getrusage(2)).
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int null;

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec + now.tv_nsec / 1e9;
}

// A list of commands; each is a list of words that ends with a null pointer.
struct list { char **commands[16]; int count; };

// Takes the commands up to the next section, and returns its place.
static char **take(char **words, struct list *list) {
  while (*words && words[0][0] != '@') {
    if (list->count == 16) { fprintf(stderr, "job: more than 16 commands\n"); exit(2); }
    list->commands[list->count++] = words;
    while (*words && words[0][0] != '@') words++;
    if (*words && !strcmp(*words, "@")) *words++ = 0;
  }
  return words;
}

static int start(char **command, struct rusage *usage, int quiet) {
  int status;
  pid_t pid = vfork();
  if (pid == 0) {
    if (quiet) dup2(null, 2);
    execvp(command[0], command);
    _exit(127);
  }
  if (pid < 0 || wait4(pid, &status, 0, usage) < 0) { perror("job"); exit(1); }
  return status;
}

int main(int argc, char **argv) {
  struct list prepare = {.count = 0}, measure = {.count = 0};
  char **words = argv + (argc > 2 ? 2 : argc);
  while (*words) {
    struct list *list = !strcmp(*words, "@prepare") ? &prepare : !strcmp(*words, "@measure") ? &measure : 0;
    if (!list) break;
    *words = 0;
    words = take(words + 1, list);
  }
  if (measure.count == 0 || *words) { fprintf(stderr, "job RUNS [@prepare COMMAND [@ COMMAND]...] @measure COMMAND [@ COMMAND]...\n"); return 2; }
  null = open("/dev/null", O_RDWR | O_CLOEXEC);
  FILE *out = fdopen(fcntl(1, F_DUPFD_CLOEXEC, 3), "w");
  if (null < 0 || !out || dup2(null, 0) < 0 || dup2(null, 1) < 0) { perror("job"); return 1; }
  struct rusage usage;
  for (int run = 0; run < atoi(argv[1]); run++) {
    for (int i = 0; i < prepare.count; i++) start(prepare.commands[i], &usage, 1);
    double begin = seconds(), processor = 0;
    long peak = 0;
    for (int i = 0; i < measure.count; i++) {
      int status = start(measure.commands[i], &usage, 0);
      if (status != 0) { fprintf(stderr, "%s: wait status %#x\n", measure.commands[i][0], status); return 1; }
      processor += usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
      if (usage.ru_maxrss > peak) peak = usage.ru_maxrss;
    }
    fprintf(out, "%.0f %.0f %ld\n", (seconds() - begin) * 1e6, processor * 1e6, peak);
  }
  return fclose(out) == 0 ? 0 : 1;
}
