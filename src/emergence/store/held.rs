//! What must be kept: by name, until the name is taken away, or by a process, as long as it lives.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Store;
use super::folder::names;
use crate::emergence::base::bounded::{open_file, read_document};
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::nix::store_path::StorePath;
use crate::error::{Doing, Error, Kind};
use crate::sys::remove::remove;

/// Folder of the bundles that go with their leases.
const BUNDLES: &str = "bundles";

/// What is kept; all that the objects refer to is kept with them.
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
    /// These objects.
    pub fn objects<'a>(objects: impl IntoIterator<Item = &'a StorePath>) -> Self {
        let objects = objects.into_iter().map(ToString::to_string).collect();
        Self { objects, layers: Vec::new() }
    }

    /// These folders of layers, by their names.
    pub fn layers(names: impl IntoIterator<Item = String>) -> Self {
        Self { objects: Vec::new(), layers: names.into_iter().collect() }
    }
}

/// A name for something that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// What was asked for.
    pub reference: String,
    /// What is kept for it.
    #[serde(flatten)]
    pub held: Held,
}

/// A process that uses something.
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

/// Something that is kept as long as a process lives. Dropping it gives it up.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    kept: bool,
}

impl Lease {
    /// Gives it up. It may be gone: that of a process that has ended, anybody takes away who takes away what nobody keeps.
    pub fn release(mut self) -> Result<()> {
        self.kept = true;
        remove(&self.path).doing(|| format!("remove {}", self.path.display()))?;
        Ok(())
    }

    /// Leaves it to the process that it is for: it counts until that has ended.
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

/// When a process began, in the kernel's ticks. `None`: there is no such process, or it is dead.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may have anything in it, and ends with the last parenthesis.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    let began = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(began)
}

/// A name that is one part of a path.
fn plain(name: &str) -> Result<&str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+._-".contains(&byte);
    if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.bytes().all(allowed) {
        let words = format!("{}: a name has 1 to 200 letters, digits and + - . _", name.escape_debug());
        return Err(Fault::usage(words));
    }
    Ok(name)
}

impl Store {
    /// Keeps these objects, and what they refer to, as long as this process lives. `id`: the container's.
    pub fn lease(&self, id: &str, objects: &[StorePath]) -> Result<Lease> {
        self.lease_for(id, rustix::process::getpid().as_raw_nonzero().get(), &Held::objects(objects))
    }

    /// The same for another process, and for layers too. A lease of the same name is replaced.
    pub fn lease_for(&self, id: &str, pid: i32, held: &Held) -> Result<Lease> {
        let path = self.folder.join("leases").join(format!("{}.json", plain(id)?));
        let start_time = start_time(pid)
            .ok_or_else(|| Fault::from(Error::new(Kind::NotFound, format!("there is no process {pid}"))))?;
        for object in &held.objects {
            self.needed(&StorePath::parse(object)?)?;
        }
        let file = LeaseFile { pid, start_time, held: held.clone() };
        let text = serde_json::to_vec(&file).map_err(|error| Fault::usage(error.to_string()))?;
        self.put(&path, &text)?;
        Ok(Lease { path, kept: false })
    }

    /// Where the bundle of a container lies that nothing but this lease keeps; nothing is there. Bundles whose leases have ended go.
    pub fn bundle_for(&self, lease: &str) -> Result<PathBuf> {
        let folder = self.folder.join(BUNDLES);
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).doing(|| format!("make {}", folder.display()))?;
            }
            // What cannot be taken away is not in the way of this one; gc tells of it.
            _ => drop(self.remove_stale_bundles()),
        }
        let place = folder.join(plain(lease)?);
        // Of a process that had our number.
        remove(&place).doing(|| format!("remove {}", place.display()))?;
        Ok(place)
    }

    /// Takes bundles away that no living process needs.
    pub(super) fn remove_stale_bundles(&self) -> Result<()> {
        let folder = self.folder.join(BUNDLES);
        if !folder.exists() {
            return Ok(());
        }
        for name in names(&folder)? {
            let lease = self.lease_file(&self.folder.join("leases").join(format!("{name}.json")))?;
            if !lease.is_some_and(|lease| lease.is_of_a_living()) {
                let bundle = folder.join(name);
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

    /// What living processes use. Leases of dead ones are taken away with `clean`.
    pub(super) fn leased(&self, clean: bool) -> Result<Vec<Held>> {
        let mut found = Vec::new();
        for name in names(&self.folder.join("leases"))? {
            let path = self.folder.join("leases").join(name);
            let Some(lease) = self.lease_file(&path)? else { continue };
            if lease.is_of_a_living() {
                found.push(lease.held);
            } else if clean {
                remove(&path).doing(|| format!("remove {}", path.display()))?;
            }
        }
        Ok(found)
    }

    /// Keeps something under a name, in place of what the name was for.
    pub fn add_root(&self, name: &str, root: &Root) -> Result<()> {
        for object in &root.held.objects {
            self.needed(&StorePath::parse(object)?)?;
        }
        let text = serde_json::to_vec(root).map_err(|error| Fault::usage(error.to_string()))?;
        self.put(&self.folder.join("roots").join(plain(name)?), &text)
    }

    /// Takes a name away. `Kind::NotFound`: there is no such name.
    pub fn remove_root(&self, name: &str) -> Result<()> {
        let path = self.folder.join("roots").join(plain(name)?);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(Error::new(Kind::NotFound, format!("there is no root {name}")).into())
            }
            removed => Ok(removed.doing(|| format!("remove {}", path.display()))?),
        }
    }

    /// All names and what they are for.
    pub fn roots(&self) -> Result<Vec<(String, Root)>> {
        let mut found = Vec::new();
        for name in names(&self.folder.join("roots"))? {
            let path = self.folder.join("roots").join(&name);
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
    fn this_process_lives_and_others_do_not() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        assert!(start_time(own).is_some());
        assert_eq!(start_time(own), start_time(own));
        assert_eq!(start_time(i32::MAX), None);
        for bad in ["", ".", "..", "a/b", "a b", "\u{e9}"] {
            assert!(plain(bad).is_err(), "{bad}");
        }
    }
}
