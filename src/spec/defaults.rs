//! The config.json that `spec` writes.

use super::{
    Capabilities, DeviceRule, IdMapping, Linux, Mount, Namespace, Process, Resources, Rlimit, Root, Spec,
};

/// A container that runs without changes, started by root: `sh` in a directory named rootfs.
pub fn spec() -> Spec {
    Spec {
        oci_version: "1.3.0".into(),
        root: Some(Root { path: "rootfs".into(), readonly: true }),
        process: Some(process()),
        hostname: "emergence".into(),
        mounts: mounts(),
        linux: Some(linux()),
        ..Spec::default()
    }
}

/// Changes [`spec`] so that an unprivileged user with these ids can run it: root only in a user
/// namespace of one id.
///
/// * The host's network is shared, since only root can connect a new one. sysfs may only be mounted
///   with a network namespace of one's own, so the host's is bound.
/// * Options that name unmapped ids are removed, and so are limits, which need a delegated cgroup.
pub fn rootless(spec: &mut Spec, euid: u32, egid: u32) {
    for mount in &mut spec.mounts {
        mount.options.retain(|option| !option.starts_with("gid=") && !option.starts_with("uid="));
        if mount.destination == "/sys" {
            *mount = self::mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]);
        }
    }
    if let Some(linux) = &mut spec.linux {
        linux.resources = None;
        linux.namespaces.retain(|namespace| namespace.kind != "network" && namespace.kind != "user");
        linux.namespaces.push(Namespace { kind: "user".into(), path: String::new() });
        linux.uid_mappings = vec![IdMapping { container_id: 0, host_id: euid, size: 1 }];
        linux.gid_mappings = vec![IdMapping { container_id: 0, host_id: egid, size: 1 }];
    }
}

fn process() -> Process {
    let capabilities = words(&["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    Process {
        terminal: true,
        args: words(&["sh"]),
        env: words(&["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"]),
        cwd: "/".into(),
        // Neither inheritable nor ambient: programs that sh starts as another user get none of them
        // (CVE-2022-29162).
        capabilities: Some(Capabilities {
            bounding: capabilities.clone(),
            effective: capabilities.clone(),
            permitted: capabilities,
            ..Capabilities::default()
        }),
        rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".into(), hard: 1024, soft: 1024 }],
        no_new_privileges: true,
        ..Process::default()
    }
}

fn mounts() -> Vec<Mount> {
    vec![
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ]
}

fn linux() -> Linux {
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"];
    let no_device = DeviceRule { allow: false, access: "rwm".into(), ..DeviceRule::default() };
    Linux {
        resources: Some(Resources { devices: vec![no_device], ..Resources::default() }),
        namespaces: namespaces.map(|kind| Namespace { kind: kind.into(), path: String::new() }).into(),
        masked_paths: words(&[
            "/proc/acpi",
            "/proc/asound",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/proc/sched_debug",
            "/sys/firmware",
            "/sys/devices/virtual/powercap",
            "/proc/scsi",
        ]),
        readonly_paths: words(&["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]),
        ..Linux::default()
    }
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: source.into(),
        options: words(options),
        ..Mount::default()
    }
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|&word| word.into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_by_oci_spec(spec: &Spec) -> oci_spec::runtime::Spec {
        serde_json::from_slice(&serde_json::to_vec(spec).unwrap()).unwrap()
    }

    #[test]
    fn others_can_read_it() {
        let theirs = read_by_oci_spec(&spec());
        assert_eq!(theirs.version(), "1.3.0");
        assert_eq!(theirs.process().as_ref().unwrap().args().as_ref().unwrap(), &["sh"]);
        assert!(theirs.process().as_ref().unwrap().capabilities().as_ref().unwrap().ambient().is_none());
        assert_eq!(theirs.mounts().as_ref().unwrap().len(), 7);
        assert_eq!(theirs.linux().as_ref().unwrap().namespaces().as_ref().unwrap().len(), 6);
    }

    #[test]
    fn a_rootless_user_gets_nothing_that_needs_root() {
        let mut spec = spec();
        rootless(&mut spec, 1000, 100);
        let theirs = read_by_oci_spec(&spec);
        let linux = theirs.linux().as_ref().unwrap();
        let map = &linux.uid_mappings().as_ref().unwrap()[0];
        assert_eq!((map.container_id(), map.host_id(), map.size()), (0, 1000, 1));
        assert_eq!(linux.gid_mappings().as_ref().unwrap()[0].host_id(), 100);
        assert!(linux.resources().is_none());
        let ours = spec.linux.as_ref().unwrap();
        let kinds: Vec<&str> = ours.namespaces.iter().map(|namespace| namespace.kind.as_str()).collect();
        assert_eq!(kinds, ["pid", "ipc", "uts", "mount", "cgroup", "user"]);
        let options = spec.mounts.iter().flat_map(|mount| &mount.options);
        assert_eq!(options.filter(|option| option.contains("id=")).count(), 0);
        let sys = spec.mounts.iter().find(|mount| mount.destination == "/sys").unwrap();
        assert_eq!(
            (sys.kind.as_str(), sys.source.as_str(), sys.options[0].as_str()),
            ("none", "/sys", "rbind")
        );
    }
}
