//! The files that a cgroup's statistics are read from: `== NAME`, then its content.

use std::collections::BTreeMap;

use emergence_runc::cgroup::Stats;

pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let files: BTreeMap<&str, &str> = text
        .split("== ")
        .filter_map(|file| file.split_once('\n'))
        .map(|(name, text)| (name, text.trim()))
        .collect();
    let read = |file: &str| files.get(file).map(|&text| text.to_owned());
    for parse in [Stats::of_unified, Stats::of_legacy] {
        let stats = parse(&read, &["2MB".to_owned()]);
        serde_json::to_string(&stats).expect("what `events` prints");
    }
}
