//! `emergence nar`.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};

use super::common::{CommonOptions, missing, open};
use crate::cli::args::NarAction;
use crate::emergence::hash::Algorithm;
use crate::emergence::nar::{self, Entry, EntryKind, List, Nothing};
use crate::emergence::stream::{Buffer, HashThread, Hashing, Written};
use crate::emergence::{Fault, Result, Within, decompressed};
use crate::error::{Doing, Error};
use crate::sys::base64;

pub(super) fn nar(action: NarAction, options: &CommonOptions) -> Result<()> {
    match action {
        NarAction::Dump { path, output } => {
            dump(&path, output.as_deref(), options).within(|| "emergence nar dump")
        }
        NarAction::Restore { file, dest } => {
            let input =
                open(&file).and_then(|input| decompressed(input, &file, None, options.terms.limits.memory));
            let restored =
                input.and_then(|(input, _)| nar::restore(input, options.terms.limits.depth, &dest));
            restored.within(|| format!("emergence nar restore {}", file.display()))
        }
        NarAction::Ls { file } => {
            ls(&file, options).within(|| format!("emergence nar ls {}", file.display()))
        }
        NarAction::Cat { file, inner } => {
            cat(&file, &inner, options).within(|| format!("emergence nar cat {}", file.display()))
        }
        NarAction::Check { file } => {
            check(&file, options).within(|| format!("emergence nar check {}", file.display()))
        }
    }
}

/// A named output file is not created or replaced before the NAR is complete, if possible.
fn dump(path: &Path, output: Option<&Path>, options: &CommonOptions) -> Result<()> {
    let deepest = options.terms.limits.depth;
    std::fs::symlink_metadata(path).map_err(|error| missing(path, error))?;
    let Some(output) = output.filter(|output| *output != Path::new("-")) else {
        return written(path, deepest, io::stdout(), "standard output").map(drop);
    };
    let place = || output.display().to_string();
    let directory =
        output.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unnamed = rustix::fs::open(
        directory,
        OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o666),
    );
    match unnamed {
        Ok(file) if !output.exists() => {
            let file = written(path, deepest, File::from(file), &place())?;
            let number = std::os::fd::AsRawFd::as_raw_fd(&file);
            let follow = rustix::fs::AtFlags::SYMLINK_FOLLOW;
            let from = format!("/proc/self/fd/{number}");
            rustix::fs::linkat(rustix::fs::CWD, from, rustix::fs::CWD, output, follow).doing(place)?;
            Ok(())
        }
        // The file exists, and may be a device or a pipe; or the file system does not support
        // O_TMPFILE.
        _ => {
            let file =
                OpenOptions::new().write(true).create(true).truncate(true).open(output).doing(place)?;
            written(path, deepest, file, &place()).map(drop)
        }
    }
}

fn written<W: Write>(path: &Path, deepest: usize, out: W, place: &str) -> Result<W> {
    let mut buffer = Buffer::new(Written(out));
    nar::dump(path, deepest, &mut buffer)?;
    let Written(mut out) = buffer.finish().doing(|| format!("write {place}"))?;
    out.flush().doing(|| format!("write {place}"))?;
    Ok(out)
}

fn ls(file: &Path, options: &CommonOptions) -> Result<()> {
    let (input, _) = decompressed(open(file)?, file, None, options.terms.limits.memory)?;
    let mut out = BufWriter::new(io::stdout());
    // With JSON, the output is one object, written after all is read. As text, the entries take a
    // fraction of the memory.
    let mut objects = Vec::new();
    let mut list = List::new(|entry: Entry| {
        if options.json {
            objects.extend(if objects.is_empty() { "" } else { "," }.bytes());
            objects.extend(object(&entry).to_string().into_bytes());
            return Ok(());
        }
        out.write_all(&line(&entry)).doing(|| "write to standard output").map_err(Fault::from)
    });
    nar::read(input, options.terms.limits.depth, &mut list)?;
    drop(list);
    if options.json {
        let parts: [&[u8]; 3] = [b"{\"entries\":[", &objects, b"]}\n"];
        parts.iter().try_for_each(|part| out.write_all(part)).doing(|| "write to standard output")?;
    }
    out.flush().doing(|| "write to standard output").map_err(Fault::from)
}

fn line(entry: &Entry) -> Vec<u8> {
    let (letter, size, target) = match &entry.kind {
        EntryKind::Directory => ('d', 0, None),
        EntryKind::File { executable: true, size } => ('x', *size, None),
        EntryKind::File { executable: false, size } => ('f', *size, None),
        EntryKind::Symlink { target } => ('l', target.len() as u64, Some(target)),
    };
    let mut line = format!("{letter} {size} ").into_bytes();
    line.extend(on_one_line(&entry.path));
    if let Some(target) = target {
        line.extend(b" -> ");
        line.extend(on_one_line(target));
    }
    line.push(b'\n');
    line
}

/// A name on one line: control characters are written as `\xNN`, and so is a backslash before them.
fn on_one_line(name: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(name.len());
    for byte in name {
        if byte.is_ascii_control() || *byte == b'\\' {
            text.extend(format!("\\x{byte:02x}").into_bytes());
        } else {
            text.push(*byte);
        }
    }
    text
}

fn object(entry: &Entry) -> Value {
    let mut object = match &entry.kind {
        EntryKind::Directory => json!({ "type": "directory" }),
        EntryKind::File { executable, size } => {
            json!({ "type": "regular", "executable": executable, "size": size })
        }
        EntryKind::Symlink { target } => text("symlink", "target", target),
    };
    let path = text("", "path", &entry.path);
    if let (Some(object), Value::Object(path)) = (object.as_object_mut(), path) {
        object.extend(path.into_iter().filter(|(key, _)| key != "type"));
    }
    object
}

/// Bytes that are not UTF-8 are encoded in base64 under another key.
fn text(kind: &str, key: &str, bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!({ "type": kind, key: text }),
        Err(_) => json!({ "type": kind, format!("{key}Base64"): base64::encode(bytes) }),
    }
}

fn cat(file: &Path, inner: &Path, options: &CommonOptions) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let (input, _) = decompressed(open(file)?, file, None, options.terms.limits.memory)?;
    let mut out = io::stdout();
    nar::cat(input, options.terms.limits.depth, inner.as_os_str().as_bytes(), &mut out)?;
    out.flush().doing(|| "write to standard output").map_err(Fault::from)
}

fn check(file: &Path, options: &CommonOptions) -> Result<()> {
    let (input, _) = decompressed(open(file)?, file, None, options.terms.limits.memory)?;
    let thread = HashThread::start(Algorithm::Sha256).doing(|| "start a thread")?;
    let mut input = Hashing::new(input, thread);
    nar::read(Read::by_ref(&mut input), options.terms.limits.depth, &mut Nothing)?;
    let (hash, size) = input.finish().map_err(|error| Fault::from(Error::from(error).within("hash")))?;
    options.answer(&format!("{hash} {size}"), || json!({ "narHash": hash.to_string(), "narSize": size }))
}
