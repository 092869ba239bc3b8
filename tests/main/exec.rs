//! `exec`: one more process in a container, with everything that binds the container's own.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use serde_json::json;

use crate::support::{Bundle, Env, Output, on_test_machine, until};

const KINDS: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "uts", "user"];

/// A container that only waits.
fn waiting(env: &Env) -> Bundle {
    env.bundle(&["sleep", "1000"]).namespace("cgroup", None)
}

/// `exec web …`.
fn exec(env: &Env, words: &[&str]) -> Output {
    env.runtime(&[&["exec"], words].concat())
}

/// The cgroup of the only container.
fn group(env: &Env) -> PathBuf {
    env.cgroups().pop().expect("the container has a cgroup")
}

/// The host's id 100000 is root inside, and owns the root file system.
fn mapped(env: &Env) -> Bundle {
    let bundle = waiting(env);
    env.program("chown", &["-hR", "100000:100000", bundle.rootfs("").to_str().unwrap()]).run().ok();
    let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let bundle = bundle.namespace("user", None).set("linux/uidMappings", mapping.clone());
    bundle.set("linux/gidMappings", mapping)
}

/// That process `pid` is in all namespaces of the container `web` and in its cgroup.
fn assert_inside(env: &Env, pid: &str) {
    let init = env.pid("web");
    for kind in KINDS {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_eq!(of(pid), of(&init.to_string()), "{kind}");
    }
    let group = |pid: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        text.lines().find(|line| line.starts_with("0::")).map(str::to_owned)
    };
    assert_eq!(group(pid), group(&init.to_string()));
}

fn detached(env: &Env) -> String {
    let file = env.dir().join("run/exec.pid");
    exec(env, &["-d", "--pid-file", file.to_str().unwrap(), "web", "sleep", "1000"]).ok();
    fs::read_to_string(file).unwrap()
}

#[test]
fn it_is_in_the_containers_namespaces_and_cgroup() {
    let Some(env) = Env::new() else { return };
    env.launch("web", &waiting(&env));
    assert_inside(&env, &detached(&env));
    // The shell sees only the container's processes: the init, the detached one, itself.
    exec(&env, &["web", "sh", "-c", "ls /proc | grep -c '^[0-9]'"]).ok();
    env.delete("web");
}

#[test]
fn it_enters_a_user_namespace() {
    let Some(env) = Env::new() else { return };
    env.launch("web", &mapped(&env));
    let pid = detached(&env);
    assert_inside(&env, &pid);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t100000\t100000\t100000\t100000"), "{status}");
    exec(&env, &["-u", "5:6", "web", "sh", "-c", "id -u; id -g; touch /tmp/x && stat -c %u /tmp/x"])
        .ok()
        .prints("5\n6\n5");
    env.delete("web");
}

#[test]
fn a_rootless_user_can_exec() {
    let Some(env) = Env::rootless() else { return };
    env.launch("web", &env.bundle(&["sleep", "1000"]));
    let pid = detached(&env);
    let init = env.pid("web").to_string();
    for kind in KINDS.iter().filter(|kind| **kind != "cgroup") {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_eq!(of(&pid), of(&init), "{kind}");
    }
    exec(&env, &["web", "sh", "-c", "id -u; exit 3"]).exits(3).prints("0");
    exec(&env, &["web", "nothing"]).exits(255).says("executable file not found in $PATH");
    env.delete("web");
}

#[test]
fn a_created_container_can_be_entered_and_goes_on() {
    let Some(env) = Env::new() else { return };
    env.create("web", &env.script("echo started")).ok();
    exec(&env, &["web", "echo", "inside"]).ok().prints("inside");
    assert_eq!(env.state("web")["status"], "created");
    env.runtime(&["start", "web"]).ok();
    env.wait_for("web", "stopped");
    exec(&env, &["web", "true"]).exits(255).says("container not running");
    env.delete("web");
    exec(&env, &["web", "true"]).exits(255).says("container does not exist");
}

#[test]
fn the_status_is_the_programs() {
    let Some(env) = Env::new() else { return };
    env.launch("web", &waiting(&env));
    exec(&env, &["web", "sh", "-c", "exit 7"]).exits(7);
    exec(&env, &["web", "sh", "-c", "kill -9 $$"]).exits(128 + 9);
    exec(&env, &["web", "true"]).ok();
    env.delete("web");
}

#[test]
fn an_exec_that_cannot_run_fails_without_side_effects() {
    let Some(env) = Env::new() else { return };
    let bundle = waiting(&env);
    fs::write(bundle.rootfs("tmp/plain"), "no program").unwrap();
    fs::write(bundle.rootfs("tmp/broken"), "#!/no/such/shell\n").unwrap();
    env.program("chmod", &["755", bundle.rootfs("tmp/broken").to_str().unwrap()]).run().ok();
    env.launch("web", &bundle);
    let table: &[(&[&str], &str)] = &[
        (&["web", "nothing"], "\": executable file not found in $PATH"),
        (&["web", "/no/such"], "no such file or directory"),
        (&["web", "/tmp/plain"], "permission denied"),
        (&["web", "/tmp"], "is a directory"),
        (&["web", "/tmp/broken"], "exec /tmp/broken: no such file or directory"),
        (&["--cwd", "/no/such", "web", "true"], "chdir to cwd"),
        (&["--cwd", "tmp", "web", "true"], "is not absolute"),
        (&["-e", "=x", "web", "true"], "process.env"),
        (&["web"], "give the program to run"),
        (&["--cgroup", "no/such", "web", "true"], "no such file or directory"),
        (&["--cgroup", "../..", "web", "true"], "leads out of the container's cgroup"),
        (&["--cgroup", "memory:x", "web", "true"], "has one path for all controllers"),
        (&["--process", "/no/such.json", "web"], "read /no/such.json: no such file or directory"),
        (&["-t", "-d", "web", "true"], "--console-socket"),
        (&["--pid-file", "/no/such/directory/pid", "web", "sleep", "5"], "/no/such/directory/pid"),
        (&["--pidfd-socket", "/no/such/socket", "web", "sleep", "5"], "/no/such/socket"),
    ];
    for (words, want) in table {
        let output = exec(&env, words).exits(255).says(want);
        assert_eq!(output.stderr.trim_end().lines().count(), 1, "one line: {}", output.stderr);
    }
    exec(&env, &["--user", "root", "web", "true"]).fails().says("not a number");
    let init = env.pid("web").to_string();
    let group = group(&env);
    until("only the init is left", || fs::read_to_string(group.join("cgroup.procs")).unwrap().trim() == init);
    assert_eq!(env.state("web")["status"], "running");
    env.delete("web");
}

#[test]
fn it_has_what_the_containers_process_has() {
    let Some(env) = Env::new() else { return };
    let bundle = waiting(&env)
        .set("process/env", json!(["PATH=/bin", "A=1", "B=2"]))
        .set("process/cwd", json!("/tmp"))
        .set("process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 7], "umask": 0o27}))
        .set("process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]))
        .set("process/oomScoreAdj", json!(321))
        .set("process/noNewPrivileges", json!(true))
        .set(
            "process/capabilities",
            json!({"bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": [], "effective": []}),
        );
    env.launch("web", &bundle);
    let script = "echo $A$B$C; pwd; id -u; id -g; id -G; umask; ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; echo $HOME;
        grep -E 'NoNewPrivs|CapBnd|CapPrm|CapInh' /proc/self/status | tr '\\t\\n' '  '";
    exec(&env, &["-e", "B=3", "--env", "C=4", "web", "sh", "-c", script]).ok().prints(
        "134\n/tmp\n1000\n1000\n1000 5 7\n0027\n100\n200\n321\n/tmp\nCapInh: 0000000000000000 CapPrm: 0000000000000000 CapBnd: 0000000000000021 NoNewPrivs: 1",
    );
    let script =
        "id -u; id -g; id -G; pwd; grep -E 'NoNewPrivs|CapEff|CapAmb' /proc/self/status | tr '\\t\\n' '  '";
    let options = ["-u", "0:3", "-g", "9", "--cwd", "/", "--no-new-privs=false", "--cap", "CAP_CHOWN"];
    exec(&env, &[&options[..], &["web", "sh", "-c", script]].concat())
        .ok()
        .prints("0\n3\n3 5 7 9\n/\nCapEff: 0000000000000021 CapAmb: 0000000000000000 NoNewPrivs: 0");
    env.delete("web");
}

#[test]
fn the_containers_filter_binds_it() {
    let Some(env) = Env::new() else { return };
    let bundle = waiting(&env).set(
        "linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
        ]}),
    );
    env.launch("web", &bundle);
    exec(&env, &["web", "mkdir", "/tmp/x"]).exits(1).says("No space left on device");
    exec(&env, &["web", "sh", "-c", "grep Seccomp: /proc/self/status"]).ok().prints("Seccomp:\t2");
    env.delete("web");
}

#[test]
fn a_filter_that_allows_hardly_anything() {
    let Some(env) = Env::new() else { return };
    let allowed = "execve exit_group read write brk arch_prctl set_tid_address mprotect newfstatat nanosleep clock_nanosleep";
    let allowed: Vec<_> = allowed.split(' ').collect();
    let bundle = waiting(&env).set(
        "linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": allowed, "action": "SCMP_ACT_ALLOW"}]}),
    );
    env.launch("web", &bundle);
    exec(&env, &["web", "echo", "hello"]).ok().prints("hello");
    assert_eq!(env.state("web")["status"], "running");
    env.delete("web");
}

#[test]
fn silence_of_a_process_document_gives_no_more_than_the_container_has() {
    let Some(env) = Env::new() else { return };
    let nofile = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 77}]);
    let sets = json!({"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]});
    env.launch("web", &waiting(&env).set("process/rlimits", nofile).set("process/capabilities", sets));
    let file = env.dir().join("process.json");
    let name = file.to_str().unwrap();
    let script = "grep -E 'Cap(Eff|Bnd)' /proc/self/status | cut -f 2; ulimit -n";
    let process =
        json!({"args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
    fs::write(&file, process.to_string()).unwrap();
    exec(&env, &["-p", name, "web"]).ok().prints("0000000000000020\n0000000000000020\n77");
    env.delete("web");
}

#[test]
fn a_process_document_says_everything() {
    let Some(env) = Env::new() else { return };
    env.launch("web", &waiting(&env).set("process/env", json!(["PATH=/bin", "OWN=1"])));
    let file = env.dir().join("process.json");
    let name = file.to_str().unwrap();
    let process = json!({"args": ["sh", "-c", "echo [$OWN] $NEW; pwd; id -u; exit 4"], "cwd": "/var",
        "env": ["PATH=/bin", "NEW=2"], "user": {"uid": 9, "gid": 9}});
    fs::write(&file, process.to_string()).unwrap();
    exec(&env, &["--process", name, "web"]).exits(4).prints("[] 2\n/var\n9");
    exec(&env, &["-p", name, "--cwd", "/tmp", "-e", "OWN=x", "web"]).exits(4).prints("[x] 2\n/tmp\n9");
    exec(&env, &["-p", name, "web", "/nosuch"]).exits(4).says("is ignored");
    fs::write(&file, r#"{"args": ["true"], "cwd": 7}"#).unwrap();
    exec(&env, &["-p", name, "web"]).exits(255).says(&format!("{name}: line 1 column 27: cwd: invalid type"));
    fs::write(&file, r#"{"args": ["true"], "cwd": "x", "user": {"umask": 999}}"#).unwrap();
    exec(&env, &["-p", name, "web"]).exits(255).says(&format!("{name}: process.cwd"));
    env.delete("web");
}

#[test]
fn a_terminal_in_the_foreground() {
    let Some(env) = Env::new() else { return };
    env.launch("web", &waiting(&env));
    let command = format!(
        "stty rows 31 cols 91; {} --root {} exec -t web sh -c 'tty; stty size; read line; echo got $line; exit 6'",
        env.binary().display(),
        env.root().display()
    );
    let input = env.dir().join("typed");
    fs::write(&input, "hello\n").unwrap();
    let typed = fs::File::open(&input).unwrap();
    let call =
        env.program("script", &["-qec", &command, "/dev/null"]).env("SHELL", "/bin/sh").stdin(typed.into());
    let said = call.run().exits(6).stdout.replace('\r', "");
    // What is typed is echoed at any moment, before the end of a line too.
    for words in ["/dev/pts/0", "31 91", "got hello"] {
        assert!(said.contains(words), "{said}");
    }
    env.delete("web");
}

#[test]
fn a_terminal_over_the_console_socket() {
    let Some(env) = Env::new() else { return };
    env.launch("web", &waiting(&env));
    let (listener, path) = crate::terminal::listen(&env);
    let socket = path.to_str().unwrap();
    exec(&env, &["-t", "-d", "--console-socket", socket, "web", "sh", "-c", "tty; test -t 0 && echo yes"])
        .ok();
    let said = crate::terminal::read_all(&crate::terminal::master(&listener));
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["/dev/pts/0", "yes"]);
    exec(&env, &["--console-socket", socket, "-d", "web", "true"])
        .exits(255)
        .says("process.terminal is not true");
    env.delete("web");
}

#[test]
fn a_paused_container_is_not_entered() {
    let Some(env) = Env::new() else { return };
    env.launch("web", &waiting(&env));
    let group = group(&env);
    let freeze = |word: &str| fs::write(group.join("cgroup.freeze"), word).unwrap();
    freeze("1");
    // Asked for at once, done a while later.
    until("it is frozen", || fs::read_to_string(group.join("cgroup.events")).unwrap().contains("frozen 1"));
    exec(&env, &["web", "true"]).exits(255).says("cannot exec in a paused container");
    let waits = env.call(&["exec", "--ignore-paused", "web", "echo", "resumed"]).start();
    until("it is in the cgroup", || {
        fs::read_to_string(group.join("cgroup.procs")).unwrap().lines().count() == 2
    });
    // proc_pid_stat(5): interruptible.
    let state = || fs::read_to_string(format!("/proc/{}/stat", waits.pid())).unwrap();
    until("the runtime waits for it", || state().contains(") S "));
    freeze("0");
    waits.wait().ok().prints("resumed");
    env.delete("web");
}

#[test]
fn a_cgroup_below_the_containers() {
    let Some(env) = Env::new() else { return };
    env.launch("web", &waiting(&env));
    let group = group(&env);
    fs::create_dir_all(group.join("a/b")).unwrap();
    let file = env.dir().join("pid");
    exec(&env, &["-d", "--pid-file", file.to_str().unwrap(), "--cgroup", "/a/b", "web", "sleep", "1000"])
        .ok();
    let pid = fs::read_to_string(&file).unwrap();
    assert_eq!(fs::read_to_string(group.join("a/b/cgroup.procs")).unwrap().trim(), pid);
    env.delete("web");
}

/// A group that hands controllers down may hold no process itself (cgroup-v2.rst, "No Internal
/// Process Constraint").
#[test]
fn the_inits_own_cgroup_when_it_has_moved() {
    let Some(env) = Env::new() else { return };
    if !env.controllers(&["pids"]) {
        return;
    }
    let script = "cd /sys/fs/cgroup && mkdir inner && echo $$ >inner/cgroup.procs && echo +pids >cgroup.subtree_control
        echo moved; exec sleep 1000";
    let bundle = env.script(script).namespace("cgroup", None).without_mount("/sys/fs/cgroup");
    let launched = env.launch("web", &bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]));
    until("the init has moved", || launched.later().contains("moved"));
    exec(&env, &["web", "grep", "^0:", "/proc/self/cgroup"]).ok().prints("0::/inner");
    env.delete("web");
}

#[test]
fn without_some_namespaces() {
    let Some(env) = Env::new() else { return };
    for kind in ["pid", "network", "mount"] {
        let mut bundle = waiting(&env).without_namespace(kind);
        if kind == "mount" {
            // What needs own mounts goes too.
            bundle = bundle.edit(|config| {
                config["mounts"] = json!([]);
                config["linux"]["maskedPaths"] = json!([]);
                config["linux"]["readonlyPaths"] = json!([]);
            });
        }
        env.launch("web", &bundle);
        assert_inside(&env, &detached(&env));
        exec(&env, &["web", "cat", "/etc/group"]).ok().prints("root:x:0:\nuser:x:1000:");
        env.delete("web");
    }
}

#[test]
fn processors() {
    let Some(env) = Env::new() else { return };
    let allowed = |line: &str| line.split_whitespace().last().unwrap().to_owned();
    let mine = fs::read_to_string("/proc/self/status").unwrap();
    let all = allowed(mine.lines().find(|line| line.starts_with("Cpus_allowed_list:")).unwrap());
    let script = ["sh", "-c", "grep Cpus_allowed_list: /proc/self/status"];
    env.launch("web", &waiting(&env).set("process/execCPUAffinity", json!({"initial": "0", "final": "0"})));
    assert_eq!(allowed(exec(&env, &[&["web"], &script[..]].concat()).ok().text()), "0");
    // The container's own process is not bound, whatever the runtime is bound to.
    let init = fs::read_to_string(format!("/proc/{}/status", env.pid("web"))).unwrap();
    assert!(init.contains(&format!("Cpus_allowed_list:\t{all}\n")), "{init}");
    env.delete("web");
    env.launch("web", &waiting(&env).set("process/execCPUAffinity", json!({"initial": "0"})));
    // What becomes of the first processors is for the kernel to say, as the specification has it.
    assert_eq!(allowed(exec(&env, &[&["web"], &script[..]].concat()).ok().text()), "0");
    env.delete("web");
    let bad = waiting(&env).set("process/execCPUAffinity", json!({"final": "5-3"}));
    env.create("web", &bad).fails().says("process.execCPUAffinity.final");
}

#[test]
fn too_few_descriptors_are_not_a_stopped_container() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others need more descriptors to say anything") {
        return;
    }
    env.launch("web", &waiting(&env));
    for limit in 5..20 {
        let script = format!("ulimit -Sn {limit}; exec $RUNTIME --root $ROOT exec web true");
        let output = env.shell(&script);
        assert!(!output.stderr.contains("not running"), "with {limit} descriptors: {}", output.stderr);
    }
    env.delete("web");
}

#[test]
fn many_in_a_row_and_at_once_leave_nothing() {
    let Some(env) = Env::new() else { return };
    env.launch("web", &waiting(&env));
    let group = group(&env);
    let left = || fs::read_to_string(group.join("cgroup.procs")).unwrap().lines().count();
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", env.pid("web"))).unwrap().count();
    let before = descriptors();
    // Fewer where every process takes ten times as long, or all its calls go through a filter.
    let (in_a_row, at_once) = if on_test_machine() || env.is_older() { (50, 20) } else { (500, 50) };
    let script =
        "i=0; while [ $i -lt $COUNT ]; do $RUNTIME --root $ROOT exec web true || exit; i=$((i + 1)); done";
    env.shell(&format!("COUNT={in_a_row}; {script}")).ok();
    let calls: Vec<_> = (0..at_once)
        .map(|number| (number, env.call(&["exec", "web", "sh", "-c", &format!("exit {number}")]).start()))
        .collect();
    for (number, call) in calls {
        call.wait().exits(number);
    }
    until("only the init is left", || left() == 1);
    assert_eq!(descriptors(), before);
    exec(&env, &["web", "sh", "-c", "cat /proc/[0-9]*/stat | grep -c ' Z '"]).exits(1).prints("0");
    env.delete("web");
}

#[test]
fn its_end_is_the_runtimes_end_until_the_program_runs() {
    let Some(env) = Env::new() else { return };
    if !env.holds() {
        return;
    }
    env.launch("web", &waiting(&env));
    let group = group(&env);
    let count = || fs::read_to_string(group.join("cgroup.procs")).unwrap().lines().count();
    let held =
        env.call(&["exec", "web", "sleep", "1000"]).env("EMERGENCE_RUNC_HOLD", "child-waiting").start();
    until("the process is there", || count() == 2);
    env.program("kill", &["-9", &held.pid().to_string()]).run().ok();
    held.wait().exits(128 + 9);
    until("it has gone", || count() == 1);
    assert_eq!(env.state("web")["status"], "running");
    env.delete("web");
}

#[test]
fn signals_are_passed_on() {
    let Some(env) = Env::new() else { return };
    env.launch("web", &waiting(&env));
    let call = env.call(&[
        "exec",
        "web",
        "sh",
        "-c",
        "trap 'exit 9' TERM; echo ready; while :; do usleep 10000; done",
    ]);
    let running = call.start();
    until("the trap is set", || running.stdout().contains("ready"));
    env.program("kill", &["-TERM", &running.pid().to_string()]).run().ok();
    running.wait().exits(9);
    env.delete("web");
}

/// As fexecve(3) does it: the name is one of the program's own process, which is not there yet when
/// the name is looked up.
#[test]
fn a_program_by_its_descriptor() {
    let Some(env) = Env::new() else { return };
    let bundle = waiting(&env);
    env.launch("web", &bundle);
    let script = format!(
        "exec 3<{}; exec $RUNTIME --root $ROOT exec --preserve-fds 1 web /proc/self/fd/3",
        bundle.rootfs("bin/busybox").display()
    );
    // Busybox goes by the name that it is called by, which is none of its programs.
    env.shell(&script).exits(127).says("applet not found");
    // The image's links may lead there, too.
    fs::create_dir(bundle.rootfs("own")).unwrap();
    symlink("/proc/self/fd/3", bundle.rootfs("own/echo")).unwrap();
    symlink("/nowhere", bundle.rootfs("own/broken")).unwrap();
    let exec = |words: &str| {
        let start =
            format!("exec 3<{}; exec $RUNTIME --root $ROOT exec", bundle.rootfs("bin/busybox").display());
        env.shell(&format!("{start} --preserve-fds 1 --env PATH=/own web {words}"))
    };
    exec("/own/echo found").ok().prints("found");
    exec("echo found").ok().prints("found");
    exec("/own/broken").exits(255).says("no such file");
    exec("broken").exits(255).says("broken");
    env.delete("web");
}

#[test]
fn its_words_need_not_be_utf_8() {
    let Some(env) = Env::new() else { return };
    let bundle = waiting(&env);
    let directory = bundle.rootfs("tmp").join(OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&directory).unwrap();
    fs::write(
        directory.join(OsStr::from_bytes(b"tell\xff")),
        "#!/bin/sh\nprintf %s \"$1\"; printf %s \"$E\"; pwd\n",
    )
    .unwrap();
    fs::set_permissions(directory.join(OsStr::from_bytes(b"tell\xff")), fs::Permissions::from_mode(0o755))
        .unwrap();
    env.launch("web", &bundle);
    let script = "b() { printf \"$1\"; }
        $RUNTIME --root $ROOT exec --cwd \"$(b '/tmp/caf\\351')\" -e \"E=$(b '\\376')\" -e \"PATH=$(b '/bin:/tmp/caf\\351')\" \
            web \"$(b 'tell\\377')\" \"$(b 'a\\200')\" | od -An -tx1 | tr -d ' \\n'";
    // The argument, the variable, then the working directory.
    let path = b"/tmp/caf\xe9\n".iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    env.shell(script).ok().prints(&format!("6180fe{path}"));
    let missing = "$RUNTIME --root $ROOT exec web \"$(printf 'no\\377')\"";
    env.shell(missing).exits(255).says("executable file not found in $PATH");
    env.delete("web");
}
