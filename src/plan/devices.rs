//! `linux.devices` and the default nodes of /dev. Source: runtime-spec config-linux.md, "Devices"
//! and "Default Devices".

use std::collections::BTreeMap;
use std::ffi::CString;

use super::{Judge, Place, mounts};
use crate::spec;

/// One node to create.
#[derive(Debug)]
pub struct DeviceStep {
    /// Path below the root, without the leading slash.
    pub path: CString,
    /// Path on the host, bound if nodes cannot be created.
    pub host: CString,
    /// File type, S_IF…
    pub kind: u32,
    /// As makedev(3) packs it.
    pub device: u64,
    /// Permission bits; `None`: any, and 0666 for a new node.
    pub mode: Option<u32>,
    /// Owner inside; `None`: any, and 0 for a new node.
    pub uid: Option<u32>,
    /// Group inside; `None`: any, and 0 for a new node.
    pub gid: Option<u32>,
    /// Its index in `linux.devices`; `None`: a default device.
    pub at: Option<usize>,
}

impl DeviceStep {
    /// Permission bits of a new node.
    pub fn permissions(&self) -> u32 {
        self.mode.unwrap_or(0o666)
    }

    /// Whether a node of this file type and number is the device.
    pub fn is(&self, mode: u32, device: u64) -> bool {
        mode & libc::S_IFMT == self.kind && (self.kind == libc::S_IFIFO || device == self.device)
    }

    /// Whether a node has the requested attributes. `owner`: its user and group, as IDs of the
    /// container.
    pub fn has(&self, mode: u32, owner: (u32, u32)) -> bool {
        let agrees = |wanted: Option<u32>, found: u32| wanted.is_none_or(|wanted| wanted == found);
        agrees(self.mode, mode & 0o7777) && agrees(self.uid, owner.0) && agrees(self.gid, owner.1)
    }
}

/// Character devices with mode 0666, by major and minor.
const DEFAULT: &[(&str, u32, u32)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// A device number has 12 bits for the major and 20 for the minor part, linux/kdev_t.h.
const MOST_MAJOR: u32 = 0xfff;
const MOST_MINOR: u32 = 0xf_ffff;

/// The default nodes (if the runtime fills /dev), then those of config.json, which replace a
/// default one of the same path.
pub fn plan(devices: &[spec::Device], make_dev: bool, judge: &mut Judge) -> Vec<DeviceStep> {
    let mut steps = Vec::with_capacity(DEFAULT.len() + devices.len());
    for (name, major, minor) in DEFAULT.iter().filter(|_| make_dev) {
        let path = format!("/dev/{name}");
        steps.extend(step(&path, libc::S_IFCHR, (*major, *minor), format_args!("linux.devices"), judge));
    }
    for (at, device) in devices.iter().enumerate() {
        steps.extend(judged(device, at, judge));
    }
    let last: BTreeMap<CString, usize> =
        steps.iter().enumerate().map(|(at, step)| (step.path.clone(), at)).collect();
    let steps = steps.into_iter().enumerate();
    steps.filter(|(at, step)| last.get(&step.path) == Some(at)).map(|(_, step)| step).collect()
}

fn judged(device: &spec::Device, at: usize, judge: &mut Judge) -> Option<DeviceStep> {
    let place = format_args!("linux.devices[{at}]");
    let before = judge.faults.len();
    if !device.path.starts_with('/') || mounts::inside(&device.path).is_empty() {
        judge.fault(format!("{place}.path"), format!("{:?} is not an absolute path of a file", device.path));
    }
    let kind = match device.kind.as_str() {
        "c" | "u" => libc::S_IFCHR,
        "b" => libc::S_IFBLK,
        "p" => libc::S_IFIFO,
        other => {
            judge.fault(format!("{place}.type"), format!("{other:?} is unknown; use c, b, u or p"));
            0
        }
    };
    // The kernel would use only the lower bits of a larger number, and create another device.
    let mut number = |name: &str, value: i64, most: u32| {
        u32::try_from(value).ok().filter(|value| *value <= most).unwrap_or_else(|| {
            judge.fault(format!("{place}.{name}"), format!("{value} is not from 0 to {most}"));
            0
        })
    };
    // A fifo has no device number; values in config.json are ignored.
    let numbers = if kind == libc::S_IFIFO {
        (0, 0)
    } else {
        (number("major", device.major, MOST_MAJOR), number("minor", device.minor, MOST_MINOR))
    };
    for (name, id) in [("uid", device.uid), ("gid", device.gid)] {
        // chown(2) interprets it as: leave the owner.
        if id == Some(u32::MAX) {
            judge.fault(format!("{place}.{name}"), format!("{} is not a valid id", u32::MAX));
        }
    }
    if judge.faults.len() > before {
        return None;
    }
    Some(DeviceStep {
        // Engines copy the whole st_mode, with the type bits.
        mode: device.file_mode.map(|mode| mode & 0o7777),
        uid: device.uid,
        gid: device.gid,
        at: Some(at),
        ..step(&device.path, kind, numbers, place, judge)?
    })
}

/// A device without mode and owner.
fn step(
    path: &str,
    kind: u32,
    (major, minor): (u32, u32),
    place: Place<'_>,
    judge: &mut Judge,
) -> Option<DeviceStep> {
    Some(DeviceStep {
        path: judge.cstring(format_args!("{place}.path"), &mounts::inside(path))?,
        host: judge.cstring(format_args!("{place}.path"), path)?,
        kind,
        device: rustix::fs::makedev(major, minor),
        mode: None,
        uid: None,
        gid: None,
        at: None,
    })
}
