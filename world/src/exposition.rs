//! Measurements as Prometheus reads them: its text format, sorted, so that one state is one text.
//!
//! prometheus-client writes OpenMetrics. That differs in little: counters are named without `_total` in their description,
//! and there is an end mark. Every scraper and `promtool check metrics` read the older text format, so that is what is
//! served. Lines of a family are put in order: the client library keeps them in hash order.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::World;

/// The content type of [`text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All measurements of a registry.
pub fn text(registry: &Registry) -> String {
    let mut open = String::new();
    // Writing into a String does not fail.
    let _ = encode(&mut open, registry);
    plain(&open)
}

/// Adds what Prometheus' client libraries tell of every process, under their names; nothing in simulation.
pub fn register_process(registry: &mut Registry, world: &World) {
    registry.register_collector(Box::new(Process(world.clone())));
}

/// OpenMetrics as Prometheus' text format, each family's samples in order.
fn plain(open: &str) -> String {
    let mut out = String::with_capacity(open.len());
    let mut help = "";
    let mut samples: Vec<(String, &str)> = Vec::new();
    for line in open.lines() {
        if let Some(words) = line.strip_prefix("# HELP ") {
            put_sorted(&mut out, &mut samples);
            help = words;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|words| words.split_once(' ')) {
            let about = help.split_once(' ').map_or("", |(_, about)| about);
            let suffix = if kind == "counter" { "_total" } else { "" };
            out.push_str(&format!("# HELP {name}{suffix} {about}\n# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            samples.push((series(line), line));
        }
    }
    put_sorted(&mut out, &mut samples);
    out
}

fn put_sorted(out: &mut String, samples: &mut Vec<(String, &str)>) {
    // Stable: a histogram's lines stay as they come.
    samples.sort_by(|a, b| a.0.cmp(&b.0));
    for (_, line) in samples.drain(..) {
        out.push_str(line);
        out.push('\n');
    }
}

/// The labels of a sample without the bucket's bound.
fn series(line: &str) -> String {
    let labels = line.find('{').and_then(|from| Some(&line[from + 1..line.rfind('}')?])).unwrap_or_default();
    match labels.strip_prefix("le=\"") {
        Some(rest) => rest.split_once('"').map_or("", |(_, rest)| rest).trim_start_matches(',').to_owned(),
        None => labels.find(",le=\"").map_or(labels, |at| &labels[..at]).to_owned(),
    }
}

#[derive(Debug)]
struct Process(World);

impl Collector for Process {
    fn encode(&self, mut to: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Some(stats) = self.0.process() else { return Ok(()) };
        let cpu = ConstCounter::new(stats.cpu_seconds);
        let about = "Total user and system CPU time spent in seconds";
        cpu.encode(to.encode_descriptor("process_cpu_seconds", about, None, MetricType::Counter)?)?;
        for (name, about, value) in [
            ("process_start_time_seconds", "Start time of the process since unix epoch in seconds", stats.started),
            ("process_resident_memory_bytes", "Resident memory size in bytes", stats.resident_bytes as f64),
            ("process_virtual_memory_bytes", "Virtual memory size in bytes", stats.virtual_bytes as f64),
            ("process_open_fds", "Number of open file descriptors", stats.open_files as f64),
            ("process_max_fds", "Maximum number of open file descriptors", stats.most_files as f64),
            ("process_threads", "Number of OS threads in the process", stats.threads as f64),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(to.encode_descriptor(name, about, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::histogram::Histogram;

    #[test]
    fn counters_carry_total_and_series_are_in_order() {
        let mut registry = Registry::default();
        let counts = Family::<Vec<(&str, &str)>, Counter>::default();
        registry.register("requests", "Requests", counts.clone());
        let times = Family::<Vec<(&str, &str)>, Histogram>::new_with_constructor(|| Histogram::new([0.5]));
        registry.register("took_seconds", "How long", times.clone());
        for verb in ["c", "a", "d", "b"] {
            counts.get_or_create(&vec![("verb", verb)]).inc();
        }
        for verb in ["b", "a"] {
            times.get_or_create(&vec![("verb", verb)]).observe(0.25);
        }
        let expected = "\
# HELP requests_total Requests.
# TYPE requests_total counter
requests_total{verb=\"a\"} 1
requests_total{verb=\"b\"} 1
requests_total{verb=\"c\"} 1
requests_total{verb=\"d\"} 1
# HELP took_seconds How long.
# TYPE took_seconds histogram
took_seconds_sum{verb=\"a\"} 0.25
took_seconds_count{verb=\"a\"} 1
took_seconds_bucket{le=\"0.5\",verb=\"a\"} 1
took_seconds_bucket{le=\"+Inf\",verb=\"a\"} 1
took_seconds_sum{verb=\"b\"} 0.25
took_seconds_count{verb=\"b\"} 1
took_seconds_bucket{le=\"0.5\",verb=\"b\"} 1
took_seconds_bucket{le=\"+Inf\",verb=\"b\"} 1
";
        assert_eq!(text(&registry), expected);
    }

    #[test]
    fn a_real_process_is_told_of_and_a_simulated_one_is_not() {
        let mut registry = Registry::default();
        register_process(&mut registry, &World::real("test"));
        let told = text(&registry);
        assert!(told.contains("# TYPE process_cpu_seconds_total counter\n"), "{told}");
        assert!(told.contains("\nprocess_resident_memory_bytes "), "{told}");
        crate::sim::Simulation::new(1).run(|sim| async move {
            let mut registry = Registry::default();
            register_process(&mut registry, &sim.machine("m").world("w", None));
            assert_eq!(text(&registry), "");
        });
    }
}
