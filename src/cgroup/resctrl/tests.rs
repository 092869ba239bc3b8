//! Tests on plain directories with the files that the kernel would create.

use super::*;

/// A directory like a mounted resctrl with the groups `names`.
fn resctrl(names: &[&str]) -> tempfile::TempDir {
    let mount = tempfile::tempdir().unwrap();
    for directory in ["info/L3", "info/MB", "info/L3_MON", "mon_groups"] {
        fs::create_dir_all(mount.path().join(directory)).unwrap();
    }
    fs::write(mount.path().join("info/L3_MON/mon_features"), "llc_occupancy\nmbm_total_bytes\n").unwrap();
    fs::write(mount.path().join("info/last_cmd_status"), "ok\n").unwrap();
    for name in names {
        fill(&mount.path().join(name));
    }
    mount
}

/// Creates the files of a new group, as the kernel does.
fn fill(group: &Path) {
    fs::create_dir_all(group.join("mon_groups")).unwrap();
    fs::write(group.join("tasks"), "").unwrap();
    fs::write(group.join("schemata"), "    MB:0=100;1=100\n    L3:0=fffff;1=00ff0\n").unwrap();
}

fn wish(mount: &tempfile::TempDir, clos: Option<&str>, shares: &[&str], schemata: &[&str]) -> ResctrlWish {
    let own = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
    ResctrlWish {
        mount: mount.path().to_owned(),
        clos: clos.map(str::to_owned),
        shares: own(shares),
        schemata: own(schemata),
        counted: false,
    }
}

#[test]
fn where_it_is_and_what_it_can() {
    let directory = resctrl(&[]);
    let found = Resctrl::at(directory.path().to_owned()).unwrap();
    assert_eq!(found.resources, ["L3", "L3_MON", "MB"]);
    assert_eq!(found.counters, ["llc_occupancy", "mbm_total_bytes"]);
}

#[test]
fn shares_are_compared_by_number() {
    let held = "    MB:0=100;1=100\n    L3:0=fffff;1=00ff0\n";
    let table = [
        ("L3:0=fffff;1=ff0", true),
        ("L3:1=FF0", true),
        ("MB:0=100", true),
        (" MB: 0 = 0100 ;1=100", true),
        ("L3:0=ffff", false),
        ("L3:2=fffff", false),
        ("L2:0=f", false),
        ("L3", false),
        ("L3:0", false),
    ];
    for (line, want) in table {
        assert_eq!(holds(held, line), want, "{line}");
    }
}

#[test]
fn where_a_group_is() {
    let mount = resctrl(&["gold"]);
    let place = |wish: &ResctrlWish| wish.place("web").map(|group| (group.control, group.ours, group.shared));
    let at = |name: &str| mount.path().join(name);
    assert_eq!(place(&wish(&mount, None, &[], &[])).unwrap(), (at("web"), true, false));
    assert_eq!(place(&wish(&mount, Some("gold"), &[], &[])).unwrap(), (at("gold"), false, true));
    assert_eq!(place(&wish(&mount, Some("gold"), &["L3:0=fffff"], &[])).unwrap(), (at("gold"), false, true));
    assert_eq!(place(&wish(&mount, Some("new"), &["L3:0=f"], &[])).unwrap(), (at("new"), true, true));
    assert_eq!(place(&wish(&mount, Some("/"), &[], &[])).unwrap().0, at(""));
    let none = place(&wish(&mount, Some("new"), &[], &[])).unwrap_err().to_string();
    assert!(none.starts_with("linux.intelRdt.closID: no such group: "), "{none}");
    let other = place(&wish(&mount, Some("gold"), &["L3:0=f"], &[])).unwrap_err().to_string();
    assert!(other.ends_with("gold already exists, with other schemata than \"L3:0=f\""), "{other}");
}

#[test]
fn a_group_of_the_containers_own() {
    let mount = resctrl(&[]);
    let wish = wish(&mount, None, &[], &[]);
    let mut group = wish.place("web").unwrap();
    group.make(&wish).unwrap();
    let directory = mount.path().join("web");
    assert!(directory.is_dir());
    fs::write(directory.join("tasks"), "").unwrap();
    group.join(1).unwrap();
    assert_eq!(fs::read_to_string(directory.join("tasks")).unwrap(), "1\n");
    // A group of the same name that is in use belongs to another container, and stays.
    let error = wish.place("web").unwrap_err().to_string();
    assert!(error.ends_with("web already exists and has tasks"), "{error}");
    let mut second = group.clone();
    second.make(&wish).unwrap_err();
    second.remove().unwrap();
    fs::remove_file(directory.join("tasks")).unwrap();
    assert!(directory.is_dir());
    group.remove().unwrap();
    assert!(!directory.exists());
    group.remove().unwrap();
}

#[test]
fn a_group_that_cannot_be_filled_is_not_left() {
    let mount = resctrl(&[]);
    let wish = wish(&mount, None, &["L3:0=f"], &[]);
    let mut group = wish.place("web").unwrap();
    // In a plain directory no file appears by itself.
    assert!(group.make(&wish).is_err());
    assert!(!mount.path().join("web").exists());
}

#[test]
fn a_named_group_is_shared_and_counted() {
    let mount = resctrl(&["gold"]);
    let mut wish = wish(&mount, Some("gold"), &[], &["L3:0=f", "MB:0=50"]);
    wish.counted = true;
    let mut group = wish.place("web").unwrap();
    group.make(&wish).unwrap();
    let file = |name: &str| mount.path().join("gold").join(name);
    let text = |name: &str| fs::read_to_string(file(name)).unwrap();
    // A plain file keeps the text after the written part.
    assert!(text("schemata").starts_with("L3:0=f\nMB:0=50\n"));
    assert!(file("mon_groups/web").is_dir());
    fs::write(file("mon_groups/web/tasks"), "").unwrap();
    group.join(1).unwrap();
    assert_eq!((text("tasks"), text("mon_groups/web/tasks")), ("1\n".into(), "1\n".into()));
    fs::remove_file(file("mon_groups/web/tasks")).unwrap();
    group.remove().unwrap();
    assert!(file("tasks").exists() && !file("mon_groups/web").exists());
    // A group that we created is removed once it has no tasks.
    group.ours = true;
    group.remove().unwrap();
    assert!(file("tasks").exists(), "process 1 lives");
}

#[test]
fn shares_come_back() {
    let mount = resctrl(&["gold"]);
    let group = wish(&mount, Some("gold"), &[], &[]).place("web").unwrap();
    let before = group.share(&["L3:0=3".into()]).unwrap();
    assert!(before.contains("L3:0=fffff"), "{before}");
    group.put_back(&before).unwrap();
    let now = fs::read_to_string(mount.path().join("gold/schemata")).unwrap();
    assert!(now.starts_with("MB:0=100;1=100\nL3:0=fffff;1=00ff0\n"), "{now}");
    let missing = ResctrlGroup { control: mount.path().join("none"), ..group };
    assert!(missing.share(&["L3:0=3".into()]).is_err());
}

#[test]
fn the_kernels_words_are_reported() {
    let mount = resctrl(&[]);
    fs::write(mount.path().join("info/last_cmd_status"), "Unknown resource name 'L9'\n").unwrap();
    let group = ResctrlGroup { control: mount.path().join("web"), ours: true, shared: false, counting: None };
    let error = group.join(7).unwrap_err().to_string();
    assert!(error.starts_with("linux.intelRdt: write \"7\" to "), "{error}");
    assert!(error.contains("tasks (Unknown resource name 'L9'): no such file"), "{error}");
}
