//! The first stage of a creation: reads and validates config.json. Nothing is made yet.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;

use super::passed::passed;
use super::request::{Create, Settings};
use super::sd_notify::Manager;
use super::{admission, facts, handover, members, pid_file, report, root, sd_notify};
use crate::cgroup::{Group, ResctrlGroup};
use crate::error::{Doing, Error, Kind, Result};
use crate::plan::{Ask, BadField, Plan};
use crate::spec::{self, Spec};
use crate::sys::small_file;

/// How the program will be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// By `start`, in another process.
    Later,
    /// By us, immediately; the terminal's master is sent to the console socket.
    Detached,
    /// By us, immediately; the terminal's master is sent to us.
    Foreground,
}

/// All data prepared before anything is made.
pub(super) struct Draft {
    /// The bytes of config.json.
    pub config: Vec<u8>,
    /// The parsed config.json.
    pub spec: Spec,
    /// The plan.
    pub plan: Plan,
    /// The directory of config.json, absolute.
    pub bundle: PathBuf,
    /// The cgroup, if there will be one.
    pub group: Option<Group>,
    /// The resctrl group, for shares of caches and memory bandwidth.
    pub rdt: Option<ResctrlGroup>,
    /// The service manager that waits for readiness.
    pub manager: Option<Manager>,
}

/// Reads and validates: every error in config.json is found here, before anything is made.
///
/// With a waiting service `manager`, the container gets a socket for its messages.
pub(super) fn draft(
    settings: &Settings,
    request: &Create,
    manner: Manner,
    manager: Option<Manager>,
) -> Result<Draft> {
    let passed = passed(request.preserve_fds)?;
    root::check_length(settings, &request.id)?;
    request.pid_file.as_deref().map_or(Ok(()), pid_file::check)?;
    let bundle = std::path::absolute(&request.bundle)
        .doing(|| format!("find the bundle {}", request.bundle.display()))?;
    let (config, mut spec) = read_config(&bundle, request.config.as_deref())?;
    tracing::debug!("bundle {}: {} bytes of configuration are read", bundle.display(), config.len());
    let given_mounts = spec.mounts.len();
    if manager.is_some() {
        sd_notify::amend(&mut spec, settings, &request.id)?;
    }
    handover::begin();
    let host = facts::host(&spec, settings, request.id.as_ref())?;
    let ask = Ask {
        id: request.id.as_ref(),
        bundle: &bundle,
        no_pivot: request.no_pivot,
        new_keyring: !request.no_new_keyring,
        passed: &passed,
    };
    let plan = Plan::build(&spec, &ask, &host.host).map_err(|faults| {
        members::warn::<Spec>("config.json", &config);
        refuse("config.json", &faults)
    })?;
    log(&plan);
    check_root(&plan)?;
    check_console(&plan, request.console_socket.as_deref(), manner)?;
    let rdt = plan.rdt.as_ref().map(|wish| wish.place(request.id.as_ref())).transpose()?;
    handover::aside(|| admission::admit(&spec, &plan, &bundle, given_mounts))?;
    report::plan(&plan, host.group.as_ref());
    Ok(Draft { config, spec, plan, bundle, group: host.group, rdt, manager })
}

/// Logs the plan's warnings and details.
pub(super) fn log(plan: &Plan) {
    for warning in plan.warnings.iter().chain(&plan.limits.warnings) {
        tracing::warn!("{warning}");
    }
    for detail in &plan.details {
        tracing::debug!("{detail}");
    }
}

/// The bundle's config.json, or another file: its bytes and the parsed spec.
fn read_config(bundle: &Path, config: Option<&Path>) -> Result<(Vec<u8>, Spec)> {
    let file = config.map_or_else(|| bundle.join("config.json"), Path::to_path_buf);
    let bytes = small_file::read_at(CWD, &file).doing(|| format!("read {}", file.display()))?;
    let spec = spec::parse(&bytes).map_err(|fault| {
        let more = spec::survey(&bytes).map_or(0, |survey| survey.faults.len().saturating_sub(1));
        let more = if more > 0 { format!(" (and {more} more; {SEE_CHECK})") } else { String::new() };
        Error::new(Kind::Invalid, format!("{}: {fault}{more}", file.display()))
    })?;
    Ok((bytes, spec))
}

const SEE_CHECK: &str = "the command check reports all";

/// The error for an invalid document: its first fault and the number of others.
pub(super) fn refuse(document: &str, faults: &[BadField]) -> Error {
    let first = faults.first().map_or_else(String::new, ToString::to_string);
    let more = match faults.len() {
        0 | 1 => String::new(),
        count if document == "config.json" => {
            format!(" (and {} more; {SEE_CHECK})", count - 1)
        }
        count => format!(" (and {} more)", count - 1),
    };
    Error::new(Kind::Invalid, format!("{document}: {first}{more}"))
}

/// Checks the root early; the mounts would fail on it late and with a less clear message.
fn check_root(plan: &Plan) -> Result<()> {
    let path = Path::new(OsStr::from_bytes(plan.rootfs.path.to_bytes()));
    let found = fs::metadata(path).doing(|| format!("root.path: {}", path.display()))?;
    let is_host_root = || -> Result<bool> {
        let real = fs::canonicalize(path).doing(|| format!("root.path: {}", path.display()))?;
        Ok(real == Path::new("/"))
    };
    if !plan.rootfs.own_mounts && is_host_root()? {
        let words = "is / itself, which needs a mount namespace of the container's own";
        return Err(Error::invalid("root.path", words));
    }
    if found.is_dir() {
        Ok(())
    } else {
        Err(Error::invalid("root.path", format!("{}: not a directory", path.display())))
    }
}

/// Checks that terminal and console socket match. The messages begin with runc's text, which
/// scripts look for.
pub(super) fn check_console(plan: &Plan, console_socket: Option<&Path>, manner: Manner) -> Result<()> {
    let terminal = plan.process.as_ref().is_some_and(|process| process.terminal.is_some());
    let words = match (terminal, console_socket.is_some(), manner) {
        (true, false, Manner::Later | Manner::Detached) => {
            "cannot allocate tty if runc will detach without setting console socket: process.terminal is true, so name a --console-socket that takes the terminal"
        }
        (false, true, _) => {
            "cannot use console socket if runc will not detach or allocate tty: --console-socket is given, but process.terminal is not true"
        }
        (true, true, Manner::Foreground) => {
            "cannot use console socket if runc will not detach or allocate tty: --console-socket needs --detach"
        }
        _ => return Ok(()),
    };
    Err(Error::new(Kind::Usage, words))
}
