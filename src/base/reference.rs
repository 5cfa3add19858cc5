//! Image references: `[domain/]path[:tag][@digest]`, normalised as Docker does, so that
//! `busybox`, `busybox:latest` and `docker.io/library/busybox` are one name.

use std::fmt;
use std::str::FromStr;

use super::digest::Digest;

const DEFAULT_DOMAIN: &str = "docker.io";
const OFFICIAL: &str = "library/";
/// The longest repository name, domain included (OCI distribution spec, "Pulling manifests").
const MAX_NAME: usize = 255;

/// A normalised image reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The registry: `docker.io`, `localhost:5000`, …
    pub domain: String,
    /// The repository within the registry: `library/busybox`, …
    pub path: String,
    /// The tag as written.
    pub tag: Option<String>,
    /// The digest as written.
    pub digest: Option<Digest>,
}

/// A text that is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid image reference `{text}`: {reason}")]
pub struct ReferenceError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Reference {
    /// The tag, or `latest` where neither a tag nor a digest was written.
    pub fn tag_or_latest(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(tag),
            (None, Some(_)) => None,
            (None, None) => Some("latest"),
        }
    }

    /// The repository as Docker's REPOSITORY column prints it: without `docker.io/library/`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return format!("{}/{}", self.domain, self.path);
        }
        self.path.strip_prefix(OFFICIAL).unwrap_or(&self.path).to_owned()
    }

    /// The whole reference in its short form, with `:latest` where nothing else is said:
    /// `busybox:latest`.
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    /// The whole reference in its long form, the key of a name in the store:
    /// `docker.io/library/busybox:latest`.
    pub fn canonical(&self) -> String {
        self.suffixed(format!("{}/{}", self.domain, self.path))
    }

    fn suffixed(&self, mut name: String) -> String {
        if let Some(tag) = self.tag_or_latest() {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let fail = |reason| ReferenceError { text: text.to_owned(), reason };
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|_| {
                    fail("what follows `@` is not `sha256:` and 64 lower-case hexadecimal digits")
                })?;
                (rest, Some(digest))
            }
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(fail(
                "a tag is 1 to 128 letters, digits, `_`, `.` and `-`, not starting with `.` or `-`",
            ));
        }
        if name.is_empty() {
            return Err(fail("it has no name"));
        }
        let (domain, path) = match name.split_once('/') {
            Some((first, path))
                if first.contains(['.', ':']) || first == "localhost" || first.to_lowercase() != first =>
            {
                (first, path)
            }
            _ => (DEFAULT_DOMAIN, name),
        };
        if !is_domain(domain) {
            return Err(fail("the registry's name has characters that no host name has"));
        }
        if path.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(fail("a repository name is in lower case"));
        }
        if !path.split('/').all(is_component) {
            return Err(fail(
                "a repository name is letters and digits, separated by single `.`, `_`, `__`, `-` or `/`",
            ));
        }
        let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
        let path = if domain == DEFAULT_DOMAIN && !path.contains('/') {
            format!("{OFFICIAL}{path}")
        } else {
            path.to_owned()
        };
        if domain.len() + 1 + path.len() > MAX_NAME {
            return Err(fail("a repository name has at most 255 characters"));
        }
        Ok(Self { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest })
    }
}

fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (domain, None),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    !host.is_empty()
        && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':'))
        && !host.starts_with('-')
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// One component of a repository name (OCI distribution spec, "Pulling manifests").
fn is_component(part: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !part.starts_with(word) || !part.ends_with(word) {
        return false;
    }
    part.split(word)
        .filter(|separator| !separator.is_empty())
        .all(|separator| matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_for_one_image() {
        for text in [
            "busybox",
            "busybox:latest",
            "docker.io/busybox",
            "docker.io/library/busybox",
            "index.docker.io/library/busybox:latest",
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.canonical(), "docker.io/library/busybox:latest");
            assert_eq!(reference.familiar(), "busybox:latest");
        }
    }

    #[test]
    fn parts() {
        let digest = Digest::of("");
        for (text, canonical, familiar) in [
            ("a/b", "docker.io/a/b:latest", "a/b:latest"),
            ("localhost/b:1", "localhost/b:1", "localhost/b:1"),
            ("localhost:5000/b", "localhost:5000/b:latest", "localhost:5000/b:latest"),
            ("ghcr.io/x/y__z/w-v:1.2_3", "ghcr.io/x/y__z/w-v:1.2_3", "ghcr.io/x/y__z/w-v:1.2_3"),
            (&format!("b@{digest}"), &format!("docker.io/library/b@{digest}"), &format!("b@{digest}")),
            (&format!("b:1@{digest}"), &format!("docker.io/library/b:1@{digest}"), &format!("b:1@{digest}")),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(
                (reference.canonical().as_str(), reference.familiar().as_str()),
                (canonical, familiar),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_reference() {
        for text in [
            "",
            ":",
            "a:",
            ":a",
            "A",
            "a/B",
            "a b",
            "a//b",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a@sha256:12",
            "a:.x",
            "a.b:x/c",
            "é",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
