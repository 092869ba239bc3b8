//! Garbage collection. Dependents are deleted first, so that after an interruption every remaining
//! object has all its references.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::directory::names;
use super::roots::Held;
use super::{Store, meta};
use crate::emergence::base::files::{Staging, random_name, remove_stale, rename_new};
use crate::emergence::base::refusal::Result;
use crate::emergence::nix::object::dependencies_first;
use crate::emergence::nix::store_path::StorePath;
use crate::error::Doing;
use crate::sys::remove::remove;

/// The result of a garbage collection, or of a dry run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Objects, each before its references.
    pub objects: Vec<StorePath>,
    /// Chain IDs of layers.
    pub layers: Vec<String>,
    /// Bytes that are freed, or would be.
    pub bytes: u64,
}

impl Store {
    /// Deletes everything that no root and no living process keeps, unless it was added within the
    /// last `keep_for`. Takes the exclusive lock on the store. With `dry_run`, deletes nothing and
    /// only reports.
    pub fn collect(&self, keep_for: Option<Duration>, dry_run: bool) -> Result<Collected> {
        if !dry_run {
            self.lock_others_out()?;
        }
        let kept = self.contents_to_keep(keep_for, !dry_run)?;
        let unreachable = self.unreachable(&kept.0)?;
        let layers = self.doomed_layers(&kept.1, keep_for)?;
        let mut collected = Collected { objects: unreachable, layers, bytes: 0 };
        if dry_run {
            let objects = collected.objects.iter().map(|object| self.tree(object));
            let layers = collected.layers.iter().map(|layer| self.layers().join(layer));
            collected.bytes = self.weight(objects.chain(layers).chain(self.invalid()?))?;
            return Ok(collected);
        }
        collected.bytes += self.delete(&collected)?;
        collected.bytes += self.tidy()?;
        Ok(collected)
    }

    /// The objects and layers to keep.
    fn contents_to_keep(
        &self,
        keep_for: Option<Duration>,
        clean: bool,
    ) -> Result<(BTreeSet<StorePath>, BTreeSet<String>)> {
        let mut held: Vec<Held> = self.roots()?.into_iter().map(|(_, root)| root.held).collect();
        held.extend(self.leased(clean)?);
        let mut starts = Vec::new();
        for base in held.iter().flat_map(|held| &held.objects) {
            let path = StorePath::parse(base)?;
            // A root or lease of a missing object must not prevent the collection of others.
            if self.meta(&path)?.is_some() {
                starts.push(path);
            }
        }
        for object in self.objects()? {
            let file = meta::place(&self.directory, &object.digits());
            if is_young(&file, keep_for, |kind| (kind.mtime(), kind.mtime_nsec()))? {
                starts.push(object);
            }
        }
        let objects = self.closure_of(&starts)?.into_iter().map(|meta| meta.object.path).collect();
        let layers = held.into_iter().flat_map(|held| held.layers).collect();
        Ok((objects, layers))
    }

    fn unreachable(&self, kept: &BTreeSet<StorePath>) -> Result<Vec<StorePath>> {
        let mut found = std::collections::BTreeMap::new();
        for object in self.objects()? {
            if !kept.contains(&object)
                && let Some(meta) = self.meta(&object)?
            {
                found.insert(object, meta.object);
            }
        }
        let mut order = dependencies_first(found, |object| &object.references);
        order.reverse();
        Ok(order.into_iter().map(|object| object.path).collect())
    }

    fn doomed_layers(&self, kept: &BTreeSet<String>, keep_for: Option<Duration>) -> Result<Vec<String>> {
        let mut unreachable = Vec::new();
        for name in names(&self.layers())? {
            if kept.contains(&name) {
                continue;
            }
            // The modification time of a layer comes from the image; ctime is when we renamed it.
            let named = |kind: &fs::Metadata| (kind.ctime(), kind.ctime_nsec());
            if !is_young(&self.layers().join(&name), keep_for, named)? {
                unreachable.push(name);
            }
        }
        Ok(unreachable)
    }

    fn delete(&self, unreachable: &Collected) -> Result<u64> {
        Staging::with(&self.directory.join("tmp"), |staging| {
            let mut freed = 0;
            for object in &unreachable.objects {
                let known = meta::place(&self.directory, &object.digits());
                fs::remove_file(&known).doing(|| format!("remove {}", known.display()))?;
                freed += take_tree(&self.tree(object), staging)?;
            }
            for layer in &unreachable.layers {
                freed += take_tree(&self.layers().join(layer), staging)?;
            }
            Ok(freed)
        })
    }

    /// Deletes leftovers: trees without a record, unused files, notes, seals and documents, and
    /// files of dead processes.
    fn tidy(&self) -> Result<u64> {
        let tmp = self.directory.join("tmp");
        remove_stale(&tmp)?;
        self.remove_stale_bundles()?;
        let mut freed = 0;
        Staging::with(&tmp, |staging| {
            for tree in self.invalid()? {
                freed += take_tree(&tree, staging)?;
            }
            Ok(())
        })?;
        self.tidy_notes()?;
        self.tidy_automatons()?;
        self.tidy_seals()?;
        self.tidy_layer_blobs()?;
        Ok(freed + self.tidy_links()?)
    }

    /// Trees without a record.
    fn invalid(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for name in names(&self.trees())? {
            let known = StorePath::parse(&name).ok().map(|path| self.meta(&path)).transpose()?.flatten();
            if known.is_none() {
                found.push(self.trees().join(name));
            }
        }
        Ok(found)
    }

    /// Deletes files that no tree links to.
    fn tidy_links(&self) -> Result<u64> {
        let directory = self.directory.join("links");
        let mut freed = 0;
        for name in names(&directory)? {
            let path = directory.join(name);
            let doing = || format!("stat {}", path.display());
            if fs::symlink_metadata(&path).doing(doing)?.nlink() == 1 {
                freed += remove(&path).doing(|| format!("remove {}", path.display()))?;
            }
        }
        Ok(freed)
    }

    fn tidy_notes(&self) -> Result<()> {
        let directory = self.directory.join("content");
        for name in names(&directory)? {
            let path = directory.join(&name);
            let lines = self.lines(&path)?;
            let mut left = Vec::new();
            for line in &lines {
                if let Ok(object) = StorePath::parse(line)
                    && self.meta(&object)?.is_some_and(|meta| meta.content.hex() == name)
                {
                    left.push(line.clone());
                }
            }
            if left.is_empty() {
                fs::remove_file(&path).doing(|| format!("remove {}", path.display()))?;
            } else if left != lines {
                self.put(&path, (left.join("\n") + "\n").as_bytes())?;
            }
        }
        Ok(())
    }

    /// Deletes seals, `DIGITS-DEVICE-INODE.KIND`, of deleted objects. A store may have no seals.
    fn tidy_seals(&self) -> Result<()> {
        let directory = self.directory.join("seals");
        for name in if directory.exists() { names(&directory)? } else { Vec::new() } {
            let digits = name.split('-').next().unwrap_or_default();
            if !meta::place(&self.directory, digits).exists() {
                let path = directory.join(&name);
                fs::remove_file(&path).doing(|| format!("remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Deletes documents of automata that lack an object.
    fn tidy_automatons(&self) -> Result<()> {
        let directory = self.directory.join("automatons");
        for name in names(&directory)? {
            let path = directory.join(&name);
            let text = fs::read(&path).doing(|| format!("read {}", path.display()))?;
            let document: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
            let objects = document.get("objects").and_then(serde_json::Value::as_array);
            let mut whole = true;
            for object in objects.into_iter().flatten().filter_map(serde_json::Value::as_str) {
                whole &=
                    self.dir.parse(object).ok().map(|path| self.meta(&path)).transpose()?.flatten().is_some();
            }
            if !whole {
                fs::remove_file(&path).doing(|| format!("remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}

/// Renames a tree into the staging directory in one step, then deletes it. Returns the bytes freed.
fn take_tree(path: &Path, staging: &Staging) -> Result<u64> {
    if path.symlink_metadata().is_err() {
        return Ok(0);
    }
    let away = staging.path().join(random_name()?);
    rename_new(path, &away).doing(|| format!("rename {}", path.display()))?;
    Ok(remove(&away).doing(|| format!("remove {}", away.display()))?)
}

/// Whether `path` was added within the last `keep_for`. `when` returns the time it was added, in
/// seconds and nanoseconds since 1970.
fn is_young(
    path: &Path,
    keep_for: Option<Duration>,
    when: impl FnOnce(&fs::Metadata) -> (i64, i64),
) -> Result<bool> {
    let Some(keep_for) = keep_for else { return Ok(false) };
    let kind = fs::symlink_metadata(path).doing(|| format!("stat {}", path.display()))?;
    let (seconds, nanos) = when(&kind);
    let came = u64::try_from(seconds).ok().zip(u32::try_from(nanos).ok());
    let came = SystemTime::UNIX_EPOCH
        + came.map_or(Duration::ZERO, |(seconds, nanos)| Duration::new(seconds, nanos));
    // A time in the future counts as now.
    Ok(SystemTime::now().duration_since(came).map_or(true, |age| age <= keep_for))
}
