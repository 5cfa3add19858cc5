//! Whether a manifest and a config say the same thing: strictly for what is written, and only as
//! far as reading needs it for what others wrote.

use super::ImageError;
use super::config::ImageConfig;
use super::manifest::{Manifest, media_type};

/// Checks what OCI's config.md and manifest.md ask of a manifest and its config together.
pub fn validate(manifest: &Manifest, config: &ImageConfig) -> Result<(), ImageError> {
    validate_config(config)?;
    let fail = |reason: String| Err(ImageError::invalid("manifest", reason));
    let oci = manifest.own_media_type() == media_type::OCI_MANIFEST;
    if oci != (manifest.config.media_type == media_type::OCI_CONFIG) {
        return fail(format!(
            "its own type and its config's (`{}`) mix Docker's and OCI's",
            manifest.config.media_type
        ));
    }
    check_layers(manifest, config)
}

/// Checks what must be right for an image to be read at all: as many layers in the manifest as in
/// the config, and no type of layer that is unknown.
pub fn check_layers(manifest: &Manifest, config: &ImageConfig) -> Result<(), ImageError> {
    let fail = |reason: String| Err(ImageError::invalid("manifest", reason));
    let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers != diff_ids {
        return fail(format!("it has {layers} layers, but its config names {diff_ids}"));
    }
    match manifest.layers.iter().find(|layer| !is_layer(&layer.media_type)) {
        Some(layer) => fail(format!("layer {} has the unknown type `{}`", layer.digest, layer.media_type)),
        None => Ok(()),
    }
}

/// Checks what can be told from a config alone.
pub fn validate_config(config: &ImageConfig) -> Result<(), ImageError> {
    let fail = |reason: String| Err(ImageError::invalid("config", reason));
    if config.os.is_empty() || config.architecture.is_empty() {
        return fail("it does not say which platform it is for".to_owned());
    }
    let diff_ids = config.rootfs.diff_ids.len();
    let steps = config.history.iter().filter(|step| !step.empty_layer).count();
    // A history is optional, but one that is there tells of every layer.
    if !config.history.is_empty() && steps != diff_ids {
        return fail(format!("its history has {steps} steps with a layer, but there are {diff_ids} layers"));
    }
    Ok(())
}

/// Whether a media type is that of a layer, with or without restrictions on its distribution.
pub fn is_layer(kind: &str) -> bool {
    let oci =
        |prefix: &str| kind.strip_prefix(prefix).is_some_and(|rest| matches!(rest, "" | "+gzip" | "+zstd"));
    oci(media_type::OCI_LAYER)
        || oci("application/vnd.oci.image.layer.nondistributable.v1.tar")
        || kind
            .strip_prefix(media_type::DOCKER_LAYER)
            .is_some_and(|rest| matches!(rest, "" | ".gzip" | ".zstd"))
        || kind == "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::{DiffId, Digest};
    use crate::base::platform::Platform;
    use crate::image::config::History;
    use crate::image::manifest::Descriptor;

    fn image() -> (Manifest, ImageConfig) {
        let mut config = ImageConfig::new(&Platform::host());
        config.rootfs.diff_ids = vec![DiffId(Digest::of("layer"))];
        config.history = vec![History::default(), History { empty_layer: true, ..History::default() }];
        let layer = Descriptor::of(media_type::OCI_LAYER, b"layer");
        (Manifest::new(Descriptor::of(media_type::OCI_CONFIG, &config.to_bytes()), vec![layer]), config)
    }

    #[test]
    fn what_fits_passes_and_what_does_not_is_named() {
        let (manifest, config) = image();
        validate(&manifest, &config).unwrap();
        type Change = fn(&mut Manifest, &mut ImageConfig);
        let faults: &[(Change, &str)] = &[
            (|manifest, _| manifest.layers.clear(), "0 layers, but its config names 1"),
            (|_, config| config.history.clear(), ""),
            (|_, config| config.history[1].empty_layer = false, "history has 2 steps"),
            (|_, config| config.os.clear(), "platform"),
            (|manifest, _| manifest.config.media_type = media_type::DOCKER_CONFIG.into(), "mix"),
            (|manifest, _| manifest.layers[0].media_type = "text/plain".into(), "unknown type"),
        ];
        for (change, message) in faults {
            let (mut manifest, mut config) = image();
            change(&mut manifest, &mut config);
            match validate(&manifest, &config) {
                Ok(()) => assert_eq!(*message, ""),
                Err(error) => assert!(!message.is_empty() && error.to_string().contains(message), "{error}"),
            }
        }
    }
}
