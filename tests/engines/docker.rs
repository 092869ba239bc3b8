//! Docker, with its containers in systemd's scopes, and once with cgroups of its own making.

use std::fs;
use std::sync::{RwLock, RwLockReadGuard};

use crate::support::{Output, Runtime, call, name, nothing_left, on_both, shell, terminal, until};

/// Docker with a runtime. While one lives the daemon stays as it is.
pub(crate) struct Docker {
    runtime: Runtime,
    _steady: Option<RwLockReadGuard<'static, ()>>,
}

struct Container {
    name: String,
    id: String,
}

/// Held for writing by a test that restarts the daemon.
static DAEMON: RwLock<()> = RwLock::new(());

impl Docker {
    /// Has the daemon run.
    pub(crate) fn new(runtime: Runtime) -> Self {
        let steady = DAEMON.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        shell("systemctl start docker").ok();
        Self { runtime, _steady: Some(steady) }
    }

    /// `docker run`.
    fn run(&self, options: &[&str], program: &[&str]) -> Output {
        docker(&[&["run", "--runtime", self.runtime.name()], options, &["busybox"], program].concat())
    }

    /// `docker run --rm` of a shell script, without a network.
    fn script(&self, options: &[&str], script: &str) -> Output {
        self.run(&[&["--rm", "--network", "none"], options].concat(), &["sh", "-c", script])
    }

    /// A running container, without a network, that ends on SIGTERM.
    fn container(&self, options: &[&str]) -> Container {
        self.detached(options, "trap 'exit 0' TERM; sleep 1000 & while :; do wait; done")
    }

    fn detached(&self, options: &[&str], script: &str) -> Container {
        let name = name();
        let first = ["--detach", "--network", "none", "--name", &name];
        let id = self.run(&[&first, options].concat(), &["sh", "-c", script]).ok().text().to_owned();
        Container { name, id }
    }
}

/// Any of its commands.
pub(crate) fn docker(args: &[&str]) -> Output {
    call("docker", args)
}

impl Container {
    /// One of Docker's commands whose last word is the container's name.
    fn call(&self, args: &[&str]) -> Output {
        docker(&[args, &[&self.name]].concat())
    }

    fn exec(&self, options: &[&str], program: &[&str]) -> Output {
        docker(&[&["exec"], options, &[self.name.as_str()], program].concat())
    }

    fn inspect(&self, format: &str) -> String {
        self.call(&["inspect", "--format", format]).ok().text().to_owned()
    }

    #[track_caller]
    fn remove(self) {
        self.call(&["rm", "--force"]).ok();
        nothing_left(&self.id);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.call(&["rm", "--force"]);
        }
    }
}

on_both! { Docker::new;
    a_program_and_its_exit_status
    a_whole_life
    one_more_process
    limits_given_and_changed
    out_of_memory
    restarted_by_itself
    health
    what_isolates
    the_default_network
}

on_both! { |runtime| runtime; the_other_driver }

fn a_program_and_its_exit_status(docker: &Docker) {
    docker.script(&[], "echo hello; exit 3").exits(3).prints("hello");
    let run = |program: &str| docker.run(&["--rm", "--network", "none"], &[program]);
    let (missing, forbidden) =
        (run("nonesuch").says("nonesuch"), run("/etc/passwd").says("ermission denied"));
    // Docker looks for runc's words in the message, and takes crun's for a failure of the runtime.
    if docker.runtime == Runtime::Ours {
        missing.exits(127);
        forbidden.exits(126);
    } else {
        assert!(missing.code >= 125 && forbidden.code >= 125);
    }
}

fn a_whole_life(docker: &Docker) {
    let script = "trap 'echo told; exit 0' TERM; echo up; sleep 1000 & while :; do wait; done";
    let web = docker.detached(&[], script);
    assert_eq!(
        web.inspect("{{.State.Status}} {{.HostConfig.Runtime}}"),
        format!("running {}", docker.runtime.name())
    );
    until("the program says up", || web.call(&["logs"]).ok().text() == "up");
    let pid: u32 = web.inspect("{{.State.Pid}}").parse().unwrap();
    assert!(shell(&format!("cat /proc/{pid}/cmdline")).ok().stdout.contains("echo told"));
    web.call(&["top"]).ok().shows("sleep");
    let line = web.call(&["stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}"]).ok();
    assert!(!line.text().starts_with("0 ") && !line.text().contains(" 0B / "), "{line:?}");
    web.call(&["pause"]).ok();
    assert_eq!(web.inspect("{{.State.Status}}"), "paused");
    web.call(&["unpause"]).ok();
    web.call(&["stop", "--time", "30"]).ok();
    assert_eq!(web.inspect("{{.State.Status}} {{.State.ExitCode}}"), "exited 0");
    web.call(&["start"]).ok();
    web.call(&["restart", "--time", "30"]).ok();
    until("it was told twice", || web.call(&["logs"]).ok().text() == "up\ntold\nup\ntold\nup");
    web.call(&["kill", "--signal", "KILL"]).ok();
    web.call(&["wait"]).ok().prints("137");
    web.remove();
}

fn one_more_process(docker: &Docker) {
    let web = docker.container(&["--env", "COLOUR=blue"]);
    web.exec(
        &["--env", "SHAPE=round", "--workdir", "/tmp", "--user", "1:2"],
        &["sh", "-c", "echo $COLOUR $SHAPE $(pwd) $(id -u) $(id -g); exit 5"],
    )
    .exits(5)
    .prints("blue round /tmp 1 2");
    // Of a program that is missing Docker says 126 here, with runc too.
    web.exec(&[], &["nonesuch"]).exits(126).shows("nonesuch");
    web.exec(&[], &["/etc/passwd"]).exits(126);
    web.exec(&["--detach"], &["touch", "/done"]).ok();
    until("the detached process did its work", || web.exec(&[], &["test", "-e", "/done"]).code == 0);
    let command = format!("docker exec --interactive --tty {} sh", web.name);
    terminal(&command, "tty; exit 7\n").exits(7).shows("/dev/pts/");
    web.remove();
}

fn limits_given_and_changed(docker: &Docker) {
    let web =
        docker.container(&["--memory", "64m", "--pids-limit", "50", "--cpus", "0.5", "--cpuset-cpus", "0"]);
    let read = |file: &str| web.exec(&[], &["cat", &format!("/sys/fs/cgroup/{file}")]).ok().text().to_owned();
    assert_eq!(read("memory.max"), "67108864");
    assert_eq!(read("pids.max"), "50");
    assert_eq!(read("cpu.max"), "50000 100000");
    assert_eq!(read("cpuset.cpus"), "0");
    web.call(&[
        "update",
        "--memory",
        "128m",
        "--memory-swap",
        "192m",
        "--cpus",
        "0.25",
        "--pids-limit",
        "40",
    ])
    .ok();
    assert_eq!(read("memory.max"), "134217728");
    assert_eq!(read("memory.swap.max"), "67108864");
    assert_eq!(read("cpu.max"), "25000 100000");
    assert_eq!(read("pids.max"), "40");
    assert_eq!(read("cpuset.cpus"), "0");
    web.remove();
}

fn out_of_memory(docker: &Docker) {
    // As with podman: the shim reads memory.events a while after.
    let script = "tail /dev/zero; killed=$?; sleep 3; exit $killed";
    let heard = || {
        let web = docker.detached(&["--memory", "20m", "--memory-swap", "20m"], script);
        web.call(&["wait"]).ok().prints("137");
        let told = web.inspect("{{.State.OOMKilled}}");
        web.remove();
        told == "true"
    };
    assert!((0..6).any(|_| heard()), "the shim never heard of it");
}

fn restarted_by_itself(docker: &Docker) {
    let web = docker.detached(&["--restart", "on-failure:2"], "exit 1");
    until("it was started three times", || web.inspect("{{.RestartCount}} {{.State.Status}}") == "2 exited");
    web.remove();
}

fn health(docker: &Docker) {
    let options = [
        "--health-cmd",
        "test -e /fine",
        "--health-interval",
        "1s",
        "--health-retries",
        "1",
        "--health-timeout",
        "30s",
    ];
    let web = docker.container(&options);
    let status = |want: &str| until(want, || web.inspect("{{.State.Health.Status}}") == want);
    status("unhealthy");
    web.exec(&[], &["touch", "/fine"]).ok();
    status("healthy");
    web.remove();
}

fn what_isolates(docker: &Docker) {
    docker
        .script(&["--read-only", "--user", "1000:1001"], "touch /tmp/x 2>&1; id -u; id -g")
        .ok()
        .shows("Read-only")
        .shows("1000\n1001");
    let status = "grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t' | tr '\\n' ' '; cat /proc/self/attr/current";
    docker
        .script(&["--cap-drop", "all", "--security-opt", "no-new-privileges"], status)
        .ok()
        // Debian confines crun itself too, and stacks the two.
        .shows("CapEff:0000000000000000 NoNewPrivs:1 Seccomp:2 ")
        .shows("docker-default");
    docker.script(&["--init"], "cat /proc/1/cmdline").ok().shows("init");
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "hello").unwrap();
    let volume = format!("{}:/data:ro", directory.path().display());
    docker
        .script(&["--volume", &volume], "cat /data/file; touch /data/x 2>&1; true")
        .ok()
        .shows("hello")
        .shows("Read-only");
    docker
        .script(&["--privileged"], "mkdir /m && mount -t tmpfs none /m && echo mounted")
        .ok()
        .prints("mounted");
}

fn the_default_network(docker: &Docker) {
    let script = "ip -o -4 addr show eth0 && ping -c 1 -W 20 $(ip route | awk '/^default/ { print $3 }')";
    docker.run(&["--rm"], &["sh", "-c", script]).ok().shows("1 packets received");
}

/// Restarts the daemon, however often that was done lately.
fn restart() {
    shell("systemctl reset-failed docker; systemctl restart docker").ok();
}

/// The daemon makes the cgroups itself, without systemd.
fn the_other_driver(runtime: &Runtime) {
    const CONFIGURATION: &str = "/etc/docker/daemon.json";
    let _alone = DAEMON.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let before = fs::read_to_string(CONFIGURATION).unwrap();
    let mut changed: serde_json::Value = serde_json::from_str(&before).unwrap();
    changed["exec-opts"] = serde_json::json!(["native.cgroupdriver=cgroupfs"]);
    fs::write(CONFIGURATION, changed.to_string()).unwrap();
    restart();
    let lived = std::panic::catch_unwind(|| {
        let docker = Docker { runtime: *runtime, _steady: None };
        let web = docker.container(&["--memory", "64m"]);
        web.exec(&[], &["cat", "/sys/fs/cgroup/memory.max"]).ok().prints("67108864");
        let pid = web.inspect("{{.State.Pid}}");
        shell(&format!("grep ^0: /proc/{pid}/cgroup")).ok().prints(&format!("0::/docker/{}", web.id));
        web.call(&["update", "--pids-limit", "40"]).ok();
        web.exec(&[], &["cat", "/sys/fs/cgroup/pids.max"]).ok().prints("40");
        web.call(&["stop", "--time", "30"]).ok();
        web.remove();
    });
    fs::write(CONFIGURATION, before).unwrap();
    restart();
    if let Err(panic) = lived {
        std::panic::resume_unwind(panic);
    }
}
