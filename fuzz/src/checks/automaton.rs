//! Documents of automatons, and store layers: what is read is written again as it was.

use std::io::Read;

use emergence_runc::emergence::automaton::{Document, LayerReader, LayerWriter, bind, canonical};
use emergence_runc::emergence::nar::{Both, DEEPEST, Nothing};
use emergence_runc::emergence::{StoreDir, StorePath, USUAL_STORE, json};

use super::one_line;

pub fn check(bytes: &[u8]) {
    let dir = StoreDir::new(USUAL_STORE).expect("a store");
    if bytes.starts_with(b"nix/\0") {
        layer(bytes, &dir);
    } else {
        document(bytes, &dir);
    }
}

fn document(bytes: &[u8], dir: &StoreDir) {
    if let Ok(value) = json::parse(bytes, "x.json")
        && let Ok(text) = canonical(&value)
    {
        let again = json::parse(&text, "x.json").expect("what was written");
        assert_eq!(again, value);
        assert_eq!(canonical(&again).expect("as before"), text);
    }
    match Document::parse(bytes, "x.json", dir) {
        Err(fault) => one_line(&fault.to_string()),
        Ok(document) => {
            let text = document.canonical().expect("it was written already");
            assert_eq!(Document::parse(&text, "x.json", dir).expect("as before"), document);
            if let Err(fault) = bind(&document, &[]) {
                one_line(&fault.to_string());
            }
        }
    }
}

/// The names of the objects are taken from the layer itself, where headers have them.
fn layer(bytes: &[u8], dir: &StoreDir) {
    let mut paths: Vec<StorePath> = Vec::new();
    for block in bytes.chunks(512) {
        let name = block.split(|byte| *byte == 0 || *byte == b'\n').next().unwrap_or_default();
        let base = name.strip_prefix(b"nix/store/").and_then(|name| std::str::from_utf8(name).ok());
        let base = base.map(|base| base.trim_end_matches('/'));
        paths.extend(base.and_then(|base| StorePath::parse(base).ok()));
    }
    paths.sort();
    paths.dedup();
    let read = |mut input: &mut dyn Read| {
        let mut writer = LayerWriter::new(Vec::new(), dir).expect("memory");
        let mut reader = LayerReader::new(&mut input, dir, DEEPEST)?;
        for path in &paths {
            reader.object(path, &mut Both(writer.object(path), Nothing))?;
        }
        reader.finish().map(|()| writer.finish().expect("memory"))
    };
    match read(&mut &bytes[..]) {
        Ok(again) => assert!(again == bytes, "read, but written otherwise"),
        Err(fault) => one_line(&fault.to_string()),
    }
}
