//! Descriptors, manifests and indexes (OCI descriptor.md, manifest.md, image-index.md) and their
//! older forms in Docker's registry.
//!
//! Own types, since what is written must be the same bytes every time: annotations are sorted,
//! and empty fields left out. Documents are bounded in size before they are parsed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::digest::Digest;
use crate::base::platform::Platform;

use super::ImageError;
use super::config::document;

/// The media types that are read and written (OCI media-types.md, and Docker's own).
pub mod media_type {
    /// An OCI index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An OCI manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI config.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// An OCI layer; `+gzip` and `+zstd` follow for compressed ones.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// Docker's index.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker's layer; `.gzip` follows for compressed ones.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
}

/// The annotation that holds a tag in a layout (OCI annotations.md).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation that holds an image's whole name in archives of containerd and BuildKit.
pub const IMAGE_NAME: &str = "io.containerd.image.name";

/// Points to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where else it may be fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
    /// Notes on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// What a manifest's image runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<DescriptorPlatform>,
    /// What an artifact's manifest is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

/// `platform` of a descriptor (OCI image-index.md).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DescriptorPlatform {
    /// Go's name of the architecture.
    pub architecture: String,
    /// The operating system.
    pub os: String,
    /// The version of the operating system.
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// What is needed of the operating system.
    #[serde(rename = "os.features", skip_serializing_if = "Option::is_none")]
    pub os_features: Option<Vec<String>>,
    /// The variant of the architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// One image: its config and layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The manifest's own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What an artifact is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The config.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// What this manifest is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Notes on the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Several manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The index's own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The manifests, in order of preference.
    pub manifests: Vec<Descriptor>,
    /// Notes on the index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// What a descriptor of an index points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A further index.
    Index,
    /// A manifest.
    Manifest,
    /// Something else, to be passed over.
    Other,
}

impl Descriptor {
    /// A descriptor with nothing but what it must have.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: None,
            annotations: None,
            platform: None,
            artifact_type: None,
        }
    }

    /// A descriptor of `bytes`.
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// One of its annotations.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// What it points to, by its media type.
    pub fn target(&self) -> Target {
        match self.media_type.as_str() {
            media_type::OCI_INDEX | media_type::DOCKER_INDEX => Target::Index,
            media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => Target::Manifest,
            _ => Target::Other,
        }
    }

    /// The platform it names, unless it names none or an attestation's `unknown`.
    pub fn known_platform(&self) -> Option<Platform> {
        let platform = self.platform.as_ref()?;
        let named = !platform.os.is_empty() && !platform.architecture.is_empty();
        named.then(|| {
            let variant = platform.variant.as_deref().unwrap_or_default();
            Platform::new(&platform.os, &platform.architecture, variant)
        })
    }

    /// Whether it is an attestation beside an image, not an image.
    pub fn is_attestation(&self) -> bool {
        self.annotation("vnd.docker.reference.type").is_some()
            || self.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
    }
}

impl From<&Platform> for DescriptorPlatform {
    fn from(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: Some(platform.variant.clone()).filter(|variant| !variant.is_empty()),
            ..Self::default()
        }
    }
}

impl Manifest {
    /// An OCI manifest.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: None,
        }
    }

    /// Reads a manifest of an image; one of an artifact is an error.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let manifest: Self = document("manifest", bytes)?;
        if manifest.schema_version != 2 {
            let reason = format!("`schemaVersion` is {}, only 2 is supported", manifest.schema_version);
            return Err(ImageError::invalid("manifest", reason));
        }
        let config = manifest.config.media_type.as_str();
        if !matches!(config, media_type::OCI_CONFIG | media_type::DOCKER_CONFIG) {
            let reason = format!("it describes no image: its config is of the type `{config}`");
            return Err(ImageError::invalid("manifest", reason));
        }
        Ok(manifest)
    }

    /// The manifest as JSON: equal manifests give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and lists always have a JSON form")
    }

    /// The manifest's media type; OCI's where it names none.
    pub fn own_media_type(&self) -> &str {
        self.media_type.as_deref().unwrap_or(media_type::OCI_MANIFEST)
    }
}

impl Index {
    /// An OCI index.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            manifests,
            annotations: None,
        }
    }

    /// Reads an index.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let index: Self = document("index", bytes)?;
        if index.schema_version != 2 {
            let reason = format!("`schemaVersion` is {}, only 2 is supported", index.schema_version);
            return Err(ImageError::invalid("index", reason));
        }
        Ok(index)
    }

    /// The index as JSON: equal indexes give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and lists always have a JSON form")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_the_same_bytes_every_time() {
        let layer = Descriptor::of(format!("{}+gzip", media_type::OCI_LAYER), b"layer");
        let mut manifest = Manifest::new(Descriptor::of(media_type::OCI_CONFIG, b"{}"), vec![layer]);
        manifest.annotations = Some([("b", "2"), ("a", "1")].map(|(k, v)| (k.into(), v.into())).into());
        let bytes = manifest.to_bytes();
        insta::assert_snapshot!(String::from_utf8_lossy(&bytes), @r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85","size":5}],"annotations":{"a":"1","b":"2"}}"#);
        assert_eq!(Manifest::parse(&bytes).unwrap(), manifest);
    }

    #[test]
    fn what_is_no_manifest_of_an_image() {
        let config = |kind: &str| {
            let digest = Digest::of("");
            format!(
                r#"{{"schemaVersion":2,"config":{{"mediaType":"{kind}","digest":"{digest}","size":0}},"layers":[]}}"#
            )
        };
        assert!(Manifest::parse(config(media_type::DOCKER_CONFIG).as_bytes()).is_ok());
        let helm = config("application/vnd.cncf.helm.config.v1+json");
        for bytes in [helm.as_bytes(), b"[]", b"{}", br#"{"schemaVersion":1,"fsLayers":[]}"#] {
            assert!(Manifest::parse(bytes).is_err());
        }
        let negative = config(media_type::OCI_CONFIG).replace("\"size\":0", "\"size\":-1");
        assert!(Manifest::parse(negative.as_bytes()).is_err());
    }

    #[test]
    fn platforms_and_attestations() {
        let mut descriptor = Descriptor::of(media_type::OCI_MANIFEST, b"");
        assert_eq!((descriptor.known_platform(), descriptor.is_attestation()), (None, false));
        descriptor.platform = Some((&Platform::new("linux", "arm", "v7")).into());
        assert_eq!(descriptor.known_platform().unwrap().to_string(), "linux/arm/v7");
        descriptor.platform = Some(DescriptorPlatform {
            os: "unknown".into(),
            architecture: "unknown".into(),
            ..Default::default()
        });
        assert!(descriptor.is_attestation());
    }
}
