//! The image config (OCI config.md) with Docker's own fields (Healthcheck, OnBuild, Shell,
//! ArgsEscaped).
//!
//! Takes and gives JSON. What is written is deterministic: keys of the document sorted, keys of
//! its parts in the order of the specification, empty fields left out. Fields that neither Docker
//! nor OCI defines for an image are dropped when read, since what they say (the container a layer was made in,
//! an embedded cache) is true of no other image.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::digest::{ChainId, DiffId, Digest, ImageId};
use crate::base::platform::Platform;

use super::ImageError;

/// The largest config, manifest or index that is read.
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// An image config. Its digest is the image's ID.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// Go's name of the architecture.
    #[serde(deserialize_with = "or_default")]
    pub architecture: String,
    /// Who made the image.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// How a container of the image runs.
    #[serde(deserialize_with = "or_default")]
    pub config: RunConfig,
    /// When the image was made, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// What each step did, oldest first.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// The operating system.
    #[serde(deserialize_with = "or_default")]
    pub os: String,
    /// What the image needs of the operating system.
    #[serde(rename = "os.features", deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// The version of the operating system.
    #[serde(
        rename = "os.version",
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub os_version: String,
    /// The layers.
    #[serde(deserialize_with = "or_default")]
    pub rootfs: RootFs,
    /// The variant of the architecture.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// How a container of the image runs (OCI config.md, `config`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RunConfig {
    /// `user[:group]`; empty for root.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `80/tcp`, …
    #[serde(with = "set", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value`, in order.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The command's first words; an empty list is not written.
    #[serde(deserialize_with = "words", skip_serializing_if = "no_words")]
    pub entrypoint: Option<Vec<String>>,
    /// The command, or its arguments where there is an entrypoint.
    #[serde(deserialize_with = "words", skip_serializing_if = "no_words")]
    pub cmd: Option<Vec<String>>,
    /// Directories that become volumes.
    #[serde(with = "set", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// Where the command starts.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels by key.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that stops a container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Windows only: whether the command is one line that needs no quoting.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    /// A memory limit, reserved by OCI for Docker's use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<i64>,
    /// A limit of memory and swap, reserved by OCI for Docker's use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swap: Option<i64>,
    /// A CPU weight, reserved by OCI for Docker's use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<i64>,
    /// How to tell whether a container is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for builds on top of this image.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// What shell forms run in.
    #[serde(deserialize_with = "words", skip_serializing_if = "no_words")]
    pub shell: Option<Vec<String>>,
}

/// Docker's HEALTHCHECK. Durations are nanoseconds; 0 says that the default holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", command]`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// The time between two checks.
    #[serde(deserialize_with = "not_negative", skip_serializing_if = "is_zero")]
    pub interval: u64,
    /// How long a check may take.
    #[serde(deserialize_with = "not_negative", skip_serializing_if = "is_zero")]
    pub timeout: u64,
    /// How long failures do not count after a container's start.
    #[serde(deserialize_with = "not_negative", skip_serializing_if = "is_zero")]
    pub start_period: u64,
    /// The time between two checks during the start period.
    #[serde(deserialize_with = "not_negative", skip_serializing_if = "is_zero")]
    pub start_interval: u64,
    /// How many failures in a row make a container unhealthy.
    #[serde(deserialize_with = "count", skip_serializing_if = "is_none_at_all")]
    pub retries: u32,
}

/// The layers of an image, bottom first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The layers' uncompressed digests.
    #[serde(default, deserialize_with = "or_default")]
    pub diff_ids: Vec<DiffId>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// One step of an image's making.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By whom.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// The command.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// What made it, or what its author says of it.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Whether the step made no layer.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

impl ImageConfig {
    /// A config without layers for `platform`.
    pub fn new(platform: &Platform) -> Self {
        Self {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
            ..Self::default()
        }
    }

    /// Reads a config.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let config: Self = document("config", bytes)?;
        if config.rootfs.kind != "layers" {
            let reason = format!("`rootfs.type` is `{}`, not `layers`", config.rootfs.kind);
            return Err(ImageError::invalid("config", reason));
        }
        Ok(config)
    }

    /// The config as JSON: equal configs give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and lists always have a JSON form")
    }

    /// The ID of the image whose config is `bytes`.
    pub fn id(bytes: &[u8]) -> ImageId {
        ImageId(Digest::of(bytes))
    }

    /// What the image runs on.
    pub fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, &self.variant)
    }

    /// The chain ID of each layer on those below it, bottom first.
    pub fn chain_ids(&self) -> Vec<ChainId> {
        let mut below = None;
        let chain = |diff_id: &DiffId| {
            let id = ChainId::next(below, *diff_id);
            below = Some(id);
            id
        };
        self.rootfs.diff_ids.iter().map(chain).collect()
    }
}

/// Reads a JSON object of bounded size.
pub(super) fn document<T: for<'de> Deserialize<'de>>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, ImageError> {
    let size = bytes.len() as u64;
    if size > MAX_DOCUMENT {
        return Err(ImageError::TooLarge { what, size, limit: MAX_DOCUMENT });
    }
    // A list would be taken for the object's values in their order.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(ImageError::invalid(what, "it is no JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|source| ImageError::Json { what, source })
}

/// `null` is the same as nothing (OCI config.md, "Properties").
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn not_negative<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    Ok(or_default::<D, i64>(from)?.try_into().unwrap_or(0))
}

fn count<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    Ok(or_default::<D, i64>(from)?.clamp(0, u32::MAX.into()) as u32)
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_none_at_all(number: &u32) -> bool {
    *number == 0
}

fn no_words(words: &Option<Vec<String>>) -> bool {
    words.as_ref().is_none_or(Vec::is_empty)
}

/// A command is a list of words; Docker's oldest images have a single string.
fn words<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        List(Vec<String>),
        One(String),
    }
    Ok(Option::deserialize(from)?.map(|words| match words {
        Words::List(list) => list,
        Words::One(word) => vec![word],
    }))
}

/// A set as Go writes it: an object whose values are empty objects.
mod set {
    use super::*;

    #[derive(Serialize)]
    struct Nothing {}

    pub fn serialize<S: Serializer>(set: &BTreeSet<String>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(set.iter().map(|key| (key, Nothing {})))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<String>, D::Error> {
        let map: BTreeMap<String, serde::de::IgnoredAny> = or_default(from)?;
        Ok(map.into_keys().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(json: &str) -> String {
        String::from_utf8(ImageConfig::parse(json.as_bytes()).unwrap().to_bytes()).unwrap()
    }

    #[test]
    fn everything_that_is_defined_survives() {
        let full = include_str!("../../fixtures/image/config-full.json");
        let compact =
            serde_json::to_string(&serde_json::from_str::<serde_json::Value>(full).unwrap()).unwrap();
        assert_eq!(round(full), compact);
    }

    #[test]
    fn nothing_is_written_for_nothing() {
        insta::assert_snapshot!(
            round("{}"),
            @r#"{"architecture":"","config":{},"os":"","rootfs":{"type":"layers","diff_ids":[]}}"#
        );
    }

    #[test]
    fn dockers_own_config_loses_what_was_true_of_its_container() {
        let classic = include_str!("../../fixtures/image/config-docker-classic.json");
        insta::assert_snapshot!(round(classic), @r#"{"architecture":"amd64","config":{"Env":["PATH=/bin"],"Cmd":["sh"]},"created":"2013-01-13T22:50:21.087733Z","history":[{"created":"2013-01-13T22:50:21.087733Z","created_by":"/bin/sh -c #(nop) CMD [\"sh\"]","empty_layer":true}],"os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#);
    }

    #[test]
    fn null_is_nothing_and_old_commands_are_one_word() {
        let config = ImageConfig::parse(
            br#"{"os":null,"config":{"User":null,"ExposedPorts":null,"Volumes":{"/a":null},"Cmd":"/bin/sh","Entrypoint":null,
                "Healthcheck":{"Test":null,"Interval":-1,"Retries":-3},"StopSignal":null},"history":null}"#,
        )
        .unwrap();
        assert_eq!(config.config.cmd, Some(vec!["/bin/sh".to_owned()]));
        assert_eq!(config.config.healthcheck, Some(Healthcheck::default()));
        assert!(config.config.volumes.contains("/a"));
    }

    #[test]
    fn what_is_no_config() {
        for bytes in [&b""[..], b"[]", b"{", br#"{"rootfs":{"type":"vhd"}}"#, br#"{"config":{"Env":"x"}}"#] {
            assert!(ImageConfig::parse(bytes).is_err());
        }
        let deep = [b"{\"config\":".as_slice(), &b"[".repeat(100_000)].concat();
        assert!(ImageConfig::parse(&deep).is_err());
        let large = vec![b' '; MAX_DOCUMENT as usize + 1];
        assert!(matches!(ImageConfig::parse(&large), Err(ImageError::TooLarge { .. })));
    }

    #[test]
    fn chains() {
        let layer = DiffId(Digest::of("a"));
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids = vec![layer, layer];
        let first = ChainId(layer.0);
        assert_eq!(config.chain_ids(), [first, ChainId::next(Some(first), layer)]);
    }
}
