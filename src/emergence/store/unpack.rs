//! Unpacks a closure into a directory that is not a store, with the same trees below the same path.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::file_creation::Ways;
use super::tree::{Maker, needs_chmod};
use crate::emergence::base::files::{check_space, made_whole, open_directory};
use crate::emergence::base::refusal::Result;
use crate::emergence::nix::nar::Visitor;
use crate::emergence::nix::object::{Object, bytes_of};
use crate::emergence::nix::store_path::StorePath;
use crate::emergence::proof::closure::{Closure, Receive, Report, complete_with};
use crate::emergence::proof::terms::Terms;
use crate::emergence::proof::verify::Bytes;
use crate::error::Doing;

/// Unpacks the verified closure into the new directory `to`, each object at its store path below
/// it. Refused as by [`made_whole`].
pub fn unpack_to_new_directory(
    closure: &dyn Closure,
    terms: &Terms,
    report: &Report,
    to: &Path,
) -> Result<Bytes> {
    let objects = report.objects.iter().map(|(object, _)| object);
    complete_with(objects.clone(), &terms.dir, &|_| Ok(false))?;
    let wanted: BTreeSet<&StorePath> = report.objects.iter().map(|(object, _)| &object.path).collect();
    made_whole(to, |new| {
        let trees = new.join(terms.dir.as_str().trim_start_matches('/'));
        fs::create_dir_all(&trees).doing(|| format!("create {}", trees.display()))?;
        check_space(new, bytes_of(objects))?;
        let apart = Apart { trees: open_directory(&trees)?, chmod: needs_chmod() };
        closure.unpack(terms, &|path| wanted.contains(path), &apart)
    })
}

struct Apart {
    trees: OwnedFd,
    chmod: bool,
}

impl Receive for Apart {
    fn object(
        &self,
        object: &Object,
        feed: &mut dyn FnMut(&mut dyn Visitor) -> Result<Bytes>,
    ) -> Result<Bytes> {
        let name = CString::new(object.path.to_string()).unwrap_or_default();
        let ways = Ways { links: None, chmod: self.chmod };
        feed(&mut Maker::new(self.trees.as_fd(), name, ways, None))
    }
}
