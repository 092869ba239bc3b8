//! Compares the walk with the kernel's: the same result on every path, and never one outside during
//! concurrent renames.

use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

fn directory(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// The result for comparison: the identity of the file, or the error.
fn identity(answer: Result<OwnedFd>) -> Result<(u64, u64)> {
    let stat = rustix::fs::fstat(answer?)?;
    Ok((stat.st_dev, stat.st_ino))
}

fn by_kernel(root: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            // Any concurrent rename on the machine can cause it.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

/// A generator whose numbers are the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most as u64) as usize
    }

    fn path(&mut self) -> String {
        const PARTS: [&str; 14] =
            ["a", "b", "c", "l0", "l1", "l2", "l3", "l4", "file", "none", ".", "..", "..", ""];
        let mut path = String::from(["", "", "/", "//"][self.below(4)]);
        for _ in 0..1 + self.below(7) {
            path.push_str(PARTS[self.below(PARTS.len())]);
            path.push_str(["/", "/", "/", "//"][self.below(4)]);
        }
        if self.below(4) != 0 {
            path.truncate(path.trim_end_matches('/').len());
        }
        if path.is_empty() { "/".to_owned() } else { path }
    }
}

#[test]
fn results_match_the_kernels() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut found = 0;
    for _ in 0..40 {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("root");
        fs::create_dir(&top).unwrap();
        fs::write(dir.path().join("file"), "outside").unwrap();
        for below in ["a", "b", "c", "a/a", "a/b", "b/c", "a/b/c", "a/b/c/a"] {
            fs::create_dir(top.join(below)).unwrap();
            if dice.below(2) == 0 {
                fs::write(top.join(below).join("file"), "").unwrap();
            }
            for name in ["l0", "l1", "l2", "l3", "l4"] {
                if dice.below(3) == 0 {
                    symlink(dice.path(), top.join(below).join(name)).unwrap();
                }
            }
        }
        for name in ["l0", "l1", "l2"] {
            symlink(dice.path(), top.join(name)).unwrap();
        }
        let root = directory(&top);
        for _ in 0..1000 {
            let path = std::ffi::CString::new(dice.path()).unwrap();
            let ways = [OFlags::PATH, OFlags::RDONLY | OFlags::NONBLOCK];
            let more = [OFlags::empty(), OFlags::NOFOLLOW, OFlags::DIRECTORY];
            let flags = ways[dice.below(2)] | more[dice.below(3)] | OFlags::CLOEXEC;
            let want = identity(by_kernel(root.as_fd(), &path, flags));
            let got = identity(by_names(root.as_fd(), &path, flags));
            assert_eq!(got, want, "{path:?} with {flags:?} in {}", top.display());
            found += usize::from(got.is_ok());
        }
    }
    assert!(found > 5_000, "only {found} paths led to something");
}

#[test]
fn links_of_procfs_that_jump_lead_nowhere() {
    let root = directory(Path::new("/"));
    for path in
        [c"proc/self/exe", c"proc/self/root", c"proc/self/cwd/x", c"proc/self/fd/0", c"proc/self/ns/mnt"]
    {
        let got = identity(by_names(root.as_fd(), path, OFlags::PATH | OFlags::CLOEXEC));
        assert_eq!(got, Err(Errno::LOOP), "{path:?}");
    }
    for path in [c"proc/self/status", c"proc/mounts", c"proc/net/dev"] {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let want = identity(by_kernel(root.as_fd(), path, flags));
        assert_eq!(identity(by_names(root.as_fd(), path, flags)), want, "{path:?}");
        assert!(want.is_ok(), "{path:?}");
    }
}

#[test]
fn long_link_chains_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let deep = "d/".repeat(900);
    fs::create_dir_all(dir.path().join(&deep)).unwrap();
    let root = directory(dir.path());
    let walk = |path: String| {
        let path = std::ffi::CString::new(path).unwrap();
        by_names(root.as_fd(), &path, OFlags::PATH | OFlags::CLOEXEC).map(drop)
    };
    assert_eq!(walk(format!("{deep}{}d", "../".repeat(700))), Ok(()));
    assert_eq!(walk(format!("{deep}{}d", "../d/".repeat(400))), Err(Errno::LOOP));
    assert_eq!(walk("n".repeat(256)), Err(Errno::NAMETOOLONG));
    assert_eq!(walk("n".repeat(255)), Err(Errno::NOENT));
}

/// `root/x` is a directory, then a link that leads up, then a directory from outside, while the one
/// from inside takes its place outside.
#[test]
fn whoever_exchanges_names_lets_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
    fs::create_dir_all(root.join("x/y/z")).unwrap();
    fs::create_dir(&outside).unwrap();
    symlink("../../../../../..", root.join("link")).unwrap();
    for place in [dir.path(), &outside] {
        fs::write(place.join("secret"), "").unwrap();
        fs::create_dir_all(place.join("y/z")).unwrap();
    }
    let secrets = [dir.path(), &outside].map(|place| fs::metadata(place.join("secret")).unwrap().ino());
    let done = AtomicBool::new(false);
    let top = directory(&root);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let exchange = |one: &Path, other: &Path| {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, one, rustix::fs::CWD, other, flags).unwrap();
            };
            while !done.load(Ordering::Relaxed) {
                exchange(&root.join("x"), &root.join("link"));
                exchange(&root.join("x"), &root.join("link"));
                // Out of the root and back.
                exchange(&root.join("x"), &outside.join("y"));
                exchange(&root.join("x"), &outside.join("y"));
            }
        });
        let (mut seen, mut escaped) = ([0usize; 2], None);
        let end = std::time::Instant::now() + std::time::Duration::from_millis(1500);
        while escaped.is_none() && std::time::Instant::now() < end {
            for path in [
                c"x/y/z/../../../../secret",
                c"x/y/../../../outside/secret",
                c"x/y/z/../../secret",
                c"x/y/z/..",
            ] {
                match by_names(top.as_fd(), path, OFlags::PATH | OFlags::CLOEXEC) {
                    Ok(found) => {
                        let found = rustix::fs::fstat(found).unwrap().st_ino;
                        escaped = escaped.or(secrets.contains(&found).then_some(path));
                        seen[0] += 1;
                    }
                    Err(_) => seen[1] += 1,
                }
            }
        }
        // Before any assertion fails: otherwise the other thread runs forever.
        done.store(true, Ordering::Relaxed);
        assert_eq!(escaped, None, "led outside");
        assert!(seen[0] > 100 && seen[1] > 100, "the race was none: {seen:?}");
    });
}
