//! Layers whose media types are wrong.

use emergence_runc::emergence::hash::Hash;

use crate::layouts::*;
use crate::support::emergence;

fn small() -> Vec<u8> {
    tar_of(&[made(b'5', "etc"), file("etc/motd", b"hello\n")])
}

/// In both directions, and between compressions; with a diffID that follows the type, or one that
/// follows the bytes.
#[test]
fn layers_whose_media_type_and_bytes_disagree() {
    let layout = Layout::new();
    let tar = small();
    let tar_id = Hash::sha256(&tar).to_string();
    let zipped_id = Hash::sha256(&gzip(&tar)).to_string();
    for (bytes, kind, id, words) in [
        (tar.clone(), "+gzip", &tar_id, "so it is not compressed"),
        (tar.clone(), "+zstd", &tar_id, "so it is not compressed"),
        (tar, "+gzip", &zipped_id, "its bytes are not in gzip"),
        (gzip(&small()), "", &tar_id, "its bytes are in gzip"),
        (gzip(&small()), "", &zipped_id, "its bytes are in gzip"),
        (gzip(&small()), "+zstd", &tar_id, "its bytes are in gzip"),
    ] {
        let (mut layer, _) = layout.plain(&bytes);
        layer["mediaType"] = format!("{LAYER}{kind}").into();
        layout.index(&[tagged(layout.image(&[(layer, id.clone())]), "t")]);
        for verb in ["verify", "unpack"] {
            let mut arguments = vec![verb.to_owned(), layout.reference()];
            if verb == "unpack" {
                arguments.extend(["--to".to_owned(), layout.path("out").display().to_string()]);
            }
            let answer = emergence(&arguments);
            answer.refused(3, "oci.media-type");
            answer.fails(3, words);
        }
    }
}
