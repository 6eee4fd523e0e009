//! Dispatch as a path-compressed tree: from a key (an address, a port) to what is listed under it, four bits a
//! step.
//!
//! A packet that looks for one of 10,000 addresses in a flat chain meets 5,000 rules on average. Here a node
//! has at most sixteen branches, and steps in which all keys agree are left out: four steps for a full /16,
//! one for a handful of Services.
//!
//! ```text
//! root                10.96.0.0/16 ->
//!   10.96.0.0/16      10.96.0.1: (rules)     10.96.16.0/20 ->
//!     10.96.16.0/20   10.96.17.5: (rules)    10.96.28.9: (rules)
//! ```
//!
//! The tree is never built: a node follows from the sorted map of keys alone, by looking at the first and last
//! key of each of its branches. So a change of one key is a walk from the root to that key, and only the nodes on
//! that path can differ. A node's name is its prefix, and its content is always all that lies under the prefix:
//! any mixture of old and new nodes that a half-done change leaves behind still sends every key to the right place.

use std::collections::BTreeMap;

/// Bits per step.
const STEP: u8 = 4;

/// A key with more entries than this gets a node of its own, so as not to lengthen its neighbours' way.
const LISTED: usize = 6;

/// The first `len` of a key's bits; the rest are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// The bits, right-aligned in the tree's width.
    pub bits: u32,
    /// How many of them count.
    pub len: u8,
}

/// What one branch of a node leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Branch<'a, T> {
    /// Another node.
    Node(Prefix),
    /// A single key's entries.
    Key(u32, &'a [T]),
}

/// The keys of a tree with what is listed under each.
#[derive(Clone, Debug)]
pub struct Tree<T> {
    width: u8,
    keys: BTreeMap<u32, Vec<T>>,
}

impl<T> Tree<T> {
    /// An empty tree over keys of `width` bits (at most 32).
    pub fn new(width: u8) -> Tree<T> {
        Tree { width, keys: BTreeMap::new() }
    }

    /// The root's prefix: no bit at all.
    pub const ROOT: Prefix = Prefix { bits: 0, len: 0 };

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// What is listed under `key`, to be changed. A key left empty must be dropped with [`Tree::tidy`].
    pub fn entries(&mut self, key: u32) -> &mut Vec<T> {
        self.keys.entry(key).or_default()
    }

    /// Drops `key` if nothing is listed under it.
    pub fn tidy(&mut self, key: u32) {
        if self.keys.get(&key).is_some_and(Vec::is_empty) {
            self.keys.remove(&key);
        }
    }

    /// Every prefix that could be the name of a node above `key`, from the root on.
    pub fn possible_nodes(&self, key: u32) -> impl Iterator<Item = Prefix> + use<T> {
        let width = self.width;
        (0..=width).step_by(usize::from(STEP)).map(move |len| Prefix { bits: cut(key, len, width), len })
    }

    /// The nodes that a lookup of `key` passes, from the root on. The key need not be there.
    pub fn path(&self, key: u32) -> Vec<Prefix> {
        let mut path = vec![Self::ROOT];
        let mut at = Self::ROOT;
        while let Some(next) = self.branches(at).into_iter().find_map(|branch| match branch {
            Branch::Node(prefix) if prefix.bits == cut(key, prefix.len, self.width) => Some(prefix),
            _ => None,
        }) {
            path.push(next);
            at = next;
        }
        path
    }

    /// Every node, parents before children.
    pub fn nodes(&self) -> Vec<Prefix> {
        let mut nodes = vec![Self::ROOT];
        let mut next = 0;
        while let Some(&at) = nodes.get(next) {
            next += 1;
            nodes.extend(self.branches(at).into_iter().filter_map(|branch| match branch {
                Branch::Node(prefix) => Some(prefix),
                Branch::Key(..) => None,
            }));
        }
        nodes
    }

    /// The branches of a node, ascending. A node at full width lists its key.
    pub fn branches(&self, node: Prefix) -> Vec<Branch<'_, T>> {
        let (first, last) = self.span(node);
        if node.len == self.width {
            let entries = self.keys.get(&node.bits);
            return entries.map(|entries| Branch::Key(node.bits, entries)).into_iter().collect();
        }
        let Some(common) = self.common(first, last) else {
            return Vec::new();
        };
        if common.len > node.len && node.len == 0 {
            // Only the root keeps a single branch: everything else in the world leaves it after one rule.
            return vec![self.branch(common)];
        }
        (0..1u32 << STEP)
            .filter_map(|nibble| {
                let len = node.len + STEP;
                let group = Prefix { bits: node.bits | nibble << (self.width - len), len };
                let (first, last) = self.span(group);
                self.common(first, last).map(|common| self.branch(common))
            })
            .collect()
    }

    /// A group whose keys have `common` in common: a key if it is a single one with few entries.
    fn branch(&self, common: Prefix) -> Branch<'_, T> {
        match self.keys.get(&common.bits) {
            Some(entries) if common.len == self.width && entries.len() <= LISTED => Branch::Key(common.bits, entries),
            _ => Branch::Node(common),
        }
    }

    /// The whole steps in which all keys from `first` to `last` agree; none if there is no key.
    fn common(&self, first: u32, last: u32) -> Option<Prefix> {
        let mut range = self.keys.range(first..=last);
        let low = *range.next()?.0;
        let high = range.next_back().map_or(low, |(key, _)| *key);
        let differing = 32 - (low ^ high).leading_zeros() as u8;
        let len = (self.width - differing) / STEP * STEP;
        Some(Prefix { bits: cut(low, len, self.width), len })
    }

    /// The first and last key that a prefix covers.
    fn span(&self, prefix: Prefix) -> (u32, u32) {
        (prefix.bits, prefix.bits | last_offset(prefix.len, self.width))
    }
}

/// `key` with all but its first `len` bits zero.
fn cut(key: u32, len: u8, width: u8) -> u32 {
    key & !last_offset(len, width)
}

/// How far the last key under a prefix of `len` bits is from the first.
pub fn last_offset(len: u8, width: u8) -> u32 {
    ((1u64 << (width - len)) - 1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tree(width: u8, keys: impl IntoIterator<Item = (u32, usize)>) -> Tree<usize> {
        let mut tree = Tree::new(width);
        for (key, entries) in keys {
            tree.entries(key).extend(0..entries);
            tree.tidy(key);
        }
        tree
    }

    /// Looks a key up as a packet would; how many nodes it passes.
    fn find(tree: &Tree<usize>, key: u32) -> Option<usize> {
        let path = tree.path(key);
        let end = *path.last().expect("a path begins with the root");
        let found = tree.branches(end).iter().any(|b| matches!(b, Branch::Key(k, _) if *k == key));
        found.then_some(path.len())
    }

    fn any_tree() -> impl Strategy<Value = (u8, Vec<(u32, usize)>)> {
        prop_oneof![Just(16u8), Just(32u8)].prop_flat_map(|width| {
            let top = last_offset(0, width);
            let near = (0u32..200).prop_map(move |k| top - k); // crowded, too
            let key = prop_oneof![0..=top, near];
            (Just(width), proptest::collection::vec((key, 1usize..9), 0..60))
        })
    }

    proptest! {
        #[test]
        fn every_key_is_found_and_no_other((width, keys) in any_tree(), other: u32) {
            let tree = tree(width, keys.clone());
            for (key, _) in &keys {
                let depth = find(&tree, *key);
                prop_assert!(depth.is_some_and(|depth| depth <= usize::from(width / STEP) + 1));
            }
            let other = other & last_offset(0, width);
            prop_assert_eq!(find(&tree, other).is_some(), keys.iter().any(|(key, _)| *key == other));
        }

        #[test]
        fn nodes_are_few_and_narrow((width, keys) in any_tree()) {
            let tree = tree(width, keys.clone());
            for node in tree.nodes() {
                prop_assert!(tree.branches(node).len() <= 16);
                // Path compression: a step where all agree is no node, unless it stands for one crowded key.
                prop_assert!(node.len == 0 || node.len == width || tree.branches(node).len() >= 2);
            }
        }

        #[test]
        fn one_more_key_changes_nodes_on_its_path_only((width, keys) in any_tree(), key: u32) {
            let key = key & last_offset(0, width);
            let before = tree(width, keys.clone());
            let after = tree(width, keys.into_iter().chain([(key, 1)]));
            let path: Vec<Prefix> = after.possible_nodes(key).collect();
            for node in before.nodes().into_iter().chain(after.nodes()) {
                let same = before.nodes().contains(&node) == after.nodes().contains(&node)
                    && before.branches(node) == after.branches(node);
                prop_assert!(same || path.contains(&node), "{:?} differs and is off the path", node);
            }
        }
    }

    #[test]
    fn a_handful_of_services_is_one_step_deep() {
        let tree = tree(32, (1..=10).map(|i| (u32::from_be_bytes([10, 96, i * 20, 7]), 1)));
        let depth = (1..=10).map(|i| find(&tree, u32::from_be_bytes([10, 96, i * 20, 7]))).max();
        assert!(depth <= Some(Some(3)), "{depth:?}");
    }
}
