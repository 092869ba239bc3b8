//! Parses a group's statistics files, for the formats that both versions share.

use std::collections::BTreeMap;

use super::types::{Pids, Psi};

/// The texts of a group's files, by name.
pub(super) struct Files<'a>(pub(super) &'a dyn Fn(&str) -> Option<String>);

impl Files<'_> {
    pub(super) fn text(&self, file: &str) -> String {
        (self.0)(file).unwrap_or_default()
    }

    /// A file with a single number; `max` is the greatest `u64`.
    pub(super) fn number(&self, file: &str) -> u64 {
        match self.text(file).as_str() {
            "max" => u64::MAX,
            text => text.parse().unwrap_or(0),
        }
    }

    /// A file with a name and a number on each line.
    pub(super) fn table(&self, file: &str) -> BTreeMap<String, u64> {
        let text = self.text(file);
        let line = |line: &str| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        };
        text.lines().filter_map(line).collect()
    }

    /// The number of one name in such a file.
    pub(super) fn entry(&self, file: &str, name: &str) -> u64 {
        self.table(file).get(name).copied().unwrap_or(0)
    }

    pub(super) fn psi(&self, file: &str) -> Option<Psi> {
        (self.0)(file).as_deref().and_then(psi)
    }
}

/// The numbers of the pids controller, whose files are the same in both versions.
pub(super) fn pids(files: &Files<'_>) -> Pids {
    let limit = files.number("pids.max");
    Pids { current: files.number("pids.current"), limit: if limit == u64::MAX { 0 } else { limit } }
}

/// Parses `MAJOR:MINOR`.
pub(super) fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Parses `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and a line for `full`.
fn psi(text: &str) -> Option<Psi> {
    let mut found = Psi::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let place = match words.next()? {
            "some" => &mut found.some,
            "full" => &mut found.full,
            _ => continue,
        };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            match name {
                "avg10" => place.avg10 = value.parse().ok()?,
                "avg60" => place.avg60 = value.parse().ok()?,
                "avg300" => place.avg300 = value.parse().ok()?,
                "total" => place.total = value.parse().ok()?,
                _ => {}
            }
        }
    }
    (!text.is_empty()).then_some(found)
}

/// Parses the kernel's list format: `0-3,8`.
pub(super) fn list(text: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<u16>().ok()?..=last.trim().parse().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}
