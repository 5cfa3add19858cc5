//! `--volume`, `--mount` and `--tmpfs`

use std::path::{Path, PathBuf};

use crate::cli::value::{self, ValueResult};
use crate::container::Mount;

const PROPAGATIONS: [&str; 6] = ["shared", "slave", "private", "rshared", "rslave", "rprivate"];

/// `source:target[:options]`
pub fn short(text: &str) -> ValueResult<Mount> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        [_] => return Err("anonymous volumes are not supported yet: give a directory of the host".to_owned()),
        _ => return Err(format!("invalid volume specification: '{text}'")),
    };
    if source.is_empty() || target.is_empty() {
        return Err(format!("invalid volume specification: '{text}'"));
    }
    let source = match source.starts_with(['/', '.']) {
        true => absolute(source)?,
        false => {
            return Err(format!(
                "named volumes (`{source}`) are not supported yet: give a directory of the host"
            ));
        }
    };
    let (mut readonly, mut propagation) = (false, None);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => readonly = true,
            "rw" => readonly = false,
            option if PROPAGATIONS.contains(&option) => propagation = Some(option.to_owned()),
            // Labels of SELinux, and what is about named volumes and other systems.
            "z" | "Z" | "nocopy" | "consistent" | "cached" | "delegated" => {}
            other => return Err(format!("invalid mode: {other}")),
        }
    }
    Ok(Mount::Bind { source, target: self::target(target)?, readonly, propagation, create: true })
}

/// `type=bind,source=…,target=…` and the like
pub fn long(text: &str) -> ValueResult<Mount> {
    let (mut kind, mut source, mut to) = (None, None, None);
    let (mut readonly, mut propagation, mut options) = (false, None, Vec::new());
    for (key, value) in value::fields(text)? {
        if matches!(key.as_str(), "readonly" | "ro") {
            readonly = value::switch(&key, value.as_deref())?;
            continue;
        }
        let value = value.ok_or_else(|| format!("invalid field '{key}' must be a key=value pair"))?;
        match key.as_str() {
            "type" => kind = Some(value.to_ascii_lowercase()),
            "source" | "src" => source = Some(value),
            "target" | "dst" | "destination" => to = Some(value),
            "bind-propagation" if PROPAGATIONS.contains(&value.as_str()) => propagation = Some(value),
            "tmpfs-size" => {
                let size = super::units::parse_size(&value)?;
                options.push(format!("size={size}"));
            }
            "tmpfs-mode" if u32::from_str_radix(&value, 8).is_ok() => options.push(format!("mode={value}")),
            "consistency" | "bind-recursive" => {}
            "bind-propagation" | "tmpfs-mode" => return Err(format!("invalid value for {key}: {value}")),
            _ => return Err(format!("unexpected key '{key}' in '{key}={value}'")),
        }
    }
    let to = target(&to.ok_or("a mount needs a target")?)?;
    match kind.as_deref() {
        Some("bind") => {
            let source = absolute(&source.ok_or("a bind mount needs a source")?)?;
            if source.symlink_metadata().is_err() {
                return Err(format!("bind source path does not exist: {}", source.display()));
            }
            Ok(Mount::Bind { source, target: to, readonly, propagation, create: false })
        }
        Some("tmpfs") if source.is_some() => Err("a tmpfs has no source".to_owned()),
        Some("tmpfs") => {
            if readonly {
                options.push("ro".to_owned());
            }
            Ok(Mount::Tmpfs { target: to, options })
        }
        None | Some("volume") => Err("volumes are not supported yet: use type=bind or type=tmpfs".to_owned()),
        Some(other) => Err(format!("mount type \"{other}\" is not supported: one of bind, tmpfs")),
    }
}

/// `target[:options]`
pub fn tmpfs(text: &str) -> ValueResult<Mount> {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    let options = options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
    Ok(Mount::Tmpfs { target: target(path)?, options })
}

fn absolute(path: &str) -> ValueResult<PathBuf> {
    std::path::absolute(path).map_err(|error| format!("{path}: {error}"))
}

/// A path in the container: absolute, and not its root.
fn target(path: &str) -> ValueResult<String> {
    let components = Path::new(path).components().count();
    match path.starts_with('/') {
        false => Err(format!("invalid mount path: '{path}' mount path must be absolute")),
        true if components < 2 => Err("the root of the container cannot be mounted over".to_owned()),
        true => Ok(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(source: &str, target: &str, readonly: bool, create: bool) -> Mount {
        let (source, target) = (PathBuf::from(source), target.to_owned());
        Mount::Bind { source, target, readonly, propagation: None, create }
    }

    #[test]
    fn volumes() {
        assert_eq!(short("/a:/b"), Ok(bind("/a", "/b", false, true)));
        assert_eq!(short("/a:/b:ro,z"), Ok(bind("/a", "/b", true, true)));
        let here = std::env::current_dir().unwrap().join("x");
        assert_eq!(short("./x:/b"), Ok(bind(&here.to_string_lossy(), "/b", false, true)));
        for text in ["/a", "name:/b", "/a:b", "/a:/", "/a:/b:nope", "/a:/b:ro:x", ":/b", ""] {
            assert!(short(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mounts() {
        assert_eq!(long("type=bind,src=/dev,dst=/b,readonly"), Ok(bind("/dev", "/b", true, false)));
        assert_eq!(long("type=bind,source=/dev,target=/b,ro=false"), Ok(bind("/dev", "/b", false, false)));
        let tmpfs =
            Mount::Tmpfs { target: "/t".to_owned(), options: vec!["size=65536".into(), "mode=700".into()] };
        assert_eq!(long("type=tmpfs,target=/t,tmpfs-size=64k,tmpfs-mode=700"), Ok(tmpfs));
        for text in [
            "type=bind,src=/no/such,dst=/b",
            "type=bind,dst=/b",
            "type=bind,src=/dev",
            "type=volume,dst=/b",
            "dst=/b",
            "type=tmpfs,dst=/b,src=/x",
            "type=bind,src=/dev,dst=/b,nope=1",
            "type=bind,src=/dev,dst=/b,ro=x",
        ] {
            assert!(long(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tmpfs_options_are_handed_on() {
        let options = vec!["rw".to_owned(), "size=64k".to_owned()];
        assert_eq!(tmpfs("/run:rw,size=64k"), Ok(Mount::Tmpfs { target: "/run".to_owned(), options }));
        assert!(tmpfs("run").is_err());
    }
}
