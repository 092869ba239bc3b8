//! Which descriptors the program gets: `--preserve-fds`, LISTEN_FDS (sd_listen_fds(3)), and nothing else.

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
fn preserved_ones_must_be_open() {
    let Some(env) = Env::new() else { return };
    let bundle = list(&env);
    let script = format!(
        "exec $RUNTIME --root $ROOT create --preserve-fds 2 -b {} web 3</etc/passwd 4<&-",
        bundle.str()
    );
    if !env.differs("crun", "does not look") && !env.differs("runc", "1.1 does not look") {
        env.shell(&script).fails();
    }
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
