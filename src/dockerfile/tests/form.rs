//! What `kiln parse --json` prints.

use serde_json::{Value, json};

use crate::dockerfile::{dump, parse_form};

fn instructions(text: &str) -> Vec<Value> {
    let file = parse_form("Dockerfile", text.as_bytes()).unwrap();
    dump(&file)["instructions"].as_array().unwrap().clone()
}

/// The flags, arguments and JSON form of the only instruction.
fn one(text: &str) -> Value {
    let mut all = instructions(text);
    assert_eq!(all.len(), 1, "{text}");
    let all = all.remove(0);
    json!([all["flags"], all["args"], all["json"]])
}

#[test]
fn every_key_is_there() {
    assert_eq!(
        instructions("from a\n\nRUN <<E\nx\nE\n"),
        [
            json!({"name": "from", "flags": [], "args": ["a"], "json": false, "line": 1, "end_line": 1,
                "heredocs": [], "child": null}),
            json!({"name": "run", "flags": [], "args": ["<<E"], "json": false, "line": 3, "end_line": 5,
                "heredocs": [{"name": "E", "content": "x\n", "expand": true, "chomp": false}], "child": null}),
        ]
    );
}

#[test]
fn arguments_by_instruction() {
    let table: &[(&str, Value)] = &[
        ("RUN", json!([[], [], false])),
        ("RUN  a   b  ", json!([[], ["a   b"], false])),
        ("RUN a \\\n  b", json!([[], ["a   b"], false])),
        ("RUN echo 'a # b' # c", json!([[], ["echo 'a # b' # c"], false])),
        ("RUN [\"a\", \"b c\"]", json!([[], ["a", "b c"], true])),
        ("RUN [\"a\", \\\n \"b\"]", json!([[], ["a", "b"], true])),
        ("RUN []", json!([[], [], true])),
        ("RUN ['a']", json!([[], ["['a']"], false])),
        ("RUN [\"a\"] && b", json!([[], ["[\"a\"] && b"], false])),
        ("RUN [\"c:\\windows\"]", json!([[], ["[\"c:\\windows\"]"], false])),
        ("RUN [ -f x ]", json!([[], ["[ -f x ]"], false])),
        (r#"CMD ["\u00e9\n\t\/\ud83d\ude00", "\ud800x"]"#, json!([[], ["é\n\t/😀", "\u{fffd}x"], true])),
        ("CMD a b", json!([[], ["a b"], false])),
        ("ENTRYPOINT a  b", json!([[], ["a  b"], false])),
        ("MAINTAINER A  B <c@d>", json!([[], ["A  B <c@d>"], false])),
        ("USER a b", json!([[], ["a b"], false])),
        ("WORKDIR /a  b", json!([[], ["/a  b"], false])),
        ("STOPSIGNAL SIGTERM", json!([[], ["SIGTERM"], false])),
        ("SHELL [\"a\", \"-c\"]", json!([[], ["a", "-c"], true])),
        ("VOLUME /a  /b", json!([[], ["/a", "/b"], false])),
        ("VOLUME [\"/a b\"]", json!([[], ["/a b"], true])),
        ("EXPOSE 80  81/udp", json!([[], ["80", "81/udp"], false])),
        ("COPY a \"b c\" /d", json!([[], ["a", "\"b", "c\"", "/d"], false])),
        ("COPY [\"a b\", \"/d\"]", json!([[], ["a b", "/d"], true])),
        ("ADD --chown=1:2 --link a b /c", json!([["--chown=1:2", "--link"], ["a", "b", "/c"], false])),
        ("FROM --platform=$P a AS b", json!([["--platform=$P"], ["a", "AS", "b"], false])),
        ("ARG a b=1 c=\"d e\"", json!([[], ["a", "b=1", "c=\"d e\""], false])),
        ("HEALTHCHECK NONE", json!([[], ["NONE"], false])),
        ("HEALTHCHECK --interval=1s CMD a  b", json!([["--interval=1s"], ["CMD", "a  b"], false])),
        ("HEALTHCHECK CMD [\"a\", \"b\"]", json!([[], ["CMD", "a", "b"], true])),
        ("HEALTHCHECK", json!([[], [], false])),
        ("RNU --x a \"b c\"", json!([["--x"], ["a", "\"b c\""], false])),
        ("COPY -- --a /b", json!([[], ["--a", "/b"], false])),
        ("COPY --link -- --a /b", json!([["--link"], ["--a", "/b"], false])),
        (
            "RUN --mount=type=bind,\"source=a b\" --x='y z' c",
            json!([["--mount=type=bind,\"source=a b\"", "--x='y z'"], ["c"], false]),
        ),
        ("RUN ---a b", json!([["---a"], ["b"], false])),
        ("RUN -a b", json!([[], ["-a b"], false])),
        ("RUN --a", json!([["--a"], [], false])),
        ("run\ta", json!([[], ["a"], false])),
    ];
    for (text, expected) in table {
        assert_eq!(one(text), *expected, "{text}");
    }
}

#[test]
fn pairs_of_env_and_label() {
    let table: &[(&str, &[(&str, &str)])] = &[
        ("ENV a b", &[("a", "b")]),
        ("ENV a  b  c ", &[("a", "b  c")]),
        ("ENV ONE TWO= THREE=world", &[("ONE", "TWO= THREE=world")]),
        ("ENV a=b", &[("a", "b")]),
        ("ENV a=b c=d", &[("a", "b"), ("c", "d")]),
        ("ENV a=", &[("a", "")]),
        ("ENV a=b=c", &[("a", "b=c")]),
        ("ENV a=\"b c\" d='e f' g=h\\ i", &[("a", "\"b c\""), ("d", "'e f'"), ("g", "h\\ i")]),
        ("ENV a=b\\\n c=d", &[("a", "b"), ("c", "d")]),
        ("LABEL \"a.b\"=\"c\" d=\"e \\\nf\"", &[("\"a.b\"", "\"c\""), ("d", "\"e f\"")]),
        ("LABEL a b=c", &[("a", "b=c")]),
        ("ENV a=\"b\\\"c d\"", &[("a", "\"b\\\"c d\"")]),
        ("# escape=`\nENV a=b` c d=\\ e=f", &[("a", "b` c"), ("d", "\\"), ("e", "f")]),
    ];
    for (text, expected) in table {
        let expected: Vec<Value> =
            expected.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        assert_eq!(one(text)[1], Value::from(expected), "{text}");
    }
    assert_eq!(one("ENV")[1], json!([]));
}

#[test]
fn here_documents() {
    let documents = |text: &str| {
        let all = instructions(text);
        let list: Vec<_> = all[0]["heredocs"].as_array().unwrap().clone();
        let list: Vec<_> = list
            .iter()
            .map(|doc| {
                let text = |key: &str| doc[key].as_str().unwrap().to_owned();
                (text("name"), text("content"), doc["expand"] == true, doc["chomp"] == true)
            })
            .collect();
        (list, all[0]["args"].clone(), all.len(), all[0]["end_line"].as_u64().unwrap())
    };
    type Expected = &'static [(&'static str, &'static str, bool, bool)];
    let table: &[(&str, Expected)] = &[
        ("RUN <<E\na\nE", &[("E", "a\n", true, false)]),
        ("RUN <<E\nE", &[("E", "", true, false)]),
        ("RUN <<-E\n\ta\n\tE\n", &[("E", "\ta\n", true, true)]),
        ("RUN <<'E'\n$a\nE", &[("E", "$a\n", false, false)]),
        ("RUN <<\"E F\"\na\nE F", &[("E F", "a\n", false, false)]),
        ("RUN <<-'E'\na\nE", &[("E", "a\n", false, true)]),
        ("RUN <<A <<B cat\na\nA\nb\nB", &[("A", "a\n", true, false), ("B", "b\n", true, false)]),
        ("RUN <<A cat > f && <<B cat\na\nA\nb\nB", &[("A", "a\n", true, false), ("B", "b\n", true, false)]),
        ("RUN 3<<E cat\na\nE", &[("E", "a\n", true, false)]),
        ("RUN << E cat\na\nE", &[("E", "a\n", true, false)]),
        ("RUN <<E\n# a\n\nb \\\nE", &[("E", "# a\n\nb \\\n", true, false)]),
        ("RUN <<E\r\na\r\nE\r\n", &[("E", "a\r\n", true, false)]),
        ("RUN cat <<E \\\n  > f\na\nE", &[("E", "a\n", true, false)]),
        ("RUN <<$E\na\n$E", &[("$E", "a\n", true, false)]),
        ("COPY <<E /a\nb\nE", &[("E", "b\n", true, false)]),
        ("COPY <<E <<F /a/\nb\nE\nc\nF", &[("E", "b\n", true, false), ("F", "c\n", true, false)]),
        ("ADD <<-\"E\" /a\nb\nE", &[("E", "b\n", false, true)]),
        ("ONBUILD RUN <<E\na\nE", &[("E", "a\n", true, false)]),
        ("RUN << -E\na\n-E", &[("-E", "a\n", true, false)]),
        ("RUN <<- E > f\na\n\tE", &[("E", "a\n", true, true)]),
        ("RUN <<  'E F' > f\na\nE F", &[("E F", "a\n", false, false)]),
        ("RUN <<e'o'\\'f\na\neo'f", &[("eo'f", "a\n", false, false)]),
        ("RUN <<e\\'f\na\ne'f", &[("e'f", "a\n", true, false)]),
        ("COPY <<X <<Y /d\nY\nX\nX\nY", &[("X", "Y\n", true, false), ("Y", "X\n", true, false)]),
        ("RUN x=3; ((x << y)); ((x << 2))", &[]),
        ("USER <<E", &[]),
        ("RUN cat <<<E", &[]),
        ("RUN echo $((1<<3)) $((1 << x))", &[]),
        ("RUN echo \"<<E\" '<<E' a<<E", &[]),
        ("RUN [\"<<E\"]", &[]),
        ("RUN echo it's <<E", &[]),
        ("RUN <<", &[]),
        ("RUN <<''", &[]),
        ("CMD <<E", &[]),
        ("ENV a=<<E", &[]),
    ];
    for (text, expected) in table {
        let (found, _, count, _) = documents(text);
        let found: Vec<_> = found.iter().map(|(name, content, e, c)| (&**name, &**content, *e, *c)).collect();
        assert_eq!(found, *expected, "{text}");
        assert_eq!(count, 1, "{text}");
    }
    let (_, args, _, end) = documents("COPY --chmod=1 <<A b <<'C D' /e\nA\nC D\n");
    assert_eq!((args, end), (json!(["<<A", "b", "<<'C D'", "/e"]), 3));
}

#[test]
fn a_trigger_is_the_child() {
    let all = instructions("ONBUILD copy --from=a \\\n b c\nONBUILD ONBUILD RUN x\nONBUILD\n");
    assert_eq!(all[0]["name"], "onbuild");
    assert_eq!(
        all[0]["child"],
        json!({"name": "copy", "flags": ["--from=a"], "args": ["b", "c"], "json": false, "line": 1,
            "end_line": 2, "heredocs": [], "child": null})
    );
    assert_eq!(all[1]["child"]["name"], "onbuild");
    assert_eq!(all[2]["child"], Value::Null);
}

#[test]
fn what_is_an_error_of_form() {
    let fault = |text: &str| {
        let faults = parse_form("Dockerfile", text.as_bytes()).unwrap_err();
        (faults.all.len(), faults.source.line(faults.all[0].span.start))
    };
    assert_eq!(fault(""), (1, 1));
    assert_eq!(fault("# c\n\n"), (1, 3));
    assert_eq!(fault("FROM a\nENV b\n"), (1, 2));
    assert_eq!(fault("FROM a\nENV b=c d\nLABEL x\n"), (2, 2));
    assert_eq!(fault("FROM a\nCMD [1]"), (1, 2));
    assert_eq!(fault("CMD [\"a\", null, {\"b\": []}, true]"), (3, 1));
    assert_eq!(fault("FROM a\nRUN <<E\nx\n"), (1, 2));
    assert_eq!(fault("HEALTHCHECK CMD [[]]"), (1, 1));
    for text in ["FROM\n", "RUN x\n", "RNU --y\n", "HEALTHCHECK\n", "FROM a\nRUN --moutn=x y\n", "ENV a=\"b"]
    {
        assert!(parse_form("Dockerfile", text.as_bytes()).is_ok(), "{text}");
    }
}

#[test]
fn fixtures() {
    for name in ["everything", "windows"] {
        let path = format!("{}/fixtures/dockerfile/{name}.Dockerfile", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read(path).unwrap();
        let file = parse_form(name, &text).unwrap();
        insta::assert_json_snapshot!(name, dump(&file));
        assert!(crate::dockerfile::parse(name, &text).is_ok(), "{name}");
    }
}
