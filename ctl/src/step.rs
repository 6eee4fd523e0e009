//! `step`: holds a component up, shows what it is about to do and why, and lets one action go at a time. When this
//! program ends, however it ends, the component goes on by itself.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::Value;
use skiff_client::streams::{self, Channel, StreamEvent};
use skiff_client::tunnel::Close;
use skiff_proto::skiffv1::{StepRequest, StreamOpen, stream_open::Request};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::output;
use crate::session::Session;

/// What `step` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// `controller/NAME`, `scheduler`, `kubelet` or `proxy`.
    what: String,
    /// The node, for kubelet and proxy.
    #[arg(long, default_value = "", hide_default_value = true)]
    node: String,
}

/// Which component, and which of its gates.
#[derive(Debug, PartialEq)]
struct Place {
    component: &'static str,
    gate: String,
}

/// Shows and steps until standard input ends, or a line says `q`.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let Place { component, gate } = place(&options.what, &options.node)?;
    let request = Request::Step(StepRequest { gate });
    let open = StreamOpen { component: component.to_owned(), node: options.node, request: Some(request) };
    let mut stream = streams::open(session.client(), open).await?;
    let mut held = false;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut partial = Vec::new();
    loop {
        tokio::select! {
            biased;
            event = stream.recv() => match event {
                Some(StreamEvent::Data { channel: Channel::Stdout, bytes }) => {
                    if !std::mem::replace(&mut held, true) {
                        let how = "Enter lets one action go, a number so many, q ends";
                        output::line(format!("{} is held up. {how}.", options.what))?;
                    }
                    partial.extend_from_slice(&bytes);
                    while let Some(end) = partial.iter().position(|byte| *byte == b'\n') {
                        let line: Vec<u8> = partial.drain(..=end).collect();
                        output::print(&show(&serde_json::from_slice(&line)?))?;
                    }
                }
                Some(StreamEvent::Closed(Close::Failed { message, .. })) => bail!("{message}"),
                Some(StreamEvent::Closed(_)) | None => bail!("the component has gone away; what it does now, it does by itself"),
                Some(_) => {}
            },
            line = lines.next_line(), if held => {
                let Some(actions) = line?.as_deref().and_then(actions) else { break };
                stream.send(Channel::Stdin, vec![b'.'; actions]).await?;
            }
        }
    }
    stream.close(Close::Done).await;
    output::line(format!("{} goes on by itself.", options.what))?;
    Ok(ExitCode::SUCCESS)
}

fn place(what: &str, node: &str) -> Result<Place> {
    let (component, gate) = match what.split_once('/') {
        Some(("controller", name)) if !name.is_empty() => ("controllers", name),
        Some(("scheduler", gate)) => ("scheduler", gate),
        None if what == "scheduler" => ("scheduler", "scheduler"),
        None if what == "kubelet" => ("kubelet", "pods"),
        None if what == "proxy" => ("proxy", "proxy"),
        _ => bail!("{what:?}: expected controller/NAME (controller/deployment), scheduler, kubelet or proxy"),
    };
    match (component, node) {
        ("kubelet" | "proxy", "") => bail!("say on which node: --node NAME"),
        ("controllers" | "scheduler", node) if !node.is_empty() => bail!("{what} is on no node: leave --node away"),
        _ => Ok(Place { component, gate: gate.to_owned() }),
    }
}

/// How many actions a line lets go; nothing ends it. What is neither lets none go.
fn actions(line: &str) -> Option<usize> {
    match line.trim() {
        "q" | "quit" => None,
        "" => Some(1),
        number => Some(number.parse().unwrap_or(0).min(1_000)),
    }
}

/// Who stands before the gate.
fn show(news: &Value) -> String {
    let standing = news["standing"].as_array().map(Vec::as_slice).unwrap_or_default();
    if standing.is_empty() {
        return "nothing stands before the gate\n".to_owned();
    }
    let mut text = String::new();
    for (at, one) in standing.iter().enumerate() {
        let mark = if at == 0 { "next" } else { "then" };
        text.push_str(&format!("{mark}: {}\n", one["what"].as_str().unwrap_or_default()));
        if at == 0 {
            one["story"].as_str().unwrap_or_default().lines().for_each(|line| text.push_str(&format!("  {line}\n")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_place_is_a_component_and_its_gate() {
        let found = |what: &str, node: &str| place(what, node).map(|p| (p.component, p.gate));
        assert_eq!(found("controller/deployment", "").unwrap(), ("controllers", "deployment".to_owned()));
        assert_eq!(found("scheduler", "").unwrap(), ("scheduler", "scheduler".to_owned()));
        assert_eq!(found("kubelet", "n1").unwrap(), ("kubelet", "pods".to_owned()));
        for (what, node, words) in [
            ("kubelet", "", "--node NAME"),
            ("controller/deployment", "n1", "is on no node"),
            ("deployment", "", "expected controller/NAME"),
            ("controller/", "", "expected controller/NAME"),
        ] {
            assert!(place(what, node).unwrap_err().to_string().contains(words), "{what} {node}");
        }
    }

    #[test]
    fn a_line_lets_so_many_go() {
        assert_eq!([actions(""), actions("3"), actions("what"), actions("q")], [Some(1), Some(3), Some(0), None]);
    }

    #[test]
    fn the_first_in_line_is_shown_whole() {
        let news = json!({"standing": [{"what": "default/web: create x (y)", "story": "woken by: z"}, {"what": "b"}]});
        assert_eq!(show(&news), "next: default/web: create x (y)\n  woken by: z\nthen: b\n");
        assert_eq!(show(&json!({"standing": []})), "nothing stands before the gate\n");
    }
}
