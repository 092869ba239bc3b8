//! `process.terminal`: the pty made inside, its master sent over the console socket (runc's
//! docs/terminals.md), or copied by `run`.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::json;

use crate::support::{Bundle, Env, Output, until};

pub(crate) fn listen(env: &Env) -> (UnixListener, PathBuf) {
    let path = env.dir().join("console");
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    (listener, path)
}

/// The descriptor that the runtime sent. `create` has ended, so what it sent has arrived.
pub(crate) fn master(listener: &UnixListener) -> File {
    let (stream, _) = listener.accept().expect("the runtime connects to the console socket");
    let mut data = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(&stream, &mut [IoSliceMut::new(&mut data)], &mut ancillary, flags).expect("receive");
    let mut found: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(found.len(), 1, "one descriptor");
    File::from(found.remove(0))
}

/// Types `what`, and reads until the terminal has said `answer`.
pub(crate) fn type_and_see(mut master: &File, what: &str, answer: &str) {
    master.write_all(what.as_bytes()).unwrap();
    let mut said = String::new();
    let mut buffer = [0; 256];
    while !said.contains(answer) {
        let count = master.read(&mut buffer).unwrap();
        said.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}

/// All that the terminal says until the other side is closed (then read(2) gives EIO).
pub(crate) fn read_all(mut master: &File) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count) = master.read(&mut buffer) {
        if count == 0 {
            break;
        }
        text.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn with_terminal(env: &Env, script: &str) -> Bundle {
    env.script(script).set("process/terminal", json!(true))
}

fn create(env: &Env, bundle: &Bundle, socket: &std::path::Path) {
    bundle.write();
    env.runtime(&["create", "-b", bundle.str(), "--console-socket", socket.to_str().unwrap(), "web"]).ok();
}

#[test]
fn the_master_comes_over_the_console_socket() {
    let Some(env) = Env::new() else { return };
    let (listener, socket) = listen(&env);
    let script = "tty; test -t 0 && test -t 1 && test -t 2 && echo all three; stat -c '%t' /dev/console /dev/pts/0; echo from $(cat /dev/null)end >/dev/tty";
    create(&env, &with_terminal(&env, script), &socket);
    let master = master(&listener);
    assert!(rustix::termios::isatty(&master), "it is a terminal");
    env.runtime(&["start", "web"]).ok();
    let said = read_all(&master);
    let lines: Vec<_> = said.lines().collect();
    assert!(["/dev/console", "/dev/pts/0"].contains(&lines[0]), "{said}");
    // Majors of Unix98 pty slaves begin at 136 (devices.txt).
    assert_eq!(lines[1..], ["all three", "88", "88", "from end"], "{said}");
    env.wait_for("web", "stopped");
    env.delete("web");
}

#[test]
fn typed_input_and_signals_arrive() {
    let Some(env) = Env::new() else { return };
    let (listener, socket) = listen(&env);
    create(
        &env,
        &with_terminal(
            &env,
            "trap 'echo interrupted; exit' INT; read line; echo got $line; while :; do usleep 10000; done",
        ),
        &socket,
    );
    let mut master = master(&listener);
    env.runtime(&["start", "web"]).ok();
    type_and_see(&master, "hello\n", "got hello");
    master.write_all(b"\x03").unwrap(); // the terminal controls the session, so ^C becomes SIGINT
    assert!(read_all(&master).contains("interrupted"));
    env.wait_for("web", "stopped");
    env.delete("web");
}

#[test]
fn console_size() {
    let Some(env) = Env::new() else { return };
    let (listener, socket) = listen(&env);
    let bundle =
        with_terminal(&env, "stty size").set("process/consoleSize", json!({"height": 33, "width": 77}));
    create(&env, &bundle, &socket);
    let master = master(&listener);
    env.runtime(&["start", "web"]).ok();
    assert_eq!(read_all(&master).trim(), "33 77");
    env.wait_for("web", "stopped");
    env.delete("web");
}

#[test]
fn the_terminal_belongs_to_the_user() {
    let Some(env) = Env::new() else { return };
    let (listener, socket) = listen(&env);
    let bundle = with_terminal(&env, "echo x >/dev/tty && stat -L -c %u /proc/self/fd/0")
        .set("process/user/uid", json!(1000));
    create(&env, &bundle, &socket);
    let master = master(&listener);
    env.runtime(&["start", "web"]).ok();
    assert_eq!(read_all(&master).split_whitespace().collect::<Vec<_>>(), ["x", "1000"]);
    env.wait_for("web", "stopped");
    env.delete("web");
}

#[test]
fn socket_and_terminal_belong_together() {
    let Some(env) = Env::new() else { return };
    if env.differs("crun", "ignores a needless socket") {
        return;
    }
    let (_listener, socket) = listen(&env);
    env.create("web", &with_terminal(&env, "true")).fails();
    let bundle = env.script("true");
    bundle.write();
    env.runtime(&["create", "-b", bundle.str(), "--console-socket", socket.to_str().unwrap(), "web"]).fails();
    let bundle = with_terminal(&env, "true");
    bundle.write();
    env.runtime(&["create", "-b", bundle.str(), "--console-socket", "/no/such/socket", "web"]).fails();
}

#[test]
fn run_copies_the_terminal() {
    let Some(env) = Env::new() else { return };
    // script(1) gives `run` a terminal of its own; the size must go through.
    let bundle = with_terminal(&env, "tty; stty size; read line; echo got $line; exit 6");
    bundle.write();
    let input = env.dir().join("typed");
    std::fs::write(&input, "hello\n").unwrap();
    let command = format!(
        "stty rows 21 cols 67; {} --root {} run -b {} web; echo status $?",
        env.binary().display(),
        env.root().display(),
        bundle.str()
    );
    let output = env
        .program("script", &["-qc", &command, "/dev/null"])
        .stdin(File::open(&input).unwrap().into())
        .run();
    let said = &output.stdout;
    assert!(said.contains("/dev/pts/0") || said.contains("/dev/console"), "{said}");
    assert!(said.contains("21 67") || env.differs("crun", "the size comes late"), "{said}");
    assert!(said.contains("got hello"), "{said}");
    assert!(said.contains("status 6"), "{said}");
}

/// tmux with a server of its own in the test's directory, which ends with this value.
struct Tmux<'a> {
    env: &'a Env,
    socket: String,
}

impl<'a> Tmux<'a> {
    /// A window of 80 × 24 that runs `command`.
    fn new(env: &'a Env, command: &str) -> Self {
        let tmux = Self { env, socket: env.dir().join("tmux").to_str().unwrap().to_owned() };
        let set = ["set-option", "-g", "status", "off", ";"];
        tmux.call(&[&set[..], &["new-session", "-d", "-x", "80", "-y", "24", command]].concat()).ok();
        tmux
    }

    fn call(&self, args: &[&str]) -> Output {
        let all = [&["-S", &self.socket, "-f", "/dev/null"], args].concat();
        self.env.program("tmux", &all).env("LC_ALL", "C.UTF-8").env("TERM", "xterm").run()
    }

    fn press(&self, keys: &[&str]) {
        self.call(&[&["send-keys"], keys].concat()).ok();
    }

    fn screen(&self) -> String {
        self.call(&["capture-pane", "-p"]).ok().stdout
    }

    fn shows(&self, what: &str) {
        until(&format!("{what:?} on the screen"), || self.screen().contains(what));
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        self.call(&["kill-server"]);
    }
}

#[test]
fn an_editor_in_tmux() {
    let Some(env) = Env::new() else { return };
    if !env.has("tmux", "tmux") {
        return;
    }
    let bundle = env
        .bundle(&["sh"])
        .set("process/terminal", json!(true))
        .push("process/env", json!("PS1=ready> "))
        .push("process/env", json!("TERM=xterm"));
    bundle.write();
    let ended = env.dir().join("ended");
    let command = format!(
        "{} --root {} run -b {} web; echo $? >{}",
        env.binary().display(),
        env.root().display(),
        bundle.str(),
        ended.display()
    );
    let tmux = Tmux::new(&env, &command);
    tmux.shows("ready>");
    tmux.press(&["stty size", "Enter"]);
    tmux.shows("24 80");
    tmux.press(&["vi /root/note", "Enter"]);
    tmux.shows("~\n~");
    tmux.press(&["i", "hello from vi", "Enter", "second line"]);
    tmux.shows("second line");
    // To vi, what follows an escape at once belongs to it; the line at the bottom says when it has
    // left the insert mode.
    tmux.press(&["Escape"]);
    tmux.shows("- /root/note");
    tmux.press(&[":wq", "Enter"]);
    until("the note is written", || {
        std::fs::read_to_string(bundle.rootfs("root/note"))
            .is_ok_and(|text| text == "hello from vi\nsecond line\n")
    });
    tmux.press(&["clear", "Enter"]);
    tmux.call(&["resize-window", "-x", "101", "-y", "31"]).ok();
    // The new size takes its way through tmux and the runtime, so the question is asked until it
    // has arrived.
    until("the new size", || {
        tmux.press(&["stty size", "Enter"]);
        std::thread::sleep(std::time::Duration::from_millis(50));
        tmux.screen().contains("31 101")
    });
    tmux.press(&["exit 4", "Enter"]);
    until("the shell has ended", || std::fs::read_to_string(&ended).is_ok_and(|text| text == "4\n"));
}

#[test]
fn a_line_feed_stays_one_on_its_way_to_a_pipe() {
    let Some(env) = Env::new() else { return };
    let bundle = with_terminal(&env, "echo one; echo two; test -t 1 && echo three");
    let plain = "one\ntwo\nthree\n";
    assert_eq!(env.run(&bundle).ok().stdout, plain);
    env.launch("web", &env.bundle(&["sleep", "1000"]));
    let exec = ["exec", "-t", "web", "sh", "-c", "echo one; echo two; test -t 1 && echo three"];
    assert_eq!(env.runtime(&exec).ok().stdout, plain);
    env.delete("web");
    // With a terminal as input, whose mode is raw meanwhile: what others write there must look
    // right.
    let runtime = format!("{} --root {}", env.binary().display(), env.root().display());
    let script = format!("x=$({runtime} run -b {} one); echo \"$x\" | od -c | grep -c '\\\\r'", bundle.str());
    // Its input does not end, or script(1) would type that, and the terminal show it.
    let (input, _held) = rustix::pipe::pipe().unwrap();
    let in_terminal = |script: &str| {
        env.program("script", &["-qc", script, "/dev/null"]).stdin(input.try_clone().unwrap()).run()
    };
    let output = in_terminal(&script);
    assert_eq!(output.stdout.trim(), "0", "{}", output.stdout);
    let script = format!("{runtime} run -b {} two | cat", bundle.str());
    let output = in_terminal(&script);
    assert!(output.stdout.contains("one\r\ntwo\r\nthree\r\n"), "{:?}", output.stdout);
}

#[test]
fn lines_begin_at_the_left_of_an_interactive_terminal() {
    let Some(env) = Env::new() else { return };
    if !env.has("tmux", "tmux") {
        return;
    }
    let bundle = with_terminal(&env, "echo first line; echo second line; read line");
    bundle.write();
    let tmux = Tmux::new(
        &env,
        &format!("{} --root {} run -b {} web", env.binary().display(), env.root().display(), bundle.str()),
    );
    tmux.shows("first line\nsecond line\n");
    tmux.press(&["Enter"]);
    // The end of tmux would leave the program waiting for a line that never comes.
    until("the container ends", || !env.root().join("web").exists());
}

/// Runs the runtime with `arguments` in the background of a shell with job control, and brings it
/// to the foreground.
fn in_background_and_back(env: &Env, arguments: &str) {
    let ended = env.dir().join("run/ended");
    let tmux = Tmux::new(env, "bash --norc --noprofile -i");
    tmux.press(&["PS1='shell> '", "Enter"]);
    tmux.shows("\nshell>");
    let runtime = format!("{} --root {}", env.binary().display(), env.root().display());
    tmux.press(&[&format!("{runtime} {arguments} &"), "Enter"]);
    until("the job is stopped", || {
        tmux.press(&["Enter"]);
        std::thread::sleep(std::time::Duration::from_millis(100));
        tmux.screen().contains("Stopped")
    });
    tmux.press(&["clear", "Enter"]);
    tmux.press(&["fg", "Enter"]);
    until("the program answers", || {
        tmux.press(&["echo $((6 * 7))", "Enter"]);
        std::thread::sleep(std::time::Duration::from_millis(200));
        tmux.screen().contains("\n42\n")
    });
    tmux.press(&["exit 4", "Enter"]);
    // The shell's own mode is back: it reads lines, and the end of the job is in its hands.
    tmux.press(&[&format!("echo $? >{}", ended.display()), "Enter"]);
    until("the shell goes on", || std::fs::read_to_string(&ended).is_ok_and(|text| text == "4\n"));
}

#[test]
fn a_job_in_the_background_waits_for_its_terminal() {
    let Some(env) = Env::new() else { return };
    if !env.has("tmux", "tmux") || !env.has("bash", "bash") || !env.ours("others spin, or take the terminal")
    {
        return;
    }
    let bundle =
        env.bundle(&["sh"]).set("process/terminal", json!(true)).push("process/env", json!("PS1=ready> "));
    bundle.write();
    in_background_and_back(&env, &format!("run -b {} web", bundle.str()));
    env.launch("other", &env.bundle(&["sleep", "1000"]));
    in_background_and_back(&env, "exec -t other sh");
    env.delete("other");
}

/// Both without a terminal and with one. The runtime stays awake, and the program hears of each.
#[test]
fn signals_of_job_control_are_passed_on() {
    let Some(env) = Env::new() else { return };
    let traps = "for s in TSTP CONT TTIN TTOU USR1 PIPE SEGV; do trap \"echo got $s\" $s; done; trap 'exit 9' TERM; echo ready; while :; do usleep 20000; done";
    env.launch("other", &env.bundle(&["sleep", "1000"]));
    let plain = env.script(traps);
    plain.write();
    let terminal = with_terminal(&env, traps);
    terminal.write();
    let exec = format!("exec other sh -c '{}'", traps.replace('\'', "'\\''"));
    let commands = [
        format!("run -b {} one", plain.str()),
        format!("run -b {} two", terminal.str()),
        exec.clone(),
        exec.replacen("exec", "exec -t", 1),
    ];
    for (at, command) in commands.iter().enumerate() {
        let script = format!(
            "$RUNTIME --root $ROOT {command} >run/said{at} 2>&1 & p=$!
            waits() {{ i=0; until grep -q \"$1\" run/said{at}; do i=$((i+1)); test $i -lt 400 || exit 7; sleep 0.05; done; }}
            waits ready
            for s in TSTP CONT TTIN CONT TTOU CONT USR1 PIPE SEGV; do
                kill -$s $p; waits \"got $s\"; grep -q 'State:.T' /proc/$p/status && echo stopped by $s
            done
            kill -TERM $p; wait $p; echo $?"
        );
        env.shell(&script).ok().prints("9");
    }
    env.delete("other");
}
