//! Chooses the manifest for a platform.

use super::documents::Platform;

impl Platform {
    /// The platform of this machine.
    pub fn here() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            "powerpc64" => ("ppc64", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Self {
            architecture: architecture.to_owned(),
            os: std::env::consts::OS.to_owned(),
            variant: variant.map(str::to_owned),
            ..Self::default()
        }
    }

    /// Parses `OS/ARCHITECTURE[/VARIANT]`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (os, architecture, variant) = (parts.next()?, parts.next()?, parts.next());
        let words = [Some(os), Some(architecture), variant];
        let plain = |word: &str| {
            !word.is_empty()
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        if parts.next().is_some() || !words.into_iter().flatten().all(plain) {
            return None;
        }
        Some(Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: variant.map(str::to_owned),
            ..Self::default()
        })
    }

    /// Whether programs for `other` run on this platform. Entries with os.features never match:
    /// Linux defines none.
    pub fn runs(&self, other: &Self) -> bool {
        self.os == other.os
            && self.architecture == other.architecture
            && other.os_features.is_empty()
            && self.runs_variant(other.variant.as_deref().filter(|variant| !variant.is_empty()))
    }

    /// ARM v7 runs programs for v6 and v5. For x86-64 only `v1` matches; for others the variants
    /// must be equal.
    fn runs_variant(&self, wanted: Option<&str>) -> bool {
        let Some(wanted) = wanted else { return true };
        let own = self.variant.as_deref().unwrap_or(match self.architecture.as_str() {
            "arm64" => "v8",
            "arm" => "v7",
            _ => "v1",
        });
        let version = |text: &str| text.strip_prefix('v').and_then(|number| number.parse::<u32>().ok());
        match (self.architecture.as_str(), version(own), version(wanted)) {
            ("arm", Some(own), Some(wanted)) => wanted <= own,
            _ => own == wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_and_directory_of_a_program() {
        let table = [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/amd64/v1", true),
            ("linux/amd64", "linux/amd64/v3", false),
            ("linux/amd64", "windows/amd64", false),
            ("linux/amd64", "linux/arm64", false),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm/v7", "linux/arm/v6", true),
            ("linux/arm/v6", "linux/arm/v7", false),
        ];
        for (here, made_for, runs) in table {
            let (one, other) = (Platform::parse(here).unwrap(), Platform::parse(made_for).unwrap());
            assert_eq!(one.runs(&other), runs, "{here} {made_for}");
        }
        for bad in ["", "linux", "linux/", "/amd64", "linux/amd64/v1/x", "linux/am d64"] {
            assert_eq!(Platform::parse(bad), None, "{bad}");
        }
        assert!(Platform::here().runs(&Platform::here()));
    }
}
