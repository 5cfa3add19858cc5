//! Values by path, kept component by component: however deep or many the paths of a foreign
//! archive are, what it costs to find and keep one is in proportion to its length.

use std::collections::BTreeMap;
use std::collections::btree_map::Iter;

/// A map from paths to values. Every ancestor of a path is there, some without a value. Going
/// through it gives parents before children and siblings in the order of their bytes, which is
/// the order of an index.
pub(crate) struct PathMap<T> {
    /// The root first; what was removed stays until the end.
    nodes: Vec<Node<T>>,
}

struct Node<T> {
    children: BTreeMap<Box<[u8]>, usize>,
    value: Option<T>,
}

type Children<'a> = Iter<'a, Box<[u8]>, usize>;

/// A place in a [`PathMap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At(usize);

impl<T> Default for PathMap<T> {
    fn default() -> Self {
        Self { nodes: vec![Node { children: BTreeMap::new(), value: None }] }
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
}

impl<T> PathMap<T> {
    /// How many places there are or were.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The place of `path`, made if it is not there.
    pub fn make(&mut self, path: &[u8]) -> At {
        let mut at = 0;
        for component in components(path) {
            at = match self.nodes[at].children.get(component) {
                Some(child) => *child,
                None => {
                    let child = self.nodes.len();
                    self.nodes.push(Node { children: BTreeMap::new(), value: None });
                    self.nodes[at].children.insert(component.into(), child);
                    child
                }
            };
        }
        At(at)
    }

    /// The place of `path`, if it is there.
    pub fn find(&self, path: &[u8]) -> Option<At> {
        components(path).try_fold(0, |at, component| self.nodes[at].children.get(component).copied()).map(At)
    }

    /// The value at `path`.
    pub fn get(&self, path: &[u8]) -> Option<&T> {
        self.nodes[self.find(path)?.0].value.as_ref()
    }

    /// The value at a place.
    pub fn value(&mut self, at: At) -> &mut Option<T> {
        &mut self.nodes[at.0].value
    }

    /// Whether there is something below a place.
    pub fn has_children(&self, at: At) -> bool {
        !self.nodes[at.0].children.is_empty()
    }

    /// Removes what is below a place.
    pub fn clear_below(&mut self, at: At) {
        self.nodes[at.0].children.clear();
    }

    /// Removes a path with everything below it.
    pub fn remove(&mut self, path: &[u8]) {
        let (dir, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        if let Some(At(dir)) = self.find(dir) {
            self.nodes[dir].children.remove(name);
        }
    }

    /// The first value on the way to `path`, itself left out, that `test` is true of.
    pub fn ancestor(&self, path: &[u8], test: impl Fn(&T) -> bool) -> bool {
        let mut at = 0;
        for component in components(path) {
            if self.nodes[at].value.as_ref().is_some_and(&test) {
                return true;
            }
            match self.nodes[at].children.get(component) {
                Some(child) => at = *child,
                None => return false,
            }
        }
        false
    }

    /// Calls `each` for `path` and every path below it that is there, in order, until an error.
    pub fn each<E>(
        &self,
        path: &[u8],
        mut each: impl FnMut(&[u8], Option<&T>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(At(start)) = self.find(path) else { return Ok(()) };
        let mut path = path.to_vec();
        each(&path, self.nodes[start].value.as_ref())?;
        let mut open: Vec<(usize, Children<'_>)> = vec![(path.len(), self.nodes[start].children.iter())];
        while let Some((length, children)) = open.last_mut() {
            path.truncate(*length);
            let Some((name, child)) = children.next() else {
                open.pop();
                continue;
            };
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            let node = &self.nodes[*child];
            each(&path, node.value.as_ref())?;
            open.push((path.len(), node.children.iter()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_in_the_order_of_an_index() {
        let mut map = PathMap::default();
        for path in ["a.b", "a/b/c", "", "a", "b/x", "a\u{1}", "gone/x/y"] {
            let at = map.make(path.as_bytes());
            *map.value(at) = Some(path.to_owned());
        }
        map.remove(b"gone");
        let x = map.find(b"b").unwrap();
        assert!(map.has_children(x));
        map.clear_below(x);
        let all = |start: &str| {
            let mut all = Vec::new();
            let each = |path: &[u8], value: Option<&String>| {
                all.push((String::from_utf8(path.to_vec()).unwrap(), value.is_some()));
                Ok::<_, ()>(())
            };
            map.each(start.as_bytes(), each).unwrap();
            all
        };
        let expected = [
            ("", true),
            ("a", true),
            ("a/b", false),
            ("a/b/c", true),
            ("a\u{1}", true),
            ("a.b", true),
            ("b", false),
        ];
        assert_eq!(all(""), expected.map(|(path, value)| (path.to_owned(), value)));
        assert_eq!(all("a/b").len(), 2);
        assert!(map.get(b"a/b").is_none() && map.find(b"gone/x").is_none());
        assert!(map.ancestor(b"a/b/c", |value| value == "a") && !map.ancestor(b"a", |value| value == "a"));
    }
}
