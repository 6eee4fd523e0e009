//! Structured logs to standard error: the level from SKIFF_LOG (`info` when unset, `debug`,
//! `skiff_kubelet=debug,info`, ...), as text for people (colours only on a terminal) or as JSON, a line each.
//!
//! What a controller does stands in the span `reconcile` with `controller`, `key` and `id`: of the same id are all lines
//! of one look at one key, and the cause of each write that it made.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// What log lines look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: an object a line, with `timestamp`, `level`, `target`, `fields`, `span` and `spans`.
    Json,
}

/// The environment variable that says the format; a process hands it on to those that it starts.
pub const FORMAT: &str = "SKIFF_LOG_FORMAT";

impl LogFormat {
    /// As it is spelt on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

/// Sets the process's logging up; called once, first thing.
pub fn init(format: LogFormat) {
    let filter = EnvFilter::try_from_env("SKIFF_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let set = tracing::subscriber::set_global_default(subscriber(format, filter, colours, std::io::stderr));
    set.expect("logging is set up once");
}

fn subscriber<W>(format: LogFormat, filter: EnvFilter, colours: bool, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colours);
    match format {
        LogFormat::Text => Box::new(lines.finish()),
        LogFormat::Json => Box::new(lines.json().finish()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_client::driver::{self, Gate, Plan, Reconciler};
    use skiff_client::{ActError, Trigger, WorkQueue};
    use skiff_world::World;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;
    use tracing::Instrument;

    /// What was logged.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Says something at each place where a reconciler can.
    struct Talker(World);

    impl Reconciler for Talker {
        type Key = String;
        type Observed = ();
        type Action = String;
        const NAME: &'static str = "talker";

        fn observe(&self, _: &String) -> Option<()> {
            tracing::warn!("observing");
            Some(())
        }

        fn plan(&self, (): &(), _: jiff::Timestamp) -> Plan<String> {
            let mut plan = Plan::nothing();
            plan.step("talk".to_string(), "it is asked to");
            plan
        }

        async fn act(&self, _: &String, _: &String) -> Result<(), ActError> {
            self.0.sleep(Duration::from_secs(1)).await;
            tracing::warn!("acting");
            let later = async { tracing::warn!("in the background") };
            self.0.spawn("later", later.in_current_span()).join().await;
            Err(ActError::failed("no"))
        }
    }

    /// Runs one reconcile, and gives what it logged.
    async fn logged(format: LogFormat, level: &str) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, EnvFilter::new(level), false, move || writer.clone());
        let _set = tracing::subscriber::set_default(subscriber);
        let world = World::real("test");
        let queue = WorkQueue::new(&world, "talker");
        queue.add("default/web".to_string(), Trigger::Start("test".into()));
        let run = driver::run(world.clone(), Arc::new(Talker(world.clone())), queue, Gate::new("talker"), 1);
        // The first retry comes 5 ms after the failure.
        let _ = tokio::time::timeout(Duration::from_millis(1002), run).await;
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn every_line_of_a_reconcile_carries_its_id() {
        // Also where only warnings are let through.
        for level in ["info", "warn"] {
            let text = logged(LogFormat::Json, level).await;
            let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let said: Vec<_> = lines.iter().map(|line| line["fields"]["message"].as_str().unwrap()).collect();
            assert_eq!(said, ["observing", "acting", "in the background", "failed; trying again"], "{text}");
            let ids: Vec<_> = lines.iter().map(|line| line["span"]["id"].as_str().unwrap_or_default()).collect();
            assert!(ids[0].len() == 10 && ids.iter().all(|id| *id == ids[0]), "{text}");
            assert!(lines.iter().all(|line| line["span"]["controller"] == "talker"), "{text}");
            assert!(lines.iter().all(|line| line["span"]["key"] == "default/web"), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn text_has_it_too() {
        let text = logged(LogFormat::Text, "info").await;
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(
            text.lines().all(|line| line.contains("reconcile{controller=\"talker\" key=default/web id=")),
            "{text}"
        );
    }
}
