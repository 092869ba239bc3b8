//! Tests from texts of the kernel's files to runc's JSON.

use serde_json::json;

use super::types::*;
use super::*;

/// The statistics of these files, as JSON.
fn told(
    of: impl Fn(&Files<'_>, &[String]) -> Stats,
    texts: &[(&str, &str)],
    sizes: &[&str],
) -> serde_json::Value {
    let read = |file: &str| {
        let text = texts.iter().find(|(name, _)| *name == file)?.1;
        Some(text.trim().to_owned())
    };
    let sizes: Vec<String> = sizes.iter().map(|&size| size.to_owned()).collect();
    serde_json::to_value(of(&Files(&read), &sizes)).unwrap()
}

#[test]
fn missing_files_are_zeros() {
    let entry = json!({"limit": 0, "failcnt": 0});
    let want = json!({
        "cpu": {"usage": {"kernel": 0, "user": 0}, "throttling": {}},
        "cpuset": {
            "cpu_exclusive": 0, "mem_hardwall": 0, "mem_exclusive": 0, "memory_migrate": 0, "memory_spread_page": 0,
            "memory_spread_slab": 0, "memory_pressure": 0, "sched_load_balance": 0, "sched_relax_domain_level": 0
        },
        "memory": {"usage": entry, "swap": entry, "kernel": entry, "kernelTCP": entry},
        "pids": {},
        "blkio": {},
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": null
    });
    assert_eq!(told(unified::read, &[], &[]), want);
    assert_eq!(told(legacy::read, &[], &[]), want);
    assert_eq!(
        told(unified::read, &[("cpu.stat", "\u{0}x"), ("io.stat", "x y=z"), ("cpu.pressure", "")], &[]),
        want
    );
}

#[test]
fn version_2() {
    let texts = [
        (
            "cpu.stat",
            "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 9\nnr_throttled 4\nthrottled_usec 7\n",
        ),
        (
            "cpu.pressure",
            "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
        ),
        ("cpuset.cpus.effective", "0-2,5\n"),
        ("memory.current", "100\n"),
        ("memory.max", "1000\n"),
        ("memory.peak", "300\n"),
        ("memory.events", "low 0\nhigh 0\nmax 6\noom 2\noom_kill 1\n"),
        ("memory.swap.current", "10\n"),
        ("memory.swap.max", "max\n"),
        ("memory.stat", "anon 1\nfile 2\n"),
        ("pids.current", "3\n"),
        ("pids.max", "max\n"),
        ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n7:1 \n"),
        ("hugetlb.2MB.current", "4096\n"),
        ("hugetlb.2MB.rsvd.current", "8192\n"),
        ("hugetlb.2MB.events", "max 5\n"),
        ("hugetlb.1GB.current", "1\n"),
    ];
    let found = told(unified::read, &texts, &["2MB", "1GB"]);
    assert_eq!(found["cpu"]["usage"], json!({"total": 5000, "kernel": 2000, "user": 3000}));
    let throttling = json!({"periods": 9, "throttledPeriods": 4, "throttledTime": 7000});
    assert_eq!(found["cpu"]["throttling"], throttling);
    let some = json!({"avg10": 1.5, "avg60": 0.25, "avg300": 0.0, "total": 77});
    assert_eq!(found["cpu"]["psi"]["some"], some);
    assert_eq!(found["cpu"]["psi"]["full"]["total"], 1);
    assert_eq!(found["cpuset"]["cpus"], json!([0, 1, 2, 5]));
    let memory = &found["memory"];
    assert_eq!(memory["usage"], json!({"limit": 1000, "usage": 100, "max": 300, "failcnt": 6}));
    assert_eq!(memory["swap"], json!({"limit": u64::MAX, "usage": 110, "failcnt": 0}));
    assert_eq!((&memory["cache"], &memory["raw"]), (&json!(2), &json!({"anon": 1, "file": 2})));
    assert!(memory.get("psi").is_none());
    assert_eq!(found["pids"], json!({"current": 3}));
    let entry = |op: &str, value: u64| json!({"major": 8, "op": op, "value": value});
    let discarded = json!({"major": 8, "op": "Discard"});
    assert_eq!(
        found["blkio"],
        json!({
            "ioServiceBytesRecursive": [entry("Read", 1), entry("Write", 2), discarded],
            "ioServicedRecursive": [entry("Read", 3), entry("Write", 4), discarded]
        })
    );
    let huge = json!({"2MB": {"usage": 8192, "failcnt": 5}, "1GB": {"usage": 1, "failcnt": 0}});
    assert_eq!(found["hugetlb"], huge);
}

#[test]
fn version_1() {
    let texts = [
        ("cpuacct.usage", "900\n"),
        ("cpuacct.stat", "user 3\nsystem 2\n"),
        ("cpuacct.usage_percpu", "400 500 \n"),
        ("cpuacct.usage_all", "cpu user system\n0 1 2\n1 3 4\n"),
        ("cpu.stat", "nr_periods 9\nnr_throttled 4\nthrottled_time 7\n"),
        ("memory.usage_in_bytes", "100\n"),
        ("memory.limit_in_bytes", "9223372036854771712\n"),
        ("memory.max_usage_in_bytes", "300\n"),
        ("memory.failcnt", "6\n"),
        ("memory.kmem.tcp.failcnt", "1\n"),
        ("memory.memsw.usage_in_bytes", "110\n"),
        ("memory.stat", "cache 2\nrss 1\n"),
        ("pids.max", "64\n"),
        ("cpuset.mems", "0\n"),
        ("cpuset.sched_relax_domain_level", "-1\n"),
        ("blkio.throttle.io_service_bytes", "8:0 Read 1\n8:0 Total 1\nTotal 1\n"),
        ("blkio.bfq.sectors_recursive", "8:16 12\n"),
        ("hugetlb.2MB.usage_in_bytes", "4096\n"),
        ("hugetlb.2MB.max_usage_in_bytes", "8192\n"),
    ];
    let found = told(legacy::read, &texts, &["2MB"]);
    assert_eq!(
        found["cpu"]["usage"],
        json!({
            "total": 900, "percpu": [400, 500], "percpu_kernel": [2, 4], "percpu_user": [1, 3],
            "kernel": 20_000_000, "user": 30_000_000
        })
    );
    assert_eq!(found["cpu"]["throttling"]["throttledTime"], 7);
    let usage = json!({"limit": 9_223_372_036_854_771_712_u64, "usage": 100, "max": 300, "failcnt": 6});
    assert_eq!(found["memory"]["usage"], usage);
    assert_eq!(found["memory"]["swap"]["usage"], 110);
    assert_eq!(found["memory"]["kernelTCP"]["failcnt"], 1);
    assert_eq!(found["memory"]["cache"], 2);
    assert_eq!(found["pids"], json!({"limit": 64}));
    assert_eq!(found["cpuset"]["mems"], json!([0]));
    assert_eq!(found["cpuset"]["sched_relax_domain_level"], -1);
    assert_eq!(
        found["blkio"],
        json!({
            "ioServiceBytesRecursive":
                [{"major": 8, "op": "Read", "value": 1}, {"major": 8, "op": "Total", "value": 1}],
            "sectorsRecursive": [{"major": 8, "minor": 16, "value": 12}]
        })
    );
    assert_eq!(found["hugetlb"], json!({"2MB": {"usage": 4096, "max": 8192, "failcnt": 0}}));
}

#[test]
fn sets_of_numbers() {
    let table: [(&str, &[u16]); 4] =
        [("0-3,8", &[0, 1, 2, 3, 8]), ("", &[]), ("7", &[7]), ("5-2,x,70000", &[])];
    for (text, want) in table {
        assert_eq!(files::list(text), want, "{text}");
    }
}
