//! `label` and `annotate`: the two maps of words on an object, set with `key=value` and removed
//! with `key-`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};
use skiff_client::Patch;

use crate::advice;
use crate::amend::{self, Amended};
use crate::output;
use crate::report::Report;
use crate::selection::Selection;
use crate::session::Session;

/// What `label` and `annotate` take.
#[derive(Args, Debug)]
pub struct Options {
    /// `TYPE NAME...` or `TYPE/NAME...`, then `KEY=VALUE...` to set and `KEY-...` to remove.
    #[arg(required = true)]
    words: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// Replace values that are there.
    #[arg(long)]
    overwrite: bool,
    /// Show what there is.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    report: Report,
}

/// Which of the two maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    /// `metadata.labels`
    Labels,
    /// `metadata.annotations`
    Annotations,
}

impl Map {
    fn field(self) -> &'static str {
        match self {
            Map::Labels => "labels",
            Map::Annotations => "annotations",
        }
    }

    fn singular(self) -> &'static str {
        match self {
            Map::Labels => "label",
            Map::Annotations => "annotation",
        }
    }

    fn of(self, object: &Value) -> BTreeMap<&str, &str> {
        let map = object["metadata"][self.field()].as_object();
        map.into_iter().flatten().map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default())).collect()
    }
}

/// What is to become of the map: a value for each key, or none.
type Marks = BTreeMap<String, Option<String>>;

/// Sets and removes on every object that is meant.
pub async fn run(session: &Session, map: Map, options: Options) -> Result<ExitCode> {
    let (words, marks) = split(&options.words)?;
    let chosen = options.selection.find(session, &words).await?;
    if marks.is_empty() && !options.list {
        bail!("say which {} to set (KEY=VALUE) or to remove (KEY-), or --list", map.field());
    }
    if chosen.is_empty() {
        eprintln!("No resources found");
    }
    let mut failed = false;
    for object in &chosen {
        let patch = |current: &Value| patch(map, current, &marks, options.overwrite);
        let amended = if marks.is_empty() {
            let current = session.api(&object.resource, false).get(&object.namespace, &object.name).await;
            current.map(|o| Amended { before: o.clone(), after: o }).map_err(Into::into)
        } else {
            amend::amend(session, &options.report, object, patch).await
        };
        let amended = match amended {
            Ok(amended) => amended,
            // Of several, the others are still done.
            Err(error) if chosen.len() > 1 => {
                let error = advice::with_advice(session, error.context(object.called())).await;
                eprintln!("{}", output::error_line(&error));
                failed = true;
                continue;
            }
            Err(error) => return Err(error),
        };
        if options.list {
            if chosen.len() > 1 {
                output::line(format!("Listing {} for {}:", map.field(), object.called()))?;
            }
            for (key, value) in map.of(&amended.after) {
                output::line(format!("{key}={value}"))?;
            }
            continue;
        }
        for key in missing(map, &amended.before, &marks) {
            output::line(format!("{} {key:?} not found.", map.singular()))?;
        }
        options.report.say(&object.resource, &amended.after, done(map, &amended, &marks))?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The objects come first, then what is to be set and removed.
fn split(words: &[String]) -> Result<(Vec<String>, Marks)> {
    let is_mark = |word: &str| word.contains('=') || word.ends_with('-');
    let at = words.iter().position(|w| is_mark(w)).unwrap_or(words.len());
    let mut marks = Marks::new();
    for word in &words[at..] {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => match word.strip_suffix('-') {
                Some(key) => (key, None),
                None => bail!("{word:?}: all objects must be named before what is set, as KEY=VALUE or KEY-"),
            },
        };
        if key.is_empty() {
            bail!("{word:?}: the key is missing");
        }
        if marks.get(key).is_some_and(|before| *before != value) {
            bail!("{key:?} is given twice, with different values: give it once");
        }
        marks.insert(key.to_owned(), value);
    }
    Ok((words[..at].to_vec(), marks))
}

/// The patch that sets and removes; an error if it would replace a value unasked.
fn patch(map: Map, object: &Value, marks: &Marks, overwrite: bool) -> Result<Patch> {
    let current = map.of(object);
    for (key, value) in marks {
        if let (Some(is), Some(wanted), false) = (current.get(key.as_str()), value, overwrite)
            && is != wanted
        {
            bail!("{key:?} already has a value ({is}), and --overwrite is false");
        }
    }
    Ok(Patch::Merge(json!({"metadata": {map.field(): marks}})))
}

fn missing<'m>(map: Map, before: &Value, marks: &'m Marks) -> Vec<&'m str> {
    let there = map.of(before);
    marks.iter().filter(|(k, v)| v.is_none() && !there.contains_key(k.as_str())).map(|(k, _)| k.as_str()).collect()
}

fn done(map: Map, amended: &Amended, marks: &Marks) -> &'static str {
    match map {
        Map::Annotations => "annotated",
        Map::Labels if map.of(&amended.before) == map.of(&amended.after) => "not labeled",
        Map::Labels if marks.values().all(Option::is_none) => "unlabeled",
        Map::Labels => "labeled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn objects_come_first_then_pairs_and_removals() {
        let (objects, marks) = split(&words("pod web-1 web-2 app=web tier- url=a=b")).unwrap();
        assert_eq!(objects, words("pod web-1 web-2"));
        let told: Vec<_> = marks.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
        assert_eq!(told, [("app", Some("web")), ("tier", None), ("url", Some("a=b"))]);
        for wrong in ["pod a=1 web", "pod web =1", "pod web a=1 a=2", "pod web a=1 a-"] {
            assert!(split(&words(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_value_is_replaced_only_when_asked() {
        let object = json!({"metadata": {"labels": {"app": "web"}}});
        for (text, overwrite, allowed) in
            [("app=web", false, true), ("app=db", false, false), ("app=db", true, true), ("app-", false, true)]
        {
            let (_, marks) = split(&words(text)).unwrap();
            assert_eq!(patch(Map::Labels, &object, &marks, overwrite).is_ok(), allowed, "{text}");
        }
        let (_, marks) = split(&words("a=1 b-")).unwrap();
        let expected = Patch::Merge(json!({"metadata": {"annotations": {"a": "1", "b": null}}}));
        assert_eq!(patch(Map::Annotations, &object, &marks, false).unwrap(), expected);
    }

    #[test]
    fn what_was_done_is_told_as_kubectl_tells_it() {
        let object = |labels: Value| json!({"metadata": {"labels": labels}});
        for (text, before, after, expected) in [
            ("a=1", json!({}), json!({"a": "1"}), "labeled"),
            ("a=1", json!({"a": "1"}), json!({"a": "1"}), "not labeled"),
            ("a-", json!({"a": "1"}), json!({}), "unlabeled"),
            ("a-", json!({}), json!({}), "not labeled"),
        ] {
            let (_, marks) = split(&words(text)).unwrap();
            let amended = Amended { before: object(before), after: object(after) };
            assert_eq!(done(Map::Labels, &amended, &marks), expected, "{text}");
        }
        let (_, marks) = split(&words("gone-")).unwrap();
        assert_eq!(missing(Map::Labels, &object(json!({})), &marks), ["gone"]);
    }
}
