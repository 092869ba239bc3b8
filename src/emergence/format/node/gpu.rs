//! GPUs, as reported by the PCI bus and their drivers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::file::text;

/// A GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Gpu {
    /// `nvidia`, `amd`, `intel`, or four hexadecimal digits.
    pub vendor: String,
    /// The driver's name for it, or eight hexadecimal digits `vendor:device`.
    pub model: String,
    /// Its own memory in bytes, if the driver reports it.
    pub memory: Option<u64>,
    /// The kernel driver; `None` if no driver is bound.
    pub driver: Option<String>,
    /// The driver's version, if it has one of its own.
    pub driver_version: Option<String>,
    /// Device nodes that a program needs, sorted.
    pub devices: Vec<String>,
}

/// The GPUs below `root`'s /sys, in the order of their PCI addresses.
pub(crate) fn below(root: &Path) -> Vec<Gpu> {
    let entries = fs::read_dir(root.join("sys/bus/pci/devices")).into_iter().flatten().flatten();
    let addresses: BTreeSet<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    addresses.iter().filter_map(|address| at(root, address)).collect()
}

fn at(root: &Path, address: &str) -> Option<Gpu> {
    let directory = root.join("sys/bus/pci/devices").join(address);
    // Class 03: display controllers. Its subclasses distinguish outputs, not computing
    // capabilities.
    if !text(&directory.join("class")).starts_with("0x03") {
        return None;
    }
    let id = |name: &str| text(&directory.join(name)).trim_start_matches("0x").to_owned();
    let (vendor, device) = (id("vendor"), id("device"));
    let driver = fs::read_link(directory.join("driver")).ok();
    let driver = driver.and_then(|link| Some(link.file_name()?.to_str()?.to_owned()));
    let version = driver.as_ref().map(|name| text(&root.join("sys/module").join(name).join("version")));
    let own = text(&root.join("proc/driver/nvidia/gpus").join(address).join("information"));
    let field = |name: &str| {
        let line = own.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
        line.map(|value| value.trim().to_owned())
    };
    Some(Gpu {
        vendor: match vendor.as_str() {
            "10de" => "nvidia".into(),
            "1002" => "amd".into(),
            "8086" => "intel".into(),
            other => other.to_owned(),
        },
        model: field("Model").unwrap_or_else(|| format!("{vendor}:{device}")),
        memory: text(&directory.join("mem_info_vram_total")).parse().ok(),
        driver_version: version.filter(|version| !version.is_empty()),
        devices: devices(root, &directory, driver.as_deref(), field("Device Minor").as_deref()),
        driver,
    })
}

/// Its DRM nodes and those of its driver, as far as they exist.
fn devices(root: &Path, directory: &Path, driver: Option<&str>, minor: Option<&str>) -> Vec<String> {
    let entries = fs::read_dir(directory.join("drm")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_node = |name: &String| name.starts_with("card") || name.starts_with("renderD");
    let mut found: BTreeSet<_> = names.filter(is_node).map(|name| format!("dev/dri/{name}")).collect();
    match driver {
        Some("nvidia") => {
            found.extend(minor.map(|minor| format!("dev/nvidia{minor}")));
            found.extend(["dev/nvidiactl", "dev/nvidia-uvm", "dev/nvidia-uvm-tools"].map(str::to_owned));
        }
        Some("amdgpu") => {
            found.insert("dev/kfd".to_owned());
        }
        _ => {}
    }
    found.into_iter().filter(|name| root.join(name).exists()).map(|name| format!("/{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_of_the_bus_and_the_driver() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let bus = "sys/bus/pci/devices";
        write(&format!("{bus}/0000:00:01.0/class"), "0x010601\n");
        write(&format!("{bus}/0000:01:00.0/class"), "0x030200\n");
        write(&format!("{bus}/0000:01:00.0/vendor"), "0x10de\n");
        write(&format!("{bus}/0000:01:00.0/device"), "0x20b0\n");
        write(&format!("{bus}/0000:01:00.0/drm/renderD128/x"), "");
        std::os::unix::fs::symlink("../../drivers/nvidia", root.join(bus).join("0000:01:00.0/driver"))
            .unwrap();
        write("sys/module/nvidia/version", "535.104.05\n");
        let information = "Model: \t\t NVIDIA A100\nIRQ:   12\nDevice Minor: \t 3\n";
        write("proc/driver/nvidia/gpus/0000:01:00.0/information", information);
        for node in ["dev/nvidia3", "dev/nvidiactl", "dev/dri/renderD128"] {
            write(node, "");
        }
        write(&format!("{bus}/0000:02:00.0/class"), "0x030000\n");
        write(&format!("{bus}/0000:02:00.0/vendor"), "0x1002\n");
        write(&format!("{bus}/0000:02:00.0/device"), "0x744c\n");
        write(&format!("{bus}/0000:02:00.0/mem_info_vram_total"), "25753026560\n");
        let found = below(root);
        let nvidia = Gpu {
            vendor: "nvidia".into(),
            model: "NVIDIA A100".into(),
            memory: None,
            driver: Some("nvidia".into()),
            driver_version: Some("535.104.05".into()),
            devices: ["/dev/dri/renderD128", "/dev/nvidia3", "/dev/nvidiactl"].map(str::to_owned).into(),
        };
        let amd = Gpu {
            vendor: "amd".into(),
            model: "1002:744c".into(),
            memory: Some(25_753_026_560),
            ..Gpu::default()
        };
        assert_eq!(found, [nvidia, amd]);
    }
}
