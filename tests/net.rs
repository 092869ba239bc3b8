//! Network devices moved between two real network namespaces, and `lo` brought up in a fresh one.
//!
//! Needs root and iproute2's `ip`; without them a test is skipped and says so, with `CI` set it
//! fails. Each test unshares the network of its own thread, so the machine's network is never
//! touched.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;

use emergence_runc::net::{Move, move_devices};
use emergence_runc::sys::net::loopback_up;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// The calling thread's "host" and a "container" next to it.
struct Pair {
    host: File,
    container: File,
}

/// Opens the calling thread's network namespace.
fn own_netns() -> File {
    File::open("/proc/thread-self/ns/net").unwrap()
}

fn own_netns_number() -> String {
    std::fs::read_link("/proc/thread-self/ns/net").unwrap().display().to_string()
}

fn new_netns() -> File {
    // SAFETY: CLONE_NEWNET changes this thread's network namespace only, no descriptor.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
    own_netns()
}

fn enter(netns: &File) {
    move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// Whether the needs are met; says why not.
fn able() -> bool {
    let root = rustix::process::geteuid().is_root();
    let ip = Command::new("ip").arg("-V").output().is_ok();
    let able = root && ip;
    assert!(able || std::env::var_os("CI").is_none(), "the tests need root and ip");
    if !able {
        println!("skipped: needs root (have it: {root}) and the program ip (have it: {ip})");
    }
    able
}

impl Pair {
    fn new() -> Self {
        let container = new_netns();
        let host = new_netns();
        Self { host, container }
    }

    /// What `f` finds inside; the thread is on the host again afterwards.
    fn inside<T>(&self, f: impl FnOnce() -> T) -> T {
        enter(&self.container);
        let found = f();
        enter(&self.host);
        found
    }

    fn move_all(&self, devices: &[(&str, &str)]) -> Result<(), String> {
        let named = |&(host, container): &(&str, &str)| Move {
            host_name: host.to_owned(),
            container_name: container.to_owned(),
        };
        let moves: Vec<_> = devices.iter().map(named).collect();
        let before = own_netns_number();
        let result = move_devices(&moves, self.container.as_fd()).map_err(|error| error.to_string());
        assert_eq!(own_netns_number(), before, "the thread is where it was");
        result
    }
}

fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Makes a device; its other end is `p-NAME`.
fn make(name: &str) {
    ip(&format!("link add {name} type veth peer name p-{name}"));
}

fn make_all(names: &[&str]) {
    names.iter().for_each(|name| make(name));
}

/// Whether `ip -o link` lists the device.
fn exists(name: &str) -> bool {
    let list = ip("-o link");
    let named = |line: &str| line.split([' ', '@', ':']).filter(|word| !word.is_empty()).nth(1) == Some(name);
    list.lines().any(named)
}

#[test]
fn a_device_moves_with_its_name_addresses_and_state() {
    if !able() {
        return;
    }
    let pair = Pair::new();
    make("out0");
    ip("link set out0 mtu 1400 address 02:00:00:00:00:07 up");
    ip("addr add 192.0.2.7/24 brd + dev out0");
    ip("addr add 192.0.2.8/24 dev out0 label out0:1");
    ip("addr add 198.51.100.1 peer 198.51.100.2/32 dev out0 noprefixroute");
    ip("addr add 203.0.113.99/24 dev out0 valid_lft 500 preferred_lft 400");
    ip("addr add 192.168.9.1/24 scope link dev out0");
    ip("addr add 2001:db8::7/64 dev out0");
    ip("addr add 192.0.2.50/24 dev p-out0");

    pair.move_all(&[("out0", "net0")]).unwrap();

    assert!(!exists("out0") && exists("p-out0"), "gone from the host, and only it");
    let shown = || (ip("-o link show net0"), ip("-o -4 addr"), ip("-o -6 addr show net0 scope global"));
    let (link, v4, v6) = pair.inside(shown);
    let has = |list: &str, words: &str| assert!(list.contains(words), "{words:?} in {list}");
    has(&link, ",UP");
    has(&link, "mtu 1400");
    has(&link, "02:00:00:00:00:07");
    has(&v4, "inet 192.0.2.7/24 brd 192.0.2.255 scope global net0");
    has(&v4, "inet 192.0.2.8/24 scope global secondary net0:1");
    has(&v4, "inet 198.51.100.1 peer 198.51.100.2/32 scope global noprefixroute net0");
    has(&v6, "inet6 2001:db8::7/64 scope global");
    assert_eq!(v4.lines().count(), 3, "neither a lease, nor link scope, nor another device's: {v4}");
    assert!(v4.lines().chain(v6.lines()).all(|line| line.contains("valid_lft forever")), "{v4}{v6}");
}

#[test]
fn a_device_that_was_down_is_up_inside_and_its_taken_number_does_not_matter() {
    if !able() {
        return;
    }
    let pair = Pair::new();
    make("a0");
    make("b0");
    // The same numbers and an old name are in use inside.
    pair.inside(|| make_all(&["a0", "x0", "x1"]));
    pair.move_all(&[("a0", "eth0"), ("b0", "b0")]).unwrap();
    let up = pair.inside(|| ip("-o link show up"));
    assert!(up.contains("eth0@") && up.contains("b0@") && up.lines().count() == 2, "{up}");
    assert!(exists("p-a0") && exists("p-b0"));
}

#[test]
fn a_template_takes_the_lowest_free_number() {
    if !able() {
        return;
    }
    let pair = Pair::new();
    make_all(&["dev0", "dev1", "dev2"]);
    pair.inside(|| make("eth1"));
    pair.move_all(&[("dev0", "eth%d"), ("dev1", "eth%d"), ("dev2", "eth%d")]).unwrap();
    pair.inside(|| {
        for name in ["eth0", "eth1", "eth2", "eth3"] {
            assert!(exists(name), "{name}");
        }
    });
}

#[test]
fn unmovable_devices_are_refused_before_any_moves() {
    if !able() {
        return;
    }
    let pair = Pair::new();
    make_all(&["good", "other"]);
    pair.inside(|| make("taken"));
    for (bad, words) in [
        (("eth1", "eth1"), "linux.netDevices.eth1: no such device on the host"),
        (("other", "taken"), "linux.netDevices.other.name: the container has a device \"taken\" already"),
        (("other", "good"), "linux.netDevices.other.name: the container has a device \"good\" already"),
        (("other", "lo"), "linux.netDevices.other.name: the container has a device \"lo\" already"),
        (("lo", "lo9"), "linux.netDevices.lo: a loopback device cannot be moved"),
        (("other", "a/b"), "linux.netDevices.other.name: the device name \"a/b\" holds '/'"),
        (("other", ""), "linux.netDevices.other.name: the device name \"\" is empty"),
        (("", "x"), "linux.netDevices.: the device name \"\" is empty"),
    ] {
        assert_eq!(pair.move_all(&[("good", "good"), bad]).unwrap_err(), words);
        assert!(exists("good") && exists("other"), "{bad:?}: nothing has moved");
    }
}

#[test]
fn a_refusal_of_the_kernel_names_the_device_and_the_step() {
    if !able() {
        return;
    }
    let pair = Pair::new();
    make("six0");
    ip("addr add 2001:db8::7/64 dev six0");
    // /proc/sys/net is that of the thread that opens it.
    pair.inside(|| std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")).unwrap();
    let error = pair.move_all(&[("six0", "net0")]).unwrap_err();
    assert_eq!(error, "linux.netDevices.six0: set address 2001:db8::7/64: permission denied");
}

#[test]
fn lo_comes_up() {
    if !able() {
        return;
    }
    new_netns();
    assert!(!ip("-o link show lo").contains(",UP"));
    for again in [false, true] {
        loopback_up().unwrap();
        assert!(ip("-o link show lo").contains("LOOPBACK,UP"), "again: {again}");
    }
    assert!(ip("-o addr show lo").contains("inet 127.0.0.1/8"));
}
