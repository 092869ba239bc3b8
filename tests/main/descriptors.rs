//! Which descriptors the program gets: `--preserve-fds`, LISTEN_FDS (sd_listen_fds(3)), and nothing
//! else.

use crate::support::Env;

/// Lists the shell's descriptors without a pipe, which would be one of them.
fn list(env: &Env) -> crate::support::Bundle {
    let bundle = env.script("(ls /proc/$$/fd) >/tmp/list; tr '\\n' ' ' </tmp/list; echo; env | grep LISTEN | sort; test -e /proc/$$/fd/3 && cat <&3; true");
    std::fs::write(env.dir().join("three"), "three\n").unwrap();
    bundle.write();
    bundle
}

#[test]
fn none_by_default() {
    let Some(env) = Env::new() else { return };
    let bundle = list(&env);
    let script = format!(
        "exec $RUNTIME --root $ROOT run -b {} web 3<{}/three 9</etc/passwd",
        bundle.str(),
        env.dir().display()
    );
    env.shell(&script).ok().prints("0 1 2");
}

#[test]
fn those_preserved() {
    let Some(env) = Env::new() else { return };
    let bundle = list(&env);
    let redirect = format!("3<{}/three 4</etc/passwd 5</etc/group", env.dir().display());
    let script =
        format!("exec $RUNTIME --root $ROOT run --preserve-fds 2 -b {} web {redirect}", bundle.str());
    env.shell(&script).ok().prints("0 1 2 3 4 \nthree");
}

#[test]
fn numbers_that_are_not_open_are_skipped() {
    let Some(env) = Env::new() else { return };
    if env.differs("runc", "passes its own descriptors in their place") {
        return;
    }
    let bundle = list(&env);
    let redirect = "3<&- 4</etc/passwd 5<&- 6</etc/group 7</etc/group";
    for count in [4, 5, 1_000_000_000] {
        let script = format!(
            "exec $RUNTIME --root $ROOT run --preserve-fds {count} -b {} {} {redirect}",
            bundle.str(),
            env.id()
        );
        let listed = env.shell(&script).ok();
        // Whoever runs the tests may have more open.
        let small = |number: &&str| number.len() == 1;
        let listed: Vec<_> = listed.stdout.split_whitespace().filter(small).collect();
        assert_eq!(listed, &["0", "1", "2", "4", "6", "7"][..if count == 4 { 5 } else { 6 }], "{count}");
    }
    env.launch("web", &env.bundle(&["sleep", "1000"]));
    let script = "exec $RUNTIME --root $ROOT exec --preserve-fds 2 web sh -c 'ls /proc/$$/fd; true' 3<&- 4</etc/passwd 5</etc/group";
    let listed = env.shell(script).ok();
    assert_eq!(listed.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "4"]);
    env.delete("web");
}

/// The process that LISTEN_PID names is the program itself, with any pid.
#[test]
fn sockets_are_the_programs_own_whatever_its_number() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others say 1 always, and pass nothing to exec") {
        return;
    }
    let tell =
        "echo $$ $LISTEN_PID $LISTEN_FDS $LISTEN_FDNAMES; env | grep -c LISTEN_; readlink /proc/$$/fd/3";
    let call = |command: &str| {
        let activated = "export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=web";
        let output =
            env.shell(&format!("{activated}; exec $RUNTIME --root $ROOT {command} 3</etc/passwd")).ok();
        let lines: Vec<_> = output.stdout.lines().map(str::to_owned).collect();
        let words: Vec<_> = lines[0].split(' ').collect();
        assert_eq!(words[0], words[1], "{command}: {lines:?}");
        assert_eq!(words[2..], ["1", "web"], "{command}: {lines:?}");
        assert_eq!(lines[1..], ["3", "/etc/passwd"], "{command}: {lines:?}");
        words[0] != "1"
    };
    // podman writes the variables into config.json too.
    let written = |bundle: crate::support::Bundle| {
        ["LISTEN_PID=1", "LISTEN_FDS=1", "LISTEN_PIDFDID=5"]
            .iter()
            .fold(bundle, |bundle, entry| bundle.push("process/env", (*entry).into()))
    };
    let bundle = written(env.script(tell));
    bundle.write();
    assert!(!call(&format!("run -b {} one", bundle.str())));
    let bundle = written(env.script(tell)).without_namespace("pid");
    bundle.write();
    assert!(call(&format!("run -b {} two", bundle.str())), "a pid of the host");
    env.launch("web", &env.bundle(&["sleep", "1000"]));
    assert!(call(&format!("exec web sh -c '{tell}'")), "not the container's first process");
    env.delete("web");
}

#[test]
fn those_of_socket_activation() {
    let Some(env) = Env::new() else { return };
    let bundle = list(&env);
    let redirect = format!("3<{}/three 4</etc/passwd", env.dir().display());
    let script = format!(
        "export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=web; exec $RUNTIME --root $ROOT run -b {} web {redirect}",
        bundle.str()
    );
    if env.differs("crun", "1.8 passes no LISTEN_FDS") {
        return;
    }
    let output = env.shell(&script).ok();
    let lines: Vec<_> = output.stdout.lines().map(str::trim).collect();
    assert_eq!(lines[0], "0 1 2 3");
    assert!(lines.contains(&"LISTEN_FDS=1"), "{lines:?}");
    assert!(lines.contains(&"LISTEN_PID=1"), "the pid as the program sees itself: {lines:?}");
    assert_eq!(lines.last(), Some(&"three"));
    if env.ours("others leave the names out or not, by version") {
        assert!(lines.contains(&"LISTEN_FDNAMES=web"), "{lines:?}");
    }
}

#[test]
fn descriptors_of_a_created_container() {
    let Some(env) = Env::new() else { return };
    let bundle = list(&env);
    let redirect = format!("3<{}/three", env.dir().display());
    let script =
        format!("exec $RUNTIME --root $ROOT create --preserve-fds 1 -b {} web {redirect}", bundle.str());
    let output = env.shell(&script).ok();
    env.runtime(&["start", "web"]).ok();
    env.wait_for("web", "stopped");
    assert_eq!(output.later().trim(), "0 1 2 3 \nthree");
    env.delete("web");
}

#[test]
fn a_container_without_a_process_keeps_no_directory_open() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the others need a process") {
        return;
    }
    let bundle = env.bundle(&["true"]).edit(|config| {
        config.as_object_mut().unwrap().remove("process");
    });
    env.create("web", &bundle).ok();
    let directory = format!("/proc/{}/fd", env.pid("web"));
    let open: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    let is_directory = |path: &&std::path::PathBuf| std::fs::metadata(path).unwrap().is_dir();
    let kept: Vec<_> = open.iter().filter(is_directory).map(std::fs::read_link).collect();
    assert!(kept.is_empty(), "{kept:?}");
    env.delete("web");
}
