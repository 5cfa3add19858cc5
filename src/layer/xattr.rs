//! Extended attributes of files in a tree, and which of them belong to a layer.

use std::os::fd::BorrowedFd;

use rustix::fs::XattrFlags;
use rustix::io::{Errno, Result};

/// Names and values, sorted.
pub(crate) type List = Vec<(Vec<u8>, Vec<u8>)>;

/// Where attributes are read from and written to.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// An open file.
    Fd(BorrowedFd<'a>),
    /// A path whose last component is not followed, for what cannot be opened.
    Path(&'a [u8]),
}

/// The path of `name` in the directory `dir` for calls that take no directory. The link of proc
/// leads to the directory itself, whatever it is called meanwhile.
pub(crate) fn path_in(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    use std::os::fd::AsRawFd;
    [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat()
}

/// What the overlay file system notes about a directory or file of its own.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overlay {
    /// The directory hides what is below.
    pub opaque: bool,
    /// The content or the origin is elsewhere, so that the tree alone is no layer.
    pub partial: bool,
}

/// Whether an attribute is part of a layer. Labels and hashes of the host's security modules are
/// not, nor is what overlays note.
pub(crate) fn belongs(name: &[u8]) -> bool {
    match name {
        b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default" => true,
        _ => (name.starts_with(b"user.") || name.starts_with(b"trusted.")) && !is_overlay(name),
    }
}

/// Whether an attribute is one of overlays, of the privileged or the unprivileged kind.
pub(crate) fn is_overlay(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// The attributes at `place` that belong to a layer, and what overlays noted.
pub(crate) fn read(place: Place<'_>) -> Result<(List, Overlay)> {
    let mut overlay = Overlay::default();
    let mut kept = Vec::new();
    let names = list(place)?;
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if is_overlay(name) {
            // The unprivileged kind means nothing to the overlays whose upper directories these are,
            // and whoever runs in one could set it.
            overlay.opaque |= name == b"trusted.overlay.opaque" && value(place, name)? == b"y";
            overlay.partial |= matches!(name, b"trusted.overlay.redirect" | b"trusted.overlay.metacopy");
        } else if belongs(name) {
            kept.push((name.to_vec(), value(place, name)?));
        }
    }
    kept.sort();
    Ok((kept, overlay))
}

fn list(place: Place<'_>) -> Result<Vec<u8>> {
    let mut short = [0; 1024];
    let call = |buffer: &mut [u8]| match place {
        Place::Fd(fd) => rustix::fs::flistxattr(fd, buffer),
        Place::Path(path) => rustix::fs::llistxattr(path, buffer),
    };
    match call(&mut short) {
        Ok(length) => Ok(short[..length].to_vec()),
        Err(Errno::NOTSUP) => Ok(Vec::new()),
        Err(Errno::RANGE) => {
            // The kernel's bound for all names (XATTR_LIST_MAX).
            let mut long = vec![0; 64 * 1024];
            let length = call(&mut long)?;
            long.truncate(length);
            Ok(long)
        }
        Err(error) => Err(error),
    }
}

fn value(place: Place<'_>, name: &[u8]) -> Result<Vec<u8>> {
    // The kernel's bound for one value (XATTR_SIZE_MAX).
    let mut value = vec![0; 64 * 1024];
    let length = match place {
        Place::Fd(fd) => rustix::fs::fgetxattr(fd, name, &mut value[..]),
        Place::Path(path) => rustix::fs::lgetxattr(path, name, &mut value[..]),
    }?;
    value.truncate(length);
    value.shrink_to_fit();
    Ok(value)
}

/// Sets one attribute.
pub(crate) fn set(place: Place<'_>, name: &[u8], value: &[u8]) -> Result<()> {
    match place {
        Place::Fd(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
        Place::Path(path) => rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_layer() {
        for name in
            ["security.capability", "user.a", "trusted.x", "system.posix_acl_access", "user.overlayer"]
        {
            assert!(belongs(name.as_bytes()), "{name}");
        }
        for name in [
            "security.selinux",
            "security.ima",
            "trusted.overlay.opaque",
            "user.overlay.origin",
            "system.nfs4_acl",
        ] {
            assert!(!belongs(name.as_bytes()), "{name}");
        }
    }
}
