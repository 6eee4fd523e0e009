//! Reads a rule's text back into data: what `iptables-save` prints, and what [`super::rule`] renders.
//!
//! Only the vocabulary of our own rules is known. A rule with anything else in it is [`NotOurs`], which is
//! all that is needed: such a rule in one of our chains is a sign of tampering, and in a simulation it is a bug.

use std::iter::Peekable;
use std::str::FromStr;

use ipnet::Ipv4Net;
use thiserror::Error;

use super::names::ChainName;
use super::rule::{MarkBit, Match, Rule, Side, Target};
use crate::services::{Backend, Protocol};

/// The text is no rule that the proxy would write.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("not a rule of ours, at {at:?} in {rule:?}")]
pub struct NotOurs {
    /// The whole rule.
    pub rule: String,
    /// The word that is not understood.
    pub at: String,
}

/// States that our rules ask for; as a table, so that a parsed rule holds the same static text.
const STATES: &[&str] = &["NEW", "INVALID", "RELATED,ESTABLISHED", "DNAT", "RELATED,ESTABLISHED,DNAT"];

impl FromStr for Rule {
    type Err = NotOurs;

    /// Reads the text that follows `-A CHAIN `.
    fn from_str(text: &str) -> Result<Rule, NotOurs> {
        let words = split(text);
        let mut reader = Reader { words: words.iter().map(String::as_str).peekable() };
        reader.rule().map_err(|at| NotOurs { rule: text.to_owned(), at })
    }
}

/// Splits into words; a quoted run is one word.
pub fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

struct Reader<'a, I: Iterator<Item = &'a str>> {
    words: Peekable<I>,
}

impl<'a, I: Iterator<Item = &'a str>> Reader<'a, I> {
    fn rule(&mut self) -> Result<Rule, String> {
        let mut rule = Rule::to(Target::Return);
        let mut not = false;
        while let Some(word) = self.words.next() {
            match word {
                "!" => {
                    not = true;
                    continue;
                }
                "-s" => rule.source = Some(Side { net: self.value()?, not }),
                "-d" => rule.destination = Some(Side { net: self.value()?, not }),
                "-p" => {
                    let name = self.word()?;
                    rule.protocol = Some(Protocol::parse(name).ok_or_else(|| name.to_owned())?);
                }
                "-m" => self.condition(&mut rule)?,
                "-j" => {
                    rule.target = self.target()?;
                    return match self.words.next() {
                        None => Ok(rule),
                        Some(more) => Err(more.to_owned()),
                    };
                }
                other => return Err(other.to_owned()),
            }
            not = false;
        }
        Err("the end: no -j".to_owned())
    }

    /// What follows `-m`. A negation comes after the match's name.
    fn condition(&mut self, rule: &mut Rule) -> Result<(), String> {
        let kind = self.word()?;
        let not = self.words.next_if_eq(&"!").is_some();
        let condition = match kind {
            "tcp" | "udp" => {
                self.expect("--dport")?;
                rule.ports = Some(self.ports()?);
                return Ok(());
            }
            "comment" => {
                self.expect("--comment")?;
                Match::Comment(self.word()?.into())
            }
            "mark" => {
                self.expect("--mark")?;
                let (value, mask) = self.masked()?;
                if value != mask {
                    return Err(format!("{value:#x}/{mask:#x}"));
                }
                Match::Mark { bit: MarkBit(mask), not }
            }
            "addrtype" => {
                let side = self.word()?;
                self.expect("LOCAL")?;
                match side {
                    "--dst-type" => Match::ToThisNode,
                    "--src-type" => Match::FromThisNode,
                    other => return Err(other.to_owned()),
                }
            }
            "conntrack" => {
                self.expect("--ctstate")?;
                let word = self.word()?;
                let states = STATES.iter().find(|s| **s == word).ok_or_else(|| word.to_owned())?;
                Match::State { states, not }
            }
            "statistic" => self.chance()?,
            "recent" => self.recent()?,
            other => return Err(other.to_owned()),
        };
        if not && !matches!(condition, Match::Mark { .. } | Match::State { .. }) {
            return Err("!".to_owned());
        }
        rule.matches.push(condition);
        Ok(())
    }

    fn chance(&mut self) -> Result<Match, String> {
        self.expect("--mode")?;
        self.expect("random")?;
        self.expect("--probability")?;
        let word = self.word()?;
        let share: f64 = word.parse().map_err(|_| word.to_owned())?;
        if !(0.0..=1.0).contains(&share) {
            return Err(word.to_owned());
        }
        Ok(Match::Chance((share * f64::from(1u32 << 31)).round() as u32))
    }

    /// Options of `recent` come in any order; those that are always the same for us are only checked.
    fn recent(&mut self) -> Result<Match, String> {
        let (mut set, mut update, mut reap) = (false, false, false);
        let (mut seconds, mut list): (_, Option<Box<str>>) = (None, None);
        while let Some(option) = self.words.next_if(|w| w.starts_with("--")) {
            match option {
                "--set" => set = true,
                "--update" => update = true,
                "--reap" => reap = true,
                "--rsource" => {}
                "--seconds" => seconds = Some(self.value()?),
                "--name" => list = Some(self.word()?.into()),
                "--mask" => self.expect("255.255.255.255")?,
                other => return Err(other.to_owned()),
            }
        }
        let list = list.ok_or("recent without --name")?;
        match (set, update, reap, seconds) {
            (true, false, false, None) => Ok(Match::Remember { list }),
            (false, true, true, Some(seconds)) => Ok(Match::SeenRecently { list, seconds }),
            _ => Err(format!("recent --name {list}")),
        }
    }

    fn target(&mut self) -> Result<Target, String> {
        Ok(match self.word()? {
            "ACCEPT" => Target::Accept,
            "DROP" => Target::Drop,
            "RETURN" => Target::Return,
            "REJECT" => {
                self.expect("--reject-with")?;
                match self.word()? {
                    "icmp-port-unreachable" => Target::Reject,
                    "tcp-reset" => Target::Reset,
                    other => return Err(other.to_owned()),
                }
            }
            "MASQUERADE" => {
                self.expect("--random-fully")?;
                Target::Masquerade
            }
            "MARK" => {
                self.expect("--set-xmark")?;
                match self.masked()? {
                    (0, mask) => Target::ClearMark(MarkBit(mask)),
                    (value, mask) if value == mask => Target::SetMark(MarkBit(mask)),
                    (value, mask) => return Err(format!("{value:#x}/{mask:#x}")),
                }
            }
            "DNAT" => {
                self.expect("--to-destination")?;
                let word = self.word()?;
                let (address, port) = word.split_once(':').ok_or_else(|| word.to_owned())?;
                let address = address.parse().map_err(|_| word.to_owned())?;
                let port = port.parse().map_err(|_| word.to_owned())?;
                Target::Dnat(Backend { address, port })
            }
            chain => Target::Jump(ChainName::new(chain)),
        })
    }

    fn ports(&mut self) -> Result<(u16, u16), String> {
        let word = self.word()?;
        let (first, last) = word.split_once(':').unwrap_or((word, word));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) => Ok((first, last)),
            _ => Err(word.to_owned()),
        }
    }

    fn masked(&mut self) -> Result<(u32, u32), String> {
        let word = self.word()?;
        let number = |text: &str| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok();
        word.split_once('/')
            .and_then(|(value, mask)| Some((number(value)?, number(mask)?)))
            .ok_or_else(|| word.to_owned())
    }

    fn word(&mut self) -> Result<&'a str, String> {
        self.words.next().ok_or_else(|| "the end".to_owned())
    }

    fn value<T: ParseNet>(&mut self) -> Result<T, String> {
        let word = self.word()?;
        T::parse_net(word).ok_or_else(|| word.to_owned())
    }

    fn expect(&mut self, wanted: &str) -> Result<(), String> {
        match self.word()? {
            word if word == wanted => Ok(()),
            other => Err(other.to_owned()),
        }
    }
}

/// Values of options: a network (an address alone is a /32) or a number.
trait ParseNet: Sized {
    fn parse_net(word: &str) -> Option<Self>;
}

impl ParseNet for Ipv4Net {
    fn parse_net(word: &str) -> Option<Ipv4Net> {
        word.parse().ok().or_else(|| Some(Ipv4Net::from(word.parse::<std::net::Ipv4Addr>().ok()?)))
    }
}

impl ParseNet for u32 {
    fn parse_net(word: &str) -> Option<u32> {
        word.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_net() -> impl Strategy<Value = Ipv4Net> {
        (any::<u32>(), 1u8..=32)
            .prop_map(|(bits, len)| Ipv4Net::new(bits.into(), len).expect("a length within 32").trunc())
    }

    fn any_side() -> impl Strategy<Value = Option<Side>> {
        proptest::option::of((any_net(), any::<bool>()).prop_map(|(net, not)| Side { net, not }))
    }

    fn any_match() -> impl Strategy<Value = Match> {
        let bit = (0u32..32).prop_map(|shift| MarkBit(1 << shift));
        let list = "[A-Z0-9-]{1,30}";
        prop_oneof![
            "[a-z0-9/: .,_-]{1,40}".prop_map(|words| Match::Comment(words.into())),
            (bit, any::<bool>()).prop_map(|(bit, not)| Match::Mark { bit, not }),
            Just(Match::ToThisNode),
            Just(Match::FromThisNode),
            (0..STATES.len(), any::<bool>()).prop_map(|(i, not)| Match::State { states: STATES[i], not }),
            (0u32..=1 << 31).prop_map(Match::Chance),
            (list, 1u32..100_000).prop_map(|(list, seconds)| Match::SeenRecently { list: list.into(), seconds }),
            list.prop_map(|list| Match::Remember { list: list.into() }),
        ]
    }

    fn any_target() -> impl Strategy<Value = Target> {
        let bit = (0u32..32).prop_map(|shift| MarkBit(1 << shift)).boxed();
        prop_oneof![
            "SK[A-Z]{5}-[a-z0-9/.]{1,18}".prop_map(|name| Target::Jump(ChainName::new(&name))),
            Just(Target::Accept),
            Just(Target::Drop),
            Just(Target::Reject),
            Just(Target::Reset),
            Just(Target::Return),
            bit.clone().prop_map(Target::SetMark),
            bit.prop_map(Target::ClearMark),
            (any::<u32>(), 1u16..).prop_map(|(a, port)| Target::Dnat(Backend { address: a.into(), port })),
            Just(Target::Masquerade),
        ]
    }

    prop_compose! {
        fn any_rule()(
            source in any_side(), destination in any_side(),
            over in proptest::option::of((any::<bool>(), proptest::option::of((any::<u16>(), any::<u16>())))),
            matches in proptest::collection::vec(any_match(), 0..4), target in any_target(),
        ) -> Rule {
            let protocol = over.map(|(udp, _)| if udp { Protocol::Udp } else { Protocol::Tcp });
            Rule { source, destination, protocol, ports: over.and_then(|(_, ports)| ports), matches, target }
        }
    }

    proptest! {
        #[test]
        fn what_is_rendered_reads_back_the_same(rule in any_rule()) {
            let text = rule.to_string();
            prop_assert_eq!(text.parse::<Rule>(), Ok(rule), "{}", text);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}") {
            let _ = text.parse::<Rule>();
        }
    }

    #[test]
    fn rules_of_others_are_not_ours() {
        for text in [
            "",
            "-s 10.0.0.0/8",
            "-j LOG --log-prefix x",
            "-p sctp -j ACCEPT",
            "-m limit --limit 3/min -j ACCEPT",
            "-j DNAT --to-destination 10.0.0.1",
            "-m mark --mark 0x1/0x3 -j ACCEPT",
            "-j ACCEPT --more",
        ] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
    }

    #[test]
    fn users_words_cannot_end_a_rule() {
        let rule = Rule::to(Target::Accept).saying("a\" -j DROP\nCOMMIT");
        let text = rule.to_string();
        assert_eq!(text.lines().count(), 1);
        assert_eq!(text.parse::<Rule>(), Ok(rule));
    }
}
