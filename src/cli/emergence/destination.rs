//! The store of the command line: its place, and opening it.

use std::path::PathBuf;
use std::sync::Arc;

use super::common::CommonOptions;
use crate::emergence::{Fault, Result, Store, StoreLocation, StoreTarget};

/// The directory of the store, by default or as given.
pub(super) fn store_directory(options: &CommonOptions) -> Result<PathBuf> {
    if let Some(directory) = &options.store {
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
fn place(options: &CommonOptions) -> Result<StoreLocation> {
    let (directory, dir) = (store_directory(options)?, options.dir().clone());
    Ok(StoreLocation { directory, dir, wait: options.lock_timeout, sync: options.sync })
}

/// The store that verified artifacts go to, which need not exist yet, and the options for them.
pub(super) fn target(options: &CommonOptions) -> Result<(StoreTarget, CommonOptions)> {
    let target = StoreTarget::open(place(options)?)?;
    let terms = target.terms(&options.terms);
    Ok((target, options.with_terms(terms)))
}

/// Opens the existing store. `Kind::NotFound` if there is none.
pub(super) fn open_store(options: &CommonOptions) -> Result<Arc<Store>> {
    place(options)?.open()
}

/// Opens the store, if there is one.
pub(super) fn existing_store(options: &CommonOptions) -> Result<Option<Arc<Store>>> {
    place(options)?.open_if_exists()
}
