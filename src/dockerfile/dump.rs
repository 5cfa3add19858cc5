//! The form of a Dockerfile as JSON, for `kiln parse --json`.

use serde_json::{Value, json};

use super::syntax::{Args, File, Form};

/// `{"instructions": […]}`: each with `name` (in lower case), `flags`, `args`, `json`, `line`,
/// `end_line`, `heredocs` and `child` (the instruction behind ONBUILD, else null). The
/// here-documents of that instruction are listed with it and with ONBUILD.
pub fn dump(file: &File) -> Value {
    let instructions: Vec<Value> = file.instructions.iter().map(instruction).collect();
    json!({ "instructions": instructions })
}

fn instruction(form: &Form) -> Value {
    let flags: Vec<&str> = form.flags.iter().map(|flag| flag.raw.as_str()).collect();
    let (args, is_json) = args(&form.args);
    let heredocs: Vec<Value> = form
        .heredocs
        .iter()
        .map(|heredoc| {
            json!({
                "name": heredoc.name,
                "content": heredoc.content,
                "expand": heredoc.expand,
                "chomp": heredoc.chomp,
            })
        })
        .collect();
    let child = match &form.args {
        Args::Trigger(Some(child)) => instruction(child),
        _ => Value::Null,
    };
    json!({
        "name": form.name.as_str().to_lowercase(),
        "flags": flags,
        "args": args,
        "json": is_json,
        "line": form.lines.0,
        "end_line": form.lines.1,
        "heredocs": heredocs,
        "child": child,
    })
}

/// The arguments, and whether they are in JSON form.
fn args(args: &Args) -> (Vec<Value>, bool) {
    match args {
        Args::Json(strings) => (strings.iter().map(|text| text.as_str().into()).collect(), true),
        Args::Words(words) => (words.iter().map(|word| word.text.as_str().into()).collect(), false),
        Args::Line(line) => (line.iter().map(|text| text.as_str().into()).collect(), false),
        Args::Pairs(pairs) => {
            let pair = |key: &str, value: &str| json!({ "key": key, "value": value });
            (pairs.iter().map(|found| pair(found.key.as_str(), found.value.as_str())).collect(), false)
        }
        Args::Declarations(declarations) => {
            (declarations.iter().map(|found| found.raw.as_str().into()).collect(), false)
        }
        Args::Health(None) | Args::Trigger(_) => (Vec::new(), false),
        Args::Health(Some((word, command))) => {
            let (mut command, is_json) = self::args(command);
            command.insert(0, word.as_str().into());
            (command, is_json)
        }
    }
}
