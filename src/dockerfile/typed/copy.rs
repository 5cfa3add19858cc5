//! COPY and ADD (reference, "COPY", "ADD").

use crate::base::diagnostic::Diagnostic;

use super::Typer;
use crate::dockerfile::flags::Takes;
use crate::dockerfile::instruction::{Copy, CopySource, Word};
use crate::dockerfile::syntax::{Args, WordForm};
use crate::dockerfile::text::Text;
use crate::dockerfile::{values, word};

impl Typer<'_> {
    pub(super) fn copy(&mut self) -> Option<Copy> {
        let is_copy = self.name == "COPY";
        let mut known = vec![
            ("chown", Takes::Value),
            ("chmod", Takes::Value),
            ("link", Takes::Boolean),
            ("exclude", Takes::Values),
        ];
        known.extend_from_slice(if is_copy {
            &[("from", Takes::Value), ("parents", Takes::Boolean)]
        } else {
            &[("checksum", Takes::Value), ("keep-git-dir", Takes::Boolean), ("unpack", Takes::Boolean)]
        });
        let flags = self.flags(&known);
        let (sources, destination) = self.sources()?;
        let chmod = flags.word("chmod", self.faults);
        self.check_chmod(chmod.as_ref());
        Some(Copy {
            sources,
            destination,
            from: flags.word("from", self.faults),
            chown: flags.word("chown", self.faults),
            chmod,
            link: flags.boolean("link").unwrap_or(false),
            parents: flags.boolean("parents").unwrap_or(false),
            excludes: flags.words("exclude", self.faults),
            checksum: flags.word("checksum", self.faults),
            keep_git_dir: flags.boolean("keep-git-dir").unwrap_or(false),
            unpack: flags.boolean("unpack"),
        })
    }

    fn sources(&mut self) -> Option<(Vec<CopySource>, Word)> {
        let plain = |text: &Text| WordForm { text: text.clone(), opener: None };
        let words: Vec<WordForm> = match &self.form.args {
            Args::Words(words) => words.clone(),
            Args::Json(strings) => strings.iter().map(plain).collect(),
            _ => Vec::new(),
        };
        let Some((last, first)) = words.split_last() else {
            return self.missing("a source and a destination");
        };
        if last.opener.is_some() {
            let message = "a here-document cannot be a destination";
            self.fault(
                last.text.whole(),
                message,
                format!("write `{} {} /path`", self.name, last.text.as_str()),
            );
            return None;
        }
        if first.is_empty() {
            let message = format!("{} needs a destination", self.name);
            self.fault(
                last.text.whole(),
                message,
                format!("write `{} {} /path`", self.name, last.text.as_str()),
            );
            return None;
        }
        for empty in words.iter().filter(|word| word.text.as_str().is_empty()) {
            self.faults.push(Diagnostic::error(empty.text.whole(), "a path is empty"));
        }
        let source = |word: &WordForm| match word.opener {
            Some(number) => self.form.heredocs.get(number).cloned().map(CopySource::Heredoc),
            None => self.word(&word.text).map(CopySource::Path),
        };
        let sources = first.iter().filter_map(source).collect();
        Some((sources, self.word(&last.text)?))
    }

    /// A mode without variables is octal or symbolic.
    fn check_chmod(&mut self, chmod: Option<&Word>) {
        let Some(chmod) = chmod else { return };
        let Some(text) = word::literal(chmod) else { return };
        if !values::is_mode(&text) {
            self.fault(
                chmod.span,
                format!("`{text}` is no file mode"),
                "write it in octal, such as 0755, or symbolic, such as u=rwX,go=rX",
            );
        }
    }
}
