//! The committed schemas say what the code does, and records survive writers that know more.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use paddock_events::{
    BetStop, Body, Envelope, FeedHead, FeedMessage, MarketStatus, Origin, ResultMessage, TicketMessage, decode, schemas,
};

#[test]
fn committed_schemas_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    for (topic, schema) in schemas() {
        let path = folder.join(format!("{topic}.json"));
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == serde_json::to_string_pretty(&schema).unwrap() + "\n",
            "{} differs: check that the change only adds, then run `cargo xtask generate`",
            path.display()
        );
    }
}

fn stop() -> Envelope<FeedMessage> {
    let origin = Origin { tenant: "platform".to_owned(), environment: "demo".to_owned() };
    Envelope::now(
        &origin,
        FeedMessage::BetStop(BetStop {
            head: FeedHead {
                product: 1,
                event_id: "sim:match:7".to_owned(),
                timestamp: 1_700_000_000_000,
                request_id: None,
            },
            groups: vec!["all".to_owned()],
            market_status: MarketStatus::Suspended,
        }),
    )
}

#[test]
fn the_envelope_has_the_documented_shape() {
    let value: serde_json::Value = serde_json::from_slice(&stop().to_json().unwrap()).unwrap();
    for field in ["id", "type", "version", "occurredAt", "tenant", "environment", "payload"] {
        assert!(value.get(field).is_some(), "{field}");
    }
    assert_eq!(value["type"], "bet_stop");
    assert_eq!(value["payload"]["eventId"], "sim:match:7");
}

#[test]
fn records_round_trip_and_unknown_fields_and_types_are_skipped() {
    let sent = stop();
    let mut value: serde_json::Value = serde_json::from_slice(&sent.to_json().unwrap()).unwrap();
    value["added"] = 1.into();
    value["payload"]["added"] = 1.into();
    let read = decode::<FeedMessage>(&serde_json::to_vec(&value).unwrap()).unwrap().unwrap();
    assert_eq!(read, sent);
    value["type"] = "weather_report".into();
    assert!(decode::<FeedMessage>(&serde_json::to_vec(&value).unwrap()).unwrap().is_none());
    assert!(decode::<FeedMessage>(b"{}").is_err());
}

#[test]
fn a_type_is_known_by_its_serialised_name() {
    assert!(FeedMessage::TYPES.contains(&"odds_change"));
    assert!(ResultMessage::TYPES.contains(&"line_result"));
    assert!(TicketMessage::TYPES.contains(&"ticket_settled"));
}
