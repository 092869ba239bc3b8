//! The checks that a container's annotations and the machine's configuration request before it is
//! created.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::emergence::base::bounded::read_document;
use crate::emergence::base::hash::{Algorithm, Hash};
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::base::strict::document;
use crate::emergence::nix::keys::PublicKey;
use crate::emergence::nix::store_path::StoreDir;
use crate::error::Doing;
use crate::spec::verification::{MACHINE, PREFIX, demanded};

/// Default store of root.
pub(crate) const USUAL_DIRECTORY: &str = "/var/lib/emergence";

/// How objects are checked, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Inodes, sizes and times are the same as when the object was last hashed. Hashed if there is
    /// no such record.
    Fast,
    /// fs-verity protects each file, as it did when the object was hashed. Hashed if the file
    /// system does not support it.
    Verity,
    /// All objects are hashed.
    Full,
}

/// The requested checks.
#[derive(Clone, Debug)]
pub struct RequestedChecks {
    pub(super) mode: Mode,
    /// The automaton that it must be.
    pub(super) expect: Option<Hash>,
    /// One of these keys must have signed the automaton.
    pub(super) signers: Option<Vec<PublicKey>>,
    /// The store with the documents of automata.
    pub(super) store: PathBuf,
    /// Whether seals and proofs of that store are trusted. If the machine's configuration demands a
    /// check, a store that only annotations name is not.
    pub(super) relied_on: bool,
    pub(super) dir: StoreDir,
}

/// The machine's configuration file.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MachineConfig {
    verify: Option<String>,
    signature: Option<Vec<String>>,
    store: Option<PathBuf>,
    store_dir: Option<String>,
}

/// The checks that the annotations and the machine's configuration request. `None`: none.
pub fn wanted(annotations: &BTreeMap<String, String>) -> Result<Option<RequestedChecks>> {
    // The only system call if nothing is requested.
    let machine = match File::open(MACHINE) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        opened => {
            let file = opened.doing(|| format!("open {MACHINE}"))?;
            Some(read_document(file, MACHINE)?)
        }
    };
    combined(annotations, machine.as_deref())
}

/// As [`wanted`], with the bytes of the machine's configuration file, if it exists.
pub(super) fn combined(
    annotations: &BTreeMap<String, String>,
    machine: Option<&[u8]>,
) -> Result<Option<RequestedChecks>> {
    let named = |name: &str| annotations.get(&format!("{PREFIX}{name}"));
    if demanded(annotations).is_none() && machine.is_none() {
        return Ok(None);
    }
    let (verify, expect) = (named("verify"), named("expect"));
    let machine: MachineConfig =
        machine.map(|bytes| document(bytes, MACHINE)).transpose()?.unwrap_or_default();
    let verify = verify.map(|word| mode(word, &format!("{PREFIX}verify"))).transpose()?;
    let least = machine.verify.as_deref().map(|word| mode(word, MACHINE)).transpose()?;
    let by_owner = least.is_some() || machine.signature.is_some();
    if verify.is_none() && expect.is_none() && !by_owner {
        return Ok(None);
    }
    let key = |text: &String| {
        let key = PublicKey::parse(text);
        key.map_err(|fault| {
            Fault::refused(Code::JsonSyntax, MACHINE, format!("signature: {}", fault.words()))
        })
    };
    let signers = machine.signature.map(|keys| keys.iter().map(key).collect::<Result<_>>()).transpose()?;
    // The store of the machine's configuration has priority over the annotation.
    let usual = named("store").is_none_or(|store| store == USUAL_DIRECTORY);
    let relied_on = machine.store.is_some() || usual || !by_owner;
    let store = machine.store.or_else(|| named("store").map(PathBuf::from));
    // If the machine's configuration demands a check, an annotation must not choose the store
    // directory: the check could pass without any objects.
    let dir = machine.store_dir.as_ref().or_else(|| named("storeDir").filter(|_| !by_owner));
    Ok(Some(RequestedChecks {
        // A digest or a signature alone does not check the files.
        mode: verify.max(least).unwrap_or(Mode::Full),
        expect: expect.map(|text| Hash::parse(text, Some(Algorithm::Sha256))).transpose()?,
        signers,
        store: store.unwrap_or_else(|| Path::new(USUAL_DIRECTORY).to_owned()),
        relied_on,
        dir: dir.map_or_else(|| Ok(StoreDir::default()), |dir| StoreDir::new(dir))?,
    }))
}

fn mode(word: &str, subject: &str) -> Result<Mode> {
    match word {
        "full" => Ok(Mode::Full),
        "fast" => Ok(Mode::Fast),
        "verity" => Ok(Mode::Verity),
        other => {
            let words = format!("verify must be full, fast or verity, not {}", other.escape_debug());
            Err(Fault::refused(Code::JsonSyntax, subject, words))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned())).collect()
    }

    #[test]
    fn annotations_cannot_lower_what_the_machine_demands() {
        let table = [
            (None, None, None),
            (Some("fast"), None, Some(Mode::Fast)),
            (None, Some(r#"{"verify":"fast"}"#), Some(Mode::Fast)),
            (Some("fast"), Some(r#"{"verify":"full"}"#), Some(Mode::Full)),
            (Some("full"), Some(r#"{"verify":"fast"}"#), Some(Mode::Full)),
            (Some("fast"), Some(r#"{"verify":"verity"}"#), Some(Mode::Verity)),
            (None, Some("{}"), None),
            (None, Some(r#"{"signature":[]}"#), Some(Mode::Full)),
        ];
        for (asked, machine, want) in table {
            let annotations =
                annotations(&asked.map(|word| ("verify", word)).into_iter().collect::<Vec<_>>());
            let found = combined(&annotations, machine.map(str::as_bytes)).unwrap();
            assert_eq!(found.map(|wanted| wanted.mode), want, "{asked:?} {machine:?}");
        }
        let digest = format!("sha256:{}", "0".repeat(64));
        let pinned = combined(&annotations(&[("expect", &digest)]), None).unwrap().unwrap();
        assert_eq!((pinned.mode, pinned.expect.is_some()), (Mode::Full, true));
    }

    #[test]
    fn the_owners_place_comes_first() {
        let table = [
            (Some("/a"), None, "/a", true),
            (Some("/a"), Some("{}"), "/a", true),
            (Some("/a"), Some(r#"{"verify":"fast"}"#), "/a", false),
            (Some("/a"), Some(r#"{"verify":"fast","store":"/b"}"#), "/b", true),
            (Some(USUAL_DIRECTORY), Some(r#"{"verify":"fast"}"#), USUAL_DIRECTORY, true),
            (None, Some(r#"{"verify":"fast"}"#), USUAL_DIRECTORY, true),
            (None, None, USUAL_DIRECTORY, true),
        ];
        for (named, machine, store, relied_on) in table {
            let named = named.map(|store| ("store", store));
            let annotations = annotations(&named.into_iter().chain([("verify", "full")]).collect::<Vec<_>>());
            let found = combined(&annotations, machine.map(str::as_bytes)).unwrap().unwrap();
            assert_eq!(
                (found.store.to_str(), found.relied_on),
                (Some(store), relied_on),
                "{named:?} {machine:?}"
            );
        }
    }

    #[test]
    fn no_annotation_leads_the_owners_check_elsewhere() {
        let annotations = annotations(&[("verify", "full"), ("storeDir", "/elsewhere")]);
        let dir = |machine: Option<&[u8]>| combined(&annotations, machine).unwrap().unwrap().dir;
        assert_eq!(dir(None).as_str(), "/elsewhere");
        assert_eq!(dir(Some(br#"{"verify":"fast"}"#)).as_str(), StoreDir::default().as_str());
        assert_eq!(dir(Some(br#"{"verify":"fast","storeDir":"/there"}"#)).as_str(), "/there");
    }

    #[test]
    fn strictly_read() {
        let table = [
            (annotations(&[("verify", "some")]), None, Code::JsonSyntax),
            (annotations(&[("expect", "x")]), None, Code::HashSyntax),
            (annotations(&[]), Some(r#"{"verify":"some"}"#), Code::JsonSyntax),
            (annotations(&[]), Some(r#"{"color":1}"#), Code::DocUnknownField),
            (annotations(&[]), Some(r#"{"signature":["x"]}"#), Code::JsonSyntax),
            (annotations(&[]), Some(""), Code::JsonSyntax),
        ];
        for (annotations, machine, code) in table {
            let fault = combined(&annotations, machine.map(str::as_bytes)).unwrap_err();
            assert_eq!(fault.code(), Some(code), "{annotations:?} {machine:?}: {fault}");
        }
    }
}
