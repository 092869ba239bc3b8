//! Files of the host where `linux.devices` or the runtime itself makes a node or a link: none may
//! be lost.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;

use super::with_dev_of_image;
use crate::support::Env;

/// The image chooses the path of a device by a name that a directory of the host, bound in the
/// container, has too.
#[test]
fn a_file_of_the_host_is_not_replaced_by_a_node() {
    let Some(env) = Env::new() else { return };
    let directory = env.dir().join("host");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("file"), "of the host").unwrap();
    fs::write(directory.join("empty"), "").unwrap();
    symlink("file", directory.join("link")).unwrap();
    fs::create_dir(directory.join("directory")).unwrap();
    mknodat(
        CWD,
        directory.join("zero"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o600),
        rustix::fs::makedev(1, 5),
    )
    .unwrap();
    for name in ["file", "empty", "link", "directory", "zero"] {
        let before = fs::symlink_metadata(directory.join(name)).unwrap();
        for user in [false, true] {
            let device = json!([{"path": format!("/data/{name}"), "type": "c", "major": 1, "minor": 3}]);
            let bundle = env.bundle(&["true"]).set("linux/devices", device);
            let bundle = bundle.mount("/data", "bind", directory.to_str().unwrap(), &["bind"]);
            let bundle = if user {
                let mapping = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
                let bundle = bundle.namespace("user", None).set("linux/uidMappings", mapping.clone());
                bundle.set("linux/gidMappings", mapping)
            } else {
                bundle
            };
            let output = env.run(&bundle);
            let after = fs::symlink_metadata(directory.join(name)).unwrap();
            assert_eq!((after.ino(), after.mode()), (before.ino(), before.mode()), "{name}");
            if env.ours("the others take what is there for the device") {
                output.fails().says("linux.devices[0]").says("file exists");
            }
        }
    }
    assert_eq!(fs::read_to_string(directory.join("file")).unwrap(), "of the host");
}

/// A root file system with the host's /dev mounted in it, as a chroot has it; here a directory in
/// its place.
#[test]
fn a_node_of_the_host_is_not_replaced_by_a_link() {
    let Some(env) = Env::new() else { return };
    if !env.ours("the others replace ptmx") {
        return;
    }
    let bundle = with_dev_of_image(env.script("stat -c %t:%T /dev/ptmx /dev/console"));
    let bundle = bundle.set("process/terminal", json!(true));
    let (dev, directory) = (bundle.rootfs("dev"), env.dir().join("host-dev"));
    fs::create_dir(&directory).unwrap();
    fs::create_dir(directory.join("pts")).unwrap();
    let number = rustix::fs::makedev(5, 2);
    mknodat(CWD, directory.join("ptmx"), FileType::CharacterDevice, Mode::from_raw_mode(0o600), number)
        .unwrap();
    symlink("tty7", directory.join("console")).unwrap();
    env.mount(&directory, &dev, &["--bind"]);
    let bundle = bundle.mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666"]);
    bundle.write();
    let said = env.runtime(&["run", "-b", bundle.str(), "web"]).ok().stdout.replace('\r', "");
    assert_eq!(said.trim(), "5:2\n88:0");
    assert!(fs::symlink_metadata(directory.join("ptmx")).unwrap().file_type().is_char_device());
    assert_eq!(fs::read_link(directory.join("console")).unwrap().to_str(), Some("tty7"));
}
