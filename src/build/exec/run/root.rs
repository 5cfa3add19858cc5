//! What a RUN's upper directory holds before the command runs: nothing, as a rule. Only a working
//! directory that is not there is made, as every runtime does, and it stays in the layer.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};

use crate::build::exec::copy::layers::LayersTree;
use crate::build::exec::copy::tree::{Node, Resolved, Tree, components, join, resolve};
use crate::build::exec::error::ExecError;

/// Gives the directory `upper` the owner and mode of the root of `tree`: the root of an overlay
/// is that of its upper.
pub fn same_root(tree: &LayersTree, upper: &Path) -> Result<(), ExecError> {
    match tree.get(b"") {
        Some(root) if (root.uid, root.gid) != (0, 0) || root.mode != 0o755 => dress(upper, &root),
        _ => Ok(()),
    }
}

/// Makes the working directory `path` in `upper` if `tree` does not have it. Gives its path
/// inside the sandbox.
pub fn make_working_directory(tree: &LayersTree, upper: &Path, path: &str) -> Result<String, ExecError> {
    let in_the_way = |at: &[u8]| ExecError::Workdir {
        path: path.to_owned(),
        at: format!("/{}", String::from_utf8_lossy(at)),
    };
    let target = match resolve(tree, path.as_bytes(), true) {
        Resolved::Found(_, node) if node.kind.is_directory() => return Ok(path.to_owned()),
        Resolved::Found(at, _) | Resolved::NotDirectory(at) => return Err(in_the_way(&at)),
        Resolved::Loop => return Err(in_the_way(path.as_bytes())),
        Resolved::Missing(target) => target,
    };
    let mut at = Vec::new();
    let mut made: Vec<(PathBuf, Node)> = Vec::new();
    for name in components(&target) {
        at = join(&at, name);
        let directory = upper.join(std::ffi::OsStr::from_bytes(&at));
        let make = DirBuilder::new().mode(0o755).create(&directory);
        make.map_err(ExecError::file("make the directory", &directory))?;
        made.extend(tree.get(&at).map(|node| (directory, node)));
    }
    // The deepest first: making what is in a directory changes its time.
    for (directory, node) in made.iter().rev() {
        dress(directory, node)?;
    }
    Ok(format!("/{}", String::from_utf8_lossy(&target)))
}

/// Gives a directory the metadata of `node`.
fn dress(directory: &Path, node: &Node) -> Result<(), ExecError> {
    let failed = || ExecError::file("give its metadata to", directory);
    chown(directory, Some(node.uid), Some(node.gid)).map_err(failed())?;
    fs::set_permissions(directory, Permissions::from_mode(node.mode)).map_err(failed())?;
    for (name, value) in &node.xattrs {
        let set = rustix::fs::setxattr(directory, name.as_slice(), value, XattrFlags::empty());
        set.map_err(|errno| failed()(errno.into()))?;
    }
    let time = Timespec { tv_sec: node.mtime.seconds, tv_nsec: node.mtime.nanoseconds.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, directory, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| failed()(errno.into()))
}
