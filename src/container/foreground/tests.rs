//! Real processes on real pseudoterminals and pipes. Signals are sent to the waiting thread, so
//! tests do not receive each other's.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::relay::SizeFrom;
use super::*;
use crate::sys::pty;

/// An unlocked pseudoterminal: master, slave.
fn pty_pair() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags).unwrap();
    pty::unlock(master.as_fd()).unwrap();
    let slave = pty::open_peer(master.as_fd()).unwrap();
    (master, slave)
}

fn pipe() -> (File, File) {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (reader.into(), writer.into())
}

fn nothing() -> File {
    File::open("/dev/null").unwrap()
}

/// Starts a child with the signal mask of a program; returns its PID and pidfd.
fn start(command: &mut Command, foreground: &Foreground) -> (i32, OwnedFd) {
    let mask = foreground.original;
    // SAFETY: one system call, which is all that a child may do before exec.
    unsafe {
        command.pre_exec(move || signal::set_mask(&mask));
    }
    let pid = i32::try_from(command.spawn().unwrap().id()).unwrap();
    (pid, process::pidfd_open(pid).unwrap())
}

/// The end of a script: waits for a signal, with a timeout.
const LOOP: &str = "i=0; while [ $i -lt 500 ]; do i=$((i+1)); sleep 0.02; done";

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn without_terminal(pidfd: &OwnedFd, pid: i32) -> Program<'_> {
    Program { pid, pidfd: pidfd.as_fd(), terminal: None, listener: None }
}

/// Runs `script` on a terminal, as a container's program, with `input` and `output` as the
/// runtime's files.
fn run_behind_terminal(script: &str, raw: bool, input: BorrowedFd<'_>, output: BorrowedFd<'_>) -> i32 {
    let foreground = Foreground::prepare().unwrap();
    let (master, slave) = pty_pair();
    if raw {
        let mut mode = tcgetattr(&slave).unwrap();
        mode.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &mode).unwrap();
    }
    let null = nothing();
    let host = Host { input, output, error: null.as_fd() };
    let terminal = Terminal::at(&host, master, SizeFrom::Host).unwrap();
    let mut command = shell(script);
    let standard = || Stdio::from(slave.try_clone().unwrap());
    command.stdin(standard()).stdout(standard()).stderr(standard());
    // SAFETY: two system calls, which are all that a child may do before exec.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            pty::make_controlling(rustix::stdio::stdin())
        });
    }
    let (pid, pidfd) = start(&mut command, &foreground);
    drop((slave, command));
    let program = Program { pid, pidfd: pidfd.as_fd(), terminal: Some(terminal), listener: None };
    foreground.wait_at(&host, program).unwrap()
}

/// The calling thread, for [`send`].
fn this_thread() -> Pid {
    rustix::thread::gettid()
}

fn send(thread: Pid, signal: i32) {
    let (process, thread) = (rustix::process::getpid().as_raw_pid(), thread.as_raw_pid());
    // SAFETY: three integers. The kernel checks that they name a thread of this process.
    assert_eq!(unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) }, 0);
}

/// Reads until `words` have arrived.
fn read_until(file: &mut File, words: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 256];
    while !text.contains(words) {
        let length = file.read(&mut buffer).unwrap();
        assert_ne!(length, 0, "ended after {text:?}");
        text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    text
}

/// CPU time used by the calling thread.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to `time`, which outlives the call.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) }, 0);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// Bytes that show any loss or change of order.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at / 251) ^ at) as u8).collect()
}

#[test]
fn the_status_is_the_code_or_128_and_the_signal() {
    for (script, status) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137), ("kill -TERM $$", 143)] {
        let foreground = Foreground::prepare().unwrap();
        let (pid, pidfd) = start(&mut shell(script), &foreground);
        assert_eq!(foreground.wait(without_terminal(&pidfd, pid)).unwrap(), status, "{script}");
        let again = foreground.wait(without_terminal(&pidfd, pid)).unwrap_err();
        assert_eq!(again.errno(), Some(libc::ECHILD), "it has been reaped");
    }
}

#[test]
fn signals_are_passed_on() {
    for (name, number) in [
        ("TERM", libc::SIGTERM),
        ("INT", libc::SIGINT),
        ("USR1", libc::SIGUSR1),
        ("34", 34),
        ("40", 40),
        ("64", 64),
    ] {
        let foreground = Foreground::prepare().unwrap();
        let (mut output, writer) = pipe();
        let script = format!("trap 'exit 42' {name}; echo ready; {LOOP}");
        let (pid, pidfd) = start(shell(&script).stdout(writer), &foreground);
        let waiting = this_thread();
        thread::scope(|scope| {
            scope.spawn(|| {
                read_until(&mut output, "ready");
                send(waiting, number);
            });
            assert_eq!(foreground.wait(without_terminal(&pidfd, pid)).unwrap(), 42, "{name}");
        });
    }
}

#[test]
fn the_mask_comes_back_and_late_signals_are_forgotten() {
    let empty = signal::set([]);
    let before = signal::block(&empty).unwrap();
    let has = |set: &signal::Set, number| set.has(number);
    let foreground = Foreground::prepare().unwrap();
    let during = signal::block(&empty).unwrap();
    for number in 1..=LAST {
        assert_eq!(has(&foreground.original, number), has(&before, number), "{number}");
        // C libraries use 32 and 33 for themselves.
        let taken = !NOT_OURS.contains(&number) && !(32..34).contains(&number);
        assert_eq!(has(&during, number), taken || has(&before, number), "{number}");
    }
    send(this_thread(), libc::SIGTERM);
    drop(foreground);
    let after = signal::block(&empty).unwrap();
    assert!((1..=LAST).all(|number| has(&after, number) == has(&before, number)));
}

#[test]
fn a_mebibyte_passes_unchanged_both_ways() {
    let sent = pattern(1 << 20);
    let (input, mut to_input) = pipe();
    let (mut from_output, output) = pipe();
    thread::scope(|scope| {
        scope.spawn(|| {
            to_input.write_all(&sent).unwrap();
            drop(to_input);
        });
        let received = scope.spawn(move || {
            let mut received = Vec::new();
            from_output.read_to_end(&mut received).unwrap();
            received
        });
        let status = run_behind_terminal("exec head -c 1048576", true, input.as_fd(), output.as_fd());
        drop(output);
        assert_eq!(status, 0);
        assert!(received.join().unwrap() == sent, "the bytes are the same");
    });
}

#[test]
fn the_last_output_is_waited_for_by_a_slow_reader() {
    let (mut from_output, output) = pipe();
    thread::scope(|scope| {
        let received = scope.spawn(move || {
            thread::sleep(Duration::from_millis(300));
            let mut received = Vec::new();
            from_output.read_to_end(&mut received).unwrap();
            received.len()
        });
        let null = nothing();
        let script = "head -c 300000 /dev/zero; exit 6";
        let status = run_behind_terminal(script, true, null.as_fd(), output.as_fd());
        drop(output);
        assert_eq!(status, 6);
        assert_eq!(received.join().unwrap(), 300_000);
    });
}

#[test]
fn our_terminal_is_raw_meanwhile_and_its_size_is_the_containers() {
    let (_host_master, host_slave) = pty_pair();
    let is_raw =
        || !tcgetattr(&host_slave).unwrap().local_modes.intersects(LocalModes::ICANON | LocalModes::ISIG);
    pty::set_size(&host_slave, pty::Size { rows: 40, cols: 100 }).unwrap();
    let (mut from_output, output) = pipe();
    let waiting = this_thread();
    thread::scope(|scope| {
        scope.spawn(|| {
            let first = read_until(&mut from_output, "ready");
            assert!(first.contains("40 100"), "{first:?}");
            assert!(is_raw());
            pty::set_size(&host_slave, pty::Size { rows: 50, cols: 120 }).unwrap();
            send(waiting, libc::SIGWINCH);
            let second = read_until(&mut from_output, "done");
            assert!(second.contains("50 120"), "{second:?}");
        });
        let script = format!("trap 'stty size; echo done; exit 3' WINCH; stty size; echo ready; {LOOP}");
        let status = run_behind_terminal(&script, false, host_slave.as_fd(), output.as_fd());
        drop(output);
        assert_eq!(status, 3);
    });
    assert!(!is_raw(), "restored");
}

#[test]
fn a_size_from_the_configuration_stays() {
    let (_host_master, host_slave) = pty_pair();
    pty::set_size(&host_slave, pty::Size { rows: 40, cols: 100 }).unwrap();
    let host = Host { input: host_slave.as_fd(), output: host_slave.as_fd(), error: host_slave.as_fd() };
    let (master, slave) = pty_pair();
    let given = pty::Size { rows: 11, cols: 22 };
    pty::set_size(&master, given).unwrap();
    let _terminal = Terminal::at(&host, master, SizeFrom::Process).unwrap();
    assert_eq!(pty::size(&slave).unwrap(), given);
}

#[test]
fn input_that_has_ended_costs_no_time() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"some input\n").unwrap();
    let (reader, writer) = pipe();
    drop(writer);
    let (hung_up, slave) = pty_pair();
    drop(hung_up);
    for (name, input) in [
        ("end of a file", OwnedFd::from(file)),
        ("/dev/null", nothing().into()),
        ("a pipe without writer", reader.into()),
        ("a terminal that has gone", slave),
    ] {
        let before = processor_time();
        let (mut from_output, output) = pipe();
        assert_eq!(
            run_behind_terminal("sleep 0.5; echo end", false, input.as_fd(), output.as_fd()),
            0,
            "{name}"
        );
        let spent = processor_time() - before;
        assert!(spent < Duration::from_millis(150), "{name}: {spent:?} of processor time");
        drop(output);
        read_until(&mut from_output, "end");
    }
}

#[test]
fn a_console_that_is_closed_and_opened_again_stays_connected() {
    let (mut from_output, output) = pipe();
    let null = nothing();
    // As an init does: no process has the terminal open for a while.
    let script = "t=$(tty); exec </dev/null >/dev/null 2>&1; sleep 0.2; echo again >$t; sleep 0.1";
    assert_eq!(run_behind_terminal(script, false, null.as_fd(), output.as_fd()), 0);
    drop(output);
    read_until(&mut from_output, "again");
}

#[test]
fn a_reader_that_has_gone_does_not_block_the_program() {
    let (reader, output) = pipe();
    drop(reader);
    let null = nothing();
    let script = "head -c 1000000 /dev/zero; exit 4";
    assert_eq!(run_behind_terminal(script, true, null.as_fd(), output.as_fd()), 4);
}

#[test]
fn a_reader_that_does_not_read_does_not_stop_signals() {
    let (_from_output, output) = pipe();
    let null = nothing();
    let waiting = this_thread();
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let begun = Instant::now();
            // The first signal ends the program, the next one ends the wait for a reader of its
            // output.
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                thread::sleep(Duration::from_millis(200));
                send(waiting, libc::SIGTERM);
                assert!(begun.elapsed() < Duration::from_secs(20), "it hangs");
            }
        });
        // Blocks the signals that come after the wait.
        let _blocked = Foreground::prepare().unwrap();
        let script = format!("trap 'kill $!; exit 9' TERM; yes & {LOOP}; kill $!");
        assert_eq!(run_behind_terminal(&script, true, null.as_fd(), output.as_fd()), 9);
        done.store(true, std::sync::atomic::Ordering::Release);
        thread::sleep(Duration::from_millis(300));
    });
}

/// Reaping affects every child of the process, including other tests' children, so the actual test
/// runs in its own process.
#[test]
fn orphans_are_reaped_and_the_status_is_not_lost() {
    let mut own = Command::new(std::env::current_exe().unwrap());
    own.args(["--ignored", "--exact", "container::foreground::tests::orphans_in_a_process_of_its_own"]);
    let output = own.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "run by orphans_are_reaped_and_the_status_is_not_lost"]
fn orphans_in_a_process_of_its_own() {
    process::set_subreaper().unwrap();
    let foreground = Foreground::prepare().unwrap();
    let (pid, pidfd) = start(&mut shell("(sleep 0.1 &); (sleep 0.2 &); sleep 1; exit 5"), &foreground);
    let waiting = this_thread();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(600));
            // The kernel's SIGCHLD may have been delivered to another thread of the test program
            // that does not block it.
            send(waiting, libc::SIGCHLD);
        });
        assert_eq!(foreground.wait(without_terminal(&pidfd, pid)).unwrap(), 5);
    });
    let left = rustix::process::wait(rustix::process::WaitOptions::NOHANG);
    assert_eq!(left.unwrap_err(), rustix::io::Errno::CHILD, "no child is left, ended or not");
}

/// CPU time of the calling thread.
fn own_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, which is ours.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn a_tracer_that_holds_the_dead_costs_no_time() {
    let foreground = Foreground::prepare().unwrap();
    let (pid, pidfd) = start(&mut shell("sleep 0.3; exit 7"), &foreground);
    // SAFETY: the child makes system calls only, and ends by _exit.
    let tracer = unsafe { libc::fork() };
    if tracer == 0 {
        // SAFETY: plain numbers; nothing of this process's memory is used.
        unsafe {
            let seized = libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) == 0;
            libc::poll(std::ptr::null_mut(), 0, 1500);
            libc::_exit(i32::from(!seized));
        }
    }
    let (begin, before) = (Instant::now(), own_time());
    let status = foreground.wait(without_terminal(&pidfd, pid)).unwrap();
    let (whole, spent) = (begin.elapsed(), own_time() - before);
    let mut seized = 1;
    // SAFETY: a child of this test, and a valid pointer for its status.
    unsafe { libc::waitpid(tracer, &raw mut seized, 0) };
    assert_eq!(status, 7);
    if seized != 0 {
        println!("skipped: no right to trace");
        return;
    }
    assert!(whole > Duration::from_secs(1), "held: {whole:?}");
    assert!(spent < Duration::from_millis(200), "waiting took {spent:?} of the processor");
}
