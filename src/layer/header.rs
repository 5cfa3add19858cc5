//! The fields of a 512-byte tar header, as the writers of the last forty years fill them.

use tar::Header;

use crate::base::clock::Time;

use super::tar::BLOCK;

/// Whether the checksum is right: the sum of all bytes, its own field taken as blanks. Some old
/// writers summed them as signed.
pub(crate) fn checksum_fits(block: &[u8; BLOCK]) -> bool {
    let Some(expected) = octal(&block[148..156]) else { return false };
    let plain =
        || block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
    let unsigned: u64 = plain().map(u64::from).sum();
    let signed: i64 = plain().map(|byte| i64::from(byte as i8)).sum();
    expected == unsigned || i64::try_from(expected) == Ok(signed)
}

/// The fields that an entry is made of.
pub(crate) struct Fields {
    pub kind: u8,
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    pub mtime: Time,
    pub device: (u64, u64),
}

impl Fields {
    /// Takes the fields out of a header; the error says which one is no number.
    pub fn parse(header: &Header) -> Result<Self, &'static str> {
        let old = header.as_old();
        let device = match header.as_ustar() {
            Some(ustar) => (&ustar.dev_major, &ustar.dev_minor),
            None => header.as_gnu().map_or((&[0; 8], &[0; 8]), |gnu| (&gnu.dev_major, &gnu.dev_minor)),
        };
        Ok(Self {
            kind: old.linkflag[0],
            path: header.path_bytes().into_owned(),
            link: text(&old.linkname).to_vec(),
            mode: number(&old.mode).ok_or("its mode is no number")? as u32 & 0o7777,
            uid: unsigned(&old.uid).ok_or("its owner is no number")?,
            gid: unsigned(&old.gid).ok_or("its group is no number")?,
            size: unsigned(&old.size).ok_or("its size is no number")?,
            mtime: Time::from_seconds(number(&old.mtime).ok_or("its time is no number")?),
            device: (
                unsigned(device.0).ok_or("its device is no number")?,
                unsigned(device.1).ok_or("its device is no number")?,
            ),
        })
    }
}

/// A text field up to its first zero byte.
pub(crate) fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A numeric field that cannot be negative.
pub(crate) fn unsigned(field: &[u8]) -> Option<u64> {
    u64::try_from(number(field)?).ok()
}

/// A numeric field: octal digits, nothing at all for zero, or where the first bit is set the
/// number itself, big-endian and signed (GNU).
fn number(field: &[u8]) -> Option<i64> {
    let Some((first, rest)) = field.split_first() else { return Some(0) };
    if first & 0x80 == 0 {
        return i64::try_from(octal(field)?).ok();
    }
    // The bit behind the mark is the sign.
    let start = i128::from((*first << 1) as i8 >> 1);
    let value = rest.iter().try_fold(start, |value, byte| {
        let value = value << 8 | i128::from(*byte);
        (value.unsigned_abs() < 1 << 100).then_some(value)
    })?;
    i64::try_from(value).ok()
}

fn octal(field: &[u8]) -> Option<u64> {
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let field = &field[start..];
    let end = field.iter().position(blank).unwrap_or(field.len());
    field[..end].iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_writers() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"644     ", Some(0o644)),
            (b"77777777", Some(0o77777777)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"", Some(0)),
            (b"12 34\0", Some(0o12)),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"0000x44\0", None),
            (b"-000001\0", None),
        ] {
            assert_eq!(number(field), expected, "{field:?}");
        }
        assert_eq!(unsigned(b"\xff\xff\xff\xff"), None);
    }

    #[test]
    fn checksums() {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[0] = 0xff;
        header.set_cksum();
        let mut block = *header.as_bytes();
        assert!(checksum_fits(&block));
        block[0] = 0xfe;
        assert!(!checksum_fits(&block));
        assert!(!checksum_fits(&[0; BLOCK]));
    }
}
