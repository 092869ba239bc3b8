//! podman as root, with its containers in systemd's scopes.

use crate::support::{Output, Runtime, call, name, nothing_left, on_both, shell, terminal, until};

/// podman with a runtime.
pub(crate) struct Podman {
    /// What goes before podman's own words: nothing for root, `as-user` for the unprivileged user.
    pub before: &'static [&'static str],
    runtime: Runtime,
    options: &'static [&'static str],
}

/// A container that a test made; removed by force when the test fails.
pub(crate) struct Container<'a> {
    podman: &'a Podman,
    pub name: String,
    pub id: String,
}

const IMAGE: &str = "localhost/busybox";

impl Podman {
    /// As root.
    pub(crate) fn new(runtime: Runtime) -> Self {
        Self { before: &[], runtime, options: &[] }
    }

    /// As the unprivileged user of the test machine.
    pub(crate) fn rootless(runtime: Runtime) -> Self {
        Self { before: &["as-user"], ..Self::new(runtime) }
    }

    /// The runtime that it uses.
    pub(crate) fn runtime(&self) -> Runtime {
        self.runtime
    }

    fn words<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [self.before, &["podman", "--runtime", self.runtime.path()], self.options, args].concat()
    }

    /// Any of podman's commands.
    pub(crate) fn call(&self, args: &[&str]) -> Output {
        let words = self.words(args);
        call(words[0], &words[1..])
    }

    /// One of podman's commands at a terminal where `input` is typed.
    pub(crate) fn at_terminal(&self, args: &[&str], input: &str) -> Output {
        let quoted: Vec<_> =
            self.words(args).iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
        terminal(&quoted.join(" "), input)
    }

    /// `run --rm` of a shell script, without a network.
    pub(crate) fn script(&self, options: &[&str], script: &str) -> Output {
        let all = [&["run", "--rm", "--network", "none"], options, &[IMAGE, "sh", "-c", script]].concat();
        self.call(&all)
    }

    /// A running container, without a network, that ends on SIGTERM.
    pub(crate) fn container(&self, options: &[&str]) -> Container<'_> {
        self.detached(options, "trap 'exit 0' TERM; sleep 1000 & while :; do wait; done")
    }

    /// A running container, without a network, with a shell script of its own.
    pub(crate) fn detached(&self, options: &[&str], script: &str) -> Container<'_> {
        let name = name();
        let first = ["run", "--detach", "--network", "none", "--name", &name];
        let id = self.call(&[&first, options, &[IMAGE, "sh", "-c", script]].concat()).ok().text().to_owned();
        Container { podman: self, name, id }
    }
}

impl Container<'_> {
    /// One of podman's commands whose last word is the container's name.
    pub(crate) fn call(&self, args: &[&str]) -> Output {
        self.podman.call(&[args, &[&self.name]].concat())
    }

    /// `exec` with options before the container's name and a program after it.
    pub(crate) fn exec(&self, options: &[&str], program: &[&str]) -> Output {
        self.podman.call(&[&["exec"], options, &[self.name.as_str()], program].concat())
    }

    /// `inspect --format`, a Go template.
    pub(crate) fn inspect(&self, format: &str) -> String {
        self.call(&["inspect", "--format", format]).ok().text().to_owned()
    }

    /// `rm --force` at once, and a look at what is left.
    #[track_caller]
    pub(crate) fn remove(self) {
        self.call(&["rm", "--force", "--time", "0"]).ok();
        nothing_left(&self.id);
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.call(&["rm", "--force", "--time", "0"]);
        }
    }
}

on_both! { Podman::new;
    a_program_and_its_exit_status
    a_whole_life
    one_more_process
    paused
    limits_given_and_changed
    statistics
    the_default_network
    what_isolates
    what_opens
    health
    signals
    a_terminal
    out_of_memory
    a_pod
    user_namespaces
    checkpoint_and_restore
    the_other_driver
    an_image_is_built
}

fn a_program_and_its_exit_status(podman: &Podman) {
    podman.script(&[], "echo hello; exit 3").exits(3).prints("hello");
    let run = |program: &str| podman.call(&["run", "--rm", "--network", "none", IMAGE, program]);
    run("nonesuch").exits(127).says("nonesuch");
    run("/etc/passwd").exits(126).says("ermission denied");
    let words =
        podman.words(&["run", "--rm", "--interactive", "--network", "none", IMAGE, "tr", "a-z", "A-Z"]);
    shell(&format!("echo typed | {}", words.join(" "))).ok().prints("TYPED");
}

fn a_whole_life(podman: &Podman) {
    let name = name();
    let script = "trap 'echo told; exit 0' TERM; echo up; sleep 1000 & while :; do wait; done";
    let create = ["create", "--network", "none", "--name", &name, IMAGE, "sh", "-c", script];
    let id = podman.call(&create).ok().text().to_owned();
    let web = Container { podman, name, id };
    assert_eq!(web.inspect("{{.State.Status}}"), "created");
    web.call(&["start"]).ok();
    assert_eq!(web.inspect("{{.State.Status}} {{.State.Running}} {{.OCIRuntime}}"), {
        format!("running true {}", podman.runtime.path())
    });
    let pid: u32 = web.inspect("{{.State.Pid}}").parse().unwrap();
    assert!(shell(&format!("cat /proc/{pid}/cmdline")).ok().stdout.contains("echo told"));
    let list =
        ["ps", "--no-trunc", "--filter", &format!("name={}", web.name), "--format", "{{.ID}} {{.State}}"];
    podman.call(&list).ok().prints(&format!("{} running", web.id));
    until("the program says up", || web.call(&["logs"]).ok().text() == "up");
    web.call(&["stop", "--time", "30"]).ok();
    assert_eq!(web.inspect("{{.State.Status}} {{.State.ExitCode}}"), "exited 0");
    web.call(&["logs"]).ok().prints("up\ntold");
    web.call(&["start"]).ok();
    until("it runs again", || web.call(&["logs"]).ok().text() == "up\ntold\nup");
    web.call(&["restart", "--time", "30"]).ok();
    until("and again", || web.call(&["logs"]).ok().text() == "up\ntold\nup\ntold\nup");
    web.call(&["rm"]).exits(2);
    web.remove();
}

fn one_more_process(podman: &Podman) {
    let web = podman.container(&["--env", "COLOUR=blue"]);
    web.exec(&[], &["echo", "hello"]).ok().prints("hello");
    web.exec(
        &["--env", "SHAPE=round", "--workdir", "/tmp", "--user", "1:2"],
        &["sh", "-c", "echo $COLOUR $SHAPE $(pwd) $(id -u) $(id -g); exit 5"],
    )
    .exits(5)
    .prints("blue round /tmp 1 2");
    web.exec(&[], &["nonesuch"]).exits(127).says("nonesuch");
    web.exec(&[], &["/etc/passwd"]).exits(126);
    web.exec(&["--detach"], &["touch", "/done"]).ok();
    until("the detached process did its work", || web.exec(&[], &["test", "-e", "/done"]).code == 0);
    // It is in the container's namespaces and cgroup.
    let namespaces =
        "for n in pid mnt net uts ipc cgroup; do readlink /proc/$1/ns/$n; done; cat /proc/$1/cgroup";
    let of = |pid: &str| web.exec(&[], &["sh", "-c", namespaces, "sh", pid]).ok().stdout;
    assert_eq!(of("self"), of("1"));
    web.remove();
}

fn paused(podman: &Podman) {
    let web = podman.container(&[]);
    web.call(&["pause"]).ok();
    assert_eq!(web.inspect("{{.State.Status}} {{.State.Paused}}"), "paused true");
    assert_ne!(web.exec(&[], &["true"]).code, 0, "exec in a paused container");
    web.call(&["unpause"]).ok();
    assert_eq!(web.inspect("{{.State.Status}} {{.State.Paused}}"), "running false");
    web.exec(&[], &["echo", "awake"]).ok().prints("awake");
    web.call(&["pause"]).ok();
    web.remove();
}

fn limits_given_and_changed(podman: &Podman) {
    let web =
        podman.container(&["--memory", "64m", "--pids-limit", "50", "--cpus", "0.5", "--cpuset-cpus", "0"]);
    let read = |file: &str| web.exec(&[], &["cat", &format!("/sys/fs/cgroup/{file}")]).ok().text().to_owned();
    assert_eq!(read("memory.max"), "67108864");
    assert_eq!(read("memory.swap.max"), "67108864");
    assert_eq!(read("pids.max"), "50");
    assert_eq!(read("cpu.max"), "50000 100000");
    assert_eq!(read("cpuset.cpus"), "0");
    web.call(&["update", "--memory", "128m", "--cpus", "0.25", "--pids-limit", "40"]).ok();
    assert_eq!(read("memory.max"), "134217728");
    assert_eq!(read("cpu.max"), "25000 100000");
    assert_eq!(read("pids.max"), "40");
    assert_eq!(read("cpuset.cpus"), "0");
    web.remove();
}

fn statistics(podman: &Podman) {
    let web = podman.container(&[]);
    let line = web.call(&["stats", "--no-stream", "--format", "{{.ID}} {{.PIDs}} {{.MemUsageBytes}}"]).ok();
    let fields: Vec<_> = line.text().split(' ').collect();
    assert!(web.id.starts_with(fields[0]), "{line:?}");
    assert!(fields[1].parse::<u32>().unwrap() >= 1, "{line:?}");
    assert!(!fields[2].starts_with("0B"), "{line:?}");
    podman.call(&["top", &web.name, "pid", "args"]).ok().shows("sleep");
    web.remove();
}

fn the_default_network(podman: &Podman) {
    let script = "ip -o -4 addr show eth0 && ping -c 1 -W 20 $(ip route | awk '/^default/ { print $3 }')";
    podman
        .call(&["run", "--rm", "--cap-add", "net_raw", IMAGE, "sh", "-c", script])
        .ok()
        .shows("1 packets received");
}

fn what_isolates(podman: &Podman) {
    podman
        .script(&["--read-only"], "touch /x 2>&1; touch /tmp/y && echo ok")
        .ok()
        .shows("Read-only")
        .shows("ok");
    podman.script(&["--user", "1000:1001"], "id -u; id -g").ok().prints("1000\n1001");
    let status = "grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t' | tr '\\n' ' '";
    podman
        .script(&["--cap-drop", "all", "--security-opt", "no-new-privileges"], status)
        .ok()
        .prints("CapEff:0000000000000000 NoNewPrivs:1 Seccomp:2");
    podman
        .script(&["--cap-drop", "all", "--cap-add", "net_raw"], status)
        .ok()
        .shows("CapEff:0000000000002000");
    podman.script(&["--init"], "cat /proc/1/cmdline").ok().shows("init");
    podman
        .script(&["--hostname", "web", "--ulimit", "nofile=64:128"], "hostname; ulimit -n")
        .ok()
        .prints("web\n64");
    podman
        .script(&["--sysctl", "net.ipv4.ip_default_ttl=77"], "cat /proc/sys/net/ipv4/ip_default_ttl")
        .ok()
        .prints("77");
    podman
        .script(&["--shm-size", "1m"], "df -k /dev/shm | tail -n 1 | awk '{ print $2 }'")
        .ok()
        .prints("1024");
}

fn what_opens(podman: &Podman) {
    let directory = tempfile::tempdir().unwrap();
    let volume = |options: &str| format!("{}:/data{options}", directory.path().display());
    podman.script(&["--volume", &volume("")], "echo hello >/data/file").ok();
    assert_eq!(std::fs::read_to_string(directory.path().join("file")).unwrap(), "hello\n");
    podman
        .script(&["--volume", &volume(":ro")], "cat /data/file; touch /data/x 2>&1; true")
        .ok()
        .shows("hello")
        .shows("Read-only");
    podman
        .script(&["--device", "/dev/fuse"], "test -c /dev/fuse && exec 3<>/dev/fuse && echo open")
        .ok()
        .prints("open");
    podman
        .script(&["--tmpfs", "/scratch:size=1m"], "df -k /scratch | tail -n 1 | awk '{ print $2 }'")
        .ok()
        .prints("1024");
    podman
        .script(
            &["--privileged"],
            "mount -t tmpfs none /mnt 2>&1 || mkdir /m && mount -t tmpfs none /m && echo mounted",
        )
        .ok()
        .shows("mounted");
    podman.script(&["--pid", "host", "--uts", "host", "--ipc", "host"], "hostname").ok().prints("vm");
}

fn health(podman: &Podman) {
    let options = ["--health-cmd", "test -e /fine", "--health-interval", "disable", "--health-retries", "1"];
    let web = podman.container(&options);
    web.call(&["healthcheck", "run"]).exits(1);
    web.exec(&[], &["touch", "/fine"]).ok();
    for _ in 0..5 {
        web.call(&["healthcheck", "run"]).ok();
    }
    assert_eq!(web.inspect("{{.State.Health.Status}}"), "healthy");
    web.remove();
}

fn signals(podman: &Podman) {
    let web = podman
        .detached(&[], "trap '' TERM; trap 'echo asked' USR1; echo up; sleep 1000 & while :; do wait; done");
    until("the program has its traps", || web.call(&["logs"]).ok().text() == "up");
    web.call(&["kill", "--signal", "USR1"]).ok();
    until("the signal arrives", || web.call(&["logs"]).ok().text() == "up\nasked");
    web.call(&["stop", "--time", "1"]).ok();
    assert_eq!(web.inspect("{{.State.ExitCode}}"), "137");
    web.remove();
}

fn a_terminal(podman: &Podman) {
    let run = ["run", "--rm", "--interactive", "--tty", "--network", "none", IMAGE, "sh"];
    podman.at_terminal(&run, "tty; exit 6\n").exits(6).shows("/dev/pts/0");
    let web = podman.container(&[]);
    let exec = ["exec", "--interactive", "--tty", &web.name, "sh"];
    podman.at_terminal(&exec, "tty; echo 1$((1 + 1))3; exit 7\n").exits(7).shows("/dev/pts/").shows("123");
    podman.at_terminal(&["exec", "--tty", &web.name, "test", "-t", "1"], "").ok();
    web.remove();
}

fn out_of_memory(podman: &Podman) {
    // conmon learns of it from memory.events, a while after: systemd must not have removed the
    // group with its last process. On a busy machine it misses the word even so, with crun too:
    // what is shown is that it can hear it.
    let script = "tail /dev/zero; killed=$?; sleep 3; exit $killed";
    let heard = || {
        let web = podman.detached(&["--memory", "20m", "--memory-swap", "20m"], script);
        web.call(&["wait"]).ok().prints("137");
        let told = web.inspect("{{.State.OOMKilled}}");
        web.remove();
        told == "true"
    };
    assert!((0..6).any(|_| heard()), "conmon never heard of it");
}

fn a_pod(podman: &Podman) {
    let pod = name();
    podman.call(&["pod", "create", "--name", &pod, "--network", "none", "--share", "net,ipc,uts,pid"]).ok();
    let run = |script: &str| podman.call(&["run", "--rm", "--pod", &pod, IMAGE, "sh", "-c", script]);
    let namespaces = "for n in net ipc uts pid; do readlink /proc/self/ns/$n; done";
    let (first, second) = (run(namespaces).ok().stdout, run(namespaces).ok().stdout);
    assert_eq!(first, second);
    let id = podman.call(&["pod", "inspect", "--format", "{{.ID}}", &pod]).ok().text().to_owned();
    podman.call(&["pod", "rm", "--force", "--time", "0", &pod]).ok();
    nothing_left(&id);
}

fn user_namespaces(podman: &Podman) {
    let ids = "awk '{ print $1, $3 }' /proc/self/uid_map; id -u; stat -c %u /bin";
    podman.script(&["--userns", "auto:size=1000"], ids).ok().prints("0 1000\n0\n0");
    podman.script(&["--uidmap", "0:200000:500", "--gidmap", "0:200000:500"], ids).ok().prints("0 500\n0\n0");
}

fn checkpoint_and_restore(podman: &Podman) {
    let web = podman.detached(&[], "n=0; while :; do n=$((n + 1)); echo $n >/count; sleep 0.1; done");
    let count = || web.exec(&[], &["cat", "/count"]).stdout.trim().parse::<u32>().unwrap_or(0);
    until("it counts", || count() > 3);
    web.call(&["container", "checkpoint"]).ok();
    assert_eq!(web.inspect("{{.State.Checkpointed}} {{.State.Running}}"), "true false");
    web.call(&["container", "restore"]).ok();
    assert_eq!(web.inspect("{{.State.Running}}"), "true");
    let first = count();
    assert!(first > 3, "it goes on counting from where it was: {first}");
    until("it goes on", || count() > first);
    web.remove();
}

/// podman makes the cgroups itself, without systemd.
fn the_other_driver(podman: &Podman) {
    let podman = &Podman { options: &["--cgroup-manager", "cgroupfs"], ..*podman };
    let web = podman.container(&["--memory", "64m"]);
    web.exec(&[], &["cat", "/sys/fs/cgroup/memory.max"]).ok().prints("67108864");
    let pid = web.inspect("{{.State.Pid}}");
    shell(&format!("grep ^0: /proc/{pid}/cgroup"))
        .ok()
        .prints(&format!("0::/libpod_parent/libpod-{}", web.id));
    web.call(&["pause"]).ok();
    web.call(&["unpause"]).ok();
    web.call(&["stop", "--time", "30"]).ok();
    web.remove();
}

fn an_image_is_built(podman: &Podman) {
    let directory = tempfile::tempdir().unwrap();
    let text =
        format!("FROM {IMAGE}\nRUN echo made >/made\nUSER 5\nCMD [\"sh\", \"-c\", \"cat /made; id -u\"]\n");
    std::fs::write(directory.path().join("Containerfile"), text).unwrap();
    let tag = name();
    let build =
        ["build", "--network", "none", "--pull=never", "--tag", &tag, directory.path().to_str().unwrap()];
    podman.call(&build).ok();
    podman.call(&["run", "--rm", "--network", "none", &tag]).ok().prints("made\n5");
    podman.call(&["rmi", &tag]).ok();
}
