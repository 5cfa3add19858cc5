//! `RUN --mount`: the options of each type (reference, "RUN --mount").

use pest::iterators::Pair;

use crate::base::diagnostic::Diagnostic;
use crate::base::similar::nearest;
use crate::base::span::Span;

use super::grammar::{self, Rule, inner, range};
use super::instruction::{CacheSharing, Mount, MountKind, SecretMount, Word};
use super::text::Text;
use super::{values, word};

/// The options of a mount by their first names, with the other names they go by.
const OPTIONS: &[(&str, &[&str])] = &[
    ("type", &[]),
    ("target", &["dst", "destination"]),
    ("source", &["src"]),
    ("from", &[]),
    ("readwrite", &["rw"]),
    ("readonly", &["ro"]),
    ("id", &[]),
    ("sharing", &[]),
    ("size", &[]),
    ("required", &[]),
    ("env", &[]),
    ("mode", &[]),
    ("uid", &[]),
    ("gid", &[]),
];

const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

/// The options that a type has besides `type`, `target`, `readonly` and `readwrite`, which all
/// have, though some do nothing by the last two.
fn options_of(kind: &str) -> &'static [&'static str] {
    match kind {
        "bind" => &["source", "from"],
        "cache" => &["source", "from", "id", "sharing", "mode", "uid", "gid"],
        "tmpfs" => &["size"],
        "secret" => &["source", "id", "env", "required", "mode", "uid", "gid"],
        _ => &["id", "required", "mode", "uid", "gid"],
    }
}

const COMMON: [&str; 4] = ["type", "target", "readonly", "readwrite"];

/// An option as written.
struct Given {
    name: &'static str,
    key: Text,
    value: Option<Text>,
}

impl Given {
    fn span(&self) -> Span {
        match &self.value {
            Some(value) => self.key.whole().to(value.whole()),
            None => self.key.whole(),
        }
    }
}

/// The mount that the value of a `--mount` describes. Faults go to `faults`; with any, nothing.
pub(crate) fn mount(text: &Text, escape: char, faults: &mut Vec<Diagnostic>) -> Option<Mount> {
    let before = faults.len();
    let mut options = Options { list: Vec::new(), escape, faults };
    options.read(text);
    let kind = options.kind();
    options.check_names(&kind);
    let mount = options.mount(&kind, text.whole());
    let lacks_target =
        mount.target.is_none() && !matches!(mount.kind, MountKind::Secret(_) | MountKind::Ssh(_));
    if lacks_target && faults.len() == before {
        let fault = Diagnostic::error(text.whole(), "this mount has no target");
        faults.push(fault.help("add `target=/path`"));
    }
    (faults.len() == before).then_some(mount)
}

struct Options<'f> {
    list: Vec<Given>,
    escape: char,
    faults: &'f mut Vec<Diagnostic>,
}

impl Options<'_> {
    fn read(&mut self, text: &Text) {
        let Some(parts) = grammar::parse(Rule::mount, text.as_str()) else { return };
        for part in inner(parts) {
            if self.faults.len() >= super::MAX_FAULTS {
                return;
            }
            let place = text.span(range(&part));
            match option(text, part) {
                Ok(option) => self.add(option),
                Err(key) if key.is_empty() => {
                    let fault = Diagnostic::error(place, "a mount option is empty");
                    self.faults.push(fault.help("write options as `key=value,key=value`, without blanks"));
                }
                Err(key) => {
                    let names =
                        OPTIONS.iter().flat_map(|(name, others)| std::iter::once(name).chain(*others));
                    let fault = Diagnostic::error(place, format!("unknown mount option `{key}`"));
                    self.faults.push(fault.did_you_mean(nearest(&key, names.copied())));
                }
            }
        }
    }

    fn add(&mut self, option: Given) {
        let bare = matches!(option.name, "readonly" | "readwrite" | "required");
        if option.value.is_none() && !bare {
            let key = option.key.as_str();
            let fault = Diagnostic::error(option.span(), format!("the mount option `{key}` needs a value"));
            return self.faults.push(fault.help(format!("write `{key}=…`")));
        }
        self.list.retain(|before| before.name != option.name);
        self.list.push(option);
    }

    fn find(&self, name: &str) -> Option<&Given> {
        self.list.iter().find(|option| option.name == name)
    }

    fn kind(&mut self) -> String {
        let Some(option) = self.find("type") else { return "bind".to_owned() };
        let kind = option.value.as_ref().map_or(String::new(), |value| value.as_str().to_ascii_lowercase());
        if !TYPES.contains(&kind.as_str()) {
            let fault = Diagnostic::error(option.span(), format!("unknown mount type `{kind}`"))
                .did_you_mean(nearest(&kind, TYPES))
                .help(format!("the types are {}", TYPES.join(", ")));
            self.faults.push(fault);
        }
        kind
    }

    fn check_names(&mut self, kind: &str) {
        if !TYPES.contains(&kind) {
            return;
        }
        let has = options_of(kind);
        let strange =
            self.list.iter().filter(|option| !has.contains(&option.name) && !COMMON.contains(&option.name));
        for option in strange {
            let key = option.key.as_str();
            let fault =
                Diagnostic::error(option.span(), format!("a mount of type `{kind}` has no option `{key}`"));
            self.faults.push(fault.help(format!("its options are target, {}", has.join(", "))));
        }
    }

    fn mount(&mut self, kind: &str, span: Span) -> Mount {
        let target = self.word("target");
        let kind = match kind {
            "cache" => MountKind::Cache {
                id: self.word("id"),
                from: self.word("from"),
                source: self.word("source"),
                sharing: self.sharing(),
                readonly: self.readonly(false),
                mode: self.checked("mode", |text| values::mode(text).err()),
                uid: self.checked("uid", |text| values::id(text).err()),
                gid: self.checked("gid", |text| values::id(text).err()),
            },
            "tmpfs" => MountKind::Tmpfs { size: self.checked("size", |text| values::size(text).err()) },
            "secret" => MountKind::Secret(self.secret(&target, span)),
            "ssh" => MountKind::Ssh(self.secret(&target, span)),
            _ => MountKind::Bind {
                from: self.word("from"),
                source: self.word("source"),
                writable: !self.readonly(true),
            },
        };
        Mount { span, kind, target }
    }

    fn secret(&mut self, target: &Option<Word>, span: Span) -> SecretMount {
        let source = self.word("source");
        let id = self.word("id");
        if let (Some(_), Some(source)) = (&id, &source) {
            self.faults.push(Diagnostic::error(source.span, "a secret has an `id` or a `source`, not both"));
        }
        let id = id.or(source);
        let is_secret = self.find("type").and_then(|option| option.value.as_ref());
        let is_secret = is_secret.is_some_and(|value| value.as_str().eq_ignore_ascii_case("secret"));
        if is_secret && id.is_none() && target.is_none() {
            let fault = Diagnostic::error(span, "this secret has no name");
            self.faults.push(fault.help("add `id=name`, or `target=/path`, whose last part is the name"));
        }
        SecretMount {
            id,
            env: self.word("env"),
            required: self.boolean("required").unwrap_or(false),
            mode: self.checked("mode", |text| values::mode(text).err()),
            uid: self.checked("uid", |text| values::id(text).err()),
            gid: self.checked("gid", |text| values::id(text).err()),
        }
    }

    fn sharing(&mut self) -> CacheSharing {
        const NAMES: [&str; 3] = ["shared", "private", "locked"];
        let Some(option) = self.find("sharing") else { return CacheSharing::Shared };
        let text = option.value.as_ref().map_or(String::new(), |value| value.as_str().to_ascii_lowercase());
        match text.as_str() {
            "shared" => CacheSharing::Shared,
            "private" => CacheSharing::Private,
            "locked" => CacheSharing::Locked,
            other => {
                let fault =
                    Diagnostic::error(option.span(), format!("a cache cannot be shared as `{other}`"))
                        .did_you_mean(nearest(other, NAMES))
                        .help("`sharing` is shared, private or locked");
                self.faults.push(fault);
                CacheSharing::Shared
            }
        }
    }

    /// Whether the mount is read-only; the later of `ro` and `rw` counts.
    fn readonly(&mut self, default: bool) -> bool {
        let last = self.list.iter().rev().find(|option| matches!(option.name, "readonly" | "readwrite"));
        let Some(name) = last.map(|option| option.name) else { return default };
        let given = self.boolean(name).unwrap_or(true);
        if name == "readonly" { given } else { !given }
    }

    fn boolean(&mut self, name: &str) -> Option<bool> {
        let option = self.find(name)?;
        let Some(value) = &option.value else { return Some(true) };
        let parsed = values::boolean(value.as_str());
        if parsed.is_none() {
            let message = format!("`{}` is `true` or `false`, not `{}`", option.key.as_str(), value.as_str());
            let fault = Diagnostic::error(option.span(), message);
            self.faults.push(fault);
        }
        parsed
    }

    /// An option as a word; an empty one counts as not given.
    fn word(&mut self, name: &str) -> Option<Word> {
        let value = self.find(name)?.value.as_ref().filter(|value| !value.as_str().is_empty())?;
        match word::word(value, self.escape) {
            Ok(word) => Some(word),
            Err(fault) => {
                self.faults.push(fault);
                None
            }
        }
    }

    /// An option as a word that `check` has nothing against, as far as it has no variables.
    fn checked(&mut self, name: &str, check: impl Fn(&str) -> Option<String>) -> Option<Word> {
        let word = self.word(name)?;
        if let Some(message) = word::literal(&word).and_then(|text| check(&text)) {
            self.faults.push(Diagnostic::error(word.span, message));
        }
        Some(word)
    }
}

/// An option, or the key that is the name of none.
fn option(text: &Text, part: Pair<'_, Rule>) -> Result<Given, String> {
    let mut key = Text::at(text.span(range(&part)).start, "");
    let mut value = None;
    for part in inner(part) {
        match part.as_rule() {
            Rule::plain_key => key = text.slice(range(&part)),
            Rule::plain_value => value = Some(text.slice(range(&part))),
            Rule::quoted_key => key = without_doubled_quotes(text, part),
            Rule::quoted_value => value = Some(without_doubled_quotes(text, part)),
            _ => {}
        }
    }
    let lower = key.as_str().to_ascii_lowercase();
    let known = OPTIONS.iter().find(|(name, others)| *name == lower || others.contains(&lower.as_str()));
    match known {
        Some((name, _)) => Ok(Given { name, key, value }),
        None => Err(key.as_str().to_owned()),
    }
}

fn without_doubled_quotes(text: &Text, part: Pair<'_, Rule>) -> Text {
    let mut plain = Text::at(text.span(range(&part)).start, "");
    for piece in inner(part) {
        let mut range = range(&piece);
        if piece.as_rule() == Rule::quoted_quote {
            range.start += 1;
        }
        plain.append(text, range);
    }
    plain
}
