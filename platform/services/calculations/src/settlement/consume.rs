//! Topic `results` into rows: each record's effects are committed with its offset.

use std::collections::HashMap;
use std::time::Duration;

use paddock_events::{ResultMessage, Topic, decode};
use paddock_service::kafka::{Bus, Consumed, GroupConsumer};
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
        let record = group.next().await?;
        if assigned.has_changed()? {
            assigned.mark_unchanged();
            positions.clear();
        }
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
            continue;
        }
        take_in(store, &group, &record, position).await?;
        positions.insert(partition, record.offset + 1);
        metrics.results.inc();
    }
}

async fn take_in(store: &Store, group: &GroupConsumer, record: &Consumed, position: i64) -> anyhow::Result<()> {
    let envelope = match record.value.as_deref().map(decode::<ResultMessage>) {
        Some(Ok(envelope)) => envelope,
        Some(Err(error)) => {
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
    group.done(Topic::Results, record.partition, record.offset)?;
    Ok(())
}
