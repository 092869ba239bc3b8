//! Validates `process.capabilities`: the names become bits, limited to those that can be granted.

use std::collections::BTreeSet;

use super::{Context, Judge};
use crate::spec;
use crate::sys::cred::CapMask;

/// Capability sets as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // capabilities(7)
pub struct CapSets {
    pub bounding: CapMask,
    pub effective: CapMask,
    pub inheritable: CapMask,
    pub permitted: CapMask,
    pub ambient: CapMask,
}

/// Without sets, the program gets no capability. Capabilities that cannot be granted are dropped
/// with a warning: config.md, "capabilities".
pub(super) fn plan(
    process: &spec::Process,
    place: &str,
    context: &Context<'_>,
    judge: &mut Judge,
) -> CapSets {
    match &process.capabilities {
        Some(sets) => granted(sets, place, context, judge),
        None => {
            judge.details.push(format!("{place}.capabilities: missing; the program gets no capability"));
            CapSets::default()
        }
    }
}

fn granted<'a>(
    sets: &'a spec::Capabilities,
    place: &str,
    context: &Context<'_>,
    judge: &mut Judge,
) -> CapSets {
    let mut unknown = BTreeSet::new();
    let mut read = |names: &'a [String]| -> CapMask {
        names.iter().fold(0, |mask, name| match name.parse::<caps::Capability>() {
            Ok(capability) => mask | capability.bitmask(),
            Err(_) => {
                unknown.insert(name.as_str());
                mask
            }
        })
    };
    let requested = CapSets {
        bounding: read(&sets.bounding),
        effective: read(&sets.effective),
        inheritable: read(&sets.inheritable),
        permitted: read(&sets.permitted),
        ambient: read(&sets.ambient),
    };
    if !unknown.is_empty() {
        let unknown: Vec<&str> = unknown.into_iter().collect();
        judge.warn(format!("{place}.capabilities: unknown, left out: {}", unknown.join(" ")));
    }
    let have = context.grantable;
    let permitted = requested.permitted & have;
    // The kernel's rules, capset(2): effective within permitted, and new inheritable ones within
    // bounding.
    let inheritable = requested.inheritable & have & requested.bounding;
    let granted = CapSets {
        bounding: requested.bounding & have,
        effective: requested.effective & permitted,
        inheritable,
        permitted,
        ambient: requested.ambient & permitted & inheritable,
    };
    let lost = (requested.bounding
        | requested.effective
        | requested.inheritable
        | requested.permitted
        | requested.ambient)
        & !have;
    if lost != 0 {
        judge.warn(format!("{place}.capabilities: not held by the runtime, left out: {}", names(lost)));
    }
    let cut = [
        ("effective", requested.effective & !granted.effective, "permitted"),
        ("inheritable", requested.inheritable & !granted.inheritable, "in bounding"),
        ("ambient", requested.ambient & !granted.ambient, "permitted and inheritable"),
    ];
    for (set, cut, needed) in cut {
        if cut & have != 0 {
            let names = names(cut & have);
            judge.warn(format!("{place}.capabilities.{set}: left out, because not {needed}: {names}"));
        }
    }
    granted
}

fn names(mask: CapMask) -> String {
    let names = caps::all().into_iter().filter(|cap| cap.bitmask() & mask != 0);
    names.map(|cap| cap.to_string()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_that_cannot_be_granted_are_a_warning() {
        let grantable = caps::Capability::CAP_CHOWN.bitmask() | caps::Capability::CAP_KILL.bitmask();
        let context = Context { grantable, ..Context::for_tests() };
        let some: Vec<String> = ["CAP_CHOWN", "CAP_TEST", "CAP_SYS_ADMIN"].map(String::from).to_vec();
        let capabilities = Some(spec::Capabilities {
            bounding: some.clone(),
            permitted: some.clone(),
            effective: some,
            ambient: vec!["CAP_KILL".into()],
            ..Default::default()
        });
        let process = spec::Process { capabilities, ..Default::default() };
        let mut judge = Judge::default();
        let sets = plan(&process, "process", &context, &mut judge);
        assert_eq!(sets.permitted, 1);
        assert_eq!(sets.ambient, 0);
        assert!(judge.faults.is_empty());
        assert_eq!(judge.warnings.len(), 3, "{:?}", judge.warnings);
    }
}
