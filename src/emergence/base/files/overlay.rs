//! Overlayfs mounts.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, mkdirat, unlinkat};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};

use super::open_directory;
use crate::emergence::base::refusal::{Fault, Result};
use crate::error::{Doing, Error};
use crate::sys::namespace::Namespace;
use crate::sys::process;

/// Maximum length of all options of a mount, mount(2), less some space for options that are not
/// directories.
const MOST: usize = 4096 - 200;

/// Layers are the same whatever this machine's defaults are: complete in themselves, with whiteouts
/// and whole files only.
const PLAIN: &str = "redirect_dir=off,metacopy=off,index=off";

/// The mount options for the directories of an overlay: `lower`, lowest first, the upper directory
/// and the work directory.
pub(crate) fn overlay_directories(lower: &[PathBuf], upper: &Path, work: &Path) -> Result<Vec<String>> {
    let below = lower.iter().rev().map(|path| checked(path)).collect::<Result<Vec<_>>>()?;
    Ok(vec![
        format!("lowerdir={}", below.join(":")),
        format!("upperdir={}", checked(upper)?),
        format!("workdir={}", checked(work)?),
    ])
}

fn checked(path: &Path) -> Result<&str> {
    let text = path.to_str().ok_or_else(|| Fault::usage(format!("{}: must be UTF-8", path.display())))?;
    if text.contains([',', ':', '\\']) {
        Err(Fault::usage(format!("{text}: an overlay takes no path with , : or \\")))
    } else {
        Ok(text)
    }
}

/// Whether `count` directories in `directory`, with names of `name` bytes, can be the lower
/// directories of one overlay.
pub(crate) fn overlay_takes(directory: &Path, name: usize, count: usize) -> bool {
    let one = directory.as_os_str().len() + name + 2;
    checked(directory).is_ok() && one.saturating_mul(count + 2) < MOST
}

/// Whether an overlay honours the upper directories' opaque markers. They are trusted.* extended
/// attributes, which the kernel hides outside the initial user namespace: hidden files would
/// reappear there.
pub(crate) fn overlay_shows() -> bool {
    // PROC_USER_INIT_INO of the kernel.
    std::fs::metadata("/proc/self/ns/user").is_ok_and(|namespace| namespace.ino() == 0xEFFF_FFFD)
}

/// Mounts an overlay with these options on the directory `at`.
pub(crate) fn overlay_on(at: &Path, options: String) -> Result<()> {
    let options = CString::new(options).map_err(|_| Fault::usage("a path has a NUL byte"))?;
    let made = mount("overlay", at, "overlay", MountFlags::NODEV, options.as_c_str());
    Ok(made.doing(|| format!("mount an overlay on {}", at.display()))?)
}

/// Mounts an overlay over `lower`, lowest first, with the upper directory `upper`; other
/// directories it needs are created in `staging`. No other process sees the mount: it is made in
/// its own mount namespace and detached there, and lives as long as a descriptor of it is open.
pub(crate) fn overlay_in_private_namespace(
    lower: &[PathBuf],
    upper: &Path,
    staging: &Path,
) -> Result<OwnedFd> {
    let (work, at) = (staging.join("work"), staging.join("merged"));
    for directory in [&work, &at] {
        std::fs::create_dir(directory).doing(|| format!("create {}", directory.display()))?;
    }
    let options = format!("{},{PLAIN}", overlay_directories(lower, upper, &work)?.join(","));
    let mounted = || -> Result<OwnedFd> {
        process::unshare(Namespace::Mount).doing(|| "create a mount namespace")?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).doing(|| "separate the mounts of a thread from the host's")?;
        overlay_on(&at, options)?;
        let root = open_directory(&at)?;
        // The end of the namespace may come later than the join of the thread. After the detach,
        // closing the descriptor unmounts.
        unmount(&at, UnmountFlags::DETACH).doing(|| format!("detach {}", at.display()))?;
        Ok(root)
    };
    // unshare(2) of a mount namespace affects only the calling thread.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("overlay".into()).spawn_scoped(scope, mounted);
        let thread = thread.doing(|| "start a thread")?;
        thread.join().unwrap_or_else(|_| Err(Error::from(std::io::Error::other("a thread has ended")).into()))
    })
}

/// Whether overlays with an upper directory in `staging` can be mounted and take whiteouts. False
/// if `staging` itself is on an overlay, or without the privileges to mount.
pub(crate) fn overlay_works(staging: &Path) -> Result<bool> {
    let (lower, upper) = (staging.join("lower"), staging.join("upper"));
    for directory in [&lower, &upper, &lower.join("gone")] {
        std::fs::create_dir(directory).doing(|| format!("create {}", directory.display()))?;
    }
    let Ok(root) = overlay_in_private_namespace(&[lower], &upper, staging) else { return Ok(false) };
    let replaced = unlinkat(&root, c"gone", AtFlags::REMOVEDIR)
        .and_then(|()| mkdirat(&root, c"gone", Mode::from_raw_mode(0o755)));
    Ok(replaced.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A later mount of the result finds no other mount of it, even if the kernel keeps an overlay
    /// index.
    #[test]
    fn closing_the_descriptor_unmounts() {
        let in_memory = Path::new("/dev/shm");
        if !rustix::process::geteuid().is_root() || !in_memory.is_dir() {
            return;
        }
        let outer = tempfile::tempdir_in(in_memory).unwrap();
        let paths: Vec<PathBuf> = (0..3).map(|number| outer.path().join(number.to_string())).collect();
        paths.iter().for_each(|path| std::fs::create_dir(path).unwrap());
        for round in 0..20 {
            // New ones: a thread that has ended may keep its mounts for a moment longer.
            let [staging, upper, work] = ["staging", "upper", "work"].map(|name| {
                let path = outer.path().join(format!("{name}-{round}"));
                std::fs::create_dir(&path).unwrap();
                path
            });
            drop(overlay_in_private_namespace(&paths[..1], &paths[1], &staging).unwrap());
            let options = overlay_directories(&paths[..2], &upper, &work).unwrap();
            let options = CString::new(format!("{},index=on", options.join(","))).unwrap();
            let look = || {
                process::unshare(Namespace::Mount).unwrap();
                mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
                mount("overlay", &paths[2], "overlay", MountFlags::NODEV, options.as_c_str())
            };
            let mounted = std::thread::scope(|scope| scope.spawn(look).join().unwrap());
            assert_eq!(mounted, Ok(()), "round {round}");
        }
    }

    #[test]
    fn directories_are_ordered_outermost_first() {
        let paths = ["/s/1", "/s/2"].map(PathBuf::from);
        let options = overlay_directories(&paths, Path::new("/u"), Path::new("/w")).unwrap();
        assert_eq!(options, ["lowerdir=/s/2:/s/1", "upperdir=/u", "workdir=/w"]);
        for bad in ["/a:b", "/a,b", "/a\\b"] {
            assert!(overlay_directories(&[bad.into()], Path::new("/u"), Path::new("/w")).is_err(), "{bad}");
            assert!(!overlay_takes(Path::new(bad), 64, 1), "{bad}");
        }
        assert!(overlay_takes(Path::new("/var/lib/emergence/layers"), 64, 40));
        assert!(!overlay_takes(Path::new("/var/lib/emergence/layers"), 64, 42));
    }
}
