//! Chains of causes: from one write back to the act that began it, by what the writes themselves say.
//!
//! Causes form a graph: a write names what woke its key, what its plan was computed from, and the write it replaced.
//! The chain is a path through it, chosen by one rule: **of all acts that led here, the latest of a person's, else the
//! latest of a component's**. An act is a write that no plan made: a user's, a foreign client's, a node's own status.
//! Where what is recorded does not reach back to one, the chain begins with the oldest write that is held, and says so.
//!
//! - What woke the key comes first. Only where nothing of that is held (a timer, an effect, a start), the plan's inputs
//!   are followed, and else the write that was replaced.
//! - Nothing is guessed from times. The one edge that no write recorded, from a foreign controller's new object to its
//!   owner, is marked as inferred.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;
use skiff_proto::skiffv1::trigger::What;
use skiff_proto::skiffv1::{Cause, ChangesRequest, ObjectRef, Recorded, ResourceRef};

use crate::client::Client;
use crate::error::Error;

/// A chain is followed through so many writes at most.
const MOST: usize = 512;

/// How one write led to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// It woke the key.
    Woke,
    /// The plan was computed from it.
    Computed,
    /// The next write replaced it.
    Replaced,
    /// It is the owner's last write before; nobody recorded that this was the reason.
    Owner,
}

impl Edge {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Edge::Woke => "woke",
            Edge::Computed => "computed from",
            Edge::Replaced => "replaced",
            Edge::Owner => "inferred: owner",
        }
    }

    /// Whether a write says so, or we do.
    pub fn is_recorded(self) -> bool {
        self != Edge::Owner
    }
}

/// One write of a chain.
#[derive(Clone, Debug)]
pub struct Link {
    /// The write.
    pub write: Recorded,
    /// The write that it replaced, if that is held.
    pub before: Option<Recorded>,
    /// How the link before led to it; nothing for the first.
    pub edge: Option<Edge>,
}

/// From an act to a write.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// The act first.
    pub links: Vec<Link>,
    /// What is missing, in words.
    pub notices: Vec<String>,
}

/// Names a write.
type Name = (String, u64);

fn name_of(object: &ObjectRef) -> Name {
    (object.uid.clone(), object.revision)
}

fn object_of(write: &Recorded) -> ObjectRef {
    write.object.clone().unwrap_or_default()
}

fn cause_of(write: &Recorded) -> Cause {
    write.cause.clone().unwrap_or_default()
}

/// Whether no plan made this write.
pub fn is_act(write: &Recorded) -> bool {
    cause_of(write).reconcile_id.is_empty()
}

/// Components, and what runs in Pods, have users of their own.
fn is_a_persons(write: &Recorded) -> bool {
    cause_of(write).actor.is_some_and(|actor| !actor.user.starts_with("system:"))
}

/// What may have led to a write, the strongest kind first.
fn parents(write: &Recorded) -> [(Edge, Vec<ObjectRef>); 3] {
    let (object, cause) = (object_of(write), cause_of(write));
    if is_act(write) {
        return [(Edge::Woke, Vec::new()), (Edge::Computed, Vec::new()), (Edge::Replaced, Vec::new())];
    }
    let itself = |other: &ObjectRef| name_of(other) == name_of(&object);
    let woke = cause.triggers.into_iter().filter_map(|trigger| match trigger.what? {
        What::Object(object) => Some(object),
        _ => None,
    });
    let replaced = ObjectRef { revision: cause.replaced_revision, ..object.clone() };
    [
        (Edge::Woke, woke.filter(|other| !itself(other)).collect()),
        (Edge::Computed, cause.inputs.into_iter().filter(|other| !itself(other)).collect()),
        (Edge::Replaced, Some(replaced).filter(|replaced| replaced.revision != 0).into_iter().collect()),
    ]
}

/// The controlling owner that an object names: apiVersion, kind, name, uid.
fn owner(write: &Recorded) -> Option<(String, String, String, String)> {
    let object: Value = serde_json::from_slice(&write.json).ok()?;
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    let text = |field: &str| owner[field].as_str().map(str::to_string);
    Some((text("apiVersion")?, text("kind")?, text("name")?, text("uid")?))
}

/// The writes that are known, and how they hang together.
#[derive(Default)]
struct Graph {
    writes: BTreeMap<Name, Recorded>,
    edges: BTreeMap<Name, Vec<(Edge, Name)>>,
}

impl Graph {
    fn add(&mut self, write: Recorded) -> Name {
        let name = name_of(&object_of(&write));
        self.writes.insert(name.clone(), write);
        name
    }

    /// Joins a write to those of its parents that are known: the strongest kind of which there are any.
    fn join(&mut self, name: &Name) -> Vec<Name> {
        let Some(write) = self.writes.get(name) else { return Vec::new() };
        for (edge, parents) in parents(write) {
            let known = parents.iter().map(name_of).filter(|parent| self.writes.contains_key(parent));
            let known: Vec<(Edge, Name)> = known.map(|parent| (edge, parent)).collect();
            if !known.is_empty() {
                let found = known.iter().map(|(_, parent)| parent.clone()).collect();
                self.edges.insert(name.clone(), known);
                return found;
            }
        }
        Vec::new()
    }

    /// The path to a write from the latest act that led to it, by the fewest writes.
    fn path(&self, to: &Name) -> Vec<(Option<Edge>, Name)> {
        // What each write leads to, on the shortest way to `to`.
        let mut next: BTreeMap<&Name, Option<(Edge, &Name)>> = BTreeMap::from([(to, None)]);
        let mut queue = VecDeque::from([to]);
        let mut beginnings = Vec::new();
        while let Some(name) = queue.pop_front() {
            let edges = self.edges.get(name).map(Vec::as_slice).unwrap_or_default();
            if edges.is_empty() {
                beginnings.push(name);
            }
            for (edge, parent) in edges {
                if !next.contains_key(parent) {
                    next.insert(parent, Some((*edge, name)));
                    queue.push_back(parent);
                }
            }
        }
        let acts = beginnings.iter().copied().filter_map(|name| Some((self.writes.get(name)?, name)));
        let acts = acts.filter(|(write, _)| is_act(write));
        let latest_act =
            acts.max_by_key(|(write, (_, revision))| (is_a_persons(write), *revision)).map(|(_, name)| name);
        let oldest = || beginnings.iter().copied().min_by_key(|(_, revision)| *revision);
        let mut path = Vec::new();
        // Where everything led to everything, there is no beginning but the end.
        let mut at = Some((None, latest_act.or_else(oldest).unwrap_or(to)));
        while let Some((edge, name)) = at {
            path.push((edge, name.clone()));
            at = next.get(name).copied().flatten().map(|(edge, name)| (Some(edge), name));
        }
        path
    }
}

/// Follows a write back to what began it.
pub async fn trace(client: &Client, write: Recorded) -> Result<Chain, Error> {
    let mut chain = Chain::default();
    let (mut graph, mut oldest) = (Graph::default(), 0);
    let last = graph.add(write);
    let mut asked: BTreeSet<Name> = BTreeSet::from([last.clone()]);
    let mut frontier = vec![last.clone()];
    while !frontier.is_empty() && graph.writes.len() < MOST {
        let of_all = frontier.iter().filter_map(|name| graph.writes.get(name)).flat_map(parents);
        let wanted: Vec<ObjectRef> =
            of_all.flat_map(|(_, objects)| objects).filter(|object| asked.insert(name_of(object))).collect();
        let reply = client.writes(&wanted).await?;
        oldest = oldest.max(reply.oldest);
        for notice in reply.notices {
            if !chain.notices.contains(&notice) {
                chain.notices.push(notice);
            }
        }
        reply.changes.into_iter().for_each(|write| drop(graph.add(write)));
        let mut further = Vec::new();
        for name in std::mem::take(&mut frontier) {
            let mut found = graph.join(&name);
            if found.is_empty()
                && let Some(owner) = inferred(client, &graph, &name).await?
            {
                found.push(graph.add(owner));
                graph.edges.insert(name.clone(), vec![(Edge::Owner, found[0].clone())]);
            }
            further.extend(found);
        }
        // Whatever has edges already has been here.
        further.retain(|name| !graph.edges.contains_key(name));
        further.sort();
        further.dedup();
        frontier = further;
    }
    let path = graph.path(&last);
    if let Some(first) = path.first().and_then(|(_, name)| graph.writes.get(name))
        && !is_act(first)
    {
        let held = if oldest == 0 { String::new() } else { format!("; the oldest revision held is {oldest}") };
        chain.notices.push(format!("what led to the first of these writes is not recorded{held}"));
    }
    chain.links = links(client, &graph, path).await?;
    Ok(chain)
}

/// The last write of the owner before a foreign client made an object: what probably made it do so.
async fn inferred(client: &Client, graph: &Graph, name: &Name) -> Result<Option<Recorded>, Error> {
    let Some(write) = graph.writes.get(name) else { return Ok(None) };
    let new = is_act(write) && cause_of(write).replaced_revision == 0 && !write.deleted;
    let Some((api_version, kind, owner_name, uid)) = new.then(|| owner(write)).flatten() else { return Ok(None) };
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
    let table = client.discover().await?.resources;
    let Some(row) = table.iter().find(|row| row.group == group && row.version == version && row.kind == kind) else {
        return Ok(None);
    };
    let reference = ResourceRef {
        group: group.into(),
        version: version.into(),
        resource: row.resource.clone(),
        namespace: if row.namespaced { object_of(write).namespace } else { String::new() },
        name: owner_name,
        subresource: String::new(),
    };
    let request = ChangesRequest { r#ref: Some(reference), uid, up_to: name.1, limit: 1 };
    match client.changes(request).await {
        Ok(reply) => Ok(reply.changes.into_iter().next_back()),
        Err(error) if error.is_unreachable() => Err(error),
        // Gone, too old, or not for the reader: then nothing is inferred.
        Err(_) => Ok(None),
    }
}

/// The writes of a path, each with the one that it replaced.
async fn links(client: &Client, graph: &Graph, path: Vec<(Option<Edge>, Name)>) -> Result<Vec<Link>, Error> {
    let writes: Vec<(Option<Edge>, Recorded)> =
        path.into_iter().filter_map(|(edge, name)| Some((edge, graph.writes.get(&name)?.clone()))).collect();
    let replaced = |write: &Recorded| ObjectRef { revision: cause_of(write).replaced_revision, ..object_of(write) };
    let unknown = writes.iter().map(|(_, write)| replaced(write));
    let unknown: Vec<ObjectRef> =
        unknown.filter(|object| object.revision != 0 && !graph.writes.contains_key(&name_of(object))).collect();
    let mut before = graph.writes.clone();
    if !unknown.is_empty() {
        let found = client.writes(&unknown).await?.changes;
        before.extend(found.into_iter().map(|write| (name_of(&object_of(&write)), write)));
    }
    let link = |(edge, write): (Option<Edge>, Recorded)| {
        let before = before.get(&name_of(&replaced(&write))).cloned();
        Link { write, before, edge }
    };
    Ok(writes.into_iter().map(link).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_proto::skiffv1::{Actor, Trigger};

    fn object(uid: &str, revision: u64) -> ObjectRef {
        ObjectRef { uid: uid.into(), name: uid.into(), revision, ..ObjectRef::default() }
    }

    fn act(uid: &str, revision: u64) -> Recorded {
        act_of("alice", uid, revision)
    }

    fn act_of(user: &str, uid: &str, revision: u64) -> Recorded {
        let actor = Some(Actor { user: user.into(), ..Actor::default() });
        let cause = Some(Cause { actor, ..Cause::default() });
        Recorded { object: Some(object(uid, revision)), cause, ..Recorded::default() }
    }

    fn planned(uid: &str, revision: u64, woke: &[(&str, u64)], inputs: &[(&str, u64)], replaced: u64) -> Recorded {
        let trigger = |(uid, revision): &(&str, u64)| Trigger { what: Some(What::Object(object(uid, *revision))) };
        let effect = Trigger { what: Some(What::Effect("an image was pulled".into())) };
        let cause = Cause {
            reconcile_id: "r".into(),
            triggers: woke.iter().map(trigger).chain([effect]).collect(),
            inputs: inputs.iter().map(|(uid, revision)| object(uid, *revision)).collect(),
            replaced_revision: replaced,
            ..Cause::default()
        };
        Recorded { object: Some(object(uid, revision)), cause: Some(cause), ..Recorded::default() }
    }

    fn path(writes: Vec<Recorded>, to: (&str, u64)) -> String {
        let mut graph = Graph::default();
        let names: Vec<Name> = writes.into_iter().map(|write| graph.add(write)).collect();
        names.iter().for_each(|name| drop(graph.join(name)));
        let path = graph.path(&(to.0.to_string(), to.1));
        let shown = |(edge, (uid, revision)): &(Option<Edge>, Name)| match edge {
            Some(edge) => format!(" -{}> {uid}@{revision}", edge.word()),
            None => format!("{uid}@{revision}"),
        };
        path.iter().map(shown).collect()
    }

    #[test]
    fn the_latest_act_that_led_here_begins_the_chain() {
        let deployment = || vec![act("d", 1), act("d", 9)];
        let set = planned("s", 3, &[("d", 1)], &[], 0);
        for (name, more, to, expected) in [
            ("one after the other", vec![planned("p", 5, &[("s", 3)], &[], 0)], ("p", 5), "d@1 -woke> s@3 -woke> p@5"),
            (
                "a status that came first does not hide the user",
                vec![planned("s", 8, &[("s", 3)], &[], 3), planned("s", 10, &[("s", 8), ("d", 9)], &[], 8)],
                ("s", 10),
                "d@9 -woke> s@10",
            ),
            (
                "an effect: then the inputs",
                vec![planned("p", 6, &[], &[("s", 3), ("gone", 2)], 5)],
                ("p", 6),
                "d@1 -woke> s@3 -computed from> p@6",
            ),
            (
                "no inputs: then what was replaced",
                vec![planned("p", 5, &[("s", 3)], &[], 0), planned("p", 6, &[], &[], 5)],
                ("p", 6),
                "d@1 -woke> s@3 -woke> p@5 -replaced> p@6",
            ),
            ("what is not held is no edge", vec![planned("p", 6, &[("gone", 2)], &[], 0)], ("p", 6), "p@6"),
            (
                "a node's own status does not hide the user",
                vec![act_of("system:node:n", "n", 11), planned("p", 12, &[("s", 3), ("n", 11)], &[], 0)],
                ("p", 12),
                "d@1 -woke> s@3 -woke> p@12",
            ),
            ("a user's own write is all there is", vec![], ("d", 9), "d@9"),
        ] {
            let writes = deployment().into_iter().chain([set.clone()]).chain(more).collect();
            assert_eq!(path(writes, to), expected, "{name}");
        }
    }

    #[test]
    fn a_circle_ends() {
        let writes = vec![planned("a", 1, &[("b", 2)], &[], 0), planned("b", 2, &[("a", 1)], &[], 0)];
        assert_eq!(path(writes, ("b", 2)), "b@2");
    }
}
