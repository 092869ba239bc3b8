//! Kills a program as it enters one of its system calls, or one of its child's: ptrace(2).
//!
//! The program's processes are stopped at each call, so what is met by chance once in a thousand
//! runs is met each time: the runtime killed just after clone3, when its child has not made one
//! call of its own.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Call, patience};

/// When the program is killed. Calls are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// It enters this call.
    Call(u32),
    /// The same, but a child has not run since the clone, or since it executed the runtime's program, unless the program has waited for it. It
    /// runs after [`Killed::wake`].
    ChildAsleep(u32),
    /// Its child, or the child's successor, enters this call. The program itself runs freely.
    ChildsCall(u32),
    /// Never: only counts calls, as for `ChildAsleep`.
    Never,
    /// Never: only counts calls, as for `ChildsCall`.
    ChildNever,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Killed {
    /// Whether the moment came. Otherwise the program has ended by itself.
    pub killed: bool,
    /// Whether the program has ended by itself, with status 0.
    pub succeeded: bool,
    /// What the program wrote to standard error.
    pub stderr: String,
    /// How many calls were counted.
    pub calls: u32,
    /// The calls that the program entered while a child had not run yet.
    pub asleep: BTreeSet<u32>,
    /// The processes that it made.
    pub children: Vec<(i32, OwnedFd)>,
    /// Those of them that have not run yet.
    sleepers: Vec<i32>,
}

impl Killed {
    /// Lets the children run that have not run yet.
    pub(crate) fn wake(&mut self) {
        self.sleepers.drain(..).for_each(detach);
    }

    /// Waits until all children have ended; a line for each that has not, when that takes too long.
    pub(crate) fn children_left(&self) -> Vec<String> {
        let end = Instant::now() + patience() / 4;
        let left = |child: &OwnedFd| {
            let rest = end.saturating_duration_since(Instant::now());
            let rest = Timespec { tv_sec: rest.as_secs() as i64, tv_nsec: rest.subsec_nanos().into() };
            rustix::event::poll(&mut [PollFd::new(child, PollFlags::IN)], Some(&rest)).unwrap() == 0
        };
        self.children.iter().filter(|(_, child)| left(child)).map(|(pid, _)| state(*pid)).collect()
    }
}

impl Call<'_> {
    /// Starts the program and kills it at the moment, or waits until it ends.
    pub(crate) fn killed_at(self, moment: Moment) -> Killed {
        let running = self.traced().start();
        let program = running.pid();
        let mut tracer = Tracer {
            program,
            moment,
            subject: None,
            asleep: Vec::new(),
            executing: BTreeSet::new(),
            early: BTreeSet::new(),
            known: BTreeSet::from([program]),
            result: Killed::default(),
        };
        tracer.follow();
        tracer.result.stderr = running.stderr();
        tracer.result
    }
}

/// PTRACE_GET_SYSCALL_INFO's answer, ptrace(2), up to the second argument of a call.
#[repr(C)]
#[derive(Default)]
struct CallInfo {
    op: u8,
    padding: [u8; 3],
    arch: u32,
    pointers: [u64; 2],
    number: u64,
    arguments: [u64; 6],
    rest: [u64; 2],
}

const ENTRY: u8 = 1;
/// What a stop at a call looks like with PTRACE_O_TRACESYSGOOD.
const CALL_STOP: i32 = libc::SIGTRAP | 0x80;

/// One program that is followed.
struct Tracer {
    program: i32,
    moment: Moment,
    /// The child whose calls are counted.
    subject: Option<i32>,
    /// Children that are stopped at their first instruction, or that of the runtime's program.
    asleep: Vec<i32>,
    /// Children that will execute a program, and for which the program waits until then.
    executing: BTreeSet<i32>,
    /// Processes that stopped before the report of their creation.
    early: BTreeSet<i32>,
    /// All reported processes.
    known: BTreeSet<i32>,
    result: Killed,
}

impl Tracer {
    fn follow(&mut self) {
        wait(self.program).expect("the program stops at its execve");
        let options = libc::PTRACE_O_TRACESYSGOOD
            | libc::PTRACE_O_TRACEFORK
            | libc::PTRACE_O_TRACEVFORK
            | libc::PTRACE_O_TRACECLONE
            | libc::PTRACE_O_TRACEEXEC
            | libc::PTRACE_O_EXITKILL;
        ptrace(libc::PTRACE_SETOPTIONS, self.program, options as usize).expect("set ptrace's options");
        self.go_on(self.program, 0);
        let end = Instant::now() + patience() * 3;
        loop {
            let (pid, status) = wait(-1).expect("wait for the program");
            assert!(Instant::now() < end, "the traced program hangs:\n{}", self.state_of_all());
            if !libc::WIFSTOPPED(status) {
                if pid == self.program {
                    self.result.succeeded = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
                    break;
                }
                if self.subject == Some(pid) {
                    self.subject = None;
                }
                self.executing.remove(&pid);
                continue;
            }
            if !self.known.contains(&pid) {
                self.early.insert(pid);
                continue;
            }
            let due = self.stopped(pid, libc::WSTOPSIG(status), status >> 16);
            if due {
                self.kill();
                break;
            }
        }
        self.release();
    }

    /// Deals with a stop, and lets the process go on. True: the moment has come, and the process is
    /// still stopped.
    fn stopped(&mut self, pid: i32, signal: i32, event: i32) -> bool {
        match (signal, event) {
            (libc::SIGTRAP, libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_CLONE) => {
                let child = self.arrived(message(pid));
                self.made(pid, child);
                if self.counts_childs() && pid != self.program && self.subject != Some(pid) {
                    // Its successor goes on; this one only ends.
                    detach(pid);
                    return false;
                }
            }
            (libc::SIGTRAP, libc::PTRACE_EVENT_VFORK) => {
                let child = self.arrived(message(pid));
                self.made_to_execute(pid, child);
            }
            (libc::SIGTRAP, libc::PTRACE_EVENT_EXEC) if self.executing.remove(&pid) => {
                self.executed(pid);
                return false;
            }
            (libc::SIGTRAP, libc::PTRACE_EVENT_EXEC)
                if self.subject == Some(pid) && !is_of_container(pid) =>
            {
                // It has become the container's program.
                self.subject = None;
                detach(pid);
                return false;
            }
            (libc::SIGTRAP, _) if event != 0 => {}
            (CALL_STOP, _) => {
                let mut info = CallInfo::default();
                let size = size_of::<CallInfo>();
                // SAFETY: the kernel writes at most `size` bytes, which `info` has.
                unsafe { libc::ptrace(0x420e, pid, size, &raw mut info) };
                if info.op == ENTRY && self.enters(pid, &info) {
                    return true;
                }
            }
            (signal, _) => {
                self.go_on(pid, signal);
                return false;
            }
        }
        self.go_on(pid, 0);
        false
    }

    /// A child has executed a program.
    fn executed(&mut self, child: i32) {
        if is_of_container(child) {
            self.asleep.push(child);
        } else {
            detach(child);
        }
    }

    /// The program goes on, so each child that it waited for has executed a program or ended; the
    /// report of that may come after the program's own.
    fn meet_executed(&mut self) {
        for child in std::mem::take(&mut self.executing) {
            while let Ok((_, status)) = wait(child)
                && libc::WIFSTOPPED(status)
            {
                if status >> 16 == libc::PTRACE_EVENT_EXEC {
                    self.executed(child);
                    break;
                }
                let _ = ptrace(libc::PTRACE_CONT, child, libc::WSTOPSIG(status) as usize);
            }
        }
    }

    /// A new process, once it is stopped.
    fn arrived(&mut self, child: i32) -> i32 {
        if !self.early.remove(&child) {
            wait(child).expect("a new process stops");
        }
        self.known.insert(child);
        child
    }

    /// Counts a call. True: it is the one.
    fn enters(&mut self, pid: i32, info: &CallInfo) -> bool {
        self.result.calls += 1;
        if pid == self.program {
            self.meet_executed();
        }
        if pid == self.program && !self.asleep.is_empty() {
            if waits(pid, info) {
                self.asleep.drain(..).for_each(detach);
            } else {
                self.result.asleep.insert(self.result.calls);
            }
        }
        match self.moment {
            Moment::Call(at) | Moment::ChildAsleep(at) | Moment::ChildsCall(at) => at == self.result.calls,
            Moment::Never | Moment::ChildNever => false,
        }
    }

    /// `maker` has made the process `child`, which is stopped.
    fn made(&mut self, maker: i32, child: i32) {
        self.note(child);
        match self.moment {
            Moment::Call(_) => detach(child),
            Moment::ChildAsleep(_) | Moment::Never => self.asleep.push(child),
            Moment::ChildsCall(_) | Moment::ChildNever if self.subject.is_none() => {
                self.subject = Some(child);
                self.go_on(child, 0);
            }
            // A successor goes on in its maker's place, as the program's child; what else the child
            // makes runs freely.
            Moment::ChildsCall(_) | Moment::ChildNever
                if maker != self.program && parent(child) == Some(self.program) =>
            {
                self.subject = Some(child);
                self.go_on(child, 0);
            }
            Moment::ChildsCall(_) | Moment::ChildNever => detach(child),
        }
    }

    /// `maker` has made the process `child`, which is stopped, and waits until it executes a
    /// program: so the child cannot sleep before.
    fn made_to_execute(&mut self, maker: i32, child: i32) {
        self.note(child);
        let of_program = maker == self.program;
        match self.moment {
            Moment::ChildAsleep(_) | Moment::Never if of_program => {
                self.executing.insert(child);
                let _ = ptrace(libc::PTRACE_CONT, child, 0);
            }
            Moment::ChildsCall(_) | Moment::ChildNever if of_program && self.subject.is_none() => {
                self.subject = Some(child);
                self.go_on(child, 0);
            }
            _ => detach(child),
        }
    }

    fn note(&mut self, child: i32) {
        let child = Pid::from_raw(child).expect("a process has a number");
        let pidfd = pidfd_open(child, PidfdFlags::empty()).expect("it is stopped");
        self.result.children.push((child.as_raw_nonzero().get(), pidfd));
    }

    fn go_on(&self, pid: i32, signal: i32) {
        let how = if self.counts_childs() && pid == self.program {
            libc::PTRACE_CONT
        } else {
            libc::PTRACE_SYSCALL
        };
        // A process that was killed meanwhile is seen to end.
        let _ = ptrace(how, pid, signal as usize);
    }

    fn counts_childs(&self) -> bool {
        matches!(self.moment, Moment::ChildsCall(_) | Moment::ChildNever)
    }

    fn kill(&mut self) {
        self.result.killed = true;
        // SAFETY: two integers; the program is not reaped yet, so the number is its own.
        unsafe { libc::kill(self.program, libc::SIGKILL) };
        while let Ok((_, status)) = wait(self.program) {
            if !libc::WIFSTOPPED(status) {
                break;
            }
        }
    }

    /// A line for each process that was met. Used to find out why it hangs.
    fn state_of_all(&self) -> String {
        let all: Vec<String> = self.known.iter().chain(&self.early).map(|pid| state(*pid)).collect();
        format!(
            "program {}, subject {:?}, early {:?}\n{}",
            self.program,
            self.subject,
            self.early,
            all.join("\n")
        )
    }

    /// A process that is traced and stopped, but was not reported.
    fn straggler(&self) -> Option<i32> {
        let mut status = 0;
        let options = libc::__WALL | libc::__WNOTHREAD | libc::WNOHANG;
        // SAFETY: the kernel writes one int.
        let found = unsafe { libc::waitpid(-1, &raw mut status, options) };
        (found > 0 && libc::WIFSTOPPED(status) && !self.known.contains(&found)).then_some(found)
    }

    /// Lets all others run freely.
    fn release(&mut self) {
        self.release_children();
        // A process that the killed program was just creating is traced too, without a report.
        std::mem::take(&mut self.early).into_iter().for_each(detach);
        while let Some(pid) = self.straggler() {
            detach(pid);
        }
    }

    fn release_children(&mut self) {
        self.result.sleepers = std::mem::take(&mut self.asleep);
        let Some(subject) = self.subject.take() else { return };
        if self.result.killed {
            return detach(subject);
        }
        // It runs, and only a stopped process can be let go.
        // SAFETY: two integers; a traced process keeps its number until it is waited for.
        unsafe { libc::kill(subject, libc::SIGSTOP) };
        while let Ok((_, status)) = wait(subject) {
            if !libc::WIFSTOPPED(status) {
                return;
            }
            if libc::WSTOPSIG(status) == libc::SIGSTOP {
                return detach(subject);
            }
            let _ = ptrace(libc::PTRACE_CONT, subject, 0);
        }
    }
}

/// The state of a process, what it waits for, and who traces it.
fn state(pid: i32) -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let status = read("status");
    let field =
        |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    let command = read("cmdline").replace('\0', " ");
    let (state, parent, tracer) = (field("State:"), field("PPid:"), field("TracerPid:"));
    format!("{pid} {command:?} {state} {parent} {tracer} wchan {} syscall {}", read("wchan"), read("syscall"))
}

/// Whether a call may wait for another process: then a child must run.
fn waits(pid: i32, info: &CallInfo) -> bool {
    let mut calls =
        vec![libc::SYS_recvmsg, libc::SYS_recvfrom, libc::SYS_ppoll, libc::SYS_wait4, libc::SYS_waitid];
    #[cfg(target_arch = "x86_64")]
    calls.push(libc::SYS_poll);
    let number = info.number as libc::c_long;
    let from_process = || {
        let open = fs::read_link(format!("/proc/{pid}/fd/{}", info.arguments[0])).unwrap_or_default();
        ["pipe:", "socket:"].iter().any(|kind| open.to_string_lossy().starts_with(kind))
    };
    calls.contains(&number) || number == libc::SYS_read && from_process()
}

/// Whether a process executes the runtime's program as a process of a container.
fn is_of_container(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"emergence-runc\0init\0")
}

fn parent(pid: i32) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

/// The number that belongs to the event at which `pid` is stopped.
fn message(pid: i32) -> i32 {
    let mut number: libc::c_ulong = 0;
    // SAFETY: the kernel writes one unsigned long.
    unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, pid, 0, &raw mut number) };
    number as i32
}

/// Lets a stopped process run untraced; one that was killed meanwhile is reaped.
fn detach(pid: i32) {
    if ptrace(libc::PTRACE_DETACH, pid, 0).is_err() {
        let _ = wait(pid);
    }
}

fn ptrace(request: libc::c_uint, pid: i32, data: usize) -> io::Result<()> {
    // SAFETY: none of the requests given here reads or writes memory of ours.
    match unsafe { libc::ptrace(request, pid, 0, data) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Waits for a stop or the end of a process that this thread traces; -1: of any.
fn wait(pid: i32) -> io::Result<(i32, i32)> {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes one int. Other threads' children are left to them.
        let found = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        match found {
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            -1 => return Err(io::Error::last_os_error()),
            found => return Ok((found, status)),
        }
    }
}

/// For [`std::os::unix::process::CommandExt::pre_exec`]: the thread that starts this process traces
/// it.
pub(super) fn be_traced() -> io::Result<()> {
    ptrace(libc::PTRACE_TRACEME, 0, 0)
}
