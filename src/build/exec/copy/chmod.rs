//! `--chmod`: a mode as chmod(1) reads it, octal or symbolic (reference, "COPY --chmod").
//!
//! A clause that names nobody (`+x`) means everybody, less what the umask 022 keeps back, so that
//! `+w` never opens a file to the world; who is named, gets all of it.

/// The bits that a clause without `u`, `g`, `o` or `a` leaves alone.
const UMASK: u32 = 0o022;

/// What is done to the modes of copied files and directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeChange {
    /// Set to this.
    Set(u32),
    /// These actions, one after the other.
    Apply(Vec<Action>),
}

/// One `who op perms` of the symbolic form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// The permission bits of those meant: out of 0o7777.
    who: u32,
    operator: Operator,
    permissions: Permissions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Permissions {
    /// `rwxst` as bits for everybody, and whether `X` is among them.
    Bits { bits: u32, conditional_execute: bool },
    /// What the user (6), group (3) or others (0) have: the shift of their three bits.
    CopyOf(u32),
}

impl ModeChange {
    /// Reads `text`; `None` if it is no mode.
    pub fn parse(text: &str) -> Option<Self> {
        if text.bytes().next()?.is_ascii_digit() {
            let mode = u32::from_str_radix(text, 8).ok()?;
            return (mode <= 0o7777).then_some(Self::Set(mode));
        }
        let mut actions = Vec::new();
        for clause in text.split(',') {
            parse_clause(clause.as_bytes(), &mut actions)?;
        }
        Some(Self::Apply(actions))
    }

    /// The new mode of a file or directory that has `mode` (the 07777 bits).
    pub fn apply(&self, mode: u32, directory: bool) -> u32 {
        match self {
            Self::Set(mode) => *mode,
            Self::Apply(actions) => actions.iter().fold(mode, |mode, action| action.apply(mode, directory)),
        }
    }
}

impl Action {
    fn apply(self, mode: u32, directory: bool) -> u32 {
        let bits = match self.permissions {
            Permissions::Bits { bits, conditional_execute } => {
                let execute = conditional_execute && (directory || mode & 0o111 != 0);
                bits | if execute { 0o111 } else { 0 }
            }
            Permissions::CopyOf(shift) => {
                let three = mode >> shift & 0o7;
                three << 6 | three << 3 | three
            }
        };
        match self.operator {
            Operator::Add => mode | bits & self.who,
            Operator::Remove => mode & !(bits & self.who),
            Operator::Set => mode & !self.who | bits & self.who,
        }
    }
}

fn parse_clause(clause: &[u8], actions: &mut Vec<Action>) -> Option<()> {
    let people = clause.iter().take_while(|byte| b"ugoa".contains(byte)).count();
    let mut who = clause[..people].iter().fold(0, |who, byte| {
        who | match byte {
            b'u' => 0o4700,
            b'g' => 0o2070,
            b'o' => 0o1007,
            _ => 0o7777,
        }
    });
    if people == 0 {
        who = 0o7777 & !UMASK;
    }
    let mut rest = &clause[people..];
    if rest.is_empty() {
        return None;
    }
    while let Some((operator, after)) = rest.split_first() {
        let operator = match operator {
            b'+' => Operator::Add,
            b'-' => Operator::Remove,
            b'=' => Operator::Set,
            _ => return None,
        };
        let length = after.iter().take_while(|byte| !b"+-=".contains(byte)).count();
        let permissions = parse_permissions(&after[..length])?;
        actions.push(Action { who, operator, permissions });
        rest = &after[length..];
    }
    Some(())
}

fn parse_permissions(text: &[u8]) -> Option<Permissions> {
    match text {
        b"u" => return Some(Permissions::CopyOf(6)),
        b"g" => return Some(Permissions::CopyOf(3)),
        b"o" => return Some(Permissions::CopyOf(0)),
        _ => {}
    }
    let (mut bits, mut conditional_execute) = (0, false);
    for byte in text {
        match byte {
            b'r' => bits |= 0o444,
            b'w' => bits |= 0o222,
            b'x' => bits |= 0o111,
            b's' => bits |= 0o6000,
            b't' => bits |= 0o1000,
            b'X' => conditional_execute = true,
            _ => return None,
        }
    }
    Some(Permissions::Bits { bits, conditional_execute })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (text, file, directory) in [
            ("755", 0o755, 0o755),
            ("4755", 0o4755, 0o4755),
            ("0", 0, 0),
            ("+x", 0o755, 0o755),
            ("u+x", 0o744, 0o755),
            ("+w", 0o644, 0o755),
            ("a+w", 0o666, 0o777),
            ("go-r", 0o600, 0o711),
            ("u=rwX,go=rX", 0o644, 0o755),
            ("g=u", 0o664, 0o775),
            ("o=", 0o640, 0o750),
            ("u+s,+t", 0o5644, 0o5755),
            ("a=r+w-r", 0o222, 0o222),
            ("=r", 0o444, 0o444),
        ] {
            let change = ModeChange::parse(text).unwrap_or_else(|| panic!("{text} is a mode"));
            assert_eq!(format!("{:o}", change.apply(0o644, false)), format!("{file:o}"), "{text} file");
            assert_eq!(format!("{:o}", change.apply(0o755, true)), format!("{directory:o}"), "{text} dir");
        }
        assert_eq!(ModeChange::parse("u=rwX").unwrap().apply(0o010, false), 0o710);
        for text in ["", "9", "10000", "u", "z+x", "+q", "u+x,", "a=ug", "0x1", "-"] {
            let parsed = ModeChange::parse(text);
            assert!(parsed.is_none() || text == "-", "{text}: {parsed:?}");
        }
    }
}
