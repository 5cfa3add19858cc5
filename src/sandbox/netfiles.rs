//! The contents of /etc/hosts, /etc/resolv.conf and /etc/hostname: files that a container needs,
//! that say where it runs, and that therefore belong to no layer. The caller writes them
//! somewhere and binds them.

use std::fs;
use std::io;
use std::path::Path;

/// A larger resolv.conf is not one.
const LIMIT: u64 = 1 << 20;

/// /etc/hosts, written anew: the loopback names, the container's own if it has a name, and
/// `extra` names with their addresses, as given.
pub fn hosts(hostname: Option<&str>, extra: &[(String, String)]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    for (name, address) in extra {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    if let Some(name) = hostname {
        // The network of the container has no other address of its own yet.
        text.push_str(&format!("127.0.1.1\t{name}\n"));
    }
    text
}

/// /etc/hostname.
pub fn hostname(name: &str) -> String {
    format!("{name}\n")
}

/// /etc/resolv.conf: a copy of the host's; empty if it has none.
pub fn resolv_conf() -> io::Result<Vec<u8>> {
    copy(Path::new("/etc/resolv.conf"))
}

fn copy(path: &Path) -> io::Result<Vec<u8>> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() && found.len() <= LIMIT => fs::read(path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "no regular file of at most 1 MiB")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        let extra = [("db".to_owned(), "10.0.0.7".to_owned())];
        let text = hosts(Some("box"), &extra);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with("10.0.0.7\tdb\n127.0.1.1\tbox\n"));
    }

    #[test]
    fn a_host_without_a_resolver() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(copy(&directory.path().join("resolv.conf")).unwrap(), b"");
        assert!(copy(directory.path()).is_err());
    }
}
