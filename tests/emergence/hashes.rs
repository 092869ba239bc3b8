//! `hash`.

use serde_json::Value;

use crate::support::{each, emergence, emergence_with, text, trees, vector, vectors};

#[test]
fn trees_and_files_have_the_hashes_that_nix_gives_them() {
    let directory = trees();
    let hashes = vectors("hashes");
    for each in each(&hashes) {
        let path = directory.path().join(text(&each["tree"]));
        let path = path.to_str().unwrap();
        let method = format!("--{}", text(&each["mode"]));
        for algorithm in ["md5", "sha1", "sha256", "sha512"] {
            let want = format!("{algorithm}:{}", text(&each[algorithm]));
            assert_eq!(emergence(&["hash", &method, "--algo", algorithm, path]).ok(), want, "{each}");
        }
        let hex = text(&each["sha256"]);
        for (format, want) in [
            ("nix32", text(&each["sha256_nix32"])),
            ("sri", text(&each["sri"])),
            ("base16", hex),
            ("base64", text(&each["sri"]).strip_prefix("sha256-").unwrap()),
        ] {
            assert_eq!(emergence(&["hash", &method, path, "--format", format]).ok(), want, "{each}");
        }
        if method == "--nar" {
            assert_eq!(emergence(&["hash", path]).ok(), format!("sha256:{hex}"));
        }
    }
}

#[test]
fn nix32_encodes_the_same_bytes() {
    for each in each(&vectors("base32")) {
        let (hex, nix32) = (text(&each["hex"]), text(&each["nix32"]));
        let Some(algorithm) = [(32, "md5"), (40, "sha1"), (64, "sha256"), (128, "sha512")]
            .into_iter()
            .find_map(|(length, name)| (hex.len() == length).then_some(name))
        else {
            continue;
        };
        let convert = |hash: &str, format: &str| {
            emergence(&["hash", "--convert", hash, "--algo", algorithm, "--format", format]).ok().to_owned()
        };
        assert_eq!(convert(hex, "nix32"), nix32);
        assert_eq!(convert(nix32, "base16"), hex);
        assert_eq!(convert(&convert(hex, "sri"), "oci"), format!("{algorithm}:{hex}"));
        assert_eq!(convert(&format!("{algorithm}:{nix32}"), "base64"), convert(hex, "base64"));
    }
}

#[test]
fn standard_input_is_hashed_as_bytes() {
    let file = std::fs::File::open(vector("nars/order.nar")).unwrap();
    let path = vector("nars/order.nar");
    let named = emergence(&["hash", "--flat", path.to_str().unwrap()]);
    assert_eq!(emergence_with(&["hash", "-"], file).ok(), named.ok());
    emergence(&["hash", "--nar", "-"]).fails(2, "standard input has no NAR");
}

#[test]
fn unhashable_input_is_reported_in_one_line() {
    emergence(&["hash", "/none/such"]).fails(4, "/none/such");
    emergence(&["hash", "--flat", "/none/such"]).fails(4, "/none/such");
    emergence(&["hash", "--flat", "/"]).fails(1, "read /");
    emergence(&["hash", "/dev/null"]).refused(3, "type.unknown");
    emergence(&["hash"]).fails(2, "path");
    emergence(&["hash", "--bogus", "/"]).fails(2, "not defined: -bogus");
    emergence(&["hash", "--algo", "sha3", "/"]).fails(2, "sha3");
    emergence(&["hash", "--convert", "sha256:00"]).refused(3, "hash.syntax");
    emergence(&["--store-dir", "nix", "hash", "/dev"]).fails(2, "--store-dir nix");
}

#[test]
fn json_holds_the_same() {
    let directory = trees();
    let path = directory.path().join("hello.txt");
    let path = path.to_str().unwrap();
    let plain = emergence(&["hash", path]);
    let answer: Value = serde_json::from_str(emergence(&["hash", "--json", path]).ok()).unwrap();
    assert_eq!(answer["hash"], plain.ok());
    let refused = emergence(&["--json", "hash", "--convert", "x"]);
    refused.fails(3, "hash.syntax");
    let answer: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(answer["ok"], false);
    assert_eq!(answer["error"]["code"], "hash.syntax");
    assert_eq!(answer["error"]["subject"], "x");
}
