//! The words and versions that constraints compare.

/// Lists of words; each list that is present must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Values {
    /// At least one of these.
    pub any: Option<Vec<String>>,
    /// All of these.
    pub all: Vec<String>,
    /// None of these.
    pub none: Vec<String>,
}

impl Values {
    /// The words that are present, if the lists do not hold.
    pub(crate) fn lack(&self, has: &[String]) -> Option<String> {
        let is_present = |word: &String| has.contains(word);
        let holds = self.any.as_ref().is_none_or(|any| any.iter().any(is_present))
            && self.all.iter().all(is_present)
            && !self.none.iter().any(is_present);
        (!holds).then(|| format!("has {}", joined(has)))
    }
}

/// The words as text for messages.
pub(crate) fn joined<T: AsRef<str>>(words: &[T]) -> String {
    match words {
        [] => "none".into(),
        words => words.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" "),
    }
}

/// The numbers at the start of a version, without trailing zeros: 6 and 1 for `6.1.0-13-amd64`.
pub(crate) fn version(text: &str) -> Vec<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let numbers = text.get(..end).unwrap_or_default().split('.').map_while(|number| number.parse().ok());
    let mut numbers: Vec<u64> = numbers.collect();
    while numbers.last() == Some(&0) {
        numbers.pop();
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_compare_by_numbers() {
        assert!(version("6.18.44-fc") > version("6.9"));
        assert!(version("5.10") > version("5.9.99"));
        assert_eq!(version("6"), version("6.0.0-rc1"));
        assert!(version("535.104.05") >= version("535.104"));
        assert_eq!(version("x"), Vec::<u64>::new());
    }
}
