//! The store that verified artifacts go to: opened if it exists, otherwise created once the first
//! artifact is verified.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::{Store, Sync};
use crate::emergence::base::refusal::Result;
use crate::emergence::nix::store_path::StoreDir;
use crate::emergence::proof::terms::{Destination, Holdings, Terms};

/// The place of a store, and how it is opened.
#[derive(Clone, Debug)]
pub struct StoreLocation {
    /// The store's directory.
    pub directory: PathBuf,
    /// The store directory that paths are computed for.
    pub dir: StoreDir,
    /// How long to wait for a lock.
    pub wait: Duration,
    /// Whether imports are flushed to disk before they are committed.
    pub sync: Sync,
}

impl StoreLocation {
    /// Opens the store. `Kind::NotFound` if there is none.
    pub fn open(&self) -> Result<Arc<Store>> {
        Ok(Arc::new(Store::existing(&self.directory, &self.dir, self.wait)?.with_sync(self.sync)))
    }

    /// Opens the store, if there is one.
    pub fn open_if_exists(&self) -> Result<Option<Arc<Store>>> {
        self.directory.join("version").exists().then(|| self.open()).transpose()
    }
}

/// The store at a [`StoreLocation`], which need not exist yet.
pub struct StoreTarget {
    place: StoreLocation,
    store: OnceLock<Arc<Store>>,
}

impl StoreTarget {
    /// Opens the store, if there is one.
    pub fn open(place: StoreLocation) -> Result<Self> {
        let store = place.open_if_exists()?.map(OnceLock::from).unwrap_or_default();
        Ok(Self { place, store })
    }

    /// The place of the store.
    pub fn place(&self) -> &StoreLocation {
        &self.place
    }

    /// The store, if it exists.
    pub fn existing(&self) -> Option<&Arc<Store>> {
        self.store.get()
    }

    /// The store, which is created if it does not exist. Call it only after the first artifact is
    /// verified, so that nothing is created for a refused one.
    pub fn store(&self) -> Result<Arc<Store>> {
        if let Some(store) = self.store.get() {
            return Ok(Arc::clone(store));
        }
        let StoreLocation { directory, dir, wait, sync } = &self.place;
        let store = Arc::new(Store::open(directory, dir, *wait)?.with_sync(*sync));
        Ok(Arc::clone(self.store.get_or_init(|| store)))
    }

    /// The terms for artifacts that go to this store: objects that it has are not read again, and
    /// it must have space for the others.
    pub fn terms(&self, terms: &Terms) -> Terms {
        let holdings = self.existing().map(|store| Arc::clone(store) as Arc<dyn Holdings>);
        going_to(terms, &self.place.directory, holdings)
    }
}

/// The terms for artifacts that are written to `place`, which need not exist yet.
pub fn going_to(terms: &Terms, place: &Path, holdings: Option<Arc<dyn Holdings>>) -> Terms {
    let existing = place.ancestors().find(|above| above.exists()).unwrap_or(Path::new("."));
    Terms { destination: Some(Destination { directory: existing.to_owned(), holdings }), ..terms.clone() }
}
