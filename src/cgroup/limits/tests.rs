//! Tests from JSON to (file, value).

use super::*;

/// The writes as `file=value`, and the fields with errors as `!field`.
fn written(json: &str) -> Vec<String> {
    let resources: Resources = serde_json::from_str(json).unwrap();
    match limits(&resources) {
        Ok(settings) => {
            settings.writes.iter().map(|write| format!("{}={}", write.file, write.value)).collect()
        }
        Err(faults) => faults
            .iter()
            .map(|fault| format!("!{}", fault.field.trim_start_matches("linux.resources.")))
            .collect(),
    }
}

#[test]
fn resources_to_files() {
    let table: &[(&str, &[&str])] = &[
        (r#"{}"#, &[]),
        (r#"{"memory":{}}"#, &[]),
        (r#"{"memory":{"limit":4096}}"#, &["memory.max=4096"]),
        (r#"{"memory":{"limit":-1}}"#, &["memory.swap.max=max", "memory.max=max"]),
        (r#"{"memory":{"limit":0}}"#, &[]),
        (r#"{"memory":{"limit":-2}}"#, &["!memory.limit"]),
        (
            r#"{"memory":{"limit":100,"swap":150,"reservation":50}}"#,
            &["memory.swap.max=50", "memory.max=100", "memory.low=50"],
        ),
        (r#"{"memory":{"swap":150}}"#, &["!memory.swap"]),
        (r#"{"memory":{"kernel":-1,"kernelTCP":0,"disableOOMKiller":false,"useHierarchy":true}}"#, &[]),
        (
            r#"{"memory":{"swappiness":0,"disableOOMKiller":true}}"#,
            &["!memory.swappiness", "!memory.disableOOMKiller"],
        ),
        (r#"{"cpu":{"shares":1024}}"#, &["cpu.weight=100"]),
        (r#"{"cpu":{"shares":0,"quota":0,"period":0,"cpus":"","realtimePeriod":0}}"#, &[]),
        (
            r#"{"cpu":{"quota":5000,"period":10000,"burst":1000}}"#,
            &["cpu.max=5000 10000", "cpu.max.burst=1000"],
        ),
        (r#"{"cpu":{"quota":5000}}"#, &["cpu.max=5000 100000"]),
        (r#"{"cpu":{"quota":-1}}"#, &["cpu.max=max 100000"]),
        (r#"{"cpu":{"period":20000}}"#, &["cpu.max=max 20000"]),
        (r#"{"cpu":{"quota":999,"period":999}}"#, &["!cpu.period", "!cpu.quota"]),
        (r#"{"cpu":{"quota":5000,"burst":5001}}"#, &["!cpu.burst"]),
        (r#"{"cpu":{"idle":1,"shares":512}}"#, &["!cpu.shares"]),
        (r#"{"cpu":{"idle":1,"shares":0}}"#, &["cpu.idle=1"]),
        (r#"{"cpu":{"idle":0,"shares":2}}"#, &["cpu.idle=0", "cpu.weight=1"]),
        (r#"{"cpu":{"idle":2}}"#, &["!cpu.idle"]),
        (r#"{"cpu":{"realtimeRuntime":1000}}"#, &["!cpu.realtimeRuntime"]),
        (r#"{"cpu":{"realtimeRuntime":0,"realtimePeriod":5}}"#, &["!cpu.realtimePeriod"]),
        (r#"{"cpu":{"cpus":"0-1","mems":"0"}}"#, &["cpuset.cpus=0-1", "cpuset.mems=0"]),
        (r#"{"pids":{}}"#, &[]),
        (r#"{"pids":{"limit":0}}"#, &["pids.max=0"]),
        (r#"{"pids":{"limit":10}}"#, &["pids.max=10"]),
        (r#"{"pids":{"limit":-1}}"#, &["pids.max=max"]),
        (r#"{"pids":{"limit":-5}}"#, &["!pids.limit"]),
        (r#"{"blockIO":{"weight":10}}"#, &["io.bfq.weight=10"]),
        (r#"{"blockIO":{"weight":9,"leafWeight":10}}"#, &["!blockIO.leafWeight", "!blockIO.weight"]),
        (
            r#"{"blockIO":{"weightDevice":[{"major":8,"minor":16,"weight":500}]}}"#,
            &["io.bfq.weight=8:16 500"],
        ),
        (
            r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":600}],
                "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":0}]}}"#,
            &["io.max=8:0 rbps=600", "io.max=8:0 wiops=max"],
        ),
        (
            r#"{"blockIO":{"throttleReadIOPSDevice":[{"major":-8,"minor":0,"rate":600}]}}"#,
            &["!blockIO.throttleReadIOPSDevice[0]"],
        ),
        (
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#,
            &["hugetlb.2MB.max=4194304", "hugetlb.2MB.rsvd.max=4194304"],
        ),
        (r#"{"hugepageLimits":[{"pageSize":"2M/../x","limit":1}]}"#, &["!hugepageLimits[0].pageSize"]),
        (r#"{"network":{"classID":0}}"#, &[]),
        (
            r#"{"network":{"classID":1,"priorities":[{"name":"a","priority":1}]}}"#,
            &["!network.classID", "!network.priorities"],
        ),
        (
            r#"{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10}}}"#,
            &["rdma.max=mlx5_1 hca_handle=3 hca_object=10"],
        ),
        (r#"{"rdma":{"mlx5_1":{}}}"#, &["!rdma[\"mlx5_1\"]"]),
        (r#"{"memory":{"limit":1},"unified":{"memory.max":"2"}}"#, &["memory.max=1", "memory.max=2"]),
        (
            r#"{"unified":{"../x.y":"1","procs":"1",".x":"","x.":"1"}}"#,
            &["!unified[\"../x.y\"]", "!unified[\".x\"]", "!unified[\"procs\"]", "!unified[\"x.\"]"],
        ),
    ];
    for (json, want) in table {
        assert_eq!(written(json), *want, "{json}");
    }
}

#[test]
fn swap_is_what_exceeds_memory() {
    let table = [
        ("nothing given", None, None, Ok(None)),
        ("difference", Some(100), Some(150), Ok(Some("50"))),
        ("none", Some(100), Some(100), Ok(Some("0"))),
        ("unlimited", Some(100), Some(-1), Ok(Some("max"))),
        ("unlimited alone", None, Some(-1), Ok(Some("max"))),
        ("unlimited memory frees swap", Some(-1), None, Ok(Some("max"))),
        ("below memory", Some(100), Some(99), Err(())),
        ("no memory limit", None, Some(99), Err(())),
        ("unlimited memory, limited sum", Some(-1), Some(99), Err(())),
        ("no size", Some(100), Some(-7), Err(())),
    ];
    for (name, memory, swap, want) in table {
        let got = swap_max(memory, swap);
        assert_eq!(got.as_ref().map(|value| value.as_deref()).map_err(drop), want, "{name}");
    }
}

#[test]
fn weights() {
    for (shares, weight) in
        [(1, 1), (2, 1), (3, 2), (1024, 100), (262_143, 10_000), (262_144, 10_000), (u64::MAX, 10_000)]
    {
        assert_eq!(cpu_weight(shares), Some(weight), "{shares}");
    }
    assert_eq!(cpu_weight(0), None);
    let grows = (2..262_144).step_by(7).map(|shares| cpu_weight(shares).unwrap());
    assert!(grows.is_sorted());
    for (weight, io) in [(10, 1), (100, 910), (500, 4950), (1000, 10_000)] {
        assert_eq!(io_weight(weight), io, "{weight}");
    }
}

#[test]
fn kernel_memory_is_warned_of_and_a_check_is_kept() {
    let resources = r#"{"memory":{"limit":100,"kernel":5,"kernelTCP":6,"checkBeforeUpdate":true}}"#;
    let settings = limits(&serde_json::from_str(resources).unwrap()).unwrap();
    assert_eq!(settings.warnings.len(), 2);
    assert_eq!(settings.usage_at_most, Usage { memory: Some(100), sum: None });
    let swap = r#"{"memory":{"limit":100,"swap":150,"checkBeforeUpdate":true}}"#;
    let settings = limits(&serde_json::from_str(swap).unwrap()).unwrap();
    assert_eq!(settings.usage_at_most, Usage { memory: Some(100), sum: Some(150) });
    for alone in
        [r#"{"memory":{"checkBeforeUpdate":true}}"#, r#"{"memory":{"limit":0,"checkBeforeUpdate":true}}"#]
    {
        let faults = limits(&serde_json::from_str(alone).unwrap()).unwrap_err();
        assert_eq!(faults[0].field, "linux.resources.memory.checkBeforeUpdate");
    }
}

#[test]
fn fallback_files_are_used() {
    let json = r#"{"blockIO":{"weight":100,"weightDevice":[{"major":8,"minor":0,"weight":1000}]},
        "memory":{"limit":5,"swap":5},"hugepageLimits":[{"pageSize":"1GB","limit":0}]}"#;
    let settings = limits(&serde_json::from_str(json).unwrap()).unwrap();
    let missing: Vec<_> = settings.writes.iter().map(|write| (write.file.as_ref(), &write.missing)).collect();
    assert_eq!(
        missing,
        [
            ("io.bfq.weight", &Missing::Instead("io.weight", "910".into())),
            ("io.bfq.weight", &Missing::Instead("io.weight", "8:0 10000".into())),
            ("hugetlb.1GB.max", &Missing::Refuse),
            ("hugetlb.1GB.rsvd.max", &Missing::Skip),
            ("memory.swap.max", &Missing::Skip),
            ("memory.max", &Missing::Refuse),
        ]
    );
}
