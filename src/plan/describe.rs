//! The text of a step: its action and its objects, from the plan.

use super::{Plan, Step};
use crate::error::{LONGEST_WORDS, shortened};

impl Plan {
    /// The text for a step, without the kernel's error.
    pub fn describe(&self, step: Step, index: usize) -> String {
        match step {
            Step::Sync => "talk to the runtime".into(),
            Step::JoinNamespace => match self.namespaces.joined.iter().find(|joined| joined.at == index) {
                Some(joined) => format!("join {} (linux.namespaces[{index}])", joined.path.display()),
                None => format!("join linux.namespaces[{index}]"),
            },
            Step::JoinContainer => "join the container's namespaces (has it just ended?)".into(),
            Step::UnshareNamespace => "create the container's namespaces".into(),
            Step::TimeOffsets => "set linux.timeOffsets".into(),
            Step::EnterUser => "become root in the user namespace (is id 0 mapped in linux.uidMappings and linux.gidMappings?)".into(),
            Step::Keyring => "join a session keyring (--no-new-keyring leaves it out)".into(),
            Step::Session => "start a session".into(),
            Step::Loopback => "bring lo up in the new network namespace".into(),
            Step::Hostname => format!("set hostname {:?}", String::from_utf8_lossy(&self.hostname)),
            Step::Domainname => format!("set domainname {:?}", String::from_utf8_lossy(&self.domainname)),
            Step::Propagation => "set the propagation of all mounts (linux.rootfsPropagation)".into(),
            Step::RootBind => format!("bind the root file system {} (root.path)", self.rootfs.path.to_string_lossy()),
            Step::ParentPropagation => "make the mount that holds the root file system private".into(),
            Step::MountTarget | Step::MountOnLink | Step::NothingMounted | Step::MountSource | Step::Mount | Step::MountAttributes | Step::MountPropagation
            | Step::CopyUp | Step::CgroupMount | Step::MountReadonly | Step::Unmount => self.describe_mount(step, index),
            Step::EnterContainer => "enter the container's namespaces".into(),
            Step::DeviceDirectory | Step::Device | Step::DeviceTaken | Step::DeviceOfHost => self.describe_device(step, index),
            Step::DeviceLink => "create the default links in /dev".into(),
            Step::ConsoleOpen => "open a terminal in /dev/pts (process.terminal)".into(),
            Step::ConsoleSend => "send the terminal to the console socket".into(),
            Step::ConsoleMount => "mount the terminal on /dev/console".into(),
            Step::ConsoleAttach => "set the process's controlling terminal".into(),
            Step::HookSpawn | Step::HookExit | Step::HookSignal | Step::HookTimeout => self.describe_hook(step, index),
            Step::KernelDirectory => "find /proc and /sys where they were mounted (another process changes the root file system)".into(),
            Step::MaskedPath => format!("mask /{} (linux.maskedPaths)", self.rootfs.name(&self.rootfs.masked, index)),
            Step::ReadonlyPath => {
                format!("make /{} read-only (linux.readonlyPaths)", self.rootfs.name(&self.rootfs.readonly_paths, index))
            }
            Step::ChangeToRoot => "change to the root file system".into(),
            Step::Pivot => "pivot_root (on a ramfs root, use --no-pivot)".into(),
            Step::HideKernelDirectories => "remove the host's proc and sysfs mounts, which the container would reach (--no-pivot)".into(),
            Step::MoveRoot => "move the root file system to /".into(),
            Step::RootPropagation => "set linux.rootfsPropagation".into(),
            Step::RootReadonly => "make / read-only (root.readonly)".into(),
            Step::MakeCwd => self.with_process("create the working directory", |process| process.cwd.to_string_lossy().into()),
            Step::Sysctl => match self.sysctl.get(index) {
                Some((name, _)) => format!("write /proc/sys/{} (linux.sysctl)", name.to_string_lossy()),
                None => "write linux.sysctl".into(),
            },
            Step::Affinity => "set process.execCPUAffinity.final (does the cgroup have these CPUs?)".into(),
            Step::Scheduler => "set process.scheduler".into(),
            Step::IoPriority => "set process.ioPriority".into(),
            Step::MemoryPolicy => "set linux.memoryPolicy".into(),
            Step::Personality => "set linux.personality".into(),
            Step::OomScore => "set process.oomScoreAdj".into(),
            Step::Rlimit => self.describe_limit(index),
            Step::Apparmor => "set process.apparmorProfile (is the profile loaded?)".into(),
            Step::Selinux => "set process.selinuxLabel".into(),
            Step::NoNewPrivileges => "set process.noNewPrivileges".into(),
            Step::Seccomp => "load linux.seccomp (does the kernel have seccomp filters?)".into(),
            Step::SeccompListener => "pass on the listener of linux.seccomp".into(),
            Step::BoundingSet => "set process.capabilities.bounding".into(),
            Step::KeepCapabilities => "keep capabilities".into(),
            Step::Groups => "set process.user.additionalGids".into(),
            Step::Gid => self.with_process("set process.user.gid to", |process| process.gid.to_string()),
            Step::Uid => self.with_process("set process.user.uid to", |process| process.uid.to_string()),
            Step::Capabilities => "set process.capabilities".into(),
            Step::AmbientSet => "set process.capabilities.ambient".into(),
            Step::Cwd => self.with_process("chdir to cwd", |process| {
                format!("({:?}) set in config.json failed", process.cwd.to_string_lossy())
            }),
            Step::CwdOutside => "current working directory is outside of container mount namespace root".into(),
            Step::LookUpMissing => self.with_process("exec:", |process| {
                format!("{:?}: executable file not found in $PATH", process.program())
            }),
            Step::LookUpDenied => self.with_process("exec:", |process| format!("{:?}: permission denied", process.program())),
            Step::LookUpDirectory => self.with_process("exec:", |process| format!("{:?}: is a directory", process.program())),
            Step::LookUpStat => self.with_process("exec:", |process| {
                format!("{:?}: stat {}", process.program(), process.program())
            }),
            Step::Descriptors => "close the runtime's descriptors".into(),
            Step::OwnProgram => "execute the runtime's own program in the container's process".into(),
            Step::Exec => self.with_process("exec", |process| process.candidate(index)),
        }
    }

    fn with_process(&self, words: &str, object: impl FnOnce(&super::ProcessPlan) -> String) -> String {
        self.process.as_ref().map_or_else(
            || words.to_owned(),
            |process| format!("{words} {}", shortened(&object(process), LONGEST_WORDS)),
        )
    }

    /// Type and options of the file system that a step creates or changes, if it has options,
    /// shortened to a readable length.
    pub(super) fn options_of(&self, index: usize) -> Option<(String, String)> {
        use super::MountKind;
        const LONGEST: usize = 200;
        let steps = &self.rootfs.mounts;
        let step = steps.get(index)?;
        let made_by = step.changes().map_or(Some(step), |made_by| steps.get(made_by))?;
        let MountKind::New(new) = &made_by.kind else { return None };
        let options = match &step.kind {
            MountKind::Remount(change) => &change.file_system.as_ref()?.options,
            _ => &new.options,
        };
        let options = options.iter().map(|(key, value)| match value {
            Some(value) => format!("{}={}", key.to_string_lossy(), value.to_string_lossy()),
            None => key.to_string_lossy().into_owned(),
        });
        let all = options.collect::<Vec<_>>().join(",");
        let cut: String = all.chars().take(LONGEST).collect();
        let rest = if cut.len() < all.len() { "…" } else { "" };
        (!all.is_empty()).then(|| (new.fstype.to_string_lossy().into_owned(), cut + rest))
    }

    fn describe_mount(&self, step: Step, index: usize) -> String {
        use super::MountKind;
        let Some(mount) = self.rootfs.mounts.get(index) else { return format!("mounts[{index}]") };
        let target = format!("/{}", mount.target.to_string_lossy());
        let what = match &mount.kind {
            MountKind::New(new) => new.fstype.to_string_lossy().into_owned(),
            MountKind::Bind(source) => source.path.to_string_lossy().into_owned(),
            MountKind::Cgroup(_) => "cgroup".into(),
            MountKind::Remount(_) => "remount".into(),
        };
        let doing = match step {
            Step::MountTarget => format!("create the destination {target} of"),
            Step::MountOnLink => {
                return format!(
                    "mounts[{index}].destination: {target} is a symbolic link in the root file system, on which {what} is not mounted; \
                     make it a directory"
                );
            }
            Step::NothingMounted => {
                return format!("mounts[{index}].destination: remount: nothing is mounted on {target}");
            }
            Step::MountSource => "open the source of".into(),
            Step::MountAttributes => "set the options of".into(),
            Step::MountPropagation => "set the propagation of".into(),
            Step::CopyUp => format!("copy the old content of {target} into"),
            Step::MountReadonly => "make read-only".into(),
            Step::Unmount => return format!("unmount {target} (mounts[{index}])"),
            _ if matches!(mount.kind, MountKind::Remount(_)) => {
                return format!("change the file system at {target} (mounts[{index}])");
            }
            _ => return format!("mount {what} on {target} (mounts[{index}])"),
        };
        format!("{doing} mounts[{index}] ({what} on {target})")
    }

    fn describe_device(&self, step: Step, index: usize) -> String {
        let device = self.rootfs.devices.get(index);
        let name = device.map_or_else(String::new, |device| device.path.to_string_lossy().into_owned());
        let field = self.device_field(index);
        match step {
            Step::DeviceDirectory => format!("create the directory of device /{name} ({field})"),
            Step::DeviceTaken => {
                format!("create device /{name} ({field}): another file exists there, and is kept")
            }
            Step::DeviceOfHost => format!(
                "create device /{name} ({field}): this process cannot create nodes, and the host's has another number, fileMode, uid or gid, or cannot be opened"
            ),
            _ => format!("create device /{name} ({field})"),
        }
    }

    /// JSON path of the device with this index, if config.json has it.
    pub fn device_field(&self, index: usize) -> String {
        match self.rootfs.devices.get(index).and_then(|device| device.at) {
            Some(at) => format!("linux.devices[{at}]"),
            None => "a default device".into(),
        }
    }

    /// Includes the limit's name, soft and hard value: engines write many limits.
    pub fn describe_limit(&self, index: usize) -> String {
        let limit = self.process.as_ref().and_then(|process| process.rlimits.get(index));
        limit.map_or_else(String::new, |(resource, soft, hard)| {
            let name = super::rlimits::rlimit_name(*resource);
            format!("set process.rlimits[{index}], {name}, to {soft} (soft) and {hard} (hard)")
        })
    }

    fn describe_hook(&self, step: Step, index: usize) -> String {
        let all = self.hooks.create_container.iter().map(|hook| ("createContainer", hook));
        let all = all.chain(self.hooks.start_container.iter().map(|hook| ("startContainer", hook)));
        let (kind, path) = match all.clone().nth(index) {
            Some((kind, hook)) => (kind, hook.path.to_string_lossy().into_owned()),
            None => ("container", String::new()),
        };
        let number = index - if kind == "startContainer" { self.hooks.create_container.len() } else { 0 };
        let named = super::hooks::named(&format!("hooks.{kind}[{number}]"), &path);
        match step {
            Step::HookTimeout => format!("error running {named}: killed, its timeout has passed"),
            _ => format!("error running {named}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{ask, host};

    #[test]
    fn a_joined_namespace_is_named_by_its_place_in_the_configuration() {
        let mut spec = crate::spec::defaults::spec();
        let at =
            spec.linux.as_ref().unwrap().namespaces.iter().position(|one| one.kind == "network").unwrap();
        assert!(at > 0);
        spec.linux.as_mut().unwrap().namespaces[at].path = "/run/netns/a".into();
        let plan = Plan::build(&spec, &ask(), &host()).unwrap();
        let want = format!("join /run/netns/a (linux.namespaces[{at}])");
        assert_eq!(plan.describe(Step::JoinNamespace, at), want);
    }
}
