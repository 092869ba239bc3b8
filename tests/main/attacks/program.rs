//! The runtime's own program overwritten from a container, through /proc/self/exe (CVE-2019-5736).

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::support::{Bundle, Env, until};
use rustix::fs::{Mode, OFlags};

/// The program of process `pid`, held without being opened, which is allowed while it runs.
fn hold(pid: i32) -> OwnedFd {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/{pid}/exe"), flags, Mode::empty()).unwrap()
}

/// The error of opening the held file for writing, once no process runs it.
fn refused(env: &Env, held: &OwnedFd) -> std::io::Error {
    let before = fs::read(env.binary()).unwrap();
    let opened = fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", held.as_raw_fd()));
    if let Ok(mut file) = opened {
        let written = std::io::Write::write_all(&mut file, b"#!/bin/evil\n");
        assert!(written.is_err(), "the program was written to");
        assert!(fs::read(env.binary()).unwrap() == before, "the runtime's program was changed");
        return written.unwrap_err();
    }
    opened.unwrap_err()
}

/// A container whose program is the runtime's own, created.
fn created(env: &Env, id: &str) -> Bundle {
    let bundle = env.bundle(&["/self", "--version"]);
    symlink("/proc/self/exe", bundle.rootfs("self")).unwrap();
    env.create(id, &bundle).ok();
    bundle
}

#[test]
fn the_runtime_is_not_writable_through_a_held_descriptor() {
    let Some(env) = Env::new() else { return };
    env.own_program();
    created(&env, "web");
    let held = hold(env.pid("web"));
    env.runtime(&["start", "web"]);
    env.delete("web");
    assert_eq!(refused(&env, &held).kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

/// A directory of programs that is mounted read-only is made writable for an upgrade, and who held
/// a program then writes to it.
#[test]
fn the_runtime_is_not_on_a_mount_that_may_become_writable() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others go by other means") {
        return;
    }
    env.own_program();
    let bundle = env.bundle(&["/self", "--version"]);
    symlink("/proc/self/exe", bundle.rootfs("self")).unwrap();
    let programs = env.dir().join("programs");
    fs::create_dir(&programs).unwrap();
    fs::rename(env.binary(), programs.join("emergence-runc")).unwrap();
    bundle.write();
    let before = fs::read(programs.join("emergence-runc")).unwrap();
    // With the limit, the container's process is a copy of the runtime, which then has to run from a protected file itself.
    for limit in ["", "ulimit -f 2000;"] {
        let script = format!(
            "mount --bind $D $D && mount -o remount,bind,ro $D && ({limit} $D/emergence-runc --root $ROOT create -b {} web)
            exec 9</proc/$($D/emergence-runc --root $ROOT state web | grep -o '\"pid\": [0-9]*' | cut -d' ' -f2)/exe && echo held
            $D/emergence-runc --root $ROOT start web; $D/emergence-runc --root $ROOT delete -f web
            mount -o remount,bind,rw $D; echo overwritten 2>/dev/null >/proc/self/fd/9",
            bundle.str()
        );
        let call = env.program("unshare", &["-m", "sh", "-c", &script]);
        let output = call.env("D", &programs).env("ROOT", env.root()).run();
        assert!(output.stdout.contains("held"), "{output:?}");
        assert!(
            fs::read(programs.join("emergence-runc")).unwrap() == before,
            "the runtime's program was changed"
        );
    }
}

#[test]
fn exec_does_not_expose_the_runtime_to_being_overwritten() {
    let Some(env) = Env::new() else { return };
    env.own_program();
    let bundle = env.bundle(&["sleep", "1000"]).namespace("cgroup", None);
    fs::write(bundle.rootfs("bin/script"), "#!/proc/self/exe --root\n").unwrap();
    fs::set_permissions(bundle.rootfs("bin/script"), fs::Permissions::from_mode(0o755)).unwrap();
    env.launch("web", &bundle);
    let before = fs::read(env.binary()).unwrap();
    // What is entered becomes the runtime, with the script as its --root. While it reads the limits
    // from standard input, its program is opened; it is written to when no process runs it any
    // more.
    fs::write(
        bundle.rootfs("attack"),
        "until exe=$(grep -l [u]pdate /proc/[0-9]*/cmdline) && ( : <${exe%cmdline}exe ); do usleep 1000; done 2>/dev/null
        exec 9<${exe%cmdline}exe; echo >/held; while [ -e $exe ]; do usleep 1000; done
        for try in 1 2 3 4 5 6 7 8 9; do usleep 10000; ( echo overwritten >/proc/self/fd/9 ) 2>/dev/null; done; echo >/tried",
    )
    .unwrap();
    env.runtime(&["exec", "-d", "web", "sh", "/attack"]).ok();
    let (input, kept) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let entered = env.call(&["exec", "web", "script", "update", "-r", "-", "web"]).stdin(input).start();
    until("the program is held", || bundle.rootfs("held").exists());
    drop(kept);
    entered.wait();
    until("it was tried", || bundle.rootfs("tried").exists());
    // And so is the program of any other process, however short-lived.
    let attack = "while :; do for exe in /proc/[0-9]*/exe; do
        ( exec 9<$exe && usleep 3000 && echo overwritten >/proc/self/fd/9 ) 2>/dev/null; done; done";
    env.runtime(&["exec", "-d", "web", "sh", "-c", attack]).ok();
    for _ in 0..20 {
        let _ = env.runtime(&["exec", "web", "script", "/"]);
    }
    assert!(fs::read(env.binary()).unwrap() == before, "the runtime's program was changed");
    env.delete("web");
}

/// The root of an unprivileged user's container is that user outside, who may own the program.
#[test]
fn the_runtime_is_not_writable_when_the_user_owns_it() {
    let Some(env) = Env::rootless() else { return };
    env.own_program();
    env.program("chown", &["nobody", env.binary().to_str().unwrap()]).privileged().run().ok();
    created(&env, "web");
    let held = hold(env.pid("web"));
    env.runtime(&["start", "web"]);
    env.delete("web");
    let error = refused(&env, &held);
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "sealed: {error}");
}
