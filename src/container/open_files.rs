//! The limit of open files (RLIMIT_NOFILE), raised while the runtime and its child hold a descriptor for each of many mounts.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::plan::{MountKind, Plan};

/// Descriptors that are needed whatever the plan is, those of the caller among them.
const OTHERS: u64 = 128;

/// A raised limit, which is set back at the end.
pub struct Raised {
    before: Option<Rlimit>,
}

impl Raised {
    /// Raises the soft limit up to the hard one, or that too where it is too low, if the plan may need it. What cannot be raised stays:
    /// sources are then opened later, one by one.
    pub fn for_plan(plan: &Plan) -> Self {
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

    /// What the limit was, if it was changed.
    pub fn before(&self) -> Option<Rlimit> {
        self.before
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            // To lower a limit needs no right.
            let _ = setrlimit(Resource::Nofile, before);
        }
    }
}
