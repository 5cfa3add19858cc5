//! The result of a build to its outputs: an image in the store, archives and layouts of it, its
//! file system as a tar or as files.
//!
//! In: a plan, what its steps came to, and a request. Layers are compressed here and nowhere
//! before, each form once; whatever describes an image is validated before it is written. A file
//! appears when it is whole.

pub mod config;
mod error;
mod local;
mod merged;
mod output;

use std::thread;
use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::base::digest::{Digest, LayerId};
use crate::base::event::{Event, Events, VertexId};
use crate::base::reference::Reference;
use crate::build::exec::snapshot::Snapshot;
use crate::build::plan::Plan;
use crate::build::request::{BuildRequest, BuildResult, Destination, Output};
use crate::build::solve::Cancel;
use crate::image::config::ImageConfig;
use crate::image::manifest::{Descriptor, DescriptorPlatform, Manifest, media_type};
use crate::image::validate::validate;
use crate::image::write::{Form, TargetImage, TargetLayer, write_archive, write_layout};
use crate::layer::compress::Compression;
use crate::layer::decompress::Format;
use crate::layer::tar::TarWriter;
use crate::store::{Image, Store};

use config::Built;

pub use error::ExportError;

/// Puts out what `request` asks for.
pub fn export(
    store: &Store,
    plan: &Plan,
    outputs: &[Snapshot],
    request: BuildRequest,
    events: &dyn Events,
    cancel: &Cancel,
) -> Result<BuildResult, ExportError> {
    let Snapshot::Layers(stack) = &outputs[plan.result.0] else { return Err(ExportError::NoLayers) };
    let mut wanted = request.outputs;
    if wanted.is_empty() {
        wanted.push(Output::Store);
    }
    let describes = |output: &Output| !matches!(output, Output::Tar { .. } | Output::Local { .. });
    let mut exporter =
        Exporter { store, cancel, tags: request.tags, layers: &stack.layers, image: None, manifest: None };
    let first = plan.graph.vertices.len();
    for (number, output) in wanted.into_iter().enumerate() {
        let vertex = VertexId(first + number);
        let (name, began) = (name_of(&output), Instant::now());
        events.send(Event::Declared { vertex, name: name.into(), inputs: vec![plan.result] });
        events.send(Event::Started { vertex });
        let done = match exporter.image {
            None if describes(&output) => {
                image(store, plan, outputs).map(|built| exporter.image = Some(built))
            }
            _ => Ok(()),
        };
        match done.and_then(|()| exporter.write(output)) {
            Ok(()) => events.send(Event::Finished { vertex, took: began.elapsed() }),
            Err(error) => {
                events.send(Event::Failed { vertex, error: error.to_string() });
                return Err(error);
            }
        }
    }
    Ok(exporter.result())
}

fn name_of(output: &Output) -> &'static str {
    match output {
        Output::Store => "exporting to image",
        Output::Oci { .. } => "exporting to oci image format",
        Output::Docker { .. } => "exporting to docker image format",
        Output::Tar { .. } => "exporting to tar",
        Output::Local { .. } => "exporting to a directory",
    }
}

/// The image of a finished build; finds out the digests of its layers.
fn image(store: &Store, plan: &Plan, outputs: &[Snapshot]) -> Result<Built, ExportError> {
    let Snapshot::Layers(stack) = &outputs[plan.result.0] else { return Err(ExportError::NoLayers) };
    let diff_ids = in_parallel(&stack.layers, |layer| Ok(store.diff_id(layer)?))?;
    config::assemble(store, plan, outputs, diff_ids)
}

/// Does something with each layer, on as many threads as there are processors.
fn in_parallel<T: Send>(
    layers: &[LayerId],
    work: impl Fn(LayerId) -> Result<T, ExportError> + Sync,
) -> Result<Vec<T>, ExportError> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(layers.len());
    if threads <= 1 {
        return layers.iter().map(|layer| work(*layer)).collect();
    }
    let next = std::sync::atomic::AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        while let Some(layer) = {
            let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            layers.get(number).map(|layer| (number, *layer))
        } {
            done.push((layer.0, work(layer.1)));
        }
        done
    };
    let mut all: Vec<(usize, Result<T, ExportError>)> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(take)).collect();
        let mut all = take();
        for other in others {
            all.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all
    });
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, result)| result).collect()
}

struct Exporter<'a> {
    store: &'a Store,
    cancel: &'a Cancel,
    tags: Vec<Reference>,
    layers: &'a [LayerId],
    image: Option<Built>,
    manifest: Option<Descriptor>,
}

impl Exporter<'_> {
    fn write(&mut self, output: Output) -> Result<(), ExportError> {
        if self.cancel.is_cancelled() {
            return Err(ExportError::Cancelled);
        }
        match output {
            Output::Store => self.keep(),
            Output::Oci { to, archive: true, compression, force } => {
                self.archive(Form::Oci, to, compression, force)
            }
            Output::Docker { to, compression } => self.archive(Form::Docker, to, compression, false),
            Output::Oci { to: Destination::Path(path), archive: false, compression, force } => {
                let image = self.describe(compression, force)?;
                Ok(write_layout(&[image], &path)?)
            }
            // A stream takes one file only.
            Output::Oci { to, archive: false, compression, force } => {
                self.archive(Form::Oci, to, compression, force)
            }
            Output::Tar { to } => {
                let (store, layers) = (self.store, self.layers);
                output::write_to(to, self.cancel, |out| {
                    let mut tar = TarWriter::new(out);
                    merged::each(store, layers, |entry, content| {
                        Ok(tar.append(entry, content).map(drop)?)
                    })?;
                    Ok(tar.finish().map(drop)?)
                })
            }
            Output::Local { to } => local::write(self.store, self.layers, &to),
        }
    }

    fn built(&self) -> &Built {
        self.image.as_ref().expect("put together before an output that describes an image")
    }

    fn keep(&mut self) -> Result<(), ExportError> {
        let built = self.built();
        let id = self.store.put_image(&built.bytes, &built.layers, None)?;
        for tag in &self.tags {
            self.store.tag(tag, id)?;
        }
        Ok(())
    }

    fn archive(
        &mut self,
        form: Form,
        to: Destination,
        how: Compression,
        force: bool,
    ) -> Result<(), ExportError> {
        let image = self.describe(how, force)?;
        output::write_to(to, self.cancel, |out| Ok(write_archive(&[image], form, out).map(drop)?))
    }

    /// The image with its layers compressed; its manifest is kept for the result.
    fn describe(&mut self, how: Compression, force: bool) -> Result<TargetImage, ExportError> {
        let built = self.built();
        let names = self.tags.clone();
        let (image, manifest) =
            target(self.store, &built.layers, &built.config, built.bytes.clone(), names, how, force)?;
        self.manifest = Some(manifest);
        Ok(image)
    }

    fn result(self) -> BuildResult {
        let image = self.image.as_ref().map(|built| ImageConfig::id(&built.bytes));
        let manifest: Option<Digest> = self.manifest.as_ref().map(|manifest| manifest.digest);
        let mut metadata = Map::new();
        if let Some(id) = image {
            metadata.insert("containerimage.config.digest".to_owned(), id.to_string().into());
            metadata.insert("containerimage.digest".to_owned(), manifest.unwrap_or(id.0).to_string().into());
        }
        if let Some(descriptor) = &self.manifest {
            metadata.insert("containerimage.descriptor".to_owned(), json!(descriptor));
        }
        if image.is_some() && !self.tags.is_empty() {
            let names: Vec<String> = self.tags.iter().map(Reference::canonical).collect();
            metadata.insert("image.name".to_owned(), Value::String(names.join(",")));
        }
        BuildResult { image, manifest, metadata, warnings: Vec::new() }
    }
}

/// An image of the store as an archive or layout has it, under `names`.
pub fn describe(
    store: &Store,
    image: &Image,
    names: Vec<Reference>,
    how: Compression,
) -> Result<TargetImage, ExportError> {
    let bytes = image.config_bytes.clone();
    target(store, &image.layers, &image.config, bytes, names, how, false).map(|(image, _)| image)
}

/// An image with its layers compressed, and the descriptor of the manifest that says so.
fn target(
    store: &Store,
    layers: &[LayerId],
    config: &ImageConfig,
    bytes: Vec<u8>,
    names: Vec<Reference>,
    how: Compression,
    force: bool,
) -> Result<(TargetImage, Descriptor), ExportError> {
    let blobs = in_parallel(layers, |layer| Ok(store.compressed(layer, how, force)?))?;
    let described = blobs.iter().map(|blob| Descriptor::new(layer_type(blob.format), blob.digest, blob.size));
    let manifest = Manifest::new(Descriptor::of(media_type::OCI_CONFIG, &bytes), described.collect());
    validate(&manifest, config)?;
    let manifest = manifest.to_bytes();
    let mut descriptor = Descriptor::of(media_type::OCI_MANIFEST, &manifest);
    descriptor.platform = Some(platform(config));
    let blobs = blobs.into_iter();
    let layers = blobs.map(|blob| TargetLayer { digest: blob.digest, size: blob.size, path: blob.path });
    let platform = config.platform();
    Ok((TargetImage { names, manifest, config: bytes, platform, layers: layers.collect() }, descriptor))
}

fn platform(config: &ImageConfig) -> DescriptorPlatform {
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    DescriptorPlatform {
        architecture: config.architecture.clone(),
        os: config.os.clone(),
        os_version: text(&config.os_version),
        os_features: Some(config.os_features.clone()).filter(|features| !features.is_empty()),
        variant: text(&config.variant),
    }
}

fn layer_type(format: Format) -> String {
    let suffix = match format {
        Format::Gzip => "+gzip",
        Format::Zstd => "+zstd",
        // The store gives layers in no other forms.
        _ => "",
    };
    format!("{}{suffix}", media_type::OCI_LAYER)
}
