//! A tree and a value to text.

use std::rc::Rc;

use serde_json::Value;

use super::parse::{Command, Node, Operand, Pipeline};
use super::{TemplateError, functions, print};
use crate::base::similar::nearest;

/// Fields that hold maps with the user's own keys: a key that is not there is `<no value>` and no
/// error, as in Go.
const MAPS: [&str; 6] = ["Labels", "ExposedPorts", "Volumes", "Annotations", "Data", "Options"];
/// What Go prints for fields without a value, by their types in Docker's structures. They may be
/// missing altogether.
const EMPTY: [(&str, &str); 19] = [
    ("ArgsEscaped", "false"),
    ("Cmd", "[]"),
    ("Entrypoint", "[]"),
    ("Env", "[]"),
    ("ExposedPorts", "map[]"),
    ("Healthcheck", "<nil>"),
    ("Labels", "map[]"),
    ("Layers", "[]"),
    ("OnBuild", "[]"),
    ("OsVersion", ""),
    ("RepoDigests", "[]"),
    ("RepoTags", "[]"),
    ("Shell", "[]"),
    ("StopSignal", ""),
    ("StopTimeout", "<nil>"),
    ("Test", "[]"),
    ("Variant", ""),
    ("Volumes", "map[]"),
    ("Warnings", "[]"),
];
/// What Go prints for a missing key of a map.
const NO_VALUE: &str = "<no value>";

/// The text that `nodes` make of `value`.
pub fn render(nodes: &[Node], value: &Value) -> Result<String, TemplateError> {
    let mut scope = Scope { root: value, variables: Vec::new(), text: String::new() };
    scope.nodes(nodes, value)?;
    Ok(scope.text)
}

fn fail<T>(at: usize, message: impl Into<String>) -> Result<T, TemplateError> {
    Err(TemplateError { at, message: message.into() })
}

struct Scope<'a> {
    root: &'a Value,
    variables: Vec<(String, Rc<Value>)>,
    text: String,
}

impl Scope<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), TemplateError> {
        for node in nodes {
            let outer = self.variables.len();
            match node {
                Node::Text(text) => self.text.push_str(text),
                Node::Output(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        let empty = value.is_null().then(|| empty(pipeline)).flatten();
                        self.text.push_str(&empty.map_or_else(|| print(&value), str::to_owned));
                    }
                }
                Node::If { condition, dot: rebinds, then, otherwise } => {
                    let value = self.pipeline(condition, dot)?;
                    match functions::truth(&value) {
                        true if *rebinds => self.nodes(then, &value)?,
                        true => self.nodes(then, dot)?,
                        false => self.nodes(otherwise, dot)?,
                    }
                    self.variables.truncate(outer);
                }
                Node::Range { over, body, otherwise } => {
                    self.range(over, body, otherwise, dot)?;
                    self.variables.truncate(outer);
                }
            }
        }
        Ok(())
    }

    fn range(
        &mut self,
        over: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<(), TemplateError> {
        let value = self.value(over, dot)?;
        let items: Vec<(Value, &Value)> = match &value {
            Value::Array(items) => {
                items.iter().enumerate().map(|(at, item)| (Value::from(at), item)).collect()
            }
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_by_key(|(key, _)| *key);
                fields.into_iter().map(|(key, item)| (Value::from(key.as_str()), item)).collect()
            }
            value if !functions::truth(value) => Vec::new(),
            value => {
                let kind = functions::kind(value);
                return fail(over.at, format!("`range` needs a list or a map, not {kind}"));
            }
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        let outer = self.variables.len();
        for (key, item) in items {
            let values = match over.variables.len() {
                0 => vec![],
                1 => vec![item.clone()],
                _ => vec![key, item.clone()],
            };
            self.variables.extend(over.variables.iter().cloned().zip(values.into_iter().map(Rc::new)));
            self.nodes(body, item)?;
            self.variables.truncate(outer);
        }
        Ok(())
    }

    /// The value of a pipeline, given to its variables if it has any.
    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let value = self.value(pipeline, dot)?;
        if let Some(name) = pipeline.variables.first() {
            let shared = Rc::new(value.clone());
            if pipeline.declare {
                self.variables.push((name.clone(), shared));
            } else {
                match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
                    Some((_, place)) => *place = shared,
                    None => return fail(pipeline.at, format!("there is no variable `${name}`")),
                }
            }
        }
        Ok(value)
    }

    fn value(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut piped = None;
        for command in &pipeline.commands {
            piped = Some(self.command(command, dot, piped)?);
        }
        Ok(piped.unwrap_or(Value::Null))
    }

    fn command(
        &mut self,
        command: &Command,
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let at = command.at;
        if let Operand::Function(name) = &command.operands[0] {
            let mut arguments = Vec::with_capacity(command.operands.len());
            for operand in &command.operands[1..] {
                arguments.push(self.operand(operand, dot, at)?);
            }
            arguments.extend(piped);
            return functions::call(name, arguments).or_else(|message| fail(at, message));
        }
        if piped.is_some() {
            return fail(at, "only a function can take what is piped into it");
        }
        if command.operands.len() > 1 {
            return fail(at, "only a function can have arguments");
        }
        self.operand(&command.operands[0], dot, at)
    }

    fn operand(&mut self, operand: &Operand, dot: &Value, at: usize) -> Result<Value, TemplateError> {
        match operand {
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Field(names) => fields(dot, names, at).cloned(),
            Operand::Variable(name, names) if name.is_empty() => fields(self.root, names, at).cloned(),
            Operand::Variable(name, names) => {
                match self.variables.iter().rev().find(|(known, _)| known == name) {
                    Some((_, value)) => fields(value, names, at).cloned(),
                    None => fail(at, format!("there is no variable `${name}`")),
                }
            }
            Operand::Function(name) => functions::call(name, Vec::new()).or_else(|message| fail(at, message)),
            Operand::Group(pipeline, names) => {
                let value = self.value(pipeline, dot)?;
                fields(&value, names, at).cloned()
            }
        }
    }
}

/// What stands for nothing where a pipeline is just a field.
fn empty(pipeline: &Pipeline) -> Option<&'static str> {
    let [command] = &pipeline.commands[..] else { return None };
    let name = match &command.operands[..] {
        [Operand::Field(names) | Operand::Variable(_, names) | Operand::Group(_, names)] => names.last()?,
        _ => return None,
    };
    EMPTY.iter().find(|(field, _)| field == name).map(|(_, empty)| *empty)
}

/// `value.A.B`
fn fields<'v>(mut value: &'v Value, names: &[String], at: usize) -> Result<&'v Value, TemplateError> {
    static MISSING: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| Value::from(NO_VALUE));
    let mut parent = "this";
    for name in names {
        value = match value {
            Value::Object(known) => match known.get(name) {
                Some(value) => value,
                None if MAPS.contains(&parent) => &MISSING,
                None if EMPTY.iter().any(|(field, _)| field == name) => &Value::Null,
                None => {
                    let near = nearest(name, known.keys().map(String::as_str));
                    let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                    return fail(at, format!("there is no field `{name}`{hint}"));
                }
            },
            // A field of something absent is absent: `.Config.Healthcheck.Test` without a check.
            Value::Null => &MISSING,
            other => {
                let kind = functions::kind(other);
                return fail(at, format!("`{parent}` is {kind} and has no field `{name}`"));
            }
        };
        parent = name;
    }
    Ok(value)
}
