//! What is wrong with a COPY or ADD, in the words of the user's Dockerfile.

use super::owner::OwnerError;
use crate::dockerfile::pattern::PatternError;

/// Why a COPY or ADD cannot be done. Paths are relative to the root of their tree and shown with
/// a slash before them where they are in the image.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A source is not there.
    #[error("`{path}` is not in {place}")]
    NotFound {
        /// What was looked for.
        path: String,
        /// Where.
        place: String,
        /// Something of a similar name beside it.
        nearest: Option<String>,
        /// Whether an ignore file leaves it out of the context.
        ignored: bool,
    },
    /// A source's path goes on behind something that is no directory.
    #[error("`{path}` in {place} is not a directory")]
    NotDirectory {
        /// What is no directory.
        path: String,
        /// Where.
        place: String,
    },
    /// A source's path never ends.
    #[error("`{path}` in {place} leads through more than 40 symbolic links")]
    Loop {
        /// The path.
        path: String,
        /// Where.
        place: String,
    },
    /// A source's pattern is malformed.
    #[error("`{0}` is not a pattern: {1}")]
    Pattern(String, #[source] PatternError),
    /// An `--exclude` is malformed.
    #[error("`--exclude`: {0}")]
    Exclude(#[source] PatternError),
    /// A source is a socket.
    #[error("`{0}` is a socket, which an image cannot hold")]
    Socket(String),
    /// A name that means something else in a layer.
    #[error("`{0}` cannot be copied: in a layer, names that begin with `.wh.` take files away")]
    Whiteout(String),
    /// A directory would take the place of something else.
    #[error("cannot copy a directory onto `{path}`, which is {}", if link.is_some() { "a symbolic link" } else { "not a directory" })]
    OntoFile {
        /// Where in the image.
        path: String,
        /// Where it leads if it is a symbolic link.
        link: Option<String>,
    },
    /// A file would take the place of a directory.
    #[error("cannot copy a file onto the directory `{0}`")]
    OntoDirectory(String),
    /// Several files, one place.
    #[error("several files cannot be copied to one path, `{0}`")]
    Several(String),
    /// The destination goes on behind something that is no directory.
    #[error("cannot copy into `{0}`, which is not a directory")]
    Destination(String),
    /// The destination never ends.
    #[error("the destination `{0}` leads through more than 40 symbolic links")]
    DestinationLoop(String),
    /// `--chown` makes no sense.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// `--chmod` makes no sense.
    #[error("`{0}` is not a mode: write it in octal (`755`) or as `chmod` does (`u=rwX,go=rX`)")]
    Mode(String),
}

impl CopyError {
    /// What to do about it.
    pub fn help(&self) -> Vec<String> {
        match self {
            Self::NotFound { nearest, ignored, .. } => {
                let ignored = ignored.then(|| "it is there but ignored: see `.dockerignore`".to_owned());
                let nearest = nearest.as_ref().map(|nearest| format!("did you mean `{nearest}`?"));
                ignored.into_iter().chain(nearest).collect()
            }
            Self::OntoFile { link: Some(link), .. } => {
                vec![format!("the link leads to `{link}`: copy to that path instead")]
            }
            Self::Several(path) => vec![format!("end the destination with a slash: `{path}/`")],
            _ => Vec::new(),
        }
    }
}
