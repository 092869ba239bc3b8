//! The documents of a layout as declared, unverified. Digests are always computed from the original
//! bytes, never from these structures. Source: the OCI image specification.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::emergence::base::hash::{Algorithm, Hash};
use crate::sys::base64;

/// Media types.
pub mod media {
    /// An index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// A manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// The configuration of an image.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Docker's index.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's configuration of an image.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// An uncompressed layer; `+gzip` or `+zstd` may follow.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// The annotation that contains a descriptor's tag.
    pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
}

/// A reference to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the blob.
    #[serde(default, deserialize_with = "or_default")]
    pub media_type: String,
    /// Digest of the blob.
    #[serde(serialize_with = "write_digest", deserialize_with = "read_digest")]
    pub digest: Hash,
    /// Size of the blob, in bytes.
    pub size: u64,
    /// Alternative locations, which are not used.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Arbitrary annotations.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The content of the blob, embedded.
    #[serde(
        default,
        serialize_with = "write_data",
        deserialize_with = "read_data",
        skip_serializing_if = "Option::is_none"
    )]
    pub data: Option<Vec<u8>>,
    /// The artifact type of a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The platform of a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// A descriptor of `bytes`, with a SHA-256 digest.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Hash::sha256(bytes),
            size: bytes.len() as u64,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: None,
            artifact_type: None,
            platform: None,
        }
    }
}

/// A platform, in Go's terms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture: `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// Operating system: `linux`.
    #[serde(default)]
    pub os: String,
    /// Variant of the architecture: `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Minimum version of the operating system. Not used on Linux.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Required features of the operating system.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// A list of manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u64,
    /// Its own media type, if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Its artifact type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Descriptors of manifests and of other indexes.
    #[serde(deserialize_with = "or_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that it refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Arbitrary annotations.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u64,
    /// Its own media type, if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Its artifact type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration, of any media type.
    pub config: Descriptor,
    /// Layers, lowest first.
    #[serde(deserialize_with = "or_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that it refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Arbitrary annotations.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The configuration of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// CPU architecture. Docker omits it if unknown.
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    /// Operating system.
    #[serde(default, deserialize_with = "or_default")]
    pub os: String,
    /// Variant of the architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Creation time, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Execution parameters of a container.
    #[serde(default, deserialize_with = "or_default")]
    pub config: Execution,
    /// Digests of the uncompressed layers.
    pub rootfs: RootFs,
    /// All other members.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

impl ImageConfig {
    /// Its platform.
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            variant: self.variant.clone().filter(|variant| !variant.is_empty()),
            ..Platform::default()
        }
    }
}

/// The member `config` of [`ImageConfig`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Execution {
    /// User of the process: `user[:group]`, names or numbers.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `80/tcp`: a port and its protocol.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Value>,
    /// `NAME=value`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program, and its first arguments.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The other arguments, or the program and its arguments if there is no entry point.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Directories for data.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Value>,
    /// Working directory of the program.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Arbitrary labels.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Stop signal: a name or a number.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// All other members.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// The member `rootfs` of [`ImageConfig`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// DiffID of each layer, lowest first.
    #[serde(serialize_with = "write_digests", deserialize_with = "read_digests")]
    pub diff_ids: Vec<Hash>,
}

/// Parses an OCI digest, which has only one form: `sha256:` or `sha512:` and lower-case hexadecimal
/// digits.
pub(crate) fn digest(text: &str) -> Option<Hash> {
    let hash = Hash::parse(text, None).ok()?;
    let known = matches!(hash.algorithm(), Algorithm::Sha256 | Algorithm::Sha512);
    (known && hash.to_string() == text).then_some(hash)
}

/// Treats `null` as a missing member.
fn or_default<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    reader: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(reader)?.unwrap_or_default())
}

fn read_digest<'de, D: Deserializer<'de>>(reader: D) -> std::result::Result<Hash, D::Error> {
    let text = String::deserialize(reader)?;
    digest(&text).ok_or_else(|| D::Error::custom(format!("{} is not a digest", text.escape_debug())))
}

fn read_digests<'de, D: Deserializer<'de>>(reader: D) -> std::result::Result<Vec<Hash>, D::Error> {
    let texts = Option::<Vec<String>>::deserialize(reader)?.unwrap_or_default();
    let one = |text: &String| {
        digest(text).ok_or_else(|| D::Error::custom(format!("{} is not a digest", text.escape_debug())))
    };
    texts.iter().map(one).collect()
}

fn write_digest<S: Serializer>(digest: &Hash, writer: S) -> std::result::Result<S::Ok, S::Error> {
    writer.collect_str(digest)
}

fn write_digests<S: Serializer>(digests: &[Hash], writer: S) -> std::result::Result<S::Ok, S::Error> {
    writer.collect_seq(digests.iter().map(Hash::to_string))
}

fn read_data<'de, D: Deserializer<'de>>(reader: D) -> std::result::Result<Option<Vec<u8>>, D::Error> {
    let text = Option::<String>::deserialize(reader)?;
    let bytes = |text: String| base64::decode(&text).ok_or_else(|| D::Error::custom("is not base64"));
    text.map(bytes).transpose()
}

fn write_data<S: Serializer>(data: &Option<Vec<u8>>, writer: S) -> std::result::Result<S::Ok, S::Error> {
    match data {
        Some(bytes) => writer.serialize_str(&base64::encode(bytes)),
        None => writer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emergence::base::json;

    #[test]
    fn digests_are_written_one_way() {
        let hex = "ab".repeat(32);
        assert!(digest(&format!("sha256:{hex}")).is_some());
        assert!(digest(&format!("sha512:{hex}{hex}")).is_some());
        for bad in [hex.to_uppercase(), hex[1..].to_owned(), format!("{hex}0"), String::new()] {
            assert_eq!(digest(&format!("sha256:{bad}")), None, "{bad}");
        }
        assert_eq!(digest(&format!("md5:{}", &hex[..32])), None);
        assert_eq!(digest(&format!("sha1:{}", &hex[..40])), None);
    }

    #[test]
    fn layouts_of_engines_are_read() {
        let text = r#"{"architecture":"amd64","os":"linux","author":"x","com.matrixai.automaton":{"a":1},
            "config":{"Cmd":["sh"],"Entrypoint":null,"Volumes":null,"ExposedPorts":{"80/tcp":{}},"OnBuild":null,"Labels":null},
            "rootfs":{"type":"layers","diff_ids":null},"history":[{"created":"x"}]}"#;
        let config: ImageConfig = json::read(text.as_bytes(), "config").unwrap();
        assert_eq!(config.config.cmd, ["sh"]);
        assert!(config.config.entrypoint.is_empty() && config.rootfs.diff_ids.is_empty());
        assert_eq!(config.other["com.matrixai.automaton"]["a"], 1);
        assert_eq!(config.platform().to_string(), "linux/amd64");
        let old = br#"{"os":null,"rootfs":{"type":"layers","diff_ids":[]}}"#;
        assert_eq!(json::read::<ImageConfig>(old, "config").unwrap().platform().to_string(), "/");
        let wrong = json::read::<ImageConfig>(
            br#"{"architecture":"a","os":"b","rootfs":{"type":"layers","diff_ids":[]},"config":{"Cmd":"sh"}}"#,
            "config",
        );
        assert!(wrong.unwrap_err().to_string().contains("config.Cmd"));
    }

    #[test]
    fn data_is_copied_in_both_directions() {
        let descriptor = Descriptor { data: Some(b"hi".to_vec()), ..Descriptor::of("a/b", b"hi") };
        let text = serde_json::to_vec(&descriptor).unwrap();
        assert_eq!(json::read::<Descriptor>(&text, "x").unwrap(), descriptor);
        let bad = r#"{"mediaType":"a","size":1,"digest":"sha256:x"}"#;
        assert!(json::read::<Descriptor>(bad.as_bytes(), "x").unwrap_err().to_string().contains("digest"));
    }
}
