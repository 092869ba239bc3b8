//! The features document. Source: runtime-spec 1.3.0, features.md and features-linux.md.
//!
//! This module knows the document's format; the modules with the features provide the values, as
//! [`Support`].

use std::collections::BTreeMap;

use serde::Serialize;

/// The features of this build, independent of the host; by default none.
#[derive(Clone, Debug, Default)]
pub struct Support {
    /// Options of `mounts[].options` that are not passed to the file system.
    pub mount_options: Vec<&'static str>,
    /// Known capabilities, `CAP_…`.
    pub capabilities: Vec<String>,
    /// Cgroup versions and drivers.
    pub cgroup: Cgroup,
    /// System call filters, if supported.
    pub seccomp: Option<SeccompWords>,
    /// Whether `process.apparmorProfile` is honoured.
    pub apparmor: bool,
    /// Whether `process.selinuxLabel` and `linux.mountLabel` are honoured.
    pub selinux: bool,
    /// `linux.intelRdt`.
    pub intel_rdt: IntelRdt,
    /// `linux.memoryPolicy`, if it is honoured.
    pub memory_policy: Option<MemoryPolicy>,
    /// Whether `mounts[].uidMappings` are honoured.
    pub idmap: bool,
    /// Whether `linux.netDevices` is honoured.
    pub net_devices: bool,
    /// Annotations of config.json that weaken isolation; a trailing `.` means every name with this
    /// prefix.
    pub unsafe_annotations: Vec<&'static str>,
}

/// The names that a filter may use.
#[derive(Clone, Debug, Default)]
pub struct SeccompWords {
    /// `SCMP_ACT_…`.
    pub actions: Vec<&'static str>,
    /// `SCMP_CMP_…`.
    pub operators: Vec<&'static str>,
    /// `SCMP_ARCH_…`.
    pub archs: Vec<&'static str>,
    /// `SECCOMP_FILTER_FLAG_…` that are recognized.
    pub known_flags: Vec<&'static str>,
    /// Those of `known_flags` that are also applied.
    pub supported_flags: Vec<&'static str>,
}

/// The whole document.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // the names are the specification's, here and below
pub struct Features {
    pub oci_version_min: &'static str,
    pub oci_version_max: &'static str,
    pub hooks: [&'static str; 6],
    pub mount_options: Vec<&'static str>,
    pub linux: Linux,
    pub annotations: BTreeMap<&'static str, &'static str>,
    pub potentially_unsafe_config_annotations: Vec<&'static str>,
}

/// The `linux` member, features-linux.md.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Linux {
    pub namespaces: [&'static str; 8],
    pub capabilities: Vec<String>,
    pub cgroup: Cgroup,
    pub seccomp: Seccomp,
    pub apparmor: Enabled,
    pub selinux: Enabled,
    pub intel_rdt: IntelRdt,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
    pub mount_extensions: MountExtensions,
    pub net_devices: Enabled,
}

/// features-linux.md, "Cgroup".
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Cgroup {
    pub v1: bool,
    pub v2: bool,
    pub systemd: bool,
    pub systemd_user: bool,
    pub rdma: bool,
}

/// features-linux.md, "Seccomp".
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Seccomp {
    pub enabled: bool,
    pub actions: Vec<&'static str>,
    pub operators: Vec<&'static str>,
    pub archs: Vec<&'static str>,
    pub known_flags: Vec<&'static str>,
    pub supported_flags: Vec<&'static str>,
}

/// A feature that is either supported or not.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs)]
pub struct Enabled {
    pub enabled: bool,
}

/// features-linux.md, "Intel RDT".
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct IntelRdt {
    pub enabled: bool,
    pub schemata: bool,
    pub monitoring: bool,
}

/// features-linux.md, "Memory policy".
#[derive(Clone, Debug, Default, Serialize)]
pub struct MemoryPolicy {
    /// `MPOL_…`.
    pub modes: Vec<&'static str>,
    /// `MPOL_F_…`.
    pub flags: Vec<&'static str>,
}

/// features-linux.md, "MountExtensions".
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs)]
pub struct MountExtensions {
    pub idmap: Enabled,
}

/// The document for a build with this support.
pub fn features(support: Support) -> Features {
    let enabled = support.seccomp.is_some();
    let seccomp = support.seccomp.unwrap_or_default();
    Features {
        oci_version_min: "1.0.0",
        oci_version_max: "1.3.0",
        hooks: ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        mount_options: support.mount_options,
        linux: Linux {
            namespaces: ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            capabilities: support.capabilities,
            cgroup: support.cgroup,
            seccomp: Seccomp {
                enabled,
                actions: seccomp.actions,
                operators: seccomp.operators,
                archs: seccomp.archs,
                known_flags: seccomp.known_flags,
                supported_flags: seccomp.supported_flags,
            },
            apparmor: Enabled { enabled: support.apparmor },
            selinux: Enabled { enabled: support.selinux },
            intel_rdt: support.intel_rdt,
            memory_policy: support.memory_policy,
            mount_extensions: MountExtensions { idmap: Enabled { enabled: support.idmap } },
            net_devices: Enabled { enabled: support.net_devices },
        },
        annotations: BTreeMap::from([
            ("run.emergence.commit", env!("BUILD_COMMIT")),
            ("run.emergence.version", env!("CARGO_PKG_VERSION")),
        ]),
        potentially_unsafe_config_annotations: support.unsafe_annotations,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime;

    fn everything() -> Support {
        Support {
            mount_options: vec!["bind", "rro"],
            capabilities: vec!["CAP_BPF".into()],
            cgroup: Cgroup { v1: false, v2: true, systemd: true, systemd_user: false, rdma: true },
            seccomp: Some(SeccompWords {
                actions: vec!["SCMP_ACT_NOTIFY"],
                operators: vec!["SCMP_CMP_EQ"],
                archs: vec!["SCMP_ARCH_X86_64"],
                known_flags: vec!["SECCOMP_FILTER_FLAG_LOG"],
                supported_flags: vec!["SECCOMP_FILTER_FLAG_LOG"],
            }),
            apparmor: true,
            selinux: true,
            intel_rdt: IntelRdt { enabled: true, schemata: true, monitoring: false },
            memory_policy: Some(MemoryPolicy {
                modes: vec!["MPOL_BIND"],
                flags: vec!["MPOL_F_STATIC_NODES"],
            }),
            idmap: true,
            net_devices: true,
            unsafe_annotations: vec!["run.oci.hooks."],
        }
    }

    /// Converts ours through oci-spec's type: a member that either side does not know is lost.
    fn through_oci_spec(ours: &Features) -> (serde_json::Value, serde_json::Value) {
        let ours = serde_json::to_value(ours).unwrap();
        let theirs: runtime::Features = serde_json::from_value(ours.clone()).unwrap();
        (ours, serde_json::to_value(theirs).unwrap())
    }

    #[test]
    fn every_member_is_one_of_the_specification() {
        let (ours, theirs) = through_oci_spec(&features(everything()));
        assert_eq!(ours, theirs);
        assert_eq!(ours["linux"]["seccomp"]["enabled"], true);
        assert_eq!(ours["linux"]["memoryPolicy"]["modes"][0], "MPOL_BIND");
        assert_eq!(ours["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    }

    #[test]
    fn missing_features_are_not_announced() {
        let (ours, mut theirs) = through_oci_spec(&features(Support::default()));
        theirs["linux"].as_object_mut().unwrap().remove("memoryPolicy"); // null there, absent here
        assert_eq!(ours, theirs);
        let text = ours["linux"].to_string();
        assert!(!text.contains("true"), "{text}");
    }
}
