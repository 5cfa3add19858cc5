//! `--filter` of the lists of images and of pruning.

use crate::base::clock::Time;
use crate::store::Image;

use super::error::{Error, Result};
use super::units;

/// What images are asked for.
#[derive(Debug, Default)]
pub struct Filter {
    /// Untagged, or tagged.
    pub dangling: Option<bool>,
    /// Labels that must be there, with or without a value.
    pub labels: Vec<(String, Option<String>)>,
    /// Labels that must not be there.
    pub without: Vec<(String, Option<String>)>,
    /// Patterns of names, one of which must match.
    pub references: Vec<String>,
    /// Older than this.
    pub before: Option<Time>,
    /// Newer than this.
    pub since: Option<Time>,
}

impl Filter {
    /// Reads filters. `known` are the names the command knows; `created` gives the time of the
    /// image that `before` and `since` name.
    pub fn read(
        filters: &[(String, String)],
        known: &[&str],
        now: Time,
        created: impl Fn(&str) -> Result<Time>,
    ) -> Result<Self> {
        let mut filter = Self::default();
        for (name, value) in filters {
            let wrong = || Error::Filter { filter: format!("{name}={value}"), known: known.join(", ") };
            if !known.contains(&name.as_str()) {
                return Err(wrong());
            }
            let label = || match value.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (value.clone(), None),
            };
            match name.as_str() {
                "dangling" => match value.as_str() {
                    "true" | "1" => filter.dangling = Some(true),
                    "false" | "0" => filter.dangling = Some(false),
                    _ => return Err(wrong()),
                },
                "label" => filter.labels.push(label()),
                "label!" => filter.without.push(label()),
                "reference" => filter.references.push(value.clone()),
                "before" => filter.before = earliest(filter.before, created(value)?),
                "since" => filter.since = filter.since.max(Some(created(value)?)),
                "until" => {
                    let time = point_in_time(value, now).ok_or_else(wrong)?;
                    filter.before = earliest(filter.before, time);
                }
                _ => return Err(wrong()),
            }
        }
        Ok(filter)
    }

    /// Whether an image is asked for, names aside.
    pub fn takes(&self, image: &Image) -> bool {
        let created = created(image);
        let has = |(key, value): &(String, Option<String>)| {
            let found = image.config.config.labels.get(key);
            found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        };
        self.dangling.is_none_or(|dangling| dangling == is_dangling(image))
            && self.labels.iter().all(has)
            && !self.without.iter().any(has)
            && self.before.is_none_or(|before| created < before)
            && self.since.is_none_or(|since| created > since)
    }

    /// Whether one of an image's names is asked for.
    pub fn takes_name(&self, name: &str) -> bool {
        self.references.is_empty()
            || self.references.iter().any(|pattern| {
                let repository = name.split('@').next().unwrap_or(name);
                let repository = match repository.rsplit_once(':') {
                    Some((repository, tag)) if !tag.contains('/') => repository,
                    _ => repository,
                };
                matches(pattern, name) || matches(pattern, repository)
            })
    }
}

fn earliest(known: Option<Time>, time: Time) -> Option<Time> {
    Some(known.map_or(time, |known| known.min(time)))
}

/// Whether an image has no name.
pub fn is_dangling(image: &Image) -> bool {
    image.names.is_empty() && image.digests.is_empty()
}

/// When an image was made; 1970 if it does not say.
pub fn created(image: &Image) -> Time {
    image.config.created.as_deref().and_then(Time::parse_rfc3339).unwrap_or_default()
}

/// A time as `until` takes it: a span back from now, RFC 3339, a date, or seconds since 1970.
fn point_in_time(text: &str, now: Time) -> Option<Time> {
    if let Ok(span) = units::parse_duration(text) {
        return Some(Time::from_seconds(now.seconds.saturating_sub(span.as_secs().try_into().ok()?)));
    }
    let seconds = text.split('.').next().and_then(|whole| whole.parse().ok());
    seconds
        .map(Time::from_seconds)
        .or_else(|| Time::parse_rfc3339(text))
        .or_else(|| Time::parse_rfc3339(&format!("{text}Z")))
        .or_else(|| Time::parse_rfc3339(&format!("{text}T00:00:00Z")))
}

/// Whether a name fits a pattern with `*`, `?` and `[…]`, none of which matches a slash.
fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut place) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while place < name.len() {
        let step = one(&pattern, at, name[place]);
        if pattern.get(at) == Some(&'*') {
            star = Some((at, place));
            at += 1;
        } else if let Some(next) = step {
            at = next;
            place += 1;
        } else if let Some((back, taken)) = star.filter(|(_, taken)| name[*taken] != '/') {
            star = Some((back, taken + 1));
            (at, place) = (back + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

/// The place in the pattern behind what matches the character `c`.
fn one(pattern: &[char], at: usize, c: char) -> Option<usize> {
    match *pattern.get(at)? {
        '*' => None,
        '?' => (c != '/').then_some(at + 1),
        '\\' => (*pattern.get(at + 1)? == c).then_some(at + 2),
        '[' => {
            let end = at + 1 + pattern[at + 1..].iter().skip(1).position(|c| *c == ']')? + 1;
            let (negated, set) = match pattern[at + 1] {
                '^' | '!' => (true, &pattern[at + 2..end]),
                _ => (false, &pattern[at + 1..end]),
            };
            let mut found = false;
            let mut set = set.iter().copied().peekable();
            while let Some(first) = set.next() {
                let mut last = first;
                if set.peek() == Some(&'-') {
                    set.next();
                    last = set.next().unwrap_or('-');
                }
                found |= (first..=last).contains(&c);
            }
            (found != negated && c != '/').then_some(end + 1)
        }
        literal => (literal == c).then_some(at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("busybox", "busybox", true),
            ("busy*", "busybox", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("a/*:l?t*", "a/b:latest", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("[", "[", false),
            (r"\*", "*", true),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn names_match_with_and_without_a_tag() {
        let filter = |pattern: &str| Filter { references: vec![pattern.to_owned()], ..Filter::default() };
        assert!(filter("busybox").takes_name("busybox:latest"));
        assert!(filter("busybox:l*").takes_name("busybox:latest"));
        assert!(!filter("busybox:1").takes_name("busybox:latest"));
        assert!(filter("host:5000/a").takes_name("host:5000/a:1"));
    }

    #[test]
    fn times() {
        let now = Time::from_seconds(100_000);
        for (text, expected) in [
            ("1h", Some(96_400)),
            ("50", Some(50)),
            ("1970-01-02T00:00:00Z", Some(86_400)),
            ("1970-01-02T00:00:00", Some(86_400)),
            ("1970-01-02", Some(86_400)),
            ("yesterday", None),
        ] {
            assert_eq!(point_in_time(text, now), expected.map(Time::from_seconds), "{text}");
        }
    }
}
