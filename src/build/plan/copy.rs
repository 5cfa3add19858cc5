//! COPY and ADD to a vertex (reference, "COPY", "ADD").

use crate::base::diagnostic::Diagnostic;
use crate::dockerfile::instruction::{Copy, CopySource, Heredoc, Instruction, Word};
use crate::dockerfile::values;

use super::expansion;
use super::operation::{CopyOperation, Operation, Source};
use super::paths;
use super::stage::Stage;

/// What a source begins with that is not in the context.
const REMOTE: [&str; 5] = ["http://", "https://", "git://", "ssh://", "git@"];

impl Stage<'_, '_> {
    /// Lowers COPY or, if `add`, ADD.
    pub(super) fn copy(
        &mut self,
        instruction: &Instruction,
        copy: &Copy,
        add: bool,
    ) -> Result<(), Diagnostic> {
        let mut texts = Vec::new();
        let mut sources = Vec::new();
        for source in &copy.sources {
            let (source, text) = match source {
                CopySource::Path(word) => {
                    let text = self.expand(word)?;
                    // What has failed is reported already.
                    let Some(source) = self.source(word, &text, copy, add)? else { return Ok(()) };
                    (source, text)
                }
                CopySource::Heredoc(heredoc) => (self.inline(heredoc)?, format!("<<{}", heredoc.name)),
            };
            sources.push(source);
            texts.push(text);
        }
        let written = self.expand(&copy.destination)?;
        let destination = paths::destination(&self.state.config.config.working_dir, &written);
        if sources.len() > 1 && !destination.ends_with('/') {
            let fault = format!("several sources need a directory, and `{written}` is not written as one");
            return Err(Diagnostic::error(copy.destination.span, fault)
                .help(format!("end the destination in a slash: `{written}/`")));
        }
        let operation = CopyOperation {
            base: self.state.vertex,
            sources,
            destination,
            chown: self.optional(copy.chown.as_ref())?,
            chmod: self.mode(copy.chmod.as_ref())?,
            link: copy.link,
            parents: copy.parents,
            excludes: copy.excludes.iter().map(|word| self.expand(word)).collect::<Result<_, _>>()?,
            unpack: copy.unpack.unwrap_or(add),
        };
        let created_by = created_by(add, &operation, &texts, &written);
        self.step(Operation::Copy(Box::new(operation)), instruction.span, &instruction.text, created_by)
    }

    /// A path, which `--from` says the place of, or something remote.
    fn source(
        &mut self,
        word: &Word,
        text: &str,
        copy: &Copy,
        add: bool,
    ) -> Result<Option<Source>, Diagnostic> {
        if is_remote(text) {
            if !add {
                let fault = format!("COPY takes no remote source: `{text}`");
                return Err(Diagnostic::error(word.span, fault).help("use ADD for URLs and git repositories"));
            }
            return Ok(Some(Source::Remote(text.to_owned())));
        }
        let from = match &copy.from {
            None => Some(self.planner.main_context()),
            Some(name) => match self.planner.names.from(name, self.number)? {
                None => Some(self.planner.main_context()),
                Some(origin) => self.planner.files(&origin, name.span, self.number),
            },
        };
        Ok(from.map(|from| Source::Path { from, pattern: text.to_owned() }))
    }

    fn inline(&self, heredoc: &Heredoc) -> Result<Source, Diagnostic> {
        let content = if heredoc.chomp { without_tabs(&heredoc.content) } else { heredoc.content.clone() };
        let content = if heredoc.expand {
            expansion::heredoc(&content, heredoc.span, &self.state.scope.environment)?
        } else {
            content
        };
        Ok(Source::Inline { name: heredoc.name.clone(), content })
    }

    fn optional(&self, word: Option<&Word>) -> Result<Option<String>, Diagnostic> {
        let text = word.map(|word| self.expand(word)).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    fn mode(&self, word: Option<&Word>) -> Result<Option<String>, Diagnostic> {
        let Some(word) = word else { return Ok(None) };
        let Some(mode) = self.optional(Some(word))? else { return Ok(None) };
        if values::is_mode(&mode) {
            return Ok(Some(mode));
        }
        Err(Diagnostic::error(word.span, format!("`{mode}` is no file mode"))
            .help("write it in octal, such as 0755, or symbolic, such as u=rwX,go=rX"))
    }
}

/// `COPY --chown=1 a b /dst/`
fn created_by(add: bool, operation: &CopyOperation, sources: &[String], destination: &str) -> String {
    let mut words = vec![if add { "ADD" } else { "COPY" }.to_owned()];
    if operation.parents {
        words.push("--parents".to_owned());
    }
    words.extend(operation.chown.iter().map(|owner| format!("--chown={owner}")));
    words.extend(operation.chmod.iter().map(|mode| format!("--chmod={mode}")));
    words.extend(sources.iter().cloned());
    words.push(destination.to_owned());
    words.join(" ")
}

fn is_remote(source: &str) -> bool {
    REMOTE.iter().any(|prefix| source.starts_with(prefix))
}

/// A here-document's text without the tabs that its lines begin with.
pub(super) fn without_tabs(text: &str) -> String {
    text.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tabs() {
        assert_eq!(without_tabs("\t\ta\tb\n c\n\t\n"), "a\tb\n c\n\n");
        assert_eq!(without_tabs(""), "");
    }
}
