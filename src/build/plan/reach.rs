//! Which stages the target needs, what each stands on, and the ONBUILD triggers it inherits.
//! The others cost nothing: their images are not looked up and their faults are not found.

use std::collections::BTreeMap;

use crate::base::diagnostic::Diagnostic;
use crate::base::platform::Platform;
use crate::base::span::Span;
use crate::dockerfile::instruction::{From, Instruction, Kind, MountKind, Stage, Word};

use super::expansion::expand;
use super::names::Origin;
use super::planner::{Image, Planner};
use super::request::NamedContext;
use super::triggers;

/// What a stage starts from.
#[derive(Debug, Clone)]
pub(super) enum Base<'a> {
    /// No file at all.
    Scratch,
    /// The result of an earlier stage.
    Stage(usize),
    /// An image.
    Image(Image),
    /// A named context that is a directory.
    Directory(&'a str),
}

/// A stage that the target needs.
#[derive(Debug, Clone)]
pub(super) struct Reached<'a> {
    /// What it starts from.
    pub base: Base<'a>,
    /// Its platform; a stage used as the base has a say of its own.
    pub platform: Platform,
    /// Whether a named context stands in for the whole stage, so that no instruction of it runs.
    pub replaced: bool,
    /// The triggers of its base, in their order.
    pub triggers: Vec<Instruction>,
}

/// The stages that stage `target` needs, itself included, by number. A stage whose base has a
/// fault is left out; the fault is with the planner's.
pub(super) fn reach<'a>(planner: &mut Planner<'a>, target: usize) -> BTreeMap<usize, Reached<'a>> {
    let mut reached = BTreeMap::new();
    // A stage needs lower numbers only, so that none is met again once it is taken.
    let mut pending = std::collections::BTreeSet::from([target]);
    while let Some(number) = pending.pop_last() {
        if planner.is_hopeless() {
            break;
        }
        let Some(stage) = planner.request.dockerfile.stages.get(number) else { continue };
        match settle(planner, number, stage) {
            Ok(Some(entry)) => {
                pending.extend(needs(planner, number, stage, &entry));
                reached.insert(number, entry);
            }
            Ok(None) => {}
            Err(fault) => planner.faults.push(fault),
        }
    }
    reached
}

/// What stage `number` starts from; `Ok(None)` for a fault that is reported already.
fn settle<'a>(
    planner: &mut Planner<'a>,
    number: usize,
    stage: &'a Stage,
) -> Result<Option<Reached<'a>>, Diagnostic> {
    let from = &stage.from;
    let asked = platform(planner, from)?;
    let wanted = asked.clone().unwrap_or_else(|| planner.request.target_platform().clone());
    let replacement = from.name.as_ref().and_then(|name| planner.names.context(&name.value));
    if let Some((name, context)) = replacement {
        let Some(base) = outside(planner, &Origin::Context(name, context), &wanted, from.span, number) else {
            return Ok(None);
        };
        let platform = base_platform(&base, wanted, false);
        return Ok(Some(Reached { base, platform, replaced: true, triggers: Vec::new() }));
    }
    let name = image_name(planner, from)?;
    let (base, texts) = match planner.names.base(&name, number, from.image.span)? {
        Origin::Scratch => (Base::Scratch, Vec::new()),
        Origin::Stage(below) => (Base::Stage(below), triggers_of(planner, below)),
        origin => {
            let Some(base) = outside(planner, &origin, &wanted, from.image.span, number) else {
                return Ok(None);
            };
            let texts = on_build(&base);
            (base, texts)
        }
    };
    let triggers = triggers::parse(&texts, from.span)?;
    let explicit = asked.is_some() || planner.request.platform.is_some();
    let platform = base_platform(&base, wanted, explicit);
    warn_of_platform(planner, &base, &platform, from);
    Ok(Some(Reached { base, platform, replaced: false, triggers }))
}

fn platform(planner: &Planner<'_>, from: &From) -> Result<Option<Platform>, Diagnostic> {
    let Some(word) = &from.platform else { return Ok(None) };
    let text = expand(word, &planner.globals)?;
    if text.is_empty() {
        return Err(blank(planner, word, "the platform"));
    }
    text.parse().map(Some).map_err(|error| Diagnostic::error(word.span, format!("{error}")))
}

fn image_name(planner: &Planner<'_>, from: &From) -> Result<String, Diagnostic> {
    let name = expand(&from.image, &planner.globals)?;
    if name.is_empty() { Err(blank(planner, &from.image, "the name of the base image")) } else { Ok(name) }
}

/// A word of FROM that came to nothing.
fn blank(planner: &Planner<'_>, word: &Word, what: &str) -> Diagnostic {
    let diagnostic = Diagnostic::error(word.span, format!("{what} is empty: `{}`", word.raw));
    let unset = super::expansion::variables(word).find(|name| planner.globals.get(name).is_none());
    match unset {
        None => diagnostic,
        Some(name) => {
            let declared = planner.request.dockerfile.global_args.iter().flat_map(|arg| &arg.declarations);
            let declared = declared.map(|declaration| declaration.name.value.as_str());
            let known: Vec<&str> = planner.globals.names().chain(declared).collect();
            match crate::base::similar::nearest(name, known.iter().copied().filter(|known| *known != name)) {
                _ if known.contains(&name) => {
                    diagnostic.help(format!("give it a value: `--build-arg {name}=…` or `ARG {name}=…`"))
                }
                None => diagnostic
                    .help(format!("FROM sees the ARGs above the first FROM only: add `ARG {name}=…` there")),
                nearest => diagnostic.did_you_mean(nearest),
            }
        }
    }
}

/// A base that is no stage of the file.
fn outside<'a>(
    planner: &mut Planner<'a>,
    origin: &Origin<'a>,
    platform: &Platform,
    span: Span,
    number: usize,
) -> Option<Base<'a>> {
    match origin {
        Origin::Context(name, NamedContext::Directory) => Some(Base::Directory(name)),
        origin => planner.image(origin, platform, span, number).map(Base::Image),
    }
}

/// The platform of a stage: the one asked for, else that of the image it was given.
fn base_platform(base: &Base<'_>, wanted: Platform, explicit: bool) -> Platform {
    match base {
        Base::Image(image) if !explicit && !image.resolved.config.architecture.is_empty() => {
            image.resolved.config.platform()
        }
        _ => wanted,
    }
}

fn warn_of_platform(planner: &mut Planner<'_>, base: &Base<'_>, platform: &Platform, from: &From) {
    let Base::Image(image) = base else { return };
    let config = &image.resolved.config;
    if config.architecture.is_empty() || config.platform().satisfies(platform) {
        return;
    }
    let message = format!("image `{}` is for {}, not for {platform}", image.name, config.platform());
    planner.warnings.push(Diagnostic::warning(from.span, message));
}

/// The triggers that stage `below` leaves to those on top of it.
fn triggers_of(planner: &mut Planner<'_>, below: usize) -> Vec<String> {
    let stage = &planner.request.dockerfile.stages[below];
    let replacement = stage.from.name.as_ref().and_then(|name| planner.names.context(&name.value));
    if let Some((name, context)) = replacement {
        let platform = planner.request.target_platform().clone();
        let origin = Origin::Context(name, context);
        return outside(planner, &origin, &platform, stage.from.span, below)
            .map(|base| on_build(&base))
            .unwrap_or_default();
    }
    let texts = stage.instructions.iter().filter_map(|instruction| match &instruction.kind {
        Kind::Onbuild(text) => Some(text.value.clone()),
        _ => None,
    });
    texts.collect()
}

fn on_build(base: &Base<'_>) -> Vec<String> {
    match base {
        Base::Image(image) => image.resolved.config.config.on_build.clone(),
        _ => Vec::new(),
    }
}

/// The stages that an entry needs. A name that is at fault is met again when it is lowered.
fn needs(planner: &Planner<'_>, number: usize, stage: &Stage, entry: &Reached<'_>) -> Vec<usize> {
    let mut needs = Vec::new();
    if let Base::Stage(below) = entry.base {
        needs.push(below);
    }
    if entry.replaced {
        return needs;
    }
    for instruction in entry.triggers.iter().chain(&stage.instructions) {
        for word in sources(instruction) {
            if let Ok(Some(Origin::Stage(source))) = planner.names.from(word, number) {
                needs.push(source);
            }
        }
    }
    needs
}

/// The words of an instruction that name where files come from.
fn sources(instruction: &Instruction) -> Vec<&Word> {
    match &instruction.kind {
        Kind::Copy(copy) => copy.from.iter().collect(),
        Kind::Run(run) => {
            let from = run.mounts.iter().filter_map(|mount| match &mount.kind {
                MountKind::Bind { from, .. } | MountKind::Cache { from, .. } => from.as_ref(),
                _ => None,
            });
            from.collect()
        }
        _ => Vec::new(),
    }
}
