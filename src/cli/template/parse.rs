//! Tokens to a tree.

use std::vec::IntoIter;

use serde_json::Value;

use super::TemplateError;
use super::lex::{self, Piece, Token};

/// How deep blocks and brackets may nest.
const MAX_DEPTH: usize = 64;

/// A part of a template.
#[derive(Debug, Clone)]
pub enum Node {
    /// Text as it stands.
    Text(String),
    /// `{{pipeline}}`
    Output(Pipeline),
    /// `{{if}}`, or `{{with}}` if `dot`, with what follows `else`.
    If { condition: Pipeline, dot: bool, then: Vec<Node>, otherwise: Vec<Node> },
    /// `{{range}}`
    Range { over: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
}

/// `$a, $b := command | command`
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Where it begins.
    pub at: usize,
    /// The variables that take the value.
    pub variables: Vec<String>,
    /// Whether they are new (`:=`).
    pub declare: bool,
    /// The commands, at least one.
    pub commands: Vec<Command>,
}

/// Operands one after another; the first may be a function.
#[derive(Debug, Clone)]
pub struct Command {
    /// Where it begins.
    pub at: usize,
    /// At least one.
    pub operands: Vec<Operand>,
}

/// Something that has a value.
#[derive(Debug, Clone)]
pub enum Operand {
    /// A constant.
    Literal(Value),
    /// `.A.B`
    Field(Vec<String>),
    /// `$x.A`
    Variable(String, Vec<String>),
    /// A function's name.
    Function(String),
    /// `(pipeline).A`
    Group(Pipeline, Vec<String>),
}

/// What ended a list of nodes.
enum End {
    Text,
    Closed,
    Else { at: usize, rest: Vec<(usize, Token)> },
}

fn fail<T>(at: usize, message: impl Into<String>) -> Result<T, TemplateError> {
    Err(TemplateError { at, message: message.into() })
}

/// Reads a whole template.
pub fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let mut pieces = lex::pieces(text)?.into_iter();
    let (nodes, _) = list(&mut pieces, None, 0)?;
    Ok(nodes)
}

/// Nodes up to the `end` or `else` of the block that `inside` names.
fn list(
    pieces: &mut IntoIter<Piece>,
    inside: Option<(usize, &str)>,
    depth: usize,
) -> Result<(Vec<Node>, End), TemplateError> {
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let (at, tokens) = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action { at, tokens } => (at, tokens),
        };
        let word = match &tokens[0].1 {
            Token::Word(word) => word.clone(),
            _ => String::new(),
        };
        match word.as_str() {
            "if" | "with" | "range" => nodes.push(block(pieces, at, &word, tokens, depth)?),
            "end" if inside.is_some() && tokens.len() == 1 => return Ok((nodes, End::Closed)),
            "else" if inside.is_some() => {
                let rest = tokens.into_iter().skip(1).collect();
                return Ok((nodes, End::Else { at, rest }));
            }
            "end" | "else" => return fail(at, format!("unexpected `{word}`")),
            "template" | "define" | "block" | "break" | "continue" => {
                return fail(at, format!("`{word}` is not supported"));
            }
            _ => nodes.push(Node::Output(Tokens::new(at, tokens).whole(depth)?)),
        }
    }
    match inside {
        Some((at, word)) => fail(at, format!("this `{word}` has no `end`")),
        None => Ok((nodes, End::Text)),
    }
}

/// `if`, `with` or `range`, up to its `end`. `tokens` begin with that word.
fn block(
    pieces: &mut IntoIter<Piece>,
    at: usize,
    word: &str,
    tokens: Vec<(usize, Token)>,
    depth: usize,
) -> Result<Node, TemplateError> {
    if depth >= MAX_DEPTH {
        return fail(at, "blocks nest too deep");
    }
    let pipeline = Tokens::new(at, tokens.into_iter().skip(1).collect()).whole(depth)?;
    let (then, end) = list(pieces, Some((at, word)), depth + 1)?;
    let otherwise = match end {
        End::Else { at: place, rest } if rest.is_empty() => {
            match list(pieces, Some((at, word)), depth + 1)? {
                (nodes, End::Closed) => nodes,
                _ => return fail(place, format!("this `{word}` has a second `else`")),
            }
        }
        End::Else { at: place, rest } => match &rest[0].1 {
            Token::Word(next) if next == word && word != "range" => {
                vec![block(pieces, place, word, rest, depth + 1)?]
            }
            _ => return fail(place, format!("`else` of `{word}` stands alone or before another `{word}`")),
        },
        _ => Vec::new(),
    };
    Ok(match word {
        "range" => Node::Range { over: pipeline, body: then, otherwise },
        _ => Node::If { condition: pipeline, dot: word == "with", then, otherwise },
    })
}

/// The tokens of one action.
struct Tokens {
    at: usize,
    tokens: Vec<(usize, Token)>,
    next: usize,
}

impl Tokens {
    fn new(at: usize, tokens: Vec<(usize, Token)>) -> Self {
        Self { at, tokens, next: 0 }
    }

    fn peek(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.next + ahead).map(|(_, token)| token)
    }

    fn place(&self) -> usize {
        self.tokens.get(self.next).map_or(self.at, |(at, _)| *at)
    }

    /// A pipeline that takes all tokens.
    fn whole(mut self, depth: usize) -> Result<Pipeline, TemplateError> {
        let pipeline = self.pipeline(depth)?;
        match self.peek(0) {
            None => Ok(pipeline),
            Some(Token::Close(_)) => fail(self.place(), "unexpected `)`"),
            Some(_) => fail(self.place(), "this cannot stand here"),
        }
    }

    fn pipeline(&mut self, depth: usize) -> Result<Pipeline, TemplateError> {
        if depth >= MAX_DEPTH {
            return fail(self.at, "brackets nest too deep");
        }
        let at = self.place();
        let (variables, declare) = self.variables()?;
        let mut commands = vec![self.command(depth)?];
        while self.peek(0) == Some(&Token::Pipe) {
            self.next += 1;
            commands.push(self.command(depth)?);
        }
        Ok(Pipeline { at, variables, declare, commands })
    }

    /// `$a :=`, `$a, $b :=` or `$a =`, if that is what follows.
    fn variables(&mut self) -> Result<(Vec<String>, bool), TemplateError> {
        let named = |token: Option<&Token>| match token {
            Some(Token::Variable(name, fields)) if fields.is_empty() && !name.is_empty() => {
                Some(name.clone())
            }
            _ => None,
        };
        let Some(one) = named(self.peek(0)) else { return Ok((Vec::new(), false)) };
        let (names, declare, taken) = match (self.peek(1), named(self.peek(2)), self.peek(3)) {
            (Some(Token::Declare), _, _) => (vec![one], true, 2),
            (Some(Token::Assign), _, _) => (vec![one], false, 2),
            (Some(Token::Comma), Some(two), Some(Token::Declare)) => (vec![one, two], true, 4),
            (Some(Token::Comma), ..) => return fail(self.place(), "`$a, $b` is followed by `:=`"),
            _ => return Ok((Vec::new(), false)),
        };
        self.next += taken;
        Ok((names, declare))
    }

    fn command(&mut self, depth: usize) -> Result<Command, TemplateError> {
        let place = self.place();
        let mut operands = Vec::new();
        while let Some((at, token)) = self.tokens.get(self.next).cloned() {
            let operand = match token {
                Token::Pipe | Token::Close(_) => break,
                Token::Literal(value) => Operand::Literal(value),
                Token::Field(fields) => Operand::Field(fields),
                Token::Variable(name, fields) => Operand::Variable(name, fields),
                Token::Word(word) => Operand::Function(word),
                Token::Open => self.group(at, depth)?,
                Token::Comma | Token::Declare | Token::Assign => return fail(at, "this cannot stand here"),
            };
            self.next += 1;
            operands.push(operand);
        }
        if operands.is_empty() {
            return fail(place, "a value is missing here");
        }
        Ok(Command { at: place, operands })
    }

    /// A bracketed pipeline, up to its closing bracket, which is not taken.
    fn group(&mut self, open: usize, depth: usize) -> Result<Operand, TemplateError> {
        self.next += 1;
        let inner = self.pipeline(depth + 1)?;
        match self.peek(0) {
            Some(Token::Close(fields)) => Ok(Operand::Group(inner, fields.clone())),
            _ => fail(open, "this `(` has no `)`"),
        }
    }
}
