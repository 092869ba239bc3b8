//! Layers unpacked: the same trees as umoci makes, and what no layer may do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::layouts::*;
use crate::support::emergence;

/// A generator whose numbers are the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// What the layers so far come to: paths, and whether each is a directory (`d`), a file (`f`) or
/// something else.
type Model = BTreeMap<String, char>;

/// Type, path, link, bytes, mode and pax records.
type Random = (u8, String, String, Vec<u8>, u32, Vec<(String, Vec<u8>)>);

fn remove(model: &mut Model, path: &str) {
    let below = format!("{path}/");
    model.retain(|name, _| name != path && !name.starts_with(&below));
}

/// One layer of random entries over what is there.
fn layer(model: &mut Model, numbers: &mut Numbers) -> Vec<u8> {
    let lower = model.clone();
    let mut touched: BTreeSet<String> = BTreeSet::new();
    let mut members: Vec<Random> = Vec::new();
    for _ in 0..60 {
        let mut directories: Vec<String> =
            model.iter().filter(|(_, kind)| **kind == 'd').map(|(path, _)| format!("{path}/")).collect();
        directories.push(String::new());
        let path = format!("{}{}", numbers.of(&directories), numbers.of(&["a", "b", "c", "dé", "e f"]));
        let time = format!("{}.{:09}", numbers.below(2_000_000_000), numbers.below(1_000_000_000));
        let mut records = vec![("mtime".to_owned(), time.into_bytes())];
        let mode = *numbers.of(&[0o644, 0o755, 0o4755, 0o2711, 0o1777, 0o600]);
        let is_new = |path: &str, touched: &BTreeSet<String>| {
            !touched.iter().any(|other| other == path || other.starts_with(&format!("{path}/")))
        };
        match numbers.below(10) {
            0..=2 => {
                if model.get(&path) != Some(&'d') {
                    remove(model, &path);
                }
                model.insert(path.clone(), 'd');
                members.push((b'5', path.clone(), String::new(), vec![], mode, records));
            }
            3..=5 => {
                remove(model, &path);
                if numbers.below(3) == 0 {
                    records.push(("SCHILY.xattr.user.note".into(), b"a\nb\0c".to_vec()));
                }
                let bytes = vec![b'x'; numbers.below(3000)];
                model.insert(path.clone(), 'f');
                members.push((b'0', path.clone(), String::new(), bytes, mode, records));
            }
            6 => {
                remove(model, &path);
                model.insert(path.clone(), 'l');
                let target = *numbers.of(&["a", "/b/c", "../../../../etc", "none"]);
                members.push((b'2', path.clone(), target.into(), vec![], 0o777, records));
            }
            7 => {
                let below = format!("{path}/");
                let files: Vec<String> = model
                    .iter()
                    .filter(|(name, kind)| **kind == 'f' && **name != path && !name.starts_with(&below))
                    .map(|(name, _)| name.clone())
                    .collect();
                if files.is_empty() {
                    continue;
                }
                remove(model, &path);
                model.insert(path.clone(), 'f');
                let target = numbers.of(&files).clone();
                // Hidden by the same layer, it could not be found.
                touched.insert(target.clone());
                members.push((b'1', path.clone(), target, vec![], mode, vec![]));
            }
            8 => {
                remove(model, &path);
                model.insert(path.clone(), 'p');
                members.push((b'6', path.clone(), String::new(), vec![], mode, records));
            }
            _ => {
                let names: Vec<&String> = lower.keys().filter(|name| is_new(name, &touched)).collect();
                if names.is_empty() {
                    continue;
                }
                let gone = (*numbers.of(&names)).clone();
                let (directory, name) = gone.rsplit_once('/').map_or(("", gone.as_str()), |both| both);
                let slash = if directory.is_empty() { "" } else { "/" };
                // Only files that the layer has not replaced are removed, so that the model stays
                // right.
                if !model.contains_key(&gone) || (!directory.is_empty() && model.get(directory) != Some(&'d'))
                {
                    continue;
                }
                remove(model, &gone);
                members.push((
                    b'0',
                    format!("{directory}{slash}.wh.{name}"),
                    String::new(),
                    vec![],
                    0o644,
                    vec![],
                ));
                touched.insert(gone);
                continue;
            }
        }
        touched.insert(path);
    }
    let made: Vec<Made<'_>> = members
        .iter()
        .map(|(kind, path, link, bytes, mode, records)| Made {
            kind: *kind,
            path,
            link,
            bytes,
            mode: *mode,
            owner: (1000 + u64::from(*mode), 7),
            device: (0, 0),
            records: records.clone(),
        })
        .collect();
    tar_of(&made)
}

/// An image of four layers, each of which changes what is below it, and the names that it must have
/// in the end.
pub(crate) fn random(seed: u64) -> (Layout, Model) {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ (seed * 7919));
    let mut model = Model::new();
    let tars: Vec<Vec<u8>> = (0..4).map(|_| layer(&mut model, &mut numbers)).collect();
    (Layout::of(&tars), model)
}

fn run(program: &str, words: &[&str]) {
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The tree that we make of it in a new directory, as lines.
pub(crate) fn unpacked(reference: &str) -> Vec<String> {
    let outer = tempfile::tempdir().unwrap();
    let to = outer.path().join("root");
    let to_text = to.display().to_string();
    assert_eq!(emergence(&["unpack", reference, "--to", &to_text]).ok(), to_text);
    assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1);
    tree(&to)
}

/// The same without the root, whose own times are those of its making where no layer has it.
fn ours(reference: &str) -> Vec<String> {
    unpacked(reference)[1..].to_vec()
}

fn umocis(layout: &Path) -> Vec<String> {
    let outer = tempfile::tempdir().unwrap();
    let to = outer.path().join("root");
    run(
        "umoci",
        &["raw", "unpack", "--image", &format!("{}:t", layout.display()), &to.display().to_string()],
    );
    tree(&to)[1..].to_vec()
}

#[test]
fn random_layers_as_umoci_makes_them() {
    if !is_root() {
        return;
    }
    for seed in 1..=8 {
        let (layout, model) = random(seed);
        let made = ours(&layout.reference());
        assert_eq!(made, umocis(layout.root()), "seed {seed}");
        assert_eq!(made.len(), model.len(), "seed {seed}");
        // Other carriers of the same image give the same tree.
        if seed > 2 {
            continue;
        }
        let other = tempfile::tempdir().unwrap();
        let path = other.path().display();
        let (zstd, archive) = (format!("oci:{path}/zstd:t"), format!("oci-archive:{path}/a.tar:t"));
        let formats: [&[&str]; 2] = [&["--dest-compress-format", "zstd", &zstd], &[&archive]];
        for words in formats {
            run("skopeo", &[&["copy", "-q", &layout.reference()], words].concat());
            assert_eq!(made, ours(words[words.len() - 1]), "seed {seed} {words:?}");
        }
    }
}

#[test]
fn an_opaque_directory_hides_lower_layers_at_any_position() {
    let below = [
        made(b'5', "d"),
        file("d/old", b"1"),
        made(b'5', "d/sub"),
        file("d/sub/old", b"1"),
        made(b'5', "other"),
        file("other/kept", b"1"),
    ];
    for at in 0..3 {
        let mut above = vec![made(b'5', "d"), file("d/new", b"2")];
        above.insert(at, made(b'0', "d/.wh..wh..opq"));
        let layout = Layout::of(&[tar_of(&below), tar_of(&above)]);
        let names: Vec<String> =
            ours(&layout.reference()).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(names, ["d", "d/new", "other", "other/kept"], "{at}");
    }
}

#[test]
fn a_whiteout_spares_the_layers_own_and_goes_through_no_directory_that_the_layer_brings() {
    let below = [made(b'5', "real"), file("real/x", b"1"), link(b'2', "l", "real"), file("n", b"1")];
    let above = [made(b'5', "l"), made(b'0', "l/.wh.x"), file("n", b"2"), made(b'0', ".wh.n")];
    let layout = Layout::of(&[tar_of(&below), tar_of(&above)]);
    let lines = ours(&layout.reference());
    let names: Vec<&str> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["l", "n", "real", "real/x"]);
    // Through a link that stays, it reaches what the link leads to.
    let layout = Layout::of(&[tar_of(&below), tar_of(&[made(b'0', "l/.wh.x")])]);
    assert!(ours(&layout.reference()).iter().all(|line| !line.starts_with("real/x")));
}

/// A layer as engines over AUFS packed it: whiteouts are names of one file, and what AUFS keeps for
/// itself is there too.
#[test]
fn layers_of_aufs() {
    let below =
        [file("gone", b"1"), made(b'5', "d"), file("d/gone", b"2"), file("d/stays", b"3"), file("x", b"4")];
    let above = [
        file("./.wh..wh.aufs", b""),
        made(b'5', "./.wh..wh.orph/"),
        made(b'5', "./.wh..wh.plnk/"),
        file("./.wh..wh.plnk/12.34", b"5"),
        made(b'0', "./.wh.gone"),
        link(b'1', "./d/.wh.gone", "./.wh.gone"),
        made(b'3', "./.wh.x"),
    ];
    let layout = Layout::of(&[tar_of(&below), tar_of(&above)]);
    let lines = ours(&layout.reference());
    let names: Vec<&str> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["d", "d/stays"]);
}

#[test]
fn sparse_files_and_capabilities_and_devices() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let file = fs::File::create(at("sparse")).unwrap();
    file.set_len(6 << 20).unwrap();
    for block in 0..6 {
        std::os::unix::fs::FileExt::write_at(&file, b"data", (block << 20) - block * 7 + 4096).unwrap();
    }
    let long = "n".repeat(120);
    fs::write(at(&long), "long").unwrap();
    let contents = |lines: &[String]| -> Vec<String> {
        let word = |line: &String| line.split(' ').nth(6).unwrap().to_owned();
        lines.iter().map(word).collect()
    };
    let mut gnu = Vec::new();
    for format in [
        "--format=gnu",
        "--format=posix --sparse-version=0.0",
        "--format=posix --sparse-version=0.1",
        "--format=posix",
    ] {
        let tar = at("made.tar").display().to_string();
        let mut words: Vec<&str> = format.split(' ').collect();
        let inside = directory.path().display().to_string();
        words.extend(["--sparse", "-cf", &tar, "-C", &inside, "sparse", &long]);
        run("tar", &words);
        let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        let more = tar_of(&[
            Made {
                records: vec![("SCHILY.xattr.security.capability".into(), capability)],
                ..made(b'0', "ping")
            },
            Made { device: (1, 3), mode: 0o666, owner: (5, 6), ..made(b'3', "null") },
            Made { device: (7, 200), ..made(b'4', "loop") },
        ]);
        let layout = Layout::of(&[fs::read(&tar).unwrap(), more]);
        let lines = ours(&layout.reference());
        // umoci does not know GNU's kind, whose times have no fractions; its contents must be those
        // of the other kinds.
        if format == "--format=gnu" {
            gnu = contents(&lines);
        } else {
            assert_eq!(lines, umocis(layout.root()), "{format}");
            assert_eq!(contents(&lines), gnu, "{format}");
        }
        assert!(lines.iter().any(|line| line.contains("security.capability")));
        let to = at("out");
        emergence(&["unpack", &layout.reference(), "--to", &to.display().to_string()]).ok();
        let size = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(to.join("sparse")).unwrap()) * 512;
        assert!(size < 1 << 20, "{format}: {size} bytes on the disk");
        fs::remove_dir_all(to).unwrap();
    }
}

/// Each must be refused with its code, by `verify` (if that can know) and by `unpack`, and leave
/// nothing anywhere.
#[test]
fn hostile_layers() {
    let deep = "d/".repeat(300);
    let long = "n".repeat(256);
    let zeros = vec![0u8; 3000];
    let record = |key: &str, value: &[u8]| vec![(key.to_owned(), value.to_vec())];
    let table: Vec<(&str, &str, bool, Vec<Made<'_>>)> = vec![
        ("up", "layer.escape", true, vec![file("../up", b"x")]),
        ("up inside", "layer.escape", true, vec![made(b'5', "a"), file("a/../../up", b"x")]),
        (
            "up in pax",
            "layer.escape",
            true,
            vec![Made { records: record("path", b"a/../../up"), ..file("x", b"x") }],
        ),
        ("hard link up", "layer.escape", true, vec![link(b'1', "a", "../../../../etc/passwd")]),
        ("hard link to nothing", "layer.link", false, vec![link(b'1', "a", "/etc/passwd")]),
        (
            "hard link through a link",
            "layer.link",
            false,
            vec![link(b'2', "l", "/etc"), link(b'1', "a", "l/passwd")],
        ),
        ("hard link to the root", "layer.escape", false, vec![link(b'1', "a", "/")]),
        ("hard link to a directory", "layer.header", false, vec![made(b'5', "d"), link(b'1', "a", "d")]),
        ("loop", "layer.escape", false, vec![link(b'2', "l", "l"), file("l/x", b"x")]),
        ("below a file", "layer.header", false, vec![file("f", b""), file("f/x", b"x")]),
        ("a root that is a file", "layer.header", true, vec![file("./", b""), made(b'2', ".")]),
        ("bare whiteout", "layer.whiteout", true, vec![made(b'0', "a/.wh.")]),
        ("whiteout of ..", "layer.whiteout", true, vec![made(b'0', "a/.wh...")]),
        ("whiteout that is a directory", "layer.whiteout", true, vec![made(b'5', ".wh.a")]),
        ("below a whiteout", "layer.whiteout", true, vec![file(".wh.a/b", b"x")]),
        ("deep", "layer.header", true, vec![made(b'5', &deep)]),
        ("long", "layer.header", true, vec![file(&long, b"")]),
        ("no owner", "layer.header", true, vec![Made { owner: (u64::from(u32::MAX), 0), ..file("a", b"") }]),
        (
            "no group",
            "layer.header",
            true,
            vec![Made { records: record("gid", b"4294967295"), ..file("a", b"") }],
        ),
        ("unknown type", "layer.header", true, vec![made(b'V', "a")]),
        ("global path", "layer.header", true, vec![Made { bytes: b"9 path=b\n", ..made(b'g', "g") }]),
        ("fifo with bytes", "layer.header", true, vec![Made { bytes: &zeros, ..made(b'6', "a") }]),
        (
            "sparse past its end",
            "layer.header",
            true,
            vec![Made {
                records: vec![
                    ("GNU.sparse.size".into(), b"10".to_vec()),
                    ("GNU.sparse.map".into(), b"8,4".to_vec()),
                ],
                ..file("s", b"abcd")
            }],
        ),
        (
            "sparse and huge",
            "limit.size",
            true,
            vec![Made {
                records: vec![
                    ("GNU.sparse.size".into(), b"9000000000000000000".to_vec()),
                    ("GNU.sparse.map".into(), b"0,4".to_vec()),
                ],
                ..file("s", b"abcd")
            }],
        ),
    ];
    for (name, code, at_once, members) in &table {
        let layout = Layout::of(&[tar_of(members)]);
        let before = tree(layout.root());
        let place = tempfile::tempdir().unwrap();
        let to = place.path().join("root").display().to_string();
        let store = place.path().join("store").display().to_string();
        println!("{name}");
        if *at_once {
            emergence(&["verify", &layout.reference()]).refused(3, code);
        } else {
            emergence(&["verify", &layout.reference()]).ok();
        }
        emergence(&["unpack", &layout.reference(), "--to", &to]).refused(3, code);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "{name}");
        emergence(&["unpack", "--store", &store, &layout.reference()]).refused(3, code);
        for inner in ["layers", "tmp"] {
            let inner = place.path().join("store").join(inner);
            assert!(!inner.exists() || fs::read_dir(inner).unwrap().count() == 0, "{name}");
        }
        assert_eq!(before, tree(layout.root()), "{name}");
    }
}

#[test]
fn links_that_lead_out_stay_inside() {
    let place = tempfile::tempdir().unwrap();
    let outside = place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink("/etc", outside.join("l")).unwrap();
    let target = outside.display().to_string();
    let up = format!("../../../../../../../..{target}");
    let layout = Layout::of(&[
        tar_of(&[
            link(b'2', "absolute", &target),
            file("absolute/one", b"1"),
            link(b'2', "relative", &up),
            file("relative/two", b"2"),
            file("/absolute-name", b"3"),
            link(b'2', "file", "absolute-name"),
            file("file", b"4"),
        ]),
        tar_of(&[made(b'0', "absolute/.wh.l"), made(b'0', "relative/.wh..wh..opq")]),
    ]);
    let to = place.path().join("root");
    let before = tree(&outside);
    emergence(&["unpack", &layout.reference(), "--to", &to.display().to_string()]).ok();
    assert_eq!(before, tree(&outside));
    let inside = |path: &str| fs::read(to.join(path)).unwrap();
    assert_eq!(inside("absolute-name"), b"3");
    // The last name is never followed: what was a link is a file now.
    assert_eq!(inside("file"), b"4");
    let below = to.join(target.trim_start_matches('/'));
    assert_eq!(fs::read_dir(below).unwrap().count(), 0, "made inside, and hidden by the second layer");
}

#[test]
fn the_last_of_duplicate_names_counts() {
    let layout = Layout::of(&[tar_of(&[
        file("a", b"1"),
        made(b'5', "b"),
        file("b/x", b"1"),
        file("a", b"22"),
        file("b", b"3"),
    ])]);
    let lines = ours(&layout.reference());
    assert_eq!(lines.len(), 2, "{lines:?}");
    emergence(&["verify", "--strict", &layout.reference()]).refused(3, "layer.duplicate");
    let to = layout.path("out").display().to_string();
    emergence(&["unpack", "--strict", &layout.reference(), "--to", &to]).refused(3, "layer.duplicate");
    let once = Layout::of(&[tar_of(&[file("a", b"1")]), tar_of(&[file("a", b"2")])]);
    emergence(&["verify", "--strict", &once.reference()]).ok();
}

#[test]
fn existing_objects_are_left_alone() {
    let layout = Layout::of(&[tar_of(&[file("a", b"1")])]);
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("root");
    fs::create_dir(&to).unwrap();
    emergence(&["unpack", &layout.reference(), "--to", &to.display().to_string()])
        .fails(3, "already exists [store.exists]");
    assert_eq!(tree(place.path()).len(), 2);
    // In the store it is there once.
    let store = place.path().join("store").display().to_string();
    let words = ["unpack", "--store", &store, &layout.reference()];
    let first = emergence(&words).ok().to_owned();
    let again = emergence(&words);
    assert_eq!((again.status, again.stderr.as_str()), (0, "reused 1 of 1 layers\n"));
    assert_eq!(String::from_utf8_lossy(&again.stdout).trim_end(), first);
    assert_eq!(fs::read(Path::new(&first).join("a")).unwrap(), b"1");
    assert_eq!(fs::read_dir(place.path().join("store/tmp")).unwrap().count(), 0);
}
