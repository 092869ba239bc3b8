//! What an update leaves out, but one of the kernel's files holds together with what it names.
//!
//! Version 2 has quota and period in one file, and counts swap apart from memory where config.json counts the sum. So a part that is
//! not named is what it is now. Version 1 has a file for each.

use super::file::read_at;
use super::{BadLimit, Made};
use crate::error::Result;
use crate::spec::Resources;

/// The present limits, as far as they matter; absent where there is no such file.
#[derive(Clone, Debug, Default)]
struct Present {
    /// `cpu.max`.
    cpu: Option<String>,
    /// `memory.max`.
    memory: Option<String>,
    /// `memory.swap.max`.
    swap: Option<String>,
}

impl Made {
    /// The resources of an update with the parts that they leave out.
    ///
    /// Errors when memory alone is to become more than memory and swap together may be, which stays.
    pub fn complete(&self, wanted: &Resources) -> Result<Resources> {
        let Some(dir) = self.dir_fd().filter(|_| self.group().is_unified()) else {
            return Ok(wanted.clone());
        };
        let read = |file: &str, needed: bool| read_at(dir, file).ok().filter(|_| needed);
        let present = Present {
            cpu: read("cpu.max", wanted.cpu.is_some()),
            memory: read("memory.max", wanted.memory.is_some()),
            swap: read("memory.swap.max", wanted.memory.is_some()),
        };
        Ok(complete(wanted, &present)?)
    }
}

fn complete(wanted: &Resources, present: &Present) -> std::result::Result<Resources, BadLimit> {
    let mut all = wanted.clone();
    if let (Some(cpu), Some(text)) = (&mut all.cpu, &present.cpu) {
        let given = (cpu.quota.unwrap_or(0) != 0, cpu.period.unwrap_or(0) != 0);
        let mut words = text.split(' ');
        let (quota, period) = (words.next().map(number), words.next().and_then(|word| word.parse().ok()));
        match given {
            (true, false) => cpu.period = period,
            (false, true) => cpu.quota = quota.map(|quota| quota.unwrap_or(-1)),
            _ => {}
        }
    }
    let (Some(memory), Some(limit)) = (&mut all.memory, &present.memory) else { return Ok(all) };
    let (limit, swap) = (number(limit), present.swap.as_deref().and_then(number));
    match (memory.limit.unwrap_or(0), memory.swap.unwrap_or(0)) {
        (0, sum) if sum > 0 => memory.limit = limit,
        (new, 0) if new > 0 => {
            if let (Some(limit), Some(swap)) = (limit, swap) {
                let sum = limit.saturating_add(swap);
                if new > sum {
                    let words = format!(
                        "{new} bytes are more than memory and swap together may be, {sum}; give swap too"
                    );
                    return Err(BadLimit::invalid("linux.resources.memory.limit", words));
                }
                memory.swap = Some(sum);
            }
        }
        _ => {}
    }
    Ok(all)
}

/// A limit; `None`: `max`.
fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_what_it_is() {
        let present = |cpu: &str, memory: &str, swap: &str| {
            let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            Present { cpu: some(cpu), memory: some(memory), swap: some(swap) }
        };
        let table = [
            (
                "quota keeps the period",
                r#"{"cpu":{"quota":5000}}"#,
                present("max 20000", "", ""),
                r#"{"cpu":{"quota":5000,"period":20000}}"#,
            ),
            (
                "period keeps the quota",
                r#"{"cpu":{"period":20000}}"#,
                present("7000 100000", "", ""),
                r#"{"cpu":{"quota":7000,"period":20000}}"#,
            ),
            (
                "no quota stays none",
                r#"{"cpu":{"period":20000,"quota":0}}"#,
                present("max 100000", "", ""),
                r#"{"cpu":{"quota":-1,"period":20000}}"#,
            ),
            (
                "both are given",
                r#"{"cpu":{"quota":1,"period":2}}"#,
                present("7 8", "", ""),
                r#"{"cpu":{"quota":1,"period":2}}"#,
            ),
            ("neither is", r#"{"cpu":{"shares":2}}"#, present("7 8", "", ""), r#"{"cpu":{"shares":2}}"#),
            (
                "the sum stays",
                r#"{"memory":{"limit":120}}"#,
                present("", "100", "50"),
                r#"{"memory":{"limit":120,"swap":150}}"#,
            ),
            (
                "unlimited swap stays",
                r#"{"memory":{"limit":120}}"#,
                present("", "100", "max"),
                r#"{"memory":{"limit":120}}"#,
            ),
            (
                "a sum of what is unlimited is none",
                r#"{"memory":{"limit":120}}"#,
                present("", "max", "50"),
                r#"{"memory":{"limit":120}}"#,
            ),
            (
                "no limit frees swap later",
                r#"{"memory":{"limit":-1}}"#,
                present("", "100", "50"),
                r#"{"memory":{"limit":-1}}"#,
            ),
            (
                "the sum needs memory",
                r#"{"memory":{"swap":150}}"#,
                present("", "100", "max"),
                r#"{"memory":{"limit":100,"swap":150}}"#,
            ),
            (
                "no controller, no help",
                r#"{"memory":{"limit":9,"swap":0}}"#,
                Present::default(),
                r#"{"memory":{"limit":9,"swap":0}}"#,
            ),
            (
                "memory above the sum",
                r#"{"memory":{"limit":151}}"#,
                present("", "100", "50"),
                "linux.resources.memory.limit",
            ),
        ];
        for (name, wanted, present, want) in table {
            match complete(&serde_json::from_str(wanted).unwrap(), &present) {
                Ok(all) => assert_eq!(all, serde_json::from_str(want).unwrap(), "{name}"),
                Err(bad) => assert_eq!(bad.field, want, "{name}: {bad}"),
            }
        }
    }
}
