//! `kiln save`

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::command::Run;
use super::error::{Error, Result};
use super::session::{Session, raw_stdout};
use crate::base::digest::ImageId;
use crate::base::platform::Platform;
use crate::base::reference::Reference;
use crate::build::export::describe;
use crate::image::write::{Form, TargetImage, write_archive};
use crate::layer::compress::Compression;
use crate::store::{Image, Store};

/// Save one or more images to a tar archive (streamed to STDOUT by default)
#[derive(clap::Parser)]
pub struct Args {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    /// Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string")]
    platform: Option<Platform>,
    #[arg(required = true)]
    image: Vec<String>,
}

impl Run for Args {
    fn run(self, session: &mut Session) -> Result<u8> {
        if self.output.is_none() && session.stdout_terminal {
            return Err(Error::Terminal);
        }
        let store = session.store()?;
        let lease = store.lease()?;
        let mut chosen: Vec<(Image, Vec<Reference>)> = Vec::new();
        for name in &self.image {
            for (image, reference) in find(&store, name)? {
                self.check_platform(name, &image)?;
                lease.hold(&image.layers)?;
                add(&mut chosen, image, reference);
            }
        }
        let images: Vec<TargetImage> = chosen
            .into_iter()
            .map(|(image, names)| Ok(describe(&store, &image, names, Compression::None)?))
            .collect::<Result<_>>()?;
        match &self.output {
            None => write(&images, raw_stdout()?, Path::new("standard output")),
            Some(path) => to_file(&images, path),
        }
        .map(|()| 0)
    }
}

impl Args {
    fn check_platform(&self, name: &str, image: &Image) -> Result<()> {
        let found = image.config.platform();
        match &self.platform {
            Some(wanted) if !found.satisfies(wanted) => Err(Error::WrongPlatform {
                name: name.to_owned(),
                found: found.to_string(),
                wanted: wanted.to_string(),
            }),
            _ => Ok(()),
        }
    }
}

/// The images that a word stands for, each with the name it is saved under: a repository without a
/// tag stands for all its tags, an ID for an image without a name.
fn find(store: &Store, text: &str) -> Result<Vec<(Image, Option<Reference>)>> {
    let reference = text.parse::<Reference>().ok().filter(|reference| reference.digest.is_none());
    if let Some(wanted) = &reference {
        let mut found = Vec::new();
        for image in store.images()? {
            for name in image.names.iter().filter_map(|name| name.parse::<Reference>().ok()) {
                let same = name.domain == wanted.domain && name.path == wanted.path;
                if same && (wanted.tag.is_none() || wanted.tag == name.tag) {
                    found.push((image.clone(), Some(name)));
                }
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let id: ImageId = store.find(text)?;
    let image = store.image(id)?.ok_or_else(|| Error::Gone { name: text.to_owned() })?;
    Ok(vec![(image, None)])
}

fn add(chosen: &mut Vec<(Image, Vec<Reference>)>, image: Image, name: Option<Reference>) {
    let at = match chosen.iter().position(|(known, _)| known.id == image.id) {
        Some(at) => at,
        None => {
            chosen.push((image, Vec::new()));
            chosen.len() - 1
        }
    };
    let names = &mut chosen[at].1;
    names.extend(name.filter(|name| !names.contains(name)));
}

fn write(images: &[TargetImage], out: impl Write, path: &Path) -> Result<()> {
    let fail = |source| Error::File { doing: "write", path: path.to_owned(), source };
    write_archive(images, Form::Docker, BufWriter::new(out))?.flush().map_err(fail)
}

/// The file appears when it is whole.
fn to_file(images: &[TargetImage], path: &Path) -> Result<()> {
    let fail = |source| Error::File { doing: "write", path: path.to_owned(), source };
    if path.symlink_metadata().is_ok_and(|there| !there.is_file()) {
        return write(images, File::create(path).map_err(fail)?, path);
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let temporary = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .tempfile_in(directory.unwrap_or(Path::new(".")))
        .map_err(fail)?;
    write(images, temporary.as_file(), path)?;
    temporary.persist(path).map_err(|error| fail(error.error))?;
    Ok(())
}
