//! Processes that a container may see execute this program's protected file (`super::binary`), and
//! continue there with the plan, in memory that the runtime hands over (`sys::handover`).
//!
//! So no container can reach the runtime's own file, and the process inherits none of the runtime's
//! memory. Where that is impossible, and in a program that uses the library, the process is a copy
//! of the runtime, which runs from a protected file itself.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;
use std::{env, io};

use rustix::io::Errno;

use crate::error::{Doing, Result};
use crate::init::{Beginning, sync};
use crate::plan::{Plan, Step, StepError};
use crate::sys::fd;
use crate::sys::handover::{Window, receive};
use crate::sys::process::{self, Cloned, Memory};
use crate::sys::text::Text;

/// The variable with the descriptor number and the length of the memory, and its form.
const VARIABLE: &str = "EMERGENCE_RUNC_CHILD";

/// The command line of the process, which ps(1) shows.
const NAMES: [&std::ffi::CStr; 2] = [c"emergence-runc", c"init"];

/// The program that processes in containers execute.
static PROGRAM: OnceLock<Program> = OnceLock::new();

struct Program {
    /// Its protected file.
    file: OwnedFd,
    memory: Window,
    /// The variable for the memory, once it is sealed.
    variable: OnceLock<Text<64>>,
}

/// Lets processes execute `file`, which no container can write to, with this memory.
pub(super) fn enable(file: OwnedFd, memory: Window) {
    let _ = PROGRAM.set(Program { file, memory, variable: OnceLock::new() });
}

/// To be called before a plan is made: what a process executes must lie in the memory that it gets.
/// Nothing there is given back, so what is made before, or in [`aside`], takes no memory from it.
pub(super) fn begin() {
    if let Some(program) = PROGRAM.get() {
        program.memory.open();
    }
}

/// Does something between [`begin`] and the clone whose memory no process needs. `act` must not
/// change the plan.
pub(super) fn aside<T>(act: impl FnOnce() -> T) -> T {
    match PROGRAM.get() {
        Some(program) => program.memory.aside(act),
        None => act(),
    }
}

/// How processes begin.
pub(super) fn beginning() -> Beginning {
    if PROGRAM.get().is_some() { Beginning::Executed } else { Beginning::Cloned }
}

/// What a process continues with: `run(plan, work)`.
struct Handed<T> {
    plan: MaybeUninit<Plan>,
    work: MaybeUninit<T>,
    run: fn(&Plan, &mut T) -> !,
}

/// # Safety
/// `data` points to a `Handed<T>` that nothing else uses.
unsafe fn proceed<T>(data: *mut ()) -> ! {
    // SAFETY: the caller's guarantee.
    let handed = unsafe { &mut *data.cast::<Handed<T>>() };
    // SAFETY: `Program::hand_over` has copied both.
    let (plan, work) = unsafe { (handed.plan.assume_init_ref(), handed.work.assume_init_mut()) };
    (handed.run)(plan, work)
}

/// What a process needs until it has executed the program: its end of the conversation, and the
/// numbers of all descriptors that it keeps.
pub(super) type Ends<'a> = (BorrowedFd<'a>, &'a [u32]);

/// A process that is about to be cloned: it continues with `run(plan, work)`.
pub(super) struct Unborn<'a, T> {
    plan: &'a Plan,
    /// Its part besides the plan.
    pub(super) work: &'a mut T,
    run: fn(&Plan, &mut T) -> !,
    ends: for<'w> fn(&'w T) -> Ends<'w>,
    /// The program that it executes first; `None`: it is a copy of this process.
    program: Option<(&'static Program, &'static Text<64>)>,
}

impl<'a, T> Unborn<'a, T> {
    /// Hands the plan over, if the process will execute the program. A second attempt uses what the
    /// first has handed over.
    ///
    /// # Safety
    /// `plan` and `work` were made after [`begin`], and are the same in each call.
    pub(super) unsafe fn prepare(
        plan: &'a Plan,
        work: &'a mut T,
        run: fn(&Plan, &mut T) -> !,
        ends: for<'w> fn(&'w T) -> Ends<'w>,
    ) -> Result<Self> {
        let program = match PROGRAM.get() {
            // SAFETY: the caller's guarantee is the same.
            Some(program) => Some((program, unsafe { program.hand_over(plan, work, run) }?)),
            None => None,
        };
        Ok(Self { plan, work, run, ends, program })
    }

    /// Clones it: clone3(2) with `flags`, into `cgroup` if that is given. Returns its PID and a
    /// pidfd.
    pub(super) fn clone(
        self,
        flags: u64,
        cgroup: Option<BorrowedFd<'_>>,
        memory: Memory,
    ) -> io::Result<(i32, OwnedFd)> {
        let Self { plan, work, run, ends, program } = self;
        let Some((program, variable)) = program else {
            // SAFETY: no memory is shared, and `run`, a function of init, follows the heap-free
            // rules until execve or _exit.
            return match unsafe { process::clone3(flags, cgroup) }? {
                Cloned::Child => run(plan, work),
                Cloned::Parent { pid, pidfd } => Ok((pid, pidfd)),
            };
        };
        let kept = plan.process.as_ref().map_or(&[][..], |process| &process.kept_descriptors);
        let (sync, numbers) = ends(work);
        let child = || {
            let errno = program.execute(variable, [numbers, kept]).raw_os_error();
            sync::tell_fault(sync, StepError { step: Step::OwnProgram, index: 0, errno });
        };
        // SAFETY: `child` only makes system calls.
        unsafe { process::clone_to_execute(flags, cgroup, memory, &child) }
    }
}

/// `EMERGENCE_RUNC_CHILD=NUMBER:LENGTH`
fn variable(number: i32, length: usize) -> rustix::io::Result<Text<64>> {
    let mut text = Text::new(VARIABLE.as_bytes())?;
    text.push(b"=")?;
    text.push_number(number)?;
    text.push(b":")?;
    text.push_number(i32::try_from(length).map_err(|_| Errno::NOMEM)?)?;
    Ok(text)
}

impl Program {
    /// Seals the memory with copies of `plan` and `work`, and returns the variable for it. Does
    /// nothing the second time.
    ///
    /// # Safety
    /// As for [`Unborn::prepare`].
    unsafe fn hand_over<T>(&self, plan: &Plan, work: &T, run: fn(&Plan, &mut T) -> !) -> Result<&Text<64>> {
        if let Some(variable) = self.variable.get() {
            return Ok(variable);
        }
        let mut handed = Box::new(Handed { plan: MaybeUninit::uninit(), work: MaybeUninit::uninit(), run });
        // SAFETY: both are valid for reading, and the places are as large. The copies are used only
        // by the other process, in which the originals do not exist, and never dropped.
        unsafe {
            ptr::copy_nonoverlapping(plan, handed.plan.as_mut_ptr(), 1);
            ptr::copy_nonoverlapping(work, handed.work.as_mut_ptr(), 1);
        }
        let data = Box::into_raw(handed);
        // SAFETY: `handed` is in the window, and the caller guarantees that for its parts. `proceed`
        // is of the same type.
        let length = unsafe { self.memory.seal(proceed::<T>, data.cast()) }
            .doing(|| "hand the plan over to the container's process (does it need more than 1 GiB?)")?;
        let variable = variable(self.memory.file().as_raw_fd(), length).doing(|| "hand the plan over")?;
        Ok(self.variable.get_or_init(|| variable))
    }

    /// Executes the program, with all descriptors closed except the standard ones, those in `keep`,
    /// and that of the memory. Returns only if that fails. No heap.
    fn execute(&self, variable: &Text<64>, keep: [&[u32]; 2]) -> Errno {
        if let Err(error) = fd::close_on_exec_from(3) {
            return errno(&error);
        }
        let memory = [self.memory.file().as_raw_fd() as u32];
        for number in keep.into_iter().flatten().chain(&memory) {
            if let Err(error) = process::keep_on_exec(*number as i32) {
                return errno(&error);
            }
        }
        let Ok(variable) = variable.as_cstr() else { return Errno::INVAL };
        errno(&process::execute_file(self.file.as_fd(), NAMES, variable))
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Continues as the process of a container, if the runtime has executed this program for that. To be
/// called before the program's main function.
pub fn continue_if_executed() {
    let Some((number, length)) = handed_memory() else { return };
    process::was_forked();
    let _ = rustix::thread::set_name(NAMES[0]);
    // SAFETY: a number that the runtime has chosen, of a descriptor without another owner. Only its
    // caller can pass any other, and has no more rights than this process.
    let memory = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: as above; the file was sealed by a process of this program, and nothing else is in
    // use there yet.
    let error = unsafe { receive(memory, length) };
    process::exit_now(error.raw_os_error());
}

/// The descriptor number and the length, if this is such a process: then its environment has nothing
/// else. A program with other rights than its caller takes no memory from it.
fn handed_memory() -> Option<(i32, usize)> {
    let value = env::var(VARIABLE).ok()?;
    if process::has_gained_rights() || env::vars_os().count() != 1 {
        return None;
    }
    let (number, length) = value.split_once(':')?;
    Some((number.parse().ok().filter(|number| *number > 2)?, length.parse().ok()?))
}
