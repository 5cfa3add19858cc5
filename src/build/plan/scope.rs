//! Variables: what ARG and ENV have set at a point of the Dockerfile (reference, "ARG", "Scope").
//!
//! As in BuildKit the later of ARG and ENV holds, except that the ENV of a stage or image counts
//! as set anew where another stage is based on it.

use std::collections::HashMap;

/// Variables in the order in which they were first set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Variables {
    list: Vec<(String, String)>,
    places: HashMap<String, usize>,
    size: usize,
}

impl Variables {
    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|place| self.list[*place].1.as_str())
    }

    /// Sets `name`, in its old place if it has one.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        self.size += value.len();
        match self.places.get(name) {
            Some(place) => {
                self.size -= self.list[*place].1.len();
                self.list[*place].1 = value;
            }
            None => {
                self.size += name.len();
                self.places.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), value));
            }
        }
    }

    /// The bytes of all names and values.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.list.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The names in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|(name, _)| name.as_str())
    }

    /// `NAME=value` for each.
    pub fn pairs(&self) -> Vec<String> {
        self.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// Variables from `NAME=value`; a text without `=` is a name with an empty value.
    pub fn from_pairs(pairs: &[String]) -> Self {
        let mut variables = Self::default();
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            variables.set(name, value);
        }
        variables
    }
}

/// The variables inside a stage.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    /// What a RUN sees and what `$name` stands for: ARG and ENV.
    pub environment: Variables,
    /// What the image keeps: ENV.
    pub image: Variables,
    /// The arguments declared so far, with the value each was given where it was declared.
    arguments: Variables,
    /// The names whose ENV an ARG hides.
    hidden: Vec<String>,
}

impl Scope {
    /// The scope at the start of a stage on an image.
    pub fn of_image(env: &[String]) -> Self {
        let image = Variables::from_pairs(env);
        Self { environment: image.clone(), image, ..Self::default() }
    }

    /// Makes the scope at the end of a stage that at the start of a stage on it.
    pub fn inherit(&mut self) {
        for name in std::mem::take(&mut self.hidden) {
            if let Some(value) = self.image.get(&name) {
                self.environment.set(&name, value);
            }
        }
    }

    /// The bytes of all names and values.
    pub fn size(&self) -> usize {
        self.environment.size() + self.image.size() + self.arguments.size()
    }

    /// ENV
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.environment.set(name, value);
        self.image.set(name, value);
    }

    /// ARG; without a value the name is declared and nothing is set.
    pub fn declare(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.environment.set(name, value);
            if self.image.get(name).is_some() {
                self.hidden.push(name.to_owned());
            }
        }
        self.arguments.set(name, value.unwrap_or(""));
    }

    /// `|2 A=b C=d ` for the arguments declared, in front of a command in the history.
    pub fn history_prefix(&self) -> String {
        let list: Vec<String> = self
            .arguments
            .iter()
            .map(|(name, value)| format!("{name}={}", self.environment.get(name).unwrap_or(value)))
            .collect();
        if list.is_empty() { String::new() } else { format!("|{} {} ", list.len(), list.join(" ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_of_arg_and_env_holds() {
        let mut scope = Scope::of_image(&["PATH=/bin".into(), "A=image".into()]);
        scope.declare("A", Some("argument"));
        assert_eq!(scope.environment.get("A"), Some("argument"));
        assert_eq!(scope.image.get("A"), Some("image"));
        let mut child = scope.clone();
        child.inherit();
        assert_eq!(child.environment.get("A"), Some("image"));
        scope.set_env("A", "env");
        scope.declare("A", None);
        assert_eq!(scope.environment.pairs(), ["PATH=/bin", "A=env"]);
        scope.declare("B", None);
        assert_eq!(scope.history_prefix(), "|2 A=env B= ");
    }
}
