//! Images in a store: layer over layer, as overlayfs takes them, so that images share what they have in common. Where no overlay can be
//! mounted, and for who wants one tree, all layers of an image are in one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::emergence::base::files::{
    check_space, open_folder, overlay_apart, overlay_shows, overlay_takes, overlay_works, rename_new,
};
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::oci::{Image, Skipped, Tree, Unpacked, Verified};
use crate::emergence::proof::terms::Terms;
use crate::emergence::proof::verify::Bytes;
use crate::emergence::store::Store;
use crate::error::Doing;

/// What the name of a tree of several layers ends with.
const TREE: &str = ".tree";

/// How an image lies in a store. One with a single layer lies there the same way in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageForm {
    /// A folder for each layer, in which is what it changes of those below: DIR/layers/CHAINID.
    Layers,
    /// One for all of them: DIR/layers/CHAINID.tree.
    Tree,
}

impl Image {
    /// The names that it has in a store's folder of layers, the lowest first.
    fn names(&self, form: ImageForm) -> Vec<String> {
        let mut names: Vec<String> = self.chain().iter().map(|id| id.hex()).collect();
        if form == ImageForm::Tree && names.len() > 1 {
            names = names.pop().map(|top| top + TREE).into_iter().collect();
        }
        names
    }

    fn folders(&self, store: &Store, form: ImageForm) -> Vec<PathBuf> {
        self.names(form).iter().map(|name| store.layers().join(name)).collect()
    }

    /// The names of its folders in the store, in each form in which all of it is there. Refused with `closure.incomplete` when there is
    /// none.
    pub fn kept(&self, store: &Store) -> Result<BTreeSet<String>> {
        let names: BTreeSet<String> = self.stored(store).flat_map(|form| self.names(form)).collect();
        if names.is_empty() {
            let subject = format!("image {}", self.digest());
            return Err(Fault::refused(Code::ClosureIncomplete, subject, "is not in the store"));
        }
        Ok(names)
    }

    /// The forms in which all of it is in the store.
    fn stored(&self, store: &Store) -> impl Iterator<Item = ImageForm> {
        [ImageForm::Layers, ImageForm::Tree].into_iter().filter(|form| self.is_whole(store, *form))
    }

    fn is_whole(&self, store: &Store, form: ImageForm) -> bool {
        self.folders(store, form).iter().all(|folder| folder.is_dir())
    }

    /// The form in which all of it is in the store, and this process can use it.
    fn usable(&self, store: &Store) -> Option<ImageForm> {
        self.stored(store).find(|form| *form == ImageForm::Tree || self.can_be_stacked(store))
    }

    /// Whether this process could mount an overlay over its layers, if they were there.
    fn can_be_stacked(&self, store: &Store) -> bool {
        let names = self.names(ImageForm::Layers);
        let longest = names.iter().map(String::len).max().unwrap_or(0);
        names.len() < 2 || overlay_takes(&store.layers(), longest, names.len()) && overlay_shows()
    }

    /// The form that it has in the store, or is best given there. Layers over which this process could mount no overlay are no form for it.
    pub fn best_form(&self, store: &Store) -> Result<ImageForm> {
        if let Some(form) = self.usable(store) {
            return Ok(form);
        }
        if self.layer_count() < 2 {
            return Ok(ImageForm::Layers);
        }
        let may = rustix::process::geteuid().is_root() && self.can_be_stacked(store);
        match may && store.staged(overlay_works)? {
            true => Ok(ImageForm::Layers),
            false => Ok(ImageForm::Tree),
        }
    }

    /// Where the store has all of it in this form, or in any: what is there was proved when it came, and no blob is looked at. `None`: it
    /// lacks something. Refused with `trust.*`, as by [`Image::verify`].
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
        Ok(found.map(|form| self.folders(store, form)))
    }

    /// Tells of each layer whether the store has what is made of it in this form.
    fn has(&self, store: &Store, form: ImageForm) -> impl Fn(usize) -> bool + Sync + use<> {
        let there: Vec<bool> = self.folders(store, form).iter().map(|folder| folder.is_dir()).collect();
        move |layer| there.get(if form == ImageForm::Tree { 0 } else { layer }) == Some(&true)
    }

    /// Digests of the blobs from which the store would have to make something, and of the configuration if it would.
    pub fn needed(&self, store: Option<&Store>) -> Vec<String> {
        // Where nothing can be written, all is needed to make it elsewhere.
        let form = |store: &Store| self.best_form(store).unwrap_or(ImageForm::Tree);
        let has = store.map(|store| self.has(store, form(store)));
        let has = |layer| has.as_ref().is_some_and(|has| has(layer));
        if (0..self.layer_count().max(1)).all(has) {
            return Vec::new();
        }
        // The configuration comes first.
        let lacking = |at: usize| at.checked_sub(1).is_none_or(|layer| !has(layer));
        let blobs = self.blobs().enumerate().filter(|(at, _)| lacking(*at));
        blobs.map(|(_, blob)| blob.digest.to_string()).collect()
    }

    /// Proves all that the store does not have in this form, as [`Image::verify`] does. Blobs of layers that it has must have their digests
    /// when they are there. `strict` reads all of them.
    pub fn verify_for(self, terms: &Terms, strict: bool, store: &Store, form: ImageForm) -> Result<Verified> {
        let has = self.has(store, form);
        self.proved(terms, strict, &|layer| !strict && has(layer))
    }
}

impl Verified {
    /// Makes in the store what it lacks of the image in this form; what is there is taken as it is. No folder has its name before all are
    /// whole.
    ///
    /// Refused as [`Verified::unpack`] is.
    pub fn unpack_into(&self, terms: &Terms, store: &Store, form: ImageForm) -> Result<Unpacked> {
        check_space(&store.layers(), self.size)?;
        let folders = self.image().folders(store, form);
        let mut unpacked = Unpacked::default();
        if folders.iter().all(|folder| folder.is_dir()) {
            return Ok(Unpacked { reused: folders.len(), folders, ..unpacked });
        }
        store.staged(|staging| {
            let mut made = Vec::new();
            for (at, folder) in folders.iter().enumerate() {
                let is_there = folder.is_dir();
                unpacked.reused += usize::from(is_there);
                made.push(match is_there {
                    true => folder.clone(),
                    false => self.one(terms, form, &made, &staging.join(at.to_string()), &mut unpacked)?,
                });
            }
            store.settle(staging)?;
            for (new, folder) in made.iter().zip(&folders).filter(|(new, folder)| new != folder) {
                match rename_new(new, folder) {
                    // Somebody else was faster.
                    Err(Errno::EXIST | Errno::NOTEMPTY) => unpacked.reused += 1,
                    named => named.doing(|| format!("rename to {}", folder.display()))?,
                }
            }
            Ok(())
        })?;
        Ok(Unpacked { folders, ..unpacked })
    }

    /// Makes one of the folders, which lies over those in `below`, somewhere in the new folder `staging`: where it is. Its path there is
    /// shorter than the one that it gets, by which [`overlay_takes`] was asked.
    fn one(
        &self,
        terms: &Terms,
        form: ImageForm,
        below: &[PathBuf],
        staging: &Path,
        unpacked: &mut Unpacked,
    ) -> Result<PathBuf> {
        fs::create_dir(staging).doing(|| format!("make {}", staging.display()))?;
        let new = staging.join("new");
        let (bytes, skipped) = match form == ImageForm::Tree && self.image().layer_count() > 1 {
            true => self.make(terms, &new)?,
            false => self.layer(terms, &new, below, staging)?,
        };
        unpacked.bytes.read += bytes.read;
        unpacked.bytes.unpacked += bytes.unpacked;
        unpacked.skipped.add(skipped);
        Ok(new)
    }

    /// Makes at `new` what the layer changes that comes over those in `below`.
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
            None => Tree::lowest(open_folder(new)?)?,
            Some(top) => Tree::over(overlay_apart(below, new, staging)?, &open_folder(top)?)?,
        };
        let mut bytes = Bytes::default();
        if at < self.image().layer_count() {
            self.apply(terms, at, &mut tree, &mut bytes)?;
        }
        Ok((bytes, tree.finish()?))
    }
}
