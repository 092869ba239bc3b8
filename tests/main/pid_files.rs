//! Files of the caller that the runtime writes: pid files and logs, with any file at their path.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Instant;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;

use crate::support::{Env, patience, until};

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

/// The commands that write a pid file, each to `path`; `web` is a running container.
fn commands<'a>(bundle: &'a str, path: &'a str) -> [Vec<&'a str>; 3] {
    [
        vec!["create", "-b", bundle, "--pid-file", path, "c"],
        vec!["run", "-d", "-b", bundle, "--pid-file", path, "r"],
        vec!["exec", "-d", "--pid-file", path, "web", "sleep", "100"],
    ]
}

fn clean(env: &Env) {
    for id in ["c", "r"] {
        env.delete(id);
    }
}

#[test]
fn only_regular_files_are_replaced() {
    let Some(env) = Env::new() else { return };
    if !env.ours("runc replaces it") {
        return;
    }
    env.launch("web", &env.bundle(&["sleep", "100"]));
    let bundle = env.bundle(&["sleep", "100"]);
    bundle.write();
    let place = env.dir().join("place");
    fs::create_dir(&place).unwrap();
    // A host's /tmp may be mounted with nodev.
    env.mount(&place, &place, &["--bind"]);
    env.program("mount", &["-o", "remount,bind,dev", place.to_str().unwrap()]).privileged().run().ok();
    let path = |name: &str| place.join(name);
    // A device as /dev/null is one.
    mknodat(
        CWD,
        path("null"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        rustix::fs::makedev(1, 3),
    )
    .unwrap();
    mknodat(CWD, path("disk"), FileType::BlockDevice, Mode::from_raw_mode(0o666), rustix::fs::makedev(7, 99))
        .unwrap();
    fifo(&path("fifo"));
    fs::create_dir(path("directory")).unwrap();
    let _listens = UnixListener::bind(path("socket")).unwrap();
    symlink("null", path("link-to-null")).unwrap();
    symlink("/proc/self/fd/1", path("stdout")).unwrap();
    symlink("fifo", path("anothers-link")).unwrap();
    std::os::unix::fs::lchown(path("anothers-link"), Some(1000), Some(1000)).unwrap();
    let kinds = || -> Vec<_> {
        let kind = |name: &str| fs::symlink_metadata(path(name)).map(|found| found.file_type()).ok();
        ["null", "disk", "fifo", "directory", "socket", "link-to-null", "stdout", "anothers-link"]
            .map(kind)
            .to_vec()
    };
    let before = kinds();
    for (name, words) in [
        ("null", None),
        ("link-to-null", None),
        ("stdout", None),
        ("fifo", Some("a fifo that no process reads")),
        ("disk", Some("it is a block device")),
        ("directory", Some("it is a directory")),
        ("socket", Some("it is a socket")),
        ("anothers-link", Some("a symbolic link of another user")),
    ] {
        let file = path(name);
        for args in commands(bundle.str(), file.to_str().unwrap()) {
            let begun = Instant::now();
            let output = env.runtime(&args);
            assert!(begun.elapsed() < patience() * 10 / 20, "{args:?}");
            match words {
                None => {
                    let output = output.ok();
                    if name == "stdout" {
                        let said = output.text().parse::<u32>();
                        assert!(said.is_ok(), "{args:?}: {output:?}");
                    }
                }
                Some(words) => {
                    output.fails().says(words);
                }
            }
            assert_eq!(kinds(), before, "{args:?}");
            for id in ["c", "r"] {
                let there = env.root().join(id).exists();
                assert_eq!(there, words.is_none() && args.contains(&id), "{args:?}: {id}");
            }
            clean(&env);
        }
    }
    assert!(fs::metadata(path("null")).unwrap().file_type().is_char_device());
    env.delete("web");
}

#[test]
fn a_fifo_with_a_reader_and_own_links_are_written_through() {
    let Some(env) = Env::new() else { return };
    if !env.ours("runc replaces them") {
        return;
    }
    let bundle = env.bundle(&["sleep", "100"]);
    bundle.write();
    let path = |name: &str| env.dir().join(name);
    fifo(&path("fifo"));
    fs::write(path("old"), "1234567890").unwrap();
    symlink("old", path("link")).unwrap();
    symlink("new", path("dangling")).unwrap();
    let reader = fs::OpenOptions::new().read(true).write(true).open(path("fifo")).unwrap();
    for (name, target) in [("fifo", "fifo"), ("link", "old"), ("dangling", "new")] {
        env.runtime(&["create", "-b", bundle.str(), "--pid-file", path(name).to_str().unwrap(), "c"]).ok();
        let pid = env.pid("c").to_string();
        let text = if name == "fifo" {
            let mut room = [0; 100];
            let count = rustix::io::read(&reader, &mut room).unwrap();
            String::from_utf8(room[..count].to_vec()).unwrap()
        } else {
            assert!(fs::symlink_metadata(path(name)).unwrap().is_symlink(), "{name}");
            fs::read_to_string(path(target)).unwrap()
        };
        assert_eq!(text, pid, "{name}");
        env.delete("c");
    }
}

#[test]
fn they_are_writable_for_their_owner_alone_whatever_the_umask_is() {
    let Some(env) = Env::new() else { return };
    let bundle = env.bundle(&["sleep", "100"]);
    let output = env.dir().join("output");
    let hook = json!({"path": "/bin/true"});
    let bundle = bundle
        .set("annotations", json!({"run.oci.hooks.stdout": output.to_str().unwrap()}))
        .push("hooks/createRuntime", hook);
    bundle.write();
    fs::write(env.dir().join("there"), "").unwrap();
    fs::set_permissions(env.dir().join("there"), fs::Permissions::from_mode(0o666)).unwrap();
    for name in ["made", "there"] {
        let script = format!(
            "umask 0; $RUNTIME --root $ROOT --log {dir}/log create -b {} --pid-file {dir}/{name} c",
            bundle.str(),
            dir = env.dir().display()
        );
        env.shell(&script).ok();
        let mode = fs::metadata(env.dir().join(name)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o644, "{name}");
        env.delete("c");
    }
    if env.ours("crun makes them otherwise") {
        for name in ["log", "output"] {
            assert_eq!(fs::metadata(env.dir().join(name)).unwrap().mode() & 0o7777, 0o644, "{name}");
        }
    }
}

#[test]
fn an_unread_log_blocks_nothing() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the others wait for a reader") {
        return;
    }
    let path = env.dir().join("log");
    fifo(&path);
    let log = path.to_str().unwrap();
    let begun = Instant::now();
    env.runtime(&["--log", log, "state", "web"]).fails().says("a fifo that no process reads");
    assert!(begun.elapsed() < patience() * 5 / 20);
    // With a reader it is a log.
    let reader = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    env.runtime(&["--log", log, "state", "web"]).fails();
    let mut room = vec![0; 4096];
    let count = rustix::io::read(&reader, &mut room).unwrap();
    assert!(String::from_utf8_lossy(&room[..count]).contains("container does not exist"));
    // Full: the reader is there and does not read.
    rustix::io::ioctl_fionbio(&reader, true).unwrap();
    while rustix::io::write(&reader, &[b'x'; 4096]).is_ok() {}
    let begun = Instant::now();
    env.runtime(&["--log", log, "state", "web"]).fails();
    assert!(begun.elapsed() < patience() * 10 / 20);
}

#[test]
fn kill_ends_every_process_where_the_pid_namespace_is_shared() {
    let Some(env) = Env::new() else { return };
    let bundle = env
        .script("sleep 1000 & setsid sleep 1001 & echo ready; test -e /tmp/stay && wait")
        .without_namespace("pid");
    let procs = || env.cgroup_file(bundle.cgroup(), "cgroup.procs");
    for stays in [true, false] {
        match stays {
            true => fs::write(bundle.rootfs("tmp/stay"), "").unwrap(),
            false => fs::remove_file(bundle.rootfs("tmp/stay")).unwrap(),
        }
        let output = env.launch("web", &bundle);
        until("it is ready", || output.later().contains("ready"));
        env.wait_for("web", if stays { "running" } else { "stopped" });
        assert!(procs().lines().count() >= 2, "{:?}", procs());
        if !stays {
            env.runtime(&["kill", "web", "TERM"]).fails().says("container not running");
        }
        env.runtime(&["kill", "web", "KILL"]).ok();
        until("every process has ended", || procs().is_empty());
        env.wait_for("web", "stopped");
        env.runtime(&["kill", "web", "KILL"]).fails().says("container not running");
        env.runtime(&["delete", "web"]).ok();
    }
}
