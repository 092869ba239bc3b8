//! Plans one more process in an existing container (`exec`): its program, and the restrictions of
//! the container.

use super::{
    Ask, BadField, Context, Hooks, Host, Judge, Plan, ProcessStrings, Rootfs, filter, limits, namespaces,
    process, schedule,
};
use crate::cgroup;
use crate::spec::{self, Spec};
use crate::sys::namespace::Namespace;

impl Plan {
    /// Validates `process`, for a container created from `spec`. Namespaces, filter, personality
    /// and memory policy are the container's; its root file system is not changed. `words` replace
    /// the process's own arguments.
    ///
    /// Errors have the JSON path `process.…`.
    pub fn enter(
        spec: &Spec,
        wanted: &spec::Process,
        words: &ProcessStrings,
        ask: &Ask<'_>,
        host: &Host,
    ) -> Result<Plan, Vec<BadField>> {
        let mut judge = Judge::default();
        let plan = enter(spec, (wanted, words), ask, host, &mut judge);
        judge.verdict(plan)
    }
}

fn enter(
    spec: &Spec,
    (wanted, words): (&spec::Process, &ProcessStrings),
    ask: &Ask<'_>,
    host: &Host,
    judge: &mut Judge,
) -> Option<Plan> {
    let empty = spec::Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&empty);
    let namespaces = namespaces::plan(linux, host, judge).to_enter();
    let own_user = namespaces.own(Namespace::User);
    let context = Context {
        grantable: if own_user { !0 } else { host.capabilities },
        own: namespaces.entered,
        ..Context::of(spec, ask, host)
    };
    let process = process::plan(wanted, words, "process", &context, judge);
    Some(Plan {
        rootfs: Rootfs::untouched(),
        hostname: Vec::new(),
        domainname: Vec::new(),
        sysctl: Vec::new(),
        hooks: Hooks::default(),
        keyring: ask.keyring(),
        personality: linux.personality.as_ref().and_then(|wanted| limits::personality(wanted, judge)),
        memory_policy: linux.memory_policy.as_ref().and_then(|wanted| schedule::memory_policy(wanted, judge)),
        limits: cgroup::CgroupSettings::default(),
        scope: Vec::new(),
        cgroup_owner: None,
        device_program: None,
        rdt: None,
        seccomp: filter::plan(spec, judge),
        net_devices: Vec::new(),
        warnings: Vec::new(),
        details: Vec::new(),
        namespaces,
        process: Some(process?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{ask, host};

    #[test]
    fn the_container_binds_but_nothing_is_made() {
        let spec = spec::defaults::spec();
        let wanted = spec::Process { args: vec!["/bin/true".into()], cwd: "/".into(), ..Default::default() };
        let plan = Plan::enter(&spec, &wanted, &ProcessStrings::of(&wanted), &ask(), &host()).unwrap();
        assert!(plan.namespaces.own(Namespace::Pid) && !plan.namespaces.creates(Namespace::Pid));
        assert!(!plan.namespaces.own(Namespace::User));
        assert!(plan.rootfs.mounts.is_empty() && !plan.rootfs.make_dev && plan.limits.writes.is_empty());
        assert_eq!(plan.process.unwrap().program(), "/bin/true");
    }

    #[test]
    fn faults_are_all_reported() {
        let spec = spec::defaults::spec();
        let text = r#"{"cwd":"x","user":{"uid":4294967295},"execCPUAffinity":{"initial":"3-1","final":"a"}}"#;
        let wanted = spec::parse_process(text.as_bytes()).unwrap();
        let faults = Plan::enter(&spec, &wanted, &ProcessStrings::of(&wanted), &ask(), &host()).unwrap_err();
        let mut paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
        paths.sort_unstable();
        let want = [
            "process.args",
            "process.cwd",
            "process.execCPUAffinity.final",
            "process.execCPUAffinity.initial",
            "process.user.uid",
        ];
        assert_eq!(paths, want);
    }
}
