//! What must hold whatever the bytes are, a file for each kind of bytes; a check that does not hold
//! panics.
//!
//! The fuzzer calls these with what it makes up, tests/corpus.rs with what it has found so far.

pub mod automaton;
pub mod config;
pub mod criu;
pub mod dbus;
pub mod drv;
pub mod idmaps;
pub mod layer;
pub mod layout;
pub mod mountinfo;
pub mod mounts;
pub mod nar;
pub mod narinfo;
pub mod netlink;
pub mod passwd;
pub mod process;
pub mod properties;
pub mod resources;
pub mod seccomp;
pub mod state;
pub mod statistics;
pub mod words;

/// Runs a filter as the kernel would.
#[allow(dead_code)]
#[path = "../../../tests/seccomp/machine.rs"]
mod machine;

/// What a profile says, read slowly.
#[path = "../../../tests/seccomp/meaning.rs"]
mod meaning;

use std::path::Path;
use std::sync::LazyLock;

use emergence_runc::cgroup::systemd::Scope;
use emergence_runc::error::{Error, Kind};
use emergence_runc::plan::passed::{Listen, Passed};
use emergence_runc::plan::{Ask, BadField, CgroupView, Host, Limiting};
use emergence_runc::spec::ParseError;

/// One of the checks.
pub type Check = fn(&[u8]);

/// All of them, by the name of the fuzz target and of its directory in corpus/.
pub const ALL: [(&str, Check); 21] = [
    ("automaton", automaton::check),
    ("config", config::check),
    ("criu", criu::check),
    ("dbus", dbus::check),
    ("drv", drv::check),
    ("idmaps", idmaps::check),
    ("layer", layer::check),
    ("layout", layout::check),
    ("mountinfo", mountinfo::check),
    ("mounts", mounts::check),
    ("nar", nar::check),
    ("narinfo", narinfo::check),
    ("netlink", netlink::check),
    ("passwd", passwd::check),
    ("process", process::check),
    ("properties", properties::check),
    ("resources", resources::check),
    ("seccomp", seccomp::check),
    ("state", state::check),
    ("statistics", statistics::check),
    ("words", words::check),
];

/// What is said to a user is one line, and says something.
fn one_line(words: &str) {
    assert!(!words.trim().is_empty(), "nothing is said");
    assert!(!words.chars().any(|c| matches!(c, '\n' | '\r')), "more than one line: {words:?}");
}

/// The message for a document that could not be read.
fn misread(fault: &ParseError) {
    one_line(&Error::new(Kind::Invalid, format!("config.json: {fault}")).to_string());
}

/// Faults: at least one, each in one line that begins with a member of config.json.
fn faults(faults: &[BadField]) {
    const MEMBERS: [&str; 9] = [
        "annotations",
        "domainname",
        "hooks",
        "hostname",
        "linux",
        "mounts",
        "ociVersion",
        "process",
        "root",
    ];
    assert!(!faults.is_empty(), "refused without a reason");
    for fault in faults {
        one_line(&fault.to_string());
        let member = fault.path.split(['.', '[']).next().unwrap_or_default();
        assert!(MEMBERS.contains(&member), "no path of config.json: {fault}");
    }
}

/// One socket with a name, and two descriptors more.
static PASSED: LazyLock<Passed> = LazyLock::new(|| Passed {
    descriptors: vec![3, 4, 5],
    listen: Some(Listen { count: 1, names: Some("a:b".into()) }),
});

/// What is asked of every plan.
fn ask() -> Ask<'static> {
    Ask { id: "web", bundle: Path::new("/bundle"), no_pivot: false, new_keyring: true, passed: &PASSED }
}

/// Hosts that differ in all that a plan depends on: root's with cgroup 2, root's with systemd, an
/// old one, an unprivileged user's.
fn hosts() -> [Host; 4] {
    let root = Host {
        euid: 0,
        egid: 0,
        capabilities: !0,
        apparmor: true,
        selinux: true,
        nosymfollow: true,
        cgroup_view: Some(CgroupView::Unified(c"/sys/fs/cgroup/web".into())),
        limiting: Limiting::Unified,
        resctrl: Some(resctrl()),
        scope: None,
        environment: vec![c"PATH=/bin".into()],
    };
    [
        Host { scope: Some(scope()), ..root.clone() },
        Host {
            limiting: Limiting::Legacy,
            cgroup_view: Some(CgroupView::Legacy(Vec::new())),
            ..root.clone()
        },
        Host {
            euid: 1000,
            egid: 1000,
            capabilities: 0,
            apparmor: false,
            selinux: false,
            nosymfollow: false,
            cgroup_view: None,
            limiting: Limiting::Nothing,
            resctrl: None,
            scope: None,
            environment: Vec::new(),
        },
        root,
    ]
}

fn resctrl() -> emergence_runc::cgroup::Resctrl {
    emergence_runc::cgroup::Resctrl {
        mount: "/sys/fs/resctrl".into(),
        resources: ["L3", "L3_MON", "MB"].map(str::to_owned).into(),
        counters: ["llc_occupancy"].map(str::to_owned).into(),
    }
}

/// A unit of the machine's systemd, as a state file keeps it.
fn scope() -> Scope {
    const TEXT: &str = r#"{"unit":"web.scope","slice":"system.slice","bus":"System","description":"d",
        "dir":{"mount":"/sys/fs/cgroup","below":"system.slice/web.scope"},"bfq":true}"#;
    serde_json::from_str(TEXT).expect("a scope")
}

/// Numbers from a seed, for questions that the bytes themselves do not ask.
struct Dice(u64);

impl Dice {
    /// The same bytes always ask the same.
    fn of(bytes: &[u8]) -> Self {
        let seed = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        let count = u64::try_from(list.len()).ok().filter(|count| *count > 0)?;
        list.get((self.next() % count) as usize)
    }
}
