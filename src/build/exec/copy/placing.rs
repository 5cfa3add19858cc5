//! Places what the sources of a COPY name on what is below, and holds the invariants of a
//! [`Selection`].

use std::collections::{HashMap, HashSet};

use super::pattern::{self, Match, SourceError};
use super::selection::{
    Archive, Conflict, From, Group, Item, ItemKind, MADE, PARENT, Rules, Selection, What, sort, unknown,
};
use super::tree::{Descend, Node, NodeKind, Resolved, Tree, components, join, name, parent, resolve};

/// Selects what the sources name and places it on `base`.
pub fn select(base: &dyn Tree, sources: &[From<'_>], rules: &Rules<'_>) -> Result<Selection, Conflict> {
    let mut placing = Placing { base, rules, selection: Selection::default(), links: HashSet::new() };
    let destination = Destination::resolve(base, rules.destination)?;
    for (source, from) in sources.iter().enumerate() {
        let failed = |error| Conflict::Source(source, error);
        let found = match from.what {
            What::Path(path) => {
                let node = from.tree.get(path).ok_or_else(|| failed(SourceError::NotFound(path.to_vec())))?;
                vec![Match { path: path.to_vec(), name: name(path).to_vec(), node }]
            }
            What::Pattern(pattern) if rules.parents => {
                for part in pattern::matches_with_parents(from.tree, pattern).map_err(failed)? {
                    placing.add_with_parents(source, from, &part, &destination)?;
                }
                continue;
            }
            What::Pattern(pattern) => pattern::matches(from.tree, pattern).map_err(failed)?,
        };
        let files = found.iter().filter(|found| !found.node.kind.is_directory()).count();
        if files > 0 && sources.len().max(found.len()) > 1 && !destination.is_directory {
            return Err(Conflict::Several(destination.path));
        }
        for found in found {
            placing.add(source, from, found, &destination)?;
        }
    }
    placing.finish(sources)
}

/// Where the copies go.
struct Destination {
    /// Free of links.
    path: Vec<u8>,
    /// Whether it is a directory, or is to be one by its trailing slash.
    is_directory: bool,
    /// Whether something is there.
    exists: bool,
}

impl Destination {
    fn resolve(base: &dyn Tree, written: &str) -> Result<Self, Conflict> {
        let slash = written.ends_with('/') || written.ends_with("/.") || written.is_empty();
        match resolve(base, written.as_bytes(), true) {
            Resolved::Found(path, node) if node.kind.is_directory() => {
                Ok(Self { path, is_directory: true, exists: true })
            }
            Resolved::Found(path, _) if slash => Err(Conflict::OntoFile { path, link: None }),
            Resolved::Found(path, _) => Ok(Self { path, is_directory: false, exists: true }),
            Resolved::Missing(path) => Ok(Self { path, is_directory: slash, exists: false }),
            Resolved::NotDirectory(path) => Err(Conflict::Destination(path)),
            Resolved::Loop => Err(Conflict::DestinationLoop),
        }
    }
}

struct Placing<'a> {
    base: &'a dyn Tree,
    rules: &'a Rules<'a>,
    selection: Selection,
    /// Files that have more than one name: source, part of it, and the path there.
    links: HashSet<(usize, u32, Vec<u8>)>,
}

impl Placing<'_> {
    /// Adds what one match of a source names.
    fn add(
        &mut self,
        source: usize,
        from: &From<'_>,
        found: Match,
        to: &Destination,
    ) -> Result<(), Conflict> {
        if found.node.kind.is_directory() {
            if to.exists && !to.is_directory {
                return Err(Conflict::OntoFile { path: to.path.clone(), link: None });
            }
            let group = self.group(source, found.path.clone(), to.path.clone());
            self.require_directory(&to.path);
            return self.add_below(group, from, &found.path, &[]);
        }
        if (self.rules.excluded)(&found.name) || (self.rules.excluded)(&found.path) {
            if to.is_directory {
                self.require_directory(&to.path);
            }
            return Ok(());
        }
        if matches!(found.node.kind, NodeKind::File { .. }) && (from.unpack)(&found.path) {
            if to.exists && !to.is_directory {
                return Err(Conflict::OntoFile { path: to.path.clone(), link: None });
            }
            let group = self.group(source, found.path.clone(), to.path.clone());
            self.require_directory(&to.path);
            let archive = Archive { source, path: found.path, group, to: to.path.clone() };
            self.selection.archives.push(archive);
            return Ok(());
        }
        let path = if to.is_directory { join(&to.path, &found.name) } else { to.path.clone() };
        let group = self.group(source, found.path, path.clone());
        self.require_directory(parent(&path));
        self.push(group, from, path, found.node, true)
    }

    /// Adds the kept paths of one part of a `--parents` source.
    fn add_with_parents(
        &mut self,
        source: usize,
        from: &From<'_>,
        part: &pattern::ParentsMatch,
        to: &Destination,
    ) -> Result<(), Conflict> {
        if to.exists && !to.is_directory {
            return Err(Conflict::OntoFile { path: to.path.clone(), link: None });
        }
        let group = self.group(source, part.base.clone(), to.path.clone());
        for kept in &part.kept {
            if is_excluded(self.rules.excluded, kept) {
                continue;
            }
            self.require_directory(&to.path);
            let names: Vec<&[u8]> = components(kept).collect();
            for depth in 1..names.len() {
                let above = names[..depth].join(&b'/');
                if let Some(node) = from.tree.get(&join(&part.base, &above)) {
                    self.push(group, from, join(&to.path, &above), node, false)?;
                }
            }
            let path = join(&part.base, kept);
            let Some(node) = from.tree.get(&path) else { continue };
            let is_directory = node.kind.is_directory();
            if !kept.is_empty() {
                self.push(group, from, join(&to.path, kept), node, true)?;
            }
            if is_directory {
                self.add_below(group, from, &path, kept)?;
            }
        }
        Ok(())
    }

    /// Adds everything below the directory `path` of a source; `kept` leads to it from the
    /// group's start.
    fn add_below(&mut self, group: u32, from: &From<'_>, path: &[u8], kept: &[u8]) -> Result<(), Conflict> {
        let to = self.selection.groups[group as usize].to.clone();
        let skip = if path.is_empty() { 0 } else { path.len() + 1 };
        let mut failed = None;
        from.tree.walk(path, &mut |found, node| {
            let below = join(kept, found.get(skip..).unwrap_or_default());
            let is_directory = node.kind.is_directory();
            if failed.is_some() || (self.rules.excluded)(&below) {
                return if is_directory { Descend::Past } else { Descend::Into };
            }
            if let Err(conflict) = self.push(group, from, join(&to, &below), node, false) {
                failed = Some(conflict);
            }
            Descend::Into
        });
        failed.map_or(Ok(()), Err)
    }

    fn group(&mut self, source: usize, from: Vec<u8>, to: Vec<u8>) -> u32 {
        self.selection.groups.push(Group { source, from, to });
        (self.selection.groups.len() - 1) as u32
    }

    /// Adds one entry; `named` tells one that the user named from one that was found below.
    fn push(
        &mut self,
        group: u32,
        from: &From<'_>,
        path: Vec<u8>,
        node: Node,
        named: bool,
    ) -> Result<(), Conflict> {
        let source = self.selection.groups[group as usize].source;
        let kind = match node.kind {
            NodeKind::File { size, link } => {
                if let Some(link) = link {
                    self.links.insert((source, node.part, link));
                }
                ItemKind::File { size, digest: unknown() }
            }
            NodeKind::Directory => ItemKind::Directory,
            NodeKind::Symlink(target) => ItemKind::Symlink(target.into()),
            NodeKind::CharDevice { major, minor } => ItemKind::CharDevice(major, minor),
            NodeKind::BlockDevice { major, minor } => ItemKind::BlockDevice(major, minor),
            NodeKind::Fifo => ItemKind::Fifo,
            NodeKind::Socket if named => return Err(Conflict::Socket(path)),
            NodeKind::Socket => return Ok(()),
        };
        if name(&path).starts_with(b".wh.") {
            return Err(Conflict::Whiteout(path));
        }
        let (uid, gid) = match self.rules.owner {
            Some(owner) => owner,
            None if from.keep_owner => (node.uid, node.gid),
            None => (0, 0),
        };
        let is_directory = kind == ItemKind::Directory;
        let mode = match (&kind, self.rules.mode) {
            (ItemKind::Symlink(_), _) => 0o777,
            (_, Some(change)) => change.apply(node.mode, is_directory),
            (_, None) => node.mode,
        };
        self.selection.items.push(Item {
            path: path.into(),
            group,
            part: node.part,
            kind,
            mode,
            uid,
            gid,
            mtime: node.mtime,
            xattrs: node.xattrs,
        });
        Ok(())
    }

    /// Sees to it that `path` and the directories above it are in the layer.
    fn require_directory(&mut self, path: &[u8]) {
        let mut path = path;
        while !path.is_empty() {
            let (mode, uid, gid, mtime, xattrs) = match self.base.get(path) {
                Some(node) => (node.mode, node.uid, node.gid, node.mtime, node.xattrs),
                None => {
                    let (uid, gid) = self.rules.owner.unwrap_or((0, 0));
                    (0o755, uid, gid, MADE, Vec::new())
                }
            };
            let kind = ItemKind::Directory;
            self.selection.items.push(Item {
                path: path.into(),
                group: PARENT,
                part: 0,
                kind,
                mode,
                uid,
                gid,
                mtime,
                xattrs,
            });
            path = parent(path);
        }
    }

    /// Sorts, lets later sources take the place of earlier ones, and checks what is below.
    fn finish(mut self, sources: &[From<'_>]) -> Result<Selection, Conflict> {
        sort(&mut self.selection.items)?;
        if !self.links.is_empty() {
            self.join_links(sources);
        }
        self.check_below()?;
        Ok(self.selection)
    }

    /// Makes names of one file that are copied together names of one file again.
    fn join_links(&mut self, sources: &[From<'_>]) {
        let mut first: HashMap<(usize, u32, Vec<u8>), Box<[u8]>> = HashMap::new();
        for at in 0..self.selection.items.len() {
            let item = &self.selection.items[at];
            let ItemKind::File { .. } = item.kind else { continue };
            let Some((source, path)) = self.selection.source_path(item) else { continue };
            let Some(Node { kind: NodeKind::File { link, .. }, part, .. }) = sources[source].tree.get(&path)
            else {
                continue;
            };
            let file = (source, part, link.unwrap_or(path));
            if !self.links.contains(&file) {
                continue;
            }
            match first.get(&file) {
                Some(target) => self.selection.items[at].kind = ItemKind::HardLink(target.clone()),
                None => drop(first.insert(file, item.path.clone())),
            }
        }
    }

    fn check_below(&self) -> Result<(), Conflict> {
        // Most entries share their parent with the one before: it is looked up once.
        let mut last: Option<(&[u8], bool)> = None;
        for item in &self.selection.items {
            let above = parent(&item.path);
            let is_there = match last {
                Some((path, is_there)) if path == above => is_there,
                _ => self.base.get(above).is_some_and(|node| node.kind.is_directory()),
            };
            last = Some((above, is_there));
            if !is_there {
                continue;
            }
            match (&item.kind, self.base.get(&item.path).map(|node| node.kind)) {
                (_, None) | (ItemKind::Directory, Some(NodeKind::Directory)) => {}
                (ItemKind::Directory, Some(other)) => {
                    let link = if let NodeKind::Symlink(target) = other { Some(target) } else { None };
                    return Err(Conflict::OntoFile { path: item.path.to_vec(), link });
                }
                (_, Some(NodeKind::Directory)) => return Err(Conflict::OntoDirectory(item.path.to_vec())),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether `path` or a directory above it is left out.
fn is_excluded(excluded: &dyn Fn(&[u8]) -> bool, path: &[u8]) -> bool {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    !path.is_empty() && (slashes.map(|(at, _)| at).any(|at| excluded(&path[..at])) || excluded(path))
}
