//! History: the texts of `created_by`, in the forms that BuildKit writes and tools read.

use crate::base::event::VertexId;

/// The comment of every entry that kiln adds.
pub const COMMENT: &str = "kiln.dockerfile.v0";

/// One entry that the build adds to the history of the base image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedHistory {
    /// What made it: `RUN /bin/sh -c make`.
    pub created_by: String,
    /// The step whose layer it describes, if that step makes one; `None` for an empty layer.
    pub vertex: Option<VertexId>,
}

/// A list of strings as Go's `%q` prints it: `["sh" "-c" "echo \"x\""]`.
pub(super) fn quoted_list(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(" "))
}

/// A string as Go's `%q` prints it.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Nanoseconds as Go prints a duration: `0s`, `500ms`, `1m30s`, `1h0m0s`.
pub(super) fn duration(nanoseconds: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    if nanoseconds < SECOND {
        let (unit, width, name) = match nanoseconds {
            0..1_000 => (1, 0, "ns"),
            1_000..1_000_000 => (1_000, 3, "µs"),
            _ => (1_000_000, 6, "ms"),
        };
        return format!("{}{name}", decimal(nanoseconds / unit, nanoseconds % unit, width));
    }
    let seconds = nanoseconds / SECOND;
    let last = decimal(seconds % 60, nanoseconds % SECOND, 9);
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{last}s"),
        (0, minutes) => format!("{minutes}m{last}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{last}s"),
    }
}

/// `whole.fraction` with `width` digits of fraction, trailing zeros dropped.
fn decimal(whole: u64, fraction: u64, width: usize) -> String {
    if fraction == 0 {
        return whole.to_string();
    }
    format!("{whole}.{}", format!("{fraction:0width$}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_quotes() {
        let list = ["sh", "-c", "echo \"a\\b\"\n\t'é'\u{1b}"].map(str::to_owned);
        assert_eq!(quoted_list(&list), r#"["sh" "-c" "echo \"a\\b\"\n\t'é'\x1b"]"#);
        assert_eq!(quoted_list(&[]), "[]");
    }

    #[test]
    fn go_durations() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (5_000_000_000, "5s"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (u64::MAX, "5124095h34m33.709551615s"),
        ] {
            assert_eq!(duration(nanoseconds), text);
        }
    }
}
