//! Users and groups by name, looked up in an image's own passwd and group files (passwd(5),
//! group(5)) by Docker's rules.
//!
//! Takes the files as bytes and never opens any. Lines that make no sense are passed over.

use super::ImageError;

/// The largest passwd or group file worth reading.
pub const MAX_FILE: u64 = 1 << 20;
/// The largest id that Docker accepts.
const MAX_ID: u32 = i32::MAX as u32;

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// Further groups, in the order of the group file.
    pub additional_gids: Vec<u32>,
    /// The home directory; `/` where none is known.
    pub home: String,
}

/// One line of a passwd file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswdLine<'a> {
    /// The login name.
    pub name: &'a [u8],
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// The home directory.
    pub home: &'a [u8],
}

/// Resolves `user[:group]` as in USER and `--user`. A missing file is an empty one. Numeric ids
/// need no line; with a line they take its group, home and further groups. Where a group is
/// given, there are no further groups.
pub fn resolve(text: &str, passwd: Option<&[u8]>, group: Option<&[u8]>) -> Result<User, ImageError> {
    let (user, group_name) = text.split_once(':').unwrap_or((text, ""));
    let groups = group.unwrap_or_default();
    let line = find_user(if user.is_empty() { "0" } else { user }, passwd.unwrap_or_default());
    let (uid, gid, home) = match line {
        Some(line) => (line.uid, line.gid, String::from_utf8_lossy(line.home).into_owned()),
        None if user.is_empty() => (0, 0, String::new()),
        None => (numeric(user)?.ok_or_else(|| ImageError::NoSuchUser(user.to_owned()))?, 0, String::new()),
    };
    let home = if home.is_empty() { "/".to_owned() } else { home };
    if !group_name.is_empty() {
        let gid = resolve_group(group_name, group)?;
        return Ok(User { uid, gid, additional_gids: Vec::new(), home });
    }
    let member = line.map_or(&b""[..], |line| line.name);
    let additional_gids = lines(groups)
        .filter_map(group_line)
        .filter(|(_, _, members)| {
            members.split(|b| *b == b',').any(|name| !name.is_empty() && name == member)
        })
        .map(|(_, gid, _)| gid)
        .collect();
    Ok(User { uid, gid, additional_gids, home })
}

/// Resolves a group by name or number. A missing file is an empty one.
pub fn resolve_group(text: &str, group: Option<&[u8]>) -> Result<u32, ImageError> {
    let number = numeric(text);
    let found = lines(group.unwrap_or_default()).filter_map(group_line).find(|(name, gid, _)| {
        *name == text.as_bytes() || matches!(number, Ok(Some(number)) if number == *gid)
    });
    match found {
        Some((_, gid, _)) => Ok(gid),
        None => number?.ok_or_else(|| ImageError::NoSuchGroup(text.to_owned())),
    }
}

/// The first line of a passwd file that has `user` as its name or, where it is a number, as its
/// user id.
pub fn find_user<'a>(user: &str, passwd: &'a [u8]) -> Option<PasswdLine<'a>> {
    let number = numeric(user).ok().flatten();
    lines(passwd)
        .filter_map(|line| {
            let mut fields = line.split(|byte| *byte == b':');
            let name = fields.next()?;
            let (_, uid, gid) = (fields.next()?, id(fields.next()?)?, id(fields.next()?)?);
            Some(PasswdLine { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
        })
        .find(|line| line.name == user.as_bytes() || number == Some(line.uid))
}

/// Name, id and members of a line of a group file.
fn group_line(line: &[u8]) -> Option<(&[u8], u32, &[u8])> {
    let mut fields = line.split(|byte| *byte == b':');
    let name = fields.next()?;
    let (_, gid) = (fields.next()?, id(fields.next()?)?);
    Some((name, gid, fields.next().unwrap_or_default()))
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && line[0] != b'#')
}

fn id(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.trim().parse().ok()
}

/// The text as an id, `None` if it is no number, an error if it is one out of range.
fn numeric(text: &str) -> Result<Option<u32>, ImageError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(number) if number <= MAX_ID => Ok(Some(number)),
        _ => Err(ImageError::IdRange(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"# comment:x:7:7::/comment:\nroot:x:0:0:root:/root:/bin/sh\n\n  web:x:33:34:Web:/srv:/bin/false\n\
        broken\n7:x:1007:1008::/seven:\nnohome:x:5:5\n\xff:x:9:9::/\xff:\nbig:x:4294967295:1::/:\n";
    const GROUP: &[u8] = b"root:x:0:\nweb:x:34:\nextra:x:50:a,web,root\nbroken\nmore:x:51:web\n8:x:1800:\n";

    #[test]
    fn dockers_rules() {
        let cases: &[(&str, u32, u32, &[u32], &str)] = &[
            ("", 0, 0, &[50], "/root"),
            ("root", 0, 0, &[50], "/root"),
            ("0", 0, 0, &[50], "/root"),
            ("web", 33, 34, &[50, 51], "/srv"),
            ("33", 33, 34, &[50, 51], "/srv"),
            ("web:extra", 33, 50, &[], "/srv"),
            ("web:123", 33, 123, &[], "/srv"),
            ("web:", 33, 34, &[50, 51], "/srv"),
            (":extra", 0, 50, &[], "/root"),
            ("7", 1007, 1008, &[], "/seven"),
            ("1:8", 1, 1800, &[], "/"),
            ("4711", 4711, 0, &[], "/"),
            ("nohome", 5, 5, &[], "/"),
        ];
        for (text, uid, gid, additional, home) in cases {
            let user = resolve(text, Some(PASSWD), Some(GROUP)).unwrap();
            let expected =
                User { uid: *uid, gid: *gid, additional_gids: additional.to_vec(), home: (*home).to_owned() };
            assert_eq!(user, expected, "{text}");
        }
    }

    #[test]
    fn without_files_only_numbers_are_known() {
        assert_eq!(resolve("", None, None).unwrap().home, "/");
        assert_eq!(resolve("5:6", None, None).unwrap().gid, 6);
        assert!(matches!(resolve("web", None, None), Err(ImageError::NoSuchUser(_))));
        assert!(matches!(resolve("5:web", None, None), Err(ImageError::NoSuchGroup(_))));
    }

    #[test]
    fn numbers_have_a_range() {
        for text in ["-1", "2147483648", "99999999999999999999", "1:-1", "1:4294967296"] {
            assert!(
                matches!(resolve(text, Some(PASSWD), Some(GROUP)), Err(ImageError::IdRange(_))),
                "{text}"
            );
        }
        assert!(resolve("2147483647", None, None).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_will_do(text in ".{0,12}", passwd: Vec<u8>, group: Vec<u8>) {
            let _ = resolve(&text, Some(&passwd), Some(&group));
        }
    }
}
