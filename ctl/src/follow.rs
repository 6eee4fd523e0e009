//! Objects, followed for as long as somebody wants to know: a list, then a watch from the list's
//! revision on. A connection that is cut, or an API server that starts again, is waited for; nothing
//! is missed.
//!
//! ```text
//! list --News::All--> watch --News::Is, News::Gone--> watch
//!   ^                   | cut: the same again from the last revision seen
//!   +--- too old -------+
//! ```

use std::time::Duration;

use skiff_client::{DynamicApi, DynamicWatch, Error, ListOptions, Retry, WatchEvent};
use skiff_proto::skiffv1::ResourceInfo;
use skiff_world::World;

use serde_json::Value;

use crate::session::Session;

/// Between two attempts; the connection has a backoff of its own.
const PAUSE: Duration = Duration::from_millis(500);

/// What is learnt.
#[derive(Debug)]
pub enum News {
    /// These objects are there, and no others.
    All(Vec<Value>),
    /// An object came, or changed.
    Is(Value),
    /// An object went; this is what it last was.
    Gone(Value),
}

/// Objects that are followed.
pub struct Follow {
    world: World,
    api: DynamicApi,
    namespace: String,
    options: ListOptions,
    /// Everything up to here has been told; unknown before the first list.
    revision: Option<String>,
    watch: Option<DynamicWatch>,
    /// The server has answered before: what fails now is trouble that passes.
    begun: bool,
    /// Somebody was told of the trouble.
    told: bool,
}

/// What one step came to.
enum Step {
    News(News),
    Nothing,
    Ended,
}

impl Follow {
    /// Follows what `options` select; tells all of it first.
    pub fn new(session: &Session, resource: &ResourceInfo, namespace: &str, options: ListOptions) -> Follow {
        Follow {
            world: session.world().clone(),
            api: session.api(resource, false),
            namespace: namespace.to_owned(),
            options,
            revision: None,
            watch: None,
            begun: false,
            told: false,
        }
    }

    /// Follows one object.
    pub fn one(session: &Session, resource: &ResourceInfo, namespace: &str, name: &str) -> Follow {
        Follow::new(session, resource, namespace, ListOptions::fields(format!("metadata.name={name}")))
    }

    /// The same, for somebody whom the server has answered already: trouble is waited out from the start.
    pub fn patiently(self) -> Follow {
        Follow { begun: true, ..self }
    }

    /// The same, from a revision on that was listed before.
    pub fn after(self, revision: &str) -> Follow {
        Follow { revision: Some(revision.to_owned()), begun: true, ..self }
    }

    /// What happened next. An error is a refusal; trouble with the connection is waited out.
    pub async fn next(&mut self) -> Result<News, Error> {
        loop {
            match self.step().await {
                Ok(Step::News(news)) => {
                    (self.begun, self.told) = (true, false);
                    return Ok(news);
                }
                Ok(Step::Nothing) => self.told = false,
                Ok(Step::Ended) => self.watch = None,
                Err(error) if error.is_expired() || error.is_ahead_of_server() => {
                    (self.watch, self.revision) = (None, None);
                }
                Err(error) if self.begun && passes(&error) => {
                    self.watch = None;
                    if !std::mem::replace(&mut self.told, true) {
                        eprintln!("Warning: {error}; trying again until it is back");
                    }
                }
                Err(error) => return Err(error),
            }
            if self.watch.is_none() {
                self.world.sleep(PAUSE).await;
            }
        }
    }

    /// The object that is followed, as it is now; `None` when it is gone. For [`Follow::one`].
    pub async fn object(&mut self) -> Result<Option<Value>, Error> {
        Ok(match self.next().await? {
            News::All(mut all) => all.pop(),
            News::Is(object) => Some(object),
            News::Gone(_) => None,
        })
    }

    async fn step(&mut self) -> Result<Step, Error> {
        let Some(revision) = &self.revision else {
            let list = self.api.list(&self.namespace, &self.options).await?;
            self.revision = Some(list.resource_version);
            return Ok(Step::News(News::All(list.items)));
        };
        let watch = match &mut self.watch {
            Some(watch) => watch,
            closed => closed.insert(self.api.watch(&self.namespace, &self.options, revision).await?),
        };
        let Some(event) = watch.next().await else { return Ok(Step::Ended) };
        let (step, revision) = match event? {
            WatchEvent::Added { object, revision } | WatchEvent::Modified { object, revision } => {
                (Step::News(News::Is(object)), revision)
            }
            WatchEvent::Deleted { object, revision } => (Step::News(News::Gone(object)), revision),
            WatchEvent::Bookmark { revision, .. } => (Step::Nothing, revision),
        };
        self.revision = Some(revision.to_string());
        Ok(step)
    }
}

/// Whether it is worth trying again.
fn passes(error: &Error) -> bool {
    error.is_unreachable() || error.retry() == Retry::Backoff
}

#[cfg(test)]
mod tests;
