//! One artifact gets one verdict, whatever the store holds: a name that the artifact merely claims
//! is no shortcut.

use std::fs;
use std::path::Path;

use emergence_runc::emergence::hash::Hash;

use crate::layouts::*;
use crate::stacks::place;
use crate::support::emergence;

/// The layers of which stores hold each subset.
fn tars() -> [Vec<u8>; 3] {
    let program = |text: &'static [u8]| tar_of(&[made(b'5', "bin"), file("bin/sh", text)]);
    [program(b"A"), program(b"B"), tar_of(&[file("bin/.wh.sh", b""), file("c", b"C")])]
}

/// Status and code: what a user of the program learns.
type Verdict = (i32, String);

fn verdict(store: &Path, words: &[&str]) -> Verdict {
    let answer = emergence(&[&["--store", store.to_str().unwrap()], words].concat());
    let code = answer.stderr.trim_end().rsplit_once('[').map_or("", |(_, code)| code);
    (answer.status, if answer.status == 0 { String::new() } else { code.to_owned() })
}

/// Imports in both forms, each from blobs that the store may know.
fn verdicts(store: &Path, layout: &Layout) -> [Verdict; 2] {
    let bundle = store.with_file_name("bundle");
    let reference = layout.reference();
    let bundle_words = ["bundle", "--rootfs", "bind", &reference, bundle.to_str().unwrap(), "--", "/bin/sh"];
    let found = [verdict(store, &["unpack", &reference]), verdict(store, &bundle_words)];
    if bundle.exists() {
        fs::remove_dir_all(&bundle).unwrap();
    }
    found
}

/// An image with one layer changed by `change`, which gets the layout and the true layer.
fn with_layer(at: usize, change: impl Fn(&Layout, Layer) -> Layer) -> Layout {
    let layout = Layout::new();
    let mut layers: Vec<Layer> = tars().iter().map(|tar| layout.gzipped(tar)).collect();
    layers[at] = change(&layout, layers[at].clone());
    let manifest = layout.image(&layers);
    layout.index(&[tagged(manifest, "t")]);
    layout
}

fn blob_of(layout: &Layout, layer: &Layer) -> std::path::PathBuf {
    layout
        .path(&format!("blobs/sha256/{}", layer.0["digest"].as_str().unwrap().trim_start_matches("sha256:")))
}

/// Images that an empty store refuses, with the code.
fn false_images(at: usize) -> Vec<(&'static str, &'static str, Layout)> {
    let gzip_type = format!("{LAYER}+gzip");
    let of = |bytes: Vec<u8>, media_type: &str| {
        with_layer(at, |layout, (_, id)| (layout.blob(media_type, &bytes), id))
    };
    let true_blob = || gzip(&tars()[at]);
    let other = tar_of(&[file("evil", b"E")]);
    vec![
        ("another layer's blob", "oci.diff-id]", of(gzip(&other), &gzip_type)),
        ("the blob of the next layer", "oci.diff-id]", of(gzip(&tars()[(at + 1) % 3]), &gzip_type)),
        ("another tar, not compressed", "oci.diff-id]", of(other, LAYER)),
        ("bytes after the stream", "", of([true_blob(), b"more".to_vec()].concat(), &gzip_type)),
        ("a cut stream", "", of(true_blob()[..true_blob().len() - 9].to_vec(), &gzip_type)),
        ("a stream of the wrong type", "", of(true_blob(), &format!("{LAYER}+zstd"))),
        (
            "bytes after the blob's end",
            "blob.size]",
            with_layer(at, |layout, layer| {
                let blob = blob_of(layout, &layer);
                let longer = [fs::read(&blob).unwrap(), b"more".to_vec()].concat();
                fs::write(&blob, longer).unwrap();
                layer
            }),
        ),
        (
            "a missing blob of which nothing is known",
            "blob.missing]",
            with_layer(at, |layout, (_, id)| {
                let layer = (layout.blob(&gzip_type, b"unknown"), id);
                fs::remove_file(blob_of(layout, &layer)).unwrap();
                layer
            }),
        ),
    ]
}

/// A store that holds the image of these layers, as layers or as one tree.
fn store_with(subset: usize, as_tree: bool) -> tempfile::TempDir {
    let place = place();
    let held: Vec<Vec<u8>> =
        tars().into_iter().enumerate().filter(|(at, _)| subset & 1 << at != 0).map(|(_, tar)| tar).collect();
    if !held.is_empty() {
        let layout = Layout::of(&held);
        let store = place.path().join("store");
        let found = verdicts(&store, &layout);
        assert_eq!(found, [(0, String::new()), (0, String::new())]);
        // Remove the other form.
        for entry in fs::read_dir(store.join("layers")).unwrap().flatten() {
            let is_tree = entry.file_name().to_str().unwrap().ends_with(".tree");
            if held.len() > 1 && is_tree != as_tree {
                fs::remove_dir_all(entry.path()).unwrap();
            }
        }
    }
    place
}

#[test]
fn the_store_does_not_change_the_verdict_of_an_image() {
    if !is_root() {
        return;
    }
    let images: Vec<_> = (0..3).flat_map(false_images).collect();
    let wanted: Vec<_> = images
        .iter()
        .map(|(what, code, layout)| {
            let place = place();
            let found = verdicts(&place.path().join("store"), layout);
            assert!(found.iter().all(|one| one.0 != 0 && one.1.starts_with(code)), "{what}: {found:?}");
            found
        })
        .collect();
    let truth = Layout::of(&tars());
    for (subset, as_tree) in (0..8).flat_map(|subset| [(subset, false), (subset, true)]) {
        let place = store_with(subset, as_tree);
        let store = place.path().join("store");
        for ((what, _, layout), want) in images.iter().zip(&wanted) {
            let held = format!("{what}; the store has layers {subset:03b}, tree: {as_tree}");
            assert_eq!(verdicts(&store, layout), *want, "{held}");
            let root = verdict(&store, &["root", "add", "mine", &layout.reference()]);
            assert_ne!(root.0, 0, "{held}");
        }
        assert_eq!(verdicts(&store, &truth), [(0, String::new()), (0, String::new())]);
    }
}

/// Another compression of the same layers is read once; from then on the store knows it.
#[test]
fn a_new_blob_of_a_stored_layer_is_decompressed_once() {
    let place = store_with(0b111, true);
    let store = place.path().join("store");
    let layout = Layout::new();
    let layers: Vec<Layer> =
        tars().iter().map(|tar| (layout.blob(LAYER, tar), Hash::sha256(tar).to_string())).collect();
    let stored: Vec<Layer> = tars()
        .iter()
        .map(|tar| {
            // Two members, so that the bytes differ from those that the store knows.
            let halves = tar.split_at(512);
            let bytes = [gzip(halves.0), gzip(halves.1)].concat();
            (layout.blob(&format!("{LAYER}+gzip"), &bytes), Hash::sha256(tar).to_string())
        })
        .collect();
    let (plain, other) = (layout.image(&layers), layout.image(&stored));
    layout.index(&[tagged(plain, "plain"), tagged(other, "t")]);
    let needed = |tag: &str| {
        let reference = format!("oci:{}:{tag}", layout.root().display());
        let answer = emergence(&["--store", store.to_str().unwrap(), "need", &reference]);
        answer.ok().lines().count()
    };
    // Blob and tar are the same bytes: the digest is the diffID.
    assert_eq!(needed("plain"), 0);
    assert_eq!(needed("t"), 4);
    assert_eq!(verdicts(&store, &layout), [(0, String::new()), (0, String::new())]);
    assert_eq!(needed("t"), 0);
    for layer in &stored {
        fs::remove_file(blob_of(&layout, layer)).unwrap();
    }
    assert_eq!(verdicts(&store, &layout), [(0, String::new()), (0, String::new())]);
    // The records go with the layers.
    emergence(&["--store", store.to_str().unwrap(), "gc"]).ok();
    assert_eq!(fs::read_dir(store.join("layer-blobs")).unwrap().count(), 0);
}
