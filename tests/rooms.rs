//! Holds the direction of imports: a room uses only rooms above it, `unsafe` stands in two files,
//! and only the command line prints.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, in the order in which they may use each other.
const ROOMS: [&str; 9] =
    ["base", "dockerfile", "image", "layer", "sandbox", "store", "build", "container", "cli"];
/// The rooms within `build`.
const BUILD_ROOMS: [&str; 5] = ["context", "plan", "solve", "exec", "export"];
/// `solve` knows operations only through its traits, so it is closed to these although they stand above it.
const SOLVE_NEVER: [&str; 2] = ["context", "plan"];
/// `sandbox/sys/init.rs` is no part of the library: a freestanding program of its own.
const UNSAFE: [&str; 3] = ["base/sys.rs", "sandbox/sys.rs", "sandbox/sys/init.rs"];

#[test]
fn imports_point_upwards() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(room) = ROOMS.iter().position(|room| path.starts_with(&format!("{room}/"))) else {
            continue;
        };
        for target in paths_after(&text, "crate::") {
            match ROOMS.iter().position(|room| *room == target[0]) {
                Some(used) if used > room => wrong.push(format!("{path} uses {}", target.join("::"))),
                Some(used) if ROOMS[used] == "build" && ROOMS[room] == "build" => {
                    wrong.extend(within_build(&path, &target));
                }
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "imports that point the wrong way:\n{}", wrong.join("\n"));
}

fn within_build(path: &str, target: &[String]) -> Option<String> {
    let inner = path.strip_prefix("build/")?;
    let room = BUILD_ROOMS.iter().position(|room| inner.starts_with(&format!("{room}/")))?;
    let target_room = target.get(1)?;
    let used = BUILD_ROOMS.iter().position(|room| room == target_room)?;
    let closed = BUILD_ROOMS[room] == "solve" && SOLVE_NEVER.contains(&BUILD_ROOMS[used]);
    (used > room || closed).then(|| format!("{path} uses {}", target.join("::")))
}

#[test]
fn other_rooms_are_named_from_the_crate() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let depth = path.matches('/').count();
        let up = "super::".repeat(depth + 1);
        for (number, line) in text.lines().enumerate() {
            if line.contains(&up) && !line.trim_start().starts_with("//") {
                wrong.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "cross-room paths not written from the crate:\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_stands_in_two_files_with_its_reasons() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            if !code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe") {
                continue;
            }
            let declares = code.contains("unsafe fn") || code.contains("unsafe extern");
            let before = &lines[number.saturating_sub(8)..=number];
            let reasoned = before.iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety"));
            if !UNSAFE.contains(&path.as_str()) || (!declares && !reasoned) {
                wrong.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "unsafe in the wrong place or without SAFETY:\n{}", wrong.join("\n"));
}

#[test]
fn only_the_command_line_prints() {
    let prints = ["println!(", "eprintln!(", "print!(", "eprint!(", "dbg!("];
    let mut wrong = Vec::new();
    let tests = test_modules();
    for (path, text) in sources().filter(|(path, _)| !path.starts_with("cli/") && !tests.contains(path)) {
        let lines = text
            .lines()
            .take_while(|line| !line.contains("#[cfg(test)]"))
            .filter(|line| !line.trim_start().starts_with("//"))
            .filter(|line| prints.iter().any(|print| line.contains(print)));
        wrong.extend(lines.map(|line| format!("{path}: {}", line.trim())));
    }
    assert!(wrong.is_empty(), "prints outside cli:\n{}", wrong.join("\n"));
}

/// All paths that start with `prefix` in `text`, as their components; braces one level deep are
/// taken apart (`crate::{a, b::c}`).
fn paths_after(text: &str, prefix: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        let rest = &text[at + prefix.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let group = &group[..group.find(';').unwrap_or(group.len())];
            found.extend(group.split(',').map(components));
        } else {
            found.push(components(rest));
        }
    }
    found
}

fn components(text: &str) -> Vec<String> {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':' || c.is_whitespace()));
    let path = &text[..end.unwrap_or(text.len())];
    path.split("::").map(|part| part.trim().to_owned()).collect()
}

/// The files that are declared as modules of tests only.
fn test_modules() -> Vec<String> {
    let mut modules = Vec::new();
    for (path, text) in sources() {
        let (dir, file) = path.rsplit_once('/').unwrap_or(("", &path));
        let stem = file.trim_end_matches(".rs");
        let dir = if matches!(stem, "mod" | "lib") { dir.to_owned() } else { format!("{dir}/{stem}") };
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]") {
            let name = pair[1].trim_start_matches("pub(crate) ").strip_prefix("mod ");
            if let Some(name) = name.and_then(|name| name.strip_suffix(';')) {
                modules.extend([format!("{dir}/{name}.rs"), format!("{dir}/{name}/mod.rs")]);
            }
        }
    }
    modules
}

/// Every source file of the library: its path under `src/` and its text.
fn sources() -> impl Iterator<Item = (String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 20, "the sources were not found under {}", root.display());
    files.into_iter().map(move |path| {
        let text = fs::read_to_string(&path).expect("a source file is readable");
        let relative = path.strip_prefix(&root).expect("collected under the root");
        (relative.display().to_string(), text)
    })
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a source directory is readable") {
        let path = entry.expect("a directory entry is readable").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
