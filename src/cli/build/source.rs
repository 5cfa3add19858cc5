//! Where a build reads from: the context, the Dockerfile, named contexts, secrets.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::base::span::Source;
use crate::build::request::{ContextInput, NamedContext, SecretSource};
use crate::cli::error::{Error, Result};
use crate::cli::input;
use crate::cli::value::{self, ValueResult};
use crate::dockerfile::{self, MAX_SIZE};

/// The context that `place` names, the Dockerfile, and where that is if it is a file.
pub fn read(place: &OsStr, file: Option<&Path>) -> Result<(ContextInput, Source, Option<PathBuf>)> {
    let stdin = Path::new("-");
    if place == "-" {
        if file.is_some_and(|file| file == stdin) {
            return Err(Error::TwiceStdin);
        }
        let bytes = input::read(stdin, MAX_SIZE)?;
        if is_archive(&bytes) {
            return Err(Error::NotYet { what: "a build context as an archive".to_owned() });
        }
        return Ok((ContextInput::Empty, text("Dockerfile", &bytes)?, None));
    }
    if is_url(place) {
        return Err(Error::NotYet { what: "a build context from a URL".to_owned() });
    }
    let context = PathBuf::from(place);
    let fail = |source| Error::File { doing: "use the build context", path: context.clone(), source };
    if !std::fs::metadata(&context).map_err(fail)?.is_dir() {
        return Err(fail(std::io::ErrorKind::NotADirectory.into()));
    }
    let (name, path) = match file {
        Some(file) if file == stdin => {
            let source = text("Dockerfile", &input::read(stdin, MAX_SIZE)?)?;
            return Ok((ContextInput::Directory(context), source, None));
        }
        Some(file) => (file.to_string_lossy().into_owned(), file.to_owned()),
        None => found(&context),
    };
    let bytes = input::read(&path, MAX_SIZE).map_err(|error| match error {
        Error::File { path, source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Error::NoDockerfile { path }
        }
        other => other,
    })?;
    Ok((ContextInput::Directory(context), text(&name, &bytes)?, Some(path)))
}

/// `Dockerfile` in the context, or `dockerfile` where only that is there.
fn found(context: &Path) -> (String, PathBuf) {
    let usual = context.join("Dockerfile");
    let lower = context.join("dockerfile");
    if usual.symlink_metadata().is_err() && lower.symlink_metadata().is_ok() {
        return ("dockerfile".to_owned(), lower);
    }
    ("Dockerfile".to_owned(), usual)
}

/// The Dockerfile's text; what is wrong with bytes that are none is what the parser says of them.
fn text(name: &str, bytes: &[u8]) -> Result<Source> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Source::new(name, text)),
        Err(_) => {
            dockerfile::parse(name, bytes)?;
            Ok(Source::new(name, String::from_utf8_lossy(bytes)))
        }
    }
}

fn is_url(place: &OsStr) -> bool {
    let text = place.to_string_lossy();
    ["http://", "https://", "git://", "git@", "ssh://", "github.com/"].iter().any(|it| text.starts_with(it))
}

/// Whether the bytes begin as gzip, bzip2, xz, zstd or tar does.
fn is_archive(bytes: &[u8]) -> bool {
    let magics: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    magics.iter().any(|magic| bytes.starts_with(magic)) || bytes.get(257..262) == Some(b"ustar")
}

/// `name=path`, `name=docker-image://REF`, `name=oci-layout://DIR`.
pub fn named_context(text: &str) -> ValueResult<(String, NamedContext)> {
    let Some((name, place)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
        return Err(format!("invalid context value: {text}, expected key=value"));
    };
    let place = match place.split_once("://") {
        Some(("docker-image", image)) => {
            NamedContext::Image(image.parse().map_err(|error| format!("{error}"))?)
        }
        Some(("oci-layout", layout)) => NamedContext::Layout(layout.to_owned()),
        Some((scheme @ ("http" | "https" | "git" | "ssh"), _)) => {
            return Err(format!("a named context from {scheme}:// is not supported yet"));
        }
        Some(("target", _)) => return Err("a named context from a target is not supported yet".to_owned()),
        _ => {
            let is_directory = Path::new(place).is_dir();
            if !is_directory {
                return Err(format!("`{place}` is not a directory"));
            }
            NamedContext::Directory(PathBuf::from(place))
        }
    };
    Ok((name.to_owned(), place))
}

/// `id=name[,src=file|,env=variable][,type=file|env]`. Without a source it is the variable of that
/// name, else the file.
pub fn secret(text: &str) -> ValueResult<(String, SecretSource)> {
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for (key, value) in value::fields(text)? {
        let value = value.ok_or_else(|| format!("invalid field '{key}' must be a key=value pair"))?;
        match key.as_str() {
            "id" => id = Some(value),
            "src" | "source" => file = Some(value),
            "env" => variable = Some(value),
            "type" if matches!(value.as_str(), "file" | "env") => kind = Some(value),
            "type" => return Err(format!("unsupported secret type '{value}'")),
            _ => return Err(format!("unexpected key '{key}' in '{key}={value}'")),
        }
    }
    let of_env = kind.as_deref() == Some("env");
    if of_env && variable.is_none() {
        variable = file.take();
    }
    let id = match (id, &file) {
        (Some(id), _) if !id.is_empty() => id,
        (_, Some(file)) => Path::new(file).file_name().unwrap_or_default().to_string_lossy().into_owned(),
        _ => return Err("a secret needs an id".to_owned()),
    };
    let source = match (variable, file) {
        (Some(variable), _) => SecretSource::Variable(variable),
        (None, Some(file)) => SecretSource::File(file.into()),
        (None, None) if of_env || (kind.is_none() && std::env::var_os(&id).is_some()) => {
            SecretSource::Variable(id.clone())
        }
        (None, None) => SecretSource::File(PathBuf::from(&id)),
    };
    if let SecretSource::File(path) = &source
        && let Err(error) = path.metadata()
    {
        return Err(format!("cannot read the secret `{id}` from {}: {error}", path.display()));
    }
    Ok((id, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets() {
        let file = SecretSource::File("/dev/null".into());
        for (text, id, source) in [
            ("id=a,src=/dev/null", "a", file.clone()),
            ("id=a,source=/dev/null,type=file", "a", file.clone()),
            ("src=/dev/null", "null", file),
            ("id=a,env=B", "a", SecretSource::Variable("B".to_owned())),
            ("id=a,type=env", "a", SecretSource::Variable("a".to_owned())),
            ("id=PATH", "PATH", SecretSource::Variable("PATH".to_owned())),
        ] {
            assert!(secret(text) == Ok((id.to_owned(), source)), "{text}");
        }
        for text in ["a", "id=a", "id=a,src=/no/such/file", "id=a,x=y", "id=a,type=x", "env=B", ""] {
            assert!(secret(text).is_err(), "{text}");
        }
    }

    #[test]
    fn named_contexts() {
        let directory = NamedContext::Directory("/".into());
        assert_eq!(named_context("a=/"), Ok(("a".to_owned(), directory)));
        let layout = NamedContext::Layout("x/y:z".to_owned());
        assert_eq!(named_context("busybox=oci-layout://x/y:z"), Ok(("busybox".to_owned(), layout)));
        let image = NamedContext::Image("alpine:3".parse().unwrap());
        assert_eq!(named_context("a=docker-image://alpine:3"), Ok(("a".to_owned(), image)));
        for text in ["a", "=x", "a=/no/such/dir", "a=https://x", "a=docker-image://A"] {
            assert!(named_context(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_dockerfile_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().as_os_str();
        assert!(matches!(read(place, None), Err(Error::NoDockerfile { .. })));
        std::fs::write(directory.path().join("dockerfile"), "FROM a\n").unwrap();
        let (context, source, path) = read(place, None).unwrap();
        assert_eq!(context, ContextInput::Directory(directory.path().to_owned()));
        assert_eq!((source.name(), source.text()), ("dockerfile", "FROM a\n"));
        assert_eq!(path, Some(directory.path().join("dockerfile")));
        std::fs::write(directory.path().join("Dockerfile"), "FROM b\n").unwrap();
        assert_eq!(read(place, None).unwrap().1.text(), "FROM b\n");
        assert!(matches!(read(OsStr::new("https://x/y.git"), None), Err(Error::NotYet { .. })));
        assert!(matches!(read(OsStr::new("/dev/null"), None), Err(Error::File { .. })));
    }
}
