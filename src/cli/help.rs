//! Help texts in Docker's form, made from what clap knows of a command.

use std::fmt::Write;

use clap::{Arg, ArgAction, Command};

/// The heading of options that Docker does not have.
pub const OWN: &str = "Kiln options";

/// The help of one command. `aliases` are all its spellings, `usage` what follows the path.
pub fn command(command: &Command, path: &str, usage: &str, aliases: &[String], width: usize) -> String {
    let mut help = format!("Usage:  {path} {usage}").trim_end().to_owned();
    if let Some(about) = command.get_about() {
        let _ = write!(help, "\n\n{about}");
    }
    if aliases.len() > 1 {
        let _ = write!(help, "\n\nAliases:\n  {}", aliases.join(", "));
    }
    let mut args: Vec<&Arg> = command.get_opts().filter(|arg| !arg.is_hide_set()).collect();
    args.sort_by_key(|arg| arg.get_long());
    let (own, docker): (Vec<&Arg>, Vec<&Arg>) =
        args.into_iter().partition(|arg| arg.get_help_heading() == Some(OWN));
    for (heading, args) in [("Options", docker), (OWN, own)] {
        if !args.is_empty() {
            let rows: Vec<(String, String)> = args.into_iter().map(row).collect();
            let _ = write!(help, "\n\n{heading}:\n{}", list(&rows, width));
        }
    }
    if let Some(after) = command.get_after_help() {
        let _ = write!(help, "\n\n{after}");
    }
    help.push('\n');
    help
}

/// `  -f, --file string` and what it does.
fn row(arg: &Arg) -> (String, String) {
    let mut flag = match arg.get_short() {
        Some(short) => format!("  -{short}, "),
        None => "      ".to_owned(),
    };
    let _ = write!(flag, "--{}", arg.get_long().unwrap_or_default());
    let boolean = arg.get_num_args().is_some_and(|range| range.min_values() == 0)
        || !matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    if !boolean && let Some([name, ..]) = arg.get_value_names() {
        let _ = write!(flag, " {name}");
    }
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let default = arg.get_default_values().first().and_then(|value| value.to_str());
    if let Some(default) =
        default.filter(|default| !arg.is_hide_default_value_set() && (!boolean || *default != "false"))
    {
        let quoted = if boolean || default.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
            default.to_owned()
        } else {
            format!("\"{default}\"")
        };
        let _ = write!(text, " (default {quoted})");
    }
    (flag, text)
}

/// Rows in two columns, the second wrapped to `width`.
pub fn list(rows: &[(String, String)], width: usize) -> String {
    let left = rows.iter().map(|(flag, _)| flag.chars().count()).max().unwrap_or(0) + 3;
    let room = width.saturating_sub(left + 1).max(20);
    let mut lines = Vec::new();
    for (flag, text) in rows {
        let wrapped = text.split('\n').flat_map(|line| wrap(line, room));
        for (at, line) in wrapped.enumerate() {
            let flag = if at == 0 { flag.as_str() } else { "" };
            lines.push(format!("{flag:<left$}{line}").trim_end().to_owned());
        }
    }
    lines.join("\n")
}

fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
