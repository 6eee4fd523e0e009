//! `skiffctl`: what people type. One file per verb; what verbs share has a noun for a name:
//! [`session`] (where to and as whom), [`target`] and [`selection`] (which objects are meant),
//! [`manifest`] (what files say), [`amend`] (changes worked out from what is there), [`follow`] (what
//! happens to objects), [`report`] (what was done), [`columns`] and [`table`] (how objects look in a
//! list), [`pod`] (which Pod and container), [`terminal`] (a conversation with a process), [`advice`] (what to do about an error).

mod advice;
mod amend;
mod api_resources;
mod apply;
mod attach;
mod auth;
mod changes;
mod cluster_info;
mod columns;
mod completion;
mod config;
mod cordon;
mod cp;
mod create;
mod debug;
mod definitions;
mod delete;
mod describe;
mod diff;
mod drain;
mod edit;
mod events;
mod exec;
mod explain;
mod expose;
mod follow;
mod get;
mod history;
mod inspect;
mod label;
mod lag;
mod logs;
mod manifest;
mod output;
mod patch;
mod pod;
mod port_forward;
mod replace;
mod report;
mod revisions;
mod rollout;
mod run;
mod scale;
mod selection;
mod session;
mod set;
mod step;
mod suggest;
mod table;
mod taint;
mod target;
mod terminal;
mod version;
mod wait;
mod why;
mod why_not;

use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

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
    verb: Command,
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
    /// A bearer token to be somebody else by than the kubeconfig says.
    #[arg(long, global = true, hide_env_values = true)]
    pub token: Option<String>,
    /// The namespace [default: the context's, or `default`].
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// Ask as this user, if you may impersonate them.
    #[arg(long = "as", id = "as_user", global = true, value_name = "USER")]
    pub as_user: Option<String>,
    /// Ask as a member of this group; may be given several times. Needs --as.
    #[arg(long = "as-group", id = "as_group", global = true, value_name = "GROUP")]
    pub as_group: Vec<String>,
    /// Ask as the user with this uid. Needs --as.
    #[arg(long = "as-uid", id = "as_uid", global = true, value_name = "UID")]
    pub as_uid: Option<String>,
    /// How long one request may take: `30s`, `1m`, or seconds; 0: as long as it takes.
    #[arg(long, global = true, default_value = "30s", value_parser = rollout::parse_duration)]
    pub request_timeout: Duration,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Here(Here),
    #[command(flatten)]
    There(Verb),
}

/// What needs no cluster.
#[derive(Subcommand)]
enum Here {
    /// Print the script that lets a shell complete verbs and flags.
    Completion(completion::Options),
    /// The contexts of the kubeconfig file.
    #[command(subcommand)]
    Config(config::Action),
}

/// What is asked of a cluster.
#[derive(Subcommand)]
enum Verb {
    /// Set and remove annotations.
    Annotate(label::Options),
    /// List the kinds that the server knows.
    ApiResources(api_resources::Options),
    /// Make the cluster hold what files say, changing only what they say.
    Apply(apply::Options),
    /// Join the process that runs in a container.
    Attach(terminal::Place),
    /// Ask what you may do, and as whom you are here.
    #[command(subcommand)]
    Auth(auth::Action),
    /// Say where the cluster is.
    ClusterInfo,
    /// Keep new Pods off a node.
    Cordon(cordon::Options),
    /// Copy files to and from containers.
    Cp(cp::Options),
    /// Create objects from files or from flags.
    Create(create::Options),
    /// Add a container to a Pod that runs, to look into it.
    Debug(debug::Options),
    /// Delete objects and wait until they are gone.
    Delete(delete::Options),
    /// Show objects in detail, with their events.
    Describe(describe::Options),
    /// Show what apply would change, or how two revisions of an object differ.
    Diff(diff::Options),
    /// Cordon a node and evict its Pods.
    Drain(drain::Options),
    /// Edit an object in an editor.
    Edit(edit::Options),
    /// List events, the latest last.
    #[command(visible_alias = "event")]
    Events(events::Options),
    /// Run a command in a container.
    Exec(exec::Options),
    /// Say what the fields of a kind are and mean.
    Explain(explain::Options),
    /// Make a Service for the Pods of a workload.
    Expose(expose::Options),
    /// List objects, or show one.
    Get(get::Options),
    /// List every write of an object that is held: who made it and what it changed.
    History(history::Options),
    /// Set and remove labels.
    Label(label::Options),
    /// Show how far each component is behind the store, and what waits in its queues.
    Lag(lag::Options),
    /// Print what a container wrote.
    #[command(visible_alias = "log")]
    Logs(logs::Options),
    /// Change parts of an object.
    Patch(patch::Options),
    /// Forward local ports to a Pod.
    PortForward(port_forward::Options),
    /// Replace objects by what files say.
    Replace(replace::Options),
    /// Watch, list, undo and restart rollouts of Deployments.
    #[command(subcommand)]
    Rollout(rollout::Action),
    /// Run an image in a Pod.
    Run(run::Options),
    /// Set the number of replicas.
    Scale(scale::Options),
    /// Set images, variables and resources of containers.
    #[command(subcommand)]
    Set(set::Action),
    /// Hold a component up and let one action go at a time.
    Step(step::Options),
    /// Set and remove taints of nodes.
    Taint(taint::Options),
    /// Let new Pods onto a node again.
    Uncordon(cordon::Options),
    /// Print the versions of skiffctl and the server.
    Version,
    /// Wait until something is so.
    Wait(wait::Options),
    /// Show why an object is as it is: from the act that began it, write by write.
    Why(why::Options),
    /// Show what each scheduler plugin says about a Pod on a node.
    WhyNot(why_not::Options),
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
    let verb = match cli.verb {
        Command::Here(Here::Completion(options)) => return completion::run(options, Cli::command()),
        Command::Here(Here::Config(action)) => return config::run(&cli.global, action),
        Command::There(verb) => verb,
    };
    let session = Session::open(&cli.global)?;
    match act(&session, verb).await {
        Err(error) => Err(advice::with_advice(&session, error).await),
        done => done,
    }
}

/// The future of one verb, made where it lies: those of all verbs beside one another would be too much for a stack.
fn on_heap<'s, F>(make: impl FnOnce() -> F) -> Pin<Box<dyn Future<Output = anyhow::Result<ExitCode>> + 's>>
where
    F: Future<Output = anyhow::Result<ExitCode>> + 's,
{
    Box::pin(make())
}

async fn act(session: &Session, verb: Verb) -> anyhow::Result<ExitCode> {
    use label::Map;
    match verb {
        Verb::Annotate(options) => on_heap(|| label::run(session, Map::Annotations, options)).await,
        Verb::ApiResources(options) => on_heap(|| api_resources::run(session, options)).await,
        Verb::Apply(options) => on_heap(|| apply::run(session, options)).await,
        Verb::Attach(options) => on_heap(|| attach::run(session, options)).await,
        Verb::Auth(action) => on_heap(|| auth::run(session, action)).await,
        Verb::ClusterInfo => on_heap(|| cluster_info::run(session)).await,
        Verb::Cordon(options) => on_heap(|| cordon::run(session, options, true)).await,
        Verb::Cp(options) => on_heap(|| cp::run(session, options)).await,
        Verb::Create(options) => on_heap(|| create::run(session, options)).await,
        Verb::Debug(options) => on_heap(|| debug::run(session, options)).await,
        Verb::Delete(options) => on_heap(|| delete::run(session, options)).await,
        Verb::Describe(options) => on_heap(|| describe::run(session, options)).await,
        Verb::Diff(options) => on_heap(|| diff::run(session, options)).await,
        Verb::Drain(options) => on_heap(|| drain::run(session, options)).await,
        Verb::Edit(options) => on_heap(|| edit::run(session, options)).await,
        Verb::Events(options) => on_heap(|| events::run(session, options)).await,
        Verb::Exec(options) => on_heap(|| exec::run(session, options)).await,
        Verb::Explain(options) => on_heap(|| explain::run(session, options)).await,
        Verb::Expose(options) => on_heap(|| expose::run(session, options)).await,
        Verb::Get(options) => on_heap(|| get::run(session, options)).await,
        Verb::History(options) => on_heap(|| history::run(session, options)).await,
        Verb::Label(options) => on_heap(|| label::run(session, Map::Labels, options)).await,
        Verb::Lag(options) => on_heap(|| lag::run(session, options)).await,
        Verb::Logs(options) => on_heap(|| logs::run(session, options)).await,
        Verb::Patch(options) => on_heap(|| patch::run(session, options)).await,
        Verb::PortForward(options) => on_heap(|| port_forward::run(session, options)).await,
        Verb::Replace(options) => on_heap(|| replace::run(session, options)).await,
        Verb::Rollout(action) => on_heap(|| rollout::run(session, action)).await,
        Verb::Run(options) => on_heap(|| run::run(session, options)).await,
        Verb::Scale(options) => on_heap(|| scale::run(session, options)).await,
        Verb::Set(action) => on_heap(|| set::run(session, action)).await,
        Verb::Step(options) => on_heap(|| step::run(session, options)).await,
        Verb::Taint(options) => on_heap(|| taint::run(session, options)).await,
        Verb::Uncordon(options) => on_heap(|| cordon::run(session, options, false)).await,
        Verb::Version => on_heap(|| version::run(session)).await,
        Verb::Wait(options) => on_heap(|| wait::run(session, options)).await,
        Verb::Why(options) => on_heap(|| why::run(session, options)).await,
        Verb::WhyNot(options) => on_heap(|| why_not::run(session, options)).await,
    }
}

/// `skiffctl get pods | head -1` ends when head does; that is no error.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests;
