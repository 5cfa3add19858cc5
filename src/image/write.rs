//! Writes images as OCI layouts, OCI archives and Docker archives.
//!
//! Takes configs, manifests and layers that are there already; the same images give the same
//! bytes: members sorted, owned by root, dated 1970. A Docker archive is an OCI archive with
//! Docker's `manifest.json` beside it, as `docker save` writes since version 25.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tar::{EntryType, Header};

use crate::base::digest::Digest;
use crate::base::platform::Platform;
use crate::base::reference::Reference;

use super::ImageError;
use super::config::MAX_DOCUMENT;
use super::files::Files;
use super::layout::blob_name;
use super::manifest::{Descriptor, IMAGE_NAME, Index, Manifest, REF_NAME};

const MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const BUFFER: usize = 256 << 10;

/// Which kind of archive is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An OCI layout.
    Oci,
    /// An OCI layout that older Dockers read too.
    Docker,
}

/// An image to be written.
#[derive(Debug, Clone)]
pub struct TargetImage {
    /// Its names; without any it is written without a tag.
    pub names: Vec<Reference>,
    /// Its manifest as bytes.
    pub manifest: Vec<u8>,
    /// Its config as bytes.
    pub config: Vec<u8>,
    /// What it runs on.
    pub platform: Platform,
    /// Its layers, bottom first, as many as its manifest names.
    pub layers: Vec<TargetLayer>,
}

/// A layer to be written.
#[derive(Debug, Clone)]
pub struct TargetLayer {
    /// Its digest as it is written.
    pub digest: Digest,
    /// Its size as it is written.
    pub size: u64,
    /// The file that holds exactly those bytes.
    pub path: PathBuf,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

enum Content<'a> {
    Bytes(&'a [u8]),
    File(&'a Path, u64),
}

/// Everything that lies under `blobs/`, by name.
type Blobs<'a> = BTreeMap<String, Content<'a>>;

/// Writes images as a tar archive; gives `out` back.
pub fn write_archive<W: Write>(images: &[TargetImage], form: Form, out: W) -> Result<W, ImageError> {
    let mut tar = Tar { out, buffer: vec![0; BUFFER] };
    tar.directory("blobs/")?;
    tar.directory("blobs/sha256/")?;
    for (name, content) in &blobs(images)? {
        match content {
            Content::Bytes(bytes) => tar.file(name, bytes)?,
            Content::File(path, size) => tar.copy(name, path, *size)?,
        }
    }
    tar.file("index.json", &Index::new(descriptors(images)).to_bytes())?;
    if form == Form::Docker {
        tar.file("manifest.json", &docker_manifest(images)?)?;
    }
    tar.file("oci-layout", MARKER)?;
    tar.finish()
}

/// Writes images into a directory as an OCI layout. Images that a layout there holds already stay,
/// unless they have a name that one of `images` has, or none.
pub fn write_layout(images: &[TargetImage], directory: &Path) -> Result<(), ImageError> {
    let made = directory.join("blobs/sha256");
    fs::create_dir_all(&made).map_err(ImageError::io("make the directory", &made))?;
    for (name, content) in &blobs(images)? {
        let path = directory.join(name);
        match content {
            Content::Bytes(bytes) => place(&path, &mut &**bytes)?,
            Content::File(from, size) => {
                if fs::metadata(&path).is_ok_and(|known| known.len() == *size) {
                    continue;
                }
                let mut file = File::open(from).map_err(ImageError::io("open", from))?;
                place(&path, &mut file)?;
            }
        }
    }
    let mut all = kept(directory, images)?;
    all.extend(descriptors(images));
    place(&directory.join("oci-layout"), &mut &*MARKER)?;
    place(&directory.join("index.json"), &mut &*Index::new(all).to_bytes())
}

/// The descriptors of the layout that is there already, without those that are replaced.
fn kept(directory: &Path, images: &[TargetImage]) -> Result<Vec<Descriptor>, ImageError> {
    let files = Files::directory(directory)?;
    let Some(bytes) = files.read("index.json", "index", MAX_DOCUMENT)? else { return Ok(Vec::new()) };
    let new = descriptors(images);
    let mut old = Index::parse(&bytes)?.manifests;
    old.retain(|old| {
        let named = old.annotation(REF_NAME).is_some();
        named
            && !new.iter().any(|new| {
                new.annotation(REF_NAME) == old.annotation(REF_NAME)
                    && (new.annotation(IMAGE_NAME) == old.annotation(IMAGE_NAME)
                        || old.annotation(IMAGE_NAME).is_none()
                        || new.annotation(IMAGE_NAME).is_none())
            })
    });
    Ok(old)
}

/// Writes a file beside its place and renames it.
fn place(path: &Path, from: &mut dyn Read) -> Result<(), ImageError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    let partial = PathBuf::from(partial);
    let mut write = || {
        let mut file = File::create(&partial)?;
        io::copy(from, &mut file)?;
        fs::rename(&partial, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&partial);
        ImageError::io("write", path)(error)
    })
}

fn blobs(images: &[TargetImage]) -> Result<Blobs<'_>, ImageError> {
    let mut blobs = Blobs::new();
    for image in images {
        blobs.insert(blob_name(Digest::of(&image.manifest)), Content::Bytes(&image.manifest));
        blobs.insert(blob_name(Digest::of(&image.config)), Content::Bytes(&image.config));
        let manifest = Manifest::parse(&image.manifest)?;
        let told = manifest.layers.iter().map(|layer| (layer.digest, layer.size));
        if !told.eq(image.layers.iter().map(|layer| (layer.digest, layer.size))) {
            return Err(ImageError::invalid("manifest", "its layers are not those that are written"));
        }
        for layer in &image.layers {
            blobs.insert(blob_name(layer.digest), Content::File(&layer.path, layer.size));
        }
    }
    Ok(blobs)
}

/// The descriptors of the top index: one per name.
fn descriptors(images: &[TargetImage]) -> Vec<Descriptor> {
    let mut all = Vec::new();
    for image in images {
        let kind = Manifest::parse(&image.manifest).map(|manifest| manifest.own_media_type().to_owned());
        let kind = kind.unwrap_or_else(|_| super::manifest::media_type::OCI_MANIFEST.to_owned());
        let mut descriptor = Descriptor::of(kind, &image.manifest);
        descriptor.platform = Some((&image.platform).into());
        if image.names.is_empty() {
            all.push(descriptor);
            continue;
        }
        for name in &image.names {
            let mut annotations = BTreeMap::from([(IMAGE_NAME.to_owned(), name.canonical())]);
            if let Some(tag) = name.tag_or_latest() {
                annotations.insert(REF_NAME.to_owned(), tag.to_owned());
            }
            all.push(Descriptor { annotations: Some(annotations), ..descriptor.clone() });
        }
    }
    all
}

fn docker_manifest(images: &[TargetImage]) -> Result<Vec<u8>, ImageError> {
    let describe = |image: &TargetImage| DockerImage {
        config: blob_name(Digest::of(&image.config)),
        repo_tags: image.names.iter().filter(|name| name.digest.is_none()).map(Reference::familiar).collect(),
        layers: image.layers.iter().map(|layer| blob_name(layer.digest)).collect(),
    };
    let images: Vec<_> = images.iter().map(describe).collect();
    serde_json::to_vec(&images).map_err(|source| ImageError::Json { what: "Docker manifest", source })
}

/// A tar stream of directories and files that says nothing about this machine.
struct Tar<W> {
    out: W,
    buffer: Vec<u8>,
}

impl<W: Write> Tar<W> {
    fn directory(&mut self, name: &str) -> Result<(), ImageError> {
        self.header(name, EntryType::Directory, 0o755, 0)
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), ImageError> {
        self.header(name, EntryType::Regular, 0o644, bytes.len() as u64)?;
        self.out.write_all(bytes).map_err(fail(name))?;
        self.pad(name, bytes.len() as u64)
    }

    fn copy(&mut self, name: &str, path: &Path, size: u64) -> Result<(), ImageError> {
        self.header(name, EntryType::Regular, 0o644, size)?;
        let mut file = File::open(path).map_err(ImageError::io("open", path))?;
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let count = file.read(&mut self.buffer[..most]).map_err(ImageError::io("read", path))?;
            if count == 0 {
                let reason = format!("{} ends before its {size} bytes", path.display());
                return Err(ImageError::invalid("layer", reason));
            }
            self.out.write_all(&self.buffer[..count]).map_err(fail(name))?;
            left -= count as u64;
        }
        self.pad(name, size)
    }

    fn header(&mut self, name: &str, kind: EntryType, mode: u32, size: u64) -> Result<(), ImageError> {
        let mut header = Header::new_gnu();
        header.set_path(name).map_err(fail(name))?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.out.write_all(header.as_bytes()).map_err(fail(name))
    }

    fn pad(&mut self, name: &str, size: u64) -> Result<(), ImageError> {
        let rest = (512 - size % 512) % 512;
        self.out.write_all(&[0; 512][..rest as usize]).map_err(fail(name))
    }

    fn finish(mut self) -> Result<W, ImageError> {
        self.out.write_all(&[0; 1024]).and_then(|()| self.out.flush()).map_err(fail("the archive"))?;
        Ok(self.out)
    }
}

fn fail(name: &str) -> impl FnOnce(io::Error) -> ImageError {
    ImageError::io("write", Path::new(name))
}
