//! What the program finds when it starts: config.md, "Process".

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use crate::support::{Env, Output};

#[test]
fn arguments_come_unchanged() {
    let Some(env) = Env::new() else { return };
    let args = ["printf", "[%s]", "", "a b", "*", "$HOME", "ä", "line\nline", "-n"];
    env.run(&env.bundle(&args)).ok().prints("[][a b][*][$HOME][ä][line\nline][-n]");
}

#[test]
fn environment_is_what_was_written() {
    let Some(env) = Env::new() else { return };
    let bundle =
        env.bundle(&["env"]).set("process/env", json!(["PATH=/bin", "A=1", "B=x=y", "EMPTY=", "HOME=/h"]));
    let output = env.run(&bundle).ok();
    let mut lines: Vec<_> = output.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=1", "B=x=y", "EMPTY=", "HOME=/h", "PATH=/bin"]);
}

#[test]
fn home_comes_from_passwd() {
    let Some(env) = Env::new() else { return };
    // /etc/passwd of the bundle: root lives in /root, 1000 in /tmp, nobody else has an entry.
    for (uid, home) in [(0, "/root"), (1000, "/tmp"), (4242, "/")] {
        if uid == 4242 && env.differs("crun", "leaves HOME out") {
            continue;
        }
        let bundle = env.script("echo $HOME").set("process/user/uid", json!(uid));
        env.run(&bundle).ok().prints(home);
    }
    let bundle = env.script("echo $HOME").push("process/env", json!("HOME=/mine"));
    env.run(&bundle).ok().prints("/mine");
}

#[test]
fn working_directory() {
    let Some(env) = Env::new() else { return };
    env.run(&env.bundle(&["pwd"]).set("process/cwd", json!("/tmp"))).ok().prints("/tmp");
    let bundle = env.bundle(&["pwd"]).set("process/cwd", json!("/made/for/this"));
    env.run(&bundle).ok().prints("/made/for/this");
    assert!(bundle.rootfs("made/for/this").is_dir(), "a missing one is made");
    let bundle = env.bundle(&["pwd"]).set("process/cwd", json!("/etc/passwd"));
    env.run(&bundle).fails().says("ot a directory");
}

#[test]
fn user_and_groups() {
    let Some(env) = Env::new() else { return };
    let script = "id -u; id -g; grep -E '^(Uid|Gid|Groups):' /proc/self/status";
    let bundle = env
        .script(script)
        .set("process/user", json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 77, 1001]}));
    let output = env.run(&bundle).ok();
    let want =
        "1000\n1001\nUid:\t1000\t1000\t1000\t1000\nGid:\t1001\t1001\t1001\t1001\nGroups:\t5 77 1001 \n";
    assert_eq!(output.stdout, want);
    let output = env.run(&env.script("grep Groups: /proc/self/status")).ok();
    assert_eq!(output.stdout.trim_end(), "Groups:\t".trim_end(), "the caller's groups are dropped");
}

#[test]
fn umask() {
    let Some(env) = Env::new() else { return };
    for (mask, want) in [(0o77, "0077"), (0o27, "0027"), (0, "0000")] {
        if mask == 0 && env.differs("crun", "takes 0 for not given") {
            continue;
        }
        env.run(&env.script("umask").set("process/user/umask", json!(mask))).ok().prints(want);
    }
    env.run(&env.script("umask")).ok().prints("0022");
}

#[test]
fn rlimits() {
    let Some(env) = Env::new() else { return };
    let limits = json!([
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_CPU", "soft": 1000, "hard": 1_844_674_407_370_955_161_u64},
        {"type": "RLIMIT_STACK", "soft": 1_048_576, "hard": 2_097_152},
    ]);
    let bundle = env.bundle(&["cat", "/proc/self/limits"]).set("process/rlimits", limits);
    let output = env.run(&bundle).ok();
    let row = |name: &str| -> Vec<String> {
        let line = output.stdout.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().take(2).map(str::to_owned).collect()
    };
    assert_eq!(row("Max open files"), ["100", "200"]);
    assert_eq!(row("Max core file size"), ["0", "0"]);
    assert_eq!(row("Max stack size"), ["1048576", "2097152"]);
    assert_eq!(row("Max cpu time"), ["1000", "1844674407370955161"]);
}

#[test]
fn broken_rlimits_are_refused() {
    let Some(env) = Env::new() else { return };
    for limits in [
        json!([{"type": "RLIMIT_NONE", "soft": 1, "hard": 1}]),
        json!([{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 100}]),
    ] {
        env.create("web", &env.bundle(&["true"]).set("process/rlimits", limits)).fails();
    }
    if env.ours("others take the last of two") {
        let twice = json!([{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}, {"type": "RLIMIT_CORE", "soft": 2, "hard": 2}]);
        env.create("web", &env.bundle(&["true"]).set("process/rlimits", twice)).fails();
    }
}

/// The five sets of /proc/self/status, in its order: inheritable, permitted, effective, bounding,
/// ambient.
fn capabilities(output: &Output) -> [u64; 5] {
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|name| {
        let line = output
            .stdout
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("no {name}: {output:?}"));
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    })
}

// Bits of linux/capability.h.
const CHOWN: u64 = 1 << 0;
const KILL: u64 = 1 << 5;
const NET_BIND: u64 = 1 << 10;

#[test]
fn capability_sets_of_root() {
    let Some(env) = Env::new() else { return };
    let sets = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"],
    });
    // capabilities(7): execve(2) gives root inheritable | bounding; with no_new_privs nothing is
    // gained.
    let bounding = CHOWN | KILL | NET_BIND;
    for (no_new_privileges, gained) in [(true, CHOWN | KILL), (false, bounding)] {
        let bundle = env.bundle(&["cat", "/proc/self/status"]).set("process/capabilities", sets.clone());
        let bundle = bundle.set("process/noNewPrivileges", json!(no_new_privileges));
        let found = capabilities(&env.run(&bundle).ok());
        assert_eq!(found, [KILL, gained, gained, bounding, KILL], "{no_new_privileges}");
    }
}

#[test]
fn capability_sets_of_another_user() {
    let Some(env) = Env::new() else { return };
    let user = |sets| {
        env.bundle(&["cat", "/proc/self/status"])
            .set("process/user/uid", json!(1000))
            .set("process/capabilities", sets)
    };
    let both = json!(["CAP_KILL", "CAP_CHOWN"]);
    let found =
        capabilities(&env.run(&user(json!({"bounding": both, "permitted": both, "effective": both}))).ok());
    assert_eq!(found, [0, 0, 0, CHOWN | KILL, 0], "without ambient ones a user has none after execve(2)");
    let ambient = json!({
        "bounding": both, "permitted": both, "effective": both, "inheritable": both, "ambient": ["CAP_KILL"],
    });
    let found = capabilities(&env.run(&user(ambient)).ok());
    assert_eq!(found, [CHOWN | KILL, KILL, KILL, CHOWN | KILL, KILL]);
}

#[test]
fn no_capabilities_at_all() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["cat", "/proc/self/status"]).set("process/capabilities", json!({}));
    assert_eq!(capabilities(&env.run(&bundle).ok()), [0; 5]);
}

#[test]
fn unknown_capabilities_are_a_warning() {
    let Some(env) = Env::new() else { return };
    if env.differs("crun", "refuses them") {
        return;
    }
    let sets = json!({"bounding": ["CAP_KILL", "CAP_OF_THE_FUTURE"]});
    let bundle = env.bundle(&["cat", "/proc/self/status"]).set("process/capabilities", sets);
    let output = env.run(&bundle).ok().says("CAP_OF_THE_FUTURE");
    assert_eq!(capabilities(&output)[3], KILL);
}

#[test]
fn no_new_privileges() {
    let Some(env) = Env::new() else { return };
    for (value, want) in [(true, "NoNewPrivs:\t1"), (false, "NoNewPrivs:\t0")] {
        let bundle = env.bundle(&["grep", "NoNewPrivs", "/proc/self/status"]);
        env.run(&bundle.set("process/noNewPrivileges", json!(value))).ok().prints(want);
    }
}

#[test]
fn oom_score() {
    let Some(env) = Env::new() else { return };
    let own: i64 = fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap();
    for score in [own + 100, 1000] {
        let bundle =
            env.bundle(&["cat", "/proc/self/oom_score_adj"]).set("process/oomScoreAdj", json!(score));
        env.run(&bundle).ok().prints(&score.to_string());
    }
    env.run(&env.bundle(&["cat", "/proc/self/oom_score_adj"])).ok().prints(&own.to_string());
}

#[test]
fn scheduler_and_io_priority() {
    let Some(env) = Env::new() else { return };
    if !env.ours("newer than Debian's") {
        return;
    }
    // proc_pid_stat(5): field 19 is nice, 41 the policy.
    let script = "cut -d' ' -f19,41 /proc/self/stat";
    let bundle = env.script(script).set("process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 5}));
    env.run(&bundle).ok().prints("5 3");
    let bundle =
        env.script("sleep 100").set("process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 6}));
    env.launch("web", &bundle);
    // SAFETY: ioprio_get(2) takes numbers only: IOPRIO_WHO_PROCESS and a pid.
    let priority = unsafe { libc::syscall(libc::SYS_ioprio_get, 1, env.pid("web")) };
    assert_eq!(priority, (2 << 13) | 6);
    env.delete("web");
}

#[test]
fn program_is_looked_up_in_the_containers_path() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["tool"]).set("process/env", json!(["PATH=/nowhere:/opt/first:/opt/second"]));
    for (directory, says, mode) in [("first", "first", 0o644), ("second", "second", 0o755)] {
        fs::create_dir_all(bundle.rootfs(&format!("opt/{directory}"))).unwrap();
        let file = bundle.rootfs(&format!("opt/{directory}/tool"));
        fs::write(&file, format!("#!/bin/sh\necho {says}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    }
    env.run(&bundle).ok().prints("second");
    let bundle = env.bundle(&["./echo"]).set("process/cwd", json!("/opt"));
    fs::create_dir_all(bundle.rootfs("opt")).unwrap();
    symlink("/bin/echo", bundle.rootfs("opt/echo")).unwrap();
    env.run(&bundle).ok();
}

#[test]
fn programs_that_cannot_run() {
    let Some(env) = Env::new() else { return };
    let table: [(&str, &[&str]); 5] = [
        ("absent", &["exec: \"absent\": executable file not found in $PATH"]),
        ("/no/such/file", &["no such file or directory"]),
        ("/etc/passwd", &["permission denied"]),
        ("/tmp", &["permission denied", "is a directory"]),
        ("/etc/passwd/sub", &["not a directory"]),
    ];
    for (program, phrases) in table {
        let output = env.create("web", &env.bundle(&[program])).fails();
        // Text logs put a backslash before a quote.
        let said = output.stderr.replace('\\', "");
        if env.differs("crun", "has words of its own") {
            continue;
        }
        assert!(phrases.iter().any(|phrase| said.contains(phrase)), "{program}: {said}");
        env.run(&env.bundle(&[program])).fails();
    }
}

#[test]
fn an_empty_name_is_a_missing_program() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&[""]);
    let words = "exec: \"\": executable file not found in $PATH";
    env.create("web", &bundle).exits(1).logs(words);
    env.run(&bundle).exits(1).logs(words);
    env.launch("web", &env.bundle(&["sleep", "1000"]));
    env.runtime(&["exec", "web", ""]).exits(255).logs(words);
    env.runtime(&["exec", "-d", "web", ""]).exits(255).logs(words);
    env.delete("web");
}

/// What the kernel refuses only at execve(2), each as a script that `run.sh` is, and the words for
/// it.
const REFUSED: [(&str, &str); 3] = [
    ("#!/no/interpreter\n", "no such file or directory"),
    ("\u{1}\u{2}garbage", "exec format error"),
    ("#!/etc\n", "permission denied"),
];

#[test]
fn a_program_that_the_kernel_refuses_is_one_plain_line() {
    let Some(env) = Env::new() else { return };
    if !env.ours("one line, in these words") {
        return;
    }
    let bundle = env.bundle(&["/run.sh"]);
    let file = bundle.rootfs("run.sh");
    bundle.write();
    let check = |words: &str| {
        let line = format!("exec /run.sh: {words}\n");
        let log = env.dir().join("run/log");
        let logged: [&[&str]; 2] = [&[], &["--log", log.to_str().unwrap(), "--log-format", "json"]];
        for options in logged {
            let call = |words: &[&str]| env.runtime(&[options, words].concat());
            let run = call(&["run", "-b", bundle.str(), "web"]).exits(1);
            let detached = call(&["run", "-d", "-b", bundle.str(), "web"]).exits(1);
            call(&["create", "-b", bundle.str(), "web"]).ok();
            let started = call(&["start", "web"]).exits(1);
            env.delete("web");
            let inside = call(&["exec", "other", "/run.sh"]).exits(255);
            let behind = call(&["exec", "-d", "other", "/run.sh"]).exits(255);
            let terminal = call(&["exec", "-t", "other", "/run.sh"]).exits(255);
            for output in [run, detached, started, inside, behind, terminal] {
                assert_eq!(output.stderr, line);
                assert_eq!(output.stdout, "");
            }
        }
        let log = fs::read_to_string(&log).unwrap();
        assert_eq!(log.matches(line.trim()).count(), 6, "{log}");
        fs::remove_file(env.dir().join("run/log")).unwrap();
    };
    let other = env.bundle(&["sleep", "1000"]);
    env.launch("other", &other);
    for (content, words) in REFUSED {
        for file in [&file, &other.rootfs("run.sh")] {
            fs::write(file, content).unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        check(words);
    }
    let open = |file| fs::File::options().append(true).open(file).unwrap();
    let written = [open(file), open(other.rootfs("run.sh"))];
    check("text file busy");
    drop(written);
    let long = format!("LONG={}", "x".repeat(200_000));
    let bundle = env.bundle(&["true"]).push("process/env", json!(long));
    assert_eq!(env.run(&bundle).exits(1).stderr, "exec /bin/true: argument list too long\n");
    env.delete("other");
}

#[test]
fn signals_are_as_a_fresh_program_expects() {
    let Some(env) = Env::new() else { return };
    if env.differs("runc", "the Go runtime leaves its own") {
        return;
    }
    let args = ["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"];
    // The two signals that the C library keeps for itself other runtimes leave as they found them.
    let found = env.program("busybox", &args).run().ok();
    let none = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000";
    let want = if env.flavour() == "emergence-runc" { none } else { found.text() };
    env.run(&env.bundle(&args)).ok().prints(want);
}

#[test]
fn personality() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["uname", "-m"]).set("linux/personality", json!({"domain": "LINUX32"}));
    let machine = env.run(&env.bundle(&["uname", "-m"])).ok().text().to_owned();
    if machine == "x86_64" && !env.differs("runc", "1.1 has no personality") {
        env.run(&bundle).ok().prints("i686");
    }
}
