//! Base images: what plan asks of whoever has them.

use std::error::Error;

use crate::base::digest::{Digest, LayerId};
use crate::base::platform::Platform;
use crate::base::reference::Reference;
use crate::image::config::ImageConfig;

/// Finds images; may be slow. Nothing is asked twice in one plan.
pub trait Images {
    /// The image for `platform`, or the only one there is where that is asked for implicitly.
    fn resolve(&self, image: ImageSource<'_>, platform: &Platform) -> Result<ResolvedImage, ImagesError>;
}

/// Where an image is to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageSource<'a> {
    /// Under its name.
    Name(&'a Reference),
    /// In an OCI layout: `DIR[:tag|@digest]`.
    Layout(&'a str),
}

/// An image that was found.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// Its config.
    pub config: ImageConfig,
    /// Its layers, lowest first.
    pub layers: Vec<LayerId>,
    /// The digest of its manifest, where known; only shown.
    pub digest: Option<Digest>,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// There is none of that name.
    #[error("there is no such image")]
    NotFound {
        /// An image that was perhaps meant.
        nearest: Option<String>,
    },
    /// There is one, for other platforms.
    #[error("the image is not there for that platform")]
    Platform {
        /// Those it is there for.
        found: Vec<Platform>,
    },
    /// It could not be read.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}

/// An error and its causes on one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.ends_with(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}
