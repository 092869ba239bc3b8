//! Tars of all kinds, and invalid ones.

use super::*;

/// Type, name, bytes, and pax records before it.
type Made<'a> = (u8, &'a str, &'a [u8], &'a [(&'a str, &'a [u8])]);

/// A tar of these members.
fn made(members: &[Made<'_>]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (kind, name, bytes, records) in members {
        if !records.is_empty() {
            builder.append_pax_extensions(records.iter().copied()).unwrap();
        }
        let mut header = ::tar::Header::new_gnu();
        header.set_entry_type(::tar::EntryType::new(*kind));
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_uid(1);
        header.set_gid(2);
        header.set_mtime(3);
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Recomputes the checksum of the first header.
fn sum(tar: &mut [u8]) {
    tar[148..156].fill(b' ');
    let sum: u32 = tar[..512].iter().map(|byte| u32::from(*byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Each member with its bytes.
fn read(bytes: &[u8]) -> Result<Vec<(Member, Vec<u8>)>> {
    let mut members = Members::new(Streamed::new(bytes));
    let mut found = Vec::new();
    while let Some(member) = members.advance()? {
        let mut content = Vec::new();
        let mut room = [0; 100];
        loop {
            match members.read(&mut room)? {
                0 => break,
                got => content.extend_from_slice(&room[..got]),
            }
        }
        found.push((member, content));
    }
    Ok(found)
}

fn words(bytes: &[u8]) -> String {
    let fault = read(bytes).unwrap_err();
    assert_eq!(fault.code(), Some(Code::LayerHeader), "{fault}");
    fault.to_string()
}

#[test]
fn long_names_of_both_kinds() {
    let long = "d/".repeat(150) + "f";
    let tar = made(&[
        (b'L', "././@LongLink", format!("{long}\0").as_bytes(), &[]),
        (b'0', "cut", b"hello", &[]),
        (b'0', "cut", b"", &[("path", long.as_bytes()), ("mtime", b"5.25"), ("uid", b"70000")]),
        (b'0', "last", b"x", &[]),
    ]);
    let found = read(&tar).unwrap();
    assert_eq!(found[0].0.path, long.as_bytes());
    assert_eq!(found[0].1, b"hello");
    assert_eq!((found[1].0.path.as_slice(), found[1].0.mtime), (long.as_bytes(), (5, 250_000_000)));
    assert_eq!((found[1].0.uid, found[1].0.gid), (70000, 2));
    assert_eq!((found[2].0.path.as_slice(), found[2].0.uid, found[2].0.mtime), (&b"last"[..], 1, (3, 0)));
}

#[test]
fn sparse_files_of_pax() {
    let map = b"2\n0\n3\n1000\n2\n";
    let mut data = map.to_vec();
    data.resize(512, 0);
    data.extend(b"abcde");
    let tar = made(&[
        (
            b'0',
            "GNUSparseFile.0/f",
            b"abcde",
            &[("GNU.sparse.name", b"f"), ("GNU.sparse.size", b"2000"), ("GNU.sparse.map", b"0,3,1000,2")],
        ),
        (
            b'0',
            "GNUSparseFile.0/f",
            &data,
            &[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"f"),
                ("GNU.sparse.realsize", b"2000"),
            ],
        ),
    ]);
    let extents = vec![Extent { offset: 0, length: 3 }, Extent { offset: 1000, length: 2 }];
    for (member, bytes) in read(&tar).unwrap() {
        assert_eq!((member.path.as_slice(), member.size), (&b"f"[..], 2000));
        assert_eq!((member.sparse.as_ref(), bytes.as_slice()), (Some(&extents), &b"abcde"[..]));
    }
    for map in ["0,3,1,2", "0,3,1999,2", "0,3,1000,3", "0,3,1000", "18446744073709551615,5"] {
        let records: &[(&str, &[u8])] =
            &[("GNU.sparse.name", b"f"), ("GNU.sparse.size", b"2000"), ("GNU.sparse.map", map.as_bytes())];
        assert!(words(&made(&[(b'0', "x", b"abcde", records)])).contains("sparse"), "{map}");
    }
}

#[test]
fn invalid_tars() {
    let good = made(&[(b'0', "a", b"hello", &[])]);
    assert_eq!(read(&good[..1024]).unwrap().len(), 1, "the two blocks at the end may be missing");
    for cut in [517, 600, 1023] {
        assert_eq!(
            read(&good[..cut]).unwrap()[0].1,
            b"hello",
            "as may the padding of the last member: {cut}"
        );
    }
    for cut in [1, 511, 513, 516, 1025] {
        assert!(read(&good[..cut]).is_err(), "{cut}");
    }
    let mut wrong = good.clone();
    wrong[0] ^= 1;
    assert!(words(&wrong).contains("checksum"));
    assert!(words(&made(&[(b'6', "a", b"hello", &[])])).contains("not a file"));
    assert!(words(&made(&[(b'V', "a", b"", &[])])).contains("type"));
    assert!(words(&made(&[(b'g', "g", b"14 path=a/b/c\n", &[]), (b'0', "a", b"", &[])])).contains("global"));
    assert!(words(&made(&[(b'L', "a", b"n\0", &[])])).contains("without its member"));
    assert!(words(&made(&[(b'0', "a", b"", &[("path", b"a\0b")])])).contains("NUL"));
    let mut behind = good[..1024].to_vec();
    behind.extend([0; 512]);
    behind.extend(&good);
    assert!(words(&behind).contains("zeros"));
}

#[test]
fn a_comment_for_all_is_nothing() {
    let tar = made(&[(b'g', "pax_global_header", b"13 comment=x\n", &[]), (b'0', "a", b"", &[])]);
    assert_eq!(read(&tar).unwrap().len(), 1);
}

#[test]
fn separate_directory_entries_of_one_name() {
    let name = |magic: &[u8; 8], directories: &[u8], end: &[u8; 4]| {
        let mut tar = made(&[(b'0', "f", b"", &[])]);
        tar[257..265].copy_from_slice(magic);
        tar[345..345 + directories.len()].copy_from_slice(directories);
        tar[508..512].copy_from_slice(end);
        sum(&mut tar);
        String::from_utf8(read(&tar).unwrap()[0].0.path.clone()).unwrap()
    };
    let none = [0; 4];
    for version in [b"00", b"  ", b"\0\0"] {
        let magic = [b"ustar\0".as_slice(), version].concat().try_into().unwrap();
        assert_eq!(name(&magic, b"a/b", &none), "a/b/f", "{version:?}");
    }
    let long = [b"d".repeat(131), b"00000000012\x0000000000013\0".to_vec()].concat();
    assert_eq!(name(b"ustar\x0000", &long, b"tar\0"), format!("{}/f", "d".repeat(131)));
    assert_eq!(name(b"ustar  \0", b"a/b", &none), "a/b/f", "as Go before 1.8 wrote it");
    assert_eq!(name(b"ustar  \0", b"00000000012\x0000000000013\0", &none), "f", "times of GNU's");
    assert_eq!(name(b"ustar  \0", b"a/\xff", &none), "f", "nor is that a name");
    assert_eq!(name(&[0; 8], b"a/b", &none), "f");
}

#[test]
fn sizes_that_count_no_bytes() {
    let mut tar = made(&[
        (b'1', "link", b"", &[]),
        (b'5', "directory", b"", &[("size", b"4096")]),
        (b'0', "f", b"x", &[]),
    ]);
    tar.get_mut(124..135).unwrap().copy_from_slice(b"00000000005");
    sum(&mut tar);
    let sizes: Vec<_> =
        read(&tar).unwrap().iter().map(|(member, bytes)| (member.size, bytes.len())).collect();
    assert_eq!(sizes, [(0, 0), (0, 0), (1, 1)]);
    assert!(
        words(&made(&[(b'2', "a", b"x", &[])])).contains("not a file"),
        "of links some readers count them"
    );
}

#[test]
fn directories_before_there_were_types() {
    let mut tar = made(&[(b'0', "a/", b"x", &[])]);
    assert_eq!(read(&tar).unwrap()[0].0.kind, MemberKind::File, "as it says, and as engines make it");
    tar[156] = 0;
    tar[124..136].fill(b'0');
    sum(&mut tar);
    assert_eq!(read(&tar[..512]).unwrap()[0].0.kind, MemberKind::Directory);
}

#[test]
fn global_records() {
    let with = |record: &str| read(&made(&[(b'g', "g", record.as_bytes(), &[]), (b'0', "a", b"", &[])]));
    for harmless in ["13 comment=x\n", "11 gname=x\n", "22 GNU.volume.label=x\n"] {
        assert_eq!(with(harmless).unwrap().len(), 1, "{harmless}");
    }
    for other in [
        "9 uid=1\n",
        "12 mtime=12\n",
        "23 SCHILY.xattr.user.a=\n",
        "11 comment=x\n",
        "25 GNU.volume.filename=a\n",
    ] {
        assert!(with(other).is_err(), "{other}");
    }
}
