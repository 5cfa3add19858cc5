//! `--format`: rows with Docker's field names as a table, as JSON lines or through a template;
//! single objects as JSON or through a template.

use serde_json::{Map, Value};

use super::error::Result;
use super::table;
use super::template::Template;

/// What `--format` of a list takes.
pub const TABLE_HELP: &str = "Format output using a custom template:\n\
    'table':            Print output in table format with column headers (default)\n\
    'table TEMPLATE':   Print output in table format using the given Go template\n\
    'json':             Print in JSON format\n\
    'TEMPLATE':         Print output using the given Go template.";
/// What `--format` of single objects takes.
pub const OBJECT_HELP: &str = "Format output using a custom template:\n\
    'json':             Print in JSON format\n\
    'TEMPLATE':         Print output using the given Go template.";

/// How a list is printed.
#[derive(Debug, Clone, Copy)]
pub struct Columns {
    /// Field names and their headings. Fields that no row has may stand here too.
    pub headings: &'static [(&'static str, &'static str)],
    /// The table that is printed unless another is asked for.
    pub table: &'static str,
}

/// A row: field names and what the cells show.
pub type Row = Map<String, Value>;

/// Prints `rows` as `format` says: empty or `table`, `table TEMPLATE`, `json`, or a template.
pub fn rows(format: &str, columns: Columns, rows: &[Row]) -> Result<String> {
    let format = format.trim();
    if format == "json" {
        let lines = rows.iter().map(|row| json(&Value::Object(row.clone())) + "\n");
        return Ok(lines.collect());
    }
    let (template, is_table) = match format.strip_prefix("table") {
        _ if format.is_empty() => (columns.table, true),
        Some("") => (columns.table, true),
        Some(rest) if rest.starts_with([' ', '\t', '\\']) => (rest.trim_start(), true),
        _ => (format, false),
    };
    let template = Template::parse(&unescape(template))?;
    let mut text = String::new();
    if is_table {
        let headings = columns.headings.iter().map(|(name, title)| ((*name).to_owned(), (*title).into()));
        text.push_str(&template.render(&Value::Object(headings.collect()))?);
        text.push('\n');
    }
    for row in rows {
        text.push_str(&template.render(&Value::Object(row.clone()))?);
        text.push('\n');
    }
    Ok(if is_table { table::align(&text) } else { text })
}

/// Prints one object as `format` says: `json` or a template.
pub fn object(format: &str, value: &Value) -> Result<String> {
    if format.trim() == "json" {
        return Ok(json(value) + "\n");
    }
    let mut text = Template::parse(&unescape(format))?.render(value)?;
    text.push('\n');
    Ok(text)
}

/// `\t` and `\n` as typed between single quotes.
fn unescape(template: &str) -> String {
    template.replace("\\t", "\t").replace("\\n", "\n")
}

/// JSON on one line with `<`, `>` and `&` escaped, as Go writes it.
fn json(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: Columns = Columns {
        headings: &[("ID", "IMAGE ID"), ("Tag", "TAG"), ("Size", "SIZE")],
        table: "{{.ID}}\t{{.Tag}}",
    };

    fn shown(format: &str) -> String {
        let all =
            [json!({"ID": "a", "Tag": "<none>", "Size": "1B"}), json!({"ID": "b", "Tag": "t", "Size": "2B"})];
        let all: Vec<Row> = all.iter().map(|row| row.as_object().unwrap().clone()).collect();
        rows(format, COLUMNS, &all).unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn formats() {
        let default = "IMAGE ID   TAG\na          <none>\nb          t\n";
        for (format, expected) in [
            ("", default),
            ("table", default),
            (r"table {{.Size}}\t{{.ID}}", "SIZE      IMAGE ID\n1B        a\n2B        b\n"),
            ("{{.ID}}:{{.Tag}}", "a:<none>\nb:t\n"),
            (
                "json",
                "{\"ID\":\"a\",\"Tag\":\"\\u003cnone\\u003e\",\"Size\":\"1B\"}\n{\"ID\":\"b\",\"Tag\":\"t\",\"Size\":\"2B\"}\n",
            ),
            ("{{.Nope}}", "template, character 3: there is no field `Nope`"),
            ("tables", "tables\ntables\n"),
        ] {
            assert_eq!(shown(format), expected, "{format}");
        }
    }

    #[test]
    fn objects() {
        let value = json!({"Config": {"Cmd": ["a&b"]}});
        assert_eq!(object("json", &value).unwrap(), "{\"Config\":{\"Cmd\":[\"a\\u0026b\"]}}\n");
        assert_eq!(object("{{json .Config.Cmd}}", &value).unwrap(), "[\"a&b\"]\n");
    }
}
