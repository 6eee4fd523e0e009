//! What differs between the rules that should be and those that are.

use std::collections::BTreeMap;

use skiff_world::mutants::{Mutant, is_awake};

use super::names::{ChainName, Names};
use super::parse::split;
use super::rule::Rule;
use super::{Chain, RuleSet, Table};

/// What is in the kernel, as far as it concerns one cluster: its own chains, and rules elsewhere that lead
/// into them. It borrows from the text that was saved, which can be some megabytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present<'a> {
    /// Our chains with their rules' text.
    pub chains: BTreeMap<(Table, &'a str), Vec<&'a str>>,
    /// Rules in chains of others that jump into ours: table, chain, text; in order.
    pub jumps: Vec<(Table, &'a str, &'a str)>,
}

/// What has to be done, chain by chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Chains to be written, existing or not.
    pub write: Vec<(Table, ChainName)>,
    /// Chains to be removed.
    pub dead: Vec<(Table, ChainName)>,
    /// Jumps to be inserted, as positions in [`RuleSet::jumps`].
    pub insert: Vec<usize>,
    /// Rules in chains of others to be deleted: table, chain, text.
    pub delete: Vec<(Table, String, String)>,
}

impl Difference {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.write.is_empty() && self.dead.is_empty() && self.insert.is_empty() && self.delete.is_empty()
    }
}

impl<'a> Present<'a> {
    /// Adds what `iptables-save` printed of one table. Lines of other tables are passed over.
    pub fn read(&mut self, table: Table, saved: &'a str, names: &Names) {
        let mut current = None;
        for line in saved.lines() {
            if let Some(name) = line.strip_prefix('*') {
                current = Some(name.trim());
            } else if current == Some(table.as_str()) {
                self.read_line(table, line, names);
            }
        }
    }

    fn read_line(&mut self, table: Table, line: &'a str, names: &Names) {
        if let Some(rest) = line.strip_prefix(':') {
            let name = rest.split(' ').next().unwrap_or_default();
            if names.owns(name) {
                self.chains.entry((table, name)).or_default();
            }
        } else if let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) {
            if names.owns(chain) {
                self.chains.entry((table, chain)).or_default().push(rule.trim_end());
            } else if leads_to(rule).is_some_and(|target| names.owns(&target)) {
                self.jumps.push((table, chain, rule.trim_end()));
            }
        }
    }
}

/// The chain that a rule's text jumps or goes to.
fn leads_to(rule: &str) -> Option<String> {
    let words = split(rule);
    let at = words.iter().rposition(|word| word == "-j" || word == "-g")?;
    words.get(at + 1).cloned()
}

/// Everything that must be done to make `present` into `wanted`.
pub fn diff(wanted: &RuleSet, present: &Present<'_>) -> Difference {
    let (mut difference, mut text) = (Difference::default(), String::new());
    for (key, chain) in &wanted.chains {
        let there = present.chains.get(&(key.0, key.1.as_str()));
        if !there.is_some_and(|rules| same_rules(chain, rules, &mut text)) {
            difference.write.push(key.clone());
        }
    }
    let there = present.chains.keys().map(|(table, name)| (*table, ChainName::new(name)));
    difference.dead = there.filter(|key| !wanted.chains.contains_key(key)).collect();
    let known: &[_] = if is_awake(Mutant::RulesDoubled) { &[] } else { &present.jumps };
    let mut there: Vec<_> = known.iter().map(Some).collect();
    for (at, jump) in wanted.jumps.iter().enumerate() {
        let found = there.iter_mut().find(|slot| {
            slot.is_some_and(|(table, base, rule)| {
                *table == jump.table && *base == jump.base && same_rule(&jump.rule, rule, &mut text)
            })
        });
        match found {
            Some(slot) => *slot = None,
            None => difference.insert.push(at),
        }
    }
    // Doubles, and jumps of an older version.
    difference.delete =
        there.into_iter().flatten().map(|(table, base, rule)| (*table, (*base).into(), (*rule).into())).collect();
    difference
}

/// What must be done if only the chains in `changed` differ.
pub fn of_changed<'a>(wanted: &RuleSet, changed: impl IntoIterator<Item = &'a (Table, ChainName)>) -> Difference {
    let (write, dead) = changed.into_iter().cloned().partition(|key| wanted.chains.contains_key(key));
    Difference { write, dead, ..Difference::default() }
}

fn same_rules(chain: &Chain, present: &[&str], text: &mut String) -> bool {
    chain.rules.len() == present.len()
        && chain.rules.iter().zip(present).all(|(rule, there)| same_rule(rule, there, text))
}

/// Our own text as a rule; another iptables may print the same rule with its words in another order.
/// `text` is room to write in.
fn same_rule(rule: &Rule, there: &str, text: &mut String) -> bool {
    text.clear();
    rule.render(text);
    text == there || there.parse::<Rule>().is_ok_and(|parsed| parsed == *rule)
}
