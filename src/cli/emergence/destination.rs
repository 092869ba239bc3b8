//! The store of the command line: its place, and opening it.

use std::path::PathBuf;
use std::sync::Arc;

use super::common::CommonOptions;
use crate::emergence::{Fault, Result, Store, StoreLocation, StoreTarget};

/// The directory of the store, by default or as given.
pub(super) fn store_directory(asked: &CommonOptions) -> Result<PathBuf> {
    if let Some(directory) = &asked.store {
        return Ok(directory.clone());
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/emergence".into());
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
    let data = data.ok_or_else(|| Fault::usage("no home directory; give a --store"))?;
    Ok(data.join("emergence"))
}

/// The store of the command line.
fn place(asked: &CommonOptions) -> Result<StoreLocation> {
    let (directory, dir) = (store_directory(asked)?, asked.dir().clone());
    Ok(StoreLocation { directory, dir, wait: asked.lock_timeout, sync: asked.sync })
}

/// The store that verified artifacts go to, which need not exist yet, and the options for them.
pub(super) fn target(asked: &CommonOptions) -> Result<(StoreTarget, CommonOptions)> {
    let target = StoreTarget::open(place(asked)?)?;
    let terms = target.terms(&asked.terms);
    Ok((target, asked.with_terms(terms)))
}

/// Opens the existing store. `Kind::NotFound` if there is none.
pub(super) fn open_store(asked: &CommonOptions) -> Result<Arc<Store>> {
    place(asked)?.open()
}

/// Opens the store, if there is one.
pub(super) fn existing_store(asked: &CommonOptions) -> Result<Option<Arc<Store>>> {
    place(asked)?.open_if_exists()
}
