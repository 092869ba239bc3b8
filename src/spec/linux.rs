//! The `linux` member of config.json, as written. Source: runtime-spec config-linux.md.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Resources, or_default};

/// The `linux` member, config-linux.md.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Linux {
    /// User mapping of a new user namespace.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// Group mapping of a new user namespace.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
    /// Offsets of a new time namespace, by clock (`monotonic`, `boottime`).
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub time_offsets: BTreeMap<String, TimeOffset>,
    /// Kernel parameters, by dotted or slashed name.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, String>,
    /// Limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Path in the cgroup tree; its form depends on the driver.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub cgroups_path: String,
    /// Namespaces that are not inherited.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<Namespace>,
    /// Device nodes besides the default ones.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Network devices moved in, by their name on the host.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub net_devices: BTreeMap<String, NetDevice>,
    /// System call filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Seccomp>,
    /// Propagation of `/`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub rootfs_propagation: String,
    /// Hidden paths.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub masked_paths: Vec<String>,
    /// Read-only paths.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub readonly_paths: Vec<String>,
    /// SELinux context of mounts.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub mount_label: String,
    /// Intel's cache and bandwidth allocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<IntelRdt>,
    /// NUMA memory policy, set_mempolicy(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
    /// personality(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personality: Option<Personality>,
}

/// One line of a user namespace's map, user_namespaces(7).
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IdMapping {
    /// First id inside.
    #[serde(rename = "containerID", default)]
    pub container_id: u32,
    /// First id outside.
    #[serde(rename = "hostID", default)]
    pub host_id: u32,
    /// Number of ids.
    #[serde(default)]
    pub size: u32,
}

/// An offset that is added to a clock, time_namespaces(7).
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct TimeOffset {
    /// Seconds.
    #[serde(default, deserialize_with = "or_default")]
    pub secs: i64,
    /// Nanoseconds, below 10⁹.
    #[serde(default, deserialize_with = "or_default")]
    pub nanosecs: u32,
}

/// One namespace: new if it has no path, otherwise joined.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Namespace {
    /// `pid`, `network`, `mount`, `ipc`, `uts`, `user`, `cgroup` or `time`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A namespace file.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub path: String,
}

/// config-linux.md, "Devices".
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Path inside.
    pub path: String,
    /// `c`, `b`, `u` or `p`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Major number, not for `p`.
    #[serde(default, deserialize_with = "or_default")]
    pub major: i64,
    /// Minor number, not for `p`.
    #[serde(default, deserialize_with = "or_default")]
    pub minor: i64,
    /// Permission bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// Owner inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// config-linux.md, "Network Devices".
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct NetDevice {
    /// Name inside; empty: the host's name.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// config-linux.md, "Seccomp".
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp {
    /// Action for calls without an entry.
    pub default_action: String,
    /// Errno for a default action that takes one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// `SCMP_ARCH_…`; empty: the machine's own.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_…`; an empty list differs from an absent one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
    /// Unix socket that receives the notify descriptor.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub listener_path: String,
    /// Opaque string for the listener.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub listener_metadata: String,
    /// The rules.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub syscalls: Vec<SeccompRule>,
}

/// One entry of `seccomp.syscalls`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompRule {
    /// System call names.
    pub names: Vec<String>,
    /// `SCMP_ACT_…`.
    pub action: String,
    /// Errno for an action that takes one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Conditions, all of which must hold.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<SeccompArg>,
}

/// A condition on one argument of a system call.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompArg {
    /// 0 to 5.
    pub index: u32,
    /// Value to compare with; the mask for `SCMP_CMP_MASKED_EQ`.
    pub value: u64,
    /// Value to compare with after masking.
    #[serde(default, deserialize_with = "or_default")]
    pub value_two: u64,
    /// `SCMP_CMP_…`.
    pub op: String,
}

/// config-linux.md, "IntelRdt".
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // config-linux.md explains each
pub struct IntelRdt {
    #[serde(
        rename = "closID",
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub clos_id: String,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    #[serde(default, deserialize_with = "or_default")]
    pub enable_monitoring: bool,
    #[serde(rename = "enableCMT", default, deserialize_with = "or_default")]
    pub enable_cmt: bool,
    #[serde(rename = "enableMBM", default, deserialize_with = "or_default")]
    pub enable_mbm: bool,
}

/// config-linux.md, "Memory policy".
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct MemoryPolicy {
    /// `MPOL_…`.
    pub mode: String,
    /// A list such as `0-1,3`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub nodes: String,
    /// `MPOL_F_…`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

/// config-linux.md, "Personality".
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Personality {
    /// `LINUX` or `LINUX32`.
    pub domain: String,
    /// No flags are defined so far.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}
