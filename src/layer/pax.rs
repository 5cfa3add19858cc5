//! The records of PAX headers in foreign tars (pax(1), "pax Extended Header"), and the keys that
//! say something about an entry. Values are bytes: attributes hold any, newlines included.

use crate::base::clock::Time;

use super::xattr;

/// What the PAX header before an entry says about it.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<Time>,
    pub xattrs: xattr::List,
    pub sparse: Sparse,
}

/// What GNU tar says about a file with holes in its PAX forms 0.0, 0.1 and 1.0.
#[derive(Debug, Default)]
pub(crate) struct Sparse {
    /// The map is at the beginning of the data (1.0).
    pub in_data: bool,
    /// Offsets and lengths in turn (0.0 and 0.1).
    pub map: Vec<u64>,
    pub size: Option<u64>,
    pub name: Option<Vec<u8>>,
}

impl Sparse {
    pub fn is_sparse(&self) -> bool {
        self.in_data || !self.map.is_empty() || self.size.is_some()
    }
}

/// Reads the records in `bytes`; the error says what is wrong with them.
pub(crate) fn parse(mut bytes: &[u8]) -> Result<Overrides, &'static str> {
    let mut found = Overrides::default();
    while !bytes.is_empty() {
        let (key, value, rest) = record(bytes).ok_or("a PAX record has no proper length, key or end")?;
        bytes = rest;
        // An empty value takes an earlier one back; the field of the header then holds.
        if !value.is_empty() || key.starts_with(b"SCHILY.xattr.") {
            found.set(key, value)?;
        }
    }
    found.xattrs.sort();
    Ok(found)
}

/// The first record: key, value and what follows.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(&bytes[..space])?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some((&body[..equals], &body[equals + 1..], rest))
}

impl Overrides {
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let count = || number(value).ok_or("a PAX record holds no number where one belongs");
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"uid" => self.uid = Some(count()?),
            b"gid" => self.gid = Some(count()?),
            b"mtime" => self.mtime = Some(time(value).ok_or("a PAX record holds no time where one belongs")?),
            b"size" => {
                if self.size.replace(count()?).is_some() {
                    return Err("a PAX header gives two sizes");
                }
            }
            b"GNU.sparse.major" => self.sparse.in_data |= value == b"1",
            b"GNU.sparse.name" => self.sparse.name = Some(value.to_vec()),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = Some(count()?),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse.map.push(count()?),
            b"GNU.sparse.map" => {
                let numbers = value.split(|byte| *byte == b',').map(number);
                self.sparse.map =
                    numbers.collect::<Option<_>>().ok_or("a PAX sparse map holds no numbers")?;
            }
            _ => self.set_xattr(key, value),
        }
        Ok(())
    }

    fn set_xattr(&mut self, key: &[u8], value: &[u8]) {
        let Some(name) = key.strip_prefix(b"SCHILY.xattr.") else { return };
        let name = unescape(name);
        self.xattrs.retain(|(other, _)| *other != name);
        if xattr::belongs(&name) && !name.contains(&0) {
            self.xattrs.push((name, value.to_vec()));
        }
    }
}

/// The reverse of how GNU tar writes `=` and `%` in the name of an attribute.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match rest.get(..3) {
            Some(b"%25") => (b'%', &rest[3..]),
            Some(b"%3D") => (b'=', &rest[3..]),
            _ => (*first, after),
        };
        plain.push(byte);
        rest = after;
    }
    plain
}

/// A decimal number that a file size can be.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    i64::try_from(number).ok().map(|_| number)
}

/// Seconds with an optional fraction, which is cut to nanoseconds.
fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let dot = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
    let seconds = i64::try_from(number(&text[..dot])?).ok()?;
    let mut fraction = text.get(dot + 1..).unwrap_or_default().to_vec();
    fraction.resize(9, b'0');
    let nanoseconds = u32::try_from(number(&fraction)?).ok()?;
    Some(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds },
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(key: &str, value: &[u8]) -> Vec<u8> {
        let rest = key.len() + value.len() + 3;
        let length = (1..).find(|length| rest + length.to_string().len() == *length).unwrap();
        [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
    }

    #[test]
    fn values_are_bytes() {
        let bytes = [
            line("path", b"a\n\xff=b"),
            line("SCHILY.xattr.user.b%3D%25", b"1\n2\0"),
            line("SCHILY.xattr.user.a", b""),
            line("SCHILY.xattr.security.selinux", b"label"),
            line("mtime", b"-1.25"),
            line("comment", b"ignored"),
            line("size", b"12"),
            line("linkpath", b""),
        ];
        let found = parse(&bytes.concat()).unwrap();
        assert_eq!(found.path.as_deref(), Some(&b"a\n\xff=b"[..]));
        assert_eq!(found.xattrs, [(b"user.a".to_vec(), vec![]), (b"user.b=%".to_vec(), b"1\n2\0".to_vec())]);
        assert_eq!(found.mtime, Some(Time { seconds: -2, nanoseconds: 750_000_000 }));
        assert_eq!((found.size, found.link), (Some(12), None));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for bad in [
            &b"x"[..],
            b"5 a=b\n",
            b"7 a=b\n",
            b"6 ab\n\n",
            b"99999999999999999999999 a=b\n",
            b"-1 a=b\n",
            b"3 a=b\n",
            b"0 ",
            b"9 size=x\n",
            b"10 size=-1\n",
            b"26 size=9223372036854775808\n",
            b"10 mtime=\xff\n",
        ] {
            assert!(parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(parse(&[line("size", b"1"), line("size", b"1")].concat()).is_err());
    }
}
