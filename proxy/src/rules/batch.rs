//! Puts a difference right in restores of a bounded size.
//!
//! One restore is one transaction of the kernel, and in nf_tables its cost grows faster than its size (10,000
//! Services: 3.4 s in one, 1.0 s in parts); between two restores packets meet what is half done. So the order
//! matters: new and changed chains leaves first, so that no jump ever leads nowhere; the jumps from the kernel's
//! own chains behind them; and what nothing leads to any more last.

use std::fmt::{self, Write};
use std::sync::Arc;

use skiff_world::mutants::{Mutant, is_awake};

use super::diff::Difference;
use super::{ChainName, RuleSet, Table};

/// One restore.
#[derive(Clone)]
pub struct Batch {
    /// What `iptables-restore --noflush` reads.
    pub text: Arc<str>,
    /// The chains it writes or removes.
    pub chains: Arc<[(Table, ChainName)]>,
    /// How many chains it writes.
    pub written: usize,
    /// How many rules it writes.
    pub rules: usize,
    /// How many chains it removes.
    pub removed: usize,
    /// How many jumps from the kernel's own chains it inserts or deletes.
    pub jumps: usize,
}

/// So many chains are named when a batch is printed.
const NAMED: usize = 3;

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write {} chains with {} rules", self.written, self.rules)?;
        if self.removed > 0 {
            write!(f, ", remove {}", self.removed)?;
        }
        if self.jumps > 0 {
            write!(f, ", {} jumps", self.jumps)?;
        }
        for (at, (_, name)) in self.chains.iter().take(NAMED).enumerate() {
            write!(f, "{}{name}", if at == 0 { ": " } else { ", " })?;
        }
        if self.chains.len() > NAMED { write!(f, ", ...") } else { Ok(()) }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How large restores may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// About this many chains and rules at most.
    pub limit: usize,
    /// A small change may carry its removals with it: one restore instead of two for what happens every day.
    /// A chain that somebody else's rule still leads to cannot be removed, and would hold up all that is with it;
    /// so after a failure they go apart.
    pub together: bool,
}

/// A change up to this size is small.
const SMALL: usize = 50;

/// The restores that put `difference` right.
pub fn batches(wanted: &RuleSet, difference: &Difference, sizes: Sizes) -> Vec<Batch> {
    let mut writer = Writer { limit: sizes.limit, done: Vec::new(), current: Draft::default() };
    let mut write: Vec<_> = difference.write.iter().filter_map(|key| Some((key, wanted.chains.get(key)?))).collect();
    write.sort_by_key(|(key, chain)| (chain.rank, *key));
    for ((table, name), chain) in write {
        let lines = writer.table(*table);
        let _ = writeln!(lines.declare, ":{name} - [0:0]");
        for rule in chain.rules.iter() {
            let _ = write!(lines.rules, "-A {name} ");
            rule.render(&mut lines.rules);
            lines.rules.push('\n');
        }
        writer.current.chains.push((*table, name.clone()));
        writer.current.written += 1;
        writer.current.rule_count += chain.rules.len();
    }
    for at in &difference.insert {
        let Some(jump) = wanted.jumps.get(*at) else {
            continue;
        };
        let _ = writeln!(writer.table(jump.table).rules, "-I {} {}", jump.base, jump.rule);
        writer.current.jumps += 1;
    }
    for (table, base, rule) in &difference.delete {
        let _ = writeln!(writer.table(*table).rules, "-D {base} {rule}");
        writer.current.jumps += 1;
    }
    if !sizes.together || writer.current.size() > SMALL {
        writer.finish();
    }
    // All are emptied before any is removed: dead chains lead to each other.
    for (table, name) in &difference.dead {
        let _ = writeln!(writer.table(*table).declare, ":{name} - [0:0]");
        writer.current.emptied += 1;
    }
    for (table, name) in &difference.dead {
        let _ = writeln!(writer.table(*table).rules, "-X {name}");
        writer.current.chains.push((*table, name.clone()));
        writer.current.removed += 1;
    }
    writer.finish();
    writer.done
}

/// Collects lines into batches.
struct Writer {
    limit: usize,
    done: Vec<Batch>,
    current: Draft,
}

#[derive(Default)]
struct Draft {
    tables: [Lines; 2],
    written: usize,
    rule_count: usize,
    emptied: usize,
    removed: usize,
    jumps: usize,
    chains: Vec<(Table, ChainName)>,
}

#[derive(Default)]
struct Lines {
    declare: String,
    rules: String,
}

impl Draft {
    fn size(&self) -> usize {
        self.written + self.rule_count + self.emptied + self.removed + self.jumps
    }
}

impl Writer {
    /// Where lines for `table` go, in a new batch if the current one is full.
    fn table(&mut self, table: Table) -> &mut Lines {
        if self.current.size() >= self.limit {
            self.finish();
        }
        &mut self.current.tables[table as usize]
    }

    /// Each line a restore of its own, as it would be without any.
    fn finish_by_line(&mut self, draft: &Draft) {
        for table in Table::ALL {
            let lines = &draft.tables[table as usize];
            for line in lines.declare.lines().chain(lines.rules.lines()) {
                let text = format!("*{table}\n{line}\nCOMMIT\n").into();
                self.done.push(Batch { text, chains: Arc::new([]), written: 0, rules: 1, removed: 0, jumps: 0 });
            }
        }
    }

    fn finish(&mut self) {
        let draft = std::mem::take(&mut self.current);
        if draft.size() == 0 {
            return;
        }
        if is_awake(Mutant::RuleByRule) {
            return self.finish_by_line(&draft);
        }
        let mut text = String::new();
        for table in Table::ALL {
            let lines = &draft.tables[table as usize];
            if !lines.declare.is_empty() || !lines.rules.is_empty() {
                let _ = write!(text, "*{table}\n{}{}COMMIT\n", lines.declare, lines.rules);
            }
        }
        self.done.push(Batch {
            text: text.into(),
            chains: draft.chains.into(),
            written: draft.written,
            rules: draft.rule_count,
            removed: draft.removed,
            jumps: draft.jumps,
        });
    }
}
