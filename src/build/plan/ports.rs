//! Ports as EXPOSE takes them: `[[ip:]port:]port[-port][/protocol]`. What stands before the
//! container's port is checked and dropped, as BuildKit does.

use std::net::IpAddr;

/// What is wrong with a port; completes "invalid port `…`: ".
pub(super) type Fault = &'static str;

const NUMBER: Fault = "a port is a number from 0 to 65535, or two of them with `-` between";

/// The ports a word stands for, each as `80/tcp`.
pub(super) fn parse(word: &str) -> Result<Vec<String>, Fault> {
    let (outside, inside) = match word.rsplit_once(':') {
        Some((outside, inside)) => (Some(outside), inside),
        None => (None, word),
    };
    let (port, protocol) = inside.split_once('/').unwrap_or((inside, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "" | "tcp" => "tcp",
        "udp" => "udp",
        "sctp" => "sctp",
        _ => return Err("a protocol is `tcp`, `udp` or `sctp`"),
    };
    let (first, last) = range(port)?;
    if let Some(outside) = outside {
        check_outside(outside, last - first)?;
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn range(text: &str) -> Result<(u16, u16), Fault> {
    let number = |text: &str| -> Result<u16, Fault> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            text.parse().map_err(|_| NUMBER)
        } else {
            Err(NUMBER)
        }
    };
    match text.split_once('-') {
        None => number(text).map(|port| (port, port)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            if first <= last { Ok((first, last)) } else { Err("a range of ports begins with the lower one") }
        }
    }
}

fn check_outside(outside: &str, width: u16) -> Result<(), Fault> {
    let (address, port) = match outside.rsplit_once(':') {
        Some((address, port)) => (Some(address), port),
        None => (None, outside),
    };
    if let Some(address) = address {
        let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
        if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
            return Err("what stands before the ports is not an IP address");
        }
    }
    if !port.is_empty() {
        let (first, last) = range(port)?;
        if width != 0 && last - first != width {
            return Err("the two ranges of ports differ in length");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (word, expected) in [
            ("80", "80/tcp"),
            ("80/TCP", "80/tcp"),
            ("53/udp", "53/udp"),
            ("8000-8002/sctp", "8000/sctp 8001/sctp 8002/sctp"),
            ("127.0.0.1:8080:80", "80/tcp"),
            ("[::1]:8080:80", "80/tcp"),
            ("8000-8001:80", "80/tcp"),
            ("65535", "65535/tcp"),
        ] {
            assert_eq!(parse(word).unwrap().join(" "), expected, "{word}");
        }
        for word in ["", "/tcp", "x", "80/x", "65536", "9-8", "1-2-3", "+80", "a:1:80", "1-3:80-81", "80 "] {
            assert!(parse(word).is_err(), "{word}");
        }
    }
}
