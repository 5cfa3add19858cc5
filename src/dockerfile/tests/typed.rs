//! What typed instructions hold.

use crate::base::span::Spanned;
use crate::dockerfile::instruction::{
    CacheSharing, Command, Copy, CopySource, Dockerfile, Healthcheck, Kind, Modifier, Mount, MountKind, Part,
    RunNetwork, RunSecurity, Word,
};
use crate::dockerfile::{parse, parse_change, parse_trigger};

fn parsed(text: &str) -> Dockerfile {
    parse("Dockerfile", text.as_bytes()).unwrap_or_else(|faults| panic!("{}", faults.render(false)))
}

/// What the only instruction after FROM says.
fn kind(text: &str) -> Kind {
    let mut file = parsed(&format!("FROM a\n{text}\n"));
    assert_eq!(file.stages[0].instructions.len(), 1, "{text}");
    file.stages[0].instructions.remove(0).kind
}

fn mounts(text: &str) -> Vec<Mount> {
    match kind(text) {
        Kind::Run(run) => run.mounts,
        other => panic!("{other:?}"),
    }
}

fn copied(text: &str) -> Copy {
    match kind(text) {
        Kind::Copy(copy) | Kind::Add(copy) => copy,
        other => panic!("{other:?}"),
    }
}

fn raw(word: &Option<Word>) -> Option<&str> {
    word.as_ref().map(|word| word.raw.as_str())
}

#[test]
fn stages_and_global_arguments() {
    let text = "# syntax=x\nARG V=1 W\nFROM --platform=$P a:$V AS Build\nRUN b \\\n  c\nARG V\nfrom build\n";
    let file = parsed(text);
    assert_eq!(file.directives.syntax.as_ref().map(|value| value.value.as_str()), Some("x"));
    let [args] = &file.global_args[..] else { panic!() };
    assert_eq!(args.text, "ARG V=1 W");
    let names: Vec<_> = args.declarations.iter().map(|one| (&*one.name.value, raw(&one.default))).collect();
    assert_eq!(names, [("V", Some("1")), ("W", None)]);
    let [first, second] = &file.stages[..] else { panic!() };
    assert_eq!(first.from.name.as_ref().map(|name| name.value.as_str()), Some("build"));
    assert_eq!(raw(&first.from.platform), Some("$P"));
    assert_eq!(file.source.slice(first.from.name.as_ref().unwrap().span), "Build");
    assert_eq!((second.from.image.raw.as_str(), second.from.name.is_none()), ("build", true));
    let texts: Vec<&str> = first.instructions.iter().map(|one| one.text.as_str()).collect();
    assert_eq!(texts, ["RUN b   c", "ARG V"]);
    assert_eq!(file.source.lines(first.instructions[0].span), (4, 5));
}

#[test]
fn words_are_taken_apart() {
    let Kind::Env(pairs) = kind("ENV A=\"b ${C:-d} \\$e\"'$f'\\ g") else { panic!() };
    let [Part::Literal(before), Part::Variable(variable), Part::Literal(after)] = &pairs[0].value.parts[..]
    else {
        panic!("{:?}", pairs[0].value)
    };
    assert_eq!((&**before, &*variable.name, &**after), ("b ", "C", " $e$f g"));
    assert!(variable.quoted);
    let Some(Modifier::Default { colon: true, word }) = &variable.modifier else { panic!() };
    assert_eq!(word.raw, "d");
}

#[test]
fn places_go_through_continuations_and_quotes() {
    let text = "FROM a\nCOPY --chown=\"$U:\\\n$G\" a \\\n  ${B\\\n}/c /d\n";
    let file = parsed(text);
    let Kind::Copy(copy) = &file.stages[0].instructions[0].kind else { panic!() };
    let Part::Variable(group) = &copy.chown.as_ref().unwrap().parts[2] else { panic!() };
    assert_eq!(file.source.slice(group.span), "$G");
    assert_eq!(raw(&copy.chown), Some("$U:$G"));
    let CopySource::Path(second) = &copy.sources[1] else { panic!() };
    assert_eq!((second.raw.as_str(), file.source.slice(second.span)), ("${B}/c", "${B\\\n}/c"));
}

#[test]
fn run() {
    let Kind::Run(run) = kind("RUN --network=none --security=insecure --device=a=b,required c  d") else {
        panic!()
    };
    assert_eq!(run.network.map(|network| network.value), Some(RunNetwork::None));
    assert_eq!(run.security.map(|security| security.value), Some(RunSecurity::Insecure));
    assert_eq!(run.devices[0].raw, "a=b,required");
    let Command::Shell { text: Spanned { value, .. }, heredocs } = run.command else { panic!() };
    assert_eq!((value.as_str(), heredocs.len()), ("c  d", 0));
    let Kind::Run(run) = kind("RUN <<-'E' sh\n\ta\n\tE") else { panic!() };
    let Command::Shell { text, heredocs } = run.command else { panic!() };
    assert_eq!((text.value.as_str(), heredocs[0].opener.as_str()), ("<<-'E' sh", "<<-'E'"));
    let Kind::Run(run) = kind("RUN [\"a\", \"$b\"]") else { panic!() };
    assert!(matches!(run.command, Command::Exec(argv) if argv == ["a", "$b"]));
}

#[test]
fn mounts_of_every_type() {
    let found = mounts("RUN --mount=target=/a --mount=type=bind,from=b,src=c,dst=$D,rw x");
    let MountKind::Bind { from: None, source: None, writable: false } = &found[0].kind else { panic!() };
    let MountKind::Bind { from, source, writable: true } = &found[1].kind else { panic!() };
    assert_eq!((raw(from), raw(source), raw(&found[1].target)), (Some("b"), Some("c"), Some("$D")));

    let found =
        mounts("RUN --mount=type=Cache,id=i,destination=/a,sharing=Locked,ro,mode=0700,uid=$U,gid=5 x");
    let MountKind::Cache { id, sharing, readonly: true, mode, uid, gid, .. } = &found[0].kind else {
        panic!()
    };
    assert_eq!(*sharing, CacheSharing::Locked);
    assert_eq!((raw(id), raw(mode), raw(uid), raw(gid)), (Some("i"), Some("0700"), Some("$U"), Some("5")));

    let found = mounts("RUN --mount=type=tmpfs,target=/a,size=64m x");
    let MountKind::Tmpfs { size } = &found[0].kind else { panic!() };
    assert_eq!(raw(size), Some("64m"));

    let found =
        mounts("RUN --mount=type=secret,id=a,env=B,required --mount=type=secret,target=/c,required=false x");
    let MountKind::Secret(first) = &found[0].kind else { panic!() };
    assert_eq!((raw(&first.id), raw(&first.env), first.required), (Some("a"), Some("B"), true));
    let MountKind::Secret(second) = &found[1].kind else { panic!() };
    assert!(second.id.is_none() && !second.required);
    assert!(matches!(&mounts("RUN --mount=type=ssh x")[0].kind, MountKind::Ssh(ssh) if ssh.id.is_none()));
}

#[test]
fn quotes_in_mounts() {
    // Quotes of the flag go first, then those of CSV.
    for (text, source, target) in [
        ("RUN --mount=\"type=bind,source=a b,target=/c\" x", "a b", "/c"),
        ("RUN --mount=type=bind,source='a b',target=/c x", "a b", "/c"),
        ("RUN --mount=type=bind,'\"source=a,b\"',target=/c x", "a,b", "/c"),
        ("RUN --mount=type=bind,'\"source=a\"\"b,\"\"c\"',target=/c x", "a\"b,\"c", "/c"),
        ("RUN --mount=type=bind,source=a\\ b,target=/c x", "a b", "/c"),
        ("RUN --mount=type=bind,source=a=b,target=/c x", "a=b", "/c"),
    ] {
        let found = mounts(text);
        let MountKind::Bind { source: found_source, .. } = &found[0].kind else { panic!("{text}") };
        // Only the literal text counts: a quote that is left would be taken apart again.
        let literal = |word: &Word| crate::dockerfile::expand::word(word, &|_| None);
        if !source.contains('"') {
            assert_eq!(literal(found_source.as_ref().unwrap()).as_deref(), Ok(source), "{text}");
        }
        assert_eq!(found_source.as_ref().unwrap().raw, source, "{text}");
        assert_eq!(raw(&found[0].target), Some(target), "{text}");
    }
}

#[test]
fn copy_and_add() {
    let copy = copied("COPY --from=b --chmod=u+x --link --parents=false --exclude=*.a --exclude=b c d /e/");
    assert_eq!(
        (raw(&copy.from), raw(&copy.chmod), copy.link, copy.parents),
        (Some("b"), Some("u+x"), true, false)
    );
    assert_eq!(copy.excludes.iter().map(|word| word.raw.as_str()).collect::<Vec<_>>(), ["*.a", "b"]);
    assert_eq!((copy.sources.len(), copy.destination.raw.as_str()), (2, "/e/"));
    let copy = copied("ADD --checksum=sha256:a --keep-git-dir=true --unpack=FALSE --link=false a b");
    assert!(copy.keep_git_dir && copy.unpack == Some(false) && !copy.link);
    assert_eq!(raw(&copy.checksum), Some("sha256:a"));
    assert_eq!(copied("ADD a b").unpack, None);
    let copy = copied("COPY <<A b <<-'C' /d/\nx\nA\ny\nC");
    let [CopySource::Heredoc(a), CopySource::Path(b), CopySource::Heredoc(c)] = &copy.sources[..] else {
        panic!()
    };
    assert_eq!((a.content.as_str(), b.raw.as_str(), c.content.as_str()), ("x\n", "b", "y\n"));
    let copy = copied("COPY [\"a b\", \"$c\\u00e9\", \"/d\"]");
    let [CopySource::Path(_), CopySource::Path(second)] = &copy.sources[..] else { panic!() };
    assert_eq!(second.raw, "$cé");
}

#[test]
fn healthcheck() {
    assert!(matches!(kind("HEALTHCHECK none"), Kind::Healthcheck(Healthcheck::None)));
    let text = "HEALTHCHECK --interval=1m --timeout=0s --start-period=1.5s --retries=0 cmd [\"a\"]";
    let Kind::Healthcheck(Healthcheck::Check {
        command,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    }) = kind(text)
    else {
        panic!()
    };
    assert!(matches!(command, Command::Exec(argv) if argv == ["a"]));
    assert_eq!((interval, timeout), (Some(60_000_000_000), None));
    assert_eq!((start_period, start_interval, retries), (Some(1_500_000_000), None, Some(0)));
}

#[test]
fn onbuild_keeps_the_text_of_its_trigger() {
    for (text, expected) in [
        ("ONBUILD RUN a  b", "RUN a  b"),
        ("onbuild \\\n copy --from=x a \\\n b", "copy --from=x a  b"),
        ("ONBUILD RUN <<E cat\n$a\nE", "RUN <<E cat\n$a\nE"),
        ("ONBUILD RUN <<-A <<B\n\tx\n\tA\nB", "RUN <<-A <<B\n\tx\nA\nB"),
    ] {
        let Kind::Onbuild(trigger) = kind(text) else { panic!("{text}") };
        assert_eq!(trigger.value, expected);
        assert!(parse_trigger(&trigger.value).is_ok(), "{text}");
    }
}

#[test]
fn the_rest() {
    assert!(matches!(kind("CMD []"), Kind::Cmd(Command::Exec(argv)) if argv.is_empty()));
    assert!(matches!(kind("ENTRYPOINT a"), Kind::Entrypoint(Command::Shell { .. })));
    assert!(matches!(kind("MAINTAINER A <b>"), Kind::Maintainer(name) if name == "A <b>"));
    assert!(matches!(kind("EXPOSE 80 $P/udp"), Kind::Expose(words) if words.len() == 2));
    assert!(matches!(kind("VOLUME [\"/a b\", \"/c\"]"), Kind::Volume(words) if words[0].raw == "/a b"));
    assert!(matches!(kind("USER a:b"), Kind::User(word) if word.raw == "a:b"));
    assert!(matches!(kind("WORKDIR a b"), Kind::Workdir(word) if word.raw == "a b"));
    assert!(matches!(kind("STOPSIGNAL $S"), Kind::Stopsignal(word) if word.raw == "$S"));
    assert!(matches!(kind("SHELL [\"a\", \"-c\"]"), Kind::Shell(argv) if argv == ["a", "-c"]));
    assert!(matches!(kind("LABEL a b c"), Kind::Label(pairs) if pairs[0].value.raw == "b c"));
    assert!(matches!(parse_change("ENV a=b").map(|one| one.kind), Ok(Kind::Env(_))));
    assert!(matches!(parse_change("EXPOSE 80").map(|one| one.kind), Ok(Kind::Expose(_))));
    assert!(matches!(parse_trigger("  RUN a").map(|one| one.kind), Ok(Kind::Run(_))));
}
