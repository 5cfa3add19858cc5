//! `kiln import`

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use super::command::Run;
use super::error::{Error, Result};
use super::session::Session;
use crate::base::platform::Platform;
use crate::base::reference::Reference;
use crate::build::plan::images::{ImageSource, Images, ImagesError, ResolvedImage};
use crate::build::plan::lower;
use crate::build::plan::request::PlanRequest;
use crate::dockerfile;
use crate::image::config::{History, ImageConfig, RunConfig};

/// Import the contents from a tarball to create a filesystem image
#[derive(clap::Parser)]
pub struct Args {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string", env = "DOCKER_DEFAULT_PLATFORM", hide_env = true)]
    platform: Option<String>,
    #[arg(required = true)]
    source: PathBuf,
    name: Option<Reference>,
}

impl Run for Args {
    fn run(self, session: &mut Session) -> Result<u8> {
        let platform = self.platform.as_deref().filter(|text| !text.is_empty());
        let platform = platform.map_or_else(|| Ok(Platform::host()), str::parse)?;
        let mut config = ImageConfig::new(&platform);
        config.config = changed(&self.change)?;
        let shown = self.source.to_string_lossy();
        if ["http://", "https://"].iter().any(|scheme| shown.starts_with(scheme)) {
            return Err(Error::NotYet { what: "importing from a URL".to_owned() });
        }
        let from_stdin = self.source.as_path() == Path::new("-");
        if from_stdin && io::stdin().is_terminal() {
            return Err(Error::NoInput);
        }
        let fail = |source| Error::File { doing: "read", path: self.source.clone(), source };
        let store = session.store()?;
        let _lease = store.lease()?;
        let (layer, diff_id) = match from_stdin {
            true => store.import_layer(io::stdin(), "standard input")?,
            false => store.import_layer(File::open(&self.source).map_err(fail)?, &shown)?,
        };
        let now = Some(store.clock().now().rfc3339());
        let message = self.message.clone().unwrap_or_else(|| format!("Imported from {shown}"));
        config.created.clone_from(&now);
        config.rootfs.diff_ids = vec![diff_id];
        config.history = vec![History { created: now, comment: message, ..History::default() }];
        let id = store.put_image(&config.to_bytes(), &[layer], None)?;
        if let Some(name) = &self.name {
            store.tag(name, id)?;
        }
        store.sync()?;
        session.print(&format!("{id}\n")).map(|()| 0)
    }
}

/// What instructions make of the config of an empty image.
fn changed(changes: &[String]) -> Result<RunConfig> {
    let mut text = "FROM empty\n".to_owned();
    for change in changes {
        dockerfile::parse_change(change)?;
        text.push_str(change);
        text.push('\n');
    }
    let stage = dockerfile::parse("--change", text.as_bytes())?;
    let mut config = lower(&PlanRequest::new(&stage), &EmptyImage)?.config.config;
    config.env.retain(|variable| variable != PATH);
    Ok(config)
}

/// What `$PATH` is in changes; an imported image has none unless a change sets another.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The image with nothing in it that changes stand on.
struct EmptyImage;

impl Images for EmptyImage {
    fn resolve(
        &self,
        _: ImageSource<'_>,
        platform: &Platform,
    ) -> std::result::Result<ResolvedImage, ImagesError> {
        let mut config = ImageConfig::new(platform);
        config.config.env.push(PATH.to_owned());
        Ok(ResolvedImage { config, layers: Vec::new(), digest: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(texts: &[&str]) -> Result<RunConfig> {
        changed(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn changes_fill_the_config() {
        let config = changes(&[
            "CMD [\"sh\", \"-c\"]",
            "env A=b C=\"d e\"",
            "WORKDIR /x",
            "EXPOSE 80",
            "USER 1:2",
            "LABEL a=b",
        ])
        .unwrap();
        assert_eq!(config.cmd, Some(vec!["sh".to_owned(), "-c".to_owned()]));
        assert_eq!(config.env, ["A=b", "C=d e"]);
        assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/x", "1:2"));
        assert!(config.exposed_ports.contains("80/tcp"));
        assert_eq!(config.labels.get("a").map(String::as_str), Some("b"));
        assert_eq!(changes(&[]).unwrap(), RunConfig::default());
    }

    #[test]
    fn changes_that_are_none() {
        for text in ["RUN true", "FROM a", "CMD", "nope", "ENV A=b\nENV C=d"] {
            assert!(changes(&[text]).is_err(), "{text}");
        }
    }
}
