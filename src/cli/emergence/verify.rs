//! `emergence verify`.

use std::path::Path;

use serde_json::{Value, json};

use super::{Asked, open};
use crate::cli::args::VerifyArgs;
use crate::emergence::hash::{Algorithm, Hash};
use crate::emergence::nar::{self, Nothing};
use crate::emergence::stream::{HashThread, Hashing};
use crate::emergence::{
    Bytes, Cache, Code, Compression, ContentAddress, Fault, Kind, NarInfo, Object, Proof, Reference, Result,
    Signature, StorePath, Stored, Trust, Within, decompressed, read_document, read_object,
};
use crate::error::{Doing, Error};

/// What was verified.
struct Report {
    kind: &'static str,
    digest: Hash,
    objects: Vec<(Object, Proof)>,
    bytes: Bytes,
}

pub(super) fn verify(args: &VerifyArgs, asked: &Asked) -> Result<()> {
    let reference = Reference::parse(&args.reference, asked.dir())?;
    let trust = &asked.terms.trust;
    let report = match &reference {
        Reference::Cache { folder, object } => cache(folder, object, trust, asked),
        Reference::Nar(path) => one_nar(path, trust, args, asked),
    }?;
    asked.answer(&format!("ok {}", report.digest), || document(&report, asked))
}

fn cache(folder: &Path, object: &str, trust: &Trust, asked: &Asked) -> Result<Report> {
    let cache = Cache::open(folder, asked.dir())?;
    let closure = cache.closure(object)?;
    let root = closure.iter().find(|info| info.object.path.digits() == object);
    let root = root.ok_or_else(|| Fault::usage("the closure has no root"))?;
    let digest = root.object.nar_hash;
    let pin = trust.pinned(&asked.dir().path(&root.object.path), &digest)?;
    asked.allow.admit(Kind::Cache, root.object.path.name().as_str(), pin)?;
    let mut objects = Vec::with_capacity(closure.len());
    for info in closure {
        let proof = trust.proof(&info.object, asked.dir(), pin && info.object.path.digits() == object)?;
        objects.push((info, proof));
    }
    let mut bytes = Bytes::default();
    for (info, _) in &objects {
        let one =
            read_object(cache.nar(info)?, &info.object, &info.stored, asked.terms.limits.size, &mut Nothing)
                .within(|| asked.dir().path(&info.object.path))?;
        bytes.read += one.read;
        bytes.unpacked += one.unpacked;
    }
    let objects = objects.into_iter().map(|(info, proof)| (info.object, proof)).collect();
    Ok(Report { kind: "cache", digest, objects, bytes })
}

fn one_nar(path: &Path, trust: &Trust, args: &VerifyArgs, asked: &Asked) -> Result<Report> {
    let subject = path.display().to_string();
    let declared = declared(path, args, asked)?;
    if let Some(info) = declared {
        let pin = trust.pinned(&subject, &info.object.nar_hash)?;
        asked.allow.admit(Kind::Nar, info.object.path.name().as_str(), pin)?;
        let proof = trust.proof(&info.object, asked.dir(), pin)?;
        let bytes =
            read_object(open(path)?, &info.object, &info.stored, asked.terms.limits.size, &mut Nothing)
                .within(|| asked.dir().path(&info.object.path))?;
        return Ok(Report {
            kind: "nar",
            digest: info.object.nar_hash,
            objects: vec![(info.object, proof)],
            bytes,
        });
    }
    let (hash, bytes, _) = look(path, asked.terms.limits.size)?;
    if let Some(declared) = &args.nar_hash {
        let declared = Hash::parse(declared, Some(Algorithm::Sha256))?;
        if declared != hash {
            let (declared, hash) = (declared.to_string(), hash.to_string());
            return Err(Fault::differs(Code::NarHash, subject, "the NAR's hash", &declared, &hash));
        }
    }
    if let Some(declared) = args.nar_size.filter(|declared| *declared != bytes.unpacked) {
        let (declared, found) = (declared.to_string(), bytes.unpacked.to_string());
        return Err(Fault::differs(Code::NarSize, subject, "the NAR's size", &declared, &found));
    }
    let pin = trust.pinned(&subject, &hash)?;
    let name = path.file_name().unwrap_or_default();
    asked.allow.admit(Kind::Nar, &name.to_string_lossy(), pin)?;
    Ok(Report { kind: "nar", digest: hash, objects: Vec::new(), bytes })
}

/// Reads a NAR of which nothing is declared.
fn look(path: &Path, most: u64) -> Result<(Hash, Bytes, Compression)> {
    let file = open(path)?;
    let size = file.metadata().doing(|| format!("look at {}", path.display()))?.len();
    let (reader, compression) = decompressed(file, path)?;
    let thread = HashThread::start(Algorithm::Sha256).doing(|| "start a thread")?;
    let mut input = Hashing::new(std::io::Read::take(reader, most.saturating_add(1)), thread);
    let read = nar::read(&mut input, &mut Nothing);
    let (hash, unpacked) = input.finish().map_err(|error| Fault::from(Error::from(error).within("hash")))?;
    if unpacked > most {
        let words = format!("more than {most} bytes come out");
        return Err(Fault::refused(Code::LimitSize, path.display().to_string(), words));
    }
    read.within(|| path.display().to_string())?;
    Ok((hash, Bytes { read: size, unpacked }, compression))
}

/// What is declared of a NAR: by `--store-path` and its kin, by `--narinfo`, or by a `.narinfo` beside it.
fn declared(path: &Path, args: &VerifyArgs, asked: &Asked) -> Result<Option<NarInfo>> {
    if let Some(store_path) = &args.store_path {
        return by_options(path, store_path, args, asked).map(Some);
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".narinfo");
    let file = match &args.narinfo {
        Some(file) => file.clone(),
        None if Path::new(&beside).exists() => beside.into(),
        None => return Ok(None),
    };
    let subject = file.display().to_string();
    let text = read_document(open(&file)?, &subject)?;
    NarInfo::parse(&text, asked.dir()).within(|| subject).map(Some)
}

/// What the options leave out is taken as it is.
fn by_options(path: &Path, store_path: &str, args: &VerifyArgs, asked: &Asked) -> Result<NarInfo> {
    let (hash, bytes, compression) = look(path, asked.terms.limits.size)?;
    let signature = |text: &String| {
        Signature::parse(text).ok_or_else(|| Fault::usage(format!("--sig {text}: must be NAME:BASE64")))
    };
    let declared =
        args.nar_hash.as_ref().map(|hash| Hash::parse(hash, Some(Algorithm::Sha256))).transpose()?;
    let object = Object {
        path: asked.dir().parse(store_path)?,
        nar_hash: declared.unwrap_or(hash),
        nar_size: args.nar_size.unwrap_or(bytes.unpacked),
        references: args.references.iter().map(|path| asked.dir().parse(path)).collect::<Result<_>>()?,
        deriver: None,
        signatures: args.signatures.iter().map(signature).collect::<Result<_>>()?,
        ca: args.ca.as_ref().map(|ca| ContentAddress::parse(ca)).transpose()?,
    };
    let stored = Stored { name: path.display().to_string(), compression, hash: None, size: None };
    Ok(NarInfo { object, stored })
}

fn document(report: &Report, asked: &Asked) -> Value {
    let shown = |path: &StorePath| asked.dir().path(path);
    let object = |(info, proof): &(Object, Proof)| {
        let signer = match proof {
            Proof::Signature(key) => Some(key),
            _ => None,
        };
        json!({
            "path": shown(&info.path),
            "narHash": info.nar_hash.to_string(),
            "narSize": info.nar_size,
            "references": info.references.iter().map(shown).collect::<Vec<_>>(),
            "ca": info.ca.as_ref().map(ToString::to_string),
            "signedBy": signer,
            "proof": proof.word(),
        })
    };
    // The weakest of them is what holds for all.
    let weakest = ["none", "pinned", "content", "signature"]
        .into_iter()
        .find(|word| report.objects.iter().any(|(_, proof)| proof.word() == *word));
    json!({
        "ok": true,
        "kind": report.kind,
        "digest": report.digest.to_string(),
        "automaton": null,
        "declaration": null,
        "output": null,
        "trust": weakest.unwrap_or("none"),
        "objects": report.objects.iter().map(object).collect::<Vec<_>>(),
        "layers": [],
        "bytes": { "read": report.bytes.read, "unpacked": report.bytes.unpacked },
    })
}
