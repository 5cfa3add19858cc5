//! Ignore files (`.dockerignore`): which paths of a build context are left out.
//!
//! In: the bytes of the file. Out: verdicts on paths. The last pattern that matches a path or one
//! of its parents decides; one with `!` takes the path back in. Lines that begin with `#` are
//! comments, white space around a pattern does not count, nor do slashes at its ends, `.` and
//! `..` are resolved, and patterns are those of [`Glob::recursive`].
//!
//! For a walk there is a [`Level`] per directory. It holds the decision inherited and the
//! patterns that can still change it, so that few are tried on each entry, and it says when a
//! whole subtree can be skipped.

use crate::base::diagnostic::{Diagnostic, Diagnostics};
use crate::base::span::{Source, Span};

use super::pattern::{Glob, PatternError, clean};

/// An ignore file.
#[derive(Debug, Default)]
pub struct IgnoreFile {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    glob: Glob,
    /// Whether it takes paths back in (`!`).
    keeps: bool,
}

/// What holds for the entries of one directory of a walk.
#[derive(Debug, Clone)]
pub struct Level {
    /// The last rule that matched the directory or one of its parents.
    last: Option<usize>,
    /// The later rules that may match below, the last one first.
    live: Vec<usize>,
    /// How many slashes the paths of the entries have.
    slashes: usize,
    ignored: bool,
    prunable: bool,
}

impl Level {
    /// Whether the directory itself is ignored.
    pub fn ignored(&self) -> bool {
        self.ignored
    }

    /// Whether everything below is ignored too, so that nothing need be looked at.
    pub fn prunable(&self) -> bool {
        self.prunable
    }
}

impl IgnoreFile {
    /// A file that ignores nothing.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Reads an ignore file, which errors call `name`.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, Diagnostics> {
        let text = String::from_utf8_lossy(bytes);
        let mut file = Self::default();
        let mut faults = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let pattern = if start == 0 { line.trim_start_matches('\u{feff}') } else { line };
            if !pattern.starts_with('#')
                && let Err(error) = file.add(pattern.trim())
            {
                let from = start + line.len() - line.trim_start_matches('\u{feff}').trim_start().len();
                let span = Span::new(from, from + line[from - start..].trim_end().len());
                faults.push(Diagnostic::error(span, error.to_string()));
            }
            start += line.len();
        }
        if faults.is_empty() {
            Ok(file)
        } else {
            Err(Diagnostics { source: Source::new(name, text), all: faults })
        }
    }

    /// The same from patterns that come from elsewhere (`COPY --exclude`).
    pub fn from_patterns<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Result<Self, PatternError> {
        let mut file = Self::default();
        for pattern in patterns {
            file.add(pattern.trim())?;
        }
        Ok(file)
    }

    /// Whether nothing is ever ignored.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    fn add(&mut self, pattern: &str) -> Result<(), PatternError> {
        let (keeps, pattern) = match pattern.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, pattern),
        };
        if pattern.is_empty() {
            return if keeps { Err(PatternError::Empty) } else { Ok(()) };
        }
        let pattern = clean(pattern);
        let pattern = pattern.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&pattern);
        self.rules.push(Rule { glob: Glob::recursive(pattern)?, keeps });
        Ok(())
    }

    /// Whether `path`, relative and without a slash at its ends, is ignored.
    pub fn is_ignored(&self, path: &[u8]) -> bool {
        let path = String::from_utf8_lossy(path);
        if path.is_empty() || path == "." {
            return false;
        }
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let parents: Vec<(usize, &str)> = ends.map(|end| &path[..end]).enumerate().collect();
        let matches =
            |rule: &&Rule| parents.iter().rev().any(|(slashes, path)| rule.glob.matches_text(path, *slashes));
        self.rules.iter().rev().find(matches).is_some_and(|rule| !rule.keeps)
    }

    /// The level of the root of a walk.
    pub fn root(&self) -> Level {
        let live = (0..self.rules.len()).rev().collect();
        Level { last: None, live, slashes: 0, ignored: false, prunable: false }
    }

    /// Whether `path`, a file in the directory of `level`, is ignored.
    pub fn entry(&self, level: &Level, path: &[u8]) -> bool {
        if level.live.is_empty() {
            return level.ignored;
        }
        self.decide(level, &String::from_utf8_lossy(path)).is_some_and(|last| !self.rules[last].keeps)
    }

    /// The level of `path`, a directory in the directory of `level`.
    pub fn directory(&self, level: &Level, path: &[u8]) -> Level {
        if level.live.is_empty() {
            return Level { slashes: level.slashes + 1, prunable: level.ignored, ..level.clone() };
        }
        let path = String::from_utf8_lossy(path);
        let last = self.decide(level, &path);
        let ignored = last.is_some_and(|last| !self.rules[last].keeps);
        let later = level.live.iter().copied().take_while(|rule| last.is_none_or(|last| *rule > last));
        let live: Vec<usize> =
            later.filter(|rule| self.rules[*rule].glob.may_match_below(&path, level.slashes)).collect();
        let prunable = ignored && live.iter().all(|rule| !self.rules[*rule].keeps);
        Level { last, live, slashes: level.slashes + 1, ignored, prunable }
    }

    /// The last rule that matches `path` or one of its parents.
    fn decide(&self, level: &Level, path: &str) -> Option<usize> {
        let matches = |rule: &&usize| self.rules[**rule].glob.matches_text(path, level.slashes);
        level.live.iter().find(matches).copied().or(level.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(file: &str, path: &str) -> bool {
        let file = IgnoreFile::parse(".dockerignore", file.as_bytes()).unwrap();
        let whole = file.is_ignored(path.as_bytes());
        assert_eq!(walked(&file, path.as_bytes()), whole, "the walk differs at {path}");
        whole
    }

    /// The verdict that a walk comes to.
    fn walked(file: &IgnoreFile, path: &[u8]) -> bool {
        let mut level = file.root();
        let ends: Vec<usize> = (0..path.len()).filter(|at| path[*at] == b'/').collect();
        for end in ends {
            level = file.directory(&level, &path[..end]);
            if level.prunable() {
                return true;
            }
        }
        file.entry(&level, path)
    }

    #[test]
    fn verdicts() {
        for (file, path, expected) in [
            ("", "a", false),
            ("a", "a", true),
            ("a", "a/b", true),
            ("a", "b/a", false),
            ("/a", "a", true),
            ("a/", "a/b", true),
            ("./a", "a", true),
            ("a/../b", "b", true),
            ("  a  ", "a", true),
            ("# a\na", "a", true),
            (" # a", "# a", true),
            ("#a", "#a", false),
            (r"\#a", "#a", true),
            ("\u{feff}a", "a", true),
            ("a\r\nb\r\n", "b", true),
            ("*", "a", true),
            ("*", "a/b", true),
            ("*.md", "a.md", true),
            ("*.md", "a/b.md", false),
            ("**/*.md", "a/b.md", true),
            ("*/*.md", "a/b.md", true),
            ("*.md\n!README.md", "README.md", false),
            ("*.md\n!README.md", "b.md", true),
            ("!README.md\n*.md", "README.md", true),
            ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
            ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", false),
            ("a\n!a/b", "a/b", false),
            ("a\n!a/b", "a/c", true),
            ("a\n!a/b", "a/b/c", false),
            ("*\n!src/**", "src/a/b", false),
            ("*\n!src/**", "src", true),
            ("*\n!src", "src/a", false),
            ("*\n!**/*.go", "a/b/c.go", false),
            ("x\n!x/y\nx", "x/y", true),
            ("**", "a/b", true),
            ("**\n!b", "b", false),
            (".", "a", false),
            ("/", "a", false),
            ("..", "a", false),
            ("../a", "a", false),
            ("! b", "b", false),
            ("*\n! b", "b", false),
            ("!!a", "a", false),
            ("a?", "ab", true),
            ("[ab]", "b", true),
            ("a b", "a b", true),
            ("node_modules\n**/node_modules", "x/node_modules/y/z", true),
            ("**/a", "x/a/y", true),
            ("a**b", "ab", true),
        ] {
            assert_eq!(ignored(file, path), expected, "{file:?} {path}");
        }
    }

    #[test]
    fn subtrees_are_pruned_where_nothing_can_come_back() {
        for (file, directory, expected) in [
            ("a", "a", true),
            ("a\n!b", "a", true),
            ("a\n!a/b", "a", false),
            ("a\n!**/x", "a", false),
            ("!**/x\na", "a", true),
            ("*\n!src/**", "src", false),
            ("*\n!src/**", "lib", true),
            ("*\n!*.md", "lib", true),
            ("a", "b", false),
        ] {
            let file = IgnoreFile::parse(".dockerignore", file.as_bytes()).unwrap();
            let level = file.directory(&file.root(), directory.as_bytes());
            assert_eq!(level.prunable(), expected, "{file:?} {directory}");
        }
    }

    /// Whether a pattern of plain characters, `*`, `?` and `**` matches, tried in every way.
    fn naive(pattern: &str, path: &str) -> bool {
        if let Some(rest) = pattern.strip_prefix("**") {
            let rest = rest.strip_prefix('/').unwrap_or(rest);
            let mut starts = std::iter::once(0).chain(path.match_indices('/').map(|(at, _)| at + 1));
            return rest.is_empty() || starts.any(|start| naive(rest, &path[start..]));
        }
        let Some(first) = pattern.chars().next() else { return path.is_empty() };
        let rest = &pattern[first.len_utf8()..];
        let mut shorter = path.chars();
        let next = shorter.next();
        match first {
            '*' => {
                naive(rest, path) || next.is_some_and(|next| next != '/') && naive(pattern, shorter.as_str())
            }
            '?' => next.is_some_and(|next| next != '/') && naive(rest, shorter.as_str()),
            other => next == Some(other) && naive(rest, shorter.as_str()),
        }
    }

    /// The verdict by the rules alone: every pattern on every parent, the last one decides.
    fn naive_verdict(patterns: &[String], path: &str) -> bool {
        let ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).collect();
        let mut ignored = false;
        for pattern in patterns {
            let (keeps, pattern) =
                pattern.strip_prefix('!').map_or((false, pattern.as_str()), |rest| (true, rest));
            if ends.iter().any(|end| naive(pattern, &path[..*end])) {
                ignored = !keeps;
            }
        }
        ignored
    }

    proptest::proptest! {
        #[test]
        fn as_the_naive_matcher(
            // `**` stands as a component: what else it means in Docker is in the tables.
            patterns in proptest::collection::vec(r"!?(\*\*/)?[ab*?]{1,2}(/\*\*)?(/[ab*?]{1,2}){0,2}(/\*\*)?", 0..6),
            path in "[ab]{1,2}(/[ab]{1,2}){0,4}",
        ) {
            let component = |part: &&str| *part != "**" && part.contains("**");
            let patterns: Vec<String> = patterns
                .into_iter()
                .filter(|pattern| !pattern.trim_start_matches('!').split('/').any(|part| component(&part)))
                .collect();
            let file = IgnoreFile::from_patterns(patterns.iter().map(String::as_str)).unwrap();
            let expected = naive_verdict(&patterns, &path);
            proptest::prop_assert_eq!(file.is_ignored(path.as_bytes()), expected, "{:?}", patterns);
            proptest::prop_assert_eq!(walked(&file, path.as_bytes()), expected, "walk {:?}", patterns);
        }
    }

    #[test]
    fn faults_name_their_line() {
        let faults = IgnoreFile::parse(".dockerignore", b"a\n  [a-  \n!\n").unwrap_err();
        insta::assert_snapshot!(faults.render(false), @r"
        error: .dockerignore:2: the bracket of a character class is not closed
         --> .dockerignore:2:3
          |
        2 |   [a-  
          |   ^^^

        error: .dockerignore:3: nothing follows `!`
         --> .dockerignore:3:1
          |
        3 | !
          | ^
        ");
    }
}
