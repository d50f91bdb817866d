//! The counters of a server at a moment, as metrics with names and labels. The only place that knows Prometheus.

use super::OUTCOMES;
use crate::{gate::Gate, outbox, refusal::Reason};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};
use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};
use sys_store::{StoreError, engine::redb::EngineStats, histogram::Observations};

const MICROS_PER_SECOND: f64 = 1_000_000.0;

/// Looks at a server whenever somebody asks. Its clones look at the same one.
#[derive(Debug, Clone)]
pub struct Observer(pub(crate) Arc<Gate>);

impl Observer {
    /// How it stands now.
    pub async fn look(&self) -> Result<Observed, StoreError> {
        let gate = self.0.clone();
        let outbox_waiting = outbox::waiting(&gate.store, gate.clock.now()).await?;
        let engine = gate.store.engine_stats()?;
        Ok(Observed { gate, outbox_waiting, engine })
    }
}

/// What a server has counted so far, and how it stands. Each metric is described in `docs/operating.md`.
pub struct Observed {
    gate: Arc<Gate>,
    outbox_waiting: u64,
    engine: Option<EngineStats>,
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed").field("outbox_waiting", &self.outbox_waiting).finish_non_exhaustive()
    }
}

impl Collector for Observed {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        self.calls(&mut families)?;
        self.totals(&mut families)?;
        self.engine.iter().try_for_each(|engine| store(engine, &mut families))
    }
}

impl Observed {
    fn calls(&self, families: &mut Families<'_>) -> fmt::Result {
        let methods = self.gate.host.methods();
        let mut ended =
            families.of("sys_calls", "Calls that were let in, by what they came to", MetricType::Counter)?;
        for method in &methods {
            for (count, (_, code)) in method.calls.ended.iter().zip(OUTCOMES) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    counter(&mut ended, &[("method", method.path()), ("code", code)], count)?;
                }
            }
        }
        let help = "Time from the head of a request to the beginning of its answer";
        let mut seconds = families.of("sys_call_seconds", help, MetricType::Histogram)?;
        for method in &methods {
            let observations = method.calls.micros.observations();
            if observations.count() > 0 {
                histogram(&mut seconds.encode_family(&[("method", method.path())])?, &observations, MICROS_PER_SECOND)?;
            }
        }
        let mut under_way = families.of("sys_calls_in_flight", "Calls without an answer yet", MetricType::Gauge)?;
        for method in &methods {
            // In this order: a call that begins meanwhile is not counted as one that ended before it began.
            let ended = method.calls.ended.iter().map(|count| count.load(Ordering::Acquire)).sum::<u64>();
            let in_flight = method.calls.begun.load(Ordering::Acquire).saturating_sub(ended);
            if in_flight > 0 {
                under_way.encode_family(&[("method", method.path())])?.encode_gauge(&in_flight)?;
            }
        }
        Ok(())
    }

    fn totals(&self, families: &mut Families<'_>) -> fmt::Result {
        let totals = &self.gate.totals;
        let mut refused = families.of("sys_refusals", "Refusals by reason, of all calls", MetricType::Counter)?;
        for (reason, count) in Reason::ALL.iter().zip(&totals.refused) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                counter(&mut refused, &[("reason", reason.name())], count)?;
            }
        }
        let mut callers = families.of("sys_callers", "Access tokens that were looked up", MetricType::Counter)?;
        counter(&mut callers, &[("found", "cache")], totals.known_callers.load(Ordering::Relaxed))?;
        counter(&mut callers, &[("found", "store")], totals.loaded_callers.load(Ordering::Relaxed))?;
        let refusals = &self.gate.refusals;
        families.gauge("sys_audit_waiting", "Refusals that wait to be audited", refusals.waiting())?;
        let help = "Refusals that were audited as a number alone, since there were too many";
        let mut uncounted = families.of("sys_audit_counted_only", help, MetricType::Counter)?;
        counter(&mut uncounted, &[], refusals.counted_only())?;
        let open_streams = u64::try_from(self.gate.open_streams()).unwrap_or(u64::MAX);
        families.gauge("sys_streams_open", "Streams that are open", open_streams)?;
        let tracer = &self.gate.tracer;
        let mut spans =
            families.of("sys_trace_spans", "Spans of traces, by what became of them", MetricType::Counter)?;
        for (became, count) in tracer.counts() {
            counter(&mut spans, &[("became", became)], count)?;
        }
        let waiting = u64::try_from(tracer.waiting()).unwrap_or(u64::MAX);
        families.gauge("sys_traces_waiting", "Traces that wait to be sent", waiting)?;
        let help = "Mails that wait to be sent, as far as they are counted";
        families.gauge("sys_outbox_waiting", help, self.outbox_waiting)
    }
}

fn store(engine: &EngineStats, families: &mut Families<'_>) -> fmt::Result {
    let mut families_of = |name, help, observations: &Observations, unit| -> fmt::Result {
        histogram(&mut families.of(name, help, MetricType::Histogram)?, observations, unit)
    };
    let help = "Time of a commit of a batch, syncs included";
    families_of("sys_store_commit_seconds", help, &engine.commit_micros, MICROS_PER_SECOND)?;
    families_of(
        "sys_store_sync_seconds",
        "Time of a sync of the store's file",
        &engine.sync_micros,
        MICROS_PER_SECOND,
    )?;
    families_of("sys_store_batch_transactions", "Transactions in a commit", &engine.batch_transactions, 1.0)?;
    let help = "Attempts that lost against other commits; most of them then went well";
    let mut conflicts = families.of("sys_store_conflicts", help, MetricType::Counter)?;
    counter(&mut conflicts, &[], engine.conflicts)?;
    let help = "Keys that were looked up, and ranges that were read, by transactions that have ended";
    let mut reads = families.of("sys_store_reads", help, MetricType::Counter)?;
    counter(&mut reads, &[("of", "key")], engine.keys_read)?;
    counter(&mut reads, &[("of", "range")], engine.ranges_read)?;
    families.gauge("sys_store_rows", "Rows in the store: records, index entries, changes, leaves", engine.rows)
}

struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn of<'s>(&'s mut self, name: &'s str, help: &str, kind: MetricType) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.of(name, help, MetricType::Gauge)?.encode_gauge(&value)
    }
}

fn counter(family: &mut MetricEncoder<'_>, labels: &[(&str, &str)], value: u64) -> fmt::Result {
    if labels.is_empty() {
        return family.encode_counter::<NoLabelSet, _, u64>(&value, None);
    }
    family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

/// Writes a histogram whose values are whole parts of a unit: `parts` of them make one.
#[allow(clippy::cast_precision_loss, reason = "above 2^52 microseconds the last digits of a sum are of no account")]
fn histogram(family: &mut MetricEncoder<'_>, observations: &Observations, parts: f64) -> fmt::Result {
    let bounded = observations.within.iter().map(|(bound, count)| (*bound as f64 / parts, *count));
    let buckets: Vec<(f64, u64)> = bounded.chain([(f64::INFINITY, observations.above)]).collect();
    let sum = observations.sum as f64 / parts;
    family.encode_histogram::<NoLabelSet>(sum, observations.count(), &buckets, None)
}
