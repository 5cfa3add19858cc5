//! Values with a form of their own: modes, ids, sizes, durations, booleans. They are judged when
//! an instruction is typed if they hold no variables, else after expansion; the errors are
//! sentences' ends (`is no …`) for the caller to put the value before.

/// A file mode in octal, at most 07777.
pub fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777 && digits(text));
    mode.ok_or_else(|| format!("`{text}` is no file mode in octal, such as 0755"))
}

/// Whether `text` is a mode for `--chmod`: octal, or symbolic as chmod(1) has it (`u=rwX,go=rX`).
pub fn is_mode(text: &str) -> bool {
    mode(text).is_ok() || text.split(',').all(is_clause)
}

/// `ugoa…` and at least one of `+-=` with permissions or the class to take them from.
fn is_clause(clause: &str) -> bool {
    let actions = clause.trim_start_matches(['u', 'g', 'o', 'a']);
    let mut permissions = actions.split(['+', '-', '=']);
    // What precedes the first operator must be nothing, and there must be an operator.
    permissions.next() == Some("")
        && !actions.is_empty()
        && permissions.all(|text| {
            matches!(text, "u" | "g" | "o")
                || text.chars().all(|c| matches!(c, 'r' | 'w' | 'x' | 'X' | 's' | 't'))
        })
}

/// A user or group number.
pub fn id(text: &str) -> Result<u32, String> {
    let id = text.parse().ok().filter(|_| digits(text));
    id.ok_or_else(|| format!("`{text}` is no user or group number"))
}

/// A size in bytes: a number with `b`, `k`, `m`, `g`, `t` or `p` (powers of 1024) behind it.
pub fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| format!("`{text}` is no size, such as 64m or 1.5g"))
}

fn parse_size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let lower = lower.strip_suffix('i').unwrap_or(lower);
    let (number, shift) = match lower.char_indices().next_back()? {
        (at, unit @ ('k' | 'm' | 'g' | 't' | 'p')) => (&lower[..at], 10 * (1 + "kmgtp".find(unit)?)),
        _ => (lower, 0),
    };
    let number = number.strip_suffix(' ').unwrap_or(number);
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !plain || !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') {
        return None;
    }
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift);
    }
    let bytes = number.parse::<f64>().ok()? * (1u64 << shift) as f64;
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// A boolean as Go writes them.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A duration as Go writes them (`1m30s`, `1.5h`), in nanoseconds.
pub fn duration(text: &str) -> Result<i64, String> {
    parse_duration(text).ok_or_else(|| format!("`{text}` is no duration, such as 30s or 1m30s"))
}

fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number = &rest[..rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len())];
        rest = &rest[number.len()..];
        let (unit, nanoseconds) = unit(rest)?;
        rest = &rest[unit.len()..];
        total = total.checked_add(decimal(number, nanoseconds)?)?;
        if total > i128::from(i64::MAX) {
            return None;
        }
    }
    let total = i64::try_from(total).ok()?;
    Some(if negative { -total } else { total })
}

/// The unit that `rest` begins with, and its nanoseconds.
fn unit(rest: &str) -> Option<(&'static str, i128)> {
    const UNITS: [(&str, i128); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    UNITS.into_iter().find(|(unit, _)| rest.starts_with(unit))
}

/// `number` (digits and at most one point) times `unit`, rounded down.
fn decimal(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || fraction.contains('.') || whole.len() > 19 {
        return None;
    }
    let value = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i128>().ok() };
    let fraction = &fraction[..fraction.len().min(18)];
    let part = value(fraction)? * unit / 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    value(whole)?.checked_mul(unit)?.checked_add(part)
}

fn digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_s() {
        const SECOND: i64 = 1_000_000_000;
        for (text, expected) in [
            ("30s", Some(30 * SECOND)),
            ("1m30s", Some(90 * SECOND)),
            ("1.5h", Some(5400 * SECOND)),
            (".5s", Some(SECOND / 2)),
            ("1.s", Some(SECOND)),
            ("0", Some(0)),
            ("-1s", Some(-SECOND)),
            ("+1s", Some(SECOND)),
            ("5us", Some(5000)),
            ("5µs", Some(5000)),
            ("100ms", Some(SECOND / 10)),
            ("2562047h47m16.854775807s", Some(i64::MAX)),
            ("2562047h47m16.854775808s", None),
            ("99999999999999999999h", None),
            ("", None),
            ("-", None),
            ("5", None),
            ("5 s", None),
            (".s", None),
            ("1..5s", None),
            ("1d", None),
            ("s", None),
        ] {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes_modes_and_ids() {
        for (text, expected) in [
            ("0", Some(0)),
            ("100", Some(100)),
            ("32b", Some(32)),
            ("1k", Some(1024)),
            ("64m", Some(64 << 20)),
            ("64MB", Some(64 << 20)),
            ("64MiB", Some(64 << 20)),
            ("1.5g", Some(3 << 29)),
            ("1 g", Some(1 << 30)),
            ("99999999p", None),
            ("m", None),
            ("", None),
            ("-1", None),
            ("1e3", None),
            ("0x10", None),
            ("1.", None),
            ("inf", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
        assert_eq!(mode("0755"), Ok(0o755));
        assert_eq!(mode("7777"), Ok(0o7777));
        assert!(["", "+7", "8", "10000", "0o7"].iter().all(|text| mode(text).is_err()));
        assert!(["644", "+x", "u=rwX,go=rX", "g=u", "a-w+r", "=", "u+s,+t"].iter().all(|text| is_mode(text)));
        assert!(["", "rwx", "+q", "u", "u=rw,", "x+u", "999", "u=ug"].iter().all(|text| !is_mode(text)));
        assert_eq!(id("1000"), Ok(1000));
        assert!(["", "-1", "+1", "root", "4294967296"].iter().all(|text| id(text).is_err()));
    }
}
