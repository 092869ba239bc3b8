//! `SCMP_ACT_NOTIFY` with an answering listener, for any system call, including the runtime's own.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::support::{Bundle, Env, Older};

/// `SECCOMP_IOCTL_NOTIF_RECV` and `…_SEND`, linux/seccomp.h.
const RECEIVE: libc::c_ulong = 0xc050_2100;
const ANSWER: libc::c_ulong = 0xc018_2101;

/// Lets every call go on that it is asked about, and counts them by number.
struct Agent {
    path: PathBuf,
    thread: JoinHandle<BTreeMap<i32, usize>>,
}

impl Agent {
    /// Serves the first `filters` listeners that are sent to `path`, until no process is left under
    /// them.
    fn start(path: &Path, filters: usize) -> Self {
        let socket = UnixListener::bind(path).unwrap();
        std::os::unix::fs::chown(path, Some(crate::support::NOBODY), None).unwrap();
        let thread = std::thread::spawn(move || {
            let serve = || {
                let (connection, _) = socket.accept().unwrap();
                let mut text = vec![0; 1 << 16];
                let (listener, length) =
                    emergence_runc::sys::fd::recv_fd(connection.as_fd(), &mut text).unwrap();
                let document: Value = serde_json::from_slice(&text[..length]).unwrap();
                assert_eq!(document["fds"], json!(["seccompFd"]));
                std::thread::spawn(move || answer_all(&listener))
            };
            let served: Vec<_> = (0..filters).map(|_| serve()).collect();
            let mut heard = BTreeMap::new();
            for one in served {
                for (number, count) in one.join().unwrap() {
                    *heard.entry(number).or_default() += count;
                }
            }
            heard
        });
        Self { path: path.to_owned(), thread }
    }

    /// What it heard, when all that it served is gone.
    fn end(self) -> BTreeMap<i32, usize> {
        let heard = self.thread.join().unwrap();
        std::fs::remove_file(self.path).unwrap();
        heard
    }
}

/// Until the last process under the filter is gone.
fn answer_all(listener: &OwnedFd) -> BTreeMap<i32, usize> {
    let mut heard = BTreeMap::new();
    loop {
        let mut wait = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, ours.
        let ready = unsafe { libc::poll(&raw mut wait, 1, 60_000) };
        assert!(ready > 0, "ready without a process under the filter: {heard:?}");
        if wait.revents & libc::POLLIN == 0 {
            return heard;
        }
        // SAFETY: both are plain numbers, for which zeros are a value; the kernel wants them
        // zeroed.
        let (mut call, mut answer): (libc::seccomp_notif, libc::seccomp_notif_resp) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        // SAFETY: the kernel writes one `seccomp_notif` there.
        if unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut call) } < 0 {
            assert_eq!(
                io::Error::last_os_error().raw_os_error(),
                Some(libc::ENOENT),
                "the asking one has died"
            );
            continue;
        }
        *heard.entry(call.data.nr).or_default() += 1;
        answer.id = call.id;
        answer.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
        // SAFETY: the kernel reads one `seccomp_notif_resp`. It fails when the asking one has died
        // meanwhile.
        unsafe { libc::ioctl(listener.as_raw_fd(), ANSWER, &raw const answer) };
    }
}

/// Allows all, asks about `names`.
fn asks(bundle: Bundle, names: &[&str], listener: &Path) -> Bundle {
    bundle.set(
        "linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": listener,
            "syscalls": [{"names": names, "action": "SCMP_ACT_NOTIFY"}],
        }),
    )
}

/// Calls that the container's process itself makes between the filter and its program, or that
/// carry the listener.
const OWN: [(&str, libc::c_long); 6] = [
    ("read", libc::SYS_read),
    ("write", libc::SYS_write),
    ("sendmsg", libc::SYS_sendmsg),
    ("sendto", libc::SYS_sendto),
    ("close", libc::SYS_close),
    ("execve", libc::SYS_execve),
];

/// Those of them that a listener may be asked about. Before Linux 5.6, which brought
/// pidfd_getfd(2), the process sends it itself.
fn own(env: &Env) -> Vec<(&'static str, libc::c_long)> {
    let sends = |name: &str| env.is_older() && name == "sendmsg";
    OWN.into_iter().filter(|(name, _)| !sends(name)).collect()
}

#[test]
fn before_linux_5_6_a_listener_of_sendmsg_is_refused() {
    let Some(env) = Env::older(Older::Linux5_4) else { return };
    let socket = env.dir().join("listener");
    let _socket = UnixListener::bind(&socket).unwrap();
    let bundle = asks(env.bundle(&["true"]), &["read", "sendmsg"], &socket);
    let words = "linux.seccomp.syscalls[0].names[1]: SCMP_ACT_NOTIFY on sendmsg needs pidfd_getfd(2), which Linux has since 5.6";
    env.run(&bundle).fails().says(words);
}

#[test]
fn a_listener_may_be_asked_about_the_calls_that_start_the_program() {
    let Some(env) = Env::new() else { return };
    if !env.ours("runc refuses write, and its own calls are others") {
        return;
    }
    let socket = env.dir().join("listener");
    let own = own(&env);
    let all: Vec<&str> = own.iter().map(|(name, _)| *name).collect();
    for no_new_privileges in [true, false] {
        let sets = own.iter().map(|(name, number)| (vec![*name], Some(*number))).chain([(all.clone(), None)]);
        for (names, number) in sets {
            let agent = Agent::start(&socket, 1);
            let bundle = env.script("echo it runs; cat /etc/group >/dev/null");
            let bundle = bundle.set("process/noNewPrivileges", json!(no_new_privileges));
            env.run(&asks(bundle, &names, &socket)).ok().prints("it runs");
            let heard = agent.end();
            let once = |number: libc::c_long| heard.get(&(number as i32)).is_some_and(|count| *count > 0);
            // Nothing in there sends.
            let quiet = number.is_some_and(|number| [libc::SYS_sendmsg, libc::SYS_sendto].contains(&number));
            assert!(quiet || once(number.unwrap_or(libc::SYS_execve)), "{names:?}: {heard:?}");
            assert!(!once(libc::SYS_sendmsg), "the listener went over the runtime's hands: {heard:?}");
        }
    }
}

#[test]
fn create_start_and_exec_under_a_listener() {
    let Some(env) = Env::new() else { return };
    if !env.ours("runc refuses write") {
        return;
    }
    let socket = env.dir().join("listener");
    let names: Vec<&str> = own(&env).into_iter().map(|(name, _)| name).collect();
    let agent = Agent::start(&socket, 3);
    let bundle = asks(env.script("echo created; exec sleep 100"), &names, &socket);
    let id = env.id();
    let output = env.create(&id, &bundle).ok();
    assert_eq!(env.state(&id)["status"], "created");
    env.runtime(&["start", &id]).ok();
    env.wait_for(&id, "running");
    env.runtime(&["exec", &id, "echo", "entered"]).ok().prints("entered");
    env.runtime(&["exec", "--user", "1000", &id, "sh", "-c", "exit 3"]).exits(3);
    assert_eq!(output.later(), "created\n");
    env.delete(&id);
    agent.end();
}

#[test]
fn a_listener_in_a_user_namespace() {
    let Some(env) = Env::new() else { return };
    if !env.ours("runc refuses write") {
        return;
    }
    let socket = env.dir().join("listener");
    let names: Vec<&str> = own(&env).into_iter().map(|(name, _)| name).collect();
    let agent = Agent::start(&socket, 2);
    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let bundle = env
        .bundle(&["sleep", "100"])
        .namespace("user", None)
        .set("linux/uidMappings", ids.clone())
        .set("linux/gidMappings", ids);
    let id = env.id();
    env.launch(&id, &asks(bundle, &names, &socket));
    env.runtime(&["exec", &id, "echo", "entered"]).ok().prints("entered");
    env.delete(&id);
    agent.end();
}

#[test]
fn a_rootless_users_listener() {
    let Some(env) = Env::rootless() else { return };
    if !env.ours("the words are ours") {
        return;
    }
    let socket = env.dir().join("listener");
    // He may not take the listener from the process (pidfd_getfd(2) wants the rights of ptrace(2)),
    // so that sends it.
    for names in [&["personality"][..], &["read", "write", "execve", "close"]] {
        let agent = Agent::start(&socket, 1);
        env.run(&asks(env.bundle(&["echo", "it runs"]), names, &socket)).ok().prints("it runs");
        agent.end();
    }
    let _socket = UnixListener::bind(&socket).unwrap();
    let bundle = asks(env.bundle(&["true"]), &["read", "sendmsg"], &socket);
    env.run(&bundle).fails().says("linux.seccomp.syscalls[0].names[1]: SCMP_ACT_NOTIFY on sendmsg needs ");
}

#[test]
fn a_listener_without_a_receiver() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the JSON path is ours") {
        return;
    }
    let nowhere = env.dir().join("nowhere");
    let bundle = asks(env.bundle(&["true"]), &["read", "write"], &nowhere);
    env.run(&bundle).fails().says("linux.seccomp.listenerPath: send the listener to");
    // Before anything is made.
    let bundle = asks(env.bundle(&["true"]), &["read"], Path::new(""));
    env.run(&bundle).fails().says("linux.seccomp.listenerPath: seccomp listenerPath is not set");
    // One that takes it and goes away: the calls fail, and that is said.
    let socket = UnixListener::bind(&nowhere).unwrap();
    let deaf = std::thread::spawn(move || {
        let (connection, _) = socket.accept().unwrap();
        let taken = emergence_runc::sys::fd::recv_fd(connection.as_fd(), &mut [0; 1 << 16]).unwrap();
        drop(taken);
        socket
    });
    env.run(&asks(env.bundle(&["true"]), &["write"], &nowhere)).fails().says("while it was set up");
    let socket = deaf.join().unwrap();
    // One that takes it and does not answer holds the process up. It can be removed.
    let bundle = asks(env.bundle(&["true"]), &["read"], &nowhere);
    bundle.write();
    let id = env.id();
    let running = env.call(&["create", "--bundle", bundle.str(), &id]).start();
    let (connection, _) = socket.accept().unwrap();
    let silent = emergence_runc::sys::fd::recv_fd(connection.as_fd(), &mut [0; 1 << 16]).unwrap();
    env.delete(&id);
    running.wait().fails();
    drop(silent);
}
