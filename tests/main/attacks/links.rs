//! Links that a hostile image has where the runtime mounts, makes or reads something:
//! CVE-2019-16884's kin, CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2024-45310,
//! CVE-2025-31133, CVE-2025-52565, CVE-2026-41579.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;

use super::{UP, with_dev_of_image};
use crate::support::{Bundle, Env};

fn source(env: &Env, name: &str) -> PathBuf {
    let path = env.dir().join(name);
    fs::create_dir(&path).unwrap();
    fs::write(path.join("file"), format!("from {name}\n")).unwrap();
    path
}

/// Names of what is in a directory.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_dangling_link_creates_nothing_outside() {
    let Some(env) = Env::new() else { return };
    let outside = env.dir().join("outside");
    let bundle = env.bundle(&["true"]).mount("/data/x", "tmpfs", "tmpfs", &[]);
    let bundle = bundle.mount("/file", "bind", "/etc/hostname", &["bind"]);
    symlink(format!("missing/{UP}{}", outside.display()), bundle.rootfs("data")).unwrap();
    symlink(format!("gone/{UP}{}/file", outside.display()), bundle.rootfs("file")).unwrap();
    env.run(&bundle).ok();
    assert!(!outside.exists());
}

#[test]
fn a_link_above_a_destination_does_not_lead_outside() {
    let Some(env) = Env::new() else { return };
    let outside = source(&env, "outside");
    let source = source(&env, "src");
    let bundle = env.script("cat /link/sub/file");
    symlink(&outside, bundle.rootfs("link")).unwrap();
    let bundle = bundle.mount("/link/sub", "bind", source.to_str().unwrap(), &["bind"]);
    let output = env.run(&bundle);
    assert!(!outside.join("sub").exists(), "the host's directory is untouched");
    if env.differs("crun", "does not make what a link inside names") {
        return;
    }
    output.ok().prints("from src");
    let below = env.dir().strip_prefix("/").unwrap().join("outside/sub");
    assert!(bundle.rootfs(below.to_str().unwrap()).is_dir(), "the link is followed inside");
}

#[test]
fn a_link_with_dotdot_stays_inside() {
    let Some(env) = Env::new() else { return };
    let source = source(&env, "src");
    let bundle = env.script("cat /a/up/file");
    fs::create_dir(bundle.rootfs("a")).unwrap();
    symlink(UP, bundle.rootfs("a/top")).unwrap();
    let made = env.dir().join("made");
    symlink(format!("top{}", made.display()), bundle.rootfs("a/up")).unwrap();
    let bundle = bundle.mount("/a/up", "bind", source.to_str().unwrap(), &["bind"]);
    let output = env.run(&bundle);
    assert!(!made.exists());
    if env.differs("crun", "does not make what a link inside names") {
        return;
    }
    output.ok().prints("from src");
    assert!(bundle.rootfs(made.to_str().unwrap()).is_dir());
}

#[test]
fn a_hostile_passwd_does_not_break_the_runtime() {
    let Some(env) = Env::new() else { return };
    if env.differs("runc", "1.1 reads what it is led to") || env.differs("crun", "reads it after the pivot") {
        return;
    }
    let bundle = env.script("echo $HOME");
    fs::write(env.dir().join("outside"), "root:x:0:0:root:/stolen:/bin/sh\n").unwrap();
    fs::remove_file(bundle.rootfs("etc/passwd")).unwrap();
    symlink(env.dir().join("outside"), bundle.rootfs("etc/passwd")).unwrap();
    assert_ne!(env.run(&bundle).ok().text(), "/stolen", "the host's file must not be read");
    fs::remove_file(bundle.rootfs("etc/passwd")).unwrap();
    mknodat(CWD, bundle.rootfs("etc/passwd"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    env.run(&bundle).ok().prints("/");
}

#[test]
fn a_huge_passwd_blocks_no_start() {
    let Some(env) = Env::new() else { return };
    let bundle = env.script("echo $HOME");
    fs::File::create(bundle.rootfs("etc/passwd")).unwrap().set_len(8 << 40).unwrap();
    if env.ours("the others need the whole file") {
        env.run(&bundle).ok().prints("/");
    }
}

/// The default links of /dev, its nodes and ptmx, made or removed through /dev as a link
/// (CVE-2026-41579); what is mounted on /proc and /sys (CVE-2019-19921, CVE-2023-27561).
#[test]
fn a_link_at_a_system_directory_does_not_lead_outside() {
    let Some(env) = Env::new() else { return };
    for directory in ["dev", "proc", "sys"] {
        if directory == "dev" && env.differs("runc", "1.1 makes links behind it (CVE-2026-41579)") {
            continue;
        }
        let outside = env.dir().join(format!("outside-{directory}"));
        fs::create_dir(&outside).unwrap();
        for name in ["ptmx", "null", "console"] {
            fs::write(outside.join(name), "of the host").unwrap();
        }
        let before = names(&outside);
        let relative = format!("{UP}{}", outside.display());
        for target in [outside.to_str().unwrap(), &relative] {
            let bundle = env.bundle(&["true"]);
            fs::remove_dir(bundle.rootfs(directory)).unwrap();
            symlink(target, bundle.rootfs(directory)).unwrap();
            let _either_is_right = env.run(&bundle);
            // Engines that mount nothing on /dev leave it to the image.
            let _either_is_right = env.run(&with_dev_of_image(bundle));
            assert_eq!(names(&outside), before, "{directory} as {target}");
            for name in &before {
                let text = fs::read_to_string(outside.join(name));
                assert_eq!(text.unwrap(), "of the host", "{directory} as {target}: {name}");
            }
        }
    }
}

#[test]
fn non_directories_at_proc_and_sys_are_not_mounted_on() {
    let Some(env) = Env::new() else { return };
    for directory in ["proc", "sys"] {
        let bundle = env.script("cat /proc/kcore | head -c1; ls /sys/firmware");
        fs::remove_dir(bundle.rootfs(directory)).unwrap();
        fs::write(bundle.rootfs(directory), "").unwrap();
        let output = env.run(&bundle).fails().says(&format!("/{directory}"));
        assert_eq!(output.stdout, "");
    }
}

/// As in runc and crun, for any mount there. procfs and sysfs elsewhere must not be mounted through
/// a link either.
#[test]
fn a_link_at_proc_and_sys_is_not_mounted_on() {
    let Some(env) = Env::new() else { return };
    let refused = |bundle: Bundle, place: &str| {
        fs::create_dir(bundle.rootfs("real")).unwrap();
        let output = env.run(&bundle).fails();
        assert_eq!(output.stdout, "");
        if env.ours("the words are ours") {
            output.says(&format!("].destination: {place} is a symbolic link in the root file system"));
        }
        assert_eq!(names(&bundle.rootfs("real")), [] as [String; 0]);
    };
    for directory in ["proc", "sys"] {
        for target in ["/real", "real", "missing", "/tmp/../real"] {
            let bundle = env.script("echo started");
            fs::remove_dir(bundle.rootfs(directory)).unwrap();
            symlink(target, bundle.rootfs(directory)).unwrap();
            refused(bundle, &format!("/{directory}"));
        }
        let kind = if directory == "proc" { "proc" } else { "sysfs" };
        let bundle = env.script("echo started").mount("/other", kind, kind, &[]);
        symlink("/real", bundle.rootfs("other")).unwrap();
        refused(bundle, "/other");
        if !env.ours("others follow it for a bind mount") {
            continue;
        }
        let place = format!("/{directory}");
        let bundle =
            env.script("echo started").without_mount(&place).mount(&place, "bind", &place, &["rbind", "ro"]);
        let bundle = bundle.without_mount("/sys/fs/cgroup");
        fs::remove_dir(bundle.rootfs(directory)).unwrap();
        symlink("/real", bundle.rootfs(directory)).unwrap();
        refused(bundle, &place);
    }
    // A directory on the way may be a link: what is mounted stays inside.
    let bundle = env.script("test -d /real/own/self && echo there").mount("/way/own", "proc", "proc", &[]);
    fs::create_dir(bundle.rootfs("real")).unwrap();
    symlink("real", bundle.rootfs("way")).unwrap();
    env.run(&bundle).ok().prints("there");
}

/// A masked file is covered by /dev/null; an image whose /dev/null is a link would have it covered
/// by, and so opened to, what the link names (CVE-2025-31133).
#[test]
fn a_false_dev_null_does_not_replace_masked_files() {
    let Some(env) = Env::new() else { return };
    let script = "stat -L -c '%t:%T' /proc/keys; cat /proc/keys; echo written >/proc/keys; echo $?";
    let masked = |bundle: Bundle| bundle.set("linux/maskedPaths", json!(["/proc/keys"]));
    let links = ["/proc/sys/kernel/domainname", "/proc/self/status", "/etc/passwd"];
    for (at, target) in links.into_iter().enumerate() {
        // The image's own /dev, or a directory that an attacker could fill, bound there.
        let bundle = masked(with_dev_of_image(env.script(script)));
        symlink(target, bundle.rootfs("dev/null")).unwrap();
        env.run(&bundle).ok().prints("1:3\n0");
        let directory = env.dir().join(format!("dev{at}"));
        fs::create_dir(&directory).unwrap();
        symlink(target, directory.join("null")).unwrap();
        let bundle = masked(with_dev_of_image(env.script(script)));
        env.run(&bundle.mount("/dev", "bind", directory.to_str().unwrap(), &["bind"])).ok().prints("1:3\n0");
    }
}

/// The terminal is mounted on /dev/console: as a link that name leads elsewhere (CVE-2025-52565).
#[test]
fn a_false_console_is_not_mounted_on() {
    let Some(env) = Env::new() else { return };
    let outside = env.dir().join("outside");
    fs::write(&outside, "of the host").unwrap();
    for target in ["/proc/sys/kernel/domainname", "/etc/passwd", outside.to_str().unwrap(), "/etc/made"] {
        let script = "stat -c '%F %t' /dev/console; head -c 4 /etc/passwd; ls /etc";
        let bundle = with_dev_of_image(env.script(script).set("process/terminal", json!(true)));
        let bundle = bundle.mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666"]);
        fs::create_dir(bundle.rootfs("dev/pts")).unwrap();
        symlink(target, bundle.rootfs("dev/console")).unwrap();
        bundle.write();
        let said = env.runtime(&["run", "-b", bundle.str(), "web"]).ok().stdout.replace('\r', "");
        assert_eq!(said.trim(), "character special file 88\nrootgroup   passwd", "{target}");
    }
    assert_eq!(fs::read_to_string(&outside).unwrap(), "of the host");
}

/// What answers at /dev/pts/ptmx must be a devpts. To open another file can have consequences, of a
/// device most of all.
#[test]
fn a_false_ptmx_is_not_opened() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others use what is there") {
        return;
    }
    let run = |plant: &dyn Fn(&Path)| {
        let bundle = with_dev_of_image(env.bundle(&["true"]).set("process/terminal", json!(true)));
        fs::create_dir(bundle.rootfs("dev/pts")).unwrap();
        plant(&bundle.rootfs("dev/pts/ptmx"));
        bundle.write();
        env.runtime(&["run", "-b", bundle.str(), "web"]).fails().says("open a terminal in /dev/pts");
        bundle
    };
    run(&|path| symlink("/proc/kmsg", path).unwrap());
    run(&|path| {
        let (kind, number) = (FileType::CharacterDevice, rustix::fs::makedev(5, 2));
        mknodat(CWD, path, kind, Mode::from_raw_mode(0o666), number).unwrap();
    });
    let opened = Arc::new(AtomicBool::new(false));
    let bundle = run(&|path| {
        mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        // A fifo can be opened for writing once another process has opened it for reading.
        let (path, opened) = (path.to_owned(), Arc::clone(&opened));
        std::thread::spawn(move || {
            let _writer = fs::OpenOptions::new().write(true).open(path);
            opened.store(true, Ordering::Relaxed);
        });
        std::thread::sleep(std::time::Duration::from_millis(100));
    });
    assert!(!opened.load(Ordering::Relaxed), "the fifo was opened");
    let _lets_the_thread_end =
        fs::OpenOptions::new().read(true).write(true).open(bundle.rootfs("dev/pts/ptmx"));
}

/// An engine may have pid files in a directory where others can make names.
#[test]
fn a_link_next_to_a_pid_file_is_not_followed() {
    let Some(env) = Env::new() else { return };
    let (directory, outside) = (env.dir().join("shared"), env.dir().join("outside"));
    fs::create_dir(&directory).unwrap();
    fs::write(&outside, "of the host").unwrap();
    fs::write(directory.join("pid"), "old").unwrap();
    // The numbers that the next processes will have.
    let last = env.program("sh", &["-c", "echo $$"]).run().ok().text().parse::<u32>().unwrap();
    for number in last..last + 1500 {
        symlink(&outside, directory.join(format!(".pid.{number}"))).unwrap();
    }
    let bundle = env.bundle(&["true"]);
    bundle.write();
    let file = directory.join("pid");
    env.runtime(&["create", "-b", bundle.str(), "--pid-file", file.to_str().unwrap(), "web"]).ok();
    assert_eq!(fs::read_to_string(&file).unwrap(), env.pid("web").to_string());
    assert!(fs::symlink_metadata(&file).unwrap().is_file());
    assert_eq!(fs::read_to_string(&outside).unwrap(), "of the host");
    env.delete("web");
}
