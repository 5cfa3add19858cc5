//! Contexts on real directories.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use rustix::fs::{CWD, Mode, Timespec, Timestamps};

use super::*;

/// A directory, and where the index of its scans is kept.
struct Fixture {
    dir: tempfile::TempDir,
    ignore: Arc<IgnoreFile>,
}

impl Fixture {
    /// A context with these files; a path that ends in a slash is a directory.
    fn new(files: &[&str]) -> Self {
        let fixture = Self { dir: tempfile::tempdir().unwrap(), ignore: ignore("") };
        fs::create_dir(fixture.at("")).unwrap();
        // With an index, if an empty one, it is the walk of this room that lists.
        index::write(&fixture.index(), &|_| Ok(())).unwrap();
        files.iter().for_each(|path| fixture.write(path, path));
        fixture
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join("context").join(path)
    }

    fn index(&self) -> PathBuf {
        self.dir.path().join("contexts/index")
    }

    fn write(&self, path: &str, content: &str) {
        let place = self.at(path);
        if path.ends_with('/') {
            return fs::create_dir_all(place).unwrap();
        }
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, content).unwrap();
    }

    fn scan(&self) -> Context {
        Context::scan(&self.at(""), self.ignore.clone(), &self.index()).unwrap()
    }

    /// Scans as if for the first time.
    fn first_scan(&self) -> Context {
        Context::scan(&self.at(""), self.ignore.clone(), &self.dir.path().join("nothing")).unwrap()
    }

    /// Scans, hashes everything and keeps it.
    fn build(&self) -> Context {
        let context = self.scan();
        context.hash(context.entries(), CONTINUE).unwrap();
        context.save().unwrap();
        context
    }
}

/// Asserts that two scans saw the same.
fn same(one: &Context, other: &Context) {
    assert_eq!(paths(one), paths(other));
    for (one, other) in one.entries().zip(other.entries()) {
        assert_eq!((one.status(), one.kind()), (other.status(), other.kind()));
    }
}

const CONTINUE: Watch<'static> = &|_, _| ControlFlow::Continue(());

fn ignore(text: &str) -> Arc<IgnoreFile> {
    Arc::new(IgnoreFile::parse(".dockerignore", text.as_bytes()).unwrap())
}

/// Says why a test tests nothing here.
fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

fn paths(context: &Context) -> Vec<String> {
    context.entries().map(|entry| String::from_utf8(entry.path().to_vec()).unwrap()).collect()
}

/// Lets the clock of the file system get ahead of the files' times.
fn settle() {
    std::thread::sleep(Duration::from_millis(25));
}

fn known(context: &Context, path: &str) -> bool {
    context.get(path.as_bytes()).unwrap().digest().is_some()
}

#[test]
fn entries_come_in_component_order() {
    let fixture = Fixture::new(&["a/b", "a-b", "a.b/c", "a/b-/x", "A", "ab", "a/a/z", "empty/"]);
    let context = fixture.scan();
    insta::assert_snapshot!(paths(&context).join(" "), @" A a a/a a/a/z a/b a/b- a/b-/x a-b a.b a.b/c ab empty");
    for entry in context.entries() {
        assert_eq!(context.get(entry.path()).unwrap().number, entry.number);
    }
    for path in ["a/", "/a", "b", "a/b/c", "a/b.", "./a"] {
        assert!(context.get(path.as_bytes()).is_none(), "{path}");
    }
    let names = |entry: ContextEntry<'_>| {
        let names = entry.children().map(|child| String::from_utf8_lossy(child.name()).into_owned());
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(context.root()), "A a a-b a.b ab empty");
    assert_eq!(names(context.get(b"a").unwrap()), "a b b-");
    assert_eq!(names(context.get(b"empty").unwrap()), "");
    assert_eq!(names(context.get(b"ab").unwrap()), "");
    assert_eq!(context.get(b"a").unwrap().subtree().count(), 6);
    assert_eq!((context.len(), context.is_empty()), (13, false));
}

#[test]
fn ignored_directories_stay_only_for_what_is_let_in() {
    let mut fixture = Fixture::new(&["keep", "out/a", "out/in/x", "out/in/y", "gone/deep/er/x", "gone/y"]);
    fixture.ignore = ignore("out\n!out/in/x\ngone\n!gone/deep/er/nothing\n");
    let context = fixture.scan();
    assert_eq!(paths(&context), ["", "keep", "out", "out/in", "out/in/x"]);
    assert_eq!(context.root().children().count(), 2);
    assert!(context.excluded(b"out/a") && context.excluded(b"gone/deep") && !context.excluded(b"out/in/x"));
}

#[test]
fn a_large_flat_directory_is_whole() {
    let fixture = Fixture::new(&[]);
    for number in 0..1700 {
        File::create(fixture.at(format!("{number}"))).unwrap();
    }
    let mut expected: Vec<String> = (0..1700).map(|number| number.to_string()).collect();
    expected.sort();
    assert_eq!(paths(&fixture.scan())[1..], expected);
}

#[test]
fn every_kind_is_told_and_only_files_are_opened() {
    let fixture = Fixture::new(&["file", "dir/"]);
    symlink("../dir//x", fixture.at("link")).unwrap();
    rustix::fs::mkfifoat(CWD, fixture.at("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(fixture.at("socket")).unwrap();
    fs::set_permissions(fixture.at("file"), fs::Permissions::from_mode(0o4751)).unwrap();
    let context = fixture.scan();
    let kind = |path: &str| context.get(path.as_bytes()).unwrap().kind();
    assert_eq!(kind("link"), ContextKind::Symlink(b"../dir//x"));
    assert_eq!((kind("fifo"), kind("socket")), (ContextKind::Fifo, ContextKind::Socket));
    assert_eq!((kind("dir"), kind("file")), (ContextKind::Directory, ContextKind::File));
    let file = context.get(b"file").unwrap();
    assert_eq!((file.mode(), file.size()), (0o4751, 4));
    assert!(survey::survey(&fixture.at(""), context.device, &context.ignore, &|| false).is_some());
    same(&context, &fixture.first_scan());
    // Opening the FIFO would hang.
    context.hash(context.entries(), CONTINUE).unwrap();
    let hashed = context.entries().filter(|entry| entry.digest().is_some());
    assert_eq!(hashed.map(|entry| entry.path()).collect::<Vec<_>>(), [b"file"]);
    assert_eq!(file.digest(), Some(Digest::of("file")));
}

#[test]
fn names_are_bytes() {
    let fixture = Fixture::new(&[]);
    let names: [&[u8]; 4] = [b"\xff\xfe", b"new\nline", &[b'x'; 255], "é\u{1F980}".as_bytes()];
    for name in names {
        fs::write(fixture.at(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    let context = fixture.build();
    let first = fixture.first_scan();
    assert!(context.entries().map(|entry| entry.path()).eq(first.entries().map(|entry| entry.path())));
    for name in names {
        assert_eq!(context.get(name).unwrap().digest(), Some(Digest::of(name)));
    }
}

#[test]
fn paths_beyond_what_the_kernel_takes_are_refused() {
    let fixture = Fixture::new(&[]);
    let name = "d".repeat(250);
    let mut place = rustix::fs::open(fixture.at(""), OFLAGS, Mode::empty()).unwrap();
    for _ in 0..17 {
        rustix::fs::mkdirat(&place, &*name, Mode::RWXU).unwrap();
        place = rustix::fs::openat(&place, &*name, OFLAGS, Mode::empty()).unwrap();
    }
    for index in [fixture.index(), fixture.at("nothing")] {
        let error = Context::scan(&fixture.at(""), fixture.ignore.clone(), &index).err().unwrap();
        assert!(matches!(error, ContextError::PathTooLong { .. }), "{error}");
    }
    let context = Context::scan(&fixture.at(""), ignore(&format!("{name}/{name}/{name}")), &fixture.index());
    assert_eq!(context.unwrap().len(), 3);
}

const OFLAGS: rustix::fs::OFlags = rustix::fs::OFlags::DIRECTORY.union(rustix::fs::OFlags::PATH);

#[test]
fn links_lead_from_entry_to_entry() {
    let mut fixture = Fixture::new(&["a/b/file", "c/", "hidden"]);
    fixture.ignore = ignore("hidden");
    for (link, target) in [
        ("to-dir", "a/b"),
        ("absolute", "/a/b/file"),
        ("a/up", "../../../../a/./b//"),
        ("chain", "to-dir/../up/file"),
        ("loop", "loop2"),
        ("loop2", "/loop"),
        ("broken", "nowhere/x"),
        ("outside", "/etc/passwd"),
        ("to-hidden", "hidden"),
        ("to-root", "/"),
    ] {
        symlink(target, fixture.at(link)).unwrap();
    }
    let context = fixture.scan();
    let resolve = |path: &str, follow: bool| {
        let found = context.resolve(path.as_bytes(), follow)?;
        Ok(found.map(|entry| String::from_utf8(entry.path().to_vec()).unwrap()))
    };
    for (path, expected) in [
        ("", Some("")),
        ("/", Some("")),
        ("..", Some("")),
        ("./a//b/../b/file", Some("a/b/file")),
        ("to-dir", Some("a/b")),
        ("to-dir/file", Some("a/b/file")),
        ("absolute", Some("a/b/file")),
        ("a/up/file", Some("a/b/file")),
        ("chain", Some("a/b/file")),
        ("to-root/c", Some("c")),
        ("absolute/x", None),
        ("absolute/..", None),
        ("broken", None),
        ("outside", None),
        ("hidden", None),
        ("to-hidden", None),
        ("nothing/..", None),
    ] {
        let found: Result<_, ContextError> = resolve(path, true);
        assert_eq!(found.unwrap().as_deref(), expected, "{path}");
    }
    let not_followed: Result<_, ContextError> = resolve("to-root/to-dir", false);
    assert_eq!(not_followed.unwrap().as_deref(), Some("to-dir"));
    let endless: Result<_, ContextError> = resolve("loop", true);
    assert!(matches!(endless, Err(ContextError::Loop { .. })));
    assert_eq!(resolve("loop", false).unwrap().as_deref(), Some("loop"));
}

#[test]
fn settled_digests_are_kept_and_young_ones_are_not() {
    let fixture = Fixture::new(&["old", "dir/older"]);
    settle();
    fixture.write("young", "young");
    let context = fixture.build();
    assert!(known(&context, "young"));
    let context = fixture.scan();
    assert!(known(&context, "old") && known(&context, "dir/older") && !known(&context, "young"));
    // Nothing is new: the index is left alone.
    let before = fs::metadata(fixture.index()).unwrap();
    context.save().unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(fixture.index()).unwrap().ino(), before.ino());
    settle();
    fixture.build();
    assert!(known(&fixture.scan(), "young"));
}

#[test]
fn every_change_of_a_file_is_noticed() {
    type Act = fn(&Fixture);
    let stamp = |fixture: &Fixture| {
        let time = Timespec { tv_sec: 1_000_000_000, tv_nsec: 5 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, fixture.at("f"), &times, rustix::fs::AtFlags::empty()).unwrap();
    };
    let changes: &[(&str, Act, Option<&str>)] = &[
        ("same size", |f| f.write("f", "2"), Some("2")),
        ("other size", |f| f.write("f", "22"), Some("22")),
        ("mode", |f| fs::set_permissions(f.at("f"), fs::Permissions::from_mode(0o600)).unwrap(), Some("1")),
        ("renamed over", |f| fs::rename(f.at("other"), f.at("f")).unwrap(), Some("3")),
        (
            "made anew",
            |f| {
                fs::remove_file(f.at("f")).unwrap();
                f.write("f", "4");
            },
            Some("4"),
        ),
        (
            "swapped",
            |f| {
                fs::rename(f.at("f"), f.at("x")).unwrap();
                fs::rename(f.at("other"), f.at("f")).unwrap();
                fs::rename(f.at("x"), f.at("other")).unwrap();
            },
            Some("3"),
        ),
        (
            "a directory",
            |f| {
                fs::remove_file(f.at("f")).unwrap();
                fs::create_dir(f.at("f")).unwrap();
            },
            None,
        ),
        (
            "a link",
            |f| {
                fs::remove_file(f.at("f")).unwrap();
                symlink("other", f.at("f")).unwrap();
            },
            None,
        ),
    ];
    for (name, change, content) in changes {
        let fixture = Fixture::new(&[]);
        fixture.write("f", "1");
        fixture.write("other", "3");
        stamp(&fixture);
        settle();
        fixture.build();
        assert!(known(&fixture.scan(), "f"), "{name}");
        change(&fixture);
        if content.is_some() {
            // The time of the content is as it was before.
            stamp(&fixture);
        }
        let context = fixture.scan();
        assert!(!known(&context, "f"), "{name}");
        context.hash(context.entries(), CONTINUE).unwrap();
        assert_eq!(context.get(b"f").unwrap().digest(), content.map(Digest::of), "{name}");
    }
}

#[test]
fn a_broken_index_costs_time_only() {
    let fixture = Fixture::new(&["a", "b/c"]);
    settle();
    fixture.build();
    let whole = fs::read(fixture.index()).unwrap();
    assert!(known(&fixture.scan(), "a"));
    let mut broken: Vec<Vec<u8>> = (0..whole.len())
        .map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x41;
            bytes
        })
        .collect();
    broken.extend([vec![], whole[..20].to_vec(), whole[..whole.len() - 1].to_vec(), vec![0; whole.len()]]);
    for bytes in broken {
        fs::write(fixture.index(), &bytes).unwrap();
        // The last four bytes of the header are not used.
        if bytes.get(28..32) == Some(&[0; 4]) || bytes.len() < 32 {
            assert!(!known(&fixture.scan(), "a"));
        }
    }
    fixture.build();
    assert_eq!(fs::read(fixture.index()).unwrap(), whole);
}

#[test]
fn digests_of_ignored_files_are_carried_over() {
    let mut fixture = Fixture::new(&["a", "b", "c/d", "gone", "z"]);
    settle();
    fixture.build();
    fs::remove_file(fixture.at("gone")).unwrap();
    fixture.write("new", "new");
    settle();
    fixture.ignore = ignore("a\nc\nz");
    assert_eq!(paths(&fixture.build()), ["", "b", "new"]);
    fixture.ignore = ignore("");
    let context = fixture.scan();
    assert!(["a", "b", "c/d", "new", "z"].iter().all(|path| known(&context, path)));
    fixture.write("gone", "gone");
    assert!(!known(&fixture.scan(), "gone"));
}

#[test]
fn what_changes_under_the_scan_is_an_error_that_names_it() {
    type Act = fn(&Fixture);
    let changes: &[(Act, Change)] = &[
        (|f| f.write("dir/f", "longer than before"), Change::Size),
        (|f| f.write("dir/f", ""), Change::Size),
        (|f| fs::remove_file(f.at("dir/f")).unwrap(), Change::Gone),
        (
            |f| {
                fs::remove_file(f.at("dir/f")).unwrap();
                symlink("/etc/passwd", f.at("dir/f")).unwrap();
            },
            Change::Kind,
        ),
        (
            |f| {
                fs::remove_file(f.at("dir/f")).unwrap();
                rustix::fs::mkfifoat(CWD, f.at("dir/f"), Mode::RUSR).unwrap();
            },
            Change::Kind,
        ),
        (
            |f| {
                fs::rename(f.at("dir"), f.at("moved")).unwrap();
                symlink("moved", f.at("dir")).unwrap();
            },
            Change::Gone,
        ),
    ];
    for (number, (change, expected)) in changes.iter().enumerate() {
        let fixture = Fixture::new(&["dir/f"]);
        let context = fixture.scan();
        change(&fixture);
        let told = |error: ContextError| match error {
            ContextError::Changed { path, what } => assert_eq!((path.as_str(), what), ("dir/f", *expected)),
            other => panic!("{number}: {other}"),
        };
        let entry = context.get(b"dir/f").unwrap();
        told(context.hash([entry], CONTINUE).unwrap_err());
        told(Reader::new(&context).open(entry).err().unwrap());
    }
}

#[test]
fn a_stream_is_held_against_its_digest() {
    let fixture = Fixture::new(&["f", "g"]);
    fixture.write("g", &"g".repeat(300_000));
    let context = fixture.build();
    let read = |context: &Context, path: &[u8]| {
        let mut content = Vec::new();
        let mut stream = Reader::new(context).open(context.get(path).unwrap()).unwrap();
        stream.read_to_end(&mut content).map(|_| content)
    };
    assert_eq!(read(&context, b"f").unwrap(), b"f");
    assert_eq!(read(&context, b"g").unwrap().len(), 300_000);
    fixture.write("f", "x");
    let error = read(&context, b"f").unwrap_err();
    assert!(matches!(
        ContextError::find_change(&error),
        Some(ContextError::Changed { path, what: Change::Content }) if path == "f"
    ));
    let wrapped = std::io::Error::other(ContextError::Read { path: "tar".into(), source: error });
    assert!(ContextError::find_change(&wrapped).is_some());
    let again = context.rescan().unwrap();
    again.hash(again.entries(), CONTINUE).unwrap();
    assert_eq!(read(&again, b"f").unwrap(), b"x");
    assert!(ContextError::find_change(&std::io::Error::other("full")).is_none());
}

#[test]
fn a_scan_can_be_stopped() {
    let fixture = Fixture::new(&["a/b/c/d"]);
    for index in [fixture.index(), fixture.at("nothing")] {
        let asked = std::sync::atomic::AtomicU64::new(0);
        let stop: Stop<'_> = &|| asked.fetch_add(1, Relaxed) > 1;
        let stopped = Context::scan_until(&fixture.at(""), fixture.ignore.clone(), &index, stop);
        assert!(matches!(stopped, Err(ContextError::Cancelled)));
    }
}

#[test]
fn hashing_can_be_watched_and_stopped() {
    let fixture = Fixture::new(&[]);
    for number in 0..100 {
        fixture.write(&format!("f{number}"), &"x".repeat(1000));
    }
    let context = fixture.scan();
    let last = std::sync::atomic::AtomicU64::new(0);
    let stop: Watch<'_> = &|read, total| {
        assert_eq!(total, 100_000);
        last.fetch_max(read, Relaxed);
        if read >= 5_000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    assert!(matches!(context.hash(context.entries(), stop), Err(ContextError::Cancelled)));
    assert!(last.load(Relaxed) < 50_000);
    context.hash(context.entries(), CONTINUE).unwrap();
    assert!(context.entries().skip(1).all(|entry| entry.digest().is_some()));
}

#[test]
fn attributes_come_with_the_digest() {
    let fixture = Fixture::new(&["f", "plain"]);
    let file = File::open(fixture.at("f")).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    let set = |name: &str, value: &[u8]| rustix::fs::fsetxattr(&file, name, value, flags).is_ok();
    if !set("user.b", b"2") || !set("user.a", b"") {
        return skip("the file system keeps no user attributes");
    }
    settle();
    fixture.build();
    let context = fixture.scan();
    let attributes = context.get(b"f").unwrap().attributes();
    assert_eq!(attributes, [(b"user.a".to_vec(), vec![]), (b"user.b".to_vec(), b"2".to_vec())]);
    assert!(context.get(b"plain").unwrap().attributes().is_empty());
    assert!(set("user.b", b"3"));
    assert!(!known(&fixture.scan(), "f"));
}

#[test]
fn unreadable_things_are_named_unless_ignored() {
    use rustix::thread::{Uid, set_thread_res_uid};
    if !rustix::process::geteuid().is_root() {
        return skip("needs root to become somebody who may not read");
    }
    let fixture = Fixture::new(&["closed/x", "secret", "open"]);
    for (path, mode) in [("", 0o755), ("closed", 0o700), ("secret", 0o600), ("open", 0o644)] {
        fs::set_permissions(fixture.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(fixture.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let scan = |patterns: &str| {
        let context = Context::scan(&fixture.at(""), ignore(patterns), &fixture.index())?;
        context.hash(context.entries(), CONTINUE).map(|()| context.len())
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Of this thread only, and of those that it starts.
            let nobody = Uid::from_raw(65534);
            set_thread_res_uid(nobody, nobody, nobody).unwrap();
            let error = scan("").unwrap_err();
            assert!(matches!(&error, ContextError::List { path, .. } if path == "closed"), "{error}");
            let error = scan("closed").unwrap_err();
            assert!(matches!(&error, ContextError::Read { path, .. } if path == "secret"), "{error}");
            assert_eq!(scan("closed\nsecret").unwrap(), 2);
            assert_eq!(scan("closed\nsecret\n!closed/x").unwrap(), 2);
        });
    });
    let missing = Context::scan(&fixture.at("nowhere"), fixture.ignore.clone(), &fixture.index());
    assert!(matches!(missing, Err(ContextError::Open { .. })));
    let file = Context::scan(&fixture.at("open"), fixture.ignore.clone(), &fixture.index());
    assert!(matches!(file, Err(ContextError::Open { .. })));
}

#[test]
fn one_directory_has_one_index_name() {
    let fixture = Fixture::new(&["dir/"]);
    symlink("dir", fixture.at("link")).unwrap();
    let name = Context::index_name(&fixture.at("dir"));
    assert_eq!(Context::index_name(&fixture.at("link/../dir/.")), name);
    assert_eq!(Context::index_name(&fixture.at("link")), name);
    assert_ne!(Context::index_name(&fixture.at("")), name);
}

/// What a plain walk of the directory gives under the same patterns.
fn naive(fixture: &Fixture) -> Vec<PathBuf> {
    let root = fixture.at("");
    let all = walkdir::WalkDir::new(&root).into_iter().map(|entry| entry.unwrap());
    let mut all: Vec<PathBuf> = all.map(|entry| entry.path().strip_prefix(&root).unwrap().into()).collect();
    // `Path` compares by components.
    all.sort();
    let included: Vec<PathBuf> =
        all.iter().filter(|path| !fixture.ignore.is_ignored(path.as_os_str().as_bytes())).cloned().collect();
    all.retain(|path| {
        path.as_os_str().is_empty() || included.iter().any(|included| included.starts_with(path))
    });
    all
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "a-", "a.b", "A", "c d", "é"])
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(name(), 1..5).prop_map(|names| names.join("/"))
}

fn pattern() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => name().prop_map(str::to_owned),
        1 => Just("*".to_owned()),
        1 => Just("**".to_owned()),
    ];
    (any::<bool>(), prop::collection::vec(piece, 1..4))
        .prop_map(|(again, pieces)| format!("{}{}", if again { "!" } else { "" }, pieces.join("/")))
}

#[derive(Debug, Clone)]
enum Mutation {
    Write(String, u8),
    /// In place, and the time set back.
    Overwrite(String, u8),
    Remove(String),
    Rename(String, String),
    Link(String),
    Settle,
    Build,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    // Few, so that they meet.
    let path = || prop::sample::select(vec!["a", "b", "c/a", "c/b"]).prop_map(str::to_owned);
    prop_oneof![
        4 => (path(), any::<u8>()).prop_map(|(path, byte)| Mutation::Write(path, byte)),
        4 => (path(), any::<u8>()).prop_map(|(path, byte)| Mutation::Overwrite(path, byte)),
        1 => path().prop_map(Mutation::Remove),
        2 => (path(), path()).prop_map(|(from, to)| Mutation::Rename(from, to)),
        1 => path().prop_map(Mutation::Link),
        1 => Just(Mutation::Settle),
        4 => Just(Mutation::Build),
    ]
}

/// Does what is possible of a mutation.
fn mutate(fixture: &Fixture, mutation: &Mutation) {
    match mutation {
        Mutation::Write(path, byte) => {
            let place = fixture.at(path);
            let _ = fs::create_dir_all(place.parent().unwrap());
            let _ = fs::write(place, [*byte]);
        }
        Mutation::Overwrite(path, byte) => {
            if let Ok(mut file) = fs::OpenOptions::new().write(true).open(fixture.at(path)) {
                let before = file.metadata().unwrap().modified().unwrap();
                file.write_all(&[*byte]).unwrap();
                file.set_modified(before).unwrap();
            }
        }
        Mutation::Remove(path) => {
            let _ = fs::remove_file(fixture.at(path));
        }
        Mutation::Rename(from, to) => {
            let _ = fs::rename(fixture.at(from), fixture.at(to));
        }
        Mutation::Link(path) => {
            let _ = symlink("a", fixture.at(path));
        }
        Mutation::Settle => std::thread::sleep(Duration::from_millis(12)),
        Mutation::Build => {
            fixture.build();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn a_scan_is_a_plain_walk(
        files in prop::collection::vec(path(), 0..20),
        patterns in prop::collection::vec(pattern(), 0..5),
    ) {
        let mut fixture = Fixture::new(&[]);
        files.iter().for_each(|path| mutate(&fixture, &Mutation::Write(path.clone(), 0)));
        fixture.ignore = ignore(&patterns.join("\n"));
        let again = fixture.scan();
        let found: Vec<PathBuf> = paths(&again).into_iter().map(PathBuf::from).collect();
        prop_assert_eq!(found, naive(&fixture));
        same(&fixture.first_scan(), &again);
    }

    #[test]
    fn a_digest_is_never_that_of_another_content(mutations in prop::collection::vec(mutation(), 1..40)) {
        let fixture = Fixture::new(&[]);
        for step in &mutations {
            mutate(&fixture, step);
        }
        let context = fixture.build();
        for entry in context.entries().filter(|entry| entry.kind() == ContextKind::File) {
            let content = fs::read(fixture.at(std::ffi::OsStr::from_bytes(entry.path()))).unwrap();
            prop_assert_eq!(entry.digest(), Some(Digest::of(content)));
        }
    }
}
