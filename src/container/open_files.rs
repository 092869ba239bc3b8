//! Raises the limit of open files (RLIMIT_NOFILE) while the runtime and its child hold a descriptor
//! for each of many mounts.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::plan::{MountKind, Plan};

/// Descriptors needed for every plan, including the caller's.
const OTHERS: u64 = 128;

/// A raised limit; dropping it restores the former one.
pub(crate) struct Raised {
    before: Option<Rlimit>,
}

impl Raised {
    /// Raises the soft limit to the hard one, or both if that is too low, if the plan may need it.
    /// If raising fails, the limit stays: sources are then opened later, one by one.
    pub(crate) fn for_plan(plan: &Plan) -> Self {
        let held = plan.rootfs.mounts.iter().filter(|step| match &step.kind {
            MountKind::Bind(_) => true,
            _ => step.readonly_late || step.holds_nodes,
        });
        let wanted = (held.count() + plan.rootfs.devices.len()) as u64 + OTHERS;
        let before = getrlimit(Resource::Nofile);
        if before.current.is_none_or(|soft| soft >= wanted) {
            return Self { before: None };
        }
        let hard = before.maximum.map(|hard| hard.max(wanted));
        let raised = [hard, before.maximum].into_iter().any(|hard| {
            let limit = Rlimit { current: hard.or(Some(wanted)), maximum: hard };
            setrlimit(Resource::Nofile, limit).is_ok()
        });
        Self { before: raised.then_some(before) }
    }

    /// The former limit, if it was changed.
    pub(crate) fn before(&self) -> Option<Rlimit> {
        self.before
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            // Lowering a limit needs no privilege.
            let _ = setrlimit(Resource::Nofile, before);
        }
    }
}
