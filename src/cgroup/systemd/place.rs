//! Derives the unit of a container from `linux.cgroupsPath`, and its cgroup. Source:
//! systemd.unit(5), systemd.slice(5).

use crate::error::{Error, Result};

/// A unit to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnitPlace {
    /// Its name, with `.scope` or `.slice`.
    pub unit: String,
    /// The slice that contains it; `-.slice` is the root.
    pub slice: String,
}

/// The root slice's name.
pub(crate) const ROOT: &str = "-.slice";
/// The longest unit name that systemd accepts (UNIT_NAME_MAX).
const LONGEST: usize = 255;
/// The prefix of the id if cgroupsPath is absent.
const PREFIX: &str = "emergence";

impl UnitPlace {
    /// Parses `SLICE:PREFIX:NAME`, as runc does.
    ///
    /// * An empty SLICE is `default_slice`; `-` is the root slice.
    /// * The unit is `PREFIX-NAME.scope`, which begins with `-` if PREFIX is empty; if NAME ends in
    ///   `.slice`, it is NAME itself.
    /// * An absent path is `:emergence:ID`.
    pub(crate) fn parse(cgroups_path: &str, id: &str, default_slice: &str) -> Result<Self> {
        const FIELD: &str = "linux.cgroupsPath";
        let absent = format!(":{PREFIX}:{}", escape(id));
        let path = if cgroups_path.is_empty() { &absent } else { cgroups_path };
        let parts: Vec<&str> = path.split(':').collect();
        let [slice, prefix, name] = parts.as_slice() else {
            let words = format!(
                "{path:?} is not of the form SLICE:PREFIX:NAME, which the systemd cgroup driver needs"
            );
            return Err(Error::invalid(FIELD, words));
        };
        let slice = match *slice {
            "" => default_slice,
            "-" => ROOT,
            named => named,
        };
        if let Err(words) = check_slice(slice) {
            return Err(Error::invalid(FIELD, format!("{slice:?} is not a slice's name: {words}")));
        }
        if name.is_empty() {
            return Err(Error::invalid(FIELD, format!("{path:?} has no name after the last `:`")));
        }
        let place = if name.ends_with(".slice") {
            if let Err(words) = check_slice(name) {
                return Err(Error::invalid(FIELD, format!("{name:?} is not a slice's name: {words}")));
            }
            // A slice's name determines its parent.
            Self { unit: (*name).to_owned(), slice: parent(name).to_owned() }
        } else {
            Self { unit: format!("{prefix}-{name}.scope"), slice: slice.to_owned() }
        };
        if place.unit == ROOT {
            return Err(Error::invalid(
                FIELD,
                "the root slice cannot be a container's unit; name a unit below it",
            ));
        }
        check_unit(&place.unit).map_err(|words| {
            Error::invalid(FIELD, format!("{:?} cannot be a unit's name: {words}", place.unit))
        })?;
        Ok(place)
    }

    /// Whether the unit is itself a slice, to which systemd adds no process.
    pub(crate) fn is_slice(&self) -> bool {
        self.unit.ends_with(".slice")
    }

    /// The unit's cgroup relative to systemd's own, normalized.
    pub(crate) fn below(&self) -> String {
        if self.is_slice() {
            return expand(&self.unit);
        }
        match expand(&self.slice) {
            root if root.is_empty() => self.unit.clone(),
            slice => format!("{slice}/{}", self.unit),
        }
    }
}

/// The path of a slice's cgroup: `a-b.slice` is `a.slice/a-b.slice`; the root slice is systemd's
/// own cgroup.
fn expand(slice: &str) -> String {
    let Some(name) = slice.strip_suffix(".slice").filter(|name| *name != "-") else { return String::new() };
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    ends.filter_map(|end| name.get(..end)).map(|part| format!("{part}.slice")).collect::<Vec<_>>().join("/")
}

/// The parent of a slice.
fn parent(slice: &str) -> String {
    let name = slice.strip_suffix(".slice").unwrap_or(slice);
    name.rsplit_once('-').map_or_else(|| ROOT.to_owned(), |(above, _)| format!("{above}.slice"))
}

fn check_slice(slice: &str) -> std::result::Result<(), &'static str> {
    let Some(name) = slice.strip_suffix(".slice") else { return Err("it does not end in .slice") };
    if slice == ROOT {
        return Ok(());
    }
    if name.split('-').any(str::is_empty) {
        return Err("each `-` stands for a level, and one of the names around it is empty");
    }
    check_unit(slice)
}

fn check_unit(unit: &str) -> std::result::Result<(), &'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\".contains(&byte);
    if unit.len() > LONGEST {
        Err("it is longer than 255 bytes")
    } else if !unit.bytes().all(plain) {
        Err("systemd takes letters, digits and - _ . \\ only (systemd-escape(1) writes others)")
    } else if unit.starts_with('.') {
        Err("it begins with a dot")
    } else {
        Ok(())
    }
}

/// Escapes `+`, which an id may have but a unit's name may not: systemd-escape(1).
fn escape(id: &str) -> String {
    id.replace('+', "\\x2b")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_their_cgroups() {
        let table = [
            ("system.slice:docker:1a", "docker-1a.scope", "system.slice/docker-1a.scope"),
            (":docker:1a", "docker-1a.scope", "system.slice/docker-1a.scope"),
            ("system.slice::1a", "-1a.scope", "system.slice/-1a.scope"),
            ("machine.slice:libpod:a-b", "libpod-a-b.scope", "machine.slice/libpod-a-b.scope"),
            ("a-b-c.slice:p:n", "p-n.scope", "a.slice/a-b.slice/a-b-c.slice/p-n.scope"),
            ("-:p:n", "p-n.scope", "p-n.scope"),
            ("-.slice:p:n", "p-n.scope", "p-n.scope"),
            ("", "emergence-web.scope", "system.slice/emergence-web.scope"),
            ("a.slice:ignored:a-pod.slice", "a-pod.slice", "a.slice/a-pod.slice"),
            ("::pod.slice", "pod.slice", "pod.slice"),
            ("::n", "-n.scope", "system.slice/-n.scope"),
        ];
        for (path, unit, below) in table {
            let place = UnitPlace::parse(path, "web", "system.slice").unwrap();
            assert_eq!((place.unit.as_str(), place.below().as_str()), (unit, below), "{path}");
        }
        assert_eq!(
            UnitPlace::parse("", "a+b", "user.slice").unwrap().below(),
            "user.slice/emergence-a\\x2bb.scope"
        );
        assert_eq!(UnitPlace::parse("::a-b.slice", "x", "system.slice").unwrap().slice, "a.slice");
        assert_eq!(UnitPlace::parse("::a.slice", "x", "system.slice").unwrap().slice, ROOT);
    }

    #[test]
    fn other_forms_are_refused_with_their_path() {
        let long = format!("::{}", "a".repeat(250));
        let table = [
            "/a/b",
            "a",
            "a:b",
            "a:b:c:d",
            "system:p:n",
            "a/b.slice:p:n",
            "--a.slice:p:n",
            "a-.slice:p:n",
            ".slice:p:n",
            "a.slice:p:",
            "::n/m",
            ":p:a b",
            "::-.slice",
            "::a--b.slice",
            "::.slice",
            &long,
            "::\u{e4}",
        ];
        for path in table {
            let Err(error) = UnitPlace::parse(path, "web", "system.slice") else {
                panic!("{path:?} is taken")
            };
            assert!(error.to_string().starts_with("linux.cgroupsPath: "), "{error}");
        }
        // An id may be longer than a unit's name.
        UnitPlace::parse("", &"a".repeat(300), "system.slice").unwrap_err();
    }
}
