//! `emergence key`.

use std::path::Path;

use serde_json::json;

use super::common::{CommonOptions, open};
use crate::cli::args::KeyAction;
use crate::emergence::{Fault, Result, SecretKey, Within, read_document};

pub(super) fn key(action: KeyAction, options: &CommonOptions) -> Result<()> {
    match action {
        KeyAction::Generate { name } => {
            let key = SecretKey::generate(&name)?.reveal();
            options.answer(&key, || json!({ "key": key }))
        }
        KeyAction::Public { file } => {
            let public = secret(&file)?.public().to_string();
            options.answer(&public, || json!({ "key": public }))
        }
    }
}

/// Reads the secret key in a file.
pub(super) fn secret(file: &Path) -> Result<SecretKey> {
    let subject = file.display().to_string();
    let text = read_document(open(file)?, &subject)?;
    let text = String::from_utf8(text).map_err(|_| Fault::usage(format!("{subject}: is not a key")))?;
    SecretKey::parse(&text).within(|| subject)
}
