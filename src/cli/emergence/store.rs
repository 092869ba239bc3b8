//! What comes into a store, and what leaves it: `emergence import`, `unpack`, `export`, `need`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::key::secret;
use super::verify::{declaration, opened};
use super::{Asked, make_store, open, open_store, store_folder};
use crate::cli::args::{DeclaredArgs, ExportArgs, ImportArgs, NeedArgs, UnpackArgs};
use crate::emergence::{
    Added, Closure, Export, Fault, NarFile, Reference, Result, StorePath, Within, read_document, unpack_apart,
};
use crate::error::{Error, Kind};

pub(super) fn import(args: &ImportArgs, asked: &Asked) -> Result<()> {
    if args.artifacts.len() > 1 && args.declared.said() {
        return Err(Fault::usage("what is said of a NAR can be said of one artifact only"));
    }
    let mut all = Vec::new();
    for reference in &args.artifacts {
        all.push(take_in(reference, &args.declared, asked).within(|| reference)?);
    }
    let lines: Vec<String> = all.iter().map(|(root, _)| asked.dir().path(root)).collect();
    asked.answer(&lines.join("\n"), || {
        let imported = all.iter().map(|(root, added)| added_document(root, added, asked));
        json!({ "ok": true, "imported": imported.collect::<Vec<_>>() })
    })
}

/// Verifies an artifact and keeps its objects. Its root, and what was new.
fn take_in(reference: &str, declared: &DeclaredArgs, asked: &Asked) -> Result<(StorePath, Added)> {
    let closure = opened(reference, declared, asked)?;
    let root = root(&*closure)?;
    let report = closure.verify(&asked.terms)?;
    // Nothing is made for what is not taken.
    let store = make_store(asked)?;
    Ok((root, store.add(&*closure, &asked.terms, &report)?))
}

fn root(closure: &dyn Closure) -> Result<StorePath> {
    let root = closure.objects().last().map(|object| object.path.clone());
    root.ok_or_else(|| Fault::usage("it has no store path; say it with --store-path"))
}

fn added_document(root: &StorePath, added: &Added, asked: &Asked) -> Value {
    let all = |paths: &[StorePath]| paths.iter().map(|path| asked.dir().path(path)).collect::<Vec<_>>();
    json!({
        "path": asked.dir().path(root),
        "new": all(&added.new),
        "reused": all(&added.reused),
        "bytes": { "read": added.bytes.read, "unpacked": added.bytes.unpacked },
    })
}

pub(super) fn unpack(args: &UnpackArgs, asked: &Asked) -> Result<()> {
    let Some(to) = &args.to else {
        let (root, added) = take_in(&args.artifact, &args.declared, asked)?;
        let path = asked.dir().path(&root);
        return asked.answer(&path, || added_document(&root, &added, asked));
    };
    if to.symlink_metadata().is_ok() {
        return Err(Error::new(Kind::Exists, format!("{}: is there already", to.display())).into());
    }
    let bytes = match Reference::parse(&args.artifact, asked.dir())? {
        // One NAR is one tree, whatever it is called.
        Reference::Nar(path) => {
            let nar = NarFile::open(&path, &declaration(&args.declared, asked)?, &asked.terms)?;
            let report = nar.verify(&asked.terms)?;
            nar.restore(to, &asked.terms)?;
            report.bytes
        }
        _ => {
            let closure = opened(&args.artifact, &args.declared, asked)?;
            let report = closure.verify(&asked.terms)?;
            unpack_apart(&*closure, &asked.terms, &report, to)?
        }
    };
    let shown = to.display().to_string();
    asked.answer(
        &shown,
        || json!({ "to": shown, "bytes": { "read": bytes.read, "unpacked": bytes.unpacked } }),
    )
}

pub(super) fn need(args: &NeedArgs, asked: &Asked) -> Result<()> {
    let closure = opened(&args.artifact, &args.declared, asked)?;
    let store = match store_folder(asked)?.join("version").exists() {
        true => Some(open_store(asked)?),
        false => None,
    };
    let mut needed = Vec::new();
    for object in closure.objects() {
        let there = store.as_ref().map(|store| store.meta(&object.path)).transpose()?.flatten();
        if there.is_none_or(|meta| meta.object.nar_hash != object.nar_hash) {
            needed.push(object.path.to_string());
        }
    }
    asked.answer_lines(&needed, || json!({ "needed": needed }))
}

pub(super) fn export(args: &ExportArgs, asked: &Asked) -> Result<()> {
    let to = args.to.strip_prefix("cache:").unwrap_or(&args.to);
    let to = to.strip_prefix("file://").unwrap_or(to);
    if to.is_empty() || args.to.starts_with("oci") {
        return Err(Fault::usage(format!("--to {}: must be cache:FOLDER", args.to)));
    }
    let key = args.sign.as_ref().map(|file| secret(file)).transpose()?;
    let only = args.only_from.as_ref().map(|file| digits(file)).transpose()?;
    let objects = args.objects.iter().map(|path| asked.dir().parse(path)).collect::<Result<Vec<_>>>()?;
    let how = Export {
        to: Path::new(to),
        compression: args.compress.into(),
        key: key.as_ref(),
        only: only.as_ref(),
    };
    let exported = open_store(asked)?.export(&objects, &how, &asked.terms)?;
    let all = |paths: &[StorePath]| paths.iter().map(|path| asked.dir().path(path)).collect::<Vec<_>>();
    asked.answer_lines(
        &all(&exported.new),
        || json!({ "new": all(&exported.new), "reused": all(&exported.reused), "bytes": exported.bytes }),
    )
}

/// The digits of the objects that a file names: by base name, path, or the name of a narinfo.
fn digits(file: &Path) -> Result<BTreeSet<String>> {
    let subject = file.display().to_string();
    let text = read_document(open(file)?, &subject)?;
    let text = String::from_utf8(text).map_err(|_| Fault::usage(format!("{subject}: is not text")))?;
    let mut found = BTreeSet::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let base = line.rsplit('/').next().unwrap_or(line);
        let object = match base.strip_suffix(".narinfo") {
            Some(digits) => StorePath::parse(&format!("{digits}-x")),
            None => StorePath::parse(base),
        };
        found.insert(object.within(|| subject.clone())?.digits());
    }
    Ok(found)
}
