//! Signals as STOPSIGNAL takes them (reference, "STOPSIGNAL"; signal(7)).

const NAMES: &[&str] = &[
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "UNUSED", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];
/// How far `RTMIN+n` and `RTMAX-n` reach.
const REALTIME: u32 = 30;

/// Whether `text` is a signal: a number from 1 to 64, or a name with or without `SIG`, in any
/// case.
pub(super) fn is_signal(text: &str) -> bool {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<u32>().is_ok_and(|number| (1..=64).contains(&number));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = name.strip_prefix("RTMIN+").or_else(|| name.strip_prefix("RTMAX-"));
    match offset {
        Some(offset) => offset.parse::<u32>().is_ok_and(|offset| offset <= REALTIME),
        None => NAMES.contains(&name),
    }
}

/// The name nearest to `text`, with `SIG`.
pub(super) fn nearest(text: &str) -> Option<String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    crate::base::similar::nearest(name, NAMES.iter().copied()).map(|name| format!("SIG{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for text in ["SIGTERM", "term", "9", "64", "SIGRTMIN+3", "rtmax-14", "SIGRTMIN"] {
            assert!(is_signal(text), "{text}");
        }
        for text in ["", "0", "65", "SIG", "SIGFOO", "RTMIN+31", "RTMIN+x", "-9", "999999999999"] {
            assert!(!is_signal(text), "{text}");
        }
        assert_eq!(nearest("SIGTREM").as_deref(), Some("SIGTERM"));
    }
}
