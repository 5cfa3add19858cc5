//! What a name in FROM, `--from=` and `from=` stands for: a stage, a named context or an image.

use std::collections::HashMap;

use crate::base::diagnostic::Diagnostic;
use crate::base::reference::Reference;
use crate::base::similar;
use crate::base::span::Span;
use crate::dockerfile::instruction::{Dockerfile, Part, Word};

use super::PlanError;
use super::request::{NamedContext, PlanRequest};

/// What a name stands for, before any image is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin<'a> {
    /// No file at all.
    Scratch,
    /// The stage of this number.
    Stage(usize),
    /// A named context, under the name it was given.
    Context(&'a str, &'a NamedContext),
    /// An image.
    Image(Reference),
}

/// All names of one build.
#[derive(Debug)]
pub(super) struct Names<'a> {
    /// Stage names in lower case with their numbers, lowest first.
    stages: HashMap<String, Vec<usize>>,
    count: usize,
    contexts: HashMap<String, (&'a str, &'a NamedContext)>,
}

impl<'a> Names<'a> {
    /// The names of a Dockerfile's stages and of the contexts given.
    pub fn new(dockerfile: &'a Dockerfile, contexts: &'a [(String, NamedContext)]) -> Self {
        let mut stages: HashMap<String, Vec<usize>> = HashMap::new();
        for (number, stage) in dockerfile.stages.iter().enumerate() {
            if let Some(name) = &stage.from.name {
                stages.entry(name.value.to_ascii_lowercase()).or_default().push(number);
            }
        }
        let contexts = contexts.iter().map(|(name, context)| (normalised(name), (name.as_str(), context)));
        Self { stages, count: dockerfile.stages.len(), contexts: contexts.collect() }
    }

    /// The named context that takes the place of the stage or image `name`.
    pub fn context(&self, name: &str) -> Option<(&'a str, &'a NamedContext)> {
        // These two always mean the main context and no image.
        if name.eq_ignore_ascii_case("context") || name.eq_ignore_ascii_case("scratch") {
            return None;
        }
        self.contexts.get(&normalised(name)).copied()
    }

    /// What `FROM name` in stage `before` means.
    pub fn base(&self, name: &str, before: usize, span: Span) -> Result<Origin<'a>, Diagnostic> {
        if let Some(stage) = self.stage_before(name, before) {
            return Ok(Origin::Stage(stage));
        }
        self.outside(name, before, span)
    }

    /// What `--from=word` in stage `before` means; `None` for the main context.
    pub fn from(&self, word: &Word, before: usize) -> Result<Option<Origin<'a>>, Diagnostic> {
        let mut name = String::new();
        for part in &word.parts {
            match part {
                Part::Literal(text) => name.push_str(text),
                Part::Variable(variable) => {
                    let fault = "variables are not expanded here";
                    return Err(Diagnostic::error(variable.span, fault).help(
                        "name a stage, `FROM` may use variables: `FROM image:$TAG AS name`, then `from=name`",
                    ));
                }
            }
        }
        if name.is_empty() {
            return Ok(None);
        }
        self.source(&name, before, word.span).map(Some)
    }

    fn source(&self, name: &str, before: usize, span: Span) -> Result<Origin<'a>, Diagnostic> {
        if let Some(stage) = self.stage_before(name, before) {
            return Ok(Origin::Stage(stage));
        }
        if let Some(stage) = self.stages.get(&name.to_ascii_lowercase()).and_then(|numbers| numbers.first()) {
            return Err(self.too_early(*stage, before, name, span));
        }
        if let Ok(number) = name.parse::<usize>() {
            return match number {
                number if number < before => Ok(Origin::Stage(number)),
                number if number < self.count => Err(self.too_early(number, before, name, span)),
                _ => match self.context(name) {
                    Some((name, context)) => Ok(Origin::Context(name, context)),
                    None => Err(self.no_number(name, span)),
                },
            };
        }
        self.outside(name, before, span)
    }

    fn outside(&self, name: &str, before: usize, span: Span) -> Result<Origin<'a>, Diagnostic> {
        if name == "scratch" {
            return Ok(Origin::Scratch);
        }
        if let Some((name, context)) = self.context(name) {
            return Ok(Origin::Context(name, context));
        }
        match name.parse() {
            Ok(reference) => Ok(Origin::Image(reference)),
            Err(error) => Err(Diagnostic::error(span, format!("{error}"))
                .did_you_mean(self.nearest(name, before).as_deref())),
        }
    }

    fn too_early(&self, stage: usize, before: usize, name: &str, span: Span) -> Diagnostic {
        if stage == before {
            return Diagnostic::error(span, format!("stage `{name}` cannot copy from itself"));
        }
        Diagnostic::error(span, format!("stage `{name}` is defined after the stage that copies from it"))
            .help("move that stage up: a stage can use those above it only")
    }

    fn no_number(&self, name: &str, span: Span) -> Diagnostic {
        let stages = match self.count {
            1 => "there is one stage, number 0".to_owned(),
            count => format!("there are {count} stages, numbers 0 to {}", count - 1),
        };
        Diagnostic::error(span, format!("there is no stage number {name}: {stages}"))
    }

    fn stage_before(&self, name: &str, before: usize) -> Option<usize> {
        let numbers = self.stages.get(&name.to_ascii_lowercase())?;
        let end = numbers.partition_point(|number| *number < before);
        end.checked_sub(1).map(|at| numbers[at])
    }

    /// A stage above `before`, or a context, that was perhaps meant by `name`.
    pub fn nearest(&self, name: &str, before: usize) -> Option<String> {
        let stages = self.stages.iter().filter(|(_, numbers)| numbers[0] < before);
        let mut candidates: Vec<&str> = stages.map(|(name, _)| name.as_str()).collect();
        candidates.extend(self.contexts.values().map(|(name, _)| *name));
        candidates.sort_unstable();
        similar::nearest(name, candidates).map(str::to_owned)
    }

    /// The stage that is asked for.
    pub fn target(&self, request: &PlanRequest<'_>) -> Result<usize, PlanError> {
        let last = self.count.saturating_sub(1);
        let Some(name) = request.target.as_deref().filter(|name| !name.is_empty()) else { return Ok(last) };
        let numbered = || name.parse().ok().filter(|number| *number < self.count);
        self.stage_before(name, self.count).or_else(numbered).ok_or_else(|| {
            let mut names: Vec<&str> = self.stages.keys().map(String::as_str).collect();
            names.sort_unstable();
            PlanError::Target {
                name: name.to_owned(),
                nearest: similar::nearest(name, names).map(str::to_owned),
            }
        })
    }
}

/// The one form of all spellings of a name: that of an image reference where it is one, so that
/// `busybox` and `docker.io/library/busybox:latest` are one name, else in lower case.
fn normalised(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let reference = name.parse::<Reference>().or_else(|_| lower.parse());
    reference.map(|reference| reference.canonical()).unwrap_or(lower)
}

#[cfg(test)]
mod tests {
    use super::normalised;

    #[test]
    fn one_name_in_all_spellings() {
        for name in ["busybox", "BusyBox", "busybox:latest", "docker.io/library/busybox"] {
            assert_eq!(normalised(name), "docker.io/library/busybox:latest", "{name}");
        }
        assert_eq!(normalised("busybox:A"), "docker.io/library/busybox:A");
        assert_eq!(normalised("My_Stage-"), "my_stage-");
    }
}
