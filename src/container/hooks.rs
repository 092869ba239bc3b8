//! Hooks in the runtime's namespaces: prestart, createRuntime, poststart, poststop. Source:
//! runtime-spec config.md, "POSIX-platform Hooks".

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::state::{State, Status};
use crate::error::{Doing, Error, Kind, Result};
use crate::init::sync;
use crate::plan::{RuntimeHook, StepError};
use crate::sys::command::end_with_parent;
use crate::sys::fd::open_to_append;
use crate::sys::{clock, process};

/// Maximum of a failing hook's output in the error, in bytes.
const MOST_OUTPUT: u64 = sync::MOST_OUTPUT as u64;

/// Destination of the hooks' output: the annotations `run.oci.hooks.stdout` and `.stderr` name
/// files.
pub(crate) struct Output {
    stdout: Option<File>,
    stderr: Option<File>,
}

impl Output {
    /// Opens the files that the annotations name, to append.
    pub(crate) fn open(annotations: &std::collections::BTreeMap<String, String>) -> Result<Self> {
        let open = |name: &str| -> Result<Option<File>> {
            let Some(path) = annotations.get(name) else { return Ok(None) };
            let doing = || format!("open {path} (annotation {name})");
            let file = open_to_append(Path::new(path)).doing(doing)?;
            // A hook blocks on a full fifo, as every program does.
            rustix::io::ioctl_fionbio(&file, false).doing(doing)?;
            Ok(Some(file.into()))
        };
        Ok(Self { stdout: open("run.oci.hooks.stdout")?, stderr: open("run.oci.hooks.stderr")? })
    }

    /// The descriptors, for hooks that the container's process runs.
    pub(crate) fn into_descriptors(self) -> [Option<OwnedFd>; 2] {
        [self.stdout.map(OwnedFd::from), self.stderr.map(OwnedFd::from)]
    }
}

/// Runs the hooks in order; stops at the first that fails and names it.
pub(crate) fn run(hooks: &[RuntimeHook], state: &State) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let output = Output::open(&state.annotations)?;
    let document = serde_json::to_vec(state).map_err(|error| Error::new(Kind::System, error.to_string()))?;
    // A hook of a killed creation would keep running during the container's removal, without its
    // timeout. Later hooks are better completed: they are not run a second time.
    let moment = if state.status == Status::Creating.word() { Moment::Creation } else { Moment::Later };
    hooks.iter().try_for_each(|hook| run_one(hook, &document, &state.bundle_path, &output, moment))
}

/// When a hook runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    Creation,
    Later,
}

/// Runs the hooks in order; failures are only logged.
pub(crate) fn run_tolerant(hooks: &[RuntimeHook], state: &State) {
    for hook in hooks {
        if let Err(error) = run(std::slice::from_ref(hook), state) {
            tracing::warn!("{error}");
        }
    }
}

fn run_one(
    hook: &RuntimeHook,
    document: &[u8],
    bundle: &Path,
    output: &Output,
    moment: Moment,
) -> Result<()> {
    let doing = || format!("error running {}", hook.named());
    tracing::debug!("run {}", hook.named());
    let input = process::memory_file(c"state", &[document]).doing(doing)?;
    // A file, not a pipe: processes that the hook leaves running may keep it open as long as they
    // like.
    let said = File::from(process::memory_file(c"hook", &[]).doing(doing)?);
    let copy = |file: &Option<File>| match file {
        Some(file) => file.try_clone().map(Stdio::from),
        None => said.try_clone().map(Stdio::from),
    };
    let mut command = Command::new(&hook.hook.path);
    if let Some((name, rest)) = hook.hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    if let Some(named) = &hook.hook.env {
        command.env_clear().envs(named.iter().filter_map(|entry| entry.split_once('=')));
    }
    command.current_dir(bundle).stdin(Stdio::from(input));
    command.stdout(copy(&output.stdout).doing(doing)?).stderr(copy(&output.stderr).doing(doing)?);
    if moment == Moment::Creation {
        end_with_parent(&mut command);
    }
    let mut child = command.spawn().doing(doing)?;
    let pidfd = process::pidfd_open(child.id() as i32).doing(doing)?;
    if !ends_within(&pidfd, hook.hook.timeout).doing(doing)? {
        // It may have just ended.
        let _ = child.kill();
        let _ = child.wait();
        let seconds = hook.hook.timeout.unwrap_or_default();
        return Err(Error::new(
            Kind::System,
            format!("{}: killed, its timeout of {seconds} s has passed{}", doing(), printed(said)),
        ));
    }
    let status = child.wait().doing(doing)?;
    if status.success() {
        return Ok(());
    }
    Err(Error::new(Kind::System, format!("{}: {status}{}", doing(), printed(said))))
}

/// The hook's output on one line; empty if there is none.
fn printed(mut said: File) -> String {
    let mut bytes = Vec::new();
    match said.rewind().and_then(|()| said.take(MOST_OUTPUT).read_to_end(&mut bytes)) {
        Ok(_) => quoted(&bytes),
        Err(_) => String::new(),
    }
}

fn quoted(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    if line.is_empty() { String::new() } else { format!(", it printed: {line}") }
}

/// Output of a failed hook in the container, which follows the `fault` in `from`. Empty for other
/// faults.
pub(crate) fn printed_inside(fault: StepError, from: BorrowedFd<'_>) -> String {
    /// The process that ran the hook sends it at once, or ends; but the container may delay it.
    const PATIENCE: Duration = Duration::from_secs(2);
    let mut output = [0; MOST_OUTPUT as usize];
    let comes = fault.step.is_failed_hook()
        && poll_until(from, Some(Instant::now() + PATIENCE)).is_ok_and(|comes| comes);
    match comes.then(|| sync::hear_output(from, &mut output)) {
        Some(Ok(length)) => quoted(output.get(..length).unwrap_or_default()),
        _ => String::new(),
    }
}

fn ends_within(pidfd: &OwnedFd, seconds: Option<i64>) -> rustix::io::Result<bool> {
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds.unsigned_abs()));
    poll_until(pidfd.as_fd(), end)
}

/// Waits until the descriptor is readable (true) or until `end` (false).
pub(crate) fn poll_until(fd: BorrowedFd<'_>, end: Option<Instant>) -> rustix::io::Result<bool> {
    loop {
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        match rustix::event::poll(&mut fds, end.map(clock::left).as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(|count| count > 0),
        }
    }
}
