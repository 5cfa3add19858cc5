//! The functions of templates: Go's own and those Docker adds.

use std::cmp::Ordering;

use serde_json::Value;

use super::print;
use crate::base::similar::nearest;

/// All functions, for completions and hints.
pub const NAMES: [&str; 23] = [
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not", "or", "pad",
    "print", "printf", "println", "slice", "split", "title", "truncate", "upper",
];

/// Calls `name`; the error is one line.
pub fn call(name: &str, mut arguments: Vec<Value>) -> Result<Value, String> {
    match name {
        "and" | "or" => return choose(name, arguments),
        "print" => return Ok(sprint(&arguments).into()),
        "println" => {
            let words: Vec<String> = arguments.iter().map(print).collect();
            return Ok(format!("{}\n", words.join(" ")).into());
        }
        "printf" => return printf(&arguments).map(Value::from),
        "index" => return index(&arguments),
        "slice" => return slice(&arguments),
        "eq" => return equal(&arguments),
        _ => {}
    }
    let count = arguments.len();
    let exactly = |wanted: usize| match count == wanted {
        true => Ok(()),
        false => Err(format!(
            "`{name}` takes {wanted} argument{}, not {count}",
            if wanted == 1 { "" } else { "s" }
        )),
    };
    match name {
        "json" => exactly(1).map(|()| arguments[0].to_string().into()),
        "upper" => exactly(1).and_then(|()| Ok(text(name, &arguments[0])?.to_uppercase().into())),
        "lower" => exactly(1).and_then(|()| Ok(text(name, &arguments[0])?.to_lowercase().into())),
        "title" => exactly(1).and_then(|()| Ok(title(text(name, &arguments[0])?).into())),
        "not" => exactly(1).map(|()| (!truth(&arguments[0])).into()),
        "len" => exactly(1).and_then(|()| length(&arguments[0])),
        "ne" => exactly(2).map(|()| (!same(&arguments[0], &arguments[1])).into()),
        "lt" | "le" | "gt" | "ge" => exactly(2).and_then(|()| compare(name, &arguments[0], &arguments[1])),
        "join" => exactly(2).and_then(|()| join(&arguments.remove(0), text(name, &arguments[0])?)),
        "split" => exactly(2).and_then(|()| {
            let (whole, separator) = (text(name, &arguments[0])?, text(name, &arguments[1])?);
            Ok(match separator {
                "" => whole.chars().map(String::from).collect::<Vec<_>>().into(),
                separator => whole.split(separator).collect::<Vec<_>>().into(),
            })
        }),
        "truncate" => exactly(2).and_then(|()| {
            let most = number(name, &arguments[1])?;
            Ok(text(name, &arguments[0])?.chars().take(most).collect::<String>().into())
        }),
        "pad" => exactly(3).and_then(|()| pad(&arguments)),
        _ => {
            let hint =
                nearest(name, NAMES).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            Err(format!("there is no function `{name}`{hint}"))
        }
    }
}

/// Whether a value counts as true: not false, zero, empty or nil.
pub fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// What kind of value it is, with its article.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

fn text<'v>(name: &str, value: &'v Value) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| format!("`{name}` needs a string, not {}", kind(value)))
}

fn number(name: &str, value: &Value) -> Result<usize, String> {
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| format!("`{name}` needs a whole number from 0, not {}", print(value)))
}

fn choose(name: &str, arguments: Vec<Value>) -> Result<Value, String> {
    let wanted = name == "or";
    let Some(last) = arguments.len().checked_sub(1) else {
        return Err(format!("`{name}` takes at least 1 argument"));
    };
    let found = arguments.iter().position(|value| truth(value) == wanted).unwrap_or(last);
    Ok(arguments.into_iter().nth(found).unwrap_or(Value::Null))
}

/// Go's Sprint: a blank between two operands where neither is a string.
fn sprint(arguments: &[Value]) -> String {
    let mut text = String::new();
    for (at, value) in arguments.iter().enumerate() {
        if at > 0 && !value.is_string() && !arguments[at - 1].is_string() {
            text.push(' ');
        }
        text.push_str(&print(value));
    }
    text
}

fn length(value: &Value) -> Result<Value, String> {
    match value {
        Value::String(text) => Ok(text.len().into()),
        Value::Array(items) => Ok(items.len().into()),
        Value::Object(fields) => Ok(fields.len().into()),
        Value::Null => Ok(0.into()),
        other => Err(format!("`len` needs a string, list or map, not {}", kind(other))),
    }
}

fn title(text: &str) -> String {
    let mut first = true;
    text.chars()
        .flat_map(|c| {
            let upper = std::mem::replace(&mut first, c.is_whitespace());
            let cased: Vec<char> = if upper { c.to_uppercase().collect() } else { vec![c] };
            cased
        })
        .collect()
}

fn join(items: &Value, separator: &str) -> Result<Value, String> {
    match items {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(print).collect();
            Ok(items.join(separator).into())
        }
        Value::Null => Ok("".into()),
        other => Err(format!("`join` needs a list, not {}", kind(other))),
    }
}

/// `pad text before after`: blanks on both sides; an empty text stays empty.
fn pad(arguments: &[Value]) -> Result<Value, String> {
    const MOST: usize = 1 << 16;
    let (before, after) = (number("pad", &arguments[1])?.min(MOST), number("pad", &arguments[2])?.min(MOST));
    Ok(match text("pad", &arguments[0])? {
        "" => "".into(),
        text => format!("{}{text}{}", " ".repeat(before), " ".repeat(after)).into(),
    })
}

fn index(arguments: &[Value]) -> Result<Value, String> {
    let Some((mut value, keys)) = arguments.split_first() else {
        return Err("`index` takes at least 1 argument".to_owned());
    };
    for key in keys {
        value = match value {
            Value::Object(fields) => match fields.get(text("index", key)?) {
                Some(value) => value,
                None => return Ok("".into()),
            },
            Value::Array(items) => {
                let at = number("index", key)?;
                let count = items.len();
                items.get(at).ok_or_else(|| format!("index {at} is outside a list of {count}"))?
            }
            Value::Null => return Ok("".into()),
            other => return Err(format!("`index` needs a list or a map, not {}", kind(other))),
        };
    }
    Ok(value.clone())
}

fn slice(arguments: &[Value]) -> Result<Value, String> {
    let Some((value, bounds)) = arguments.split_first() else {
        return Err("`slice` takes at least 1 argument".to_owned());
    };
    let length = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        other => return Err(format!("`slice` needs a string or a list, not {}", kind(other))),
    };
    let bound = |at: usize, default| bounds.get(at).map_or(Ok(default), |value| number("slice", value));
    let (from, to) = (bound(0, 0)?, bound(1, length)?);
    let outside = || format!("{from} to {to} is no part of something of length {length}");
    if from > to || to > length {
        return Err(outside());
    }
    match value {
        Value::String(text) => text.get(from..to).map(Value::from).ok_or_else(outside),
        Value::Array(items) => Ok(items[from..to].to_vec().into()),
        _ => Err(outside()),
    }
}

fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        _ => left == right,
    }
}

fn equal(arguments: &[Value]) -> Result<Value, String> {
    match arguments {
        [first, others @ ..] if !others.is_empty() => {
            Ok(others.iter().any(|other| same(first, other)).into())
        }
        _ => Err(format!("`eq` takes at least 2 arguments, not {}", arguments.len())),
    }
}

fn compare(name: &str, left: &Value, right: &Value) -> Result<Value, String> {
    let order = match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    };
    let Some(order) = order else {
        return Err(format!("`{name}` cannot compare {} with {}", kind(left), kind(right)));
    };
    Ok(match name {
        "lt" => order == Ordering::Less,
        "le" => order != Ordering::Greater,
        "gt" => order == Ordering::Greater,
        _ => order != Ordering::Less,
    }
    .into())
}

/// `%v %s %d %q %x %t %f %%`, with a minus sign, a width and a precision.
fn printf(arguments: &[Value]) -> Result<String, String> {
    const MOST: usize = 1 << 16;
    let Some((format, values)) = arguments.split_first() else {
        return Err("`printf` takes at least 1 argument".to_owned());
    };
    let mut values = values.iter();
    let mut chars = text("printf", format)?.chars().peekable();
    let mut output = String::new();
    while let Some(c) = chars.next() {
        if c != '%' {
            output.push(c);
            continue;
        }
        let left = chars.next_if_eq(&'-').is_some();
        let zero = chars.next_if_eq(&'0').is_some();
        let mut digits = String::new();
        while let Some(digit) = chars.next_if(|c| c.is_ascii_digit() || *c == '.') {
            digits.push(digit);
        }
        let (width, precision) = digits.split_once('.').unwrap_or((&digits, ""));
        let verb = chars.next().ok_or("this format ends in `%`")?;
        if verb == '%' {
            output.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| format!("`%{verb}` has no argument"))?;
        let shown = verb_text(verb, value, precision.parse().ok())?;
        let width = width.parse().unwrap_or(0).min(MOST);
        output.push_str(&match (left, zero) {
            (true, _) => format!("{shown:<width$}"),
            (_, true) if value.is_number() => format!("{shown:0>width$}"),
            _ => format!("{shown:>width$}"),
        });
    }
    Ok(output)
}

fn verb_text(verb: char, value: &Value, precision: Option<usize>) -> Result<String, String> {
    Ok(match (verb, value) {
        ('f', Value::Number(number)) => {
            format!("{:.*}", precision.unwrap_or(6).min(64), number.as_f64().unwrap_or_default())
        }
        ('s', value) if precision.is_some() => print(value).chars().take(precision.unwrap_or(0)).collect(),
        ('v' | 's', value) => print(value),
        ('d', Value::Number(_)) | ('t', Value::Bool(_)) => print(value),
        ('q', value) => Value::from(print(value)).to_string(),
        ('x', Value::Number(number)) => format!("{:x}", number.as_i64().unwrap_or_default()),
        ('x', value) => print(value).bytes().map(|byte| format!("{byte:02x}")).collect(),
        (verb, value) => return Err(format!("`%{verb}` cannot print {}", kind(value))),
    })
}
