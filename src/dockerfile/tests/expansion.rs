//! Words and here-documents with their variables, against a table of what Docker's builder makes
//! of them.

use crate::base::span::Span;
use crate::dockerfile::{expand, parse_word};

/// The variables of every case; anything else is not set.
fn lookup(name: &str) -> Option<String> {
    let value = match name {
        "X" => "foobarbaz",
        "E" => "",
        "P" => "/usr/lib/a.tar.gz",
        "K" => "한국어",
        "S" => "a b  c",
        "D" => "$X",
        "Q" => "\"q\" 'r'",
        "STAR" => "a*b*c",
        "GLOB" => "b*",
        "VERSION" => "v1.2.3",
        "_u1" => "under",
        _ => return None,
    };
    Some(value.to_owned())
}

fn expanded(text: &str, escape: char) -> Result<String, String> {
    let word = parse_word(text, escape).map_err(|fault| fault.message)?;
    expand::word(&word, &lookup).map_err(|fault| fault.message)
}

/// (the word, what it comes to)
const WORDS: &[(&str, &str)] = &[
    // Text, quotes and escapes.
    ("", ""),
    ("hello", "hello"),
    ("he'll'o", "hello"),
    ("'hello'", "hello"),
    ("\"hello\"", "hello"),
    ("''", ""),
    ("\"\"", ""),
    ("'a''b'", "ab"),
    ("\"a\"'b'c", "abc"),
    ("'a\"b'", "a\"b"),
    ("\"a'b\"", "a'b"),
    ("\"he'llo", "error"),
    ("'hello", "error"),
    ("hello'", "error"),
    ("\"hello", "error"),
    ("hello\"", "error"),
    ("'a\\'b'", "error"),
    ("'a\\'", "a\\"),
    ("'a\\\\b'", "a\\\\b"),
    ("\\'a\\'", "'a'"),
    ("\\\"a\\\"", "\"a\""),
    ("a\\ b", "a b"),
    ("a\\nb", "anb"),
    ("a\\\\b", "a\\b"),
    ("a\\", "a"),
    ("\\\\", "\\"),
    ("\\", ""),
    ("\"a\\nb\"", "a\\nb"),
    ("\"a\\\\b\"", "a\\b"),
    ("\"a\\\"b\"", "a\"b"),
    ("\"a\\$b\"", "a$b"),
    ("\"a\\`b\"", "a\\`b"),
    ("\"a\\'b\"", "a\\'b"),
    ("a b  c", "a b  c"),
    ("한국어", "한국어"),
    ("\\한", "한"),
    // Plain references.
    ("$X", "foobarbaz"),
    ("${X}", "foobarbaz"),
    ("a$X", "afoobarbaz"),
    ("$X.b", "foobarbaz.b"),
    ("${X}b", "foobarbazb"),
    ("$Xb", ""),
    ("$X-b", "foobarbaz-b"),
    ("$X$X", "foobarbazfoobarbaz"),
    ("${X}${E}x", "foobarbazx"),
    ("$_u1", "under"),
    ("${_u1}", "under"),
    ("$E", ""),
    ("a${E}b", "ab"),
    ("$U", ""),
    ("a${U}b", "ab"),
    ("$K", "한국어"),
    ("안녕${K}안녕", "안녕한국어안녕"),
    ("$한국", ""),
    ("'$X'", "$X"),
    ("'${X}'", "${X}"),
    ("\"$X\"", "foobarbaz"),
    ("\"${X}\"", "foobarbaz"),
    ("\"'$X'\"", "'foobarbaz'"),
    ("'\"$X\"'", "\"$X\""),
    ("\\$X", "$X"),
    ("\\${X}", "${X}"),
    ("\"\\$X\"", "$X"),
    ("\"\\${X}\"", "${X}"),
    ("\\\\$X", "\\foobarbaz"),
    ("\\\\\\$X", "\\$X"),
    ("$D", "$X"),
    ("$Q", "\"q\" 'r'"),
    ("$S", "a b  c"),
    // Dollar signs before no name.
    ("$", "$"),
    ("a$", "a$"),
    ("$ a", "$ a"),
    ("$.", "$."),
    ("$/a", "$/a"),
    ("\"$\"", "$"),
    ("$'a'", "$a"),
    ("$\"a\"", "$a"),
    ("$\\a", "$a"),
    ("$(ls)", "$(ls)"),
    ("$$", ""),
    ("$$X", "X"),
    ("$${X}", "{X}"),
    // Positional and special names: never set, one character or a number.
    ("$1", ""),
    ("a$1b", "ab"),
    ("$123x", "x"),
    ("${12}", ""),
    ("$1X", "X"),
    ("$@", ""),
    ("${@}", ""),
    ("$*a", "a"),
    ("$#a", "a"),
    ("$?a", "a"),
    ("$-a", "a"),
    ("$!a", "a"),
    ("$0a", "a"),
    ("${#}", ""),
    ("${?}", ""),
    // Malformed references.
    ("${", "error"),
    ("${X", "error"),
    ("a${X", "error"),
    ("\"${X\"", "error"),
    ("${}", "error"),
    ("${ }", "error"),
    ("${ X}", "error"),
    ("${X }", "error"),
    ("${{X}", "error"),
    ("${:X}", "error"),
    ("${:}", "error"),
    ("${X:}", "error"),
    ("${X:x}", "error"),
    ("${X=x}", "error"),
    ("${X:=x}", "error"),
    ("${X=:x}", "error"),
    ("${X^^}", "error"),
    ("${X,}", "error"),
    ("${X:1:2}", "error"),
    ("${X[0]}", "error"),
    ("${#X}", "error"),
    ("${!X}", "error"),
    ("${X.b}", "error"),
    ("${X$E}", "error"),
    ("${X:-", "error"),
    ("${X:-a", "error"),
    ("${X:-'a}", "error"),
    ("${X:-\"a}", "error"),
    // Defaults.
    ("${U:-a}", "a"),
    ("${U-a}", "a"),
    ("${E:-a}", "a"),
    ("${E-a}", ""),
    ("${X:-a}", "foobarbaz"),
    ("${X-a}", "foobarbaz"),
    ("${U:-}", ""),
    ("${U-}", ""),
    ("${U:-$X}", "foobarbaz"),
    ("${U:-${X}}", "foobarbaz"),
    ("${U:-${E:-${X}}}", "foobarbaz"),
    ("${U:-a}b", "ab"),
    ("${U:-a b}", "a b"),
    ("${U:-'a}b'}", "a}b"),
    ("${U:-\"a}b\"}", "a}b"),
    ("${U:-a\\}b}", "a}b"),
    ("${U:-\\$X}", "$X"),
    ("${U:-'$X'}", "$X"),
    ("${U:-\"$X\"}", "foobarbaz"),
    ("\"${U:-a}\"", "a"),
    ("\"${U:-\"a b\"}\"", "a b"),
    ("${U:--}", "-"),
    ("${U--a}", "-a"),
    ("${U:-:a}", ":a"),
    ("${U:-a:b/c}", "a:b/c"),
    ("${U:-$}", "$"),
    ("${U:-{a}}", "{a}"),
    ("${1:-a}", "a"),
    ("${@:-a}", "a"),
    ("${K:-a}", "한국어"),
    ("${U:-한}", "한"),
    // Alternatives.
    ("${X:+a}", "a"),
    ("${X+a}", "a"),
    ("${E:+a}", ""),
    ("${E+a}", "a"),
    ("${U:+a}", ""),
    ("${U+a}", ""),
    ("${X:+-$VERSION}", "-v1.2.3"),
    ("${X:+${U:-b}}c", "bc"),
    ("${X:+}", ""),
    // Requirements.
    ("${X:?a}", "foobarbaz"),
    ("${X?a}", "foobarbaz"),
    ("${E?a}", ""),
    ("${E:?a}", "error"),
    ("${U?a}", "error"),
    ("${U:?a}", "error"),
    ("${U:?}", "error"),
    ("${U?}", "error"),
    ("${X:?$U}", "foobarbaz"),
    ("${X:-${U:?a}}", "error"),
    // Prefixes.
    ("${X#f*b}", "arbaz"),
    ("${X##f*b}", "az"),
    ("${X#foo}", "barbaz"),
    ("${X##foo}", "barbaz"),
    ("${X#bar}", "foobarbaz"),
    ("${X#*}", "foobarbaz"),
    ("${X##*}", ""),
    ("${X#?}", "oobarbaz"),
    ("${X#???}", "barbaz"),
    ("${X#}", "foobarbaz"),
    ("${X##}", "foobarbaz"),
    ("${P##*/}", "a.tar.gz"),
    ("${P#*/}", "usr/lib/a.tar.gz"),
    ("${VERSION#v}", "1.2.3"),
    ("${STAR#a\\*}", "b*c"),
    ("${STAR#a*}", "*b*c"),
    ("${STAR##*\\*}", "c"),
    ("${X#'foo'}", "barbaz"),
    ("${X#\"foo\"}", "barbaz"),
    ("${X#$U}", "foobarbaz"),
    ("${X#${U:-foo}}", "barbaz"),
    ("${U#a}", ""),
    ("${K#?}", "국어"),
    ("${X#a\\b}", "error"),
    ("${X#.}", "foobarbaz"),
    ("${X:#foo}", "barbaz"),
    // Suffixes.
    ("${X%b*}", "foobar"),
    ("${X%%b*}", "foo"),
    ("${X%baz}", "foobar"),
    ("${X%foo}", "foobarbaz"),
    ("${X%*}", "foobarbaz"),
    ("${X%%*}", ""),
    ("${X%?}", "foobarba"),
    ("${X%}", "foobarbaz"),
    ("${P%.*}", "/usr/lib/a.tar"),
    ("${P%%.*}", "/usr/lib/a"),
    ("${P%/*}", "/usr/lib"),
    ("${STAR%\\**}", "a*b"),
    ("${STAR%%\\**}", "a"),
    ("${K%?}", "한국"),
    ("${X%$GLOB}", "foobar"),
    ("${X%%$GLOB}", "foo"),
    ("${U%a}", ""),
    ("${X%\\}", "error"),
    // Replacements.
    ("${X/ba/fo}", "fooforbaz"),
    ("${X//ba/fo}", "fooforfoz"),
    ("${X/b*/x}", "foox"),
    ("${X//b?/x}", "fooxrxz"),
    ("${X/q/x}", "foobarbaz"),
    ("${X/ba/}", "foorbaz"),
    ("${X//ba/}", "foorz"),
    ("${X/o/$VERSION}", "fv1.2.3obarbaz"),
    ("${X/$U/a}", "afoobarbaz"),
    ("${X//$GLOB/x}", "foox"),
    ("${P//\\//_}", "_usr_lib_a.tar.gz"),
    ("${P/lib/\\/}", "/usr/\\//a.tar.gz"),
    ("${P//'/'/-}", "-usr-lib-a.tar.gz"),
    ("${STAR//\\*/-}", "a-b-c"),
    ("${X/ba/$$1}", "foo1rbaz"),
    ("${X/ba/'$1'}", "foo$1rbaz"),
    ("${X///}", "foobarbaz"),
    ("${U//a/b}", ""),
    ("${X/ba}", "error"),
    ("${X//ba}", "error"),
    ("${X//}", "error"),
    ("${X/", "error"),
    ("${X/a/b", "error"),
    ("${K/국/x}", "한x어"),
];

#[test]
fn words() {
    assert!(WORDS.len() >= 120);
    for (text, expected) in WORDS {
        match expanded(text, '\\') {
            Ok(found) => assert_eq!(found, *expected, "{text}"),
            Err(message) => assert_eq!("error", *expected, "{text}: {message}"),
        }
    }
}

#[test]
fn the_backtick_as_escape_character() {
    for (text, expected) in [
        ("`$X", "$X"),
        ("\\$X", "\\foobarbaz"),
        ("c:\\a\\$X", "c:\\a\\foobarbaz"),
        ("a` b", "a b"),
        ("\"a`\"b\"", "a\"b"),
        ("\"a\\nb\"", "a\\nb"),
        ("``", "`"),
        ("${U:-a`}b}", "a}b"),
        ("${U:-a\\b}", "a\\b"),
        ("'`'", "`"),
        ("${STAR#a\\*}", "b*c"),
    ] {
        assert_eq!(expanded(text, '`').as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn messages() {
    for (text, expected) in [
        ("${U:?say $X}", "U: say foobarbaz"),
        ("${U?}", "the variable `U` must be set"),
        ("${E:?}", "the variable `E` must not be empty"),
        ("${X^^}", "`^` cannot follow a variable's name"),
        ("${X:=a}", "`:=` cannot follow a variable's name"),
        ("${X:한}", "`:한` cannot follow a variable's name"),
        ("${}", "no variable name follows `${`"),
        ("${X", "the brace of this variable is not closed"),
        ("${X:-'a}", "the single quote is not closed"),
        ("\"a", "the double quote is not closed"),
        ("${X/a}", "the pattern is not followed by `/` and its replacement"),
        ("${X#\\a}", "`\\a` means nothing in a pattern"),
    ] {
        assert_eq!(expanded(text, '\\'), Err(expected.to_owned()), "{text}");
    }
}

#[test]
fn splitting_into_words() {
    for (text, expected) in [
        ("80", &["80"][..]),
        ("$S", &["a", "b", "c"]),
        ("x${S}y", &["xa", "b", "cy"]),
        ("\"$S\"", &["a b  c"]),
        ("'a b'", &["a b"]),
        ("$U", &[]),
        ("$E$U", &[]),
        ("${U:-1 2}/tcp", &["1", "2/tcp"]),
        ("\"\"", &[]),
    ] {
        let words = expand::words(&parse_word(text, '\\').unwrap(), &lookup).unwrap();
        assert_eq!(words, expected, "{text}");
    }
}

#[test]
fn bodies_of_here_documents() {
    for (text, expected) in [
        ("a $X\n", "a foobarbaz\n"),
        ("\"$X\" '$X'\n", "\"foobarbaz\" 'foobarbaz'\n"),
        ("it's\n", "it's\n"),
        ("\\$X \\\\ \\a\n", "$X \\ a\n"),
        ("\\\n", "\n"),
        ("${U:-'a'}\n", "'a'\n"),
        ("${U:-\"}\"}\n", "\"\"}\n"),
        ("${U:-${X}}\n", "foobarbaz\n"),
        ("${P##*/}\n${X//ba/\"fo\"}\n", "a.tar.gz\nfoo\"fo\"r\"fo\"z\n"),
        ("$ $(a)\n", "$ $(a)\n"),
        ("", ""),
    ] {
        let found = expand::heredoc(text, Span::new(0, text.len()), &lookup);
        assert_eq!(found.map_err(|fault| fault.message).as_deref(), Ok(expected), "{text}");
    }
    let fault = expand::heredoc("a\n${X", Span::new(10, 16), &lookup).unwrap_err();
    assert_eq!(fault.span, Span::new(12, 15));
}

#[test]
fn names_are_reported() {
    let names = |text: &str| {
        let expanded = expand::expand(&parse_word(text, '\\').unwrap(), &lookup).unwrap();
        (expanded.used.join(" "), expanded.undefined.join(" "))
    };
    let pair = |used: &str, undefined: &str| (used.to_owned(), undefined.to_owned());
    assert_eq!(names("x"), pair("", ""));
    assert_eq!(names("$X $U $X"), pair("X", "U"));
    assert_eq!(names("${X:-$U}${E+$P}"), pair("X P E", "U"));
    assert_eq!(names("${X/$GLOB/$V}"), pair("GLOB X", "V"));
}

#[test]
fn what_grows_without_end_is_stopped() {
    let many = |_: &str| Some("x".repeat(1 << 20));
    let word = parse_word(&"$a".repeat(64), '\\').unwrap();
    assert!(expand::word(&word, &many).is_err());
    let deep = "${a:-".repeat(5000);
    assert!(parse_word(&deep, '\\').is_err());
    let forged = "${^'}".to_owned() + &"${a:-".repeat(100_000);
    assert!(parse_word(&forged, '\\').is_err());
}
