//! `linux.sysctl`: allows only parameters of the container's own namespaces; namespaces(7),
//! sysctl(8).

use std::ffi::CString;

use super::{Judge, Namespaces};
use crate::spec::Spec;
use crate::sys::namespace::Namespace;

/// Parameters of an ipc namespace outside fs.mqueue, ipc_namespaces(7).
const IPC: &[&str] = &[
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// Validates the parameters; returns path below /proc/sys and value of each.
pub fn plan(spec: &Spec, namespaces: &Namespaces, judge: &mut Judge) -> Vec<(CString, Vec<u8>)> {
    let Some(linux) = &spec.linux else { return Vec::new() };
    let list = linux.sysctl.iter();
    list.filter_map(|(name, value)| {
        let place = format_args!("linux.sysctl.{name}");
        let path = path(name);
        match refusal(&path, spec, namespaces) {
            Some(words) => {
                judge.fault(place, words);
                None
            }
            None => Some((judge.cstring(place, &path)?, value.clone().into_bytes())),
        }
    })
    .collect()
}

/// The path of a name, as in sysctl(8): the first separator decides; with dots, a slash means a dot
/// within a name.
fn path(name: &str) -> String {
    match name.find(['.', '/']).and_then(|at| name.as_bytes().get(at)) {
        Some(b'.') => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

fn refusal(path: &str, spec: &Spec, namespaces: &Namespaces) -> Option<String> {
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Some("not a kernel parameter's name".into());
    }
    let needs = |kind: Namespace| {
        (!namespaces.own(kind))
            .then(|| format!("needs the container's own {} namespace; it would change the host", kind.name()))
    };
    match path {
        "kernel/domainname" => needs(Namespace::Uts),
        "kernel/hostname" if !spec.hostname.is_empty() => {
            Some("set hostname instead; both would conflict".into())
        }
        "kernel/hostname" => needs(Namespace::Uts),
        _ if IPC.contains(&path) || path.starts_with("fs/mqueue/") => needs(Namespace::Ipc),
        _ if path.starts_with("net/") => needs(Namespace::Network),
        _ if path.starts_with("user/") => needs(Namespace::User),
        _ => Some("is not in a separate kernel namespace; it would change the host".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn names_become_paths() {
        assert_eq!(path("net.ipv4.conf.eth0/100.forwarding"), "net/ipv4/conf/eth0.100/forwarding");
        assert_eq!(path("net/ipv4/conf/eth0.100/forwarding"), "net/ipv4/conf/eth0.100/forwarding");
    }
}
