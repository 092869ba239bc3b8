//! Copies between our standard files and the master of the container's terminal, without loss.
//!
//! Nothing here blocks: the master is non-blocking. Our own files, whose mode other processes
//! share, are used only when poll(2) reports them ready, and written in pieces that a ready pipe
//! accepts without blocking.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, OutputModes, Termios};

use crate::error::{Doing, Result};
use crate::plan::{Plan, TerminalSize};
use crate::sys::{pty, signal};

/// Size of the buffer in each direction, in bytes.
const ROOM: usize = 16 * 1024;

/// Bytes that a writable pipe accepts without blocking: PIPE_BUF.
const PIECE: usize = 4096;

/// Maximum of bytes read after the process has ended. A terminal buffers far less; more comes from
/// another process, perhaps without end.
const LEFT_AT_MOST: usize = 1024 * 1024;

/// The runtime's own standard files.
pub(crate) struct Host<'a> {
    pub input: BorrowedFd<'a>,
    pub output: BorrowedFd<'a>,
    pub error: BorrowedFd<'a>,
}

impl Host<'_> {
    pub(crate) fn standard() -> Host<'static> {
        Host {
            input: rustix::stdio::stdin(),
            output: rustix::stdio::stdout(),
            error: rustix::stdio::stderr(),
        }
    }

    /// The size of the terminal that we run in, if any.
    fn size(&self) -> Option<pty::Size> {
        [self.input, self.output, self.error].into_iter().find_map(|fd| pty::size(fd).ok())
    }
}

/// The container's terminal, from outside.
pub(crate) struct Terminal {
    master: OwnedFd,
    /// Held open: otherwise the master reports the end (EIO) whenever no process has the slave
    /// open, for example while an init closes its console to open it again later.
    _slave: Option<OwnedFd>,
}

/// The source of a terminal's initial size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SizeFrom {
    /// The terminal that we run in.
    Host,
    /// process.consoleSize, which the container's process has set.
    Process,
}

impl Terminal {
    /// Takes over the master that the container's process created. Its size becomes that of the
    /// terminal that we run in, unless the plan has one. Call it before the program starts, so that
    /// the program reads the right size.
    pub(crate) fn of(master: OwnedFd, plan: &Plan) -> Result<Self> {
        let size = plan.process.as_ref().and_then(|process| process.terminal).unwrap_or_default();
        let size = if size == TerminalSize::default() { SizeFrom::Host } else { SizeFrom::Process };
        Self::at(&Host::standard(), master, size)
    }

    pub(super) fn at(host: &Host<'_>, master: OwnedFd, size: SizeFrom) -> Result<Self> {
        // The master is ours alone: the process that created it has sent it and closed its own.
        rustix::io::ioctl_fionbio(&master, true).doing(|| "make the terminal non-blocking")?;
        if let Some(size) = host.size().filter(|_| size == SizeFrom::Host) {
            pty::set_size(&master, size).doing(|| "set the terminal's size")?;
        }
        if Output::of(host) == Output::Outside {
            keep_line_feeds(&master).doing(|| "set the terminal's output mode")?;
        }
        let slave = pty::open_peer(master.as_fd()).ok();
        Ok(Self { master, _slave: slave })
    }
}

/// Our own terminal in raw mode, while this exists: every key goes to the container, including ^C.
struct Raw<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
    output: Output,
}

/// The terminal that converts the program's line feeds to CR LF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// The container's terminal. Our output is the terminal that we read from: it shows every byte
    /// unchanged, and a program that changes the container's terminal sees the same as on its own
    /// terminal.
    Inside,
    /// Our own terminal, if any. Our output is a pipe or a file, which must get the program's
    /// unchanged bytes; and output of other processes to our terminal must look right.
    Outside,
}

impl Output {
    fn of(host: &Host<'_>) -> Self {
        let device = |fd: BorrowedFd<'_>| {
            let terminal = rustix::termios::isatty(fd);
            rustix::fs::fstat(fd).ok().filter(|_| terminal).map(|stat| stat.st_rdev)
        };
        match (device(host.input), device(host.output)) {
            (Some(input), Some(output)) if input == output => Output::Inside,
            _ => Output::Outside,
        }
    }
}

impl<'a> Raw<'a> {
    /// Enters raw mode. `None`: `terminal` is not a terminal, or the shell does not let us have it.
    fn enter(terminal: BorrowedFd<'a>, output: Output) -> Result<Option<Self>> {
        let Ok(before) = rustix::termios::tcgetattr(terminal) else { return Ok(None) };
        let raw = Self { terminal, before, output };
        match raw.reapply() {
            // A background job that no shell controls any more.
            Err(Errno::IO) => Ok(None),
            done => done.doing(|| "put the terminal into raw mode").map(|()| Some(raw)),
        }
    }

    fn reapply(&self) -> rustix::io::Result<()> {
        let mut mode = self.before.clone();
        mode.make_raw();
        if self.output == Output::Outside {
            mode.output_modes = self.before.output_modes;
        }
        as_job(self.terminal, || rustix::termios::tcsetattr(self.terminal, OptionalActions::Now, &mode))
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // For a background job, the shell has set its own mode; and a terminal that is gone needs
        // none.
        if !is_in_background(self.terminal) {
            let _ = rustix::termios::tcsetattr(self.terminal, OptionalActions::Now, &self.before);
        }
    }
}

/// Whether `terminal` is our controlling terminal, and another job has the foreground.
fn is_in_background(terminal: BorrowedFd<'_>) -> bool {
    rustix::termios::tcgetpgrp(terminal).is_ok_and(|front| front != rustix::process::getpgrp())
}

/// Reads from or changes the terminal under job control: a background job stops, and continues here
/// when the shell has brought it to the foreground. We block SIGTTIN and SIGTTOU to forward them.
/// While they are blocked, the kernel does not stop us: it refuses reads, and lets us change a mode
/// that is the shell's. termios(3), tty_ioctl(4).
fn as_job<T>(
    terminal: BorrowedFd<'_>,
    mut act: impl FnMut() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    if !is_in_background(terminal) {
        return act();
    }
    let Ok(mask) = signal::unblock(&signal::set([libc::SIGTTIN, libc::SIGTTOU])) else { return act() };
    let done = act();
    // The kernel supplied this mask.
    let _ = signal::set_mask(&mask);
    done
}

/// One direction of the copy: bytes that are read and not yet written.
struct Stream {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    /// Whether there may be more to read.
    open: bool,
}

impl Stream {
    fn new() -> Self {
        Self { bytes: vec![0; ROOM].into(), start: 0, end: 0, open: true }
    }

    fn pending(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Reads only when empty: other bytes stay in the source, where poll(2) and the writer see
    /// them.
    fn wants_more(&self) -> bool {
        self.open && self.is_empty()
    }

    /// Reads once. `Some(0)`: nothing yet. `None`: the end, or an error (EIO: the terminal is
    /// gone).
    fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>) -> Option<usize> {
        match read(&mut self.bytes) {
            Ok(length) if length > 0 => {
                (self.start, self.end) = (0, length);
                Some(length)
            }
            Err(Errno::AGAIN | Errno::INTR) => Some(0),
            _ => {
                self.open = false;
                None
            }
        }
    }

    /// Writes once, at most `most` bytes; `false`: the reader is gone.
    fn flush(&mut self, to: BorrowedFd<'_>, most: usize) -> bool {
        let pending = self.pending();
        match rustix::io::write(to, pending.get(..most).unwrap_or(pending)) {
            Ok(length) => self.start += length,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return false,
        }
        true
    }

    fn close(&mut self) {
        (self.start, self.end, self.open) = (0, 0, false);
    }
}

/// The indices of our files in poll(2)'s list, if they are in it.
#[derive(Default)]
pub(crate) struct Places {
    pub input: Option<usize>,
    pub output: Option<usize>,
}

/// Whether poll(2) reported our files ready.
#[derive(Default)]
pub(crate) struct Ready {
    pub input: bool,
    pub output: bool,
}

/// The copy in both directions.
pub(crate) struct Relay<'a> {
    terminal: Terminal,
    host: &'a Host<'a>,
    /// Our output, reopened non-blocking, if possible.
    output: Option<OwnedFd>,
    raw: Option<Raw<'a>>,
    /// From our input to the master.
    inward: Stream,
    /// From the master to our output.
    outward: Stream,
    /// Whether output is discarded: its reader is gone, but the program must not block on that.
    discard: bool,
    /// Bytes still to be read after the process has ended; `None` while it lives.
    left: Option<usize>,
}

impl<'a> Relay<'a> {
    pub(crate) fn start(terminal: Terminal, host: &'a Host<'a>) -> Result<Self> {
        Ok(Self {
            terminal,
            host,
            output: own_output(host.output),
            raw: Raw::enter(host.input, Output::of(host))?,
            inward: Stream::new(),
            outward: Stream::new(),
            discard: false,
            left: None,
        })
    }

    /// Adds our files to poll(2)'s list through `add`, which returns the index.
    pub(crate) fn watch<'s>(&'s self, mut add: impl FnMut(BorrowedFd<'s>, PollFlags) -> usize) -> Places {
        let mut places = Places::default();
        let mut master = PollFlags::empty();
        if self.inward.wants_more() {
            places.input = Some(add(self.host.input, PollFlags::IN));
        }
        master.set(PollFlags::OUT, !self.inward.is_empty());
        master.set(PollFlags::IN, self.outward.wants_more());
        if !master.is_empty() {
            add(self.terminal.master.as_fd(), master);
        }
        if !self.outward.is_empty() {
            places.output = Some(add(self.to(), PollFlags::OUT));
        }
        places
    }

    fn to(&self) -> BorrowedFd<'_> {
        self.output.as_ref().map_or(self.host.output, |fd| fd.as_fd())
    }

    /// Copies as much as possible without blocking.
    pub(crate) fn copy(&mut self, ready: &Ready) {
        let master = self.terminal.master.as_fd();
        if ready.input && self.inward.wants_more() {
            let input = self.host.input;
            let read = |room: &mut [u8]| rustix::io::read(input, room);
            match self.raw {
                Some(_) => self.inward.fill(|room| as_job(input, || read(room))),
                None => self.inward.fill(read),
            };
        }
        if !self.inward.is_empty() && !self.inward.flush(master, ROOM) {
            self.inward.close();
        }
        if ready.output {
            self.write_out();
        }
        while self.outward.wants_more() && self.read_out() {}
    }

    /// Reads from the master. Returns whether to read again at once.
    fn read_out(&mut self) -> bool {
        let master = self.terminal.master.as_fd();
        let got = self.outward.fill(|room| rustix::io::read(master, room));
        if self.discard {
            (self.outward.start, self.outward.end) = (0, 0);
        }
        match (got, &mut self.left) {
            // The kernel returns all written output before it reports that there is none.
            (None | Some(0), Some(_)) => self.outward.open = false,
            (Some(length), Some(left)) => match left.checked_sub(length) {
                Some(rest) => *left = rest,
                None => self.outward.open = false,
            },
            _ => {}
        }
        // While the process lives, signals take precedence: one read per turn.
        self.left.is_some() && self.outward.open
    }

    fn write_out(&mut self) {
        let to = self.output.as_ref().map_or(self.host.output, |fd| fd.as_fd());
        if !self.outward.flush(to, PIECE) {
            self.discard = true;
            (self.outward.start, self.outward.end) = (0, 0);
        }
    }

    /// After the end of the process: copies its last output, and stops the input.
    pub(crate) fn drain(&mut self) {
        self.inward.close();
        self.left = Some(LEFT_AT_MOST);
    }

    /// Discards output that is not read.
    pub(crate) fn give_up(&mut self) {
        self.outward.close();
    }

    /// Whether all output is written. Never true before [`Relay::drain`].
    pub(crate) fn is_done(&self) -> bool {
        !self.outward.open && self.outward.is_empty()
    }

    /// Copies our terminal's changed size to the container's; the kernel notifies its processes.
    pub(crate) fn resize(&self) {
        if let Some(size) = self.host.size() {
            // A terminal that is gone has no size; reading detects its end.
            let _ = pty::set_size(&self.terminal.master, size);
        }
    }

    /// Restores raw mode after a stop, as the shell has used the terminal meanwhile.
    pub(crate) fn resume(&self) {
        if let Some(raw) = &self.raw {
            // A terminal that is gone needs no mode.
            let _ = raw.reapply();
        }
        self.resize();
    }
}

/// Clears ONLCR: the container's terminal does not convert line feeds to CR LF.
fn keep_line_feeds(master: &OwnedFd) -> rustix::io::Result<()> {
    let mut mode = rustix::termios::tcgetattr(master)?;
    mode.output_modes.remove(OutputModes::ONLCR);
    rustix::termios::tcsetattr(master, OptionalActions::Now, &mode)
}

/// Reopens our output through /proc, non-blocking: setting O_NONBLOCK on the descriptor itself
/// would set it for the shell too. `None` if that fails (a pipe of another user, no /proc) or has
/// no effect (files, sockets).
fn own_output(output: BorrowedFd<'_>) -> Option<OwnedFd> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(output).ok()?.st_mode);
    if kind != FileType::Fifo && !rustix::termios::isatty(output) {
        return None;
    }
    let path = format!("/proc/self/fd/{}", output.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}
