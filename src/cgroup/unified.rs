//! Checks which cgroup files `linux.resources.unified` may name. Source: runtime-spec
//! config-linux.md, "Unified"; cgroup-v2.rst.

/// The core's own files that hold a limit or a switch. The others move, freeze or kill processes,
/// change the cgroup's type or enable controllers: only the runtime may do that.
const CORE: &[&str] = &["cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"];

/// Files whose writes hold only while the file is open, by their last part: a pressure trigger, a
/// peak counter that is reset.
const WHILE_OPEN: &[&str] = &["pressure", "peak"];

/// Checks a member of `unified`: it must name a limit and have a value.
pub(super) fn check(file: &str, value: &str) -> Result<(), String> {
    check_name(file)?;
    // Elsewhere the kernel would read it as 0, and kill the container.
    if value.trim().is_empty() && !file.starts_with("cpuset.") {
        return Err("the value is empty, which only lists of cpuset.* may be".into());
    }
    Ok(())
}

/// Checks a key of `unified`, the name of a file in the container's cgroup; the error says what to
/// write instead.
fn check_name(file: &str) -> Result<(), String> {
    if file.contains(['/', '\0']) {
        return Err("write a file name, with no `/` in it".into());
    }
    let Some((controller, rest)) =
        file.split_once('.').filter(|(first, rest)| !first.is_empty() && !rest.is_empty())
    else {
        return Err("write a file name that begins with its controller, such as memory.high".into());
    };
    if controller == "cgroup" && !CORE.contains(&file) {
        return Err(format!(
            "this file is for the runtime to write; of cgroup.* use only {}",
            CORE.join(", ")
        ));
    }
    if controller != "cgroup" && rest.rsplit('.').next().is_some_and(|last| WHILE_OPEN.contains(&last)) {
        return Err("a write to this file has an effect only while it is open; leave it out".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_list_may_be_empty() {
        for (file, value, want) in [
            ("cpuset.cpus", "", true),
            ("cpuset.mems", "\n", true),
            ("memory.max", "", false),
            ("pids.max", " \n", false),
            ("pids.max", "0", true),
        ] {
            assert_eq!(check(file, value).is_ok(), want, "{file} {value:?}");
        }
    }

    #[test]
    fn only_limits_may_be_named() {
        for file in [
            "memory.high",
            "memory.oom.group",
            "memory.reclaim",
            "hugetlb.2MB.max",
            "cgroup.max.depth",
            "cgroup.max.descendants",
            "cgroup.pressure",
            "strange.max",
        ] {
            assert_eq!(check_name(file), Ok(()), "{file}");
        }
        for file in [
            "",
            ".",
            "..",
            "...",
            "memory",
            "memory.",
            ".max",
            "../memory.max",
            "x/memory.max",
            "memory.max/",
            "memory.max\0",
            "cgroup.procs",
            "cgroup.threads",
            "cgroup.kill",
            "cgroup.freeze",
            "cgroup.type",
            "cgroup.subtree_control",
            "cgroup.controllers",
            "cgroup.events",
            "cgroup.stat",
            "cgroup.new",
            "cpu.pressure",
            "memory.pressure",
            "memory.peak",
            "memory.swap.peak",
        ] {
            assert!(check_name(file).is_err(), "{file:?}");
        }
    }
}
