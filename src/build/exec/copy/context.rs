//! A build context as COPY sees it. Owners are the copy's affair, attributes are known only once
//! a file has been hashed.

use super::tree::{Descend, Node, NodeKind, Tree};
use crate::build::context::{Context, ContextEntry, ContextKind};
use crate::layer::entry::is_under;

/// A context.
pub struct ContextTree<'a>(pub &'a Context);

fn node(entry: ContextEntry<'_>) -> Node {
    let kind = match entry.kind() {
        ContextKind::File => NodeKind::File { size: entry.size(), link: None },
        ContextKind::Directory => NodeKind::Directory,
        ContextKind::Symlink(target) => NodeKind::Symlink(target.to_vec()),
        ContextKind::CharDevice { major, minor } => NodeKind::CharDevice { major, minor },
        ContextKind::BlockDevice { major, minor } => NodeKind::BlockDevice { major, minor },
        ContextKind::Fifo => NodeKind::Fifo,
        ContextKind::Socket => NodeKind::Socket,
    };
    Node {
        kind,
        mode: entry.mode(),
        uid: entry.uid(),
        gid: entry.gid(),
        mtime: entry.mtime(),
        xattrs: Vec::new(),
        part: entry.number(),
    }
}

impl Tree for ContextTree<'_> {
    fn get(&self, path: &[u8]) -> Option<Node> {
        self.0.get(path).map(node)
    }

    fn names(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let directory = self.0.get(path);
        directory.map_or_else(Vec::new, |entry| entry.children().map(|child| child.name().to_vec()).collect())
    }

    fn walk(&self, path: &[u8], visit: &mut dyn FnMut(&[u8], Node) -> Descend) {
        let Some(directory) = self.0.get(path) else { return };
        let mut past: Option<&[u8]> = None;
        for entry in directory.subtree().skip(1) {
            if past.is_some_and(|past| is_under(entry.path(), past)) {
                continue;
            }
            past = (visit(entry.path(), node(entry)) == Descend::Past).then(|| entry.path());
        }
    }
}
