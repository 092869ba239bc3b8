//! The user of a container's program: names are looked up in the root file system, which is not
//! trusted.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::error::{Doing, Error};
use crate::rootfs::walk;
use crate::spec::User;

/// Maximum number of bytes read from passwd or group: an image's file may be a sparse file of
/// terabytes.
const LONGEST: u64 = 1 << 20;

/// Resolves `user[:group]`, names or numbers; empty is root. Without a group: the user's primary
/// and supplementary groups.
///
/// Refused with `doc.entrypoint` if a name does not exist.
pub(super) fn resolve(rootfs: &Path, text: &str) -> Result<User> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let nobody = |words: &str| Fault::refused(Code::DocEntrypoint, format!("user {text}"), words);
    let passwd = read(rootfs, "etc/passwd")?;
    let line = lines(&passwd).find(|line| match number(user) {
        Some(uid) => line.get(2).is_some_and(|field| number(field) == Some(uid)),
        None => !user.is_empty() && line.first() == Some(&user),
    });
    let field = |at: usize| line.as_ref().and_then(|line| number(line.get(at)?));
    let uid = match number(user).or_else(|| field(2)) {
        Some(uid) => uid,
        None if user.is_empty() => 0,
        None => return Err(nobody("no such user in the root file system's /etc/passwd")),
    };
    let groups = read(rootfs, "etc/group")?;
    let gid = match group.filter(|group| !group.is_empty()) {
        None => field(3).unwrap_or(0),
        Some(group) => {
            let by_name = || number(lines(&groups).find(|line| line.first() == Some(&group))?.get(2)?);
            let found = number(group).or_else(by_name);
            found.ok_or_else(|| nobody("no such group in the root file system's /etc/group"))?
        }
    };
    let name = line.as_ref().and_then(|line| line.first().copied());
    let member =
        |line: &Vec<&str>| line.get(3).is_some_and(|members| members.split(',').any(|one| Some(one) == name));
    let additional = lines(&groups).filter(member).filter_map(|line| number(line.get(2)?));
    let mut additional: Vec<u32> =
        if group.is_some() { Vec::new() } else { additional.filter(|own| *own != gid).collect() };
    additional.sort_unstable();
    additional.dedup();
    Ok(User { uid, gid, umask: None, additional_gids: additional })
}

fn number(text: &str) -> Option<u32> {
    // 4294967295 means "no user" in system calls.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number != u32::MAX)
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

/// Reads a file below `rootfs`, following symbolic links as in the container; empty if it does not
/// exist.
fn read(rootfs: &Path, name: &str) -> Result<String> {
    let doing = || format!("read {name} of the root file system");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, rootfs, flags, Mode::empty()).doing(doing)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let path = CString::new(name).map_err(|_| Errno::INVAL).doing(doing)?;
    let file: File = match walk::open(root.as_fd(), &path, flags) {
        Ok(file) => file.into(),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(String::new()),
        Err(error) => return Err(Error::from(error).within(doing()).into()),
    };
    if !file.metadata().doing(doing)?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).doing(doing)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn names_and_numbers() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/:/bin/sh\nbad:x:x:y\n";
        fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        fs::write(root.path().join("etc/group"), "root:x:0:\nwww:x:34:\nlog:x:4:web,x\nssl:x:5:web\n")
            .unwrap();
        type Ids = (u32, u32, &'static [u32]);
        let table: [(&str, Option<Ids>); 14] = [
            ("", Some((0, 0, &[]))),
            ("0", Some((0, 0, &[]))),
            ("web", Some((33, 34, &[4, 5]))),
            ("33", Some((33, 34, &[4, 5]))),
            ("web:log", Some((33, 4, &[]))),
            ("web:7", Some((33, 7, &[]))),
            ("1000", Some((1000, 0, &[]))),
            ("1000:1001", Some((1000, 1001, &[]))),
            (":4", Some((0, 4, &[]))),
            ("nobody", None),
            ("web:nobody", None),
            ("bad", None),
            ("-1", None),
            ("4294967295", None),
        ];
        for (text, want) in table {
            let found =
                resolve(root.path(), text).ok().map(|user| (user.uid, user.gid, user.additional_gids));
            assert_eq!(found, want.map(|(uid, gid, more)| (uid, gid, more.to_vec())), "{text}");
        }
    }

    #[test]
    fn links_stay_inside_and_devices_are_not_read() {
        let (outside, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("passwd"), "evil:x:7:7::/:\n").unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("passwd"), root.path().join("etc/passwd")).unwrap();
        assert!(resolve(root.path(), "evil").is_err());
        fs::remove_file(root.path().join("etc/passwd")).unwrap();
        std::os::unix::fs::symlink("/proc/self/environ", root.path().join("etc/passwd")).unwrap();
        assert!(resolve(root.path(), "evil").is_err());
        fs::remove_file(root.path().join("etc/passwd")).unwrap();
        rustix::fs::mknodat(CWD, root.path().join("etc/passwd"), rustix::fs::FileType::Fifo, Mode::RUSR, 0)
            .unwrap();
        assert!(resolve(root.path(), "evil").is_err());
    }
}
