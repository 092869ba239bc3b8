//! One call of a program in a test's mount namespace, and what came of it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::killer::be_traced;
use super::{Env, Older, patience, until};

/// A call being put together.
pub(crate) struct Call<'a> {
    env: &'a Env,
    command: Command,
    words: String,
    cwd: PathBuf,
    user: Option<u32>,
    stdin: Option<OwnedFd>,
    network: Option<i32>,
    traced: bool,
}

impl<'a> Call<'a> {
    pub(super) fn new(env: &'a Env, program: &str, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(args);
        let words = format!("{program} {}", args.join(" "));
        let mut call = Self {
            env,
            command,
            words,
            cwd: env.dir().to_owned(),
            user: env.user,
            stdin: None,
            network: None,
            traced: false,
        };
        if env.user.is_some() {
            let home = env.dir().join("run");
            call = call.env("HOME", &home).env("XDG_RUNTIME_DIR", &home);
        }
        call
    }

    /// Adds an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// The directory to start in.
    pub(crate) fn cwd(mut self, path: &Path) -> Self {
        self.cwd = path.to_owned();
        self
    }

    /// Root, even in a rootless world.
    pub(crate) fn privileged(mut self) -> Self {
        self.user = None;
        self
    }

    /// Another standard input than /dev/null.
    pub(crate) fn stdin(mut self, fd: OwnedFd) -> Self {
        self.stdin = Some(fd);
        self
    }

    /// Another network namespace than the test's; `namespace` must stay open until the call is
    /// started.
    pub(crate) fn network(mut self, namespace: &OwnedFd) -> Self {
        self.network = Some(namespace.as_raw_fd());
        self
    }

    /// Stopped at its execve, and traced by this thread.
    pub(super) fn traced(mut self) -> Self {
        self.traced = true;
        self
    }

    /// Starts it. Standard output and error are files, because a container may keep them open after
    /// the runtime ended.
    pub(crate) fn start(mut self) -> Running {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = |kind: &str| self.env.dir().join(format!("run/{kind}-{count}"));
        let (stdout, stderr) = (path("out"), path("err"));
        let create = |path: &Path| {
            let file = fs::File::create_new(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            if let Some(uid) = self.user {
                std::os::unix::fs::chown(path, Some(uid), Some(uid)).expect("give the file to the user");
            }
            file
        };
        self.command.stdout(create(&stdout)).stderr(create(&stderr));
        self.command.stdin(self.stdin.take().map_or_else(Stdio::null, Stdio::from));
        let namespace = self.env.mount_namespace.as_raw_fd();
        let cwd = std::ffi::CString::new(self.cwd.as_os_str().as_encoded_bytes()).expect("a path has no NUL");
        let (user, older, network) = (self.user, self.env.older, self.network);
        // SAFETY: `enter` makes system calls only and owns what it reads; `namespace` stays open in
        // the parent, and so in the child's copy of the descriptor table, because `self.env`
        // outlives the call.
        unsafe { self.command.pre_exec(move || enter(namespace, network, &cwd, user, older)) };
        if self.traced {
            // SAFETY: one system call.
            unsafe { self.command.pre_exec(be_traced) };
        }
        let child = self.command.spawn().unwrap_or_else(|e| panic!("{}: {e}", self.words));
        Running { child, stdout, stderr, words: self.words }
    }

    /// Starts it and waits until it ends.
    pub(crate) fn run(self) -> Output {
        self.start().wait()
    }
}

/// In the child: the older kernel, if there is to be one; the test's mount namespace, then the
/// directory (setns(2) moves to `/`), then the user.
fn enter(
    namespace: i32,
    network: Option<i32>,
    cwd: &std::ffi::CStr,
    user: Option<u32>,
    older: Option<Older>,
) -> io::Result<()> {
    let check = |done: libc::c_int| if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    if let Some(older) = older {
        // While this is root's: a filter of an unprivileged user would keep newuidmap from its
        // rights.
        older.pretend()?;
    }
    // SAFETY: system calls on plain numbers and on `cwd`, which the caller keeps; setgroups reads
    // no list of length 0.
    unsafe {
        check(libc::setns(namespace, libc::CLONE_NEWNS))?;
        if let Some(network) = network {
            check(libc::setns(network, libc::CLONE_NEWNET))?;
        }
        if let Some(id) = user {
            check(libc::setgroups(0, std::ptr::null()))?;
            check(libc::setresgid(id, id, id))?;
            check(libc::setresuid(id, id, id))?;
        }
        check(libc::chdir(cwd.as_ptr()))
    }
}

/// A program that was started.
pub(crate) struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    words: String,
}

impl Running {
    /// Its pid.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// What it wrote to standard output so far.
    pub(crate) fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// What it wrote to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// Waits until it listens to several things at once: it sleeps in poll(2).
    pub(crate) fn until_it_listens(&self) {
        let polls = [
            #[cfg(target_arch = "x86_64")]
            libc::SYS_poll,
            libc::SYS_ppoll,
        ];
        // proc(5): the number of the call in which it sleeps, or "running".
        let call = || fs::read_to_string(format!("/proc/{}/syscall", self.pid())).unwrap_or_default();
        until("it listens", || {
            call()
                .split(' ')
                .next()
                .and_then(|number| number.parse().ok())
                .is_some_and(|number| polls.contains(&number))
        });
    }

    /// Waits until it ends; one that takes too long is killed and fails the test.
    pub(crate) fn wait(mut self) -> Output {
        let end = Instant::now() + patience();
        let status = loop {
            match self.child.try_wait().expect("wait for a child") {
                Some(status) => break status,
                None if Instant::now() > end => {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    panic!("{}: hangs\n{}{}", self.words, text(&self.stdout), text(&self.stderr));
                }
                None => std::thread::sleep(patience() / 20_000),
            }
        };
        Output {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: text(&self.stdout),
            stderr: text(&self.stderr),
            stdout_file: self.stdout,
            words: self.words,
        }
    }
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Output {
    /// Exit status, or 128 + the signal.
    pub code: i32,
    /// Standard output when the call ended.
    pub stdout: String,
    /// Standard error when the call ended.
    pub stderr: String,
    stdout_file: PathBuf,
    words: String,
}

impl Output {
    /// Asserts success.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    /// Asserts an exit status.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\nstdout: {}\nstderr: {}", self.words, self.stdout, self.stderr);
        self
    }

    /// Asserts failure, with something said on standard error.
    #[track_caller]
    pub(crate) fn fails(self) -> Self {
        assert_ne!(self.code, 0, "should fail: {}\nstdout: {}", self.words, self.stdout);
        assert!(!self.stderr.trim().is_empty(), "fails without a word: {}", self.words);
        self
    }

    /// As [`Output::says`] for a message with quotes, which a text log writes with a backslash
    /// before each.
    #[track_caller]
    pub(crate) fn logs(self, words: &str) -> Self {
        self.says(&words.replace('"', "\\\""))
    }

    /// Asserts that standard error contains `words`.
    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "{}: should say {words:?}, says: {}", self.words, self.stderr);
        self
    }

    /// Asserts standard output, spaces at both ends aside.
    #[track_caller]
    pub(crate) fn prints(self, want: &str) -> Self {
        assert_eq!(self.stdout.trim(), want, "{}\nstderr: {}", self.words, self.stderr);
        self
    }

    /// Standard output without spaces at the ends.
    pub(crate) fn text(&self) -> &str {
        self.stdout.trim()
    }

    /// Standard output as it is now: a detached container goes on writing to it.
    pub(crate) fn later(&self) -> String {
        text(&self.stdout_file)
    }
}
