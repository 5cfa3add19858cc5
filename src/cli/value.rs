//! Values of flags that have a form of their own: comma-separated fields, key=value pairs,
//! environment files, hosts, limits.

use std::path::Path;

use super::error::{Error, Result};

/// A value that cannot be read, in one line.
pub type ValueResult<T> = std::result::Result<T, String>;

/// The fields of one line of comma-separated values (RFC 4180): a field in double quotes may hold
/// commas, and quotes doubled.
pub fn csv(text: &str) -> ValueResult<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                if rest[..end].contains('"') {
                    return Err(format!("`{}` has a quote inside: quote the whole field", &rest[..end]));
                }
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err(format!("`{after}` follows a closing quote")),
        }
    }
}

/// A quoted field without its opening quote, and what follows the closing one.
fn quoted_field(quoted: &str) -> ValueResult<(String, &str)> {
    let mut field = String::new();
    let mut rest = quoted;
    while let Some((before, after)) = rest.split_once('"') {
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Ok((field, after)),
        }
    }
    Err("a quote is not closed".to_owned())
}

/// `key=value` fields of comma-separated values, keys in lower case; a field without a value is
/// `None`.
pub fn fields(text: &str) -> ValueResult<Vec<(String, Option<String>)>> {
    let fields = csv(text)?.into_iter().map(|field| match field.split_once('=') {
        Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value.to_owned())),
        None => (field.trim().to_ascii_lowercase(), None),
    });
    Ok(fields.collect())
}

/// A field that is a switch: alone, or `true` or `false`.
pub fn switch(key: &str, value: Option<&str>) -> ValueResult<bool> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(format!("invalid value for {key}: {other}")),
    }
}

/// `NAME=value`, or `NAME` with the value it has in this process; `None` if it has none.
pub fn environment(text: &str) -> Option<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => Some((text.to_owned(), std::env::var(text).ok()?)),
    }
}

/// The variables of an `--env-file`: `NAME=value` or `NAME` a line, comments and blank lines left
/// out.
pub fn env_file(path: &Path) -> Result<Vec<(String, String)>> {
    let bytes =
        std::fs::read(path).map_err(|source| Error::File { doing: "read", path: path.to_owned(), source })?;
    let wrong =
        |line: usize, reason: &str| Error::EnvFile { path: path.to_owned(), line, reason: reason.to_owned() };
    let mut variables = Vec::new();
    for (number, line) in
        bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes).split(|b| *b == b'\n').enumerate()
    {
        let line = std::str::from_utf8(line).map_err(|_| wrong(number + 1, "it is not valid UTF-8"))?;
        let line = line.trim_start().trim_end_matches('\r');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() {
            return Err(wrong(number + 1, "it has no variable name"));
        }
        if name.contains(char::is_whitespace) {
            return Err(wrong(number + 1, "its variable name contains blanks"));
        }
        variables.extend(environment(line));
    }
    Ok(variables)
}

/// `key=value` of a label; a key alone has an empty value.
pub fn label(text: &str) -> ValueResult<(String, String)> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        Err("a label needs a key".to_owned())
    } else {
        Ok((key.to_owned(), value.to_owned()))
    }
}

/// `host:address` or `host=address`, IPv6 with or without brackets. `host-gateway` is the host
/// itself, whose network the container shares.
pub fn host(text: &str) -> ValueResult<(String, String)> {
    let wrong = || format!("bad format for add-host: \"{text}\"");
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(wrong)?;
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(wrong());
    }
    if address == "host-gateway" {
        return Ok((name.to_owned(), "127.0.0.1".to_owned()));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    match bare.parse::<std::net::IpAddr>() {
        Ok(address) => Ok((name.to_owned(), address.to_string())),
        Err(_) => Err(format!("invalid IP address in add-host: \"{address}\"")),
    }
}

/// The limits of setrlimit(2) by Docker's names.
const LIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `name=soft[:hard]`; -1 is no limit.
pub fn ulimit(text: &str) -> ValueResult<(String, i64, i64)> {
    let (name, values) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !LIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| match text.parse::<i64>() {
        Ok(number) if number >= -1 => Ok(number),
        _ => Err(format!("invalid ulimit value: {text}")),
    };
    let (soft, hard) = match values.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(values)?, number(values)?),
    };
    let above = hard != -1 && (soft == -1 || soft > hard);
    if above {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok((name.to_owned(), soft, hard))
}

/// `--filter name=value`
pub fn filter(text: &str) -> ValueResult<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned())),
        None => Err("invalid filter (expected name=value)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comma_separated_values() {
        for (text, expected) in [
            ("a", vec!["a"]),
            ("", vec![""]),
            ("a,b=c", vec!["a", "b=c"]),
            (r#""a,b",c"#, vec!["a,b", "c"]),
            (r#""a""b""#, vec!["a\"b"]),
            ("a,", vec!["a", ""]),
        ] {
            assert_eq!(csv(text).unwrap(), expected, "{text}");
        }
        for text in [r#"a"b"#, r#""a"#, r#""a"b"#] {
            assert!(csv(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts() {
        for (text, expected) in [
            ("a:1.2.3.4", Some(("a", "1.2.3.4"))),
            ("a=::1", Some(("a", "::1"))),
            ("a:[::1]", Some(("a", "::1"))),
            ("a:host-gateway", Some(("a", "127.0.0.1"))),
            ("a", None),
            (":1.2.3.4", None),
            ("a:b", None),
        ] {
            let expected = expected.map(|(name, address)| (name.to_owned(), address.to_owned()));
            assert_eq!(host(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn limits() {
        assert_eq!(ulimit("nofile=10:20"), Ok(("nofile".to_owned(), 10, 20)));
        assert_eq!(ulimit("core=-1"), Ok(("core".to_owned(), -1, -1)));
        assert_eq!(ulimit("nope=3"), Err("invalid ulimit type: nope".to_owned()));
        for text in ["nofile", "nofile=", "nofile=a", "nofile=20:10", "nofile=-1:10", "nofile=-2"] {
            assert!(ulimit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn environment_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("env");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            env_file(&path).map_err(|error| error.to_string())
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            read("\u{feff}A=b c\r\n# no\n\n  B==x=\nKILN_NOT_SET_ANYWHERE\nE="),
            Ok(vec![pair("A", "b c"), pair("B", "=x="), pair("E", "")])
        );
        for (text, reason) in [("=x", "has no variable name"), ("a b=c", "contains blanks")] {
            let error = read(text).unwrap_err();
            assert!(error.contains(reason) && error.contains("line 1"), "{error}");
        }
    }
}
