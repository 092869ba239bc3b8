//! `linux.devices` and the default nodes of /dev. Source: runtime-spec config-linux.md, "Devices" and "Default Devices".

use std::collections::BTreeMap;
use std::ffi::CString;

use super::{Judge, mounts};
use crate::spec;

/// One node to make.
#[derive(Debug)]
pub struct DeviceStep {
    /// Below the root, without the slash in front.
    pub path: CString,
    /// The same on the host, bound where nodes cannot be made.
    pub host: CString,
    /// File type and permission bits.
    pub mode: u32,
    /// As makedev(3) packs it.
    pub device: u64,
    /// Owner inside.
    pub uid: u32,
    /// Group inside.
    pub gid: u32,
}

/// Character devices with mode 0666, by major and minor.
const DEFAULT: &[(&str, u32, u32)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// A device number has 12 bits for the major and 20 for the minor part, linux/kdev_t.h.
const MOST_MAJOR: u32 = 0xfff;
const MOST_MINOR: u32 = 0xf_ffff;

/// The default nodes (when /dev is ours to fill), then those of config.json, which replace a default one of the same path.
pub fn plan(devices: &[spec::Device], make_dev: bool, judge: &mut Judge) -> Vec<DeviceStep> {
    let mut steps = Vec::with_capacity(DEFAULT.len() + devices.len());
    for (name, major, minor) in DEFAULT.iter().filter(|_| make_dev) {
        steps.extend(step(
            &format!("/dev/{name}"),
            libc::S_IFCHR | 0o666,
            (*major, *minor),
            (0, 0),
            "linux.devices",
            judge,
        ));
    }
    for (at, device) in devices.iter().enumerate() {
        steps.extend(judged(device, &format!("linux.devices[{at}]"), judge));
    }
    let last: BTreeMap<CString, usize> =
        steps.iter().enumerate().map(|(at, step)| (step.path.clone(), at)).collect();
    let steps = steps.into_iter().enumerate();
    steps.filter(|(at, step)| last.get(&step.path) == Some(at)).map(|(_, step)| step).collect()
}

fn judged(device: &spec::Device, place: &str, judge: &mut Judge) -> Option<DeviceStep> {
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
    // The kernel would take the lower bits of a larger one, and make another device.
    let mut number = |name: &str, value: i64, most: u32| {
        u32::try_from(value).ok().filter(|value| *value <= most).unwrap_or_else(|| {
            judge.fault(format!("{place}.{name}"), format!("{value} is not from 0 to {most}"));
            0
        })
    };
    // A fifo has no numbers, whatever is written.
    let numbers = if kind == libc::S_IFIFO {
        (0, 0)
    } else {
        (number("major", device.major, MOST_MAJOR), number("minor", device.minor, MOST_MINOR))
    };
    let mode = device.file_mode.unwrap_or(0o666);
    // Engines copy st_mode whole, with the type's bits.
    let permissions = mode & 0o7777;
    if judge.faults.len() > before {
        return None;
    }
    step(
        &device.path,
        kind | permissions,
        numbers,
        (device.uid.unwrap_or(0), device.gid.unwrap_or(0)),
        place,
        judge,
    )
}

fn step(
    path: &str,
    mode: u32,
    (major, minor): (u32, u32),
    (uid, gid): (u32, u32),
    place: &str,
    judge: &mut Judge,
) -> Option<DeviceStep> {
    Some(DeviceStep {
        path: judge.cstring(&format!("{place}.path"), &mounts::inside(path))?,
        host: judge.cstring(&format!("{place}.path"), path)?,
        mode,
        device: rustix::fs::makedev(major, minor),
        uid,
        gid,
    })
}
