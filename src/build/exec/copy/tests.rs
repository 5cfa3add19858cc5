//! What is copied where, on abstract trees.

use super::pattern::SourceError;
use super::placing::select;
use super::selection::{Conflict, From, Item, ItemKind, Rules, What};
use super::tree::NodeKind;
use super::tree::fake::{FakeTree, node};
use crate::dockerfile::pattern::Glob;

struct Case<'a> {
    base: &'a str,
    context: &'a str,
    sources: &'a [&'a str],
    to: &'a str,
    excludes: &'a [&'a str],
    parents: bool,
    archives: &'a [&'a str],
}

const CASE: Case<'static> =
    Case { base: "", context: "", sources: &[], to: "/", excludes: &[], parents: false, archives: &[] };

fn run(case: &Case<'_>) -> Result<String, Conflict> {
    let (base, context) = (FakeTree::new(case.base), FakeTree::new(case.context));
    let unpack = |path: &[u8]| case.archives.iter().any(|archive| archive.as_bytes() == path);
    let excluded =
        |path: &[u8]| case.excludes.iter().any(|pattern| Glob::new(pattern).unwrap().matches(path));
    let sources: Vec<From<'_>> = case
        .sources
        .iter()
        .map(|source| From { tree: &context, what: What::Pattern(source), keep_owner: true, unpack: &unpack })
        .collect();
    let rules =
        Rules { destination: case.to, parents: case.parents, mode: None, owner: None, excluded: &excluded };
    let selection = select(&base, &sources, &rules)?;
    let mut lines = Vec::new();
    for item in &selection.items {
        let mark = match &item.kind {
            ItemKind::Directory => "/".to_owned(),
            ItemKind::Symlink(target) => format!(" -> {}", String::from_utf8_lossy(target)),
            ItemKind::HardLink(target) => format!(" = {}", String::from_utf8_lossy(target)),
            _ => String::new(),
        };
        let from =
            selection.source_path(item).map(|(_, path)| format!(" < {}", String::from_utf8(path).unwrap()));
        let owner = if item.uid == 0 { "!" } else { "" };
        lines.push(format!(
            "{}{mark}{owner}{}",
            String::from_utf8_lossy(&item.path),
            from.unwrap_or_default()
        ));
    }
    let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    lines.extend(selection.archives.iter().map(|a| format!("{} >> {}", text(&a.path), text(&a.to))));
    Ok(lines.join("; "))
}

#[test]
fn placements() {
    let context =
        "a.txt; b.txt; dir/x; dir/sub/y; dir/sub/z; empty/; link -> dir; dir/l -> x; s =; p |; d2/x";
    for (base, sources, to, expected) in [
        // A file to a path, to a directory by its slash, to a directory that is there.
        ("", &["a.txt"][..], "/new/f", "new/!; new/f < a.txt"),
        ("", &["a.txt"], "/new/", "new/!; new/a.txt < a.txt"),
        ("etc/", &["a.txt"], "/etc", "etc/; etc/a.txt < a.txt"),
        ("etc/", &["a.txt", "b.txt"], "/etc", "etc/; etc/a.txt < a.txt; etc/b.txt < b.txt"),
        ("f", &["a.txt"], "/f", "f < a.txt"),
        ("usr/lib/; lib -> usr/lib", &["a.txt"], "/lib/", "usr/; usr/lib/; usr/lib/a.txt < a.txt"),
        ("f -> deep/g", &["a.txt"], "/f", "deep/!; deep/g < a.txt"),
        ("etc/a.txt -> x", &["a.txt"], "/etc/", "etc/; etc/a.txt < a.txt"),
        // A directory's contents; links inside it stay links.
        (
            "",
            &["dir"],
            "/",
            "l -> x < dir/l; sub/ < dir/sub; sub/y < dir/sub/y; sub/z < dir/sub/z; x < dir/x",
        ),
        (
            "",
            &["link"],
            "/d",
            "d/!; d/l -> x < dir/l; d/sub/ < dir/sub; d/sub/y < dir/sub/y; d/sub/z < dir/sub/z; d/x < dir/x",
        ),
        ("", &["dir/l"], "/f", "f < dir/x"),
        ("", &["empty"], "/a/b", "a/!; a/b/!"),
        ("sub/", &["dir/sub", "dir/sub/y"], "/", "y < dir/sub/y; z < dir/sub/z"),
        // Later sources win.
        ("", &["dir/x", "d2/x"], "/", "x < d2/x"),
        ("", &["*.txt"], "/t/", "t/!; t/a.txt < a.txt; t/b.txt < b.txt"),
        (
            "",
            &["d*"],
            "/t",
            "t/!; t/l -> x < dir/l; t/sub/ < dir/sub; t/sub/y < dir/sub/y; t/sub/z < dir/sub/z; t/x < dir/x",
        ),
        ("", &["nothing*"], "/t/", ""),
        ("", &["p"], "/", "p < p"),
    ] {
        let case = Case { base, context, sources, to, ..CASE };
        assert_eq!(run(&case).as_deref(), Ok(expected), "{sources:?} to {to} on {base}");
    }
}

#[test]
fn conflicts() {
    let context = "a.txt; b.txt; dir/sub/y; s =; .wh.x; w/.wh..wh..opq";
    let path = |text: &str| text.as_bytes().to_vec();
    for (base, sources, to, expected) in [
        ("f", &["dir"][..], "/f", Conflict::OntoFile { path: path("f"), link: None }),
        ("f", &["a.txt"], "/f/", Conflict::OntoFile { path: path("f"), link: None }),
        ("f", &["a.txt"], "/f/x", Conflict::Destination(path("f"))),
        ("sub", &["dir"], "/", Conflict::OntoFile { path: path("sub"), link: None }),
        ("o/; sub -> o", &["dir"], "/", Conflict::OntoFile { path: path("sub"), link: Some(path("o")) }),
        ("e/a.txt/x", &["a.txt"], "/e/", Conflict::OntoDirectory(path("e/a.txt"))),
        ("l -> l", &["a.txt"], "/l/", Conflict::DestinationLoop),
        ("", &["a.txt", "b.txt"], "/f", Conflict::Several(path("f"))),
        ("", &["?.txt"], "/f", Conflict::Several(path("f"))),
        ("", &["s"], "/", Conflict::Socket(path("s"))),
        ("", &[".wh.x"], "/", Conflict::Whiteout(path(".wh.x"))),
        ("", &["w"], "/", Conflict::Whiteout(path(".wh..wh..opq"))),
        ("", &["a.txt", "gone"], "/", Conflict::Source(1, SourceError::NotFound(path("gone")))),
    ] {
        let case = Case { base, context, sources, to, ..CASE };
        assert_eq!(run(&case), Err(expected), "{sources:?} to {to} on {base}");
    }
}

#[test]
fn excludes_parents_and_archives() {
    let context = "home.txt; home.md; dir/a.png; dir/a.txt; x/y/a.txt; x/y/b.md; a.tar";
    let all = &["*.txt", "*/*.png"][..];
    for (case, expected) in [
        (Case { sources: &["hom*"], to: "/m/", ..CASE }, "m/!; m/home.md < home.md"),
        (Case { sources: &["dir"], to: "/m", ..CASE }, "m/!; m/a.png < dir/a.png"),
        (
            Case { sources: &["."], to: "/m", ..CASE },
            "m/!; m/a.tar < a.tar; m/dir/ < dir; m/dir/a.txt < dir/a.txt; m/home.md < home.md; m/x/ < x; m/x/y/ < x/y; \
             m/x/y/a.txt < x/y/a.txt; m/x/y/b.md < x/y/b.md",
        ),
        (Case { sources: &["home.txt"], to: "/m", ..CASE }, ""),
        (
            Case { sources: &["x/y/*.md"], to: "/m", parents: true, ..CASE },
            "m/!; m/x/ < x; m/x/y/ < x/y; m/x/y/b.md < x/y/b.md",
        ),
        (
            Case { sources: &["x/./y"], to: "/m/", parents: true, ..CASE },
            "m/!; m/y/ < x/y; m/y/a.txt < x/y/a.txt; m/y/b.md < x/y/b.md",
        ),
        (Case { sources: &["a.tar"], to: "/m", archives: &["a.tar"], ..CASE }, "m/!; a.tar >> m"),
        (
            Case { sources: &["a.tar", "home.md"], to: "/m/", archives: &["a.tar"], ..CASE },
            "m/!; m/home.md < home.md; a.tar >> m",
        ),
    ] {
        let sources = case.sources;
        assert_eq!(run(&Case { context, excludes: all, ..case }).as_deref(), Ok(expected), "{sources:?}");
    }
}

#[test]
fn names_of_one_file_stay_together() {
    let mut tree = FakeTree::new("d/a; d/b; d/c");
    for name in ["b", "c"] {
        let kind = NodeKind::File { size: 3, link: Some(b"d/a".to_vec()) };
        tree.0.insert(vec![b"d".to_vec(), name.into()], node(kind));
    }
    let base = FakeTree::default();
    let shown = |patterns: &[&str]| {
        let from = |pattern| From {
            tree: &tree,
            what: What::Pattern(pattern),
            keep_owner: false,
            unpack: &|_| false,
        };
        let sources: Vec<From<'_>> = patterns.iter().map(|pattern| from(pattern)).collect();
        let rules = Rules { destination: "/", parents: false, mode: None, owner: None, excluded: &|_| false };
        let items = select(&base, &sources, &rules).unwrap().items;
        let link = |item: &Item| matches!(item.kind, ItemKind::HardLink(_));
        items
            .iter()
            .map(|item| (String::from_utf8_lossy(&item.path).into_owned(), link(item)))
            .collect::<Vec<_>>()
    };
    let pairs = |list: &[(&str, bool)]| {
        list.iter().map(|(name, link)| ((*name).to_owned(), *link)).collect::<Vec<_>>()
    };
    assert_eq!(shown(&["d"]), pairs(&[("a", false), ("b", true), ("c", true)]));
    assert_eq!(shown(&["d/[bc]"]), pairs(&[("b", false), ("c", true)]));
    assert_eq!(shown(&["d/b", "d/c"]), pairs(&[("b", false), ("c", false)]));
    assert_eq!(shown(&["d/c"]), pairs(&[("c", false)]));
}
