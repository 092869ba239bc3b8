//! Hooks, ready to run: the child's as C strings, the runtime's as written in config.json.

use std::ffi::CString;

use super::{Judge, Place};
use crate::spec;
use crate::sys::process::Pointers;

/// All hooks of a container.
#[derive(Debug, Default)]
pub struct Hooks {
    /// Run by the runtime, in its namespaces: prestart, then createRuntime.
    pub create_runtime: Vec<RuntimeHook>,
    /// Run by the child before pivot_root, in the container's namespaces.
    pub create_container: Vec<ContainerHook>,
    /// Run by the child before the program.
    pub start_container: Vec<ContainerHook>,
    /// Run by `start` after the program has started.
    pub poststart: Vec<RuntimeHook>,
    /// Run by `delete`.
    pub poststop: Vec<RuntimeHook>,
}

/// A hook in the runtime's namespaces.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
pub struct RuntimeHook {
    /// Its JSON path, such as `hooks.prestart[0]`.
    pub place: String,
    /// The hook as written.
    pub hook: spec::Hook,
}

/// A hook in the container's namespaces.
pub struct ContainerHook {
    /// Absolute path.
    pub path: CString,
    /// Timeout in milliseconds; -1: none.
    pub timeout: i32,
    /// Arguments; the strings are in `strings`.
    pub argv: Pointers,
    /// Its environment.
    pub environment: HookEnvironment,
    strings: Vec<CString>,
}

impl RuntimeHook {
    /// Its name in errors.
    pub fn named(&self) -> String {
        named(&self.place, &self.hook.path)
    }
}

/// A hook as runc names it, for scripts that parse this, with its JSON path: `createRuntime hook
/// #0: hooks.createRuntime[0] /x`.
pub fn named(place: &str, path: &str) -> String {
    let parts = place.strip_prefix("hooks.").and_then(|rest| rest.strip_suffix(']')?.split_once('['));
    match parts {
        Some((kind, number)) => format!("{kind} hook #{number}: {place} {path}"),
        None => format!("hook {place} {path}"),
    }
}

/// The environment of a [`ContainerHook`].
pub enum HookEnvironment {
    /// The hook's own or the runtime's; the strings are in the hook.
    Listed(Pointers),
    /// The environment of the container's process, with HOME. Only for hooks that run in the
    /// container's root.
    OfProcess,
}

impl std::fmt::Debug for ContainerHook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContainerHook").field("path", &self.path).field("strings", &self.strings).finish()
    }
}

/// Validates all hooks of `spec`.
///
/// `inherited` is the runtime's environment. createContainer hooks without an own environment
/// inherit it; startContainer hooks inherit that of the container's process, as with runc and crun.
pub fn plan(spec: &spec::Spec, inherited: &[CString], judge: &mut Judge) -> Hooks {
    let Some(hooks) = &spec.hooks else { return Hooks::default() };
    let mut runtime = |name: &str, list: &[spec::Hook]| -> Vec<RuntimeHook> {
        let list = list.iter().enumerate();
        list.filter_map(|(at, hook)| {
            let place = format!("hooks.{name}[{at}]");
            check(hook, format_args!("{place}"), judge).then(|| RuntimeHook { place, hook: hook.clone() })
        })
        .collect()
    };
    let mut create_runtime = runtime("prestart", &hooks.prestart);
    create_runtime.extend(runtime("createRuntime", &hooks.create_runtime));
    let poststart = runtime("poststart", &hooks.poststart);
    let poststop = runtime("poststop", &hooks.poststop);
    let mut container = |name: &str, list: &[spec::Hook], inherited: Option<&[CString]>| -> Vec<_> {
        let list = list.iter().enumerate();
        list.filter_map(|(at, hook)| {
            container_hook(hook, format_args!("hooks.{name}[{at}]"), inherited, judge)
        })
        .collect()
    };
    let create_container = container("createContainer", &hooks.create_container, Some(inherited));
    let start_container = container("startContainer", &hooks.start_container, None);
    Hooks { create_runtime, create_container, start_container, poststart, poststop }
}

fn check(hook: &spec::Hook, place: Place<'_>, judge: &mut Judge) -> bool {
    if !hook.path.starts_with('/') {
        judge.fault(format!("{place}.path"), format!("{:?} is not absolute", hook.path));
        return false;
    }
    if hook.timeout.is_some_and(|seconds| seconds <= 0) {
        judge.fault(format!("{place}.timeout"), "must be more than 0 seconds; leave it out for no limit");
        return false;
    }
    let texts = std::iter::once(&hook.path).chain(&hook.args).chain(hook.env.iter().flatten());
    if texts.into_iter().any(|text| text.contains('\0')) {
        judge.fault(place, "a string has a NUL byte");
        return false;
    }
    let is_broken = |entry: &String| entry.split_once('=').is_none_or(|(name, _)| name.is_empty());
    if let Some((at, entry)) = hook.env.iter().flatten().enumerate().find(|(_, entry)| is_broken(entry)) {
        judge.fault(format!("{place}.env[{at}]"), format!("{entry:?} is not NAME=value"));
        return false;
    }
    true
}

/// `inherited`: the environment of a hook without its own; `None` for that of the container's
/// process.
fn container_hook(
    hook: &spec::Hook,
    place: Place<'_>,
    inherited: Option<&[CString]>,
    judge: &mut Judge,
) -> Option<ContainerHook> {
    if !check(hook, place, judge) {
        return None;
    }
    let path = judge.cstring(place, &hook.path)?;
    let args = if hook.args.is_empty() { std::slice::from_ref(&hook.path) } else { &hook.args };
    let named = hook.env.iter().flatten();
    let mut strings: Vec<CString> =
        args.iter().chain(named).map(|text| judge.cstring(place, text)).collect::<Option<_>>()?;
    if let (None, Some(inherited)) = (&hook.env, inherited) {
        strings.extend_from_slice(inherited);
    }
    let (argv, envp) = strings.split_at_checked(args.len())?;
    let environment = match (&hook.env, inherited) {
        (None, None) => HookEnvironment::OfProcess,
        _ => HookEnvironment::Listed(Pointers::new(envp.iter().map(CString::as_c_str), 0)),
    };
    let seconds = hook.timeout.unwrap_or(-1);
    let timeout =
        if seconds < 0 { -1 } else { i32::try_from(seconds.saturating_mul(1000)).unwrap_or(i32::MAX) };
    Some(ContainerHook {
        path,
        timeout,
        argv: Pointers::new(argv.iter().map(CString::as_c_str), 0),
        environment,
        strings,
    })
}
