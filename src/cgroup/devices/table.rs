//! Rules as a table: the allowed accesses for each device class, major and minor.

use std::collections::BTreeMap;

use super::{ALL, Access, Class, MKNOD, READ, Rule, WRITE};
use crate::cgroup::BadLimit;

/// The allowed accesses to the devices of one major number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// For minors without an entry.
    pub(super) rest: Access,
    /// Only those that differ from `rest`.
    pub(super) minors: BTreeMap<u32, Access>,
}

/// The allowed accesses to the devices of one class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// For majors without an entry.
    pub(super) rest: Row,
    /// Only those that differ from `rest`.
    pub(super) majors: BTreeMap<u32, Row>,
}

impl Table {
    /// The table of one class.
    pub(super) fn new(rules: &[Rule], class: Class) -> Self {
        let rules: Vec<&Rule> =
            rules.iter().filter(|rule| rule.class.is_none_or(|named| named == class)).collect();
        let rest = Row::new(&rules, None);
        let mut majors = BTreeMap::new();
        for major in rules.iter().filter_map(|rule| rule.major) {
            majors.entry(major).or_insert_with(|| Row::new(&rules, Some(major)));
        }
        majors.retain(|_, row| *row != rest);
        Self { rest, majors }
    }

    /// Every set of accesses in the table.
    pub(super) fn cells(&self) -> impl Iterator<Item = Access> {
        let rows = self.majors.values().chain([&self.rest]);
        rows.flat_map(|row| row.minors.values().copied().chain([row.rest]))
    }
}

impl Row {
    /// The row of one major, or of all majors that no rule names.
    fn new(rules: &[&Rule], major: Option<u32>) -> Self {
        let rules: Vec<&Rule> =
            rules.iter().copied().filter(|rule| rule.major.is_none() || rule.major == major).collect();
        let rest = decide(rules.iter().copied().filter(|rule| rule.minor.is_none()));
        let mut minors = BTreeMap::new();
        for minor in rules.iter().filter_map(|rule| rule.minor) {
            minors.entry(minor).or_insert_with(|| {
                decide(rules.iter().copied().filter(|rule| rule.minor.is_none_or(|named| named == minor)))
            });
        }
        minors.retain(|_, access| *access != rest);
        Self { rest, minors }
    }
}

/// Applies the rules that match one device, in order.
fn decide<'a>(matching: impl Iterator<Item = &'a Rule>) -> Access {
    matching.fold(0, |have, rule| if rule.allow { have | rule.access } else { have & !rule.access })
}

/// The writes for a new cgroup v1 devices group: (file, value), in order.
///
/// The v1 kernel keeps one default and a list of exceptions, all of one direction
/// (device_cgroup.c): "all but these" or "none but these". Rules that need both are refused; cgroup
/// v2 supports them.
pub fn v1_writes(rules: &[Rule]) -> Result<Vec<(&'static str, String)>, BadLimit> {
    let tables = [("b", Table::new(rules, Class::Block)), ("c", Table::new(rules, Class::Char))];
    let all_allowed = tables.iter().all(|(_, table)| table.rest.rest == ALL);
    let mut writes =
        vec![if all_allowed { ("devices.allow", "a".into()) } else { ("devices.deny", "a".into()) }];
    let mut except = |letter: &str, major: Option<u32>, minor: Option<u32>, access: Access| {
        let (file, access) =
            if all_allowed { ("devices.deny", ALL & !access) } else { ("devices.allow", access) };
        if access != 0 {
            let name =
                |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
            writes.push((file, format!("{letter} {}:{} {}", name(major), name(minor), letters(access))));
        }
    };
    // An exception can't be revoked for a part of its devices: the narrower one must go further in
    // the same direction.
    let further =
        |narrow: Access, wide: Access| if all_allowed { narrow & !wide == 0 } else { wide & !narrow == 0 };
    for (letter, table) in &tables {
        let base = table.rest.rest;
        except(letter, None, None, base);
        let named = table.majors.iter().map(|(major, row)| (Some(*major), row));
        for (major, row) in [(None, &table.rest)].into_iter().chain(named) {
            let wild = |minor: &u32| table.rest.minors.get(minor).copied().unwrap_or(base);
            let fits =
                further(row.rest, base)
                    && row
                        .minors
                        .iter()
                        .all(|(minor, access)| further(*access, row.rest) && further(*access, wild(minor)))
                    && table.rest.minors.keys().all(|minor| {
                        further(row.minors.get(minor).copied().unwrap_or(row.rest), wild(minor))
                    });
            if !fits {
                return Err(BadLimit::unsupported(
                    "linux.resources.devices",
                    "cgroup v1 cannot deny part of what a rule allows, nor allow part of what a rule denies",
                ));
            }
            if major.is_some() && row.rest != base {
                except(letter, major, None, row.rest);
            }
            for (minor, access) in &row.minors {
                except(letter, major, Some(*minor), *access);
            }
        }
    }
    Ok(writes)
}

/// The accesses as config.json writes them: some of `rwm`.
pub(super) fn letters(access: Access) -> String {
    [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
        .iter()
        .filter(|(bit, _)| access & bit != 0)
        .map(|(_, letter)| *letter)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::devices::DEFAULTS;

    #[test]
    fn v1_has_one_direction() {
        let rule = |allow, class, major, minor, access| Rule { allow, class, major, minor, access };
        let all = rule(true, None, None, None, ALL);
        let no_disk = rule(false, Some(Class::Block), Some(8), None, WRITE);
        let but_sda = rule(true, Some(Class::Block), Some(8), Some(0), ALL);
        let one = |file, value: &str| (file, value.to_owned());
        let text = |writes: Vec<(&'static str, String)>| writes;
        let table = [
            ("everything", vec![all], Some(vec![one("devices.allow", "a")])),
            ("nothing", vec![], Some(vec![one("devices.deny", "a")])),
            (
                "all but writing to disks",
                vec![all, no_disk],
                Some(vec![one("devices.allow", "a"), one("devices.deny", "b 8:* w")]),
            ),
            ("both directions", vec![all, no_disk, but_sda], None),
            (
                "one disk",
                vec![but_sda],
                Some(vec![one("devices.deny", "a"), one("devices.allow", "b 8:0 rwm")]),
            ),
        ];
        for (name, rules, want) in table {
            assert_eq!(v1_writes(&rules).ok().map(text), want, "{name}");
        }
        let writes = v1_writes(&DEFAULTS).unwrap();
        let values: Vec<&str> = writes.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(
            values,
            [
                "a",
                "b *:* m",
                "c *:* m",
                "c 1:3 rwm",
                "c 1:5 rwm",
                "c 1:7 rwm",
                "c 1:8 rwm",
                "c 1:9 rwm",
                "c 5:0 rwm",
                "c 5:1 rwm",
                "c 5:2 rwm",
                "c 136:* rwm"
            ]
        );
    }
}
