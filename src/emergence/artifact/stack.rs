//! Images in a store. Layers are stored separately, for overlayfs, so that images share them. If no
//! overlay can be mounted, or a single tree is wanted, all layers of an image are stored as one
//! tree.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::emergence::base::files::{
    check_space, open_directory, overlay_in_private_namespace, overlay_shows, overlay_takes, overlay_works,
    rename_new,
};
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::oci::{Image, Skipped, Tree, Unpacked, Verified};
use crate::emergence::proof::terms::Terms;
use crate::emergence::proof::verify::Bytes;
use crate::emergence::store::Store;
use crate::error::Doing;

/// The suffix of a tree of several layers.
const TREE: &str = ".tree";

/// The form of an image in a store. Both forms are the same for an image with a single layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageForm {
    /// A directory for each layer, with its changes to the layers below: DIR/layers/CHAINID.
    Layers,
    /// One directory for all layers: DIR/layers/CHAINID.tree.
    Tree,
}

impl Image {
    /// Its names in the layers directory of a store, lowest first.
    fn names(&self, form: ImageForm) -> Vec<String> {
        let mut names: Vec<String> = self.chain().iter().map(|id| id.hex()).collect();
        if form == ImageForm::Tree && names.len() > 1 {
            names = names.pop().map(|top| top + TREE).into_iter().collect();
        }
        names
    }

    fn directories(&self, store: &Store, form: ImageForm) -> Vec<PathBuf> {
        self.names(form).iter().map(|name| store.layers().join(name)).collect()
    }

    /// The names of its directories in the store, in each complete form that was made from its
    /// blobs. Refused with `closure.incomplete` if there is none, and with `blob.size`.
    pub fn kept(&self, store: &Store) -> Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for form in self.stored(store) {
            if self.linked(store, form)?.iter().all(|linked| *linked) {
                names.extend(self.names(form));
            }
        }
        if names.is_empty() {
            let subject = format!("image {}", self.digest());
            return Err(Fault::refused(Code::ClosureIncomplete, subject, "is not in the store"));
        }
        self.check_sizes()?;
        Ok(names)
    }

    /// The forms in which the store has the complete image.
    fn stored(&self, store: &Store) -> impl Iterator<Item = ImageForm> {
        [ImageForm::Layers, ImageForm::Tree].into_iter().filter(|form| self.is_whole(store, *form))
    }

    fn is_whole(&self, store: &Store, form: ImageForm) -> bool {
        self.directories(store, form).iter().all(|directory| directory.is_dir())
    }

    /// For each layer, whether its blob is known to decompress to its diffID. The directory of a
    /// layer proves only the diffID, which any manifest can declare for any blob.
    fn linked(&self, store: &Store, form: ImageForm) -> Result<Vec<bool>> {
        let names = self.names(form);
        let records: Vec<_> = names.iter().map(|name| store.layer_blobs(name)).collect::<Result<_>>()?;
        let record = |at: usize| records.get(if records.len() == 1 { 0 } else { at });
        let linked = |at: usize| {
            let link = self.blob_link(at);
            link.is_none_or(|link| record(at).is_some_and(|blobs| blobs.contains(&link)))
        };
        Ok((0..self.layer_count()).map(linked).collect())
    }

    /// A complete form that this process can use.
    fn usable(&self, store: &Store) -> Option<ImageForm> {
        self.stored(store).find(|form| *form == ImageForm::Tree || self.can_be_stacked(store))
    }

    /// Whether this process could mount an overlay of its layers, if they existed.
    fn can_be_stacked(&self, store: &Store) -> bool {
        let names = self.names(ImageForm::Layers);
        let longest = names.iter().map(String::len).max().unwrap_or(0);
        names.len() < 2 || overlay_takes(&store.layers(), longest, names.len()) && overlay_shows()
    }

    /// The form that the image has in the store, or the best one to create. The layered form is
    /// used only if this process can mount the overlay.
    pub fn best_form(&self, store: &Store) -> Result<ImageForm> {
        if let Some(form) = self.usable(store) {
            return Ok(form);
        }
        if self.layer_count() < 2 {
            return Ok(ImageForm::Layers);
        }
        let may = rustix::process::geteuid().is_root() && self.can_be_stacked(store);
        if may && store.staged(overlay_works)? { Ok(ImageForm::Layers) } else { Ok(ImageForm::Tree) }
    }

    /// The directories of an image that the store has completely, in this form, or in any if
    /// `None`. Its content was proved at the import of the same blobs, so only their sizes are
    /// compared. `None`: the store lacks a part, or does not know a blob. Refused with `trust.*` and
    /// `blob.size`, as by [`Image::verify`].
    pub fn recall(
        &self,
        terms: &Terms,
        store: &Store,
        form: Option<ImageForm>,
    ) -> Result<Option<Vec<PathBuf>>> {
        self.trusted(terms)?;
        let found = match form {
            Some(form) => self.is_whole(store, form).then_some(form),
            None => self.usable(store),
        };
        let Some(form) = found else { return Ok(None) };
        if self.linked(store, form)?.contains(&false) {
            return Ok(None);
        }
        self.check_sizes()?;
        Ok(Some(self.directories(store, form)))
    }

    /// Returns a function that says for a layer whether the store has its directory in this form,
    /// made from the same blob.
    fn has(&self, store: &Store, form: ImageForm) -> Result<impl Fn(usize) -> bool + Sync + use<>> {
        let present: Vec<bool> =
            self.directories(store, form).iter().map(|directory| directory.is_dir()).collect();
        let linked = self.linked(store, form)?;
        Ok(move |layer| {
            let is_there = present.get(if form == ImageForm::Tree { 0 } else { layer }) == Some(&true);
            is_there && linked.get(layer) != Some(&false)
        })
    }

    /// Digests of the blobs that an import would read, the configuration first. Empty if the store
    /// has the complete image.
    pub fn needed(&self, store: Option<&Store>) -> Result<Vec<String>> {
        // If the store is not writable, list the blobs for an import elsewhere.
        let form = |store: &Store| self.best_form(store).unwrap_or(ImageForm::Tree);
        let has = store.map(|store| self.has(store, form(store))).transpose()?;
        let has = |layer| has.as_ref().is_some_and(|has| has(layer));
        if (0..self.layer_count().max(1)).all(has) {
            return Ok(Vec::new());
        }
        // Index 0 is the configuration.
        let lacking = |at: usize| at.checked_sub(1).is_none_or(|layer| !has(layer));
        let blobs = self.blobs().enumerate().filter(|(at, _)| lacking(*at));
        Ok(blobs.map(|(_, blob)| blob.digest.to_string()).collect())
    }

    /// Proves all parts that the store does not have in this form, as [`Image::verify`] does. Blobs
    /// that it knows to have the content of its layers may be missing, but must have their digests.
    /// With `strict` all blobs are read.
    pub fn verify_for(self, terms: &Terms, strict: bool, store: &Store, form: ImageForm) -> Result<Verified> {
        let has = self.has(store, form)?;
        self.proved(terms, strict, &|layer| !strict && has(layer))
    }
}

impl Verified {
    /// Adds the missing directories of the image in this form to the store; existing ones are
    /// reused. They are renamed to their final paths after all of them are complete.
    ///
    /// Refused as [`Verified::unpack`] is.
    pub fn unpack_into(&self, terms: &Terms, store: &Store, form: ImageForm) -> Result<Unpacked> {
        check_space(&store.layers(), self.size)?;
        let directories = self.image().directories(store, form);
        let mut unpacked = Unpacked::default();
        if directories.iter().all(|directory| directory.is_dir()) {
            self.note_blobs(store, form)?;
            return Ok(Unpacked { reused: directories.len(), directories, ..unpacked });
        }
        store.staged(|staging| {
            let mut made = Vec::new();
            for (at, directory) in directories.iter().enumerate() {
                let is_there = directory.is_dir();
                unpacked.reused += usize::from(is_there);
                made.push(if is_there {
                    directory.clone()
                } else {
                    self.build_directory(terms, form, &made, &staging.join(at.to_string()), &mut unpacked)?
                });
            }
            store.settle(staging)?;
            for (new, directory) in made.iter().zip(&directories).filter(|(new, directory)| new != directory)
            {
                match rename_new(new, directory) {
                    // Another process was faster.
                    Err(Errno::EXIST | Errno::NOTEMPTY) => unpacked.reused += 1,
                    named => named.doing(|| format!("rename to {}", directory.display()))?,
                }
            }
            Ok(())
        })?;
        self.note_blobs(store, form)?;
        Ok(Unpacked { directories, ..unpacked })
    }

    /// Records the blobs that were decompressed, for each directory that has their content.
    fn note_blobs(&self, store: &Store, form: ImageForm) -> Result<()> {
        let image = self.image();
        let names = image.names(form);
        for (index, name) in names.iter().enumerate() {
            let of_it = |at: &usize| names.len() == 1 || *at == index;
            let layers = (0..image.layer_count()).filter(of_it).filter(|at| self.is_decompressed(*at));
            store.note_layer_blobs(name, layers.filter_map(|at| image.blob_link(at)))?;
        }
        Ok(())
    }

    /// Creates one directory, a layer above those in `below`, in the new directory `staging`, and
    /// returns its path. That path is shorter than the final one, which [`overlay_takes`] was asked
    /// about.
    fn build_directory(
        &self,
        terms: &Terms,
        form: ImageForm,
        below: &[PathBuf],
        staging: &Path,
        unpacked: &mut Unpacked,
    ) -> Result<PathBuf> {
        fs::create_dir(staging).doing(|| format!("create {}", staging.display()))?;
        let new = staging.join("new");
        let (bytes, skipped) = if form == ImageForm::Tree && self.image().layer_count() > 1 {
            self.make(terms, &new)?
        } else {
            self.layer(terms, &new, below, staging)?
        };
        unpacked.bytes.read += bytes.read;
        unpacked.bytes.unpacked += bytes.unpacked;
        unpacked.skipped.add(skipped);
        Ok(new)
    }

    /// Unpacks the changes of the layer above those in `below` into `new`.
    fn layer(
        &self,
        terms: &Terms,
        new: &Path,
        below: &[PathBuf],
        staging: &Path,
    ) -> Result<(Bytes, Skipped)> {
        let at = below.len();
        self.expect(terms, new, at..at + 1)?;
        let mut tree = match below.last() {
            None => Tree::new(open_directory(new)?)?,
            Some(top) => {
                Tree::over(overlay_in_private_namespace(below, new, staging)?, &open_directory(top)?)?
            }
        };
        let mut bytes = Bytes::default();
        if at < self.image().layer_count() {
            self.apply(terms, at, &mut tree, &mut bytes)?;
        }
        Ok((bytes, tree.finish()?))
    }
}
