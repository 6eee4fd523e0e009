//! A rule as plain data, and its text. The text is exactly what `iptables-save` prints for the rule, so that
//! reading back what is in the kernel is comparing lines (and where an iptables prints otherwise, `parse.rs`
//! reads it into the same data).

use std::fmt::{self, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::Ipv4Net;

use super::names::ChainName;
use crate::services::{Backend, Protocol};

/// One bit of a packet's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MarkBit(pub u32);

/// One rule: what a packet must be, and what becomes of it then.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// From where.
    pub source: Option<Side>,
    /// To where.
    pub destination: Option<Side>,
    /// Over what.
    pub protocol: Option<Protocol>,
    /// To which ports, first and last.
    pub ports: Option<(u16, u16)>,
    /// What else must hold, in order (the order counts: `recent` remembers as it matches).
    pub matches: Vec<Match>,
    /// What to do.
    pub target: Target,
}

/// A network that an address must be in, or must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Side {
    /// The network.
    pub net: Ipv4Net,
    /// Must *not* be in it.
    pub not: bool,
}

/// A condition beyond addresses and ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Match {
    /// Always true: words for people who read the tables.
    Comment(Arc<str>),
    /// The packet's mark has this bit, or has not.
    Mark {
        /// The bit.
        bit: MarkBit,
        /// Must *not* be set.
        not: bool,
    },
    /// The destination is an address of this node.
    ToThisNode,
    /// The source is an address of this node.
    FromThisNode,
    /// The connection is in one of these states (iptables' names, comma separated), or in none.
    State {
        /// The states.
        states: &'static str,
        /// Must be in *none* of them.
        not: bool,
    },
    /// True at random, this many times in 2^31.
    Chance(u32),
    /// The client's address is on this list and was seen within so many seconds; it is seen now.
    SeenRecently {
        /// The list.
        list: Box<str>,
        /// How long a client stays on it.
        seconds: u32,
    },
    /// Always true; the client's address is put on this list.
    Remember {
        /// The list.
        list: Box<str>,
    },
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// On with another chain; back here if that decides nothing.
    Jump(ChainName),
    /// Let through.
    Accept,
    /// Thrown away.
    Drop,
    /// Thrown away, and the sender is told by ICMP.
    Reject,
    /// Thrown away, and the sender of a TCP packet is told by a reset: the kernel sends any one host only a few
    /// ICMP messages a second, and a client that tries often would wait for an answer.
    Reset,
    /// Back to the chain that jumped here.
    Return,
    /// Sets a bit of its mark, and goes on.
    SetMark(MarkBit),
    /// Clears a bit of its mark, and goes on.
    ClearMark(MarkBit),
    /// Sent to an endpoint.
    Dnat(Backend),
    /// Leaves with the node's own address as its source.
    Masquerade,
}

impl Rule {
    /// A rule for every packet; narrow it with the methods below.
    pub fn to(target: Target) -> Rule {
        Rule { source: None, destination: None, protocol: None, ports: None, matches: Vec::new(), target }
    }

    /// A rule that jumps to `chain`.
    pub fn jump(chain: &ChainName) -> Rule {
        Rule::to(Target::Jump(chain.clone()))
    }

    /// Only packets from `net`.
    #[must_use]
    pub fn from_net(mut self, net: Ipv4Net) -> Rule {
        self.source = Some(Side { net, not: false });
        self
    }

    /// Only packets that are not from `net`.
    #[must_use]
    pub fn not_from(mut self, net: Ipv4Net) -> Rule {
        self.source = Some(Side { net, not: true });
        self
    }

    /// Only packets to `net`.
    #[must_use]
    pub fn to_net(mut self, net: Ipv4Net) -> Rule {
        self.destination = Some(Side { net, not: false });
        self
    }

    /// Only packets that are not to `net`.
    #[must_use]
    pub fn not_to(mut self, net: Ipv4Net) -> Rule {
        self.destination = Some(Side { net, not: true });
        self
    }

    /// Only this protocol.
    #[must_use]
    pub fn over(mut self, protocol: Protocol) -> Rule {
        self.protocol = Some(protocol);
        self
    }

    /// Only this protocol and these ports, first and last.
    #[must_use]
    pub fn to_ports(mut self, protocol: Protocol, first: u16, last: u16) -> Rule {
        self.protocol = Some(protocol);
        self.ports = Some((first, last));
        self
    }

    /// Only where this holds too.
    #[must_use]
    pub fn when(mut self, condition: Match) -> Rule {
        // There are tens of thousands of rules, most with one condition: no spare room.
        self.matches.reserve_exact(1);
        self.matches.push(condition);
        self
    }

    /// With words for people.
    #[must_use]
    pub fn saying(self, words: &str) -> Rule {
        self.when(Match::Comment(comment(words)))
    }

    /// The rule's text without `-A CHAIN`, as `iptables-save` prints it.
    pub fn render(&self, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = self.write(out);
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        if let Some(side) = self.source {
            write!(out, "{}-s {} ", not(side.not), side.net)?;
        }
        if let Some(side) = self.destination {
            write!(out, "{}-d {} ", not(side.not), side.net)?;
        }
        if let Some(protocol) = self.protocol {
            write!(out, "-p {protocol} ")?;
            match self.ports {
                None => {}
                Some((first, last)) if first == last => write!(out, "-m {protocol} --dport {first} ")?,
                Some((first, last)) => write!(out, "-m {protocol} --dport {first}:{last} ")?,
            }
        }
        for condition in &self.matches {
            condition.write(out)?;
        }
        self.target.write(out)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.render(&mut text);
        f.write_str(&text)
    }
}

fn not(yes: bool) -> &'static str {
    if yes { "! " } else { "" }
}

impl Match {
    fn write(&self, out: &mut String) -> fmt::Result {
        match self {
            Match::Comment(words) if needs_quotes(words) => {
                write!(out, "-m comment --comment \"{words}\" ")
            }
            Match::Comment(words) => write!(out, "-m comment --comment {words} "),
            Match::Mark { bit, not: no } => write!(out, "-m mark {}--mark {bit}/{bit} ", not(*no)),
            Match::ToThisNode => write!(out, "-m addrtype --dst-type LOCAL "),
            Match::FromThisNode => write!(out, "-m addrtype --src-type LOCAL "),
            Match::State { states, not: no } => {
                write!(out, "-m conntrack {}--ctstate {states} ", not(*no))
            }
            Match::Chance(of_2_31) => {
                let share = f64::from(*of_2_31) / f64::from(1u32 << 31);
                write!(out, "-m statistic --mode random --probability {share:.11} ")
            }
            Match::SeenRecently { list, seconds } => write!(
                out,
                "-m recent --update --seconds {seconds} --reap --name {list} --mask 255.255.255.255 --rsource "
            ),
            Match::Remember { list } => {
                write!(out, "-m recent --set --name {list} --mask 255.255.255.255 --rsource ")
            }
        }
    }
}

impl Target {
    fn write(&self, out: &mut String) -> fmt::Result {
        match self {
            Target::Jump(chain) => write!(out, "-j {chain}"),
            Target::Accept => write!(out, "-j ACCEPT"),
            Target::Drop => write!(out, "-j DROP"),
            Target::Reject => write!(out, "-j REJECT --reject-with icmp-port-unreachable"),
            Target::Reset => write!(out, "-j REJECT --reject-with tcp-reset"),
            Target::Return => write!(out, "-j RETURN"),
            Target::SetMark(bit) => write!(out, "-j MARK --set-xmark {bit}/{bit}"),
            Target::ClearMark(bit) => write!(out, "-j MARK --set-xmark 0x0/{bit}"),
            Target::Dnat(backend) => write!(out, "-j DNAT --to-destination {backend}"),
            Target::Masquerade => write!(out, "-j MASQUERADE --random-fully"),
        }
    }
}

impl fmt::Display for MarkBit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// One address as a network.
pub fn single(address: Ipv4Addr) -> Ipv4Net {
    Ipv4Net::from(address)
}

/// Whether iptables-save puts a comment into quotes.
fn needs_quotes(words: &str) -> bool {
    !words.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// Words as a rule's comment.
pub fn comment(words: &str) -> Arc<str> {
    clean(words).into()
}

/// Words that can stand in a rule: names come from users, and a quote or a line feed would end the rule.
fn clean(words: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_./: ,".contains(c);
    let mut text: String = words.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    text.truncate(250); // all ASCII by now; iptables keeps 255 bytes
    text
}
