//! Roots and leases: objects and layers that are kept under a name until it is removed, or for a
//! process as long as it lives.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Store;
use super::directory::names;
use crate::emergence::base::bounded::{open_file, read_document};
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::nix::store_path::StorePath;
use crate::error::{Doing, Error, Kind};
use crate::sys::remove::remove;

/// Directory of bundles that are deleted with their leases.
const BUNDLES: &str = "bundles";

/// Objects and layers to keep. The references of the objects are kept too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Base names of objects.
    pub objects: Vec<String>,
    /// Chain IDs of layers.
    #[serde(default)]
    pub layers: Vec<String>,
}

impl Held {
    /// Keeps these objects.
    pub fn objects<'a>(objects: impl IntoIterator<Item = &'a StorePath>) -> Self {
        let objects = objects.into_iter().map(ToString::to_string).collect();
        Self { objects, layers: Vec::new() }
    }

    /// Keeps these layer directories, given by name.
    pub fn layers(names: impl IntoIterator<Item = String>) -> Self {
        Self { objects: Vec::new(), layers: names.into_iter().collect() }
    }
}

/// The content of a root: a name under which something is kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GcRoot {
    /// The REF that the user gave.
    pub reference: String,
    /// Objects and layers that it keeps.
    #[serde(flatten)]
    pub held: Held,
}

/// A lease on disk.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct LeaseFile {
    pid: i32,
    start_time: u64,
    held: Held,
}

impl LeaseFile {
    fn is_of_a_living(&self) -> bool {
        start_time(self.pid) == Some(self.start_time)
    }
}

/// Keeps something as long as a process lives. Dropping it releases it.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    kept: bool,
}

impl Lease {
    /// Releases the lease. Its file may be missing: gc removes leases of dead processes.
    pub fn release(mut self) -> Result<()> {
        self.kept = true;
        remove(&self.path).doing(|| format!("remove {}", self.path.display()))?;
        Ok(())
    }

    /// Transfers the lease to its process: it counts until that process has ended.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Start time of a process, in clock ticks. `None`: there is no such process, or it is dead.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may contain any character and ends at the last parenthesis.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    let began = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(began)
}

/// Checks that a name is a single path component.
fn plain(name: &str) -> Result<&str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+._-".contains(&byte);
    if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.bytes().all(allowed) {
        let words = format!("{}: a name has 1 to 200 letters, digits and + - . _", name.escape_debug());
        return Err(Fault::usage(words));
    }
    Ok(name)
}

impl Store {
    /// Keeps these objects and their references as long as this process lives. `id`: the
    /// container's.
    pub fn lease(&self, id: &str, objects: &[StorePath]) -> Result<Lease> {
        self.lease_for(id, rustix::process::getpid().as_raw_nonzero().get(), &Held::objects(objects))
    }

    /// As [`Store::lease`], but for any process, and for layers too. A lease of the same name is
    /// replaced.
    pub fn lease_for(&self, id: &str, pid: i32, held: &Held) -> Result<Lease> {
        let path = self.directory.join("leases").join(format!("{}.json", plain(id)?));
        let start_time = start_time(pid)
            .ok_or_else(|| Fault::from(Error::new(Kind::NotFound, format!("no such process: {pid}"))))?;
        for object in &held.objects {
            self.needed(&StorePath::parse(object)?)?;
        }
        let file = LeaseFile { pid, start_time, held: held.clone() };
        let text = serde_json::to_vec(&file).map_err(|error| Fault::usage(error.to_string()))?;
        self.put(&path, &text)?;
        Ok(Lease { path, kept: false })
    }

    /// The path for the bundle of a container that only this lease keeps; it does not exist yet.
    /// Bundles of ended leases are deleted.
    pub fn bundle_for(&self, lease: &str) -> Result<PathBuf> {
        let directory = self.directory.join(BUNDLES);
        match fs::DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).doing(|| format!("create {}", directory.display()))?;
            }
            // A bundle that cannot be deleted does not affect this one; gc reports it.
            _ => drop(self.remove_stale_bundles()),
        }
        let place = directory.join(plain(lease)?);
        // Left by an earlier process with the same PID.
        remove(&place).doing(|| format!("remove {}", place.display()))?;
        Ok(place)
    }

    /// Deletes bundles that no living process needs.
    pub(super) fn remove_stale_bundles(&self) -> Result<()> {
        let directory = self.directory.join(BUNDLES);
        if !directory.exists() {
            return Ok(());
        }
        for name in names(&directory)? {
            let lease = self.lease_file(&self.directory.join("leases").join(format!("{name}.json")))?;
            if !lease.is_some_and(|lease| lease.is_of_a_living()) {
                let bundle = directory.join(name);
                remove(&bundle).doing(|| format!("remove {}", bundle.display()))?;
            }
        }
        Ok(())
    }

    fn lease_file(&self, path: &Path) -> Result<Option<LeaseFile>> {
        let Some(file) = open_file(path)? else { return Ok(None) };
        let text = read_document(file, &path.display().to_string())?;
        understood(&text, path).map(Some)
    }

    /// Objects and layers of living processes. Leases of dead processes are deleted if `clean`.
    pub(super) fn leased(&self, clean: bool) -> Result<Vec<Held>> {
        let mut found = Vec::new();
        for name in names(&self.directory.join("leases"))? {
            let path = self.directory.join("leases").join(name);
            let Some(lease) = self.lease_file(&path)? else { continue };
            if lease.is_of_a_living() {
                found.push(lease.held);
            } else if clean {
                remove(&path).doing(|| format!("remove {}", path.display()))?;
            }
        }
        Ok(found)
    }

    /// Adds or replaces a root.
    pub fn add_root(&self, name: &str, root: &GcRoot) -> Result<()> {
        for object in &root.held.objects {
            self.needed(&StorePath::parse(object)?)?;
        }
        let text = serde_json::to_vec(root).map_err(|error| Fault::usage(error.to_string()))?;
        self.put(&self.directory.join("roots").join(plain(name)?), &text)
    }

    /// Removes a root. `Kind::NotFound`: there is no such root.
    pub fn remove_root(&self, name: &str) -> Result<()> {
        let path = self.directory.join("roots").join(plain(name)?);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(Error::new(Kind::NotFound, format!("no such root: {name}")).into())
            }
            removed => Ok(removed.doing(|| format!("remove {}", path.display()))?),
        }
    }

    /// All roots by name.
    pub fn roots(&self) -> Result<Vec<(String, GcRoot)>> {
        let mut found = Vec::new();
        for name in names(&self.directory.join("roots"))? {
            let path = self.directory.join("roots").join(&name);
            let Some(file) = open_file(&path)? else { continue };
            let text = read_document(file, &path.display().to_string())?;
            found.push((name, understood(&text, &path)?));
        }
        Ok(found)
    }
}

fn understood<T: for<'a> Deserialize<'a>>(text: &[u8], path: &Path) -> Result<T> {
    serde_json::from_slice(text)
        .map_err(|error| Fault::refused(Code::StoreCorrupt, path.display().to_string(), error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_living_processes_are_reported_alive() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        assert!(start_time(own).is_some());
        assert_eq!(start_time(own), start_time(own));
        assert_eq!(start_time(i32::MAX), None);
        for bad in ["", ".", "..", "a/b", "a b", "\u{e9}"] {
            assert!(plain(bad).is_err(), "{bad}");
        }
    }
}
