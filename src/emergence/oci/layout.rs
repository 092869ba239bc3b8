//! Finds the manifest of an artifact in a layout: `oci-layout`, `index.json`, nested indexes, and
//! the choice of a platform.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::blobs::{Blobs, check_embedded};
use super::documents::{Descriptor, Index, Manifest, Platform, media};
use crate::emergence::base::bounded::open_file;
use crate::emergence::base::hash::Hash;
use crate::emergence::base::json;
use crate::emergence::base::limits::Limits;
use crate::emergence::base::refusal::{Code, Fault, Result, Within};
use crate::error::{Error, Kind};

/// Maximum nesting of indexes, `index.json` not counted.
const DEEPEST: usize = 4;

/// The only version of layouts.
const VERSION: &str = "1.0.0";

/// An opened layout, with the contents of `index.json`.
#[derive(Debug)]
pub struct Layout {
    /// Its blobs.
    pub blobs: Blobs,
    index: Index,
}

/// A manifest that was found.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Its descriptor.
    pub descriptor: Descriptor,
    /// Its bytes, which match the descriptor's digest.
    pub bytes: Vec<u8>,
    /// The parsed manifest.
    pub manifest: Manifest,
    /// Whether the caller gave its digest, or that of an index that leads to it.
    pub pinned: bool,
    /// The entries of the index that lists it. Empty if only `index.json` lists it.
    pub listed: Entries,
}

/// The entries of an index.
type Entries = Arc<[Descriptor]>;

/// Decides whether a manifest of an index for the right platform is accepted; an error ends the
/// search.
pub type Accept<'a> = &'a dyn Fn(&Descriptor) -> Result<bool>;

impl Layout {
    /// Opens a layout in the directory or tar at `path`.
    ///
    /// Refused: it is not a layout (`oci.layout`), or is in the older format of docker save
    /// (`oci.docker-v1`).
    pub fn open(path: &Path) -> Result<Self> {
        Self::within(path, &Limits::default())
    }

    /// As [`Self::open`], within limits.
    pub fn within(path: &Path, limits: &Limits) -> Result<Self> {
        if path.is_dir() {
            return Self::of(Blobs::directory(path, limits.document));
        }
        match open_file(path)? {
            Some(file) => Self::of(Blobs::archive(file, path, limits.document)?),
            None => {
                let words = format!("{}: no such file or directory", path.display());
                Err(Error::new(Kind::NotFound, words).into())
            }
        }
    }

    fn of(blobs: Blobs) -> Result<Self> {
        let subject = |inner: &str| format!("{}/{inner}", blobs.name());
        let Some(version) = blobs.named("oci-layout")? else {
            return Err(no_layout(&blobs)?);
        };
        let version = json::parse(&version, &subject("oci-layout"))?;
        match version.get("imageLayoutVersion").and_then(Value::as_str) {
            Some(VERSION) => {}
            Some(other) => {
                let (subject, other) = (subject("oci-layout"), other.escape_debug().to_string());
                return Err(Fault::differs(Code::OciLayout, subject, "imageLayoutVersion", VERSION, &other));
            }
            None => {
                let words = "has no imageLayoutVersion";
                return Err(Fault::refused(Code::OciLayout, subject("oci-layout"), words));
            }
        }
        let bytes = blobs.named("index.json")?;
        let bytes =
            bytes.ok_or_else(|| Fault::refused(Code::OciLayout, blobs.name(), "has no index.json"))?;
        let index = read_index(&bytes, &subject("index.json"), None)?;
        Ok(Self { blobs, index })
    }

    /// The contents of `index.json`.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Finds the manifest by its tag, by its digest or that of an index that leads to it, or by
    /// both. The tag may be omitted if `index.json` has one entry only, or one for `platform`. Of
    /// an index, the first manifest for `platform` that `accept` accepts; if there is none, the
    /// first without a platform that `accept` accepts.
    ///
    /// Refused: `oci.no-tag`, `oci.no-platform`, `oci.media-type`, `oci.layout` (indexes nested too
    /// deep), and as by [`Blobs::document`] and [`json::read`].
    pub fn resolve(
        &self,
        tag: Option<&str>,
        digest: Option<&Hash>,
        platform: &Platform,
        accept: Accept<'_>,
    ) -> Result<Resolved> {
        let start = self.start(tag, digest, platform)?;
        let mut pinned = digest.is_some_and(|digest| *digest == start.digest);
        if digest.is_some() && !pinned {
            let found = self.below(&start, digest)?;
            let (found, listed) = found.ok_or_else(|| self.no_tag(tag, digest))?;
            pinned = true;
            return self.manifest(found, listed, pinned, platform, accept);
        }
        self.manifest(start, Arc::default(), pinned, platform, accept)
    }

    /// The entry of `index.json` where the search starts.
    fn start(&self, tag: Option<&str>, digest: Option<&Hash>, platform: &Platform) -> Result<Descriptor> {
        let named = |entry: &&Descriptor| match tag {
            Some(tag) => entry.annotations.get(media::REF_NAME).is_some_and(|name| name == tag),
            None => true,
        };
        let entries: Vec<&Descriptor> = self.index.manifests.iter().filter(named).collect();
        if let Some(digest) = digest {
            if let Some(entry) = entries.iter().find(|entry| entry.digest == *digest) {
                return Ok((*entry).clone());
            }
            for entry in &entries {
                if self.below(entry, Some(digest))?.is_some() {
                    return Ok((*entry).clone());
                }
            }
            return Err(self.no_tag(tag, Some(digest)));
        }
        let first = entries.first().ok_or_else(|| self.no_tag(tag, digest))?;
        // A manifest may have several names, but several manifests may not share one.
        if entries.iter().all(|entry| entry.digest == first.digest) {
            return Ok((*first).clone());
        }
        match (self.of_platform(&entries, platform)?, tag) {
            (Some(entry), _) => Ok(entry),
            (None, Some(_)) => {
                let words = format!("{} entries have this tag", entries.len());
                Err(Fault::refused(Code::OciLayout, self.name(tag, digest), words))
            }
            (None, None) => Err(self.no_tag(tag, digest)),
        }
    }

    /// Finds the entry for this platform if `index.json` lists one image for several platforms
    /// directly: entries with the same name or none, each for a platform. `None` if the choice is
    /// ambiguous.
    fn of_platform(&self, entries: &[&Descriptor], platform: &Platform) -> Result<Option<Descriptor>> {
        let mut names = entries.iter().map(|entry| entry.annotations.get(media::REF_NAME));
        let first = names.next();
        if !names.all(|name| Some(name) == first) {
            return Ok(None);
        }
        let mut found = Found::default();
        let mut ours = Vec::new();
        for entry in entries {
            match &entry.platform {
                Some(made_for) if platform.runs(made_for) => ours.push(*entry),
                Some(made_for) => found.note(Some(made_for)),
                None => return Ok(None),
            }
        }
        match ours.as_slice() {
            [] => Err(found.no_platform(&self.blobs.name(), platform)),
            [one] => Ok(Some((*one).clone())),
            _ => Ok(None),
        }
    }

    fn name(&self, tag: Option<&str>, digest: Option<&Hash>) -> String {
        let tag = tag.map(|tag| format!(":{}", tag.escape_debug())).unwrap_or_default();
        let digest = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        format!("{}{tag}{digest}", self.blobs.name())
    }

    fn no_tag(&self, tag: Option<&str>, digest: Option<&Hash>) -> Fault {
        let names: Vec<String> = self.index.manifests.iter().take(20).map(named).collect();
        let tags =
            if names.is_empty() { "it is empty".to_owned() } else { format!("it has {}", names.join(", ")) };
        let words = match (tag, digest) {
            (None, None) => format!("select one by its tag: {tags}"),
            _ => format!("is not in the layout; {tags}"),
        };
        Fault::refused(Code::OciNoTag, self.name(tag, digest), words)
    }

    /// The entry with this digest in the indexes below `from`, and the entries of its index.
    fn below(&self, from: &Descriptor, digest: Option<&Hash>) -> Result<Option<(Descriptor, Entries)>> {
        // An index may be listed many times.
        let mut seen = HashSet::new();
        let mut left = vec![(from.clone(), 1)];
        while let Some((descriptor, depth)) = left.pop() {
            if !is_index(&descriptor.media_type) || !seen.insert(descriptor.digest) {
                continue;
            }
            let entries = self.nested(&descriptor, depth)?.manifests;
            if let Some(entry) = entries.iter().find(|entry| Some(&entry.digest) == digest) {
                return Ok(Some((entry.clone(), entries.into())));
            }
            left.extend(entries.into_iter().map(|entry| (entry, depth + 1)));
        }
        Ok(None)
    }

    fn nested(&self, descriptor: &Descriptor, depth: usize) -> Result<Index> {
        let subject = super::blobs::subject(&descriptor.digest);
        if depth > DEEPEST {
            let words = format!("indexes are nested deeper than {DEEPEST}");
            return Err(Fault::refused(Code::OciLayout, subject, words));
        }
        read_index(&self.blobs.document(descriptor)?, &subject, Some(&descriptor.media_type))
    }

    fn manifest(
        &self,
        from: Descriptor,
        beside: Entries,
        pinned: bool,
        platform: &Platform,
        accept: Accept<'_>,
    ) -> Result<Resolved> {
        let mut found = Found::default();
        // A stack, so that the first match is the first in listing order.
        let mut left = vec![(from, 1, None)];
        let mut seen = HashSet::new();
        let mut descriptor = None;
        while let Some((entry, depth, listed)) = left.pop() {
            if is_index(&entry.media_type) {
                if !seen.insert(entry.digest) {
                    continue;
                }
                let entries: Entries = self.nested(&entry, depth)?.manifests.into();
                let nested = entries.iter().rev().cloned();
                left.extend(nested.map(|entry| (entry, depth + 1, Some(Arc::clone(&entries)))));
                continue;
            }
            let Some(listed) = listed else {
                // The caller named this manifest itself, so its platform is not checked.
                descriptor = Some((entry, beside));
                break;
            };
            if !is_manifest(&entry.media_type) {
                continue;
            }
            match &entry.platform {
                Some(made_for) if !platform.runs(made_for) => found.note(Some(made_for)),
                Some(_) if accept(&entry)? => {
                    descriptor = Some((entry, listed));
                    break;
                }
                None if found.unnamed.is_none() && accept(&entry)? => found.unnamed = Some((entry, listed)),
                other => found.note(other.as_ref()),
            }
        }
        let descriptor = descriptor.or(found.unnamed.take());
        let (descriptor, listed) =
            descriptor.ok_or_else(|| found.no_platform(&self.blobs.name(), platform))?;
        let subject = super::blobs::subject(&descriptor.digest);
        check_is_manifest(&subject, &descriptor.media_type)?;
        let bytes = self.blobs.document(&descriptor)?;
        let manifest = read_manifest(&bytes, &subject, &descriptor.media_type)?;
        Ok(Resolved { descriptor, bytes, manifest, pinned, listed })
    }
}

/// Manifests seen during the search.
#[derive(Default)]
struct Found {
    /// The first accepted manifest without a platform.
    unnamed: Option<(Descriptor, Entries)>,
    platforms: Vec<String>,
}

impl Found {
    fn note(&mut self, platform: Option<&Platform>) {
        let shown = platform.map_or("no platform".to_owned(), ToString::to_string);
        let shown = shown.escape_debug().to_string();
        if self.platforms.len() < 50 && !self.platforms.contains(&shown) {
            self.platforms.push(shown);
        }
    }

    fn no_platform(&self, subject: &str, wanted: &Platform) -> Fault {
        let platforms = if self.platforms.is_empty() {
            "it has no manifests".to_owned()
        } else {
            format!("it has {}", self.platforms.join(", "))
        };
        Fault::refused(Code::OciNoPlatform, subject, format!("has nothing for {wanted}; {platforms}"))
    }
}

/// The name of an index entry in messages.
fn named(entry: &Descriptor) -> String {
    match entry.annotations.get(media::REF_NAME) {
        Some(tag) => tag.escape_debug().to_string(),
        None => entry.digest.to_string(),
    }
}

fn is_index(media_type: &str) -> bool {
    [media::INDEX, media::DOCKER_INDEX].contains(&media_type)
}

fn is_manifest(media_type: &str) -> bool {
    [media::MANIFEST, media::DOCKER_MANIFEST].contains(&media_type)
}

/// The refusal if `oci-layout` is missing: the format may be older.
fn no_layout(blobs: &Blobs) -> Result<Fault> {
    for inner in ["manifest.json", "repositories"] {
        if blobs.named(inner).is_ok_and(|found| found.is_some()) {
            let words = "is what docker save wrote before version 25; make a layout of it with \
                         \"skopeo copy docker-archive:FILE oci:DIRECTORY\"";
            return Ok(Fault::refused(Code::OciDockerV1, blobs.name(), words));
        }
    }
    Ok(Fault::refused(Code::OciLayout, blobs.name(), "has no oci-layout; this is not a layout"))
}

/// Refuses a document that could be an index and a manifest, because readers would disagree about
/// its type.
fn refuse_members(value: &Value, subject: &str, others: &[&str]) -> Result<()> {
    match others.iter().find(|member| value.get(**member).is_some()) {
        Some(member) => {
            let words = format!("has a member {member}, which its type does not have");
            Err(Fault::refused(Code::OciMediaType, subject, words))
        }
        None => Ok(()),
    }
}

/// Checks that a document's own media type is that of its descriptor.
fn check_type(subject: &str, own: Option<&str>, declared: Option<&str>, version: u64) -> Result<()> {
    if version != 2 {
        return Err(Fault::differs(Code::OciMediaType, subject, "schemaVersion", "2", &version.to_string()));
    }
    match (own.filter(|own| !own.is_empty()), declared) {
        (Some(own), Some(declared)) if own != declared => {
            let own = own.escape_debug().to_string();
            Err(Fault::differs(Code::OciMediaType, subject, "mediaType", declared, &own))
        }
        _ => Ok(()),
    }
}

fn read_index(bytes: &[u8], subject: &str, declared: Option<&str>) -> Result<Index> {
    let value = json::parse(bytes, subject)?;
    refuse_members(&value, subject, &["config", "layers", "fsLayers"])?;
    let index: Index = json::shaped(value, subject)?;
    let own = index.media_type.as_deref();
    check_type(subject, own, declared, index.schema_version)?;
    match own {
        Some(own) if !own.is_empty() && !is_index(own) => {
            let words = format!("is of type {}, which is not an index", own.escape_debug());
            return Err(Fault::refused(Code::OciMediaType, subject, words));
        }
        _ => {}
    }
    index.manifests.iter().chain(&index.subject).try_for_each(check_embedded).within(|| subject)?;
    Ok(index)
}

/// Checked before the bytes: the digest of Docker's older manifests is not that of the stored
/// bytes.
fn check_is_manifest(subject: &str, declared: &str) -> Result<()> {
    if is_manifest(declared) {
        Ok(())
    } else {
        let words = format!("is of type {}, which is not a manifest", declared.escape_debug());
        Err(Fault::refused(Code::OciMediaType, subject, words))
    }
}

fn read_manifest(bytes: &[u8], subject: &str, declared: &str) -> Result<Manifest> {
    let value = json::parse(bytes, subject)?;
    refuse_members(&value, subject, &["manifests", "fsLayers"])?;
    let manifest: Manifest = json::shaped(value, subject)?;
    check_type(subject, manifest.media_type.as_deref(), Some(declared), manifest.schema_version)?;
    let descriptors = std::iter::once(&manifest.config).chain(&manifest.layers).chain(&manifest.subject);
    descriptors.into_iter().try_for_each(check_embedded).within(|| subject)?;
    Ok(manifest)
}
