//! Plain images: verified as a whole, and then unpacked by a second reading, into a folder or as
//! `stack` keeps them.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::apply::{Skipped, Tree};
use super::blobs::subject;
use super::check::{Check, Removals, Totals};
use super::documents::{Descriptor, ImageConfig, Manifest, media};
use super::layer::{Layer, LayerBytes, Pass, layer_compression};
use super::layout::{Layout, Resolved};
use crate::emergence::base::compress::Compression;
use crate::emergence::base::files::{check_space, made_whole, open_folder};
use crate::emergence::base::hash::Hash;
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::base::{json, work};
use crate::emergence::proof::closure::{Kind, LayerReport, Report};
use crate::emergence::proof::terms::Terms;
use crate::emergence::proof::trust::Demand;
use crate::emergence::proof::verify::Bytes;
use crate::error::{Doing, Error};

/// An image whose documents were read and held against their digests. Its layers are only declared.
#[derive(Debug)]
pub struct Image {
    layout: Layout,
    resolved: Resolved,
    config: ImageConfig,
    layers: Vec<Layer>,
}

/// An image of which all was proved.
pub struct Verified {
    image: Image,
    /// What was found.
    pub report: Report,
    /// What each layer takes away from those below it; nothing is known of one that was only
    /// recognised.
    removals: Vec<Option<Removals>>,
    /// Bytes of the files of all layers that were not only recognised.
    pub(crate) size: u64,
}

/// What was unpacked.
#[derive(Clone, Debug, Default)]
pub struct Unpacked {
    /// Where it is: the folders of its layers, the lowest first, or that of all in one tree.
    pub folders: Vec<PathBuf>,
    /// How many of them were there already.
    pub reused: usize,
    /// What was read again.
    pub bytes: Bytes,
    /// What could not be made.
    pub skipped: Skipped,
}

impl Image {
    /// The image that was found in `layout`.
    ///
    /// Refused: its configuration or a layer is of another type (`oci.media-type`), configuration
    /// and manifest do not agree how many layers there are (`oci.diff-id`), there are too many
    /// (`limit.entries`), and as by [`super::Blobs::document`].
    pub fn open(layout: Layout, resolved: Resolved, terms: &Terms) -> Result<Self> {
        let manifest = &resolved.manifest;
        let declared = &manifest.config;
        let name = subject(&declared.digest);
        if ![media::CONFIG, media::DOCKER_CONFIG].contains(&declared.media_type.as_str()) {
            let words = format!(
                "is of type {}, which is no configuration of an image",
                declared.media_type.escape_debug()
            );
            return Err(Fault::refused(Code::OciMediaType, name, words));
        }
        let config: ImageConfig = json::read(&layout.blobs.document(declared)?, &name)?;
        if config.rootfs.kind != "layers" {
            let kind = config.rootfs.kind.escape_debug().to_string();
            return Err(Fault::differs(Code::OciMediaType, name, "rootfs.type", "layers", &kind));
        }
        let (layers, diff_ids) = (&manifest.layers, &config.rootfs.diff_ids);
        if layers.len() > terms.limits.layers {
            let words = format!("has more than {} layers", terms.limits.layers);
            return Err(Fault::refused(Code::LimitEntries, subject(&resolved.descriptor.digest), words));
        }
        if layers.len() != diff_ids.len() {
            let (declared, found) = (layers.len().to_string(), diff_ids.len().to_string());
            let what = "the number of diffIDs, one for each layer of the manifest,";
            return Err(Fault::differs(Code::OciDiffId, name, what, &declared, &found));
        }
        let layers = layers.iter().zip(diff_ids).map(|(descriptor, diff_id)| layer(descriptor, *diff_id));
        let layers = layers.collect::<Result<_>>()?;
        Ok(Self { layout, resolved, config, layers })
    }

    /// Of the manifest.
    pub fn digest(&self) -> Hash {
        self.resolved.descriptor.digest
    }

    /// What it is made of.
    pub fn manifest(&self) -> &Manifest {
        &self.resolved.manifest
    }

    /// How it is started.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// Its blobs besides the manifest: the configuration and the layers.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.resolved.manifest.config).chain(&self.resolved.manifest.layers)
    }

    /// Its layers as manifest and configuration declare them, the lowest first.
    pub fn layers(&self) -> Vec<LayerReport> {
        self.layers.iter().map(report).collect()
    }

    pub(crate) fn layer_count(&self) -> usize {
        self.layers.len()
    }

    /// Of each layer together with all below it, the lowest first, as the image specification
    /// computes them; of no layers, the hash of nothing.
    pub(crate) fn chain(&self) -> Vec<Hash> {
        let mut ids = self.layers.iter().map(|layer| layer.diff_id);
        let mut top = ids.next().unwrap_or_else(|| Hash::sha256(b""));
        let mut chain = vec![top];
        for next in ids {
            top = Hash::sha256(format!("{top} {next}").as_bytes());
            chain.push(top);
        }
        chain
    }

    /// Of all layers together.
    pub fn chain_id(&self) -> Hash {
        self.chain().pop().unwrap_or_else(|| Hash::sha256(b""))
    }

    /// What is trusted of it: whether the caller named its digest. Refused with `trust.expect`, and
    /// with `trust.unproved` where a signature is demanded: plain images have none.
    pub(crate) fn trusted(&self, terms: &Terms) -> Result<bool> {
        let name = self.layout.blobs.name();
        let pinned = terms.trust.pinned(&name, &self.digest())? || self.resolved.pinned;
        match terms.trust.demand {
            Demand::Signed => {
                Err(Fault::refused(Code::TrustUnproved, name, "a plain image carries no signature"))
            }
            _ => Ok(pinned),
        }
    }

    /// Proves everything: documents, then layers side by side. Writes nothing. `strict`: refuses a
    /// layer with a path twice in it (`layer.duplicate`).
    ///
    /// Refused as by [`super::Blobs::open`], and with codes `blob.*`, `layer.*`, `limit.*`,
    /// `oci.diff-id` and `trust.*`.
    pub fn verify(self, terms: &Terms, strict: bool) -> Result<Verified> {
        self.proved(terms, strict, &|_| false)
    }

    /// The same, but `known` layers are not decompressed: a blob that is there must have its
    /// digest.
    pub(crate) fn proved(
        self,
        terms: &Terms,
        strict: bool,
        known: &(dyn Fn(usize) -> bool + Sync),
    ) -> Result<Verified> {
        let pinned = self.trusted(terms)?;
        let new = || self.layers.iter().enumerate().filter(|(at, _)| !known(*at)).map(|(_, layer)| layer);
        // What is missing is told before anything is read.
        for layer in new() {
            self.layout.blobs.open(&layer.descriptor)?;
        }
        // What comes out is hardly less than what goes in; how much more it is only reading tells.
        if let Some(destination) = &terms.destination {
            let largest = new().map(|layer| layer.descriptor.size).max();
            check_space(&destination.folder, largest.unwrap_or(0))?;
        }
        terms.watch.expect("verify", self.layers.iter().map(|layer| layer.descriptor.size).sum());
        let totals = Totals::default();
        let checked: Mutex<BTreeMap<usize, (LayerBytes, Option<Removals>)>> = Mutex::default();
        work::each(terms.jobs, self.layers.len(), |at| {
            let Some(layer) = self.layers.get(at) else { return Ok(()) };
            let one = match known(at) {
                true => (layer.recognise(&self.layout.blobs, terms)?, None),
                false => {
                    let mut check = Check::new(&totals, terms.limits.entries, terms.limits.size, strict);
                    let bytes = layer.read(&self.layout.blobs, terms, Pass::Verify, &mut check)?;
                    (bytes, Some(check.finish()))
                }
            };
            checked.lock().unwrap_or_else(PoisonError::into_inner).insert(at, one);
            Ok(())
        })?;
        let checked = checked.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (bytes, removals): (Vec<LayerBytes>, Vec<Option<Removals>>) = checked.into_values().unzip();
        let documents = self.resolved.descriptor.size + self.resolved.manifest.config.size;
        let report = Report {
            kind: Kind::OciImage,
            digest: self.digest(),
            digests: None,
            pinned,
            objects: Vec::new(),
            layers: self.layers(),
            bytes: Bytes {
                read: documents + bytes.iter().map(|layer| layer.read).sum::<u64>(),
                unpacked: bytes.iter().map(|layer| layer.unpacked).sum(),
            },
        };
        Ok(Verified { image: self, report, removals, size: totals.size.into_inner() })
    }
}

impl Verified {
    /// What was proved.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The same, when nothing of it is going to be read again.
    pub fn into_image(self) -> Image {
        self.image
    }

    /// Makes the root file system of the image at `to`, where nothing may be yet; it has its name
    /// only when all is made. After an error nothing is there. The stored bytes are hashed again.
    ///
    /// Refused: `changed-while-reading`, `layer.escape` (a hard link to what is not there),
    /// `layer.header`, `space`.
    pub fn unpack(&self, terms: &Terms, to: &Path) -> Result<Unpacked> {
        let (bytes, skipped) = made_whole(to, |new| {
            check_space(new.parent().unwrap_or(to), self.size)?;
            self.make(terms, new)
        })?;
        Ok(Unpacked { folders: vec![to.to_owned()], reused: 0, bytes, skipped })
    }

    /// Makes all layers in one tree, at `new`.
    pub(crate) fn make(&self, terms: &Terms, new: &Path) -> Result<(Bytes, Skipped)> {
        self.expect(terms, new, 0..self.image.layer_count())?;
        let mut tree = Tree::new(open_folder(new)?)?;
        let mut bytes = Bytes::default();
        for at in 0..self.image.layer_count() {
            self.apply(terms, at, &mut tree, &mut bytes)?;
        }
        Ok((bytes, tree.finish()?))
    }

    /// Makes the folder `new`, and tells what will be read.
    pub(crate) fn expect(&self, terms: &Terms, new: &Path, layers: Range<usize>) -> Result<()> {
        let made = fs::DirBuilder::new().mode(0o700).create(new);
        made.doing(|| format!("make {}", new.display()))?;
        let layers = self.image.layers.get(layers).unwrap_or_default();
        terms.watch.expect("unpack", layers.iter().map(|layer| layer.descriptor.size).sum());
        Ok(())
    }

    /// Makes a layer in the tree that shows those below it.
    pub(crate) fn apply(&self, terms: &Terms, at: usize, tree: &mut Tree, bytes: &mut Bytes) -> Result<()> {
        let (Some(layer), Some(Some(removals))) = (self.image.layers.get(at), self.removals.get(at)) else {
            let words = format!("layer {at} was there, and is not any more");
            return Err(Error::new(crate::error::Kind::NotFound, words).into());
        };
        tree.take_away(removals)?;
        let one = layer.read(&self.image.layout.blobs, terms, Pass::Again, tree)?;
        bytes.read += one.read;
        bytes.unpacked += one.unpacked;
        Ok(())
    }
}

fn layer(descriptor: &Descriptor, diff_id: Hash) -> Result<Layer> {
    let compression = layer_compression(&descriptor.media_type).ok_or_else(|| {
        let words = format!("is of type {}, which is no layer", descriptor.media_type.escape_debug());
        Fault::refused(Code::OciMediaType, subject(&descriptor.digest), words)
    })?;
    // With one hash for both, it is stored as it is, whatever its type says: skopeo writes such,
    // and engines look at the bytes.
    let compression = if descriptor.digest == diff_id { Compression::None } else { compression };
    Ok(Layer { descriptor: descriptor.clone(), compression, diff_id })
}

fn report(layer: &Layer) -> LayerReport {
    LayerReport {
        digest: layer.descriptor.digest,
        size: layer.descriptor.size,
        media_type: layer.descriptor.media_type.clone(),
        diff_id: Some(layer.diff_id),
    }
}
