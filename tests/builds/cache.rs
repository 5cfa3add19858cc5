//! What runs again and what does not.

use kiln::build::request::NoCache;

use crate::yard::Yard;

#[test]
fn the_second_build_runs_nothing() {
    let Some(yard) = Yard::new() else { return };
    yard.write("src/main.c", "int main;");
    let dockerfile = "FROM busybox AS build\nWORKDIR /src\nCOPY src .\nRUN cat main.c > /out; date >> /out\n\
        FROM busybox\nENV A=b\nCOPY --from=build /out /out\nRUN cat /out\nCMD [\"cat\", \"/out\"]\n";
    let first = yard.build(dockerfile);
    let second = yard.build(dockerfile);
    assert_eq!(first.expect().image, second.expect().image);
    assert_eq!(first.cached, Vec::<String>::new());
    assert_eq!(second.cached.len(), 5, "{:?}", second.cached);
    // A touched file, a renamed stage, a comment: nothing runs.
    yard.write("src/main.c", "int main;");
    let third = yard.build(&dockerfile.replace("build", "other").replace("ENV", "# why\nENV"));
    assert_eq!(third.cached.len(), 5, "{:?}", third.cached);
    assert_eq!(third.expect().image, first.expect().image);
    // Other content: everything that stands on it runs.
    yard.write("src/main.c", "int nain;");
    assert_eq!(yard.build(dockerfile).cached.len(), 1);
}

#[test]
fn the_same_result_disturbs_nothing_after_it() {
    let Some(yard) = Yard::new() else { return };
    yard.write("f", "1");
    let dockerfile = |command: &str| {
        format!("FROM busybox AS a\n{command}\nFROM busybox\nCOPY --from=a /g /g\nRUN cat /g\n")
    };
    let first = yard.build(&dockerfile("RUN echo 1 > /g"));
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let second = yard.build(&dockerfile("RUN echo 2 > /g; echo 1 > /g"));
    first.expect();
    second.expect();
    assert_eq!(second.cached.len(), 2, "{:?}", second.cached);
    // Another file beside it changes: what is copied has the same bytes, made at another time.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let third = yard.build(&dockerfile("RUN echo 1 > /g; echo 3 > /h"));
    third.expect();
    assert_eq!(third.cached.len(), 2, "{:?}", third.cached);
}

#[test]
fn a_changed_base_alone_copies_nothing() {
    let Some(yard) = Yard::new() else { return };
    yard.write("f", "1");
    let dockerfile = |command: &str| format!("FROM busybox\nRUN {command}\nCOPY f /usr/lib/f\nCOPY f /d/f\n");
    yard.build(&dockerfile("echo 1 > /x")).expect();
    let second = yard.build(&dockerfile("echo 2 > /x"));
    second.expect();
    assert_eq!(second.cached.len(), 2, "{:?}", second.cached);
    // What the destination resolves to is an input.
    let third = yard.build(&dockerfile("ln -s usr /d"));
    third.expect();
    assert_eq!(third.cached.len(), 1, "{:?}", third.cached);
}

#[test]
fn no_cache_reads_no_record() {
    let Some(yard) = Yard::new() else { return };
    let dockerfile = "FROM busybox AS a\nRUN echo 1 > /f\nFROM a AS b\nRUN echo 2 > /g\n";
    yard.build(dockerfile).expect();
    let mut request = yard.request(dockerfile);
    request.no_cache = NoCache::All;
    assert_eq!(yard.run(request).cached.len(), 0);
    let mut request = yard.request(dockerfile);
    request.no_cache = NoCache::Stages(vec!["b".to_owned()]);
    assert_eq!(yard.run(request).cached.len(), 1);
}

#[test]
fn an_image_without_steps_keeps_its_time() {
    let Some(yard) = Yard::new() else { return };
    let dockerfile = "FROM scratch\nENV A=b\n";
    let first = yard.build(dockerfile).expect().image;
    std::thread::sleep(std::time::Duration::from_millis(5));
    assert_eq!(yard.build(dockerfile).expect().image, first);
}

#[test]
fn proxy_arguments_are_in_no_key() {
    let Some(yard) = Yard::new() else { return };
    let build = |value: &str| {
        let mut request = yard.request("FROM busybox\nRUN echo $HTTP_PROXY\n");
        request.build_args.insert("HTTP_PROXY".to_owned(), value.to_owned());
        yard.run(request)
    };
    let (first, second) = (build("http://one"), build("http://two"));
    assert_eq!(first.log, "http://one\n");
    assert_eq!(second.cached.len(), 1);
    assert_eq!(first.expect().image, second.expect().image);
}
