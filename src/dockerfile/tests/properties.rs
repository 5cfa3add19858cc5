//! What holds for every input. The same bodies are fuzzed (`fuzz/`).

use proptest::prelude::*;

use crate::dockerfile::properties;

/// Pieces of which files that get far are made.
const PIECES: &[&str] = &[
    "FROM ",
    "RUN ",
    "COPY ",
    "ENV ",
    "ARG ",
    "LABEL ",
    "HEALTHCHECK ",
    "ONBUILD ",
    "SHELL ",
    "CMD ",
    "\n",
    "\n",
    "\r\n",
    " ",
    " ",
    "\\\n",
    "\\",
    "`",
    "# escape=`\n",
    "#",
    "--mount=",
    "--x",
    "--",
    "type=cache,target=/a,",
    "=",
    "\"",
    "'",
    "$",
    "${",
    "}",
    ":-",
    "##",
    "/",
    "<<",
    "<<-",
    "EOF",
    "\nEOF\n",
    "[",
    "]",
    ",",
    "\"a\"",
    "a",
    "b c",
    "é",
    "\u{feff}",
    "\t",
    "\\u00e9",
    "\\ud800",
    "{",
    "1",
    "null",
    "\u{85}",
    "\u{a0}",
    "AS ",
    "NONE",
    "*",
    "?",
];

fn pieces() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(PIECES), 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn dockerfiles_of_pieces(text in pieces()) {
        properties::dockerfile(text.as_bytes());
        properties::dockerfile(format!("FROM a\n{text}").as_bytes());
    }

    #[test]
    fn dockerfiles_of_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        properties::dockerfile(&bytes);
    }

    #[test]
    fn words(text in pieces()) {
        properties::expansion(text.as_bytes());
    }

    #[test]
    fn ignore_files(text in "([!#/*?\\[\\]\\\\ab.^-]{0,8}\n){0,6}", path in "[ab.]{1,3}(/[ab.]{1,3}){0,4}") {
        properties::ignore_file(format!("{path}\n{text}").as_bytes());
    }
}

#[test]
fn seeds_of_the_fuzzer() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus");
    type Body = fn(&[u8]);
    let bodies: [(&str, Body); 3] = [
        ("dockerfile", properties::dockerfile),
        ("ignore_file", properties::ignore_file),
        ("expansion", properties::expansion),
    ];
    for (name, body) in bodies {
        let seeds = std::fs::read_dir(format!("{root}/{name}")).unwrap();
        let count = seeds.map(|seed| body(&std::fs::read(seed.unwrap().path()).unwrap())).count();
        assert!(count > 0, "{name} has no seeds");
    }
}
