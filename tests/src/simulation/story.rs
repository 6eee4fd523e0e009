//! Tells a run that broke a law, so that a person can read it: what the user did, what went wrong, what became of the
//! objects that the complaints name, and which law was broken.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::law_of;
use super::plan::Plan;

/// So many versions of objects are told at most, the last ones.
const LONGEST: usize = 40;

/// One line of a trace.
struct Line<'a> {
    at: &'a str,
    what: What<'a>,
}

enum What<'a> {
    /// A version of an object: its revision, whether it is gone, its kind, its name, and what matters about it.
    Version { revision: &'a str, gone: bool, kind: &'a str, name: &'a str, rest: &'a str },
    /// Anything else that happened.
    Event(&'a str),
}

/// What happens to connections is only told if nothing else was needed.
const SMALL_THINGS: [&str; 5] = ["refused ", "connection ", "witness: ", "user: not yet", "start "];

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Line<'a> {
        let (at, rest) = line.trim_start().split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_start();
        let version = || {
            let (revision, rest) = rest.split_once(' ')?;
            revision.parse::<u64>().ok()?;
            let gone = rest.starts_with('-');
            let rest = rest.strip_prefix(['+', '-'])?;
            let (kind, rest) = rest.split_once(' ')?;
            let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            Some(What::Version { revision, gone, kind, name, rest: rest.trim() })
        };
        Line { at, what: version().unwrap_or(What::Event(rest)) }
    }

    fn tell(&self) -> String {
        match self.what {
            What::Event(event) => format!("{:>9} s  {event}", self.at),
            What::Version { revision, gone, kind, name, rest } => {
                let gone = if gone { " is gone; it was" } else { "" };
                let told = format!("{:>9} s      revision {revision}: {kind} {name}{gone} {rest}", self.at);
                told.trim_end().to_owned()
            }
        }
    }
}

/// The story of a plan's run.
pub fn tell(plan: &Plan, trace: &[String], complaints: &[String]) -> String {
    let lines: Vec<Line<'_>> = trace.iter().map(|line| Line::read(line)).collect();
    let named = named_in(complaints, &lines);
    let matters = |line: &&Line<'_>| match line.what {
        What::Event(event) => !SMALL_THINGS.iter().any(|small| event.starts_with(small)),
        What::Version { name, .. } => named.is_empty() || named.contains(name),
    };
    let told: Vec<&Line<'_>> = lines.iter().filter(matters).collect();
    let network = if plan.network_fails { "a network that fails" } else { "a network that does not fail" };
    let mut story = format!(
        "Seed {}: {} acts of the user, {} troubles, {network}, {} nodes{}.\n\n",
        plan.seed,
        plan.script.acts.len(),
        plan.troubles.len(),
        plan.nodes,
        if plan.layout().two_servers { ", two API servers" } else { "" },
    );
    // What was done and what went wrong is told whole; of what became of objects the end matters most.
    let is_version = |line: &&&Line<'_>| matches!(line.what, What::Version { .. });
    let mut left_out = told.iter().filter(is_version).count().saturating_sub(LONGEST);
    for (number, line) in told.iter().enumerate() {
        if is_version(&line) && left_out > 0 {
            left_out -= 1;
            if left_out == 0 {
                let _ = writeln!(story, "      ... and more of these objects until then ...");
            }
            continue;
        }
        let _ = writeln!(story, "{:>4}. {}", number + 1, line.tell());
    }
    let laws: BTreeSet<&str> = complaints.iter().map(|complaint| law_of(complaint)).collect();
    for law in laws {
        let _ = writeln!(story, "\nBroken: {law}.");
        for complaint in complaints.iter().filter(|complaint| law_of(complaint) == law).take(5) {
            let what = complaint.strip_prefix(law).unwrap_or(complaint).trim_start_matches(": ");
            let _ = writeln!(story, "  {what}");
        }
    }
    story
}

/// The names of the objects that the complaints name, with those of what belongs to them.
fn named_in<'a>(complaints: &[String], lines: &[Line<'a>]) -> BTreeSet<&'a str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let words: BTreeSet<&str> = complaints.iter().flat_map(|text| text.split(|c| !is_name(c))).collect();
    let names = lines.iter().filter_map(|line| match line.what {
        What::Version { name, .. } => Some(name),
        What::Event(_) => None,
    });
    let belongs = |name: &&str| {
        name.match_indices('-').map(|(at, _)| &name[..at]).chain([*name]).any(|part| words.contains(part))
    };
    names.filter(belongs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::Size;

    #[test]
    fn a_story_is_numbered_and_keeps_to_what_the_complaints_name() {
        let trace = [
            "     0.000 start server",
            "     0.500 user: create web with 1 of registry.test/app:1",
            "     0.510      7 +Deployment web gen 1 seen 0",
            "     0.700      9 +Pod web-5f-x on \"\" Pending ",
            "     0.700     10 +Pod api-77-y on \"\" Pending ",
            "     1.000 refused node-1/kubelet -> pipe:server",
            "     2.000 trouble: server is killed, back after 1.0 s",
            "     9.000     12 -Pod web-5f-x on \"node-1\" Running",
        ];
        let trace: Vec<String> = trace.iter().map(|line| (*line).to_owned()).collect();
        let complaints = ["no Pod is bound twice: revision 12 (9.000 s): Pod default/web-5f-x: was bound".to_owned()];
        let plan = Plan::sized(0, Size { acts: 0, troubles: 0, nodes: 1 });
        let expected = "\
Seed 0: 0 acts of the user, 0 troubles, a network that does not fail, 1 nodes.

   1.     0.500 s  user: create web with 1 of registry.test/app:1
   2.     0.700 s      revision 9: Pod web-5f-x on \"\" Pending
   3.     2.000 s  trouble: server is killed, back after 1.0 s
   4.     9.000 s      revision 12: Pod web-5f-x is gone; it was on \"node-1\" Running

Broken: no Pod is bound twice.
  revision 12 (9.000 s): Pod default/web-5f-x: was bound
";
        assert_eq!(tell(&plan, &trace, &complaints), expected);
    }
}
