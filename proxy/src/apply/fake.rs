//! Tables in memory that understand restores as the kernel does: for simulations and tests.
//!
//! It refuses what the kernel refuses (a jump to a chain that is not there, the removal of a chain that something
//! leads to), it can be tampered with, and it can be told to fail.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{ApplyError, RuleApplier};
use crate::rules::{Rule, StaleFlow, Table, Target};

/// The chains of one table, each with its rules' text.
pub type Chains = BTreeMap<String, Vec<String>>;

/// Both tables of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// The filter table.
    pub filter: Chains,
    /// The nat table.
    pub nat: Chains,
}

/// The kernel's own chains.
fn built_in(table: Table) -> &'static [&'static str] {
    match table {
        Table::Filter => &["INPUT", "FORWARD", "OUTPUT"],
        Table::Nat => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
    }
}

impl Default for Tables {
    fn default() -> Tables {
        let own = |table| built_in(table).iter().map(|name| ((*name).to_owned(), Vec::new())).collect();
        Tables { filter: own(Table::Filter), nat: own(Table::Nat) }
    }
}

impl Tables {
    /// One of the two.
    pub fn table(&self, table: Table) -> &Chains {
        match table {
            Table::Filter => &self.filter,
            Table::Nat => &self.nat,
        }
    }

    /// One of the two, to be changed.
    pub fn table_mut(&mut self, table: Table) -> &mut Chains {
        match table {
            Table::Filter => &mut self.filter,
            Table::Nat => &mut self.nat,
        }
    }

    /// Applies a restore (`--noflush`). A table takes it whole or not at all; earlier tables of it stand.
    pub fn restore(&mut self, text: &str) -> Result<(), String> {
        let mut current: Option<(Table, Chains)> = None;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('*') {
                let table = Table::ALL.into_iter().find(|t| t.as_str() == name).ok_or("no such table")?;
                current = Some((table, self.table(table).clone()));
            } else if line == "COMMIT" {
                let (table, chains) = current.take().ok_or("COMMIT without a table")?;
                check(table, &chains)?;
                *self.table_mut(table) = chains;
            } else {
                let (_, chains) = current.as_mut().ok_or("a line without a table")?;
                restore_line(chains, line).map_err(|why| format!("{why}: {line}"))?;
            }
        }
        if current.is_some() { Err("no COMMIT at the end".to_owned()) } else { Ok(()) }
    }

    /// Prints a table as `iptables-save` does.
    pub fn save(&self, table: Table) -> String {
        let chains = self.table(table);
        let mut text = format!("*{table}\n");
        let own = built_in(table);
        for name in chains.keys() {
            let policy = if own.contains(&name.as_str()) { "ACCEPT" } else { "-" };
            let _ = writeln!(text, ":{name} {policy} [0:0]");
        }
        for (name, rules) in chains {
            for rule in rules {
                let _ = writeln!(text, "-A {name} {rule}");
            }
        }
        text.push_str("COMMIT\n");
        text
    }
}

fn restore_line(chains: &mut Chains, line: &str) -> Result<(), &'static str> {
    if let Some(rest) = line.strip_prefix(':') {
        let name = rest.split(' ').next().unwrap_or_default();
        if name.is_empty() || name.len() > 28 {
            return Err("a chain's name has 1 to 28 letters");
        }
        chains.insert(name.to_owned(), Vec::new());
        return Ok(());
    }
    let (verb, rest) = line.split_once(' ').ok_or("an unknown line")?;
    let (name, rule) = rest.split_once(' ').unwrap_or((rest, ""));
    let rules = chains.get_mut(name).ok_or("no such chain")?;
    match verb {
        "-A" => rules.push(rule.to_owned()),
        "-I" => rules.insert(0, rule.to_owned()),
        "-D" => {
            let at = rules.iter().position(|other| other == rule).ok_or("no such rule")?;
            rules.remove(at);
        }
        "-X" if rules.is_empty() => drop(chains.remove(name)),
        "-X" => return Err("the chain is not empty"),
        _ => return Err("an unknown line"),
    }
    Ok(())
}

/// Every jump must lead somewhere.
fn check(table: Table, chains: &Chains) -> Result<(), String> {
    for own in built_in(table) {
        if !chains.contains_key(*own) {
            return Err(format!("{own} cannot be removed"));
        }
    }
    for (name, rules) in chains {
        for text in rules {
            let rule: Rule = match text.parse() {
                Ok(rule) => rule,
                Err(_) => continue, // somebody else's
            };
            if let Target::Jump(to) = &rule.target
                && !chains.contains_key(to.as_str())
            {
                return Err(format!("{name} jumps to {to}, which is not there"));
            }
        }
    }
    Ok(())
}

#[derive(Debug, Default)]
struct State {
    tables: Tables,
    restores: Vec<String>,
    forgotten: Vec<StaleFlow>,
    fail: usize,
}

/// A node's tables in memory.
#[derive(Debug)]
pub struct FakeApplier {
    state: Mutex<State>,
    limit: usize,
}

impl Default for FakeApplier {
    fn default() -> FakeApplier {
        FakeApplier::new(1_500)
    }
}

impl FakeApplier {
    /// Empty tables; batches of about `limit` rules.
    pub fn new(limit: usize) -> FakeApplier {
        FakeApplier { state: Mutex::default(), limit }
    }

    /// A copy of the tables.
    pub fn tables(&self) -> Tables {
        self.state().tables.clone()
    }

    /// Changes the tables behind the proxy's back.
    pub fn tamper(&self, with: impl FnOnce(&mut Tables)) {
        with(&mut self.state().tables);
    }

    /// Makes the next `count` calls fail.
    pub fn fail_next(&self, count: usize) {
        self.state().fail = count;
    }

    /// Every restore so far, in order; they are forgotten by this.
    pub fn take_restores(&self) -> Vec<String> {
        std::mem::take(&mut self.state().restores)
    }

    /// Every conversation forgotten so far, in order; they are forgotten by this.
    pub fn take_forgotten(&self) -> Vec<StaleFlow> {
        std::mem::take(&mut self.state().forgotten)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self) -> Result<MutexGuard<'_, State>, ApplyError> {
        let mut state = self.state();
        if state.fail > 0 {
            state.fail -= 1;
            return Err(refused("told to fail"));
        }
        Ok(state)
    }
}

fn refused(reason: &str) -> ApplyError {
    ApplyError::Refused { program: "the fake".to_owned(), reason: reason.to_owned(), line: None }
}

#[async_trait]
impl RuleApplier for FakeApplier {
    async fn restore(&self, text: &str) -> Result<(), ApplyError> {
        let mut state = self.call()?;
        state.restores.push(text.to_owned());
        state.tables.restore(text).map_err(|why| refused(&why))
    }

    async fn save(&self, table: Table) -> Result<String, ApplyError> {
        Ok(self.call()?.tables.save(table))
    }

    async fn forget(&self, flows: &[StaleFlow]) -> Result<(), ApplyError> {
        self.call()?.forgotten.extend_from_slice(flows);
        Ok(())
    }

    async fn batch_limit(&self) -> Result<usize, ApplyError> {
        Ok(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_refuses_is_refused_and_changes_nothing() {
        let mut tables = Tables::default();
        tables.restore("*nat\n:A - [0:0]\n:B - [0:0]\n-A A -j B\nCOMMIT\n").expect("good");
        let before = tables.clone();
        for (text, why) in [
            ("*nat\n:C - [0:0]\n-A C -j D\nCOMMIT\n", "not there"),
            ("*nat\n:B - [0:0]\n-X B\nCOMMIT\n", "not there"),
            ("*nat\n-X A\nCOMMIT\n", "not empty"),
            ("*nat\n-A D -j ACCEPT\nCOMMIT\n", "no such chain"),
            ("*nat\n-D A -j ACCEPT\nCOMMIT\n", "no such rule"),
            ("*nat\n:PREROUTING - [0:0]\n-X PREROUTING\nCOMMIT\n", "cannot be removed"),
            ("*mangle\nCOMMIT\n", "no such table"),
            ("*nat\n:E - [0:0]\n", "COMMIT"),
            ("*nat\n:a-name-that-is-longer-than-28 - [0:0]\nCOMMIT\n", "1 to 28"),
        ] {
            let error = tables.restore(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
            assert_eq!(tables, before, "{text}");
        }
    }

    #[test]
    fn a_declared_chain_is_emptied_and_others_stay() {
        let mut tables = Tables::default();
        tables.restore("*nat\n:A - [0:0]\n:B - [0:0]\n-A A -j B\n-A B -j ACCEPT\nCOMMIT\n").expect("good");
        tables.restore("*nat\n:A - [0:0]\n-A A -j RETURN\nCOMMIT\n").expect("good");
        assert_eq!(tables.nat["A"], ["-j RETURN"]);
        assert_eq!(tables.nat["B"], ["-j ACCEPT"]);
    }
}
