//! Plain images: unpacked, or kept in the store.

use std::sync::Arc;

use serde_json::{Value, json};

use super::asked::Asked;
use super::destination::make_store;
use super::documents::{document, with};
use crate::cli::args::UnpackArgs;
use crate::emergence::oci::{Image, Skipped, Unpacked, Verified};
use crate::emergence::{ImageForm, Result, Store};

pub(super) fn unpack_image(image: Image, args: &UnpackArgs, asked: &Asked) -> Result<()> {
    let (verified, unpacked) = match &args.to {
        Some(to) => {
            let verified = image.verify(&asked.terms, args.strict)?;
            let unpacked = verified.unpack(&asked.terms, to)?;
            (verified, unpacked)
        }
        None => {
            let (verified, unpacked, _) = keep(image, None, args.strict, asked)?;
            (verified, unpacked)
        }
    };
    if !asked.json {
        if unpacked.reused > 0 {
            asked.note(&format!("reused {} of {} layers", unpacked.reused, unpacked.folders.len()));
        }
        for line in skipped_lines(&unpacked.skipped) {
            asked.note(&line);
        }
    }
    asked.answer_lines(&paths(&unpacked), || {
        let answer = document(&verified.report, asked);
        let chain_id = json!({ "chainId": verified.image().chain_id().to_string() });
        with(with(answer, chain_id), unpacked_document(&unpacked))
    })
}

/// Proves what the store lacks of an image, and keeps it there; in the form that is best there, if none is asked for.
pub(super) fn keep(
    image: Image,
    form: Option<ImageForm>,
    strict: bool,
    asked: &Asked,
) -> Result<(Verified, Unpacked, Arc<Store>)> {
    let terms = &asked.terms;
    let form_of = |image: &Image, store: &Store| form.map_or_else(|| image.best_form(store), Ok);
    let (verified, store, form) = match &asked.target {
        Some(store) => {
            let form = form_of(&image, store)?;
            (image.verify_for(terms, strict, store, form)?, store.clone(), form)
        }
        None => {
            let verified = image.verify(terms, strict)?;
            // Nothing is made for what is not taken.
            let store = make_store(asked)?;
            let form = form_of(verified.image(), &store)?;
            (verified, store, form)
        }
    };
    let unpacked = verified.unpack_into(terms, &store, form)?;
    Ok((verified, unpacked, store))
}

fn paths(unpacked: &Unpacked) -> Vec<String> {
    unpacked.folders.iter().map(|folder| folder.display().to_string()).collect()
}

fn unpacked_document(unpacked: &Unpacked) -> Value {
    let Skipped { devices, xattrs, owners } = &unpacked.skipped;
    let paths = paths(unpacked);
    json!({
        "path": paths.last(),
        "paths": paths,
        "reused": unpacked.reused == paths.len(),
        "bytes": { "read": unpacked.bytes.read, "unpacked": unpacked.bytes.unpacked },
        "skipped": { "devices": devices, "xattrs": xattrs, "owners": owners },
    })
}

/// What a person is told who did not ask for JSON.
fn skipped_lines(skipped: &Skipped) -> Vec<String> {
    let mut lines = Vec::new();
    if !skipped.devices.is_empty() {
        lines.push(format!("left out: {} devices, which only root can make", skipped.devices.len()));
    }
    for (name, count) in &skipped.xattrs {
        lines.push(format!("left out: the attribute {name} of {count} entries"));
    }
    if skipped.owners > 0 {
        lines.push(format!("left out: the owners of {} entries, which only root can set", skipped.owners));
    }
    lines
}
