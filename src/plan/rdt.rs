//! `linux.intelRdt`: shares of caches and memory bandwidth. Source: runtime-spec config-linux.md,
//! "IntelRdt".

use super::{BadField, Judge, Place};
use crate::cgroup::{Resctrl, ResctrlWish};
use crate::spec::IntelRdt;

const FIELD: &str = "linux.intelRdt";

/// Directories of resctrl that are not groups.
const NOT_GROUPS: &[&str] = &["info", "mon_groups", "mon_data", ".", ".."];

/// The request of container `id`, on a host with this resctrl.
pub fn plan(wanted: &IntelRdt, id: &str, host: Option<&Resctrl>, judge: &mut Judge) -> Option<ResctrlWish> {
    let host = mounted(host, judge)?;
    let clos = Some(wanted.clos_id.clone()).filter(|clos| !clos.is_empty());
    check_name(clos.as_deref().unwrap_or(id), judge);
    counters(wanted, host, judge);
    let mut schemata = Vec::with_capacity(wanted.schemata.len());
    for (at, text) in wanted.schemata.iter().enumerate() {
        schemata.extend(lines(text, format_args!("{FIELD}.schemata[{at}]"), host, judge));
    }
    Some(ResctrlWish {
        mount: host.mount.clone(),
        clos,
        shares: shares(&wanted.l3_cache_schema, &wanted.mem_bw_schema, host, judge),
        schemata,
        counted: wanted.enable_monitoring || wanted.enable_cmt || wanted.enable_mbm,
    })
}

/// Checks that a group may have this name.
fn check_name(name: &str, judge: &mut Judge) {
    if name != "/" && (name.contains(['/', '\n', '\0']) || NOT_GROUPS.contains(&name)) {
        let words = format!(
            "{name:?} is not the name of a resctrl group; write one without slashes, or / for the one of all"
        );
        judge.fault("linux.intelRdt.closID", words);
    }
}

/// The request of `update` with these two schemas, for container `id`.
pub fn change(
    l3_cache: &str,
    memory: &str,
    id: &str,
    host: Option<&Resctrl>,
) -> Result<ResctrlWish, Vec<BadField>> {
    let mut judge = Judge::default();
    check_name(id, &mut judge);
    let wish = mounted(host, &mut judge).map(|host| ResctrlWish {
        mount: host.mount.clone(),
        shares: shares(l3_cache, memory, host, &mut judge),
        ..ResctrlWish::default()
    });
    wish.filter(|_| judge.faults.is_empty()).ok_or(judge.faults)
}

fn mounted<'a>(host: Option<&'a Resctrl>, judge: &mut Judge) -> Option<&'a Resctrl> {
    if host.is_none() {
        let words = "this host has no resctrl file system mounted, or no processor and kernel for it; \
            mount -t resctrl resctrl /sys/fs/resctrl, or leave it out";
        judge.fault(FIELD, words);
    }
    host
}

/// The lines of the two schemas; only the second may set memory bandwidth.
fn shares(l3_cache: &str, memory: &str, host: &Resctrl, judge: &mut Judge) -> Vec<String> {
    let mut all = lines(l3_cache, format_args!("linux.intelRdt.l3CacheSchema"), host, judge);
    all.retain(|line| !line.starts_with("MB:"));
    all.extend(lines(memory, format_args!("linux.intelRdt.memBwSchema"), host, judge));
    all
}

/// Checks that the requested counters exist: `enableMonitoring` needs any, the two older options
/// one kind each.
fn counters(wanted: &IntelRdt, host: &Resctrl, judge: &mut Judge) {
    let counts = |name: &str| host.counters.iter().any(|counter| counter.starts_with(name));
    let table = [
        ("enableMonitoring", wanted.enable_monitoring, !host.counters.is_empty()),
        ("enableCMT", wanted.enable_cmt, counts("llc_occupancy")),
        ("enableMBM", wanted.enable_mbm, counts("mbm_")),
    ];
    for (member, _, _) in table.iter().filter(|(_, requested, available)| *requested && !available) {
        judge.fault(format!("{FIELD}.{member}"), "this host's resctrl does not count that; leave it out");
    }
}

/// The lines of a text, each of which must begin with the name of a resource of this host.
fn lines(text: &str, field: Place<'_>, host: &Resctrl, judge: &mut Judge) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let name = line.split_once(':').map(|(name, _)| name.trim());
        let known =
            |name: &str| !name.ends_with("_MON") && host.resources.iter().any(|resource| resource == name);
        match name {
            Some(name) if known(name) => lines.push(line.to_owned()),
            Some(name) => {
                let words = format!("this host's resctrl has no {name:?}, but {}", host.resources.join(", "));
                judge.fault(field, words);
            }
            None => judge.fault(field, format!("{line:?} is not a line such as L3:0=f;1=f0")),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(json: &str) -> Result<ResctrlWish, Vec<String>> {
        let host = Resctrl {
            mount: "/r".into(),
            resources: ["L3", "L3_MON", "MB"].map(str::to_owned).to_vec(),
            counters: vec!["llc_occupancy".into()],
        };
        let mut judge = Judge::default();
        let wish = plan(&serde_json::from_str(json).unwrap(), "web", Some(&host), &mut judge);
        let faults: Vec<_> = judge.faults.into_iter().map(|fault| fault.path).collect();
        if faults.is_empty() { Ok(wish.unwrap()) } else { Err(faults) }
    }

    #[test]
    fn wishes() {
        let lines = |shares: &[&str]| shares.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let wish = judged(
            r#"{"l3CacheSchema":"L3:0=f\nMB:0=1\n","memBwSchema":"MB:0=20","schemata":["L3:0=3","MB:0=30"],"enableCMT":true}"#,
        );
        let want = ResctrlWish {
            mount: "/r".into(),
            clos: None,
            shares: lines(&["L3:0=f", "MB:0=20"]),
            schemata: lines(&["L3:0=3", "MB:0=30"]),
            counted: true,
        };
        assert_eq!(wish, Ok(want));
        assert_eq!(judged("{}").unwrap().clos, None);
        assert_eq!(judged(r#"{"closID":"/"}"#).unwrap().clos.as_deref(), Some("/"));
    }

    #[test]
    fn faults_by_field() {
        let table: &[(&str, &[&str])] = &[
            (r#"{"closID":"a/b"}"#, &["linux.intelRdt.closID"]),
            (r#"{"closID":"info"}"#, &["linux.intelRdt.closID"]),
            (r#"{"closID":".."}"#, &["linux.intelRdt.closID"]),
            (r#"{"l3CacheSchema":"L3"}"#, &["linux.intelRdt.l3CacheSchema"]),
            (r#"{"schemata":["L3:0=f","L2:0=f"]}"#, &["linux.intelRdt.schemata[1]"]),
            (r#"{"memBwSchema":"L3_MON:0=1"}"#, &["linux.intelRdt.memBwSchema"]),
            (r#"{"enableMonitoring":true,"enableMBM":true}"#, &["linux.intelRdt.enableMBM"]),
        ];
        for (json, want) in table {
            assert_eq!(judged(json).unwrap_err(), *want, "{json}");
        }
        let mut judge = Judge::default();
        assert_eq!(plan(&IntelRdt::default(), "web", None, &mut judge), None);
        assert_eq!(judge.faults[0].path, "linux.intelRdt");
        assert_eq!(change("L3:0=f", "", "web", None).unwrap_err()[0].path, "linux.intelRdt");
    }
}
