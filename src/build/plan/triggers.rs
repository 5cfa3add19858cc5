//! ONBUILD triggers: texts in a base's config, run after FROM (reference, "ONBUILD"). They have
//! no place in the file, so their faults are shown at the FROM that brings them in.

use crate::base::diagnostic::Diagnostic;
use crate::base::span::Span;
use crate::dockerfile::instruction::Instruction;

/// The instructions of `texts`, which may come from any image.
pub(super) fn parse(texts: &[String], from: Span) -> Result<Vec<Instruction>, Diagnostic> {
    let parse = |text: &String| {
        crate::dockerfile::parse_trigger(text).map_err(|faults| {
            let first = faults.all.into_iter().next();
            let first = first.unwrap_or_else(|| Diagnostic::error(from, "it is no instruction"));
            fault(from, text, first)
        })
    };
    texts.iter().map(parse).collect()
}

/// A fault inside the trigger `text`, told at `from`.
pub(super) fn fault(from: Span, text: &str, fault: Diagnostic) -> Diagnostic {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Diagnostic { span: from, message: format!("in the base's `ONBUILD {text}`: {}", fault.message), ..fault }
}
