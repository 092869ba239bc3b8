//! The `--debug` messages of a container's creation, in order. Without `--debug` each costs one
//! comparison.
//!
//! Messages that runc has too use runc's text, which scripts look for. `nsexec[PID]` is the
//! container's process before its program.

use rustix::process::Pid;
use rustix::thread::CpuSet;
use tracing::{Level, debug, enabled, trace};

use super::request::Settings;
use crate::cgroup::Group;
use crate::init::sync::Done;
use crate::plan::{Detail, IdMaps, Plan};
use crate::spec::IdMapping;
use crate::sys::namespace::{Namespace, NamespaceSet};

/// Whether debug messages are enabled.
pub fn enabled() -> bool {
    enabled!(Level::DEBUG)
}

/// The first line: the action, the version, the user and the state directory.
pub fn begin(doing: &str, id: &str, settings: &Settings) {
    if !enabled() {
        return;
    }
    let kernel = rustix::system::uname();
    debug!(
        "{doing} {id}: emergence-runc {} on Linux {}, as user {}{}, state directory {}",
        env!("CARGO_PKG_VERSION"),
        kernel.release().to_string_lossy(),
        rustix::process::geteuid().as_raw(),
        if settings.rootless { " (rootless)" } else { "" },
        settings.root.display(),
    );
}

/// The decisions from config.json.
pub fn plan(plan: &Plan, group: Option<&Group>) {
    if !enabled() {
        return;
    }
    debug!("namespaces: {}", namespaces(plan));
    match group {
        Some(group) => debug!("cgroup: {}", place(group)),
        None => debug!("cgroup: none; no limit can be set"),
    }
    for write in &plan.limits.writes {
        debug!("{}: {} will be {:?}", write.field, write.file, write.value);
    }
    program(plan);
}

/// The program, its user and its rights.
pub fn program(plan: &Plan) {
    let Some(process) = plan.process.as_ref().filter(|_| enabled()) else { return };
    let rights = process.capabilities.effective.count_ones();
    debug!(
        "program: {:?} as user {}:{} in {}, {rights} effective capabilities, no_new_privs {}",
        process.program(),
        process.uid,
        process.gid,
        process.cwd.to_string_lossy(),
        process.no_new_privileges,
    );
    if let Some(filter) = &plan.seccomp {
        // runc does not include these two, as they have no effect on a single-threaded process.
        let sync = (libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH) as u32;
        let also = if filter.flags & sync == 0 { "" } else { " and TSYNC" };
        debug!(
            "seccomp filter flags: {}{also} ({} instructions)",
            filter.flags & !sync,
            filter.program.len()
        );
    }
}

fn namespaces(plan: &Plan) -> String {
    let namespaces = &plan.namespaces;
    let of = |kinds: NamespaceSet| kinds.iter().map(Namespace::name).collect::<Vec<_>>().join(", ");
    let mut words = Vec::new();
    if !namespaces.new.is_empty() {
        words.push(format!("new {}", of(namespaces.new)));
    }
    if !namespaces.entered.is_empty() {
        words.push(format!("the container's {}", of(namespaces.entered)));
    }
    words.extend(
        namespaces
            .joined
            .iter()
            .map(|joined| format!("joined {} {}", joined.kind.name(), joined.path.display())),
    );
    let theirs: NamespaceSet = Namespace::ALL.into_iter().filter(|kind| !namespaces.own(*kind)).collect();
    if !theirs.is_empty() {
        words.push(format!("the runtime's own {}", of(theirs)));
    }
    words.join("; ")
}

fn place(group: &Group) -> String {
    let unit =
        group.scope.as_ref().map_or_else(String::new, |scope| format!(" (systemd unit {})", scope.unit));
    match (&group.unified, group.legacy.first()) {
        (Some(dir), _) => format!("{}{unit}", dir.path().display()),
        (None, Some(first)) => {
            format!("{} and {} more of cgroup v1", first.dir.path().display(), group.legacy.len() - 1)
        }
        (None, None) => "none".into(),
    }
}

/// The process was cloned.
pub fn cloned(pid: i32, plan: &Plan) {
    if !enabled() {
        return;
    }
    debug!("nsexec[{pid}]: => nsexec container setup: {}", namespaces(plan));
    affinity(pid);
}

/// The process's CPU affinity, at its start and when it is set up.
pub fn affinity(pid: i32) {
    if !enabled() {
        return;
    }
    match rustix::thread::sched_getaffinity(Pid::from_raw(pid)) {
        Ok(cpus) => debug!("nsexec[{pid}]: affinity: {}", mask(&cpus)),
        Err(error) => debug!("nsexec[{pid}]: affinity: unknown: {error}"),
    }
}

/// The set as one hexadecimal number.
fn mask(cpus: &CpuSet) -> String {
    let digit = |at: usize| (0..4).fold(0, |digit, bit| digit | u32::from(cpus.is_set(at * 4 + bit)) << bit);
    let digits = (0..CpuSet::MAX_CPU / 4).rev().map(digit).skip_while(|digit| *digit == 0);
    let digits: String = digits.filter_map(|digit| char::from_digit(digit, 16)).collect();
    if digits.is_empty() { "0x0".into() } else { format!("0x{digits}") }
}

/// Both maps of the new user namespace.
pub fn maps(maps: &IdMaps) {
    if !enabled() {
        return;
    }
    let text = |maps: &[IdMapping]| {
        let lines = maps.iter().map(|map| format!("{} {} {}", map.container_id, map.host_id, map.size));
        lines.collect::<Vec<_>>().join(", ")
    };
    debug!("id maps are written: uid {}; gid {} (inside, outside, size)", text(&maps.uid), text(&maps.gid));
}

/// A step of the container's process has succeeded.
pub fn done(pid: i32, plan: &Plan, done: Done) {
    match plan.success_text(done.step, done.index) {
        Some((Detail::Debug, words)) => debug!(clock = done.clock, "nsexec[{pid}]: {words}"),
        Some((Detail::Trace, words)) => trace!(clock = done.clock, "nsexec[{pid}]: {words}"),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_count_is_one_number() {
        let table: [(&[usize], &str); 5] = [
            (&[], "0x0"),
            (&[0], "0x1"),
            (&[0, 1], "0x3"),
            (&[5, 64], "0x10000000000000020"),
            (&[1023], &format!("0x8{}", "0".repeat(255))),
        ];
        for (cpus, want) in table {
            let mut set = CpuSet::new();
            cpus.iter().for_each(|cpu| set.set(*cpu));
            assert_eq!(mask(&set), want, "{cpus:?}");
        }
    }
}
