//! Base images: those of the store, and of OCI layouts on the host.

use std::path::Path;

use crate::base::digest::Digest;
use crate::base::platform::Platform;
use crate::base::reference::Reference;
use crate::base::similar::nearest;
use crate::build::plan::images::{ImageSource, Images, ImagesError, ResolvedImage};
use crate::image::layout::{Layout, Selector};
use crate::store::Store;

/// Finds images in a store; those of layouts are brought into it.
pub struct StoreImages<'a>(pub &'a Store);

impl Images for StoreImages<'_> {
    fn resolve(&self, image: ImageSource<'_>, platform: &Platform) -> Result<ResolvedImage, ImagesError> {
        match image {
            ImageSource::Name(name) => self.named(name, platform),
            ImageSource::Layout(text) => self.of_layout(text, platform),
        }
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> ImagesError {
    ImagesError::Failed(Box::new(error))
}

impl StoreImages<'_> {
    fn named(&self, name: &Reference, platform: &Platform) -> Result<ResolvedImage, ImagesError> {
        let id = self.0.resolve(name).map_err(failed)?;
        let image = match id {
            Some(id) => self.0.image(id).map_err(failed)?,
            None => None,
        };
        let Some(image) = image else { return Err(ImagesError::NotFound { nearest: self.nearest(name) }) };
        let found = image.config.platform();
        if !found.satisfies(platform) {
            return Err(ImagesError::Platform { found: vec![found] });
        }
        Ok(ResolvedImage { config: image.config, layers: image.layers, digest: image.manifest })
    }

    fn nearest(&self, name: &Reference) -> Option<String> {
        let images = self.0.images().ok()?;
        let names = images.iter().flat_map(|image| image.names.iter().map(String::as_str));
        nearest(&name.familiar(), names).map(str::to_owned)
    }

    fn of_layout(&self, text: &str, platform: &Platform) -> Result<ResolvedImage, ImagesError> {
        let (directory, selector) = select(text);
        let layout = Layout::open(Path::new(directory)).map_err(failed)?;
        let image = layout.find(&selector, platform).map_err(failed)?;
        let layers = self.0.add_layers(&image).map_err(failed)?;
        let digest = image.manifest_digest();
        Ok(ResolvedImage { config: image.config, layers, digest })
    }
}

/// Takes `DIR[:tag|@digest]` apart. A directory whose own name has a colon is that directory.
fn select(text: &str) -> (&str, Selector) {
    if let Some((directory, digest)) = text.rsplit_once('@')
        && let Ok(digest) = digest.parse::<Digest>()
    {
        // A tag before a digest says nothing that the digest does not.
        let directory = match split_tag(directory) {
            Some((directory, _)) => directory,
            None => directory,
        };
        return (directory, Selector::Digest(digest));
    }
    match split_tag(text) {
        Some((directory, tag)) => (directory, Selector::Tag(tag.to_owned())),
        None => (text, Selector::Default),
    }
}

fn split_tag(text: &str) -> Option<(&str, &str)> {
    let (directory, tag) = text.rsplit_once(':')?;
    let is_tag = !tag.is_empty() && !tag.contains('/') && !Path::new(text).is_dir();
    is_tag.then_some((directory, tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts() {
        let digest = Digest::of("x");
        let pinned = format!("/d@{digest}");
        let both = format!("/d:v1@{digest}");
        for (text, directory, selector) in [
            ("/some/dir", "/some/dir", Selector::Default),
            ("dir:v1", "dir", Selector::Tag("v1".into())),
            ("/a:b/c", "/a:b/c", Selector::Default),
            (pinned.as_str(), "/d", Selector::Digest(digest)),
            (both.as_str(), "/d", Selector::Digest(digest)),
        ] {
            assert_eq!(select(text), (directory, selector), "{text}");
        }
    }
}
