//! podman as an unprivileged user, below that user's own systemd.

use crate::podman::Podman;
use crate::support::on_both;

on_both! { Podman::rootless;
    a_life
    limits
    the_users_network
    the_users_files
    a_terminal
}

fn a_life(podman: &Podman) {
    podman.script(&[], "echo hello; id -u; exit 3").exits(3).prints("hello\n0");
    let web = podman.container(&[]);
    assert_eq!(web.inspect("{{.State.Status}}"), "running");
    web.exec(&["--user", "1000"], &["id", "-u"]).ok().prints("1000");
    web.exec(&[], &["sh", "-c", "exit 5"]).exits(5);
    web.call(&["pause"]).ok();
    assert_eq!(web.inspect("{{.State.Status}}"), "paused");
    web.call(&["unpause"]).ok();
    web.call(&["stats", "--no-stream", "--format", "{{.PIDs}}"]).ok();
    web.call(&["stop", "--time", "30"]).ok();
    assert_eq!(web.inspect("{{.State.Status}} {{.State.ExitCode}}"), "exited 0");
    web.call(&["start"]).ok();
    web.call(&["kill", "--signal", "KILL"]).ok();
    web.call(&["wait"]).ok().prints("137");
    web.remove();
}

fn limits(podman: &Podman) {
    let web = podman.container(&["--memory", "64m", "--pids-limit", "50", "--cpus", "0.5"]);
    let read = |file: &str| web.exec(&[], &["cat", &format!("/sys/fs/cgroup/{file}")]).ok().text().to_owned();
    assert_eq!(read("memory.max"), "67108864");
    assert_eq!(read("pids.max"), "50");
    assert_eq!(read("cpu.max"), "50000 100000");
    web.call(&["update", "--memory", "128m"]).ok();
    assert_eq!(read("memory.max"), "134217728");
    web.remove();
}

fn the_users_network(podman: &Podman) {
    let script = "ip -o -4 addr show | grep -v ' lo ' | grep -c 'inet '";
    podman.call(&["run", "--rm", "localhost/busybox", "sh", "-c", script]).ok().prints("1");
}

fn the_users_files(podman: &Podman) {
    let id = "id -u; stat -c %u /data; touch /data/new && stat -c %u /data/new; rm /data/new";
    let volume = ["--volume", "/home/user:/data"];
    podman.script(&volume, id).ok().prints("0\n0\n0");
    let keep = ["--userns", "keep-id", volume[0], volume[1]];
    podman.script(&keep, id).ok().prints("1000\n1000\n1000");
    podman.script(&["--read-only"], "touch /x 2>&1; true").ok().shows("Read-only");
}

fn a_terminal(podman: &Podman) {
    // as-user passes pipes, not a terminal, so one is made on the other side of it.
    let run = "script --quiet --return --command 'podman --runtime RUNTIME run --rm --interactive --tty --network none localhost/busybox sh' /dev/null";
    let run = format!("echo 'tty; exit 6' | {}", run.replace("RUNTIME", podman.runtime().path()));
    crate::support::call("as-user", &["sh", "-c", &run]).exits(6).shows("/dev/pts/0");
}
