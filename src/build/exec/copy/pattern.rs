//! The sources of COPY and ADD: a pattern and a tree to the entries it names (reference, "Adding
//! files from the build context", "Pattern matching", "COPY --parents").
//!
//! Without `--parents`, literal components are followed through symbolic links, and so is what
//! the pattern names in the end: a link named as a source stands for what it leads to. Wildcards
//! match one component each and never look behind a link. With `--parents`, `/./` divides the
//! path into where it starts and what is kept of it; the kept part may hold `**`, and no link in
//! it is followed.

use std::collections::{BTreeSet, HashSet};

use crate::dockerfile::pattern::{Glob, PatternError};

use super::tree::{Node, Resolved, Tree, clean, join, name, resolve};

/// Something that a pattern names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Its path in the tree, free of links.
    pub path: Vec<u8>,
    /// The name it was found by: a copied link's own, not its target's.
    pub name: Vec<u8>,
    /// What is there.
    pub node: Node,
}

/// Why a source names nothing that can be copied; every path as the user would write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceError {
    /// Nothing is at this path.
    NotFound(Vec<u8>),
    /// This part of the path is no directory.
    NotDirectory(Vec<u8>),
    /// The path leads through too many symbolic links.
    Loop(Vec<u8>),
    /// This part of the pattern is malformed.
    Pattern(String, PatternError),
}

/// What `pattern` names in `tree`, sorted. A pattern without wildcards that names nothing is an
/// error; one with wildcards may name nothing.
pub fn matches(tree: &dyn Tree, pattern: &str) -> Result<Vec<Match>, SourceError> {
    let parts = parts(pattern)?;
    let literal: Vec<&str> = parts.iter().map_while(Glob::literal).collect();
    let prefix = literal.join("/").into_bytes();
    let start = follow(tree, &prefix);
    if literal.len() == parts.len() {
        return Ok(vec![Match { name: name(&prefix).to_vec(), ..start? }]);
    }
    // A wildcard below a directory that is not there matches nothing.
    let Ok(start) = start else { return Ok(Vec::new()) };
    let mut found = vec![start.path];
    for part in &parts[literal.len()..] {
        found = found.iter().flat_map(|directory| step(tree, directory, part)).collect();
    }
    let matched =
        found.into_iter().map(|path| Ok(Match { name: name(&path).to_vec(), ..follow(tree, &path)? }));
    matched.collect()
}

/// The components of a pattern, `..` taken back by name.
fn parts(pattern: &str) -> Result<Vec<Glob>, SourceError> {
    let mut kept: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(part),
        }
    }
    let compile = |part: &str| Glob::new(part).map_err(|error| SourceError::Pattern(part.to_owned(), error));
    kept.into_iter().map(compile).collect()
}

/// Follows `path` to its end.
fn follow(tree: &dyn Tree, path: &[u8]) -> Result<Match, SourceError> {
    match resolve(tree, path, true) {
        Resolved::Found(real, node) => Ok(Match { path: real, name: Vec::new(), node }),
        Resolved::Missing(_) => Err(SourceError::NotFound(path.to_vec())),
        Resolved::NotDirectory(part) => Err(SourceError::NotDirectory(part)),
        Resolved::Loop => Err(SourceError::Loop(path.to_vec())),
    }
}

/// The entries of the directory `path` that one component of a pattern matches, as paths.
fn step(tree: &dyn Tree, path: &[u8], part: &Glob) -> Vec<Vec<u8>> {
    if !tree.get(path).is_some_and(|node| node.kind.is_directory()) {
        return Vec::new();
    }
    if let Some(name) = part.literal() {
        let path = join(path, name.as_bytes());
        return tree.get(&path).map(|_| path).into_iter().collect();
    }
    let names = tree.names(path).into_iter().filter(|name| part.matches(name));
    names.map(|name| join(path, &name)).collect()
}

/// What a pattern names with `--parents`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentsMatch {
    /// The directory that the kept paths start from, free of links.
    pub base: Vec<u8>,
    /// The kept paths, sorted.
    pub kept: Vec<Vec<u8>>,
}

/// What `pattern` names in `tree` with `--parents`: a part per directory that the path before
/// `/./` names.
pub fn matches_with_parents(tree: &dyn Tree, pattern: &str) -> Result<Vec<ParentsMatch>, SourceError> {
    let (prefix, kept) = pattern.split_at(pattern.find("/./").unwrap_or(0));
    let mut parts = parts(kept)?;
    parts.dedup_by(|a, b| is_any(a) && is_any(b));
    let mut all = Vec::new();
    for start in matches(tree, prefix)? {
        if !start.node.kind.is_directory() {
            return Err(SourceError::NotDirectory(start.path));
        }
        let mut search = Search { tree, found: BTreeSet::new(), seen: HashSet::new() };
        search.descend(&start.path, &parts);
        let skip = if start.path.is_empty() { 0 } else { start.path.len() + 1 };
        let kept: Vec<Vec<u8>> =
            search.found.into_iter().map(|path| path[skip.min(path.len())..].to_vec()).collect();
        all.push(ParentsMatch { base: start.path, kept });
    }
    let literal = parts.iter().all(|part| part.literal().is_some());
    if literal && !all.is_empty() && all.iter().all(|part| part.kept.is_empty()) {
        return Err(SourceError::NotFound(clean(pattern.as_bytes())));
    }
    Ok(all)
}

/// Whether a component is `**`.
fn is_any(part: &Glob) -> bool {
    part.as_str() == "**"
}

struct Search<'t> {
    tree: &'t dyn Tree,
    found: BTreeSet<Vec<u8>>,
    /// Directories that were searched, with how many parts were left: `**` reaches some twice.
    seen: HashSet<(Vec<u8>, usize)>,
}

impl Search<'_> {
    /// Finds what `parts` name below `directory`. It recurses as deep as the tree, which is
    /// bounded by the length of a path.
    fn descend(&mut self, directory: &[u8], parts: &[Glob]) {
        if !self.seen.insert((directory.to_vec(), parts.len())) {
            return;
        }
        let Some((part, rest)) = parts.split_first() else {
            self.found.insert(directory.to_vec());
            return;
        };
        if is_any(part) {
            self.descend_any(directory, parts, rest);
            return;
        }
        for path in step(self.tree, directory, part) {
            match rest.is_empty() {
                true => drop(self.found.insert(path)),
                false => self.descend(&path, rest),
            }
        }
    }

    /// `**`: no component, or any number of directories.
    fn descend_any(&mut self, directory: &[u8], parts: &[Glob], rest: &[Glob]) {
        if !rest.is_empty() {
            self.descend(directory, rest);
        }
        for name in self.tree.names(directory) {
            let path = join(directory, &name);
            let is_directory = self.tree.get(&path).is_some_and(|node| node.kind.is_directory());
            match (rest.is_empty(), is_directory) {
                (true, _) => drop(self.found.insert(path)),
                (false, true) => self.descend(&path, parts),
                (false, false) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::fake::FakeTree;
    use super::*;

    fn shown(result: Result<Vec<Match>, SourceError>) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match result {
            Ok(all) => {
                let all = all.iter().map(|one| format!("{}:{}", text(&one.name), text(&one.path)));
                all.collect::<Vec<_>>().join(" ")
            }
            Err(SourceError::NotFound(path)) => format!("not found: {}", text(&path)),
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn sources() {
        let tree = FakeTree::new(
            "a.txt; b.txt; dir1/x; dir2/y; dir2/sub/z.txt; link -> dir2; flink -> a.txt; dead -> gone;
             [0].md; sub/deep/a.txt",
        );
        for (pattern, expected) in [
            ("a.txt", "a.txt:a.txt"),
            ("/./a.txt/", "a.txt:a.txt"),
            ("../../a.txt", "a.txt:a.txt"),
            (".", ":"),
            ("*.txt", "a.txt:a.txt b.txt:b.txt"),
            ("dir*", "dir1:dir1 dir2:dir2"),
            ("dir?/*", "x:dir1/x sub:dir2/sub y:dir2/y"),
            ("*/sub", "sub:dir2/sub"),
            ("link", "link:dir2"),
            ("link/*", "sub:dir2/sub y:dir2/y"),
            ("l*", "link:dir2"),
            ("l*/y", ""),
            ("flink", "flink:a.txt"),
            ("[[]0].md", "[0].md:[0].md"),
            ("nothing*", ""),
            ("gone/*", ""),
            ("gone/a", "not found: gone/a"),
            ("dead", "not found: dead"),
            ("*/*/a.txt", "a.txt:sub/deep/a.txt"),
        ] {
            assert_eq!(shown(matches(&tree, pattern)), expected, "{pattern}");
        }
        assert!(matches!(matches(&tree, "[a"), Err(SourceError::Pattern(..))));
        assert!(matches!(matches(&tree, "a.txt/b"), Err(SourceError::NotDirectory(_))));
    }

    #[test]
    fn parents() {
        let tree = FakeTree::new(
            "test/a/b/c/d/foo; test/a/b/c/d/e/bay; test/a/b2/c/d/e/bar; test/a/b/c2/d/e/baz; test/a/b/c2/d/e2/baz;
             src/a.txt; src/x/b.txt; src/x/y/c.txt; src/x/y/c.md",
        );
        for (pattern, expected) in [
            ("/test/a/b/./c/d", "test/a/b: c/d"),
            ("/test/a/b/c/d/.", ": test/a/b/c/d"),
            ("./test/a/b/c/d", ": test/a/b/c/d"),
            ("/test/a/./b/./c", "test/a: b/c"),
            ("/test/a/./*/c", "test/a: b/c b2/c"),
            ("/test/a/b*/./c/**/e", "test/a/b: c/d/e | test/a/b2: c/d/e"),
            ("/test/a/b/c*/./d/**/baz", "test/a/b/c:  | test/a/b/c2: d/e/baz d/e2/baz"),
            ("./src/**/*.txt", ": src/a.txt src/x/b.txt src/x/y/c.txt"),
            ("src/**/**/y", ": src/x/y"),
            ("src/x/**", ": src/x/b.txt src/x/y"),
            ("**/gone", ": "),
        ] {
            let found = matches_with_parents(&tree, pattern).unwrap();
            let text = |path: &Vec<u8>| String::from_utf8(path.clone()).unwrap();
            let part = |part: &ParentsMatch| {
                format!("{}: {}", text(&part.base), part.kept.iter().map(text).collect::<Vec<_>>().join(" "))
            };
            assert_eq!(found.iter().map(part).collect::<Vec<_>>().join(" | "), expected, "{pattern}");
        }
        assert!(matches_with_parents(&tree, "src/gone").is_err());
    }
}
