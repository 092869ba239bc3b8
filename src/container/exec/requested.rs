//! The process that `exec` is to run: a process.json, or the container's own process with other
//! arguments; changed by the options.

use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::container::members;
use crate::container::request::{Changes, Exec};
use crate::error::{Doing, Error, Kind, Result};
use crate::plan::ProcessStrings;
use crate::spec::{self, Process, Spec};

/// The requested process.
pub(crate) struct RequestedProcess {
    /// All of it except `words`.
    pub process: Process,
    /// Its arguments, environment and working directory.
    pub words: ProcessStrings,
    /// The document that its errors are reported for.
    pub document: String,
}

/// Builds the requested process.
pub(crate) fn process(request: &Exec, spec: &Spec) -> Result<RequestedProcess> {
    let (mut process, document) = match &request.process {
        Some(file) => {
            if !request.args.is_empty() {
                // As runc and crun do.
                tracing::warn!("the program given after the id is ignored: --process gives one");
            }
            let name = file.display().to_string();
            let bytes = fs::read(file).doing(|| format!("read {name}"))?;
            let mut process = spec::parse_process(&bytes)
                .map_err(|fault| Error::new(Kind::Invalid, format!("{name}: {fault}")))?;
            members::warn::<Process>(&name, &bytes);
            if let Some(own) = &spec.process {
                stay_confined(&mut process, own);
            }
            (process, name)
        }
        None => {
            if request.args.is_empty() {
                return Err(Error::new(
                    Kind::Usage,
                    "exec args cannot be empty: give the program to run after the container's id, or use --process",
                ));
            }
            let own =
                spec.process.clone().unwrap_or_else(|| Process { cwd: "/".into(), ..Process::default() });
            // Only exec's own option requests a terminal.
            let process = Process { args: Vec::new(), terminal: false, ..own };
            (process, "exec".into())
        }
    };
    let mut words = ProcessStrings::of(&process);
    if request.process.is_none() {
        words.args = request.args.iter().map(|word| word.as_bytes().to_vec()).collect();
    }
    change(&mut process, &mut words, &request.changes);
    Ok(RequestedProcess { process, words, document })
}

/// Takes the capabilities, limits and labels that a process.json omits from the container's `own`
/// process, as runc and crun do.
fn stay_confined(process: &mut Process, own: &Process) {
    if process.capabilities.is_none() {
        process.capabilities.clone_from(&own.capabilities);
    }
    if process.rlimits.is_empty() {
        process.rlimits.clone_from(&own.rlimits);
    }
    if process.selinux_label.is_empty() {
        process.selinux_label.clone_from(&own.selinux_label);
    }
    if process.apparmor_profile.is_empty() {
        process.apparmor_profile.clone_from(&own.apparmor_profile);
    }
}

fn change(process: &mut Process, words: &mut ProcessStrings, changes: &Changes) {
    process.terminal |= changes.terminal;
    words.env.extend(changes.env.iter().map(|entry| entry.as_bytes().to_vec()));
    if let Some(cwd) = &changes.cwd {
        words.cwd = cwd.as_bytes().to_vec();
    }
    if let Some((uid, gid)) = changes.user {
        process.user.uid = uid;
        process.user.gid = gid.unwrap_or(process.user.gid);
    }
    process.user.additional_gids.extend_from_slice(&changes.additional_gids);
    if let Some(label) = &changes.selinux_label {
        process.selinux_label.clone_from(label);
    }
    if let Some(profile) = &changes.apparmor_profile {
        process.apparmor_profile.clone_from(profile);
    }
    process.no_new_privileges = changes.no_new_privileges.unwrap_or(process.no_new_privileges);
    if !changes.capabilities.is_empty() {
        let sets = process.capabilities.get_or_insert_default();
        // Never inheritable (CVE-2022-29162); and ambient capabilities need inheritable ones.
        let also_ambient = !sets.inheritable.is_empty();
        let given = [&mut sets.bounding, &mut sets.effective, &mut sets.permitted];
        for set in given.into_iter().chain(also_ambient.then_some(&mut sets.ambient)) {
            set.extend_from_slice(&changes.capabilities);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(json: &str, changes: Changes) -> Process {
        changed(json, changes).0
    }

    fn changed(json: &str, changes: Changes) -> (Process, ProcessStrings) {
        let mut process = spec::parse_process(json.as_bytes()).unwrap();
        let mut words = ProcessStrings::of(&process);
        change(&mut process, &mut words, &changes);
        (process, words)
    }

    #[test]
    fn options_change_what_they_name() {
        let own = r#"{"cwd":"/a","user":{"uid":1,"gid":2,"additionalGids":[3]},"env":["A=1"],"noNewPrivileges":true}"#;
        let same = exec(own, Changes::default());
        assert_eq!(
            (same.user.uid, same.user.gid, same.cwd.as_str(), same.no_new_privileges),
            (1, 2, "/a", true)
        );
        let other = Changes {
            cwd: Some("/b".into()),
            env: vec!["A=2".into()],
            user: Some((7, None)),
            additional_gids: vec![4],
            no_new_privileges: Some(false),
            ..Changes::default()
        };
        let (changed, words) = changed(own, other);
        assert_eq!((changed.user.uid, changed.user.gid), (7, 2));
        assert_eq!(changed.user.additional_gids, [3, 4]);
        assert_eq!(words.env, [b"A=1", b"A=2"]);
        assert!(words.cwd == b"/b" && !changed.no_new_privileges);
        assert_eq!(exec(own, Changes { user: Some((0, Some(9))), ..Changes::default() }).user.gid, 9);
    }

    #[test]
    fn a_process_json_inherits_missing_fields_from_the_container() {
        let own = r#"{"cwd":"/","capabilities":{"bounding":["CAP_KILL"]},"selinuxLabel":"s","apparmorProfile":"a",
            "rlimits":[{"type":"RLIMIT_NOFILE","soft":9,"hard":9}],"noNewPrivileges":true}"#;
        let own = spec::parse_process(own.as_bytes()).unwrap();
        let confined = |json: &str| {
            let mut process = spec::parse_process(json.as_bytes()).unwrap();
            stay_confined(&mut process, &own);
            process
        };
        let silent = confined(r#"{"cwd":"/"}"#);
        assert_eq!(silent.capabilities.unwrap().bounding, ["CAP_KILL"]);
        assert_eq!((silent.selinux_label.as_str(), silent.apparmor_profile.as_str()), ("s", "a"));
        assert_eq!(silent.rlimits.len(), 1);
        let other = r#"{"cwd":"/","capabilities":{},"selinuxLabel":"t","apparmorProfile":"b",
            "rlimits":[{"type":"RLIMIT_CORE","soft":0,"hard":0}]}"#;
        let other = confined(other);
        assert!(other.capabilities.unwrap().bounding.is_empty());
        assert_eq!((other.selinux_label.as_str(), other.apparmor_profile.as_str()), ("t", "b"));
        assert_eq!(other.rlimits.first().unwrap().kind, "RLIMIT_CORE");
    }

    #[test]
    fn capabilities_are_never_inheritable() {
        let more = || Changes { capabilities: vec!["CAP_KILL".into()], ..Changes::default() };
        for silent in [r#"{"cwd":"/"}"#, r#"{"cwd":"/","capabilities":{}}"#] {
            let sets = exec(silent, more()).capabilities.unwrap();
            assert_eq!((sets.permitted.len(), sets.inheritable.len(), sets.ambient.len()), (1, 0, 0));
        }
        let with = r#"{"cwd":"/","capabilities":{"inheritable":["CAP_CHOWN"]}}"#;
        let sets = exec(with, more()).capabilities.unwrap();
        assert_eq!((sets.inheritable.as_slice(), sets.ambient.len()), (&["CAP_CHOWN".to_owned()][..], 1));
    }
}
