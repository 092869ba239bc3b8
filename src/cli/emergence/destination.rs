//! The store of the command line: its place, and how it is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::asked::Asked;
use crate::emergence::{Destination, Fault, Holdings, Result, Store};

/// Where objects are kept, unless the command line says otherwise.
pub(super) fn store_folder(asked: &Asked) -> Result<PathBuf> {
    if let Some(folder) = &asked.store {
        return Ok(folder.clone());
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/emergence".into());
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
    let data = data.ok_or_else(|| Fault::usage("there is no home folder; give a --store"))?;
    Ok(data.join("emergence"))
}

/// The options for artifacts that go to the store: objects that it has are not read again, and it must have space for the others.
pub(super) fn for_store(asked: &Asked) -> Result<Asked> {
    let place = store_folder(asked)?;
    let store = existing_store(asked)?;
    Ok(going_to(asked, &place, store))
}

/// The options for artifacts that are written below `place`, which need not exist yet.
pub(super) fn going_to(asked: &Asked, place: &Path, store: Option<Arc<Store>>) -> Asked {
    let there = place.ancestors().find(|above| above.exists()).unwrap_or(Path::new("."));
    let mut asked = asked.clone();
    let holdings = store.clone().map(|store| store as Arc<dyn Holdings>);
    asked.terms.destination = Some(Destination { folder: there.to_owned(), holdings });
    asked.target = store;
    asked
}

/// The store, which is there already. `Kind::NotFound` otherwise.
pub(super) fn open_store(asked: &Asked) -> Result<Arc<Store>> {
    let store = Store::existing(&store_folder(asked)?, asked.dir(), asked.lock_timeout)?;
    Ok(Arc::new(store.with_sync(asked.sync)))
}

/// The store, which is made when it is not there.
pub(super) fn make_store(asked: &Asked) -> Result<Arc<Store>> {
    if let Some(store) = &asked.target {
        return Ok(Arc::clone(store));
    }
    let store = Store::open(&store_folder(asked)?, asked.dir(), asked.lock_timeout)?;
    Ok(Arc::new(store.with_sync(asked.sync)))
}

/// The store, if there is one.
pub(super) fn existing_store(asked: &Asked) -> Result<Option<Arc<Store>>> {
    store_folder(asked)?.join("version").exists().then(|| open_store(asked)).transpose()
}
