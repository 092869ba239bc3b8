//! Store layers: the bytes of the vectors, back to the same trees, and nothing else.

use std::fs;

use emergence_runc::emergence::automaton::{LayerReader, LayerWriter};
use emergence_runc::emergence::nar::{self, Nothing, Visitor};
use emergence_runc::emergence::{Code, Fault, StoreDir, StorePath};

use crate::support::{each, text, vector, vectors};

/// The calls that a visitor gets.
#[derive(Default)]
struct Told(Vec<String>, usize);

type Done = Result<(), Fault>;

impl Told {
    fn note(&mut self, what: &str, name: &[u8], more: &[u8]) -> Done {
        self.0.push(format!("{what} {} {}", name.escape_ascii(), more.escape_ascii()));
        Ok(())
    }
}

impl Visitor for Told {
    fn directory(&mut self, name: &[u8]) -> Done {
        self.note("d", name, b"")
    }

    fn leave(&mut self) -> Done {
        self.note("leave", b"", b"")
    }

    fn file(&mut self, name: &[u8], executable: bool, size: u64) -> Done {
        self.note("f", name, format!("{executable} {size}").as_bytes())?;
        self.1 = self.0.len();
        self.0.push(String::new());
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Done {
        let at = self.1;
        self.0[at] += &bytes.escape_ascii().to_string();
        Ok(())
    }

    fn end_file(&mut self) -> Done {
        self.note("end", b"", b"")
    }

    fn symlink(&mut self, name: &[u8], target: &[u8]) -> Done {
        self.note("l", name, target)
    }
}

fn told(nar: &[u8]) -> Vec<String> {
    let mut told = Told::default();
    nar::read(nar, nar::DEEPEST, &mut told).unwrap();
    told.0
}

fn write(objects: &[(StorePath, Vec<u8>)], dir: &StoreDir) -> Vec<u8> {
    let mut layer = LayerWriter::new(Vec::new(), dir).unwrap();
    for (path, nar) in objects {
        nar::read(&nar[..], nar::DEEPEST, &mut layer.object(path)).unwrap();
    }
    layer.finish().unwrap()
}

fn read(tar: &[u8], paths: &[StorePath], dir: &StoreDir) -> Result<Vec<Vec<String>>, Fault> {
    let mut reader = LayerReader::new(tar, dir, nar::DEEPEST)?;
    let mut all = Vec::new();
    for path in paths {
        let mut told = Told::default();
        reader.object(path, &mut told)?;
        all.push(told.0);
    }
    reader.finish()?;
    Ok(all)
}

/// A file's, a link's or a directory's node as a NAR has it.
fn strings(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in words {
        bytes.extend((word.len() as u64).to_le_bytes());
        bytes.extend(*word);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}

#[test]
fn the_bytes_of_the_vectors() {
    let dir = StoreDir::default();
    for layer in each(&vectors("layers")) {
        let objects: Vec<(StorePath, Vec<u8>)> = each(&layer["objects"])
            .iter()
            .map(|object| {
                let nar = fs::read(vector(&format!("nars/{}.nar", text(&object["tree"])))).unwrap();
                (dir.parse(text(&object["path"])).unwrap(), nar)
            })
            .collect();
        let tar = write(&objects, &dir);
        assert_eq!(tar, fs::read(vector(text(&layer["file"]))).unwrap(), "{}", layer["name"]);
        assert_eq!(tar.len() as u64, layer["size"]);
        let paths: Vec<StorePath> = objects.iter().map(|(path, _)| path.clone()).collect();
        let want: Vec<_> = objects.iter().map(|(_, nar)| told(nar)).collect();
        assert_eq!(read(&tar, &paths, &dir).unwrap(), want, "{}", layer["name"]);
        // tar(1) reads them too.
        let listed = std::process::Command::new("tar").arg("-tf").arg(vector(text(&layer["file"]))).output();
        assert!(listed.unwrap().status.success());
    }
}

#[test]
fn all_kinds_of_trees_in_a_nar() {
    let dir = StoreDir::new("/gnu/a/store").unwrap();
    let path = StorePath::parse("7fnzwr4fvvmdl8b3vkrfyjczwiwv6n42-x").unwrap();
    let mut nars: Vec<Vec<u8>> = Vec::new();
    for entry in fs::read_dir(vector("nars")).unwrap().flatten() {
        nars.push(fs::read(entry.path()).unwrap());
    }
    // Names and targets about as long as a header's field, and far longer.
    for length in 1..=255_usize {
        let name = vec![if length % 3 == 0 { b'\xff' } else { b'n' }; length];
        let target = vec![
            if length % 5 == 0 { b'\xfe' } else { b't' };
            if length > 200 { length * 16 } else { length }
        ];
        let open: [&[u8]; 4] = [b"nix-archive-1", b"(", b"type", b"directory"];
        let entry: [&[u8]; 10] =
            [b"entry", b"(", b"name", &name, b"node", b"(", b"type", b"symlink", b"target", &target];
        nars.push(strings(&[&open[..], &entry, &[b")", b")", b")"]].concat()));
    }
    for nar in nars {
        let tar = write(&[(path.clone(), nar.clone())], &dir);
        let read = read(&tar, std::slice::from_ref(&path), &dir).unwrap();
        assert_eq!(read, [told(&nar)]);
    }
}

#[test]
fn non_canonical_forms_are_refused() {
    let dir = StoreDir::default();
    let layers = vectors("layers");
    let refused = |tar: &[u8], paths: &[StorePath], what: &str| match read(tar, paths, &dir) {
        Err(fault) => {
            assert_eq!(fault.code(), Some(Code::LayerNotCanonical), "{what}: {fault}");
            assert_eq!(fault.to_string().lines().count(), 1);
        }
        Ok(_) => panic!("{what} is taken"),
    };
    for layer in each(&layers) {
        let tar = fs::read(vector(text(&layer["file"]))).unwrap();
        let paths: Vec<StorePath> =
            each(&layer["objects"]).iter().map(|object| dir.parse(text(&object["path"])).unwrap()).collect();
        let want = read(&tar, &paths, &dir).unwrap();
        for at in 0..tar.len() {
            let mut bad = tar.clone();
            bad[at] ^= 1;
            // Either it is no such layer, or it holds another tree.
            match read(&bad, &paths, &dir) {
                Err(fault) => assert_eq!(fault.code(), Some(Code::LayerNotCanonical), "byte {at}: {fault}"),
                Ok(read) => assert_ne!(read, want, "byte {at}"),
            }
        }
        for length in (0..tar.len()).step_by(100) {
            refused(&tar[..length], &paths, "a part");
        }
        refused(&[&tar[..], &[0]].concat(), &paths, "one byte more");
        refused(&[&tar[..], &[0; 512]].concat(), &paths, "one block more");
        refused(&tar, &[], "no object");
        refused(&tar, &[&paths[..], &paths[..1]].concat(), "an object twice");
        let blocks: Vec<&[u8]> = tar.chunks(512).collect();
        let without = |at: usize| [&blocks[..at], &blocks[at + 1..]].concat().concat();
        let twice = |at: usize| [&blocks[..=at], &blocks[at..]].concat().concat();
        for at in 0..blocks.len() - 2 {
            let (less, more) = (without(at), twice(at));
            for (bad, what) in [(less, "less"), (more, "more")] {
                // A link is one block: without it, this is the layer of another tree.
                assert!(read(&bad, &paths, &dir).ok() != Some(want.clone()), "block {at} {what}");
            }
        }
    }
    let two = fs::read(vector("layers/two.tar")).unwrap();
    let [first, second] =
        ["i9pmrzmpshapij2kin22pff6fc2adavx-hello.txt", "vhm14mqv1z8hl8qrg4v7zd1rqly2ki3k-run.sh"]
            .map(|base| StorePath::parse(base).unwrap());
    let parts = [&two[..1024], &two[2048..3072], &two[1024..2048], &two[3072..]].concat();
    refused(&parts, &[first.clone(), second.clone()], "the other order");
    let mut reader = LayerReader::new(&two[..], &dir, nar::DEEPEST).unwrap();
    reader.object(&first, &mut Nothing).unwrap();
    assert_eq!(reader.finish().unwrap_err().code(), Some(Code::LayerNotCanonical));
}
