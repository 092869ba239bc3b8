//! Folders one over another, by overlayfs.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, mkdirat, unlinkat};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};

use super::open_folder;
use crate::emergence::base::refusal::{Fault, Result};
use crate::error::{Doing, Error};
use crate::sys::namespace::Namespace;
use crate::sys::process;

/// Bytes of all options of a mount, mount(2); a few are for other options than our folders.
const MOST: usize = 4096 - 200;

/// How a layer is made, whatever this machine's defaults are: it shows all that it changes itself, by whiteouts and whole files.
const PLAIN: &str = "redirect_dir=off,metacopy=off,index=off";

/// The options that name the folders of an overlay: `lower`, the lowest first, and where changes and unfinished work go.
pub fn overlay_folders(lower: &[PathBuf], upper: &Path, work: &Path) -> Result<Vec<String>> {
    let below = lower.iter().rev().map(|path| checked(path)).collect::<Result<Vec<_>>>()?;
    Ok(vec![
        format!("lowerdir={}", below.join(":")),
        format!("upperdir={}", checked(upper)?),
        format!("workdir={}", checked(work)?),
    ])
}

fn checked(path: &Path) -> Result<&str> {
    let text = path.to_str().ok_or_else(|| Fault::usage(format!("{}: must be UTF-8", path.display())))?;
    match text.contains([',', ':', '\\']) {
        true => Err(Fault::usage(format!("{text}: an overlay takes no path with , : or \\"))),
        false => Ok(text),
    }
}

/// Whether so many folders with names of `name` bytes in `folder` can be the lower ones of one overlay.
pub fn overlay_takes(folder: &Path, name: usize, count: usize) -> bool {
    let one = folder.as_os_str().len() + name + 2;
    checked(folder).is_ok() && one.saturating_mul(count + 2) < MOST
}

/// Whether an overlay shows what the upper of its folders hide. They say so by attributes that the kernel gives to nobody in a user
/// namespace other than the first: what is hidden would be seen again there.
pub fn overlay_shows() -> bool {
    // PROC_USER_INIT_INO of the kernel.
    std::fs::metadata("/proc/self/ns/user").is_ok_and(|namespace| namespace.ino() == 0xEFFF_FFFD)
}

/// Mounts an overlay of these options on the folder `at`.
pub fn overlay_on(at: &Path, options: String) -> Result<()> {
    let options = CString::new(options).map_err(|_| Fault::usage("a path has a NUL byte"))?;
    let made = mount("overlay", at, "overlay", MountFlags::NODEV, options.as_c_str());
    Ok(made.doing(|| format!("mount an overlay on {}", at.display()))?)
}

/// An overlay over `lower`, the lowest first, whose changes go to the folder `upper`; `staging` takes what it needs besides. Nobody else
/// sees it: it is mounted in a mount namespace of its own, detached there, and lives as long as something of it is open.
pub fn overlay_apart(lower: &[PathBuf], upper: &Path, staging: &Path) -> Result<OwnedFd> {
    let (work, at) = (staging.join("work"), staging.join("merged"));
    for folder in [&work, &at] {
        std::fs::create_dir(folder).doing(|| format!("make {}", folder.display()))?;
    }
    let options = format!("{},{PLAIN}", overlay_folders(lower, upper, &work)?.join(","));
    let mounted = || -> Result<OwnedFd> {
        process::unshare(Namespace::Mount).doing(|| "make a mount namespace")?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).doing(|| "part the mounts of a thread from the host's")?;
        overlay_on(&at, options)?;
        let root = open_folder(&at)?;
        // Not when the namespace ends, which may be later than who joins the thread goes on: what is closed is unmounted.
        unmount(&at, UnmountFlags::DETACH).doing(|| format!("detach {}", at.display()))?;
        Ok(root)
    };
    // unshare(2) of a mount namespace is for the thread that calls.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("overlay".into()).spawn_scoped(scope, mounted);
        let thread = thread.doing(|| "start a thread")?;
        thread.join().unwrap_or_else(|_| Err(Error::from(std::io::Error::other("a thread has ended")).into()))
    })
}

/// Whether overlays can be mounted whose changes go to a folder in `staging`, whiteouts and all. Not where it is part of an overlay itself,
/// and not without the rights to mount.
pub fn overlay_works(staging: &Path) -> Result<bool> {
    let (lower, upper) = (staging.join("lower"), staging.join("upper"));
    for folder in [&lower, &upper, &lower.join("gone")] {
        std::fs::create_dir(folder).doing(|| format!("make {}", folder.display()))?;
    }
    let Ok(root) = overlay_apart(&[lower], &upper, staging) else { return Ok(false) };
    let replaced = unlinkat(&root, c"gone", AtFlags::REMOVEDIR)
        .and_then(|()| mkdirat(&root, c"gone", Mode::from_raw_mode(0o755)));
    Ok(replaced.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who mounts what was made has no other mount in the way, not even where the kernel keeps an index of all overlays.
    #[test]
    fn what_is_closed_is_unmounted() {
        let in_memory = Path::new("/dev/shm");
        if !rustix::process::geteuid().is_root() || !in_memory.is_dir() {
            return;
        }
        let outer = tempfile::tempdir_in(in_memory).unwrap();
        let paths: Vec<PathBuf> = (0..5).map(|number| outer.path().join(number.to_string())).collect();
        paths.iter().for_each(|path| std::fs::create_dir(path).unwrap());
        for round in 0..20 {
            let staging = outer.path().join(format!("staging-{round}"));
            std::fs::create_dir(&staging).unwrap();
            drop(overlay_apart(&paths[..1], &paths[1], &staging).unwrap());
            let options = overlay_folders(&paths[..2], &paths[2], &paths[3]).unwrap();
            let options = CString::new(format!("{},index=on", options.join(","))).unwrap();
            let look = || {
                process::unshare(Namespace::Mount).unwrap();
                mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
                mount("overlay", &paths[4], "overlay", MountFlags::NODEV, options.as_c_str())
            };
            let mounted = std::thread::scope(|scope| scope.spawn(look).join().unwrap());
            assert_eq!(mounted, Ok(()), "round {round}");
        }
    }

    #[test]
    fn folders_stand_the_highest_first() {
        let paths = ["/s/1", "/s/2"].map(PathBuf::from);
        let told = overlay_folders(&paths, Path::new("/u"), Path::new("/w")).unwrap();
        assert_eq!(told, ["lowerdir=/s/2:/s/1", "upperdir=/u", "workdir=/w"]);
        for bad in ["/a:b", "/a,b", "/a\\b"] {
            assert!(overlay_folders(&[bad.into()], Path::new("/u"), Path::new("/w")).is_err(), "{bad}");
            assert!(!overlay_takes(Path::new(bad), 64, 1), "{bad}");
        }
        assert!(overlay_takes(Path::new("/var/lib/emergence/layers"), 64, 40));
        assert!(!overlay_takes(Path::new("/var/lib/emergence/layers"), 64, 42));
    }
}
