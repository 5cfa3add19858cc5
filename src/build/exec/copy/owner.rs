//! `--chown`: names looked up in the image's own passwd and group files (reference, "COPY
//! --chown"). A number alone stands for user and group; a user's name alone brings its group.

use crate::image::user;

/// Why an owner is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    /// The passwd file does not have it.
    #[error("there is no user `{0}` in the image's /etc/passwd")]
    User(String),
    /// The group file does not have it.
    #[error("there is no group `{0}` in the image's /etc/group")]
    Group(String),
    /// The text is not `user[:group]`.
    #[error("`{0}` is not an owner: write `user[:group]`")]
    Form(String),
}

/// Whether `text` cannot be resolved without the image's files.
pub fn needs_files(text: &str) -> bool {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    [user, group].iter().any(|part| !part.is_empty() && number(part).is_none())
}

/// Resolves `user[:group]` to their numbers; an absent file is an empty one.
pub fn resolve(text: &str, passwd: Option<&[u8]>, group: Option<&[u8]>) -> Result<(u32, u32), OwnerError> {
    let (user_name, group_name) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    if text.is_empty() || text == ":" || group_name.is_some_and(|name| name.contains(':')) {
        return Err(OwnerError::Form(text.to_owned()));
    }
    let (uid, own_group) = match (user_name, number(user_name)) {
        ("", _) => (0, 0),
        (_, Some(uid)) => (uid, uid),
        (name, None) => {
            let line = user::find_user(name, passwd.unwrap_or_default());
            line.map(|line| (line.uid, line.gid)).ok_or_else(|| OwnerError::User(name.to_owned()))?
        }
    };
    let gid = match group_name.filter(|name| !name.is_empty()) {
        None => own_group,
        Some(name) => match number(name) {
            Some(gid) => gid,
            None => user::resolve_group(name, group).map_err(|_| OwnerError::Group(name.to_owned()))?,
        },
    };
    Ok((uid, gid))
}

/// An id as a number; `None` for a name.
fn number(text: &str) -> Option<u32> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
        .filter(|id| *id <= i32::MAX as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners() {
        let passwd: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nbin:x:2:3::/bin:\n77:x:9:9::/:\n";
        let group: &[u8] = b"root:x:0:\nstaff:x:50:bin\n";
        for (text, expected) in [
            ("1", Ok((1, 1))),
            ("77", Ok((77, 77))),
            ("10:11", Ok((10, 11))),
            ("bin", Ok((2, 3))),
            ("bin:staff", Ok((2, 50))),
            ("55:staff", Ok((55, 50))),
            (":staff", Ok((0, 50))),
            ("bin:", Ok((2, 3))),
            ("nobody", Err(OwnerError::User("nobody".into()))),
            ("bin:wheel", Err(OwnerError::Group("wheel".into()))),
            ("", Err(OwnerError::Form(String::new()))),
            ("a:b:c", Err(OwnerError::Form("a:b:c".into()))),
        ] {
            assert_eq!(resolve(text, Some(passwd), Some(group)), expected, "{text}");
        }
        assert_eq!(resolve("1:2", None, None), Ok((1, 2)));
        assert_eq!(resolve("root", None, None), Err(OwnerError::User("root".into())));
        assert!(needs_files("a") && needs_files("1:b") && !needs_files("1:2") && !needs_files(":2"));
    }
}
