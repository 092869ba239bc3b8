//! Processes in containers execute the runtime's protected program, and get the plan through memory.

use std::fs;

use crate::support::{Bundle, Env, Output};
use serde_json::json;

/// A script with the program `$P` and the state directory `$R`.
fn with_program(env: &Env, script: &str) -> Output {
    env.program("sh", &["-c", script]).env("P", env.binary()).env("R", env.root()).run()
}

fn command_line(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().replace('\0', " ").trim().to_owned()
}

/// A caller may limit the size of files, which also limits the memory that is handed over. Then the process is a copy of the runtime.
const LIMIT: &str = "ulimit -f 2000";

/// What every process of a container may be given, printed by the program.
fn demanding(env: &Env) -> Bundle {
    env.script("echo $VALUE; cat /etc/hostname; cat /proc/sys/kernel/hostname; umask")
        .push("process/env", json!("VALUE=some value"))
        .set("hostname", json!("handed-over"))
}

#[test]
fn a_waiting_process_has_nothing_of_the_runtime() {
    for env in [Env::new(), Env::rootless()].into_iter().flatten() {
        if !env.ours("others go by other means") {
            return;
        }
        let bundle = env.bundle(&["true"]);
        env.create("web", &bundle).ok();
        let pid = env.pid("web");
        assert_eq!(command_line(pid), "emergence-runc init");
        let environ = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
        assert!(environ.starts_with("EMERGENCE_RUNC_CHILD="), "{environ}");
        assert_eq!(environ.matches('=').count(), 1, "{environ}");
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        assert!(maps.contains("/memfd:emergence-runc"), "{maps}");
        env.runtime(&["start", "web"]).ok();
        env.wait_for("web", "stopped");
        env.delete("web");
    }
}

#[test]
fn a_caller_with_a_limit_of_file_sizes_gets_a_copy() {
    for env in [Env::new(), Env::rootless()].into_iter().flatten() {
        if !env.ours("others go by other means") {
            return;
        }
        env.own_program();
        let bundle = demanding(&env);
        fs::write(bundle.rootfs("etc/hostname"), "image\n").unwrap();
        bundle.write();
        let run = format!("$P --root $R run -b {} one", bundle.str());
        let executed = with_program(&env, &run).ok();
        let copied = with_program(&env, &format!("{LIMIT}; {run}")).ok();
        assert_eq!(copied.stdout, executed.stdout);
        assert!(copied.stdout.contains("some value") && copied.stdout.contains("handed-over"), "{copied:?}");
        let waiting = env.bundle(&["sleep", "1000"]);
        waiting.write();
        let script =
            format!("{LIMIT}; $P --root $R create -b {} two </dev/null >/dev/null 2>&1", waiting.str());
        with_program(&env, &script).ok();
        assert!(command_line(env.pid("two")).contains("create"), "{}", command_line(env.pid("two")));
        with_program(&env, &format!("{LIMIT}; $P --root $R start two")).ok();
        with_program(&env, &format!("{LIMIT}; $P --root $R exec two echo entered")).prints("entered");
        env.delete("two");
    }
}

#[test]
fn a_large_plan_is_handed_over() {
    let Some(env) = Env::new() else { return };
    let mut bundle = env.script("env | wc -l");
    let variables = bundle.config["process"]["env"].as_array_mut().unwrap();
    variables.extend((0..10_000).map(|number| json!(format!("VARIABLE_{number}={}", "x".repeat(100)))));
    let count = variables.len();
    let printed = env.run(&bundle).ok().stdout;
    // busybox's shell adds PWD and SHLVL.
    let printed: usize = printed.trim().parse().unwrap();
    assert!((count..count + 4).contains(&printed), "{printed} of {count}");
}

#[test]
fn the_variable_of_the_handover_does_no_harm() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others have no such variable") {
        return;
    }
    // Among other variables it means nothing, and so does a value of another form.
    let among_others = with_program(&env, "EMERGENCE_RUNC_CHILD=9:4096 $P --version").ok();
    assert!(among_others.stdout.contains("emergence-runc"), "{among_others:?}");
    for value in ["", "9", "9:", ":9", "1:4096", "x:y", "-1:5", "9:99999999999999999999"] {
        with_program(&env, &format!("env -i EMERGENCE_RUNC_CHILD={value} $P --version")).ok();
    }
    let alone = with_program(&env, "exec env -i EMERGENCE_RUNC_CHILD=9:4096 $P --version");
    assert_eq!((alone.stdout.as_str(), alone.code), ("", libc::EBADF), "descriptor 9 is not open");
}

/// With this setting the kernel executes no file in memory.
#[test]
fn a_host_without_executable_memory_files_runs_containers() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["echo", "ran"]);
    bundle.write();
    let script = format!(
        "test -e /proc/sys/vm/memfd_noexec || exit 99
        exec unshare -pf --mount-proc sh -c 'echo 2 >/proc/sys/vm/memfd_noexec && $P --root $R run -b {} web'",
        bundle.str()
    );
    let output = with_program(&env, &script);
    if output.code == 99 {
        return println!("skipped: this kernel has no vm.memfd_noexec");
    }
    output.prints("ran");
}

/// A filter around the runtime may know only the older call.
#[test]
fn execve_serves_where_execveat_is_refused() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others go by other means") || !env.has("strace", "strace") {
        return;
    }
    let trace = env.dir().join("run/trace");
    for error in ["EPERM", "ENOSYS", "EACCES"] {
        let inject = format!("inject=execveat:error={error}");
        let options =
            ["-f", "-qq", "-o", trace.to_str().unwrap(), "-e", "trace=execveat,execve", "-e", &inject];
        let bundle = env.bundle(&["echo", "ran"]);
        bundle.write();
        let id = format!("web-{error}");
        env.strace(&options, &["run", "-b", bundle.str(), &id]).privileged().run().prints("ran");
        let calls = fs::read_to_string(&trace).unwrap();
        assert!(calls.contains(error) && calls.contains("execve(\"/proc/self/fd/"), "{calls}");
    }
}
