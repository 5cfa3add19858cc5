//! Absolute paths of the sandbox, put together lexically as BuildKit does. Nothing here touches a
//! file: whoever follows such a path does so inside its root.

/// `path` seen from the directory `base`: absolute, without `.`, `..`, doubled or trailing
/// slashes.
pub(super) fn absolute(base: &str, path: &str) -> String {
    let base = if path.starts_with('/') { "" } else { base };
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// As [`absolute`], with a trailing slash where `path` says that it is a directory: it is empty,
/// or ends in a slash or in `.`.
pub(super) fn destination(base: &str, path: &str) -> String {
    let directory = path.is_empty() || path == "." || path.ends_with('/') || path.ends_with("/.");
    let mut absolute = absolute(base, path);
    if directory && !absolute.ends_with('/') {
        absolute.push('/');
    }
    absolute
}

/// The last part of a path; `/` where there is none.
pub(super) fn base_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_and_cleaned() {
        for (base, path, expected) in [
            ("/", "", "/"),
            ("/a", "b", "/a/b"),
            ("/a", "/b//c/", "/b/c"),
            ("/a/b", "../../../c", "/c"),
            ("", "./x/.", "/x"),
            ("/a", "..", "/"),
        ] {
            assert_eq!(absolute(base, path), expected, "{base} {path}");
        }
        for (path, expected) in [
            (".", "/w/"),
            ("", "/w/"),
            ("./", "/w/"),
            ("x", "/w/x"),
            ("x/", "/w/x/"),
            ("/", "/"),
            ("x/.", "/w/x/"),
        ] {
            assert_eq!(destination("/w", path), expected, "{path}");
        }
        for (path, expected) in [("/a/b", "b"), ("b/", "b"), ("/", "/"), ("", "/")] {
            assert_eq!(base_name(path), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_leads_out(base in "[/.a]{0,9}", path in "[/.a]{0,9}") {
            let path = absolute(&base, &path);
            proptest::prop_assert!(path.starts_with('/'));
            proptest::prop_assert!(!path.split('/').any(|part| part == ".." || part == "."));
            proptest::prop_assert!(path == "/" || !path.ends_with('/'));
        }
    }
}
