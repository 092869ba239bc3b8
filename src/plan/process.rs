//! Validates `process` of config.json: arguments, environment, PATH candidates, ids, capabilities,
//! limits, scheduling.

use std::collections::HashSet;
use std::ffi::CString;

use rustix::process::Resource;

use super::capabilities::{self, CapSets};
use super::{Context, IdMaps, Judge, Place, passed};
use crate::spec;
use crate::sys::cred::SchedAttr;
use crate::sys::process::Pointers;

/// The program and the attributes of its process.
#[derive(Debug)]
pub struct ProcessPlan {
    /// The size of its own terminal; `None`: no terminal.
    pub terminal: Option<TerminalSize>,
    /// argv; `args[0]` is the name to look up.
    args: Vec<CString>,
    env: Vec<CString>,
    /// The candidate paths of the program: one path if the name has a slash, else one for each
    /// directory of PATH.
    pub candidates: Vec<CString>,
    /// Whether HOME is missing from the environment and is looked up in the container's
    /// /etc/passwd.
    pub needs_home: bool,
    /// Working directory, absolute.
    pub cwd: CString,
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Supplementary groups; `None` leaves those of the runtime.
    pub groups: Option<Vec<u32>>,
    /// File mode creation mask.
    pub umask: u32,
    /// The five sets.
    pub capabilities: CapSets,
    /// Resource, soft, hard.
    pub rlimits: Vec<(Resource, u64, u64)>,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: bool,
    /// Written to /proc/self/attr/…; empty: not set.
    pub apparmor: Vec<u8>,
    /// Written to /proc/self/attr/exec; empty: not set.
    pub selinux: Vec<u8>,
    /// Text of oom_score_adj.
    pub oom_score: Option<String>,
    /// sched_setattr(2).
    pub scheduler: Option<SchedAttr>,
    /// ioprio_set(2).
    pub io_priority: Option<i32>,
    /// Numbers of the caller's descriptors that the program inherits, ascending, from 3 on.
    pub kept_descriptors: Vec<u32>,
    /// Whether the program gets sockets by sd_listen_fds(3), which needs its own PID in the
    /// environment.
    pub listens: bool,
    /// CPU affinity of a process that `exec` creates.
    pub exec_affinity: Affinity,
}

/// Strings of a process as bytes. A document is UTF-8; the command line of `exec` need not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessStrings {
    /// The program and its arguments.
    pub args: Vec<Vec<u8>>,
    /// Each is `NAME=value`.
    pub env: Vec<Vec<u8>>,
    /// Working directory.
    pub cwd: Vec<u8>,
}

impl ProcessStrings {
    /// The strings of the document.
    pub fn of(process: &spec::Process) -> Self {
        let bytes = |list: &[String]| list.iter().map(|text| text.as_bytes().to_vec()).collect();
        Self { args: bytes(&process.args), env: bytes(&process.env), cwd: process.cwd.as_bytes().to_vec() }
    }
}

/// `execCPUAffinity`: bit masks in 64-bit words, for sched_setaffinity(2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    /// CPUs of the runtime while it creates the process; `None`: unchanged.
    pub initial: Option<Vec<u64>>,
    /// CPUs of the process, once it is in its cgroup; `None`: those of `initial` that the cgroup
    /// allows, or without `initial` all that it allows.
    pub last: Option<Vec<u64>>,
}

/// Size in characters; zeros leave the kernel's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TerminalSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

impl ProcessPlan {
    /// `args[0]`, as written.
    pub fn program(&self) -> String {
        self.args.first().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// The candidate path with this index.
    pub fn candidate(&self, index: usize) -> String {
        self.candidates.get(index).map_or_else(|| self.program(), |path| path.to_string_lossy().into_owned())
    }

    /// Whether the name has a slash and so is not looked up in PATH.
    pub fn has_path(&self) -> bool {
        self.args.first().is_some_and(|name| name.as_bytes().contains(&b'/'))
    }

    /// argv for execve(2); valid as long as the plan.
    pub fn argv(&self) -> Pointers {
        Pointers::new(self.args.iter().map(CString::as_c_str), 0)
    }

    /// The environment for execve(2), with room for HOME and LISTEN_PID; valid as long as the plan.
    pub fn envp(&self) -> Pointers {
        Pointers::new(self.env.iter().map(CString::as_c_str), 2)
    }
}

/// Plans `process`, whose JSON path is `place`; `words` replace its own arguments, environment and
/// working directory.
pub fn plan(
    process: &spec::Process,
    words: &ProcessStrings,
    place: &str,
    context: &Context<'_>,
    judge: &mut Judge,
) -> Option<ProcessPlan> {
    if words.args.is_empty() {
        judge.fault(format!("{place}.args"), "missing; name the program to run");
    }
    if words.cwd.first() != Some(&b'/') {
        let cwd = String::from_utf8_lossy(&words.cwd);
        judge.fault(format!("{place}.cwd"), format!("{cwd:?} is not absolute"));
    }
    reject_invalid_ids(process, place, judge);
    let args = strings(&words.args, format_args!("{place}.args"), judge);
    let env = environment(&words.env, place, context, judge);
    let candidates = candidates(words, place, judge);
    // Each validation runs, whatever the others found, so that all errors are reported at once.
    let cwd = judge.cbytes_at(|| format!("{place}.cwd"), &words.cwd)?;
    Some(ProcessPlan {
        terminal: terminal(process, place, judge),
        needs_home: !env
            .iter()
            .any(|text| text.as_bytes().starts_with(b"HOME=") && text.as_bytes().len() > 5),
        args,
        env,
        candidates,
        cwd,
        uid: process.user.uid,
        gid: process.user.gid,
        groups: groups(process, context),
        umask: umask(process, place, judge),
        capabilities: capabilities::plan(process, place, context, judge),
        rlimits: super::rlimits::rlimits(&process.rlimits, place, judge),
        no_new_privileges: process.no_new_privileges,
        apparmor: label(&APPARMOR, &process.apparmor_profile, context.apparmor, place, judge),
        selinux: label(&SELINUX, &process.selinux_label, context.selinux, place, judge),
        oom_score: oom_score(process, place, judge),
        scheduler: process
            .scheduler
            .as_ref()
            .and_then(|wanted| super::schedule::scheduler(wanted, place, judge)),
        io_priority: process
            .io_priority
            .as_ref()
            .and_then(|wanted| super::schedule::io_priority(wanted, place, judge)),
        kept_descriptors: context.passed.descriptors.clone(),
        listens: context.passed.listen.is_some(),
        exec_affinity: affinity(process, place, judge),
    })
}

/// Refuses (uid_t) -1, which setresuid(2) and setgroups(2) do not accept: the first would leave the
/// user unchanged, as root.
fn reject_invalid_ids(process: &spec::Process, place: &str, judge: &mut Judge) {
    let user = &process.user;
    let more = user.additional_gids.iter().enumerate();
    let more = more.map(|(at, id)| (format!("additionalGids[{at}]"), *id));
    for (name, id) in [("uid".to_owned(), user.uid), ("gid".to_owned(), user.gid)].into_iter().chain(more) {
        if id == u32::MAX {
            judge.fault(
                format!("{place}.user.{name}"),
                format!("{id} is not a valid id; the highest is {}", id - 1),
            );
        }
    }
}

/// Checks that a new user namespace maps the user. The kernel, setresuid(2), would only return
/// EINVAL.
pub(super) fn check_mapped(process: &spec::Process, context: &Context<'_>, maps: &IdMaps, judge: &mut Judge) {
    for (name, id, maps) in [("uid", process.user.uid, &maps.uid), ("gid", process.user.gid, &maps.gid)] {
        if id != u32::MAX && IdMaps::outside(maps, id).is_none() {
            let words = format!("no entry of linux.{name}Mappings has {id}");
            judge.fault(format!("process.user.{name}"), words);
        }
    }
    for (at, id) in process.user.additional_gids.iter().enumerate().filter(|_| !context.keep_groups) {
        if *id != u32::MAX && IdMaps::outside(&maps.gid, *id).is_none() {
            let words = format!("no entry of linux.gidMappings has {id}");
            judge.fault(format!("process.user.additionalGids[{at}]"), words);
        }
    }
}

fn strings(list: &[Vec<u8>], place: Place<'_>, judge: &mut Judge) -> Vec<CString> {
    let list = list.iter().enumerate();
    list.filter_map(|(at, bytes)| judge.cbytes_at(|| format!("{place}[{at}]"), bytes)).collect()
}

/// The environment as written, except that later entries of a name replace earlier ones, as in the
/// other runtimes.
fn environment(given: &[Vec<u8>], place: &str, context: &Context<'_>, judge: &mut Judge) -> Vec<CString> {
    let mut names = HashSet::new();
    let mut env: Vec<CString> = Vec::with_capacity(given.len() + 3);
    for (at, entry) in given.iter().enumerate().rev() {
        let name = entry.split(|byte| *byte == b'=').next().unwrap_or_default();
        if name.is_empty() {
            let entry = String::from_utf8_lossy(entry);
            judge.fault(format!("{place}.env[{at}]"), format!("{entry:?} has no name"));
        } else if names.insert(name) {
            env.extend(judge.cbytes_at(|| format!("{place}.env[{at}]"), entry));
        }
    }
    env.reverse();
    if let Some(listen) = &context.passed.listen {
        env.retain(|entry| !is_of_activation(entry));
        env.extend(listen.variables().filter_map(|entry| CString::new(entry).ok()));
    }
    // An empty HOME counts as missing, and must not precede the one that is looked up.
    env.retain(|entry| entry.as_c_str() != c"HOME=");
    env
}

/// Whether it is a variable of socket activation: engines write their own into config.json.
fn is_of_activation(entry: &CString) -> bool {
    let name = entry.as_bytes().split(|byte| *byte == b'=').next();
    passed::VARIABLES.iter().any(|variable| name == Some(variable.as_bytes()))
}

/// The candidate paths. Unlike execvp(3), there are no default directories: without PATH nothing is
/// searched.
fn candidates(words: &ProcessStrings, place: &str, judge: &mut Judge) -> Vec<CString> {
    // An empty name is never found, as in execvp(3).
    let Some(name) = words.args.first().filter(|name| !name.is_empty()) else { return Vec::new() };
    let place = || format!("{place}.args[0]");
    if name.contains(&b'/') {
        return judge.cbytes_at(place, name).into_iter().collect();
    }
    let path = words.env.iter().rev().find_map(|entry| entry.strip_prefix(b"PATH="));
    let directories = path.unwrap_or_default().split(|byte| *byte == b':').filter(|_| path.is_some());
    let directories = directories.map(|directory| if directory.is_empty() { b"." } else { directory });
    directories.filter_map(|directory| judge.cbytes_at(place, &[directory, b"/", name].concat())).collect()
}

fn terminal(process: &spec::Process, place: &str, judge: &mut Judge) -> Option<TerminalSize> {
    let mut side = |name: &str, value: u64| {
        u16::try_from(value).unwrap_or_else(|_| {
            judge.fault(format!("{place}.consoleSize.{name}"), format!("{value} is more than 65535"));
            0
        })
    };
    let size = process
        .console_size
        .map(|size| TerminalSize { rows: side("height", size.height), columns: side("width", size.width) });
    process.terminal.then(|| size.unwrap_or_default())
}

fn groups(process: &spec::Process, context: &Context<'_>) -> Option<Vec<u32>> {
    (!context.keep_groups).then(|| process.user.additional_gids.clone())
}

fn umask(process: &spec::Process, place: &str, judge: &mut Judge) -> u32 {
    let umask = process.user.umask.unwrap_or(0o022);
    if umask > 0o777 {
        judge.fault(format!("{place}.user.umask"), format!("{umask} (decimal) is more than 511, octal 777"));
    }
    umask
}

fn affinity(process: &spec::Process, place: &str, judge: &mut Judge) -> Affinity {
    let Some(wanted) = &process.exec_cpu_affinity else { return Affinity::default() };
    let mut mask = |name: &str, list: &str| match super::words::bit_list(list) {
        _ if list.is_empty() => None,
        Ok(mask) => Some(mask),
        Err(words) => {
            judge.fault(format!("{place}.execCPUAffinity.{name}"), words);
            None
        }
    };
    Affinity { initial: mask("initial", &wanted.initial), last: mask("final", &wanted.last) }
}

fn oom_score(process: &spec::Process, place: &str, judge: &mut Judge) -> Option<String> {
    let score = process.oom_score_adj?;
    if !(-1000..=1000).contains(&score) {
        judge.fault(format!("{place}.oomScoreAdj"), format!("{score} is not from -1000 to 1000"));
    }
    Some(score.to_string())
}

/// A security module that labels processes.
struct SecurityModule {
    name: &'static str,
    /// The member of `process` with the label.
    member: &'static str,
    /// Precedes the label in /proc/self/attr/exec.
    prefix: &'static str,
}

const APPARMOR: SecurityModule =
    SecurityModule { name: "AppArmor", member: "apparmorProfile", prefix: "exec " };
const SELINUX: SecurityModule = SecurityModule { name: "SELinux", member: "selinuxLabel", prefix: "" };

fn label(module: &SecurityModule, text: &str, enabled: bool, place: &str, judge: &mut Judge) -> Vec<u8> {
    let SecurityModule { name, member, prefix } = module;
    if text.is_empty() {
        return Vec::new();
    }
    if !enabled {
        let words = format!("{text:?} is requested, but {name} is not enabled in this kernel");
        judge.fault(format!("{place}.{member}"), words);
    }
    if text.contains(['\0', '\n']) {
        judge.fault(format!("{place}.{member}"), "has a NUL byte or a line break");
    }
    format!("{prefix}{text}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged<'a>(change: impl FnOnce(&mut spec::Process, &mut Context<'a>)) -> (Option<ProcessPlan>, Judge) {
        let mut process = spec::Process { args: vec!["sh".into()], cwd: "/".into(), ..Default::default() };
        let mut context = Context::for_tests();
        change(&mut process, &mut context);
        let mut judge = Judge::default();
        let plan = plan(&process, &ProcessStrings::of(&process), "process", &context, &mut judge);
        (plan, judge)
    }

    fn texts(list: &[CString]) -> Vec<&str> {
        list.iter().map(|text| text.to_str().unwrap()).collect()
    }

    #[test]
    fn environment_keeps_the_last_of_each_name() {
        let listen = passed::Listen { count: 2, names: Some("a:b".into()) };
        let passed = passed::Passed { descriptors: vec![3, 4, 7], listen: Some(listen) };
        let (plan, _) = judged(|process, context| {
            process.env = ["A=1", "HOME=", "LISTEN_PID=1", "LISTEN_FDS=9", "AB=2", "A=3", "EMPTY"]
                .map(String::from)
                .to_vec();
            context.passed = &passed;
        });
        let plan = plan.unwrap();
        assert_eq!(texts(&plan.env), ["AB=2", "A=3", "EMPTY", "LISTEN_FDS=2", "LISTEN_FDNAMES=a:b"]);
        assert!(plan.needs_home && plan.listens);
        assert_eq!(plan.kept_descriptors, [3, 4, 7]);
        let (plan, _) = judged(|process, _| process.env = vec!["LISTEN_FDS=1".into()]);
        assert_eq!(
            texts(&plan.unwrap().env),
            ["LISTEN_FDS=1"],
            "the engine's own stay when the caller passes none"
        );
    }

    #[test]
    fn path_is_looked_through_only_for_bare_names() {
        let table: [(&str, &[&str], &[&str]); 5] = [
            ("", &["PATH=/bin:/usr/bin"], &[]),
            ("sh", &["PATH=/bin::/usr/bin"], &["/bin/sh", "./sh", "/usr/bin/sh"]),
            ("./sh", &["PATH=/bin"], &["./sh"]),
            ("sh", &[], &[]),
            ("sh", &["PATH=/a", "PATH=/b"], &["/b/sh"]),
        ];
        for (name, env, want) in table {
            let (plan, _) = judged(|process, _| {
                process.args = vec![name.into()];
                process.env = env.iter().map(ToString::to_string).collect();
            });
            assert_eq!(texts(&plan.unwrap().candidates), want, "{name} {env:?}");
        }
    }

    #[test]
    fn the_number_for_no_id_is_refused() {
        let (_, judge) = judged(|process, _| {
            process.user.uid = u32::MAX;
            process.user.gid = u32::MAX;
            process.user.additional_gids = vec![1, u32::MAX];
        });
        let paths: Vec<_> = judge.faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["process.user.uid", "process.user.gid", "process.user.additionalGids[1]"]);
    }

    #[test]
    fn a_user_must_be_mapped() {
        let map = |first: u32, size: u32| vec![spec::IdMapping { container_id: first, host_id: 1000, size }];
        let group = "process.user.additionalGids[1]: no entry of linux.gidMappings has 4";
        for (uid, gid, more, want) in [
            (0, 5, vec![14], vec![]),
            (1, 5, vec![], vec!["process.user.uid: no entry of linux.uidMappings has 1"]),
            (0, 15, vec![], vec!["process.user.gid: no entry of linux.gidMappings has 15"]),
            (0, 5, vec![5, 4], vec![group]),
        ] {
            let mut judge = Judge::default();
            let user = spec::User { uid, gid, additional_gids: more, ..Default::default() };
            let process = spec::Process { user, ..Default::default() };
            let maps = IdMaps { uid: map(0, 1), gid: map(5, 10) };
            check_mapped(&process, &Context::for_tests(), &maps, &mut judge);
            let faults: Vec<String> = judge.faults.iter().map(ToString::to_string).collect();
            assert_eq!(faults, want);
        }
    }

    #[test]
    fn every_fault_is_reported() {
        let (_, judge) = judged(|process, _| {
            process.args.clear();
            process.cwd = "tmp".into();
            process.oom_score_adj = Some(1001);
            process.apparmor_profile = "x".into();
            process.user.umask = Some(0o1000);
            process.user.uid = u32::MAX;
            process.env = vec!["=x".into(), "a=b\0c".into()];
        });
        let faults: Vec<String> = judge.faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults.len(), 8, "{faults:#?}");
    }
}
