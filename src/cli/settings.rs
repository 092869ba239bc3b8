//! The global options as settings of the `container` module: the user, and where containers are
//! kept.

use std::env;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::args::{Global, Rootless};
use crate::cgroup::Driver;
use crate::container::request::Settings;
use crate::error::{Doing, Error, Kind, Result};
use crate::sys::small_file;

/// Name of the state directory below /run or $XDG_RUNTIME_DIR.
const NAME: &str = "emergence-runc";

/// Computes missing options from the environment of this process.
pub(crate) fn settings(global: &Global) -> Result<Settings> {
    let is_root = rustix::process::geteuid().is_root();
    let (mut confined, mut known) = (false, false);
    // Read at most once, and only if needed.
    let mut is_confined = || -> Result<bool> {
        if !std::mem::replace(&mut known, true) {
            confined = reads_confined()?;
        }
        Ok(confined)
    };
    let rootless = match global.rootless {
        Rootless::Said(said) => said,
        Rootless::Auto => !is_root || is_confined()?,
    };
    let root = match &global.root {
        Some(named) => named.clone(),
        None => default_root(is_root, is_confined, |name| env::var_os(name))?,
    };
    Ok(Settings { root, root_is_named: global.root.is_some(), driver: driver(global), rootless })
}

/// Whether this process is in a user namespace that does not map all IDs. A kernel without user
/// namespaces has no such file.
fn reads_confined() -> Result<bool> {
    const FILE: &str = "/proc/self/uid_map";
    match small_file::read_at(rustix::fs::CWD, FILE) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        map => Ok(!is_whole(&map.doing(|| format!("read {FILE}"))?)),
    }
}

/// `--cgroup-manager` is more specific than `--systemd-cgroup`, so it has priority.
fn driver(global: &Global) -> Driver {
    global.cgroup_manager.unwrap_or(if global.systemd_cgroup { Driver::Systemd } else { Driver::Plain })
}

/// /run for root, `$XDG_RUNTIME_DIR` for other users.
///
/// Root in the user namespace of a rootless user (rootless podman) counts as another user: there,
/// /run belongs to the host's root. It is recognized by the user's XDG_RUNTIME_DIR; USER may be
/// missing, but is not root.
fn default_root(
    is_root: bool,
    confined: impl FnOnce() -> Result<bool>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf> {
    let runtime = env("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    match runtime {
        Some(own) if !is_root => Ok(own.join(NAME)),
        Some(own) if env("USER").is_none_or(|user| user != "root") && confined()? => Ok(own.join(NAME)),
        None if !is_root => Err(Error::new(
            Kind::Usage,
            "no state directory: set XDG_RUNTIME_DIR to an absolute path, or give --root DIR",
        )),
        _ => Ok(Path::new("/run").join(NAME)),
    }
}

/// Whether a uid_map maps all IDs to themselves, as outside of any user namespace.
/// user_namespaces(7).
fn is_whole(map: &[u8]) -> bool {
    map.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty()).eq([
        b"0".as_slice(),
        b"0",
        b"4294967295",
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_containers_are_kept() {
        let table = [
            ("root", true, false, Some("/run/user/0"), "root", "/run/emergence-runc"),
            ("user", false, false, Some("/run/user/7"), "u", "/run/user/7/emergence-runc"),
            ("user's namespace", true, true, Some("/run/user/7"), "u", "/run/user/7/emergence-runc"),
            ("nested root", true, true, Some("/run/user/0"), "root", "/run/emergence-runc"),
            ("nested root, bare", true, true, None, "u", "/run/emergence-runc"),
            (
                "an engine that passes little",
                true,
                true,
                Some("/run/user/7"),
                "",
                "/run/user/7/emergence-runc",
            ),
            ("su", true, false, Some("/run/user/7"), "u", "/run/emergence-runc"),
        ];
        for (name, is_root, confined, runtime, user, want) in table {
            let env = |name: &str| match name {
                "USER" => (!user.is_empty()).then(|| OsString::from(user)),
                _ => runtime.map(OsString::from),
            };
            assert_eq!(default_root(is_root, || Ok(confined), env).unwrap(), Path::new(want), "{name}");
        }
        for none in [None, Some(OsString::new()), Some("run".into())] {
            let error = default_root(false, || Ok(true), |_| none.clone()).unwrap_err();
            assert!(error.to_string().contains("set XDG_RUNTIME_DIR"), "{error}");
        }
    }

    #[test]
    fn whole_maps() {
        assert!(is_whole(b"         0          0 4294967295\n"));
        for map in ["0 1000 1\n", "0 0 65536\n", "0 1000 1\n1 100000 65536\n", ""] {
            assert!(!is_whole(map.as_bytes()), "{map}");
        }
    }
}
