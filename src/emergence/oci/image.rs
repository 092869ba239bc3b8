//! Plain images: verified as a whole, then unpacked in a second reading, into a directory, or layer
//! by layer for `artifact::stack`.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::apply::{Skipped, Tree};
use super::blobs::subject;
use super::check::{Check, Totals, Whiteouts};
use super::documents::{Descriptor, ImageConfig, Manifest, media};
use super::layer::{Layer, LayerBytes, Pass, layer_compression};
use super::layout::{Layout, Resolved};
use crate::emergence::base::files::{check_space, made_whole, open_directory};
use crate::emergence::base::hash::Hash;
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::base::{json, work};
use crate::emergence::proof::closure::{ArtifactKind, LayerReport, Report};
use crate::emergence::proof::terms::Terms;
use crate::emergence::proof::trust::Demand;
use crate::emergence::proof::verify::Bytes;
use crate::error::{Doing, Error};

/// An image whose documents match their digests. Its layers are unverified.
#[derive(Debug)]
pub struct Image {
    layout: Layout,
    resolved: Resolved,
    config: ImageConfig,
    layers: Vec<Layer>,
}

/// An image that was verified completely.
pub struct Verified {
    image: Image,
    /// The result of the verification.
    pub report: Report,
    /// The whiteouts of each layer; `None` for a layer that was not decompressed.
    removals: Vec<Option<Whiteouts>>,
    /// Size of the files of all layers that were decompressed, in bytes.
    pub(crate) size: u64,
}

/// The result of unpacking.
#[derive(Clone, Debug, Default)]
pub struct Unpacked {
    /// The directories: one for each layer, lowest first, or one for the whole tree.
    pub directories: Vec<PathBuf>,
    /// Number of directories that existed already.
    pub reused: usize,
    /// The bytes read again.
    pub bytes: Bytes,
    /// Parts that could not be created.
    pub skipped: Skipped,
}

impl Image {
    /// Opens the image that was found in `layout`.
    ///
    /// Refused: its configuration or a layer has another type (`oci.media-type`), configuration and
    /// manifest have different numbers of layers (`oci.diff-id`), there are too many
    /// (`limit.entries`), and as by [`super::Blobs::document`].
    pub fn open(layout: Layout, resolved: Resolved, terms: &Terms) -> Result<Self> {
        let manifest = &resolved.manifest;
        let declared = &manifest.config;
        let name = subject(&declared.digest);
        if ![media::CONFIG, media::DOCKER_CONFIG].contains(&declared.media_type.as_str()) {
            let words = format!(
                "is of type {}, which is not an image configuration",
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

    /// Digest of the manifest.
    pub fn digest(&self) -> Hash {
        self.resolved.descriptor.digest
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.resolved.manifest
    }

    /// Its configuration.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// Its blobs except the manifest: the configuration and the layers.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.resolved.manifest.config).chain(&self.resolved.manifest.layers)
    }

    /// Its layers as declared by manifest and configuration, lowest first.
    pub fn layers(&self) -> Vec<LayerReport> {
        self.layers.iter().map(report).collect()
    }

    pub(crate) fn layer_count(&self) -> usize {
        self.layers.len()
    }

    /// The statement that decompressing the blob of a layer gives its diffID, as one line for the
    /// store's records. `None`: blob and tar are the same bytes by their digests.
    pub(crate) fn blob_link(&self, at: usize) -> Option<String> {
        let Layer { descriptor, compression, diff_id } = self.layers.get(at)?;
        let digest = &descriptor.digest;
        (digest != diff_id).then(|| format!("{digest} {} {diff_id}", compression.name()))
    }

    /// Compares the sizes of the layers' blobs with the manifest. Blobs may be missing.
    ///
    /// Refused as by [`super::Blobs::open`].
    pub(crate) fn check_sizes(&self) -> Result<()> {
        for layer in &self.layers {
            match self.layout.blobs.open(&layer.descriptor) {
                Err(fault) if fault.code() == Some(Code::BlobMissing) => {}
                opened => drop(opened?),
            }
        }
        Ok(())
    }

    /// The chain ID of each layer, lowest first, as in the image specification. Without layers, the
    /// hash of the empty string.
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

    /// The chain ID of the whole image.
    pub fn chain_id(&self) -> Hash {
        self.chain().pop().unwrap_or_else(|| Hash::sha256(b""))
    }

    /// Whether the caller gave its digest. Refused with `trust.expect`, and with `trust.unproved`
    /// if signatures are required: plain images have none.
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

    /// Verifies the documents, and the layers in parallel. Writes nothing. `strict`: refuses a
    /// layer with a duplicate path (`layer.duplicate`).
    ///
    /// Refused as by [`super::Blobs::open`], and with codes `blob.*`, `layer.*`, `limit.*`,
    /// `oci.diff-id` and `trust.*`.
    pub fn verify(self, terms: &Terms, strict: bool) -> Result<Verified> {
        self.proved(terms, strict, &|_| false)
    }

    /// As [`Self::verify`], but `known` layers are not decompressed; if their blob exists, its
    /// digest must match.
    pub(crate) fn proved(
        self,
        terms: &Terms,
        strict: bool,
        known: &(dyn Fn(usize) -> bool + Sync),
    ) -> Result<Verified> {
        let pinned = self.trusted(terms)?;
        let new = || self.layers.iter().enumerate().filter(|(at, _)| !known(*at)).map(|(_, layer)| layer);
        // Missing blobs are reported before anything is read.
        for layer in new() {
            self.layout.blobs.open(&layer.descriptor)?;
        }
        // Layers are hardly smaller uncompressed. How much larger they are is known only after
        // reading them.
        if let Some(destination) = &terms.destination {
            let largest = new().map(|layer| layer.descriptor.size).max();
            check_space(&destination.directory, largest.unwrap_or(0))?;
        }
        terms.watch.expect("verify", self.layers.iter().map(|layer| layer.descriptor.size).sum());
        let totals = Totals::default();
        let checked: Mutex<BTreeMap<usize, (LayerBytes, Option<Whiteouts>)>> = Mutex::default();
        work::each(terms.jobs, self.layers.len(), |at| {
            let Some(layer) = self.layers.get(at) else { return Ok(()) };
            let one = if known(at) {
                (layer.recognise(&self.layout.blobs, terms)?, None)
            } else {
                let mut check = Check::new(&totals, terms.limits.entries, terms.limits.size, strict);
                let bytes = layer.read(&self.layout.blobs, terms, Pass::Verify, &mut check)?;
                (bytes, Some(check.finish()))
            };
            checked.lock().unwrap_or_else(PoisonError::into_inner).insert(at, one);
            Ok(())
        })?;
        let checked = checked.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (bytes, removals): (Vec<LayerBytes>, Vec<Option<Whiteouts>>) = checked.into_values().unzip();
        let documents = self.resolved.descriptor.size + self.resolved.manifest.config.size;
        let report = Report {
            kind: ArtifactKind::OciImage,
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
    /// The verified image.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The verified image, which is not going to be read again.
    pub fn into_image(self) -> Image {
        self.image
    }

    /// Whether the blob of a layer was decompressed and has its diffID.
    pub(crate) fn is_decompressed(&self, at: usize) -> bool {
        matches!(self.removals.get(at), Some(Some(_)))
    }

    /// Unpacks the root file system of the image to `to`, which must not exist. It is renamed into
    /// place when complete; after an error nothing is left. The stored bytes are hashed again.
    ///
    /// Refused: `changed-while-reading`, `layer.escape`, `layer.link`,
    /// `layer.header`, `space`.
    pub fn unpack(&self, terms: &Terms, to: &Path) -> Result<Unpacked> {
        let (bytes, skipped) = made_whole(to, |new| {
            check_space(new.parent().unwrap_or(to), self.size)?;
            self.make(terms, new)
        })?;
        Ok(Unpacked { directories: vec![to.to_owned()], reused: 0, bytes, skipped })
    }

    /// Unpacks all layers into one tree, at `new`.
    pub(crate) fn make(&self, terms: &Terms, new: &Path) -> Result<(Bytes, Skipped)> {
        self.expect(terms, new, 0..self.image.layer_count())?;
        let mut tree = Tree::new(open_directory(new)?)?;
        let mut bytes = Bytes::default();
        for at in 0..self.image.layer_count() {
            self.apply(terms, at, &mut tree, &mut bytes)?;
        }
        Ok((bytes, tree.finish()?))
    }

    /// Creates the directory `new` and announces the bytes to read.
    pub(crate) fn expect(&self, terms: &Terms, new: &Path, layers: Range<usize>) -> Result<()> {
        let made = fs::DirBuilder::new().mode(0o700).create(new);
        made.doing(|| format!("create {}", new.display()))?;
        let layers = self.image.layers.get(layers).unwrap_or_default();
        terms.watch.expect("unpack", layers.iter().map(|layer| layer.descriptor.size).sum());
        Ok(())
    }

    /// Applies a layer to the tree of the layers below.
    pub(crate) fn apply(&self, terms: &Terms, at: usize, tree: &mut Tree, bytes: &mut Bytes) -> Result<()> {
        let (Some(layer), Some(Some(removals))) = (self.image.layers.get(at), self.removals.get(at)) else {
            let words = format!("layer {at} no longer exists");
            return Err(Error::new(crate::error::Kind::NotFound, words).into());
        };
        tree.apply_whiteouts(removals)?;
        let one = layer.read(&self.image.layout.blobs, terms, Pass::Again, tree)?;
        bytes.read += one.read;
        bytes.unpacked += one.unpacked;
        Ok(())
    }
}

fn layer(descriptor: &Descriptor, diff_id: Hash) -> Result<Layer> {
    let compression = layer_compression(&descriptor.media_type).ok_or_else(|| {
        let words = format!("is of type {}, which is not a layer", descriptor.media_type.escape_debug());
        Fault::refused(Code::OciMediaType, subject(&descriptor.digest), words)
    })?;
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
