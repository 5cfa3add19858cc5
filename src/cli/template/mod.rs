//! The part of Go's `text/template` that `--format` needs, on JSON values.
//!
//! Takes a template and a [`serde_json::Value`] with Docker's field names, gives text. Known are
//! fields, variables, `if`, `range`, `with` (each with `else`), pipelines, comments, trim marks,
//! and the functions in [`functions::NAMES`]. What Go prints for values (`[a b]`, `map[k:v]`,
//! `<nil>`, `<no value>`) is printed here. Nothing is read but the value; nesting is bounded, and
//! as a template has no loop but over the value, every template ends.

mod eval;
mod functions;
mod lex;
mod parse;

use serde_json::Value;

/// A template that can be rendered many times.
#[derive(Debug, Clone)]
pub struct Template {
    nodes: Vec<parse::Node>,
}

/// Why a template cannot be read or rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template, character {}: {message}", .at + 1)]
pub struct TemplateError {
    /// The character of the template, from 0.
    pub at: usize,
    /// What is wrong there.
    pub message: String,
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Ok(Self { nodes: parse::parse(text)? })
    }

    /// The text that the template makes of `value`.
    pub fn render(&self, value: &Value) -> Result<String, TemplateError> {
        eval::render(&self.nodes, value)
    }
}

/// A value as Go prints it.
pub fn print(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(print).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            let fields: Vec<String> =
                fields.into_iter().map(|(key, value)| format!("{key}:{}", print(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Value {
        json!({
            "Id": "sha256:abc",
            "RepoTags": ["a:1", "b:2"],
            "Size": 12,
            "Ratio": 1.5,
            "Parent": "",
            "Empty": null,
            "Volumes": null,
            "Config": {"Cmd": ["sh", "-c"], "Labels": {"x.y": "<1>", "a": "b"}, "Tty": true},
        })
    }

    fn render(template: &str) -> String {
        Template::parse(template)
            .and_then(|template| template.render(&sample()))
            .unwrap_or_else(|e| e.to_string())
    }

    #[test]
    fn what_go_prints() {
        for (template, expected) in [
            ("plain", "plain"),
            ("{{.Id}}", "sha256:abc"),
            ("{{ .Id }}-{{.Size}}", "sha256:abc-12"),
            ("{{.Config.Cmd}}", "[sh -c]"),
            ("{{.Config.Labels}}", "map[a:b x.y:<1>]"),
            ("{{.Empty}} {{.Ratio}} {{.Config.Tty}}", "<nil> 1.5 true"),
            ("{{.Volumes}} {{.Config.Entrypoint}} {{.Config.StopSignal}}|", "map[] [] |"),
            ("{{json .Config.Labels}}", r#"{"x.y":"<1>","a":"b"}"#),
            ("{{json .}}", &sample().to_string()),
            (r#"{{index .Config.Labels "x.y"}}"#, "<1>"),
            (r#"{{index .Config.Labels "none"}}|"#, "|"),
            ("{{.Config.Labels.none}}", "<no value>"),
            ("{{index .RepoTags 1}}", "b:2"),
            ("{{(index .RepoTags 0)}}", "a:1"),
            ("{{range .RepoTags}}<{{.}}>{{end}}", "<a:1><b:2>"),
            ("{{range $i, $t := .RepoTags}}{{$i}}={{$t}},{{end}}", "0=a:1,1=b:2,"),
            ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "a=b;x.y=<1>;"),
            ("{{range .Parent}}x{{else}}none{{end}}", "none"),
            ("{{if .Parent}}a{{else if .Size}}b{{else}}c{{end}}", "b"),
            ("{{with .Config}}{{.Cmd}}{{$.Size}}{{end}}", "[sh -c]12"),
            ("{{$x := .Size}}{{$x}}{{$x = 3}}{{$x}}", "123"),
            ("a {{- .Size -}} b", "a12b"),
            ("{{/* nothing */}}x", "x"),
            ("{{.Id | upper | printf \"%q\"}}", "\"SHA256:ABC\""),
            (r#"{{join .RepoTags ", "}}"#, "a:1, b:2"),
            (r#"{{split "a,b" ","}}"#, "[a b]"),
            (r#"{{title "hello world"}}{{lower "ABC"}}"#, "Hello Worldabc"),
            (r#"{{truncate "hello" 2}}{{pad "x" 1 2}}|"#, "he x  |"),
            ("{{len .RepoTags}}{{len .Id}}", "210"),
            (r#"{{println "a" 1}}"#, "a 1\n"),
            (r#"{{printf "%-5s|%3d|%v" "ab" 7 .RepoTags}}"#, "ab   |  7|[a:1 b:2]"),
            (r#"{{if eq .Size 12}}y{{end}}{{if ne .Id "z"}}y{{end}}{{eq 1 2 1}}"#, "yytrue"),
            (r#"{{if and .Size (not .Parent)}}y{{end}}{{or .Parent "none"}}"#, "ynone"),
            (r#"{{lt 1 2}}{{ge "a" "b"}}"#, "truefalse"),
            ("{{`raw \\n`}}{{\"\\t\"}}", "raw \\n\t"),
            (r#"{{slice .Id 7}}{{slice .Id 0 3}}"#, "abcsha"),
        ] {
            assert_eq!(render(template), expected, "{template}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (template, expected) in [
            ("{{.Id", "template, character 1: this action has no `}}`"),
            ("{{nope}}", "template, character 3: there is no function `nope`"),
            ("{{uper .Id}}", "template, character 3: there is no function `uper`; did you mean `upper`?"),
            ("{{if .Id}}", "template, character 3: this `if` has no `end`"),
            ("{{end}}", "template, character 3: unexpected `end`"),
            ("{{else}}", "template, character 3: unexpected `else`"),
            ("{{.ID}}", "template, character 3: there is no field `ID`; did you mean `Id`?"),
            ("{{.Id.X}}", "template, character 3: `Id` is a string and has no field `X`"),
            ("{{index .RepoTags 9}}", "template, character 3: index 9 is outside a list of 2"),
            ("{{$x}}", "template, character 3: there is no variable `$x`"),
            ("{{range .Size}}{{end}}", "template, character 9: `range` needs a list or a map, not a number"),
            ("{{json}}", "template, character 3: `json` takes 1 argument, not 0"),
            ("{{template \"x\"}}", "template, character 3: `template` is not supported"),
            ("{{\"x}}", "template, character 3: this string has no end"),
            ("{{(.Id}}", "template, character 3: this `(` has no `)`"),
            ("{{.Id | .Size}}", "template, character 9: only a function can take what is piped into it"),
        ] {
            assert_eq!(render(template), expected, "{template}");
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = format!("{{{{{}1{}}}}}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(render(&deep).contains("too deep"));
        let deep = format!("{}{}", "{{if 1}}".repeat(100_000), "{{end}}".repeat(100_000));
        assert!(render(&deep).contains("too deep"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_panic(text in "[{}a-z .|()$:=\"'`%0-9-]{0,40}") {
            let _ = render(&text);
            let _ = render(&format!("{{{{{text}}}}}"));
        }
    }
}
