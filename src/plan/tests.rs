//! Tests the validation with whole documents: good, bad, and mutated.

use super::*;

/// The request of every plan in tests.
pub(super) fn ask() -> Ask<'static> {
    Ask {
        id: "x",
        bundle: Path::new("/bundle"),
        no_pivot: false,
        new_keyring: true,
        passed: &passed::NOTHING,
    }
}

/// A host where everything is allowed.
pub(super) fn host() -> Host {
    Host {
        euid: 0,
        egid: 0,
        capabilities: !0,
        apparmor: false,
        selinux: false,
        nosymfollow: true,
        cgroup_view: Some(CgroupView::Unified(c"/sys/fs/cgroup/x".into())),
        limiting: Limiting::Unified,
        resctrl: None,
        scope: None,
        environment: Vec::new(),
    }
}

fn judged(text: &str) -> Result<Plan, Vec<String>> {
    let spec = spec::parse(text.as_bytes()).unwrap();
    Plan::build(&spec, &ask(), &host()).map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

#[test]
fn the_default_config_has_a_plan() {
    let plan = Plan::build(&spec::defaults::spec(), &ask(), &host()).unwrap();
    assert_eq!(plan.rootfs.path.as_c_str(), c"/bundle/rootfs");
    assert_eq!(plan.rootfs.start_propagation, libc::MS_SLAVE);
    assert!(plan.rootfs.make_dev && plan.rootfs.readonly && plan.rootfs.own_mounts);
    assert_eq!(plan.rootfs.mounts.len(), spec::defaults::spec().mounts.len());
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
}

/// Each error names the path of its field; several at once.
#[test]
fn faults_name_their_field() {
    let with = |members: &str| format!(r#"{{"ociVersion":"1.0.0","root":{{"path":"r"}},{members}}}"#);
    let linux = |members: &str| with(&format!(r#""linux":{{{members}}}"#));
    let table: &[(String, &[&str])] = &[
        (r#"{"ociVersion":"2.0.0"}"#.into(), &["ociVersion", "root"]),
        (r#"{"ociVersion":"x","root":{"path":""}}"#.into(), &["ociVersion", "root.path"]),
        (with(r#""hostname":"h""#), &["hostname"]),
        (
            with(r#""mounts":[{"destination":""},{"destination":"/a"},{"destination":"/b","type":"bind"}]"#),
            &["mounts[0].destination", "mounts[1].type", "mounts[2].source"],
        ),
        (
            with(r#""mounts":[{"destination":"/a","type":"proc","options":["tmpcopyup"]}]"#),
            &["mounts[0].options"],
        ),
        (with(r#""mounts":[{"destination":"/.","type":"tmpfs"}]"#), &["mounts[0].destination"]),
        (
            with(r#""hooks":{"prestart":[{"path":"x"}],"createContainer":[{"path":"/x","timeout":-1}]}"#),
            &["hooks.prestart[0].path", "hooks.createContainer[0].timeout"],
        ),
        (
            linux(r#""namespaces":[{"type":"pid"},{"type":"pid"},{"type":"x"},{"type":"uts","path":"rel"}]"#),
            &["linux.namespaces[1].type", "linux.namespaces[2].type", "linux.namespaces[3].path"],
        ),
        (linux(r#""namespaces":[{"type":"user"}]"#), &["linux.uidMappings", "linux.gidMappings"]),
        (linux(r#""uidMappings":[{"containerID":0,"hostID":0,"size":1}]"#), &["linux.uidMappings"]),
        (
            linux(r#""maskedPaths":["/x"],"readonlyPaths":["y"],"rootfsPropagation":"z""#),
            &[
                "linux.rootfsPropagation",
                "linux.maskedPaths",
                "linux.readonlyPaths",
                "linux.readonlyPaths[0]",
            ],
        ),
        (
            linux(r#""sysctl":{"net.ipv4.ip_forward":"1","kernel.panic":"1"}"#),
            &["linux.sysctl.kernel.panic", "linux.sysctl.net.ipv4.ip_forward"],
        ),
        (
            linux(r#""devices":[{"path":"dev/x","type":"c"},{"path":"/dev/y","type":"z"}]"#),
            &["linux.devices[0].path", "linux.devices[1].type"],
        ),
        (linux(r#""timeOffsets":{"monotonic":{"secs":1}}"#), &["linux.timeOffsets"]),
        (linux(r#""netDevices":{"eth0":{}}"#), &["linux.netDevices"]),
        (
            linux(r#""personality":{"domain":"BSD"},"memoryPolicy":{"mode":"MPOL_BIND"}"#),
            &["linux.personality.domain", "linux.memoryPolicy.nodes"],
        ),
    ];
    for (text, want) in table {
        let faults = judged(text).expect_err(text);
        let paths: Vec<&str> = faults.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
        for path in *want {
            assert!(paths.contains(path), "{text}: {path} is not in {faults:#?}");
        }
    }
}

#[test]
fn an_option_that_the_kernel_would_pass_over_is_a_fault() {
    let config = |option: &str| {
        let mount = format!(r#"{{"destination":"/a","type":"tmpfs","options":["{option}"]}}"#);
        format!(r#"{{"ociVersion":"1.0.0","root":{{"path":"r"}},"mounts":[{mount}]}}"#)
    };
    for (option, faults) in [("nosymfollow", 1), ("rnosymfollow", 1), ("symfollow", 0), ("nosuid", 0)] {
        let spec = spec::parse(config(option).as_bytes()).unwrap();
        let old = Host { nosymfollow: false, ..host() };
        let found = Plan::build(&spec, &ask(), &old).err().unwrap_or_default();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), faults, "{option}: {found:?}");
        assert!(found.iter().all(|fault| fault.contains("mounts[0].options")), "{found:?}");
    }
}

/// No bytes make the parser or the validation panic: mutations of a rich document, with a fixed
/// seed.
#[test]
fn mutated_documents_do_not_panic() {
    let seed = include_bytes!("rich.json");
    assert!(spec::parse(seed).is_ok());
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let words: [&[u8]; 12] = [
        b"-1",
        b"null",
        b"\"\"",
        b"[]",
        b"{}",
        b"4294967296",
        b"18446744073709551615",
        b"\"\\u0000\"",
        b"true",
        b"1e99",
        b"\"/\"",
        b"\"../..\"",
    ];
    let mut planned = 0;
    for _ in 0..20_000 {
        let mut bytes = seed.to_vec();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => drop(bytes.drain(at..(at + random(20)).min(bytes.len()))),
                // A value replaced by a surprising one.
                _ => {
                    let Some(colon) =
                        bytes[at..].iter().position(|byte| *byte == b':').map(|found| at + found + 1)
                    else {
                        continue;
                    };
                    let end = bytes[colon..]
                        .iter()
                        .position(|byte| b",}]".contains(byte))
                        .map_or(bytes.len(), |found| colon + found);
                    bytes.splice(colon..end, words[random(words.len())].iter().copied());
                }
            }
        }
        if let Ok(spec) = spec::parse(&bytes) {
            planned += 1;
            let _ = Plan::build(&spec, &ask(), &host());
        }
    }
    assert!(planned > 1000, "the mutations are too wild to reach the judge: {planned}");
}
