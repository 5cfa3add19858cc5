//! The steps of the child's way, as it reports them: numbers in a pipe, words for people.

use rustix::io::Errno;

/// What the child was doing when it failed. The index of a failure says which mount, path, … of
/// the prepared data it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Step {
    Cgroup,
    CgroupNamespace,
    JoinNamespace,
    Session,
    OomScore,
    Hostname,
    Domainname,
    Loopback,
    Propagation,
    Root,
    Target,
    Mount,
    Console,
    ControllingTerminal,
    Sysctl,
    Mask,
    Readonly,
    Pivot,
    DetachHost,
    ReadonlyRoot,
    Limit,
    Stdio,
    WorkingDirectory,
    Seccomp,
    BoundingSet,
    Groups,
    User,
    Capabilities,
    NoNewPrivileges,
    ParentDeath,
    Parent,
    Init,
    Execute,
}

impl Step {
    const ALL: [Step; 33] = {
        use Step::*;
        [
            Cgroup,
            CgroupNamespace,
            JoinNamespace,
            Session,
            OomScore,
            Hostname,
            Domainname,
            Loopback,
            Propagation,
            Root,
            Target,
            Mount,
            Console,
            ControllingTerminal,
            Sysctl,
            Mask,
            Readonly,
            Pivot,
            DetachHost,
            ReadonlyRoot,
            Limit,
            Stdio,
            WorkingDirectory,
            Seccomp,
            BoundingSet,
            Groups,
            User,
            Capabilities,
            NoNewPrivileges,
            ParentDeath,
            Parent,
            Init,
            Execute,
        ]
    };

    /// What was being done, without its object.
    pub(super) fn doing(self) -> &'static str {
        match self {
            Self::Cgroup => "joining its cgroup",
            Self::CgroupNamespace => "making its cgroup namespace",
            Self::JoinNamespace => "joining a namespace",
            Self::Session => "starting a session",
            Self::OomScore => "setting its OOM score",
            Self::Hostname => "setting the host name",
            Self::Domainname => "setting the domain name",
            Self::Loopback => "bringing up the loopback interface",
            Self::Propagation => "making the mounts of the host private",
            Self::Root => "attaching the root file system",
            Self::Target => "finding the mount point",
            Self::Mount => "mounting",
            Self::Console => "making /dev/console",
            Self::ControllingTerminal => "taking the terminal",
            Self::Sysctl => "setting the kernel parameter",
            Self::Mask => "masking",
            Self::Readonly => "making read-only",
            Self::Pivot => "changing the root directory",
            Self::DetachHost => "detaching the mounts of the host",
            Self::ReadonlyRoot => "making the root file system read-only",
            Self::Limit => "setting the limit",
            Self::Stdio => "setting up its standard streams",
            Self::WorkingDirectory => "changing to the working directory",
            Self::Seccomp => "installing the seccomp filter",
            Self::BoundingSet => "dropping capabilities from the bounding set",
            Self::Groups => "setting its groups",
            Self::User => "changing the user",
            Self::Capabilities => "setting its capabilities",
            Self::NoNewPrivileges => "giving up new privileges",
            Self::ParentDeath => "tying its life to its parent's",
            Self::Parent => "looking for its parent, which is gone",
            Self::Init => "executing the init program",
            Self::Execute => "executing the command",
        }
    }
}

/// A step that failed, which of its objects it was about, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub step: Step,
    pub index: u32,
    pub errno: Errno,
}

/// A failure as it travels through the pipe: three numbers in the machine's own order.
pub(super) const LENGTH: usize = 12;

impl Failure {
    /// A failure of the `index`th object of a step.
    pub(super) fn new(step: Step, index: usize, errno: Errno) -> Self {
        Self { step, index: index as u32, errno }
    }

    /// The bytes for the pipe; makes no allocation.
    pub(super) fn to_bytes(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let numbers = [self.step as u32, self.index, self.errno.raw_os_error() as u32];
        for (to, number) in bytes.chunks_exact_mut(4).zip(numbers) {
            to.copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }

    /// The failure in `bytes`, if they hold one.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let step = *Step::ALL.get(number(0)? as usize)?;
        Some(Self { step, index: number(4)?, errno: Errno::from_raw_os_error(number(8)? as i32) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_survives_the_pipe() {
        for (at, step) in Step::ALL.into_iter().enumerate() {
            assert_eq!(step as usize, at);
            let failure = Failure::new(step, 7, Errno::NOENT);
            assert_eq!(Failure::from_bytes(&failure.to_bytes()), Some(failure));
        }
        assert_eq!(Failure::from_bytes(&[0xff; LENGTH]), None);
        assert_eq!(Failure::from_bytes(&[0; 4]), None);
    }
}
