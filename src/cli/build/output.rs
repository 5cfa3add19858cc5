//! `--output`

use std::path::PathBuf;

use crate::build::request::{self, Destination};
use crate::cli::error::{Error, Result};
use crate::cli::session::raw_stdout;
use crate::cli::value::{self, ValueResult};
use crate::layer::compress::Compression;

/// One `--output` as typed.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    kind: Kind,
    to: Option<PathBuf>,
    archive: bool,
    compression: Compression,
    force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Image,
    Oci,
    Docker,
    Tar,
    Local,
}

/// `type=…,dest=…`, a directory, or `-` for a tar on standard output.
pub fn parse(text: &str) -> ValueResult<Output> {
    let fields = value::fields(text)?;
    let plain = |kind, to| Output {
        kind,
        to: Some(PathBuf::from(to)),
        archive: true,
        compression: Compression::default(),
        force: false,
    };
    if let [(_, None)] = &fields[..] {
        return match text {
            "" => Err("an output needs a type or a directory".to_owned()),
            "-" => Ok(plain(Kind::Tar, text)),
            directory => Ok(plain(Kind::Local, directory)),
        };
    }
    let mut output = Output { to: None, ..plain(Kind::Image, "") };
    let (mut kind, mut level, mut compression) = (None, None, None);
    for (key, value) in fields {
        let text = value.clone().ok_or_else(|| format!("invalid value {key}"));
        match key.as_str() {
            "type" => kind = Some(self::kind(&text?)?),
            "dest" => output.to = Some(text?.into()),
            "tar" => output.archive = value::switch(&key, value.as_deref())?,
            "compression" => compression = Some(text?),
            "compression-level" => {
                level = Some(text?.parse::<i32>().map_err(|_| "compression-level is a number".to_owned())?);
            }
            "force-compression" => output.force = value::switch(&key, value.as_deref())?,
            "push" if value::switch(&key, value.as_deref())? => {
                return Err("pushing to a registry is not supported yet".to_owned());
            }
            // What kiln does anyway, or what has no meaning without a registry.
            "push" | "oci-mediatypes" | "store" | "unpack" | "name-canonical" | "dangling-name-prefix" => {}
            _ => return Err(format!("unknown key `{key}` of an output")),
        }
    }
    output.kind = kind.ok_or("an output needs a type")?;
    output.compression = self::compression(compression.as_deref(), level)?;
    Ok(output)
}

fn kind(text: &str) -> ValueResult<Kind> {
    match text {
        "image" => Ok(Kind::Image),
        "oci" => Ok(Kind::Oci),
        "docker" => Ok(Kind::Docker),
        "tar" => Ok(Kind::Tar),
        "local" => Ok(Kind::Local),
        "registry" => Err("pushing to a registry is not supported yet".to_owned()),
        other => Err(format!("unknown output type `{other}`: one of image, oci, docker, tar, local")),
    }
}

fn compression(name: Option<&str>, level: Option<i32>) -> ValueResult<Compression> {
    Ok(match name {
        None | Some("gzip") => match level {
            None => Compression::default(),
            Some(level @ 1..=9) => Compression::Gzip { level: level.unsigned_abs() },
            Some(level) => return Err(format!("gzip has the levels 1 to 9, not {level}")),
        },
        Some("zstd") => match level {
            None => Compression::Zstd { level: 3 },
            Some(level @ 1..=22) => Compression::Zstd { level },
            Some(level) => return Err(format!("zstd has the levels 1 to 22, not {level}")),
        },
        Some("uncompressed") => Compression::None,
        Some(other) => return Err(format!("unknown compression `{other}`: one of gzip, zstd, uncompressed")),
    })
}

/// The outputs of a request. `load` asks for the store as well; `terminal` says whether standard
/// output is one.
pub fn resolve(outputs: Vec<Output>, load: bool, terminal: bool) -> Result<Vec<request::Output>> {
    let mut streams = 0;
    let mut resolved = Vec::new();
    for output in outputs {
        let streamed = match (&output.to, output.kind) {
            (Some(to), _) => to.as_os_str() == "-",
            (None, Kind::Oci | Kind::Tar) => output.archive,
            (None, _) => false,
        };
        streams += usize::from(streamed);
        if streams > 1 {
            return Err(Error::TwoStreams);
        }
        if streamed && terminal {
            return Err(Error::Terminal);
        }
        resolved.push(output.resolve(streamed)?);
    }
    if load && !resolved.iter().any(|output| matches!(output, request::Output::Store)) {
        resolved.push(request::Output::Store);
    }
    Ok(resolved)
}

impl Output {
    fn resolve(self, streamed: bool) -> Result<request::Output> {
        let Self { kind, to, archive, compression, force } = self;
        let destination = || match (&to, streamed) {
            (_, true) => Ok(Destination::Stream(Box::new(raw_stdout()?))),
            (Some(path), false) => Ok(Destination::Path(path.clone())),
            (None, false) => Err(Error::NoDestination),
        };
        Ok(match kind {
            Kind::Image => request::Output::Store,
            Kind::Docker if to.is_none() => request::Output::Store,
            Kind::Oci if !archive && streamed => return Err(Error::NoDestination),
            Kind::Oci => request::Output::Oci { to: destination()?, archive, compression, force },
            Kind::Docker => request::Output::Docker { to: destination()?, compression },
            Kind::Tar => request::Output::Tar { to: destination()? },
            Kind::Local => match to {
                Some(to) if !streamed => request::Output::Local { to },
                _ => return Err(Error::NoDestination),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(kind: Kind, to: Option<&str>) -> Output {
        let compression = Compression::default();
        Output { kind, to: to.map(PathBuf::from), archive: true, compression, force: false }
    }

    #[test]
    fn forms() {
        for (text, expected) in [
            ("-", output(Kind::Tar, Some("-"))),
            ("out", output(Kind::Local, Some("out"))),
            ("type=local,dest=out", output(Kind::Local, Some("out"))),
            ("type=image,push=false", output(Kind::Image, None)),
            ("type=docker", output(Kind::Docker, None)),
            ("type=oci,dest=d,tar=false", Output { archive: false, ..output(Kind::Oci, Some("d")) }),
            (
                "type=oci,dest=x,compression=zstd,force-compression=true",
                Output {
                    compression: Compression::Zstd { level: 3 },
                    force: true,
                    ..output(Kind::Oci, Some("x"))
                },
            ),
            (
                "type=oci,dest=x,compression=uncompressed",
                Output { compression: Compression::None, ..output(Kind::Oci, Some("x")) },
            ),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for text in ["", "dest=x", "type=nope", "type=registry", "type=image,push=true", "type=oci,x=y"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("type=oci,compression=gzip,compression-level=12").is_err());
    }

    #[test]
    fn where_they_go() {
        let resolve = |text: &[&str], terminal| {
            resolve(text.iter().map(|text| parse(text).unwrap()).collect(), false, terminal)
        };
        assert!(matches!(resolve(&["-"], true), Err(Error::Terminal)));
        assert!(matches!(resolve(&["type=oci"], true), Err(Error::Terminal)));
        assert!(matches!(resolve(&["-", "type=oci"], false), Err(Error::TwoStreams)));
        assert!(matches!(resolve(&["type=local"], false), Err(Error::NoDestination)));
        assert!(matches!(resolve(&["type=docker"], true).unwrap()[..], [request::Output::Store]));
        let both = super::resolve(vec![parse("out").unwrap()], true, true).unwrap();
        assert!(matches!(both[..], [request::Output::Local { .. }, request::Output::Store]));
    }
}
