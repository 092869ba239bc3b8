//! Device rules as an allow-list for systemd, which has no deny rules.

use super::table::{Table, letters};
use super::{ALL, Access, Class, Rule};

/// One entry of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Class of the devices.
    pub class: Class,
    /// Major number; `None`: any.
    pub major: Option<u32>,
    /// Minor number; `None`: any.
    pub minor: Option<u32>,
    /// The accesses that this entry allows, in addition to those of other entries.
    pub access: Access,
}

impl Allowed {
    /// The accesses as `rwm`.
    pub fn letters(&self) -> String {
        letters(self.access)
    }
}

/// The rules as an allow-list. `None` if they allow everything, or cannot be expressed: they deny a
/// part of what they allow, or name a minor number for every major.
pub fn allowed(rules: &[Rule]) -> Option<Vec<Allowed>> {
    let mut list = Vec::new();
    let mut all = true;
    for class in [Class::Block, Class::Char] {
        let table = Table::new(rules, class);
        let rest = &table.rest;
        all &= rest.rest == ALL && table.majors.is_empty();
        if !rest.minors.is_empty() {
            return None;
        }
        let mut add = |major, minor, access: Access, wider: Access| {
            if wider & !access != 0 {
                return None;
            }
            if access != wider {
                list.push(Allowed { class, major, minor, access });
            }
            Some(())
        };
        add(None, None, rest.rest, 0)?;
        for (major, row) in &table.majors {
            add(Some(*major), None, row.rest, rest.rest)?;
            for (minor, access) in &row.minors {
                add(Some(*major), Some(*minor), *access, row.rest)?;
            }
        }
    }
    (!all).then_some(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::devices::DEFAULTS;

    #[test]
    fn the_default_rules_are_a_list() {
        let list = allowed(&DEFAULTS).unwrap();
        let shown: Vec<String> = list
            .iter()
            .map(|one| format!("{:?} {:?} {:?} {}", one.class, one.major, one.minor, one.letters()))
            .collect();
        assert_eq!(shown[..3], ["Block None None m", "Char None None m", "Char Some(1) Some(3) rwm"]);
        assert_eq!(shown.last().unwrap(), "Char Some(136) None rwm");
        assert_eq!(list.len(), DEFAULTS.len());
    }

    #[test]
    fn denials_are_no_list() {
        let rule = |allow, major, minor| Rule { allow, class: Some(Class::Char), major, minor, access: ALL };
        let table = [
            vec![Rule { allow: true, class: None, major: None, minor: None, access: ALL }],
            vec![rule(true, Some(10), None), rule(false, Some(10), Some(200))],
            vec![rule(true, None, None), rule(false, Some(10), None)],
            vec![rule(true, None, Some(200))],
        ];
        for rules in table {
            assert_eq!(allowed(&rules), None, "{rules:?}");
        }
        assert_eq!(allowed(&[rule(true, Some(10), None), rule(false, None, None)]), Some(vec![]));
    }
}
