//! Plain images: unpacked, or imported into the store.

use std::path::Path;

use serde_json::{Value, json};

use super::common::CommonOptions;
use super::documents::{document, with};
use crate::emergence::oci::{Image, Skipped, Unpacked, Verified};
use crate::emergence::{Result, StoreTarget, verify_and_import_image};

/// Unpacks an image into a new directory.
pub(super) fn unpack_image_to(image: Image, to: &Path, strict: bool, options: &CommonOptions) -> Result<()> {
    let verified = image.verify(&options.terms, strict)?;
    let unpacked = verified.unpack(&options.terms, to)?;
    print_unpacked(&verified, &unpacked, options)
}

/// Imports an image into the store.
pub(super) fn import_image(
    image: Image,
    target: &StoreTarget,
    strict: bool,
    options: &CommonOptions,
) -> Result<()> {
    let imported = verify_and_import_image(image, None, strict, &options.terms, target)?;
    print_unpacked(&imported.verified, &imported.unpacked, options)
}

fn print_unpacked(verified: &Verified, unpacked: &Unpacked, options: &CommonOptions) -> Result<()> {
    if !options.json {
        if unpacked.reused > 0 {
            options.note(&format!("reused {} of {} layers", unpacked.reused, unpacked.directories.len()));
        }
        for line in skipped_lines(&unpacked.skipped) {
            options.note(&line);
        }
    }
    options.answer_lines(&paths(unpacked), || {
        let answer = document(&verified.report, options);
        let chain_id = json!({ "chainId": verified.image().chain_id().to_string() });
        with(with(answer, chain_id), unpacked_document(unpacked))
    })
}

fn paths(unpacked: &Unpacked) -> Vec<String> {
    unpacked.directories.iter().map(|directory| directory.display().to_string()).collect()
}

fn unpacked_document(unpacked: &Unpacked) -> Value {
    let Skipped { devices, xattrs, owners, set_ids } = &unpacked.skipped;
    let paths = paths(unpacked);
    json!({
        "path": paths.last(),
        "paths": paths,
        "reused": unpacked.reused == paths.len(),
        "bytes": { "read": unpacked.bytes.read, "unpacked": unpacked.bytes.unpacked },
        "skipped": { "devices": devices, "xattrs": xattrs, "owners": owners, "setIds": set_ids },
    })
}

/// The lines for the user, without JSON output.
fn skipped_lines(skipped: &Skipped) -> Vec<String> {
    let mut lines = Vec::new();
    if !skipped.devices.is_empty() {
        lines.push(format!(
            "left out: {} devices, which only root can create (and nobody 0:0, overlayfs's whiteout)",
            skipped.devices.len()
        ));
    }
    for (name, count) in &skipped.xattrs {
        lines.push(format!("left out: the attribute {name} of {count} entries"));
    }
    if skipped.owners > 0 {
        lines.push(format!("left out: the owners of {} entries, which only root can set", skipped.owners));
    }
    if skipped.set_ids > 0 {
        lines.push(format!(
            "left out: the set-ID bits of {} files, whose owners or capabilities are not set",
            skipped.set_ids
        ));
    }
    lines
}
