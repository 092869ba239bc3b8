//! Nix binary caches in a directory: `nix-cache-info`, a `.narinfo` for each object, and the NARs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::narinfo::NarInfo;
use super::object::dependencies_first;
use super::store_path::{StoreDir, StorePath};
use crate::emergence::base::bounded::{open_file, read_at_most};
use crate::emergence::base::limits::Limits;
use crate::emergence::base::refusal::{Code, Fault, Result, Within};

/// A binary cache. Its contents are only claims.
#[derive(Debug)]
pub struct Cache {
    directory: PathBuf,
    dir: StoreDir,
    limits: Limits,
}

impl Cache {
    /// Opens the cache in `directory`. Refused with `cache.info` if it is not a cache, or its store
    /// directory is not `dir`.
    pub fn open(directory: &Path, dir: &StoreDir, limits: &Limits) -> Result<Self> {
        let info = directory.join("nix-cache-info");
        let subject = || info.display().to_string();
        let file = open_file(&info)?.ok_or_else(|| {
            Fault::refused(Code::CacheInfo, subject(), "is missing; this is not a binary cache")
        })?;
        let text = read_at_most(file, &subject(), limits.document)?;
        let text = String::from_utf8(text)
            .map_err(|_| Fault::refused(Code::CacheInfo, subject(), "is not UTF-8"))?;
        let stores: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("StoreDir:")).map(str::trim).collect();
        match stores.iter().find(|store| **store != dir.as_str()).or(stores.first()).copied() {
            Some(store) if store == dir.as_str() => {
                Ok(Self { directory: directory.to_owned(), dir: dir.clone(), limits: *limits })
            }
            Some(store) => Err(Fault::differs(
                Code::CacheInfo,
                subject(),
                "its StoreDir",
                dir.as_str(),
                &store.escape_debug().to_string(),
            )),
            None => Err(Fault::refused(Code::CacheInfo, subject(), "has no line StoreDir")),
        }
    }

    /// The narinfo of the object with these digits; `None` if the cache does not have it.
    pub fn info(&self, digits: &str) -> Result<Option<NarInfo>> {
        let path = self.directory.join(format!("{digits}.narinfo"));
        let subject = path.display().to_string();
        let Some(file) = open_file(&path)? else { return Ok(None) };
        let info = NarInfo::parse(&read_at_most(file, &subject, self.limits.narinfo)?, &self.dir)
            .within(|| subject.clone())?;
        if info.object.path.digits() != digits {
            let words = format!("is about another object, {}", info.object.path);
            return Err(Fault::refused(Code::CacheNarinfo, subject, words));
        }
        Ok(Some(info))
    }

    /// The closure of the object with these digits, dependencies first. Objects that are
    /// `elsewhere` may be missing.
    ///
    /// Refused: the object itself is missing (`cache.missing`), or one of the others
    /// (`closure.incomplete`); too many objects (`limit.entries`).
    pub fn closure(
        &self,
        digits: &str,
        elsewhere: &dyn Fn(&StorePath) -> Result<bool>,
    ) -> Result<Vec<NarInfo>> {
        let most = self.limits.objects;
        let root = self.info(digits)?.ok_or_else(|| {
            let subject = self.directory.join(format!("{digits}.narinfo")).display().to_string();
            Fault::refused(Code::CacheMissing, subject, "is not in the cache")
        })?;
        let mut found = BTreeMap::from([(root.object.path.clone(), root.clone())]);
        let mut left = vec![root];
        while let Some(from) = left.pop() {
            for path in &from.object.references {
                if found.contains_key(path) {
                    continue;
                }
                let info = match self.info(&path.digits())?.filter(|info| info.object.path == *path) {
                    Some(info) => info,
                    None if elsewhere(path)? => continue,
                    None => {
                        let words = format!("is not in the cache, but {} refers to it", from.object.path);
                        return Err(Fault::refused(Code::ClosureIncomplete, self.dir.path(path), words));
                    }
                };
                found.insert(path.clone(), info.clone());
                if found.len() > most {
                    let words = format!("refers to more than {most} objects");
                    return Err(Fault::refused(Code::LimitEntries, digits, words));
                }
                left.push(info);
            }
        }
        Ok(dependencies_first(found, |info| &info.object.references))
    }

    /// The path of a NAR, from its URL in a narinfo.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}
