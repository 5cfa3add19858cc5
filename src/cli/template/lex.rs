//! A template as text and actions, and an action as tokens.

use serde_json::{Number, Value};

use super::TemplateError;

/// A stretch of a template.
#[derive(Debug, PartialEq)]
pub enum Piece {
    /// Text as it stands, trim marks applied.
    Text(String),
    /// What stands between `{{` and `}}`, as tokens with their places.
    Action { at: usize, tokens: Vec<(usize, Token)> },
}

/// A token of an action.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// `if`, `json`, …
    Word(String),
    /// `.A.B`; no names for a lone dot.
    Field(Vec<String>),
    /// `$x.A`: the name without its sign, then fields.
    Variable(String, Vec<String>),
    /// A string, number, `true`, `false` or `nil`.
    Literal(Value),
    /// `|`
    Pipe,
    /// `(`
    Open,
    /// `)`, and the fields that follow it at once.
    Close(Vec<String>),
    /// `,`
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
}

fn fail<T>(at: usize, message: impl Into<String>) -> Result<T, TemplateError> {
    Err(TemplateError { at, message: message.into() })
}

/// Splits a template at its actions; comments are dropped.
pub fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let chars: Vec<char> = text.chars().collect();
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut at = 0;
    while at < chars.len() {
        if !chars[at..].starts_with(&['{', '{']) {
            plain.push(chars[at]);
            at += 1;
            continue;
        }
        let open = at;
        at += 2;
        if chars.get(at) == Some(&'-') && chars.get(at + 1).is_some_and(|c| c.is_whitespace()) {
            plain.truncate(plain.trim_end().len());
            at += 1;
        }
        let mut lexer = Lexer { chars: &chars, at };
        let (tokens, trim) = lexer.action(open)?;
        at = lexer.at;
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        if !tokens.is_empty() {
            pieces.push(Piece::Action { at: tokens[0].0, tokens });
        }
        while trim && chars.get(at).is_some_and(|c| c.is_whitespace()) {
            at += 1;
        }
    }
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

struct Lexer<'a> {
    chars: &'a [char],
    at: usize,
}

impl Lexer<'_> {
    fn rest_starts(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(offset, c)| self.chars.get(self.at + offset) == Some(&c))
    }

    /// The tokens up to `}}`, and whether the text behind is to be trimmed.
    fn action(&mut self, open: usize) -> Result<(Vec<(usize, Token)>, bool), TemplateError> {
        let mut tokens = Vec::new();
        loop {
            let blank = self.skip_blanks();
            if self.rest_starts("}}") {
                self.at += 2;
                return Ok((tokens, false));
            }
            if blank && self.rest_starts("-}}") {
                self.at += 3;
                return Ok((tokens, true));
            }
            if self.rest_starts("/*") && tokens.is_empty() {
                self.comment(open)?;
                continue;
            }
            let Some(next) = self.chars.get(self.at) else {
                return fail(open, "this action has no `}}`");
            };
            let start = self.at;
            let token = self.token(*next)?;
            tokens.push((start, token));
        }
    }

    fn skip_blanks(&mut self) -> bool {
        let start = self.at;
        while self.chars.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
        self.at > start
    }

    fn comment(&mut self, open: usize) -> Result<(), TemplateError> {
        while self.at < self.chars.len() {
            if self.rest_starts("*/") {
                self.at += 2;
                return Ok(());
            }
            self.at += 1;
        }
        fail(open, "this comment has no `*/`")
    }

    fn token(&mut self, next: char) -> Result<Token, TemplateError> {
        let single = match next {
            '|' => Some(Token::Pipe),
            '(' => Some(Token::Open),
            ',' => Some(Token::Comma),
            '=' => Some(Token::Assign),
            _ => None,
        };
        if let Some(token) = single {
            self.at += 1;
            return Ok(token);
        }
        match next {
            ')' => {
                self.at += 1;
                Ok(Token::Close(self.fields()))
            }
            ':' if self.rest_starts(":=") => {
                self.at += 2;
                Ok(Token::Declare)
            }
            '.' => {
                let fields = self.fields();
                if fields.is_empty() {
                    self.at += 1;
                }
                Ok(Token::Field(fields))
            }
            '$' => {
                self.at += 1;
                let name = self.word();
                Ok(Token::Variable(name, self.fields()))
            }
            '"' | '`' => self.string(next),
            c if c.is_ascii_digit() || c == '-' || c == '+' => self.number(),
            c if c.is_alphabetic() || c == '_' => Ok(match self.word() {
                word if word == "true" => Token::Literal(Value::Bool(true)),
                word if word == "false" => Token::Literal(Value::Bool(false)),
                word if word == "nil" => Token::Literal(Value::Null),
                word => Token::Word(word),
            }),
            c => fail(self.at, format!("unexpected `{c}`")),
        }
    }

    fn word(&mut self) -> String {
        let start = self.at;
        while self.chars.get(self.at).is_some_and(|c| c.is_alphanumeric() || *c == '_') {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    /// `.A.B` at this place; nothing is taken if no name follows the dot.
    fn fields(&mut self) -> Vec<String> {
        let mut fields = Vec::new();
        while self.chars.get(self.at) == Some(&'.')
            && self.chars.get(self.at + 1).is_some_and(|c| c.is_alphanumeric() || *c == '_')
        {
            self.at += 1;
            fields.push(self.word());
        }
        fields
    }

    fn string(&mut self, quote: char) -> Result<Token, TemplateError> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        while let Some(&c) = self.chars.get(self.at) {
            self.at += 1;
            match c {
                c if c == quote => return Ok(Token::Literal(Value::String(text))),
                '\\' if quote == '"' => {
                    let Some(&escaped) = self.chars.get(self.at) else { break };
                    self.at += 1;
                    text.push(match escaped {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        '\\' | '"' | '\'' => escaped,
                        other => return fail(self.at - 1, format!("`\\{other}` is no known escape")),
                    });
                }
                c => text.push(c),
            }
        }
        fail(start, "this string has no end")
    }

    fn number(&mut self) -> Result<Token, TemplateError> {
        let start = self.at;
        self.at += 1;
        while self.chars.get(self.at).is_some_and(|c| c.is_ascii_digit() || *c == '.') {
            self.at += 1;
        }
        let text: String = self.chars[start..self.at].iter().collect();
        let text = text.trim_start_matches('+');
        let whole = text.parse::<i64>().ok().map(Number::from);
        match whole.or_else(|| text.parse::<f64>().ok().and_then(Number::from_f64)) {
            Some(number) => Ok(Token::Literal(Value::Number(number))),
            None => fail(start, format!("`{text}` is no number")),
        }
    }
}
