//! `skiffctl`: what people type. One file per verb; what verbs share has a noun for a name:
//! [`session`] (where to and as whom), [`target`] (which objects are meant), [`manifest`] (what
//! files say), [`columns`] and [`table`] (how objects look in a list).

mod age;
mod apply;
mod changes;
mod columns;
mod delete;
mod describe;
mod events;
mod exec;
mod get;
mod history;
mod inspect;
mod lag;
mod logs;
mod manifest;
mod output;
mod revisions;
mod rollout;
mod scale;
mod session;
mod step;
mod suggest;
mod table;
mod target;
mod version;
mod why;
mod why_not;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use skiff_client::cause;
use skiff_proto::skiffv1::Cause;

use session::Session;

/// Controls a Skiff cluster.
#[derive(Parser)]
#[command(name = "skiffctl", version, disable_version_flag = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// The kubeconfig file [default: $KUBECONFIG, ~/.kube/config, $SKIFF_HOME/admin.kubeconfig].
    #[arg(long, global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// Which context of the kubeconfig.
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// The namespace [default: the context's, or `default`].
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// How long one request may take, in seconds.
    #[arg(long, global = true, default_value_t = 30)]
    pub request_timeout: u64,
}

#[derive(Subcommand)]
enum Verb {
    /// Make the cluster hold what files say, changing only what they say.
    Apply(apply::Options),
    /// List objects, or show one.
    Get(get::Options),
    /// Show objects in detail, with their events.
    Describe(describe::Options),
    /// Delete objects and wait until they are gone.
    Delete(delete::Options),
    /// Set the number of replicas.
    Scale(scale::Options),
    /// Watch, list, undo and restart rollouts of Deployments.
    #[command(subcommand)]
    Rollout(rollout::Action),
    /// Print what a container wrote.
    Logs(logs::Options),
    /// Run a command in a container.
    Exec(exec::Options),
    /// List events, the latest last.
    Events(events::Options),
    /// Show why an object is as it is: from the act that began it, write by write.
    Why(why::Options),
    /// Show what each scheduler plugin says about a Pod on a node.
    WhyNot(why_not::Options),
    /// List every write of an object that is held: who made it and what it changed.
    History(history::Options),
    /// Show how two revisions of an object differ.
    Diff(revisions::Options),
    /// Show how far each component is behind the store, and what waits in its queues.
    Lag(lag::Options),
    /// Hold a component up and let one action go at a time.
    Step(step::Options),
    /// Print the versions of skiffctl and the server.
    Version,
}

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    // What is written is written because a person said so; the verb is as much as others need to know of it.
    let reason = format!("skiffctl {}", matches.subcommand_name().unwrap_or_default());
    let cause = Cause { reason, ..Cause::default() };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: start the asynchronous runtime: {e}");
            return ExitCode::FAILURE;
        }
    };
    let code = match runtime.block_on(cause::with(cause, run(cli))) {
        Ok(code) => code,
        Err(e) if is_closed_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{}", output::error_line(&e));
            ExitCode::FAILURE
        }
    };
    // Reading standard input blocks a thread that would otherwise hold the process open.
    runtime.shutdown_background();
    code
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let session = Session::open(&cli.global)?;
    match cli.verb {
        Verb::Apply(options) => apply::run(&session, options).await,
        Verb::Get(options) => get::run(&session, options).await,
        Verb::Describe(options) => describe::run(&session, options).await,
        Verb::Delete(options) => delete::run(&session, options).await,
        Verb::Scale(options) => scale::run(&session, options).await,
        Verb::Rollout(action) => rollout::run(&session, action).await,
        Verb::Logs(options) => logs::run(&session, options).await,
        Verb::Exec(options) => exec::run(&session, options).await,
        Verb::Events(options) => events::run(&session, options).await,
        Verb::Why(options) => why::run(&session, options).await,
        Verb::WhyNot(options) => why_not::run(&session, options).await,
        Verb::History(options) => history::run(&session, options).await,
        Verb::Diff(options) => revisions::run(&session, options).await,
        Verb::Lag(options) => lag::run(&session, options).await,
        Verb::Step(options) => step::run(&session, options).await,
        Verb::Version => version::run(&session).await,
    }
}

/// `skiffctl get pods | head -1` ends when head does; that is no error.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
