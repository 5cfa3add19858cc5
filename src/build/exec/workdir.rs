//! WORKDIR: makes the directory and those above it if they are not there (reference, "WORKDIR").
//!
//! The directory belongs to the user of the stage, those above it that are new to root. A
//! directory that is there already makes no layer, whoever owns it.

use crate::base::digest::LayerId;
use crate::build::solve::Keyed;
use crate::image::user::{self, MAX_FILE, User};
use crate::layer::entry::{EntryRef, KindRef, Xattrs};
use crate::layer::writer::LayerWriter;

use super::Exec;
use super::copy::selection::MADE;
use super::copy::tree::{Node, Resolved, Tree, parent, resolve};
use super::error::ExecError;
use super::key::KeyBuilder;
use super::snapshot::Stack;

/// A directory of the layer to be.
struct Made {
    path: Vec<u8>,
    /// What is below, for a directory that is only on the way.
    below: Option<Node>,
    owner: (u32, u32),
}

/// The key: which directories are made, and what those on the way to them are like.
pub fn key(exec: &Exec<'_>, stack: &Stack, path: &str, user: Option<&str>) -> Result<Keyed, ExecError> {
    let mut key = KeyBuilder::new("workdir 1");
    for made in directories(exec, stack, path, user)? {
        let Made { path, below, owner: (uid, gid) } = made;
        let path = String::from_utf8_lossy(&path).into_owned();
        match below {
            None => key.field("new directory", format!("/{path} {uid}:{gid}")),
            Some(Node { mode, uid, gid, xattrs, .. }) => {
                key.field("directory", format!("/{path} {mode:o} {uid}:{gid} {xattrs:?}"));
            }
        }
    }
    Ok(key.finish())
}

/// Makes the layer, or nothing if the directory is there.
pub fn run(
    exec: &Exec<'_>,
    stack: &Stack,
    path: &str,
    user: Option<&str>,
) -> Result<Option<LayerId>, ExecError> {
    let directories = directories(exec, stack, path, user)?;
    if directories.is_empty() {
        return Ok(None);
    }
    let prepared = exec.store.prepare()?;
    let tar = prepared.path().join("tar");
    let out = std::fs::File::create_new(&tar).map_err(ExecError::file("make the file", &tar))?;
    let mut writer = LayerWriter::new(out);
    for Made { path, below, owner } in &directories {
        let kind = KindRef::Directory { opaque: false };
        writer.entry(match below {
            None => {
                let (uid, gid) = *owner;
                EntryRef { path, mode: 0o755, uid, gid, mtime: MADE, xattrs: Xattrs::NONE, kind }
            }
            Some(Node { mode, uid, gid, mtime, xattrs, .. }) => {
                let (mode, uid, gid, mtime) = (*mode, *uid, *gid, *mtime);
                EntryRef { path, mode, uid, gid, mtime, xattrs: Xattrs::Listed(xattrs), kind }
            }
        })?;
    }
    let (_, index) = writer.finish()?;
    Ok(Some(exec.store.commit_tar(prepared, &index, None)?))
}

/// The directories that the layer holds, those on the way included; none if there is nothing to make.
fn directories(
    exec: &Exec<'_>,
    stack: &Stack,
    path: &str,
    user: Option<&str>,
) -> Result<Vec<Made>, ExecError> {
    let tree = exec.layers_tree(&stack.layers)?;
    let in_the_way = |at: &[u8]| ExecError::Workdir {
        path: path.to_owned(),
        at: format!("/{}", String::from_utf8_lossy(at)),
    };
    let target = match resolve(&tree, path.as_bytes(), true) {
        Resolved::Found(_, node) if node.kind.is_directory() => return Ok(Vec::new()),
        Resolved::Found(at, _) | Resolved::NotDirectory(at) => return Err(in_the_way(&at)),
        Resolved::Loop => return Err(in_the_way(path.trim_start_matches('/').as_bytes())),
        Resolved::Missing(target) => target,
    };
    let User { uid, gid, .. } = match user {
        None => User { uid: 0, gid: 0, additional_gids: Vec::new(), home: String::new() },
        Some(name) => look_up(exec, stack, name)?,
    };
    let mut directories = Vec::new();
    let mut at: &[u8] = &target;
    while !at.is_empty() {
        let owner = if at == target { (uid, gid) } else { (0, 0) };
        directories.push(Made { path: at.to_vec(), below: tree.get(at), owner });
        at = parent(at);
    }
    directories.reverse();
    Ok(directories)
}

/// Looks a user up in the image's own files.
pub fn look_up(exec: &Exec<'_>, stack: &Stack, name: &str) -> Result<User, ExecError> {
    let passwd = exec.store.read_file(&stack.layers, b"etc/passwd", MAX_FILE)?;
    let group = exec.store.read_file(&stack.layers, b"etc/group", MAX_FILE)?;
    user::resolve(name, passwd.as_deref(), group.as_deref())
        .map_err(|source| ExecError::User { user: name.to_owned(), source })
}
