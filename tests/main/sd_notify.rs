//! NOTIFY_SOCKET, sd_notify(3): what the container says to its service manager, and what of it
//! arrives.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::json;

use crate::support::{Bundle, Env, until};

/// A service manager.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(env: &Env) -> Self {
        let path = env.dir().join("manager");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(crate::support::patience())).unwrap();
        Self { socket, path }
    }

    /// The next message, and the descriptor with it.
    #[track_caller]
    fn hears(&self) -> (String, Option<OwnedFd>) {
        let mut data = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got =
            rustix::net::recvmsg(&self.socket, &mut [IoSliceMut::new(&mut data)], &mut ancillary, flags)
                .expect("a message to the manager");
        let descriptor = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        (String::from_utf8_lossy(&data[..got.bytes]).into_owned(), descriptor)
    }

    fn hears_nothing_more(&self) {
        self.socket.set_nonblocking(true).unwrap();
        let mut data = [0; 64];
        let more =
            self.socket.recv(&mut data).map(|length| String::from_utf8_lossy(&data[..length]).into_owned());
        assert!(more.is_err(), "{more:?}");
        self.socket.set_nonblocking(false).unwrap();
    }
}

/// What the container with this process says, as one of its own processes would.
fn say(pid: i32, messages: &[&[u8]]) {
    let path = format!("/proc/{pid}/root/run/notify/notify.sock");
    let socket = UnixDatagram::unbound().unwrap();
    for message in messages {
        socket.send_to(message, &path).unwrap();
    }
}

/// Says that it is ready, among much that must not be passed on; with a descriptor, as for a
/// barrier of its own.
fn say_ready(pid: i32) {
    let long = ["READY=1\n".as_bytes(), &[b'x'; 5000]].concat();
    let before: [&[u8]; 6] =
        [b"STATUS=coming", b"READY=0", b"MAINPID=1", b"WATCHDOG=trigger\nERRNO=1", b"", &long];
    say(pid, &before);
    let socket = UnixDatagram::unbound().unwrap();
    socket.connect(format!("/proc/{pid}/root/run/notify/notify.sock")).unwrap();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let attached = [writer.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&attached)));
    let words = [std::io::IoSlice::new(b"STATUS=up\nREADY=1\nMAINPID=1")];
    rustix::net::sendmsg(&socket, &words, &mut control, rustix::net::SendFlags::empty()).unwrap();
    drop(writer);
    // Nobody keeps it: the end comes.
    let mut data = [0; 1];
    assert_eq!(rustix::io::read(&reader, &mut data).unwrap(), 0);
}

/// What a user namespace and a read-only root make of a bundle.
fn kinds(env: &Env) -> Vec<Bundle> {
    let script = "echo $NOTIFY_SOCKET; stat -c %a $NOTIFY_SOCKET; touch /run/notify/x 2>/dev/null || echo read-only; sleep 1000";
    let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let plain = env.script(script);
    let readonly = env.script(script).set("root/readonly", json!(true)).set("process/user/uid", json!(1000));
    let mapped = env
        .script(script)
        .namespace("user", None)
        .set("linux/uidMappings", mapping.clone())
        .set("linux/gidMappings", mapping);
    env.program("chown", &["-hR", "100000:100000", mapped.rootfs("").to_str().unwrap()]).run().ok();
    vec![plain, readonly, mapped]
}

const INSIDE: &str = "/run/notify/notify.sock\n777\nread-only\n";

#[test]
fn a_detached_container_is_the_services_main_process() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others send the same in other pieces") {
        return;
    }
    let manager = Manager::new(&env);
    for (at, bundle) in kinds(&env).into_iter().enumerate() {
        bundle.write();
        let id = format!("c{at}");
        let commands: &[&[&str]] = match at {
            0 => &[&["create", "-b", bundle.str(), &id], &["start", &id]],
            _ => &[&["run", "-d", "-b", bundle.str(), &id]],
        };
        let call = |words: &[&str]| env.call(words).env("NOTIFY_SOCKET", &manager.path);
        let (last, first) = commands.split_last().unwrap();
        let first: Vec<_> = first.iter().map(|words| call(words).run().ok()).collect();
        let waiting = call(last).start();
        until("the container runs", || {
            let state = env.runtime(&["state", &id]);
            state.code == 0 && state.stdout.contains("running")
        });
        let pid = env.pid(&id);
        say_ready(pid);
        assert_eq!(manager.hears().0, "READY=1\n");
        assert_eq!(manager.hears().0, format!("MAINPID={pid}\n"));
        let (words, barrier) = manager.hears();
        assert_eq!(words, "BARRIER=1");
        drop(barrier.expect("a descriptor"));
        let last = waiting.wait().ok();
        until("the program prints", || first.first().unwrap_or(&last).later() == INSIDE);
        manager.hears_nothing_more();
        env.delete(&id);
    }
}

#[test]
fn the_runtime_lives_until_its_manager_has_heard_it() {
    let Some(env) = Env::new() else { return };
    let manager = Manager::new(&env);
    let bundle = env.bundle(&["sleep", "1000"]);
    bundle.write();
    let begun =
        env.call(&["run", "-d", "-b", bundle.str(), "web"]).env("NOTIFY_SOCKET", &manager.path).start();
    env_runs(&env, "web");
    say_ready(env.pid("web"));
    manager.hears();
    manager.hears();
    let barrier = manager.hears();
    let held = Instant::now();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(600));
        drop(barrier);
    });
    begun.wait().ok();
    assert!(held.elapsed() > Duration::from_millis(500), "it did not wait for the barrier");
    env.delete("web");
}

fn env_runs(env: &Env, id: &str) {
    until("the container runs", || {
        let state = env.runtime(&["state", id]);
        state.code == 0 && state.stdout.contains("running")
    });
}

#[test]
fn in_the_foreground_the_runtime_stays_the_main_process() {
    let Some(env) = Env::new() else { return };
    if !env.ours("runc sends its own number") {
        return;
    }
    let manager = Manager::new(&env);
    let bundle = env.script("trap 'exit 5' TERM; while :; do usleep 20000; done");
    bundle.write();
    let running = env.call(&["run", "-b", bundle.str(), "web"]).env("NOTIFY_SOCKET", &manager.path).start();
    env_runs(&env, "web");
    let pid = env.pid("web");
    say_ready(pid);
    assert_eq!(manager.hears().0, "READY=1\n");
    let (words, barrier) = manager.hears();
    assert_eq!((words.as_str(), barrier.is_some()), ("BARRIER=1", true));
    drop(barrier);
    // Later ones are read and dropped, so that their senders do not block.
    say(pid, &[&b"READY=1"[..]; 40]);
    env.runtime(&["kill", "web", "TERM"]).ok();
    running.wait().exits(5);
    manager.hears_nothing_more();
}

#[test]
fn a_container_that_ends_or_a_manager_that_is_gone_delays_nothing() {
    let Some(env) = Env::new() else { return };
    let manager = Manager::new(&env);
    let bundle = env.bundle(&["true"]);
    bundle.write();
    let names = [manager.path.to_str().unwrap(), "/no/such/socket", "@no-such-name", "vsock:2:1234", ""];
    for name in names {
        let call = |words: &[&str]| env.call(words).env("NOTIFY_SOCKET", name).run();
        call(&["run", "-b", bundle.str(), "web"]).ok();
        call(&["run", "-d", "-b", bundle.str(), "web"]).ok();
        env.delete("web");
        call(&["create", "-b", bundle.str(), "web"]).ok();
        call(&["start", "web"]).ok();
        env.delete("web");
        // Created with a socket, started without a manager.
        call(&["create", "-b", bundle.str(), "web"]).ok();
        env.runtime(&["start", "web"]).ok();
        env.delete("web");
    }
    manager.hears_nothing_more();
    let sleeps = env.bundle(&["sleep", "1000"]);
    sleeps.write();
    let gone =
        env.call(&["run", "-d", "-b", sleeps.str(), "web"]).env("NOTIFY_SOCKET", "/no/such/socket").start();
    env_runs(&env, "web");
    say(env.pid("web"), &[b"READY=1"]);
    gone.wait().ok().says("service manager");
    env.delete("web");
}

/// Whoever sends without end costs the runtime only so much.
#[test]
fn messages_without_end_are_not_read_for_ever() {
    let Some(env) = Env::new() else { return };
    if !env.ours("others read on") {
        return;
    }
    let manager = Manager::new(&env);
    let bundle = env.bundle(&["sleep", "1000"]);
    bundle.write();
    let begun =
        env.call(&["run", "-d", "-b", bundle.str(), "web"]).env("NOTIFY_SOCKET", &manager.path).start();
    env_runs(&env, "web");
    let path = format!("/proc/{}/root/run/notify/notify.sock", env.pid("web"));
    let socket = UnixDatagram::unbound().unwrap();
    let sent = (0..1 << 20).take_while(|_| socket.send_to(b"STATUS=x", &path).is_ok()).count();
    assert!((1 << 16..1 << 18).contains(&sent), "{sent} messages");
    begun.wait().ok().says("too many messages");
    manager.hears_nothing_more();
    env.delete("web");
}
