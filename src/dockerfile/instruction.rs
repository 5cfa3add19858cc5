//! Typed instructions: what a Dockerfile says, with the place of every part.
//!
//! Words keep their quotes and variable references taken apart ([`Word`]); nothing is expanded
//! here, since that depends on the arguments of a build. Names follow the Dockerfile reference.

use crate::base::span::{Source, Span, Spanned};

/// A whole Dockerfile.
#[derive(Debug, Clone)]
pub struct Dockerfile {
    /// The text it was read from; all spans point into it.
    pub source: Source,
    /// The parser directives at its top.
    pub directives: Directives,
    /// The ARG instructions before the first FROM.
    pub global_args: Vec<Arg>,
    /// The stages in their order, at least one.
    pub stages: Vec<Stage>,
}

/// Parser directives (reference, "Parser directives").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// `# syntax=`: read, kept and not acted on.
    pub syntax: Option<Spanned<String>>,
    /// `# escape=`: a backslash or a backtick.
    pub escape: char,
    /// `# check=`: as written.
    pub check: Option<Spanned<String>>,
}

/// FROM and what follows it up to the next FROM.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its FROM instruction.
    pub from: From,
    /// The instructions after FROM.
    pub instructions: Vec<Instruction>,
}

/// `FROM [--platform=…] image [AS name]`.
#[derive(Debug, Clone)]
pub struct From {
    /// The whole instruction.
    pub span: Span,
    /// `--platform`.
    pub platform: Option<Word>,
    /// The image, a stage's name, or `scratch`.
    pub image: Word,
    /// The name behind AS, in lower case.
    pub name: Option<Spanned<String>>,
    /// The instruction as it was written, continuations joined.
    pub text: String,
}

/// One instruction of a stage.
#[derive(Debug, Clone)]
pub struct Instruction {
    /// The whole instruction, here-document bodies included.
    pub span: Span,
    /// The instruction as it was written, continuations joined: `RUN make -j4`.
    pub text: String,
    /// What it says.
    pub kind: Kind,
}

/// What an instruction says.
#[derive(Debug, Clone)]
pub enum Kind {
    /// RUN
    Run(Run),
    /// CMD
    Cmd(Command),
    /// LABEL
    Label(Vec<Pair>),
    /// MAINTAINER
    Maintainer(String),
    /// EXPOSE
    Expose(Vec<Word>),
    /// ENV
    Env(Vec<Pair>),
    /// ADD
    Add(Copy),
    /// COPY
    Copy(Copy),
    /// ENTRYPOINT
    Entrypoint(Command),
    /// VOLUME
    Volume(Vec<Word>),
    /// USER
    User(Word),
    /// WORKDIR
    Workdir(Word),
    /// ARG
    Arg(Arg),
    /// ONBUILD: the text of the instruction behind it, which is checked to be one.
    Onbuild(Spanned<String>),
    /// STOPSIGNAL
    Stopsignal(Word),
    /// HEALTHCHECK
    Healthcheck(Healthcheck),
    /// SHELL
    Shell(Vec<String>),
}

/// `key=value`, both still to be expanded.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The key.
    pub key: Word,
    /// The value.
    pub value: Word,
}

/// `ARG name[=default] …`.
#[derive(Debug, Clone)]
pub struct Arg {
    /// The whole instruction.
    pub span: Span,
    /// The arguments declared.
    pub declarations: Vec<ArgDeclaration>,
    /// The instruction as it was written, continuations joined.
    pub text: String,
}

/// One argument of an ARG.
#[derive(Debug, Clone)]
pub struct ArgDeclaration {
    /// Its name.
    pub name: Spanned<String>,
    /// Its default.
    pub default: Option<Word>,
}

/// The command of RUN, CMD or ENTRYPOINT.
#[derive(Debug, Clone)]
pub enum Command {
    /// Exec form: the decoded strings.
    Exec(Vec<String>),
    /// Shell form: the text as the shell gets it, without here-document bodies.
    Shell {
        /// The text with continuations joined and inner blanks kept.
        text: Spanned<String>,
        /// The here-documents it opens (RUN only), in their order.
        heredocs: Vec<Heredoc>,
    },
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without its quotes.
    pub name: String,
    /// The opener as written: `<<-"EOF"`, a file descriptor number before it included.
    pub opener: String,
    /// The lines up to the delimiter, as written.
    pub content: String,
    /// Whether variables are expanded (the delimiter was not quoted).
    pub expand: bool,
    /// Whether leading tabs are dropped (`<<-`).
    pub chomp: bool,
    /// The body.
    pub span: Span,
}

/// `RUN [--mount …] [--network …] [--security …] [--device …] command`.
#[derive(Debug, Clone)]
pub struct Run {
    /// What is run.
    pub command: Command,
    /// `--mount`, in their order.
    pub mounts: Vec<Mount>,
    /// `--network`.
    pub network: Option<Spanned<RunNetwork>>,
    /// `--security`.
    pub security: Option<Spanned<RunSecurity>>,
    /// `--device`, as written.
    pub devices: Vec<Word>,
}

/// `RUN --network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunNetwork {
    /// The build's network.
    Default,
    /// A network of its own without any interface but `lo`.
    None,
    /// The host's network.
    Host,
}

/// `RUN --security`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunSecurity {
    /// Confined, the default.
    Sandbox,
    /// As `run --privileged`.
    Insecure,
}

/// `RUN --mount=…`. Options that a type does not have were refused when this was made, and so were
/// values that can be judged without their variables.
#[derive(Debug, Clone)]
pub struct Mount {
    /// The value of `--mount=`.
    pub span: Span,
    /// `type=` with what only that type has.
    pub kind: MountKind,
    /// `target`, `dst`, `destination`.
    pub target: Option<Word>,
}

/// What a mount is of.
#[derive(Debug, Clone)]
pub enum MountKind {
    /// `type=bind`
    Bind {
        /// A stage, context or image; the build context if absent.
        from: Option<Word>,
        /// A path in it; its root if absent.
        source: Option<Word>,
        /// `rw`: what is written is thrown away.
        writable: bool,
    },
    /// `type=cache`
    Cache {
        /// The name; the target if absent.
        id: Option<Word>,
        /// What an empty cache starts as.
        from: Option<Word>,
        /// A path in it.
        source: Option<Word>,
        /// Who may use it at once.
        sharing: CacheSharing,
        /// `ro`
        readonly: bool,
        /// The mode of a new directory ([`mode`](super::values::mode)); 0755 if absent.
        mode: Option<Word>,
        /// Its owner ([`id`](super::values::id)).
        uid: Option<Word>,
        /// Its group.
        gid: Option<Word>,
    },
    /// `type=tmpfs`
    Tmpfs {
        /// The limit ([`size`](super::values::size)).
        size: Option<Word>,
    },
    /// `type=secret`
    Secret(SecretMount),
    /// `type=ssh`; `id` names the agent, `env` is never set.
    Ssh(SecretMount),
}

/// `type=secret` and `type=ssh`.
#[derive(Debug, Clone)]
pub struct SecretMount {
    /// The name; the base name of the target if absent (`default` for ssh).
    pub id: Option<Word>,
    /// The environment variable to set.
    pub env: Option<Word>,
    /// Whether its absence is an error.
    pub required: bool,
    /// The file's mode ([`mode`](super::values::mode)); 0400 (ssh: 0600) if absent.
    pub mode: Option<Word>,
    /// Its owner ([`id`](super::values::id)).
    pub uid: Option<Word>,
    /// Its group.
    pub gid: Option<Word>,
}

/// `sharing=` of a cache mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheSharing {
    /// Many writers at once.
    Shared,
    /// A second writer gets a directory of its own.
    Private,
    /// A second writer waits.
    Locked,
}

/// COPY and ADD.
#[derive(Debug, Clone)]
pub struct Copy {
    /// The sources, at least one.
    pub sources: Vec<CopySource>,
    /// The destination.
    pub destination: Word,
    /// `--from` (COPY only): a stage, context or image.
    pub from: Option<Word>,
    /// `--chown`
    pub chown: Option<Word>,
    /// `--chmod`
    pub chmod: Option<Word>,
    /// `--link`
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude`, in their order.
    pub excludes: Vec<Word>,
    /// `--checksum` (ADD only)
    pub checksum: Option<Word>,
    /// `--keep-git-dir` (ADD only)
    pub keep_git_dir: bool,
    /// `--unpack` (ADD only), if given.
    pub unpack: Option<bool>,
}

/// One source of COPY or ADD.
#[derive(Debug, Clone)]
pub enum CopySource {
    /// A path with wildcards, a URL or a git repository.
    Path(Word),
    /// An inline file named by the here-document's delimiter.
    Heredoc(Heredoc),
}

/// HEALTHCHECK.
#[derive(Debug, Clone)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`
    None,
    /// `HEALTHCHECK [options] CMD …`; durations in nanoseconds.
    Check {
        /// What is run.
        command: Command,
        /// `--interval`
        interval: Option<u64>,
        /// `--timeout`
        timeout: Option<u64>,
        /// `--start-period`
        start_period: Option<u64>,
        /// `--start-interval`
        start_interval: Option<u64>,
        /// `--retries`
        retries: Option<u32>,
    },
}

/// A word as the grammar took it apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Its place.
    pub span: Span,
    /// The word as written, quotes included, continuations joined.
    pub raw: String,
    /// Its parts in their order.
    pub parts: Vec<Part>,
}

/// A part of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text that stands for itself (quotes removed, escapes resolved as the reference says).
    Literal(String),
    /// `$name` or `${name…}`.
    Variable(Variable),
}

/// A variable reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its place, from the dollar sign to its end.
    pub span: Span,
    /// The variable's name.
    pub name: String,
    /// What follows the name in braces.
    pub modifier: Option<Modifier>,
    /// Whether it stands between double quotes, so that its value is never split into words.
    pub quoted: bool,
}

/// What may follow a variable's name in braces (reference, "Environment replacement").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Modifier {
    /// `:-word`, `-word`
    Default {
        /// Whether an empty value counts as unset.
        colon: bool,
        /// The word.
        word: Word,
    },
    /// `:+word`, `+word`
    Alternative {
        /// Whether an empty value counts as unset.
        colon: bool,
        /// The word.
        word: Word,
    },
    /// `:?word`, `?word`
    Required {
        /// Whether an empty value counts as unset.
        colon: bool,
        /// The message.
        word: Word,
    },
    /// `#pattern`, `##pattern`; in patterns and replacements escape characters are kept.
    RemovePrefix {
        /// Two signs: the longest match.
        longest: bool,
        /// A glob.
        pattern: Word,
    },
    /// `%pattern`, `%%pattern`
    RemoveSuffix {
        /// Two signs: the longest match.
        longest: bool,
        /// A glob.
        pattern: Word,
    },
    /// `/pattern/replacement`, `//pattern/replacement`
    Replace {
        /// Two slashes: every match.
        all: bool,
        /// A glob.
        pattern: Word,
        /// What takes its place.
        replacement: Word,
    },
}
