//! Mounts: the document of `mounts add`, or type, source, destination and options, each on a line.

use emergence_runc::plan::{MountKind, Plan, options};
use emergence_runc::spec::{self, Mount};

use super::{ask, faults, hosts, misread};

pub fn check(bytes: &[u8]) {
    let mounts = match bytes.trim_ascii_start().first() {
        Some(b'[' | b'{') => match spec::parse_mounts(bytes) {
            Ok(mounts) => mounts,
            Err(fault) => return misread(&fault),
        },
        _ => vec![listed(&String::from_utf8_lossy(bytes))],
    };
    let spec = spec::Spec { mounts, ..spec::defaults::spec() };
    for host in hosts() {
        match Plan::build(&spec, &ask(), &host) {
            Ok(plan) => {
                assert_eq!(plan.rootfs.mounts.len(), spec.mounts.len(), "a mount is lost");
                spec.mounts.iter().zip(&plan.rootfs.mounts).for_each(|(asked, step)| data(asked, &step.kind));
            }
            Err(found) => faults(&found),
        }
    }
}

fn listed(text: &str) -> Mount {
    let mut lines = text.split('\n').map(str::to_owned);
    let mut next = || lines.next().unwrap_or_default();
    Mount { kind: next(), source: next(), destination: next(), options: lines.collect(), ..Mount::default() }
}

/// Words that mean something to us never reach the file system; all others do.
fn data(asked: &Mount, kind: &MountKind) {
    let MountKind::New(new) = kind else { return };
    let words =
        asked.options.iter().filter(|word| options::word(word).is_none()).flat_map(|word| word.split(','));
    let count = words.filter(|word| !word.is_empty()).count();
    assert!(new.options.len() >= count, "{:?} are not all of {:?}", new.options, asked.options);
}
