//! What verbs that change objects say: a line per object in kubectl's words, or the object itself;
//! and whether anything is changed at all (`--dry-run`).

use std::cell::Cell;

use anyhow::Result;
use clap::Args;
use serde_json::Value;
use skiff_client::DynamicApi;
use skiff_proto::skiffv1::ResourceInfo;

use crate::columns::name;
use crate::output::{self, Format};
use crate::session::Session;
use crate::target;

/// What verbs that change objects take.
#[derive(Args, Clone, Debug, Default)]
pub struct Report {
    #[command(flatten)]
    pub dry: Dry,
    /// Print the object instead of a line about it.
    #[arg(short, long, value_enum)]
    pub output: Option<Format>,
    /// Whether a document was printed: the next one is set apart.
    #[arg(skip)]
    printed: Cell<bool>,
}

/// The flag `--dry-run`, for every verb that changes something.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Dry {
    /// Change nothing: `client` says what would be done, `server` has the server check it as well.
    #[arg(
        long = "dry-run",
        id = "dry_run",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_value = "none",
        default_missing_value = "client"
    )]
    pub run: DryRun,
}

/// How much of a change is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum DryRun {
    /// All of it.
    #[default]
    None,
    /// Nothing is sent.
    Client,
    /// The server does everything but keep it.
    Server,
}

impl DryRun {
    /// What is put behind the line about an object.
    pub fn suffix(self) -> &'static str {
        match self {
            DryRun::None => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        }
    }
}

impl Report {
    /// Lines, of what is done so far.
    pub fn lines(dry: Dry) -> Report {
        Report { dry, ..Report::default() }
    }

    /// Whether nothing may be sent.
    pub fn is_client(&self) -> bool {
        self.dry.run == DryRun::Client
    }

    /// The verbs of a resource, which change something only if this says so.
    pub fn api(&self, session: &Session, resource: &ResourceInfo) -> DynamicApi {
        session.api(resource, self.dry.run != DryRun::None)
    }

    /// Says what was done with an object: `pod/x labeled`.
    pub fn say(&self, resource: &ResourceInfo, object: &Value, done: &str) -> Result<()> {
        match self.output {
            None | Some(Format::Wide) => {
                let called = target::called(resource, &name(object));
                output::line(format!("{called} {done}{}", self.dry.run.suffix()))
            }
            Some(Format::Name) => output::line(target::called(resource, &name(object))),
            Some(format) => {
                let mut object = object.clone();
                if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.shift_remove("managedFields");
                }
                let apart = if format == Format::Yaml && self.printed.replace(true) { "---\n" } else { "" };
                output::print(&format!("{apart}{}", output::document(&object, format)?))
            }
        }
    }
}
