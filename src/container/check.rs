//! `check` and `features`: what a bundle has wrong, and what this build does. Nothing is started.

use std::path::Path;

use super::{create, facts, request};
use crate::cgroup::Driver;
use crate::plan::{Ask, Plan, limits, options, passed};
use crate::security::seccomp;
use crate::spec::features::{Cgroup, IntelRdt, MemoryPolicy, SeccompWords, Support};

/// All faults of the configuration at `config`, for the bundle it belongs to; empty when it is good.
pub fn check(config: &Path, bundle: &Path) -> Vec<String> {
    match judge(config, bundle) {
        Ok(faults) => faults,
        Err(error) => vec![error.to_string()],
    }
}

fn judge(config: &Path, bundle: &Path) -> crate::error::Result<Vec<String>> {
    let bundle = std::path::absolute(bundle)?;
    let (_, spec) = create::read_config(&bundle, Some(config))?;
    let settings = request::Settings {
        root: "/".into(),
        root_is_named: true,
        driver: Driver::Disabled,
        rootless: rustix::process::geteuid().as_raw() != 0,
    };
    let facts = facts::host(&spec, &settings, "check")?;
    let ask =
        Ask { id: "check", bundle: &bundle, no_pivot: false, new_keyring: true, passed: &passed::NOTHING };
    let mut faults = match Plan::build(&spec, &ask, &facts.host) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    };
    if let Some(root) = &spec.root {
        let path = bundle.join(&root.path);
        if !path.is_dir() {
            faults.push(format!("root.path: {} is not a folder", path.display()));
        }
    }
    Ok(faults)
}

/// Annotations that change what the runtime does, and so are not for strangers to set; one with a dot at its end stands for
/// all that begin so. Source: runtime-spec features.md, "Unsafe annotations in config.json".
const UNSAFE_ANNOTATIONS: [&str; 3] = ["org.criu.config", "org.systemd.property.", "run.oci."];

/// What this build does, for the features document.
pub fn support() -> Support {
    Support {
        mount_options: options::WORDS.iter().map(|(name, _)| *name).collect(),
        capabilities: {
            let mut all: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
            all.sort();
            all
        },
        cgroup: Cgroup { v1: true, v2: true, systemd: true, systemd_user: true, rdma: true },
        seccomp: Some(SeccompWords {
            actions: seccomp::actions().collect(),
            operators: seccomp::operators().collect(),
            archs: seccomp::architectures().collect(),
            known_flags: seccomp::flags().collect(),
            supported_flags: seccomp::flags().collect(),
        }),
        apparmor: true,
        selinux: true,
        intel_rdt: IntelRdt { enabled: true, schemata: true, monitoring: true },
        memory_policy: Some(MemoryPolicy {
            modes: limits::POLICY_MODES.iter().map(|(name, _)| *name).collect(),
            flags: limits::POLICY_FLAGS.iter().map(|(name, _)| *name).collect(),
        }),
        idmap: true,
        net_devices: true,
        unsafe_annotations: UNSAFE_ANNOTATIONS.to_vec(),
    }
}
