//! What the scheduler's plugins read of a Pod: its Template.
//!
//! Pods made from one pod template need the same of a node, so they share one evaluation of all
//! nodes (see `memo`). What makes two pods "the same" is exactly this type: if a plugin wants to
//! read something new, it is added here, and the sharing stays right by itself.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

/// What filters and scores read of a Pod, and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Template {
    /// `spec.nodeName` as asked for by the user; empty for nearly all pods.
    pub node_name: String,
    /// What the pod takes from its node.
    pub requests: Resources,
    /// CPU (milli) as scores see it: containers that ask for nothing count as a little.
    pub scoring_cpu: i64,
    /// Memory (bytes) as scores see it.
    pub scoring_memory: i64,
    /// `spec.nodeSelector`.
    pub node_selector: BTreeMap<String, String>,
    /// Required node affinity: one of the terms has to match; `None` asks for nothing.
    pub required: Option<Vec<Term>>,
    /// Preferred node affinity, with weights.
    pub preferred: Vec<(i32, Term)>,
    /// `spec.tolerations`.
    pub tolerations: Vec<Toleration>,
    /// Host ports taken.
    pub ports: Vec<HostPort>,
}

impl Template {
    /// A fixed hash of everything in the template: the key under which evaluations are shared.
    pub fn digest(&self) -> u64 {
        let mut hasher = fxhash::FxHasher::default();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// Amounts of what a node has and pods take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of local disk.
    pub ephemeral: i64,
    /// Everything else by name, sorted: huge pages, devices.
    pub other: Vec<(String, i64)>,
}

impl Resources {
    /// How much of an extended resource there is.
    pub fn other(&self, name: &str) -> i64 {
        self.other.binary_search_by(|(n, _)| n.as_str().cmp(name)).map_or(0, |i| self.other[i].1)
    }

    /// Adds `amount` (which may be negative) to an extended resource.
    pub fn add_other(&mut self, name: &str, amount: i64) {
        match self.other.binary_search_by(|(n, _)| n.as_str().cmp(name)) {
            Ok(i) => self.other[i].1 = self.other[i].1.saturating_add(amount),
            Err(i) => self.other.insert(i, (name.to_string(), amount)),
        }
    }

    /// Adds `more`, `times` times; -1 takes it away.
    pub fn add(&mut self, more: &Resources, times: i64) {
        self.cpu = self.cpu.saturating_add(more.cpu.saturating_mul(times));
        self.memory = self.memory.saturating_add(more.memory.saturating_mul(times));
        self.ephemeral = self.ephemeral.saturating_add(more.ephemeral.saturating_mul(times));
        for (name, amount) in &more.other {
            self.add_other(name, amount.saturating_mul(times));
        }
    }

    /// The larger of both, amount by amount.
    pub fn max(mut self, with: &Resources) -> Resources {
        self.cpu = self.cpu.max(with.cpu);
        self.memory = self.memory.max(with.memory);
        self.ephemeral = self.ephemeral.max(with.ephemeral);
        for (name, amount) in &with.other {
            let lacking = amount - self.other(name);
            if lacking > 0 {
                self.add_other(name, lacking);
            }
        }
        self
    }
}

/// One term of a node affinity: everything in it has to match. An empty term matches no node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Term {
    /// Requirements on the node's labels.
    pub labels: Vec<Requirement>,
    /// Requirements on the node's fields; `metadata.name` is the only one there is.
    pub fields: Vec<Requirement>,
}

/// `key operator values`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// A label key, or `metadata.name`.
    pub key: String,
    /// How to compare.
    pub operator: Operator,
    /// What to compare with.
    pub values: Vec<String>,
}

/// The operators of node affinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// The value is one of the list.
    In,
    /// The value is none of the list, or the label is missing.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is missing.
    DoesNotExist,
    /// The value is a number greater than the one given.
    Gt,
    /// The value is a number less than the one given.
    Lt,
    /// An operator that we don't know: matches nothing.
    Unknown,
}

impl Requirement {
    /// Whether a value (`None`: there is none) meets the requirement.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = |v: &str| self.values.iter().any(|x| x == v);
        let compared = |wanted: fn(&i64, &i64) -> bool| {
            let number = value.and_then(|v| v.parse::<i64>().ok());
            let bound = match self.values.as_slice() {
                [one] => one.parse::<i64>().ok(),
                _ => None,
            };
            matches!((number, bound), (Some(n), Some(b)) if wanted(&n, &b))
        };
        match self.operator {
            Operator::In => value.is_some_and(listed),
            Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => compared(|n, b| n > b),
            Operator::Lt => compared(|n, b| n < b),
            Operator::Unknown => false,
        }
    }
}

impl Term {
    /// Whether a node of this name and these labels meets the whole term.
    pub fn matches(&self, node: &str, labels: &BTreeMap<String, String>) -> bool {
        if self.labels.is_empty() && self.fields.is_empty() {
            return false;
        }
        self.labels.iter().all(|r| r.matches(labels.get(&r.key).map(String::as_str)))
            && self.fields.iter().all(|r| r.key == "metadata.name" && r.matches(Some(node)))
    }
}

/// A host port that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// The port.
    pub port: i32,
    /// TCP, UDP or SCTP.
    pub protocol: String,
    /// The address it is taken on; `0.0.0.0` is all of them.
    pub ip: String,
}

impl HostPort {
    /// Whether both cannot be on one node.
    pub fn clashes(&self, with: &HostPort) -> bool {
        let everywhere = |ip: &str| ip == "0.0.0.0";
        self.port == with.port
            && self.protocol == with.protocol
            && (self.ip == with.ip || everywhere(&self.ip) || everywhere(&with.ip))
    }
}

/// A taint on a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value, often empty.
    pub value: String,
    /// NoSchedule, PreferNoSchedule or NoExecute.
    pub effect: String,
}

/// A toleration in a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Toleration {
    /// The taint's key; empty with `Exists` is every key.
    pub key: String,
    /// `Equal` (or empty) or `Exists`.
    pub operator: String,
    /// The taint's value, for `Equal`.
    pub value: String,
    /// The effect tolerated; empty is every effect.
    pub effect: String,
}

impl Toleration {
    /// Whether it tolerates the taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        if !self.effect.is_empty() && self.effect != taint.effect {
            return false;
        }
        match self.operator.as_str() {
            "Exists" => self.key.is_empty() || self.key == taint.key,
            "" | "Equal" => self.key == taint.key && self.value == taint.value,
            _ => false,
        }
    }
}
