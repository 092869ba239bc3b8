//! A closure in a folder that is no store: the same trees, below the same path.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::add::{check_space, close};
use super::staging::{Staging, open_folder};
use super::tree::{Maker, needs_chmod};
use crate::emergence::closure::{Closure, Receive, Report};
use crate::emergence::nar::Visitor;
use crate::emergence::object::Object;
use crate::emergence::refusal::Result;
use crate::emergence::store_path::StorePath;
use crate::emergence::terms::Terms;
use crate::emergence::verify::Bytes;
use crate::error::{Doing, Error, Kind};

/// Puts what was verified a moment ago into the new folder `to`, each object at its store path below. After an error nothing is there.
pub fn unpack_apart(closure: &dyn Closure, terms: &Terms, report: &Report, to: &Path) -> Result<Bytes> {
    let exists = || Error::new(Kind::Exists, format!("{}: is there already", to.display()));
    if to.symlink_metadata().is_ok() {
        return Err(exists().into());
    }
    let above = to.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    check_space(above, report.objects.iter().map(|(object, _)| object))?;
    let wanted: BTreeSet<&StorePath> = report.objects.iter().map(|(object, _)| &object.path).collect();
    Staging::with(above, |staging| {
        let new = staging.path().join("new");
        let trees = new.join(terms.dir.as_str().trim_start_matches('/'));
        fs::create_dir_all(&trees).doing(|| format!("make {}", trees.display()))?;
        let apart = Apart { trees: open_folder(&trees)?, chmod: needs_chmod() };
        let bytes = closure.unpack(terms, &|path| wanted.contains(path), &apart)?;
        for path in &wanted {
            let tree = trees.join(path.to_string());
            if tree.symlink_metadata().doing(|| format!("look at {}", tree.display()))?.is_dir() {
                close(&tree)?;
            }
        }
        match renameat_with(CWD, &new, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(bytes),
            Err(Errno::EXIST) => Err(exists().into()),
            Err(error) => Err(Error::from(error).within(format!("rename to {}", to.display())).into()),
        }
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
        feed(&mut Maker::new(self.trees.as_fd(), name, None, self.chmod))
    }
}
