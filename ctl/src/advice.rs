//! What to do about an error, put behind what it says: where the address came from when nobody
//! answers, which name was probably meant, and how a conflict is got over.

use anyhow::Error;
use skiff_client::ListOptions;

use crate::columns::name;
use crate::output;
use crate::session::Session;
use crate::suggest;

/// The error with advice, where there is any.
pub async fn with_advice(session: &Session, error: Error) -> Error {
    let Some(cause) = error.chain().find_map(|e| e.downcast_ref::<skiff_client::Error>()) else { return error };
    match advice(session, cause).await {
        // The words of the whole chain; the cause stays, for its reason.
        Some(advice) => Error::new(cause.clone()).context(Advised(format!("{error:#}; {advice}"))),
        None => error,
    }
}

/// A refusal as a line for standard error, with advice: for verbs that go on with other objects.
pub async fn line(session: &Session, refusal: skiff_client::Error) -> String {
    output::error_line(&with_advice(session, refusal.into()).await)
}

/// What a whole error says, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Advised(String);

async fn advice(session: &Session, cause: &skiff_client::Error) -> Option<String> {
    if matches!(cause, skiff_client::Error::Unreachable { .. }) {
        return Some(format!(
            "the address comes from {}. Is the cluster up (`skiff up`)? \
             Another one is chosen with --kubeconfig, --context or $KUBECONFIG",
            session.source()
        ));
    }
    if cause.outcome_unknown() {
        return Some("whether it was done is not known: look before you try again".to_owned());
    }
    if cause.is_conflict() && cause.to_string().contains("has been modified") {
        return Some("somebody else was quicker: look at what it is now (`skiffctl get`) and try again".to_owned());
    }
    if cause.is_not_found() {
        return meant(session, cause).await;
    }
    None
}

/// The object of the same kind whose name is near.
async fn meant(session: &Session, cause: &skiff_client::Error) -> Option<String> {
    let details = cause.status()?.details.as_ref()?;
    if details.name.is_empty() {
        return None;
    }
    let table = session.resources().await.ok()?;
    let resource = table.iter().find(|r| r.group == details.group && r.resource == details.kind)?;
    let namespace = if resource.namespaced { session.namespace() } else { "" };
    let list = session.api(resource, false).list(namespace, &ListOptions::default()).await.ok()?;
    let names: Vec<String> = list.items.iter().map(name).collect();
    // `web` for `web-7f9c-x2x1`: a Pod is often called by its workload's name.
    let begins = |n: &&str| n.strip_prefix(&details.name).is_some_and(|rest| rest.starts_with('-'));
    let all = || names.iter().map(String::as_str);
    let near = all().find(begins).or_else(|| suggest::nearest(&details.name, all()))?;
    Some(format!("did you mean {near:?}?"))
}
