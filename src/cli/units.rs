//! Sizes and spans of time as Docker prints and reads them: `4.26MB` (powers of 1000), `2 hours
//! ago`, and `64m` (powers of 1024) on the command line.

use std::time::Duration;

use crate::base::clock::Time;

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];

/// `bytes` with at most `digits` significant digits: 3 in lists, 4 in totals.
pub fn size(bytes: u64, digits: usize) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit < DECIMAL.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), DECIMAL[unit])
}

/// `value` with `digits` significant digits and no trailing zeros, never in exponent form.
fn significant(value: f64, digits: usize) -> String {
    let whole = if value < 1.0 { 1 } else { value.log10().floor() as usize + 1 };
    let text = format!("{value:.*}", digits.saturating_sub(whole));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A span of time in words: `Less than a second`, `About a minute`, `3 weeks`.
pub fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    let minutes = seconds / 60;
    let hours = (span.as_secs_f64() / 3600.0).round() as u64;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

/// `2 hours ago`; a time to come counts as now.
pub fn ago(then: Time, now: Time) -> String {
    let seconds = u64::try_from(now.seconds.saturating_sub(then.seconds)).unwrap_or(0);
    format!("{} ago", duration(Duration::from_secs(seconds)))
}

/// A point in time as the CREATED AT column prints it: `2024-05-01 10:00:00 +0000 UTC`.
pub fn timestamp(time: Time) -> String {
    let whole = Time::from_seconds(time.seconds).rfc3339();
    format!("{} +0000 UTC", whole.trim_end_matches('Z').replacen('T', " ", 1))
}

/// A size given on the command line: digits with an optional fraction and `b`, `k`, `m`, `g`, `t`
/// or `p`, each also with `b` or `ib` behind it, in powers of 1024.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("invalid size: '{text}'");
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let value: f64 = number.parse().map_err(|_| wrong())?;
    let suffix = suffix.strip_prefix(' ').unwrap_or(suffix).to_ascii_lowercase();
    let exponent = match suffix.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(wrong()),
    };
    let bytes = value * 1024f64.powi(exponent);
    if bytes.is_finite() && bytes < i64::MAX as f64 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// A Go duration: `90s`, `1h30m`, `1.5h`, `300ms`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("invalid duration \"{text}\"");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let factor = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        total += number * factor;
        rest = &rest[end..];
    }
    if text.is_empty() {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(total).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, digits, expected) in [
            (0, 3, "0B"),
            (1, 3, "1B"),
            (999, 3, "999B"),
            (1000, 3, "1kB"),
            (4_261_502, 3, "4.26MB"),
            (77_800_000, 3, "77.8MB"),
            (123_456_789, 3, "123MB"),
            (1_236_000_000, 4, "1.236GB"),
            (1_100_000, 4, "1.1MB"),
            (u64::MAX, 3, "18.4EB"),
        ] {
            assert_eq!(size(bytes, digits), expected);
        }
    }

    #[test]
    fn durations() {
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (120, "2 minutes"),
            (3_599, "59 minutes"),
            (3_600, "About an hour"),
            (2 * 3_600, "2 hours"),
            (47 * 3_600, "47 hours"),
            (48 * 3_600, "2 days"),
            (14 * 86_400, "2 weeks"),
            (60 * 86_400, "2 months"),
            (2 * 365 * 86_400, "2 years"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), expected, "{seconds}");
        }
        assert_eq!(ago(Time::from_seconds(10), Time::from_seconds(5)), "Less than a second ago");
        assert_eq!(timestamp(Time { seconds: 0, nanoseconds: 7 }), "1970-01-01 00:00:00 +0000 UTC");
    }

    #[test]
    fn sizes_are_read_in_powers_of_1024() {
        for (text, expected) in
            [("0", 0), ("64m", 64 << 20), ("1.5k", 1536), ("2GB", 2 << 30), ("7 MiB", 7 << 20), ("5b", 5)]
        {
            assert_eq!(parse_size(text), Ok(expected), "{text}");
        }
        for text in ["", "m", "-1", "1x", "1..2", "foo", "9999999999999p", "1e3"] {
            assert_eq!(parse_size(text), Err(format!("invalid size: '{text}'")));
        }
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        for text in ["", "5", "h", "1d", "-1s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
