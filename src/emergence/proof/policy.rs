//! The policy file: limits set by the machine's owner, which a command line can only tighten.

use serde::Deserialize;

use super::closure::ArtifactKind;
use super::trust::{Demand, Trust};
use crate::emergence::base::compress::Memory;
use crate::emergence::base::glob;
use crate::emergence::base::limits::Limits;
use crate::emergence::base::refusal::{Code, Fault, Result};
use crate::emergence::base::strict::document;
use crate::emergence::nix::keys::PublicKey;

/// The contents of a policy file.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    demand: Option<Demand>,
    keys: Option<Vec<PublicKey>>,
    limits: Written,
    allow: Allow,
}

/// The artifacts that are allowed.
#[derive(Clone, Debug, Default)]
pub struct Allow {
    kinds: Option<Vec<ArtifactKind>>,
    names: Option<Vec<String>>,
    demand: Option<Demand>,
}

/// The kind of proof that an artifact has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provable {
    /// Its store paths.
    Paths,
    /// It has no store paths, but the caller gave its digest.
    Pinned,
    /// None.
    Nothing,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    trust: Option<String>,
    trusted_keys: Option<Vec<String>>,
    #[serde(default)]
    allow: AllowFile,
    #[serde(default)]
    limits: Written,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AllowFile {
    kinds: Option<Vec<String>>,
    names: Option<Vec<String>>,
}

/// The limits of the file, with the meanings of [`Limits`].
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    size: Option<u64>,
    entries: Option<u64>,
    objects: Option<usize>,
    layers: Option<usize>,
    document: Option<u64>,
    narinfo: Option<u64>,
    xz_memory: Option<u64>,
    zstd_window: Option<u64>,
    depth: Option<usize>,
}

/// All kinds, to look up their names.
const KINDS: [ArtifactKind; 6] = [
    ArtifactKind::OciImage,
    ArtifactKind::AutomatonImage,
    ArtifactKind::AutomatonArtifact,
    ArtifactKind::Nar,
    ArtifactKind::Cache,
    ArtifactKind::Store,
];

impl Policy {
    /// Parses the file, called `subject` in messages:
    /// `{"trust","trustedKeys","allow":{"kinds","names"},
    /// "limits":{"size","entries","objects","layers","depth","document","narinfo",
    /// "xzMemory","zstdWindow"}}`. A missing member sets no limit.
    pub fn parse(bytes: &[u8], subject: &str) -> Result<Self> {
        let file: File = document(bytes, subject)?;
        let wrong = |place: &str, words: String| {
            Fault::refused(Code::JsonSyntax, subject, format!("{place}: {words}"))
        };
        let demand = match file.trust.as_deref() {
            None => None,
            Some("proved") => Some(Demand::Proved),
            Some("signed") => Some(Demand::Signed),
            Some("none") => Some(Demand::None),
            Some(other) => {
                return Err(wrong("trust", format!("must be proved, signed or none, not {other}")));
            }
        };
        let known = |word: &String| {
            let kind = KINDS.into_iter().find(|kind| kind.word() == word);
            kind.ok_or_else(|| wrong("allow.kinds", format!("no such kind: {word}")))
        };
        let key = |text: &String| PublicKey::parse(text).map_err(|fault| wrong("trustedKeys", fault.words()));
        let kinds =
            file.allow.kinds.map(|kinds| kinds.iter().map(known).collect::<Result<_>>()).transpose()?;
        Ok(Self {
            demand,
            keys: file.trusted_keys.map(|keys| keys.iter().map(key).collect::<Result<_>>()).transpose()?,
            limits: file.limits,
            allow: Allow { kinds, names: file.allow.names, demand },
        })
    }

    /// The effective trust for the command line's `trust`; `said`: the command line sets the
    /// demand. If not, the policy's demand applies.
    ///
    /// `trust.policy` if the demand is weaker than the policy's, or if a trusted key is not among
    /// the policy's keys.
    pub fn trust(&self, trust: Trust, said: bool) -> Result<Trust> {
        let strength = |demand: Demand| match demand {
            Demand::None => 0,
            Demand::Proved => 1,
            Demand::Signed => 2,
        };
        let demand = match self.demand {
            Some(least) if !said => least,
            Some(least) if strength(trust.demand) < strength(least) => {
                return Err(refused("--trust", "demands less than the policy"));
            }
            _ => trust.demand,
        };
        let keys = match &self.keys {
            None => trust.keys,
            Some(keys) if trust.keys.is_empty() => keys.clone(),
            Some(keys) => match trust.keys.iter().find(|key| !keys.contains(key)) {
                None => trust.keys,
                Some(stranger) => {
                    let words = format!("{} is not among the policy's keys", stranger.name());
                    return Err(refused("--trusted-key", words));
                }
            },
        };
        Ok(Trust { demand, keys, expect: trust.expect })
    }

    /// The smaller of each pair of limits.
    pub fn limits(&self, limits: Limits) -> Limits {
        let own = self.limits;
        Limits {
            size: least(own.size, limits.size),
            entries: least(own.entries, limits.entries),
            objects: least(own.objects, limits.objects),
            layers: least(own.layers, limits.layers),
            document: least(own.document, limits.document),
            narinfo: least(own.narinfo, limits.narinfo),
            memory: Memory {
                xz: least(own.xz_memory, limits.memory.xz),
                zstd: least(own.zstd_window, limits.memory.zstd),
            },
            depth: least(own.depth, limits.depth),
        }
    }

    /// The artifacts that are allowed.
    pub fn allow(self) -> Allow {
        self.allow
    }
}

fn least<T: Ord>(own: Option<T>, limit: T) -> T {
    match own {
        Some(own) => own.min(limit),
        None => limit,
    }
}

impl Allow {
    /// Checks that an artifact of this `kind` and `name` is allowed: the name of an automaton or of
    /// the root object, or the tag of an image. Otherwise `trust.policy`.
    ///
    /// If the policy demands proof, an artifact without store paths must be pinned. If it demands
    /// signatures, such an artifact is refused.
    pub fn admit(&self, kind: ArtifactKind, name: &str, provable: Provable) -> Result<()> {
        if self.kinds.as_ref().is_some_and(|kinds| !kinds.contains(&kind)) {
            return Err(refused(name, format!("the policy does not allow the kind {}", kind.word())));
        }
        let fits = |names: &Vec<String>| names.iter().any(|pattern| glob::matches(pattern, name));
        if !self.names.as_ref().is_none_or(fits) {
            return Err(refused(name, "the policy does not allow this name"));
        }
        match (self.demand, provable) {
            (Some(Demand::Signed), Provable::Pinned | Provable::Nothing) => Err(refused(
                name,
                format!("the policy demands signatures, and this {} has none", kind.word()),
            )),
            (Some(Demand::Proved), Provable::Nothing) => {
                let words = "the policy demands a pin for artifacts without store paths: give --expect, or @DIGEST after a tag";
                Err(refused(name, words))
            }
            _ => Ok(()),
        }
    }
}

fn refused(subject: &str, words: impl Into<String>) -> Fault {
    Fault::refused(Code::TrustPolicy, subject, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Policy {
        Policy::parse(text.as_bytes(), "p").unwrap()
    }

    fn keys() -> (PublicKey, PublicKey) {
        let key = |name| crate::emergence::nix::keys::SecretKey::generate(name).unwrap().public();
        (key("a-1"), key("b-1"))
    }

    #[test]
    fn a_command_line_can_only_tighten() {
        let (none, proved, signed) = (Demand::None, Demand::Proved, Demand::Signed);
        let table = [
            (r#"{"trust":"proved"}"#, proved, false, Some(proved)),
            (r#"{"trust":"none"}"#, proved, false, Some(none)),
            (r#"{"trust":"none"}"#, signed, true, Some(signed)),
            (r#"{"trust":"signed"}"#, proved, false, Some(signed)),
            (r#"{"trust":"signed"}"#, proved, true, None),
            (r#"{"trust":"proved"}"#, none, true, None),
            (r#"{}"#, none, true, Some(none)),
        ];
        for (text, demand, said, want) in table {
            let trust = Trust { demand, ..Trust::default() };
            match (policy(text).trust(trust, said), want) {
                (Ok(found), Some(want)) => assert_eq!(found.demand, want, "{text} {demand:?}"),
                (Err(fault), None) => assert_eq!(fault.code(), Some(Code::TrustPolicy), "{text}"),
                (other, _) => panic!("{text} {demand:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn only_its_keys_count() {
        let (ours, other) = keys();
        let text = format!(r#"{{"trustedKeys":["{ours}"]}}"#);
        let accepted = |keys: &[&PublicKey]| {
            let keys = keys.iter().map(|key| (*key).clone()).collect();
            policy(&text).trust(Trust { keys, ..Trust::default() }, false).map(|trust| trust.keys)
        };
        assert_eq!(accepted(&[]).unwrap(), std::slice::from_ref(&ours));
        assert_eq!(accepted(&[&ours]).unwrap(), std::slice::from_ref(&ours));
        assert_eq!(accepted(&[&ours, &other]).unwrap_err().code(), Some(Code::TrustPolicy));
        let free = policy("{}").trust(Trust { keys: vec![other.clone()], ..Trust::default() }, false);
        assert_eq!(free.unwrap().keys, [other]);
    }

    #[test]
    fn limits_shrink() {
        let limits = Limits::default();
        let found = policy(r#"{"limits":{"size":5,"objects":1000000}}"#).limits(limits);
        assert_eq!(found, Limits { size: 5, ..limits });
        let found = policy(r#"{"limits":{"size":100,"entries":3,"layers":2,"depth":9}}"#)
            .limits(Limits { size: 7, ..limits });
        assert_eq!(found, Limits { size: 7, entries: 3, layers: 2, depth: 9, ..limits });
        let text = r#"{"limits":{"document":1,"narinfo":2,"xzMemory":3,"zstdWindow":4}}"#;
        let memory = Memory { xz: 3, zstd: 4 };
        assert_eq!(policy(text).limits(limits), Limits { document: 1, narinfo: 2, memory, ..limits });
    }

    #[test]
    fn kinds_names_and_pins() {
        use Provable::{Nothing, Paths, Pinned};
        let table = [
            ("{}", ArtifactKind::OciImage, "x", Paths, true),
            (r#"{"allow":{"kinds":["automaton-image"]}}"#, ArtifactKind::AutomatonImage, "x", Paths, true),
            (r#"{"allow":{"kinds":["automaton-image"]}}"#, ArtifactKind::OciImage, "x", Pinned, false),
            (r#"{"allow":{"kinds":[]}}"#, ArtifactKind::Nar, "x", Pinned, false),
            (r#"{"allow":{"names":["web-*","db"]}}"#, ArtifactKind::Nar, "web-1", Nothing, true),
            (r#"{"allow":{"names":["web-*","db"]}}"#, ArtifactKind::Nar, "dbx", Nothing, false),
            (r#"{"trust":"proved"}"#, ArtifactKind::OciImage, "x", Nothing, false),
            (r#"{"trust":"proved"}"#, ArtifactKind::OciImage, "x", Pinned, true),
            (r#"{"trust":"signed"}"#, ArtifactKind::OciImage, "x", Pinned, false),
            (r#"{"trust":"proved"}"#, ArtifactKind::Nar, "x", Nothing, false),
            (r#"{"trust":"signed"}"#, ArtifactKind::AutomatonImage, "x", Paths, true),
        ];
        for (text, kind, name, provable, want) in table {
            let found = policy(text).allow().admit(kind, name, provable);
            assert_eq!(
                found.as_ref().err().and_then(Fault::code),
                (!want).then_some(Code::TrustPolicy),
                "{text}"
            );
        }
    }

    #[test]
    fn strictly_read() {
        let (field, syntax) = (Code::DocUnknownField, Code::JsonSyntax);
        let table = [
            (r#"{"color":1}"#, field),
            (r#"{"allow":{"colors":[]}}"#, field),
            (r#"{"limits":{"width":1}}"#, field),
            (r#"{"trust":"much"}"#, syntax),
            (r#"{"trustedKeys":["a"]}"#, syntax),
            (r#"{"allow":{"kinds":["iso"]}}"#, syntax),
            (r#"{"trust":"none","trust":"none"}"#, Code::JsonDuplicateKey),
            ("[]", syntax),
        ];
        for (text, code) in table {
            let fault = Policy::parse(text.as_bytes(), "p").unwrap_err();
            assert_eq!(fault.code(), Some(code), "{text}: {fault}");
        }
    }
}
