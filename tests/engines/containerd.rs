//! containerd, through its own client `ctr`, with cgroups of its own making and with systemd's.

use std::sync::Once;

use crate::support::{Output, Runtime, call, name, nothing_left, on_both, shell, terminal, until};

/// containerd with a runtime and a way to make cgroups.
struct Containerd {
    runtime: Runtime,
    systemd: bool,
}

const IMAGE: &str = "docker.io/library/busybox:latest";

impl Containerd {
    fn new(runtime: Runtime, systemd: bool) -> Self {
        static STARTED: Once = Once::new();
        STARTED.call_once(|| {
            shell("systemctl start containerd").ok();
        });
        Self { runtime, systemd }
    }

    fn plain(runtime: Runtime) -> Self {
        Self::new(runtime, false)
    }

    fn systemd(runtime: Runtime) -> Self {
        Self::new(runtime, true)
    }

    /// The words of `ctr run` for a container.
    fn words(&self, id: &str, options: &[&str], program: &[&str]) -> Vec<String> {
        let mut words = vec!["run", "--runc-binary", self.runtime.path()];
        let group = format!("system.slice:ctr:{id}");
        if self.systemd {
            words.extend(["--runc-systemd-cgroup", "--cgroup", &group]);
        }
        words.extend(options);
        words.extend([IMAGE, id]);
        words.extend(program);
        words.into_iter().map(str::to_owned).collect()
    }

    fn run(&self, id: &str, options: &[&str], program: &[&str]) -> Output {
        let words = self.words(id, options, program);
        ctr(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The directory of a container's cgroup.
    fn cgroup(&self, id: &str) -> String {
        match self.systemd {
            true => format!("/sys/fs/cgroup/system.slice/ctr-{id}.scope"),
            false => format!("/sys/fs/cgroup/default/{id}"),
        }
    }
}

fn ctr(args: &[&str]) -> Output {
    call("ctr", args)
}

/// Kills a container's process and removes all that containerd knows of it.
#[track_caller]
fn remove(id: &str) {
    ctr(&["task", "kill", "--signal", "KILL", id]).ok();
    until("the task has ended", || {
        ctr(&["task", "ls"]).ok().stdout.lines().all(|line| !line.starts_with(id) || line.contains("STOPPED"))
    });
    ctr(&["task", "delete", id]).ok().says("137");
    ctr(&["container", "delete", id]).ok();
    nothing_left(id);
}

mod plain {
    use super::*;
    on_both! { Containerd::plain; a_program a_life limits a_terminal }
}

mod systemd {
    use super::*;
    on_both! { Containerd::systemd; a_program a_life limits a_terminal }
}

fn a_program(containerd: &Containerd) {
    let id = name();
    containerd.run(&id, &["--rm"], &["sh", "-c", "echo hello; exit 3"]).exits(3).prints("hello");
    nothing_left(&id);
    let id = name();
    let missing = containerd.run(&id, &["--rm"], &["nonesuch"]);
    assert_ne!(missing.code, 0);
    assert!(missing.stderr.contains("nonesuch"), "{missing:?}");
    nothing_left(&id);
}

fn a_life(containerd: &Containerd) {
    let id = name();
    containerd.run(&id, &["--detach"], &["sleep", "1000"]).ok();
    let status = || {
        let list = ctr(&["task", "ls"]).ok().stdout;
        let line = list.lines().find(|line| line.starts_with(&id)).unwrap_or("").to_owned();
        line.split_whitespace().nth(2).unwrap_or("").to_owned()
    };
    assert_eq!(status(), "RUNNING");
    let exec =
        |name: &str, program: &[&str]| ctr(&[&["task", "exec", "--exec-id", name, &id], program].concat());
    exec("first", &["echo", "hello"]).ok().prints("hello");
    exec("second", &["sh", "-c", "exit 5"]).exits(5);
    assert_ne!(exec("third", &["nonesuch"]).code, 0);
    ctr(&["task", "ps", &id]).ok().shows("PID");
    ctr(&["task", "metrics", &id]).ok().shows("memory");
    ctr(&["task", "pause", &id]).ok();
    assert_eq!(status(), "PAUSED");
    ctr(&["task", "resume", &id]).ok();
    assert_eq!(status(), "RUNNING");
    remove(&id);
}

fn limits(containerd: &Containerd) {
    let id = name();
    let options = ["--detach", "--memory-limit", "67108864", "--cpus", "0.5"];
    containerd.run(&id, &options, &["sleep", "1000"]).ok();
    let read = |file: &str| std::fs::read_to_string(format!("{}/{file}", containerd.cgroup(&id))).unwrap();
    assert_eq!(read("memory.max"), "67108864\n");
    assert_eq!(read("cpu.max"), "50000 100000\n");
    remove(&id);
}

fn a_terminal(containerd: &Containerd) {
    let id = name();
    let words = containerd.words(&id, &["--rm", "--tty"], &["sh"]);
    terminal(&format!("ctr {}", words.join(" ")), "tty; exit 6\n").exits(6).shows("/dev/pts/0");
    nothing_left(&id);
}
