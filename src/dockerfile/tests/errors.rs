//! How errors look: each underlines exactly what is wrong and says what to do.

use crate::dockerfile::{parse, parse_change, parse_form, parse_trigger};

/// The errors of each Dockerfile, behind the Dockerfile.
fn rendered(files: &[&[u8]]) -> String {
    let texts: Vec<String> = files
        .iter()
        .map(|file| match parse("Dockerfile", file) {
            Ok(_) => format!("NO ERROR in {:?}", String::from_utf8_lossy(file)),
            Err(faults) => faults.render(false),
        })
        .collect();
    texts.join("\n\n────\n\n")
}

/// The errors of single instructions in a stage.
fn of_instructions(instructions: &[&str]) -> String {
    let files: Vec<String> = instructions.iter().map(|text| format!("FROM a\n{text}\n")).collect();
    let files: Vec<&[u8]> = files.iter().map(|file| file.as_bytes()).collect();
    rendered(&files)
}

#[test]
fn of_files() {
    insta::assert_snapshot!(rendered(&[
        b"",
        b"# nothing here\n",
        b"FROM a\nRUN x\0y\n",
        b"FROM a\nRUN \xff\n",
        b"# escape=x\nFROM a\n",
        b"# syntax=a\n# syntax=b\nFROM a\n",
        b"RUN a\nCOPY a b\nFROM a\n",
        b"ARG a\n",
        b"ARG a=1\nRNU b\n",
    ]));
}

#[test]
fn of_form() {
    insta::assert_snapshot!(of_instructions(&[
        "ENV A",
        "ENV A=1 B C=2",
        "LABEL a",
        "CMD [\"a\", 1]",
        "ENTRYPOINT [[\"a\"]]",
        "RUN <<EOF cat\nEOFF",
        "COPY <<A <<-'B' /c\nA\n",
    ]));
}

#[test]
fn of_words() {
    insta::assert_snapshot!(of_instructions(&[
        "ENV A=\"b c",
        "ENV A=b'c d",
        "WORKDIR /a/${B",
        "WORKDIR /a/${}/b",
        "ENV A=${B^^}",
        "LABEL a=\\\n  b c=${D:=e}",
        "COPY a${B/c} /d",
        "USER ${A:-\"b}",
    ]));
}

#[test]
fn of_flags() {
    insta::assert_snapshot!(of_instructions(&[
        "RUN --moutn=type=cache,target=/a b",
        "COPY --chwon=1 a b",
        "ADD --from=b c d",
        "COPY --checksum=sha256:a b c",
        "COPY --from a b",
        "COPY --link=yes a b",
        "COPY --chown=a --chown=b c d",
        "ENV --a b=c",
        "COPY --from= a b",
        "RUN --network=hots a",
        "RUN --security=none a",
        "COPY --chmod=rw a b",
        "COPY --chmod=9755 a b",
        "COPY --chown=${A a b",
    ]));
}

#[test]
fn of_mounts() {
    insta::assert_snapshot!(of_instructions(&[
        "RUN --mount=type=cahce,target=/a b",
        "RUN --mount=type=cache,traget=/a b",
        "RUN --mount=type=cache b",
        "RUN --mount=type=cache,target=/a,sharing=lock b",
        "RUN --mount=type=cache,target=/a,mode=789,uid=root b",
        "RUN --mount=type=tmpfs,target=/a,size=big b",
        "RUN --mount=type=bind,target=/a,id=x b",
        "RUN --mount=type=secret b",
        "RUN --mount=type=secret,id=a,src=b c",
        "RUN --mount=type=secret,id=a,required=maybe c",
        "RUN --mount=type=bind,target b",
        "RUN --mount=type=bind,,target=/a b",
        "RUN --mount=type=bind,target=\\\n/a,x=y b",
    ]));
}

#[test]
fn of_instructions_alone() {
    insta::assert_snapshot!(of_instructions(&[
        "CPOY a b",
        "HELLO world",
        "RUN",
        "RUN []",
        "CMD",
        "COPY",
        "COPY a",
        "COPY a <<E\nE",
        "COPY [\"a\", \"\"]",
        "EXPOSE",
        "VOLUME [\"\"]",
        "ENV",
        "ENV =a",
        "ARG",
        "ARG =a",
        "WORKDIR",
        "SHELL /bin/sh -c",
        "SHELL []",
        "HEALTHCHECK",
        "HEALTHCHECK CDM a",
        "HEALTHCHECK CMD",
        "HEALTHCHECK NONE a b",
        "HEALTHCHECK --interval=30 --timeout=10us --retries=-1 CMD a",
        "ONBUILD",
        "ONBUILD ONBUILD RUN a",
        "ONBUILD FROM a",
        "ONBUILD MAINTAINER a",
        "ONBUILD RNU a",
        "ONBUILD COPY --form=a b c",
    ]));
}

#[test]
fn of_from() {
    insta::assert_snapshot!(rendered(&[
        b"FROM",
        b"FROM a b",
        b"FROM a AS",
        b"FROM a AS b c d",
        b"FROM a IS b",
        b"FROM a AS 1b",
        b"FROM a AS b/c",
        b"FROM --plaform=linux/amd64 a",
        b"FROM a${B\nRUN --x a\nCOPY b\n",
    ]));
}

#[test]
fn of_triggers_and_changes() {
    let mut texts = Vec::new();
    for text in ["FROM a", "RUN a\nRUN b", "", "RUN --mount=a b", "ONBUILD RUN a"] {
        texts.push(parse_trigger(text).map(|_| ()).unwrap_err().render(false));
    }
    for text in ["RUN a", "CDM a", "FROM a", "CMD", "ENV A"] {
        texts.push(parse_change(text).map(|_| ()).unwrap_err().render(false));
    }
    insta::assert_snapshot!(texts.join("\n\n────\n\n"));
}

#[test]
fn of_files_without_measure() {
    let messages = |text: String| match parse("Dockerfile", text.as_bytes()) {
        Ok(_) => Vec::new(),
        Err(faults) => {
            assert!(faults.render(false).len() < 4 << 20);
            faults.all.into_iter().map(|fault| fault.message).collect()
        }
    };
    let long = "a".repeat(1_100_000);
    assert_eq!(messages(format!("FROM a\nRUN {long}")), ["this instruction is longer than 1024 KiB"]);
    assert_eq!(messages(format!("FROM a\nCOPY <<'E' /f\n{long}\nE\n")), [""; 0]);
    let many = parse_form("Dockerfile", "CMD\n".repeat(50_001).as_bytes()).unwrap_err();
    assert_eq!(many.all[0].message, "the file has more than 50000 instructions");
    assert_eq!(messages("FROM a\n".to_owned() + &"RNU a\n".repeat(1000)).len(), 50);
    assert_eq!(messages("FROM a\nRUN ".to_owned() + &"--x ".repeat(10_000)).len(), 50);
    let nested = messages("FROM a\nENV a=".to_owned() + &"${b:-".repeat(10_000));
    assert_eq!(nested, ["variable references nest deeper than 40"]);
    assert_eq!(messages("FROM a\nRUN ".to_owned() + &"[".repeat(1_000_000)), [""; 0]);
    let name = &messages(format!("FROM a\n{} x", "é".repeat(100_000)))[0];
    assert!(name.len() < 500, "{}", name.len());
}
