//! Plain images: an OCI layout becomes a container.

use std::fs;

use serde_json::Value;

use super::World;

/// A layout with one image, made by umoci; `None` where that is not installed.
pub(super) fn image(world: &World) -> Option<String> {
    if !world.env.has("umoci", "umoci") {
        return None;
    }
    let script = "set -e; cd \"$DIR\"; umoci init --layout img; umoci new --image img:a; umoci unpack --image img:a b; \
        mkdir -p b/rootfs/etc b/rootfs/data; cp -a tree/bin b/rootfs/; \
        echo 'web:x:33:34::/:/bin/sh' > b/rootfs/etc/passwd; echo 'log:x:4:web' > b/rootfs/etc/group; \
        echo kept > b/rootfs/data/x; umoci repack --image img:a b; rm -rf b; \
        umoci config --image img:a --config.entrypoint /bin/sh --config.entrypoint=-c \
        --config.cmd 'id; cat x; echo $A; touch /made && echo written' --config.env A=b --config.workingdir /data --config.user web \
        --config.exposedports 80/tcp --config.exposedports 53/udp --config.volume /data --config.stopsignal SIGINT \
        --config.label x=y --config.label com.matrixai.emergence.verify=full --config.label run.oci.keep_original_groups=1; chmod -R a+rX img";
    world.env.program("/bin/sh", &["-c", script]).env("DIR", world.env.dir()).privileged().run().ok();
    Some(format!("oci:{}:a", world.text("img")))
}

#[test]
fn an_image_is_started_as_its_configuration_says() {
    let Some(world) = World::new() else { return };
    let Some(reference) = image(&world) else { return };
    let who = "uid=33(web) gid=34 groups=4(log)\nkept\nb";
    for rootfs in ["copy", "bind", "overlay"] {
        // web may not write to / of root's.
        world.emergence(&["run", "--rootfs", rootfs, &reference, &world.id(rootfs)]).exits(1).prints(who);
    }
    let root = ["--", "touch /made && echo written"];
    let as_root = |rootfs: &str| {
        world.emergence(&[&["run", "--rootfs", rootfs, &reference, &world.id("c")][..], &root].concat())
    };
    as_root("bind").exits(1);
    let kept: Vec<_> = fs::read_dir(world.store().join("layers")).unwrap().flatten().collect();
    assert_eq!(kept.len(), 1, "one tree for all");
    world.is_free();
    world.emergence(&["run", "--param", "a=b", &reference, &world.id("c")]).exits(125);
    world.emergence(&["gc"]).ok();
    assert_eq!(fs::read_dir(world.store().join("layers")).unwrap().count(), 0);
}

/// Two images of one base: the base is in the store once, and each container sees its own layer
/// over it.
#[test]
fn layers_lie_over_one_another() {
    let Some(world) = World::new() else { return };
    let Some(base) = image(&world) else { return };
    let script = "set -e; cd \"$DIR\"; for name in one two; do umoci unpack --image img:a b; rm b/rootfs/etc/group; \
        echo $name > b/rootfs/etc/name; umoci repack --image img:$name b; rm -rf b; \
        umoci config --image img:$name --config.user 0; done; chmod -R a+rX img";
    world.env.program("/bin/sh", &["-c", script]).env("DIR", world.env.dir()).privileged().run().ok();
    let look = |name: &str, rootfs: &str| {
        let reference = base.replace(":a", &format!(":{name}"));
        let words = ["run", "--rootfs", rootfs, &reference, &world.id(name), "--"];
        let command =
            "cd /etc; echo *; cat name; rm name && echo more > z; grep -c overlay /proc/self/mountinfo";
        world.emergence(&[&words[..], &[command]].concat())
    };
    for name in ["one", "two", "one"] {
        look(name, "overlay").ok().prints(&format!("name passwd\n{name}\n1"));
    }
    let layers = || {
        let directory = fs::read_dir(world.store().join("layers")).unwrap();
        let mut names: Vec<_> =
            directory.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_by_key(String::len);
        names
    };
    // The file system of an overlay takes no other, so that each image is one tree there.
    let stacked = rustix::fs::statfs(world.env.dir()).unwrap().f_type != 0x794c_7630;
    let count = |layers, trees| if stacked { layers } else { trees };
    assert_eq!(layers().len(), count(3, 2), "{:?}", layers());
    // What is there whole was proved when it came: no blob is looked at, unless it is asked for.
    let blobs = fs::read_dir(world.path("img/blobs/sha256")).unwrap().flatten();
    let base_blob = blobs.max_by_key(|blob| blob.metadata().unwrap().len()).unwrap().path();
    let away = world.path("away");
    fs::rename(&base_blob, &away).unwrap();
    look("one", "overlay").ok();
    let strict = ["run", "--strict", &base.replace(":a", ":one"), &world.id("strict")];
    let output = world.emergence(&strict).exits(125);
    assert!(output.stderr.contains("[blob.missing]"), "{output:?}");
    fs::rename(&away, &base_blob).unwrap();
    // What is bound, or copied, is whole.
    for rootfs in ["bind", "copy"] {
        let seen = look("two", rootfs).stdout;
        assert!(seen.starts_with("name passwd\ntwo\n"), "{rootfs}: {seen}");
    }
    assert!(layers().len() == count(4, 2) && layers().last().unwrap().ends_with(".tree"), "{:?}", layers());
    // Those of a container that runs are kept.
    let web = world.id("web");
    let reference = base.replace(":a", ":two");
    world.emergence(&["run", "--detach", &reference, &web, "--", "sleep 100"]).ok();
    world.emergence(&["gc"]).ok();
    assert_eq!(layers().len(), count(2, 1), "{:?}", layers());
    world.env.runtime(&["exec", &web, "cat", "/etc/name"]).ok().prints("two");
    world.env.delete(&web);
    world.emergence(&["gc"]).ok();
    assert_eq!(layers().len(), 0);
    world.is_free();
}

/// Not even if root.readonly is removed from config.json, and not for mount points that the image
/// lacks.
#[test]
fn a_bound_image_is_not_writable() {
    let Some(world) = World::new() else { return };
    let Some(reference) = image(&world) else { return };
    let bundle = world.text("bundle");
    let command = [
        "--",
        "ls -d /proc/self /dev/null /sys/fs; touch /etc/made; touch /bin/made; cat /data/x; touch /made && echo top",
    ];
    world.emergence(&[&["bundle", "--rootfs", "bind", &reference, &bundle][..], &command].concat()).ok();
    let file = world.path("bundle/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["root"]["readonly"] = false.into();
    config["process"]["user"] = serde_json::json!({ "uid": 0, "gid": 0 });
    fs::write(&file, config.to_string()).unwrap();
    let kept = fs::read_dir(world.store().join("layers")).unwrap().flatten().next().unwrap().path();
    let names = |inner: &str| {
        let mut names: Vec<_> =
            fs::read_dir(kept.join(inner)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = [names(""), names("etc"), names("bin")];
    assert_eq!(before[0], ["bin", "data", "etc"]);
    world
        .env
        .runtime(&["run", "-b", &bundle, &world.id("b")])
        .ok()
        .prints("/dev/null\n/proc/self\n/sys/fs\nkept\ntop");
    assert_eq!(before, [names(""), names("etc"), names("bin")]);
    assert!(world.path("bundle/rootfs/made").exists());
}

#[test]
fn labels_become_annotations_but_do_not_control_the_runtime() {
    let Some(world) = World::new() else { return };
    let Some(reference) = image(&world) else { return };
    let bundle = world.text("bundle");
    world.emergence(&["bundle", &reference, &bundle]).ok();
    let config: Value = serde_json::from_slice(&fs::read(world.path("bundle/config.json")).unwrap()).unwrap();
    let annotations = config["annotations"].as_object().unwrap();
    let names: Vec<&str> = annotations.keys().map(String::as_str).collect();
    let own = "org.opencontainers.image";
    assert_eq!(names, [format!("{own}.exposedPorts"), format!("{own}.stopSignal"), "x".to_owned()]);
    assert_eq!(annotations["org.opencontainers.image.exposedPorts"], "53/udp,80/tcp");
    assert_eq!(config["process"]["cwd"], "/data");
    world.env.runtime(&["check", "--bundle", &bundle]).ok();
    world.emergence(&["bundle", "--rootfs", "overlay", &reference, &world.text("o")]).exits(2);
    assert!(!world.path("o").exists());
}
