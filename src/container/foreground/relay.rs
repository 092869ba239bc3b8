//! The copying between our standard files and the master of the container's terminal; no byte is lost on the way.
//!
//! Nothing here blocks: the master is non-blocking, and our own files, whose mode others share, are touched only when poll(2)
//! calls them ready, and written in pieces that a ready pipe takes at once.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, OutputModes, Termios};

use crate::error::{Doing, Result};
use crate::plan::{Plan, TerminalSize};
use crate::sys::{pty, signal};

/// Bytes in flight each way.
const ROOM: usize = 16 * 1024;

/// What a pipe that poll(2) calls writable takes without blocking: PIPE_BUF.
const PIECE: usize = 4096;

/// The most that can be in the terminal when its process ends is far less; beyond it somebody else is writing, without end perhaps.
const LEFT_AT_MOST: usize = 1024 * 1024;

/// The runtime's own standard files.
pub struct Host<'a> {
    pub input: BorrowedFd<'a>,
    pub output: BorrowedFd<'a>,
    pub error: BorrowedFd<'a>,
}

impl Host<'_> {
    pub fn standard() -> Host<'static> {
        Host {
            input: rustix::stdio::stdin(),
            output: rustix::stdio::stdout(),
            error: rustix::stdio::stderr(),
        }
    }

    /// The size of the terminal we run in, if any.
    fn size(&self) -> Option<pty::Size> {
        [self.input, self.output, self.error].into_iter().find_map(|fd| pty::size(fd).ok())
    }
}

/// The container's terminal, seen from outside.
pub struct Terminal {
    master: OwnedFd,
    /// Held open: the master would report the end (EIO) in every moment in which no process has the slave open, as when an
    /// init closes its console to open it again later.
    _slave: Option<OwnedFd>,
}

/// Where the first size of a terminal comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SizeFrom {
    /// The terminal we run in.
    Host,
    /// process.consoleSize, which the container's process has set.
    Process,
}

impl Terminal {
    /// Takes over the master that the container's process made. The size of the terminal we run in becomes its size, unless
    /// the plan has one. Call it before the program starts, so that it finds the size right.
    pub fn of(master: OwnedFd, plan: &Plan) -> Result<Self> {
        let size = plan.process.as_ref().and_then(|process| process.terminal).unwrap_or_default();
        let size = if size == TerminalSize::default() { SizeFrom::Host } else { SizeFrom::Process };
        Self::at(&Host::standard(), master, size)
    }

    pub(super) fn at(host: &Host<'_>, master: OwnedFd, size: SizeFrom) -> Result<Self> {
        // Ours alone: the process that made it has sent it and closed its own.
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

/// Our own terminal in raw mode, for as long as this lives: every key goes to the container, ^C too.
struct Raw<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
    output: Output,
}

/// Who makes a carriage return and a line feed of the program's line feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// The container's terminal. Our output is the terminal that we read from: it shows every byte as it comes, and a program that
    /// changes the container's terminal sees the same as in one of its own.
    Inside,
    /// Our own terminal, where there is one. Our output goes elsewhere, to a pipe or a file, which must get the program's own bytes;
    /// and what others write to our terminal meanwhile must look right.
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
    /// `None` when `terminal` is none, or when the shell does not let us have it.
    fn enter(terminal: BorrowedFd<'a>, output: Output) -> Result<Option<Self>> {
        let Ok(before) = rustix::termios::tcgetattr(terminal) else { return Ok(None) };
        let raw = Self { terminal, before, output };
        match raw.again() {
            // A background job that no shell controls any more.
            Err(Errno::IO) => Ok(None),
            done => done.doing(|| "put the terminal into raw mode").map(|()| Some(raw)),
        }
    }

    fn again(&self) -> rustix::io::Result<()> {
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
        // Of a job in the background, the shell has its own mode there; and a terminal that has gone needs none.
        if !is_in_background(self.terminal) {
            let _ = rustix::termios::tcsetattr(self.terminal, OptionalActions::Now, &self.before);
        }
    }
}

/// Whether `terminal` controls this process, and the shell has given it to another job.
fn is_in_background(terminal: BorrowedFd<'_>) -> bool {
    rustix::termios::tcgetpgrp(terminal).is_ok_and(|front| front != rustix::process::getpgrp())
}

/// Reads from or changes the terminal as job control wants it: a job in the background stops, and goes on here when the shell has
/// brought it to the foreground. While SIGTTIN and SIGTTOU are blocked, which they are to be passed on, the kernel does not stop us: it
/// refuses to read, and lets us change a mode that is the shell's. termios(3), tty_ioctl(4).
fn as_job<T>(
    terminal: BorrowedFd<'_>,
    mut act: impl FnMut() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    if !is_in_background(terminal) {
        return act();
    }
    let Ok(mask) = signal::unblock(&signal::set([libc::SIGTTIN, libc::SIGTTOU])) else { return act() };
    let done = act();
    // It was valid when the kernel gave it.
    let _ = signal::set_mask(&mask);
    done
}

/// One way of the copying: what has been read and not yet written.
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

    /// Only an empty stream reads: what does not fit stays where poll(2) and the writer see it.
    fn wants_more(&self) -> bool {
        self.open && self.is_empty()
    }

    /// Reads once. `Some(0)` is nothing yet; `None` the end, which an error is too: EIO of a terminal that has gone.
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

    /// Writes once, at most `most` bytes; `false` when nobody will ever take more.
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

/// Where poll(2)'s list has our files, if it has.
#[derive(Default)]
pub struct Places {
    pub input: Option<usize>,
    pub output: Option<usize>,
}

/// Which of our files poll(2) called ready.
#[derive(Default)]
pub struct Ready {
    pub input: bool,
    pub output: bool,
}

/// Both ways at work.
pub struct Relay<'a> {
    terminal: Terminal,
    host: &'a Host<'a>,
    /// Our output opened anew and non-blocking, where that can be.
    output: Option<OwnedFd>,
    raw: Option<Raw<'a>>,
    /// From our input to the master.
    inward: Stream,
    /// From the master to our output.
    outward: Stream,
    /// Whether output is read only to be thrown away: our reader has gone, but the program must not block on that.
    discard: bool,
    /// Bytes still to be read after the process ended; `None` while it lives.
    left: Option<usize>,
}

impl<'a> Relay<'a> {
    pub fn start(terminal: Terminal, host: &'a Host<'a>) -> Result<Self> {
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

    /// Adds what we wait for to poll(2)'s list through `add`, which returns the place.
    pub fn watch<'s>(&'s self, mut add: impl FnMut(BorrowedFd<'s>, PollFlags) -> usize) -> Places {
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

    /// Moves what can be moved without blocking.
    pub fn copy(&mut self, ready: &Ready) {
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

    /// Reads from the master; whether reading on makes sense at once.
    fn read_out(&mut self) -> bool {
        let master = self.terminal.master.as_fd();
        let got = self.outward.fill(|room| rustix::io::read(master, room));
        if self.discard {
            (self.outward.start, self.outward.end) = (0, 0);
        }
        match (got, &mut self.left) {
            // The kernel brings up all that was written before it says that there is nothing.
            (None | Some(0), Some(_)) => self.outward.open = false,
            (Some(length), Some(left)) => match left.checked_sub(length) {
                Some(rest) => *left = rest,
                None => self.outward.open = false,
            },
            _ => {}
        }
        // While the process lives, signals come first: one piece a turn.
        self.left.is_some() && self.outward.open
    }

    fn write_out(&mut self) {
        let to = self.output.as_ref().map_or(self.host.output, |fd| fd.as_fd());
        if !self.outward.flush(to, PIECE) {
            self.discard = true;
            (self.outward.start, self.outward.end) = (0, 0);
        }
    }

    /// The process has ended: its last output is brought out, input is over.
    pub fn drain(&mut self) {
        self.inward.close();
        self.left = Some(LEFT_AT_MOST);
    }

    /// The output that nobody takes is given up.
    pub fn give_up(&mut self) {
        self.outward.close();
    }

    /// Whether all output has been written. Only after [`Relay::drain`] can that be.
    pub fn is_done(&self) -> bool {
        !self.outward.open && self.outward.is_empty()
    }

    /// Our terminal's size has changed: the container's gets it, and the kernel tells its processes.
    pub fn resize(&self) {
        if let Some(size) = self.host.size() {
            // A terminal that has gone has no size; its end is found by reading.
            let _ = pty::set_size(&self.terminal.master, size);
        }
    }

    /// We had been stopped, and the shell has used the terminal since.
    pub fn resume(&self) {
        if let Some(raw) = &self.raw {
            // As in `resize`.
            let _ = raw.again();
        }
        self.resize();
    }
}

/// No line feed becomes a carriage return and a line feed (ONLCR) on its way out of the container's terminal.
fn keep_line_feeds(master: &OwnedFd) -> rustix::io::Result<()> {
    let mut mode = rustix::termios::tcgetattr(master)?;
    mode.output_modes.remove(OutputModes::ONLCR);
    rustix::termios::tcsetattr(master, OptionalActions::Now, &mode)
}

/// Our output opened anew through /proc, non-blocking: setting O_NONBLOCK on the descriptor itself would set it for the
/// shell too. `None` where that fails (a pipe of another user, no /proc) or brings nothing (files, sockets).
fn own_output(output: BorrowedFd<'_>) -> Option<OwnedFd> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(output).ok()?.st_mode);
    if kind != FileType::Fifo && !rustix::termios::isatty(output) {
        return None;
    }
    let path = format!("/proc/self/fd/{}", output.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}
