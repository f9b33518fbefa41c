//! Topic `results` into rows: each record's effects are committed with its offset.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use paddock_events::{ResultMessage, Topic, decode};
use paddock_service::kafka::{Bus, Consumed, GroupConsumer, Step};
use tokio_util::sync::CancellationToken;

use crate::metrics::SettlementMetrics;
use crate::store::Store;

/// Between two tries after a failure.
const RETRY: Duration = Duration::from_millis(200);

/// Takes in results until told to end.
pub(super) async fn consume(
    bus: Bus,
    store: Store,
    metrics: SettlementMetrics,
    end: CancellationToken,
) -> anyhow::Result<()> {
    while !end.is_cancelled() {
        let read = tokio::select! {
            read = read(&bus, &store, &metrics) => read,
            () = end.cancelled() => return Ok(()),
        };
        if let Err(error) = read {
            tracing::warn!(error = format!("{error:#}"), "results are read anew");
        }
        tokio::time::sleep(RETRY).await;
    }
    Ok(())
}

/// Reads until something fails; then a new member of the group starts at the stored offsets.
async fn read(bus: &Bus, store: &Store, metrics: &SettlementMetrics) -> anyhow::Result<()> {
    let group = bus.group("settlement", &[Topic::Results])?;
    let mut assigned = group.assigned();
    let mut positions: HashMap<i32, i64> = HashMap::new();
    loop {
        let step = group.step().await?;
        if assigned.has_changed()? {
            assigned.mark_unchanged();
            positions.clear();
        }
        let record = match step {
            Step::Record(record) => record,
            Step::End(partition) => {
                // Nothing is left from the group's offset on; ours may stand before it, after a restore.
                if let Entry::Vacant(place) = positions.entry(partition) {
                    let position = *place.insert(store.next_result(Topic::Results.name(), partition).await?);
                    group.seek(Topic::Results, partition, position)?;
                }
                continue;
            }
        };
        let partition = record.partition;
        let position = if let Some(position) = positions.get(&partition) {
            *position
        } else {
            let position = store.next_result(Topic::Results.name(), partition).await?;
            positions.insert(partition, position);
            // The group may stand behind or before the stored offset, which alone is true.
            if position != record.offset {
                group.seek(Topic::Results, partition, position)?;
                continue;
            }
            position
        };
        if record.offset < position {
            // Sought for and not there: the topic ends before what was taken in of it, so it was made anew, or its end was lost. Results
            // are known by their ids: taking in again what is known changes nothing, and nothing that is new is missed.
            tracing::error!(partition, stored = position, found = record.offset, "topic results begins anew");
        }
        take_in(store, metrics, &group, &record, position).await?;
        positions.insert(partition, record.offset + 1);
        metrics.results.inc();
    }
}

async fn take_in(
    store: &Store,
    metrics: &SettlementMetrics,
    group: &GroupConsumer,
    record: &Consumed,
    position: i64,
) -> anyhow::Result<()> {
    let mut is_readable = true;
    let envelope = match record.value.as_deref().map(decode::<ResultMessage>) {
        Some(Ok(envelope)) => envelope,
        Some(Err(error)) => {
            is_readable = false;
            tracing::error!(key = record.key, %error, "a result is skipped; mend its writer and let it write anew");
            None
        }
        // A line that is long gone.
        None => None,
    };
    let result = envelope.as_ref().map(|envelope| {
        let ResultMessage::LineResult(result) = &envelope.body;
        (envelope.id, result)
    });
    let place = (Topic::Results.name(), record.partition, position, record.offset);
    anyhow::ensure!(store.take_in(place, result).await?, "another reader has partition {}", record.partition);
    metrics.skipped.inc_by(u64::from(!is_readable));
    // The effects are committed: that the group cannot be told, because it is being arranged anew, is no failure.
    if let Err(error) = group.done(Topic::Results, record.partition, record.offset) {
        tracing::debug!(partition = record.partition, %error, "the group is not told of an offset");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use paddock_events::{Envelope, LineKey, Origin};
    use paddock_odds::Specifiers;
    use paddock_service::kafka::Record;
    use rdkafka::mocking::MockCluster;

    use super::*;
    use crate::testing_world::{World, result};

    fn bus(folder: &Path, servers: &str) -> Bus {
        paddock_test_bus::bind(folder, servers, "t.", r#"{"results":"results"}"#).unwrap()
    }

    fn records(events: std::ops::Range<u32>) -> Vec<Record> {
        let origin = Origin { tenant: "acme".to_owned(), environment: "test".to_owned() };
        events
            .map(|number| {
                let line = LineKey::new(format!("sim:match:{number}"), 1, Specifiers::none());
                let (_, result) = result(&line, 1, Some(true), false);
                Record::of(&Envelope::now(&origin, ResultMessage::LineResult(result))).unwrap()
            })
            .collect()
    }

    async fn until_known(world: &World, lines: i64) {
        let started = Instant::now();
        loop {
            let known: i64 = sqlx::query_scalar("SELECT count(DISTINCT line_key) FROM result_message")
                .fetch_one(&world.pool)
                .await
                .unwrap();
            if known == lines {
                return;
            }
            assert!(known < lines && started.elapsed().as_secs() < 60, "{known} of {lines} lines have a result");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Members of the group read until so many lines have a result and so many records in all were taken in.
    async fn run_until_known(
        world: &World,
        bus: &Bus,
        metrics: &SettlementMetrics,
        members: usize,
        (lines, records): (i64, u64),
    ) {
        let end = CancellationToken::new();
        let readers: Vec<_> = (0..members)
            .map(|_| {
                let store = world.payer.store.clone();
                tokio::spawn(consume(bus.clone(), store, metrics.clone(), end.clone()))
            })
            .collect();
        until_known(world, lines).await;
        let started = Instant::now();
        while metrics.results.get() < records {
            let taken = metrics.results.get();
            assert!(started.elapsed().as_secs() < 60, "{taken} of {records} records are taken in");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        end.cancel();
        for reader in readers {
            reader.await.unwrap().unwrap();
        }
    }

    async fn say(bus: &Bus, records: &[Record]) {
        let mut producer = bus.fenced_producer("rates").unwrap();
        producer.take_over().await.unwrap();
        producer.publish(records).await.unwrap();
    }

    /// Poison stops nobody and is counted, members share the partitions, and the stored offset rules, wherever the group stands and
    /// whatever became of the topic.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_result_is_missed() {
        let world = World::start("100000.00", 0).await;
        let metrics = SettlementMetrics::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let made = |events| {
            let cluster = MockCluster::new(1).unwrap();
            cluster.create_topic("results", 2, 1).unwrap();
            let bus = bus(folder.path(), &cluster.bootstrap_servers());
            let mut all = records(events);
            all.insert(4, Record { value: Some(b"nonsense".to_vec()), ..all[3].clone() });
            (cluster, bus, all)
        };
        let (_cluster, bus, all) = made(0..40);
        say(&bus, &all).await;
        run_until_known(&world, &bus, &metrics, 2, (40, 41)).await;
        // The database comes back from yesterday's backup; the group's offsets are of today, and nothing new is said.
        sqlx::raw_sql("DELETE FROM result_message; UPDATE consumer_offset SET next_offset = 0")
            .execute(&world.pool)
            .await
            .unwrap();
        run_until_known(&world, &bus, &metrics, 1, (40, 82)).await;
        // The topic is made anew and shorter.
        let (_cluster, bus, all) = made(40..50);
        say(&bus, &all).await;
        run_until_known(&world, &bus, &metrics, 1, (50, 93)).await;
        assert_eq!((metrics.skipped.get(), metrics.results.get()), (3, 93), "each record once");
        let twice: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM (SELECT FROM result_message GROUP BY line_key HAVING count(*) > 1) repeated",
        )
        .fetch_one(&world.pool)
        .await
        .unwrap();
        assert_eq!(twice, 0);
    }
}
