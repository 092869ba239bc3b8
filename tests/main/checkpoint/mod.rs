//! `checkpoint` and `restore` against criu itself: runc-checkpoint(8), runc-restore(8), criu(8).
//!
//! Needs: criu, and a kernel that it can work with (`criu check`). Elsewhere the tests are skipped
//! and say so; on a machine made for them (EMERGENCE_TEST_MACHINE is set) they must run.

mod outside;

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::{Bundle, Env, Output, on_test_machine, until};

/// All its files are inside, so that no file of the test prevents a checkpoint.
const COUNT: &str = "exec </dev/null >>/log 2>&1; trap 'exit 7' TERM; i=0; while :; do i=$((i+1)); echo $i; usleep 50000; done";

fn env() -> Option<Env> {
    let env = Env::new()?;
    let works = env.program("/bin/sh", &["-c", "criu check"]).run();
    if works.code != 0 {
        assert!(!on_test_machine(), "criu does not work here: {works:?}");
        println!("skipped: criu is not installed, or does not work with this kernel");
        return None;
    }
    Some(env)
}

/// A container that counts, and the bundle that it has been made from.
struct Counter<'a> {
    env: &'a Env,
    bundle: Bundle,
}

impl<'a> Counter<'a> {
    fn start(env: &'a Env, change: impl FnOnce(Bundle) -> Bundle) -> Self {
        let counter = Self { env, bundle: change(env.script(COUNT)) };
        env.launch("web", &counter.bundle);
        counter.counts_on(0);
        counter
    }

    /// What it has counted to; the numbers are checked to be all there, each once.
    fn count(&self) -> usize {
        let text = fs::read_to_string(self.bundle.rootfs("log")).unwrap_or_default();
        let lines: Vec<_> = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
        for (index, line) in lines.iter().enumerate() {
            assert_eq!(line.trim(), (index + 1).to_string(), "it has gone on where it was");
        }
        lines.len()
    }

    fn counts_on(&self, from: usize) {
        until("it counts on", || self.count() > from + 2);
    }

    fn images(&self, name: &str) -> String {
        self.env.dir().join(name).to_str().unwrap().to_owned()
    }

    fn checkpoint(&self, name: &str, options: &[&str]) -> Output {
        let images = self.images(name);
        let args = [&["checkpoint", "--image-path", &images], options, &["web"]].concat();
        self.env.runtime(&args)
    }

    fn restore(&self, name: &str, options: &[&str]) -> Output {
        let images = self.images(name);
        let args = [&["restore", "-d", "-b", self.bundle.str(), "--image-path", &images], options, &["web"]]
            .concat();
        self.env.runtime(&args)
    }

    /// Once there and back.
    fn round(&self, options: &[&str]) {
        self.checkpoint("round", options).ok();
        let count = self.count();
        self.restore("round", options).ok();
        assert_eq!(self.env.state("web")["status"], "running");
        self.counts_on(count);
    }

    fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.env.pid("web"))).unwrap()
    }

    fn end(self) {
        self.env.delete("web");
    }
}

#[test]
fn it_goes_on_where_it_was() {
    let Some(env) = env() else { return };
    let counter = Counter::start(&env, |bundle| bundle);
    counter.checkpoint("images", &[]).ok();
    // As with runc: the container is gone, so that its name is free for the restored one.
    env.runtime(&["state", "web"]).fails().says("container does not exist");
    let count = counter.count();
    let pid_file = env.dir().join("pid");
    counter.restore("images", &["--pid-file", pid_file.to_str().unwrap()]).ok();
    counter.counts_on(count);
    let pid = env.pid("web").to_string();
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), pid);
    assert_eq!(env.state("web")["status"], "running");
    assert!(counter.proc("cgroup").contains(&env.cgroup_parent()), "{}", counter.proc("cgroup"));
    // Again, from a container that was restored.
    counter.round(&[]);
    env.runtime(&["kill", "web", "TERM"]).ok();
    env.wait_for("web", "stopped");
    env.runtime(&["delete", "web"]).ok();
}

#[test]
fn it_can_go_on_beside_its_images() {
    let Some(env) = env() else { return };
    let counter = Counter::start(&env, |bundle| bundle);
    let work = env.dir().join("work");
    counter.checkpoint("images", &["--leave-running", "--work-path", work.to_str().unwrap()]).ok();
    assert!(work.join("dump.log").exists() && !env.dir().join("images/dump.log").exists());
    counter.counts_on(counter.count());
    counter.restore("images", &[]).fails().says("already exists");
    counter.counts_on(counter.count());
    counter.end();
}

#[test]
fn memory_ahead_of_the_rest() {
    let Some(env) = env() else { return };
    let counter = Counter::start(&env, |bundle| bundle);
    counter.checkpoint("first", &["--pre-dump"]).ok();
    assert!(!env.dir().join("first/inventory.img").exists() || !env.dir().join("first/core-1.img").exists());
    counter.checkpoint("second", &["--pre-dump", "--parent-path", "../first"]).ok();
    counter.counts_on(counter.count());
    counter.checkpoint("third", &["--parent-path", "/tmp"]).fails().says("must be relative");
    counter.checkpoint("third", &["--parent-path", "../none"]).fails().says("--parent-path");
    counter.checkpoint("third", &["--parent-path", "../second", "--auto-dedup"]).ok();
    assert_eq!(fs::read_link(env.dir().join("third/parent")).unwrap(), PathBuf::from("../second"));
    let count = counter.count();
    counter.restore("third", &["--auto-dedup"]).ok();
    counter.counts_on(count);
    counter.end();
}

#[test]
fn in_the_foreground_its_status_comes_back() {
    let Some(env) = env() else { return };
    let counter = Counter::start(&env, |bundle| bundle);
    counter.checkpoint("images", &[]).ok();
    let count = counter.count();
    let images = counter.images("images");
    let restored = env.call(&["restore", "-b", counter.bundle.str(), "--image-path", &images, "web"]).start();
    counter.counts_on(count);
    // The signal goes through the runtime.
    kill_process(Pid::from_raw(restored.pid()).unwrap(), Signal::TERM).unwrap();
    restored.wait().exits(7);
    env.runtime(&["state", "web"]).fails().says("container does not exist");
}

#[test]
fn cgroup_modes() {
    let Some(env) = env() else { return };
    for mode in ["soft", "full", "strict", "ignore"] {
        let counter = Counter::start(&env, |bundle| {
            bundle
                .set("linux/resources/pids", json!({"limit": 77}))
                .set("linux/resources/memory", json!({"limit": 99999744}))
        });
        let before = counter.proc("cgroup");
        counter.round(&["--manage-cgroups-mode", mode]);
        assert_eq!(counter.proc("cgroup"), before, "{mode}");
        let group = PathBuf::from(format!("/sys/fs/cgroup{}", before.trim().trim_start_matches("0::")));
        let limit = |file: &str| fs::read_to_string(group.join(file)).unwrap_or_default();
        if !limit("pids.max").is_empty() || on_test_machine() {
            assert_eq!((limit("pids.max").trim(), limit("memory.max").trim()), ("77", "99999744"), "{mode}");
        }
        if mode == "strict" {
            counter.checkpoint("again", &[]).ok();
            fs::create_dir(&group).unwrap();
            let strict = ["--manage-cgroups-mode", mode];
            counter.restore("again", &strict).fails().says("already exists");
        }
        counter.end();
    }
    env.runtime(&["checkpoint", "--manage-cgroups-mode", "hard", "web"])
        .fails()
        .says("soft, full, strict, ignore");
}

#[test]
fn into_another_cgroup() {
    let Some(env) = env() else { return };
    let mut counter = Counter::start(&env, |bundle| bundle);
    counter.checkpoint("images", &["--manage-cgroups-mode", "ignore"]).ok();
    let count = counter.count();
    let other = format!("{}/other", env.cgroup_parent());
    counter.bundle = counter.bundle.set("linux/cgroupsPath", json!(other));
    counter.bundle.write();
    counter.restore("images", &["--manage-cgroups-mode", "ignore"]).ok();
    counter.counts_on(count);
    assert!(counter.proc("cgroup").trim().ends_with(&other), "{}", counter.proc("cgroup"));
    counter.end();
}

#[test]
fn hooks_run_when_it_is_restored() {
    let Some(env) = env() else { return };
    let hook = |name: &str| {
        let file = env.dir().join(name);
        json!({"path": "/bin/sh", "args": ["sh", "-c", format!("cat >>{}", file.display())]})
    };
    let counter = Counter::start(&env, |bundle| {
        bundle
            .push("hooks/prestart", hook("prestart"))
            .push("hooks/createRuntime", hook("runtime"))
            .push("hooks/poststop", hook("poststop"))
    });
    let times = |name: &str| {
        fs::read_to_string(env.dir().join(name)).unwrap_or_default().matches("\"ociVersion\"").count()
    };
    assert_eq!((times("prestart"), times("runtime"), times("poststop")), (1, 1, 0));
    counter.round(&[]);
    assert_eq!((times("prestart"), times("runtime"), times("poststop")), (2, 2, 1));
    counter.checkpoint("images", &[]).ok();
    let broken = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo no; exit 3"]});
    let counter = Counter { bundle: counter.bundle.push("hooks/createRuntime", broken), env: &env };
    counter.bundle.write();
    counter.restore("images", &[]).fails().says("hooks.createRuntime[1]").says("no");
    env.runtime(&["state", "web"]).fails().says("container does not exist");
}

#[test]
fn pages_that_are_fetched_later() {
    let Some(env) = env() else { return };
    let counter = Counter::start(&env, |bundle| bundle);
    let ready = env.dir().join("ready");
    let options = "--lazy-pages --page-server 127.0.0.1:27277 --manage-cgroups-mode ignore --status-fd 5";
    let script = format!(
        "exec {} --root {} checkpoint --image-path images {options} web 5>ready",
        env.binary().display(),
        env.root().display()
    );
    let dump = env.program("/bin/sh", &["-c", &script]).start();
    // The byte comes when pages can be fetched; the dump goes on until all are.
    until("the page server is ready", || fs::read(&ready).is_ok_and(|bytes| bytes == [0]));
    let server = ["lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", "27277"];
    let pages = env.program("criu", &[&server[..], &["-D", "images", "-o", "lazy.log"]].concat()).start();
    until("pages are served", || env.dir().join("images/lazy-pages.socket").exists());
    let group = json!(format!("{}/other", env.cgroup_parent()));
    let counter = Counter { bundle: counter.bundle.set("linux/cgroupsPath", group), env: &env };
    counter.bundle.write();
    let images = counter.images("images");
    let here = ["restore", "-d", "-b", counter.bundle.str(), "--image-path", &images, "--lazy-pages"];
    env.runtime(&[&here[..], &["--manage-cgroups-mode", "ignore", "other"]].concat()).ok();
    pages.wait().ok();
    dump.wait().ok();
    counter.counts_on(counter.count());
    env.delete("other");
    env.runtime(&["state", "web"]).fails().says("container does not exist");
}

#[test]
fn without_criu_or_root() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the words are ours") {
        return;
    }
    let bundle = env.script("while :; do usleep 50000; done");
    env.launch("web", &bundle);
    let missing = "criu is not installed; checkpoint and restore need it (package criu)";
    env.call(&["checkpoint", "web"]).env("PATH", "").run().fails().says(missing);
    env.call(&["restore", "-b", bundle.str(), "other"]).env("PATH", "").run().fails().says(missing);
    env.runtime(&["--rootless", "true", "checkpoint", "web"]).fails().says("need root");
    assert!(!env.dir().join("checkpoint").exists(), "nothing is left behind");
    env.runtime(&["state", "other"]).fails().says("container does not exist");
    env.delete("web");
}

#[test]
fn options_from_a_file() {
    let Some(env) = env() else { return };
    let file = env.dir().join("criu.conf");
    let counter = Counter::start(&env, |bundle| {
        bundle.set("annotations/org.criu.config", json!(file.to_str().unwrap()))
    });
    counter.checkpoint("images", &["--leave-running"]).fails().says("annotation org.criu.config");
    fs::write(&file, "log-file other.log\n").unwrap();
    counter.checkpoint("images", &["--leave-running"]).ok();
    assert!(env.dir().join("images/other.log").exists());
    counter.end();
}

#[test]
fn what_cannot_be() {
    let Some(env) = env() else { return };
    let counter = Counter::start(&env, |bundle| bundle);
    env.runtime(&["checkpoint", "none"]).fails().says("container does not exist");
    counter.checkpoint("images", &["--status-fd", "77"]).fails().says("--status-fd 77").says("not open");
    counter.checkpoint("images", &["--page-server", "here"]).fails().says("ADDRESS:PORT");
    counter.restore("none", &[]).fails().says("no checkpoint in").says("no such file or directory");
    counter.counts_on(counter.count());
    env.runtime(&["kill", "web", "KILL"]).ok();
    env.wait_for("web", "stopped");
    counter.checkpoint("images", &[]).fails().says("stopped state");
    counter.end();
    env.create("web", &env.script("true")).ok();
    env.runtime(&["checkpoint", "web"]).fails().says("created state");
    env.delete("web");
    // A restore that criu gives up: the log is named and quoted, and nothing stays.
    let counter = Counter::start(&env, |bundle| bundle);
    counter.checkpoint("images", &[]).ok();
    fs::remove_file(env.dir().join("images/core-1.img")).unwrap();
    counter.restore("images", &[]).fails().says("criu's restore failed: ").says("images/restore.log");
    env.runtime(&["state", "web"]).fails().says("container does not exist");
}

#[test]
fn delete_cleans_up_after_a_restore_killed_at_each_step() {
    let Some(env) = env() else { return };
    if !env.holds() {
        return;
    }
    let counter =
        Counter::start(&env, |bundle| bundle.push("hooks/createRuntime", json!({"path": "/bin/true"})));
    counter.checkpoint("images", &[]).ok();
    let count = counter.count();
    let images = counter.images("images");
    for step in ["recorded", "cgroup", "criu", "cloned", "hooks", "created"] {
        let args = ["restore", "-d", "-b", counter.bundle.str(), "--image-path", &images, "web"];
        let running = env.call(&args).env("EMERGENCE_RUNC_HOLD", step).start();
        let pid = running.pid();
        until(&format!("restore stops at {step}"), || {
            let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            text.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        });
        env.runtime(&["state", "web"]).ok();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        running.wait();
        env.delete("web");
        env.runtime(&["state", "web"]).fails().says("container does not exist");
        let log = counter.bundle.rootfs("log");
        // What ran for a moment in the last step has counted.
        let text = fs::read_to_string(&log).unwrap();
        fs::write(&log, text.lines().take(count).map(|line| format!("{line}\n")).collect::<String>())
            .unwrap();
    }
    counter.restore("images", &[]).ok();
    counter.counts_on(count);
    counter.end();
}

#[test]
fn a_paused_container_runs_when_it_is_restored() {
    let Some(env) = env() else { return };
    let counter = Counter::start(&env, |bundle| bundle);
    let group = format!("/sys/fs/cgroup{}", counter.proc("cgroup").trim().trim_start_matches("0::"));
    env.shell(&format!("echo 1 >{group}/cgroup.freeze")).ok();
    counter.round(&[]);
    counter.end();
}
