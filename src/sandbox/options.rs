//! fstab-style mount options (OCI runtime spec config.md, "Linux mount options") taken apart into
//! what mount_setattr takes, a propagation, and what the file system itself takes.

use libc::{
    MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_RELATIME, MOUNT_ATTR_STRICTATIME,
};

use super::sys::Attributes;

const MOUNT_ATTR__ATIME: u64 = libc::MOUNT_ATTR__ATIME;

/// The options of one mount.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    /// A bind mount: `Some(true)` if of the mounts below it too.
    pub bind: Option<bool>,
    /// For the mount.
    pub attributes: Attributes,
    /// For the mounts below it as well.
    pub recursive_attributes: Attributes,
    /// MS_SHARED, … or 0.
    pub propagation: u64,
    /// Whether the propagation is for the mounts below it too.
    pub propagation_recursive: bool,
    /// For the file system: a flag has no value.
    pub data: Vec<(String, Option<String>)>,
}

impl Options {
    /// Takes `options` apart. What no rule knows is for the file system.
    pub(super) fn parse(options: &[String]) -> Self {
        let mut parsed = Self::default();
        for option in options {
            if !parsed.known(option) {
                parsed.data.push(match option.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                    None => (option.clone(), None),
                });
            }
        }
        parsed
    }

    fn known(&mut self, option: &str) -> bool {
        let (name, recursive) = match option.strip_prefix('r') {
            Some(rest) if attribute(rest).is_some() => (rest, true),
            _ => (option, false),
        };
        if let Some((set, clear)) = attribute(name) {
            let attributes = if recursive { &mut self.recursive_attributes } else { &mut self.attributes };
            attributes.set = attributes.set & !clear | set;
            attributes.clear = attributes.clear & !set | clear;
            return true;
        }
        let (name, recursive) = match option {
            "rbind" | "rprivate" | "rshared" | "rslave" | "runbindable" => (&option[1..], true),
            other => (other, false),
        };
        let propagation = match name {
            "bind" => {
                self.bind = Some(recursive || self.bind == Some(true));
                return true;
            }
            // The default of a fresh mount; nothing to undo.
            "defaults" | "async" | "loud" | "nolazytime" | "nomand" => return true,
            "private" => libc::MS_PRIVATE,
            "shared" => libc::MS_SHARED,
            "slave" => libc::MS_SLAVE,
            "unbindable" => libc::MS_UNBINDABLE,
            _ => return false,
        };
        self.propagation = propagation;
        self.propagation_recursive = recursive;
        true
    }
}

/// What an option sets and clears.
fn attribute(option: &str) -> Option<(u64, u64)> {
    Some(match option {
        "ro" => (MOUNT_ATTR_RDONLY, 0),
        "rw" => (0, MOUNT_ATTR_RDONLY),
        "nosuid" => (MOUNT_ATTR_NOSUID, 0),
        "suid" => (0, MOUNT_ATTR_NOSUID),
        "nodev" => (MOUNT_ATTR_NODEV, 0),
        "dev" => (0, MOUNT_ATTR_NODEV),
        "noexec" => (MOUNT_ATTR_NOEXEC, 0),
        "exec" => (0, MOUNT_ATTR_NOEXEC),
        "nodiratime" => (MOUNT_ATTR_NODIRATIME, 0),
        "diratime" => (0, MOUNT_ATTR_NODIRATIME),
        "nosymfollow" => (MOUNT_ATTR_NOSYMFOLLOW, 0),
        "symfollow" => (0, MOUNT_ATTR_NOSYMFOLLOW),
        // One of three: the whole field is cleared before it is set (mount_setattr(2)).
        "noatime" => (MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME),
        "strictatime" | "norelatime" => (MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME),
        "relatime" | "atime" | "nostrictatime" => (MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Options {
        Options::parse(&options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn attributes_propagation_and_data() {
        let options = parse(&["nosuid", "noexec", "ro", "rw", "mode=755", "newinstance", "rslave"]);
        assert_eq!(options.attributes.set, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
        assert_eq!(options.attributes.clear, MOUNT_ATTR_RDONLY);
        assert_eq!((options.propagation, options.propagation_recursive), (libc::MS_SLAVE, true));
        let data = [("mode".to_owned(), Some("755".to_owned())), ("newinstance".to_owned(), None)];
        assert_eq!(options.data, data);
    }

    #[test]
    fn binds() {
        assert_eq!(parse(&["bind", "ro"]).bind, Some(false));
        assert_eq!(parse(&["rbind", "bind"]).bind, Some(true));
        assert_eq!(parse(&["ro"]).bind, None);
        assert_eq!(parse(&["rro"]).recursive_attributes.set, MOUNT_ATTR_RDONLY);
        assert_eq!(parse(&["relatime"]).attributes.set, 0);
    }

    #[test]
    fn a_time_rule_replaces_the_one_before() {
        let options = parse(&["noatime", "strictatime"]);
        assert_eq!(options.attributes.set, MOUNT_ATTR_STRICTATIME);
        assert_eq!(options.attributes.clear, MOUNT_ATTR__ATIME);
    }
}
