//! Descriptors of the runtime that reach the container, and a working directory outside of it
//! (CVE-2024-21626).

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::UP;
use crate::support::Env;

#[test]
fn a_link_to_a_descriptor_runs_no_program_of_the_host() {
    let Some(env) = Env::new() else { return };
    let program = env.dir().join("host-busybox");
    fs::copy("/bin/busybox", &program).unwrap();
    let names: Vec<_> = (3..16).map(|number| format!("/fd{number}")).collect();
    let script = names.iter().fold(String::new(), |script, name| format!("{script} {name} echo broken out;"));
    let bundle = env.script(&script);
    for (number, name) in (3..16).zip(&names) {
        symlink(format!("/proc/self/fd/{number}/{UP}{}", program.display()), bundle.rootfs(name)).unwrap();
    }
    env.run(&bundle).exits(127);
    let mut bundle = bundle;
    for name in &names {
        bundle = bundle.set("process/args", json!([name, "echo", "broken out"]));
        env.run(&bundle).fails().prints("");
        let id = env.id();
        env.create(&id, &bundle).fails();
    }
}

#[test]
fn a_link_to_a_descriptor_reads_no_file_of_the_host() {
    let Some(env) = Env::new() else { return };
    let passwd = env.dir().join("host-passwd");
    fs::write(&passwd, "root:x:0:0:root:/of-the-host:/bin/sh\n").unwrap();
    let bundle = env.bundle(&["printenv", "HOME"]).set("process/args", json!(["sh", "-c", "echo $HOME"]));
    for number in 3..16 {
        let _ = fs::remove_file(bundle.rootfs("etc/passwd"));
        let link = format!("/proc/self/fd/{number}/{UP}{}", passwd.display());
        symlink(link, bundle.rootfs("etc/passwd")).unwrap();
        let id = env.id();
        let output = env.launch(&id, &bundle);
        env.wait_for(&id, "stopped");
        assert_eq!(output.later(), "/\n", "descriptor {number}");
        env.delete(&id);
    }
}

#[test]
fn descriptors_of_the_caller_are_not_inherited() {
    let Some(env) = Env::new() else { return };
    env.launch("web", &env.bundle(&["sleep", "1000"]));
    let listed =
        env.shell("exec 7</etc; exec $RUNTIME --root $ROOT exec web sh -c 'ls /proc/$$/fd; true'").ok();
    assert_eq!(listed.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2"]);
    let passed = "exec 3</etc/passwd; exec $RUNTIME --root $ROOT exec --preserve-fds 1 web sh -c 'ls /proc/$$/fd; head -c 4 <&3'";
    let listed = env.shell(passed).ok();
    assert_eq!(listed.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3", "root"]);
    env.delete("web");
}

#[test]
fn a_link_to_a_descriptor_is_refused_as_working_directory() {
    let Some(env) = Env::new() else { return };
    // With a user namespace, a process that enters is in the container's pid namespace from the
    // start, and so has a /proc/self.
    let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let bundle = env.bundle(&["sleep", "1000"]).namespace("user", None);
    let bundle = bundle.set("linux/uidMappings", mapping.clone()).set("linux/gidMappings", mapping);
    for number in 3..16 {
        symlink(format!("/proc/self/fd/{number}"), bundle.rootfs(&format!("tmp/fd{number}"))).unwrap();
    }
    env.launch("web", &bundle);
    for number in 3..16 {
        let cwd = format!("/tmp/fd{number}");
        env.runtime(&["exec", "--cwd", &cwd, "web", "pwd"]).exits(255);
    }
    env.delete("web");
}

/// Variables of socket activation that were meant for another process: every child of an activated
/// service inherits them, and its descriptor 3 is any file.
#[test]
fn descriptors_of_a_stale_socket_activation_are_not_inherited() {
    let Some(env) = Env::new() else { return };
    if env.differs("crun", "does not look at LISTEN_PID") {
        return;
    }
    let list = "(ls /proc/$$/fd) >/tmp/list; tr '\\n' ' ' </tmp/list; env | grep LISTEN; true";
    let bundle = env.script(list);
    bundle.write();
    env.launch("web", &env.bundle(&["sleep", "1000"]));
    let commands = [
        format!("run -b {} ID", bundle.str()),
        format!("create -b {} ID", bundle.str()),
        format!("exec web sh -c \"{}\"", list.replace('$', "\\$")),
    ];
    for stale in [
        "LISTEN_FDS=1",
        "LISTEN_FDS=1 LISTEN_PID=1",
        "LISTEN_FDS=2 LISTEN_PID=",
        "LISTEN_FDS=1 LISTEN_PID=$PPID",
        "LISTEN_PID=$$",
    ] {
        for command in &commands {
            let id = env.id();
            let command = command.replace("ID", &id);
            let output = env
                .shell(&format!(
                    "exec 3</etc/passwd 4</etc; export {stale}; exec $RUNTIME --root $ROOT {command}"
                ))
                .ok();
            if command.starts_with("create") {
                env.runtime(&["start", &id]).ok();
                env.wait_for(&id, "stopped");
                env.delete(&id);
            }
            assert_eq!(output.later().trim(), "0 1 2", "{stale} {command}");
        }
    }
    env.delete("web");
}

/// The runtime's own are at these numbers by then, its state directory among them: a way out of the
/// container.
#[test]
fn descriptors_of_the_runtime_are_not_preserved() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others pass on what they have there") {
        return;
    }
    let list = "(ls /proc/$$/fd) >/tmp/list; tr '\\n' ' ' </tmp/list";
    let bundle = env.script(list);
    bundle.write();
    env.launch("web", &env.bundle(&["sleep", "1000"]));
    let log = env.dir().join("run/log");
    let global = format!("$RUNTIME --root $ROOT --log {}", log.display());
    let close = "exec 3<&- 4<&- 5<&- 6<&-";
    let commands = [
        format!("exec --preserve-fds 1 web sh -c \"{}\"", list.replace('$', "\\$")),
        format!("exec --preserve-fds 4 web sh -c \"{}\"", list.replace('$', "\\$")),
        format!("run --preserve-fds 4 -b {} ID", bundle.str()),
        format!("create --preserve-fds 4 -b {} ID", bundle.str()),
    ];
    for command in commands {
        let listening = command.replace("--preserve-fds 1 ", "").replace("--preserve-fds 4 ", "");
        for (activated, command) in [("true", command), ("export LISTEN_PID=$$ LISTEN_FDS=4", listening)] {
            let id = env.id();
            let command = command.replace("ID", &id);
            let output = env.shell(&format!("{close}; {activated}; exec {global} {command}")).ok();
            if command.starts_with("create") {
                env.runtime(&["start", &id]).ok();
                env.wait_for(&id, "stopped");
                env.delete(&id);
            }
            assert_eq!(output.later().trim(), "0 1 2", "{activated} {command}");
        }
    }
    env.delete("web");
}

#[test]
fn a_descriptor_is_refused_as_working_directory() {
    let Some(env) = Env::new() else { return };
    let marker = env.dir().join("marker");
    fs::write(&marker, "").unwrap();
    let script = format!(
        "p=.; for i in 1 2 3 4 5 6 7 8; do test -e $p{} && echo out; p=$p/..; done; true",
        marker.display()
    );
    let bundle = env.script(&script).set("process/cwd", json!("/link"));
    symlink(env.dir(), bundle.rootfs("link")).unwrap();
    assert_eq!(env.run(&bundle).stdout, "", "a link to a directory of the host");
    for number in 3..16 {
        for up in ["", "/..", "/../.."] {
            let cwd = format!("/proc/self/fd/{number}{up}");
            let bundle = env.script(&script).set("process/cwd", json!(cwd));
            assert_eq!(env.run(&bundle).stdout, "", "{cwd}");
        }
    }
    env.launch("web", &env.bundle(&["sleep", "1000"]));
    for number in 3..16 {
        let cwd = format!("/proc/self/fd/{number}");
        let output = env.runtime(&["exec", "--cwd", &cwd, "web", "sh", "-c", &script]);
        assert_eq!(output.stdout, "", "exec in {cwd}");
    }
    env.delete("web");
}

/// The state directory holds the fifo that starts the container, and what `exec` goes by; the log
/// is read by engines.
#[test]
fn descriptors_of_log_and_state_directory_are_not_inherited() {
    let Some(env) = Env::new() else { return };
    let log = env.dir().join("run/log");
    let list = "(ls -l /proc/$$/fd) >/tmp/list; grep -c -e '->' /tmp/list; grep -e /log -e /state -e fifo -e socket: -e anon_inode /tmp/list; true";
    let bundle = env.script(list);
    bundle.write();
    let log = log.to_str().unwrap();
    for command in ["run", "create"] {
        let output = env.runtime(&["--log", log, command, "-b", bundle.str(), command]);
        if command == "create" {
            env.runtime(&["start", command]).ok();
            env.wait_for(command, "stopped");
            env.delete(command);
        }
        assert_eq!(output.ok().later(), "3\n", "{command}");
    }
    env.launch("web", &env.bundle(&["sleep", "1000"]));
    let output = env.runtime(&["--log", log, "exec", "web", "sh", "-c", list]);
    assert_eq!(output.ok().stdout, "3\n", "exec");
    env.delete("web");
}
