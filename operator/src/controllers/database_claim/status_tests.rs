use super::*;
use serde_json::{Value, json};
use std::time::Duration;

fn claim(status: Value) -> DatabaseClaim {
    serde_json::from_value(json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClaim",
        "metadata": {"name": "db", "namespace": "acme-prod", "generation": 2},
        "spec": {"engine": "PostgreSQL", "className": "pg", "roles": [{"name": "app", "access": "ReadWrite"}]}, "status": status}))
    .unwrap()
}

fn identity() -> Identity {
    Identity::new("acme", "prod", "db")
}

fn bound(claim: &DatabaseClaim, observed: &Observed) -> DatabaseClaimStatus {
    status(claim, &Found::default(), &Progress::Bound { server: "a", identity: &identity(), observed })
}

fn brief(status: &DatabaseClaimStatus) -> Vec<String> {
    status.conditions.iter().map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect()
}

fn with(old: DatabaseClaimStatus) -> DatabaseClaim {
    claim(serde_json::to_value(old).unwrap())
}

fn fault(reason: &'static str, stalled: bool) -> Problem {
    Problem { reason, message: "because: do".into(), stalled, again: Some(Duration::from_secs(1)) }
}

#[test]
fn a_bound_claim_tells_where_it_is() {
    let status = bound(&claim(Value::Null), &Observed::default());
    assert_eq!(
        brief(&status),
        [
            "Bound=True/Bound",
            "DriftFree=True/NoDrift",
            "OwnershipConflict=False/Ours",
            "Ready=True/Bound",
            "Unused=True/NobodyNeedsIt"
        ]
    );
    assert_eq!((status.server.as_deref(), status.binding.unwrap().name), (Some("a"), "db-app".to_owned()));
    assert_eq!(status.database, Some(identity().database()));
}

#[test]
fn a_repair_stays_to_be_read() {
    let repaired = bound(&claim(Value::Null), &Observed { repaired: vec!["settings".into()], ..Observed::default() });
    let stored = with(repaired.clone());
    let later = bound(&stored, &Observed::default());
    assert_eq!(Some(&later), stored.status.as_ref(), "the next look writes nothing");
    let events: Vec<_> = news(&[], &repaired.conditions).iter().map(|c| c.reason.clone()).collect();
    assert_eq!(events, ["Repaired", "Bound"]);
    assert!(news(&repaired.conditions, &later.conditions).is_empty());
}

#[test]
fn drift_that_nobody_could_repair_makes_it_unready() {
    let status =
        bound(&claim(Value::Null), &Observed { unrepaired: vec!["role attributes".into()], ..Observed::default() });
    assert!(brief(&status).contains(&"DriftFree=False/NotRepairable".to_owned()), "{:?}", brief(&status));
    assert!(brief(&status).contains(&"Ready=False/DriftNotRepairable".to_owned()));
    assert!(brief(&status).contains(&"Stalled=True/DriftNotRepairable".to_owned()), "a person has to do it");
    let mended = bound(&with(status), &Observed::default());
    assert!(!brief(&mended).iter().any(|condition| condition.starts_with("Stalled")));
}

#[test]
fn pods_keep_their_binding_while_a_server_is_away() {
    let before = bound(&claim(Value::Null), &Observed::default());
    let found = Found::default();
    let away = status(&with(before.clone()), &found, &Progress::Problem(&fault("ServerUnreachable", false)));
    let all = brief(&away);
    assert!(all.contains(&"Bound=True/Bound".to_owned()), "{all:?}");
    assert!(
        all.contains(&"Ready=False/ServerUnreachable".to_owned())
            && all.contains(&"Reconciling=True/ServerUnreachable".to_owned())
    );
    let back = bound(&with(away), &Observed::default());
    assert_eq!(brief(&back), brief(&before));

    let never = status(&claim(Value::Null), &found, &Progress::Problem(&fault("ServerUnreachable", false)));
    assert!(brief(&never).contains(&"Bound=False/ServerUnreachable".to_owned()));
}

#[test]
fn a_conflict_is_told_and_ends() {
    let before = bound(&claim(Value::Null), &Observed::default());
    let conflict = status(&with(before), &Found::default(), &Progress::Problem(&fault("OwnershipConflict", true)));
    let all = brief(&conflict);
    assert!(all.contains(&"OwnershipConflict=True/OwnershipConflict".to_owned()), "{all:?}");
    assert!(
        all.contains(&"Bound=False/OwnershipConflict".to_owned())
            && all.contains(&"Stalled=True/OwnershipConflict".to_owned())
    );
    assert!(brief(&bound(&with(conflict), &Observed::default())).contains(&"OwnershipConflict=False/Ours".to_owned()));
}

#[test]
fn the_server_is_named_before_anything_is_made_there() {
    let chosen =
        status(&claim(Value::Null), &Found::default(), &Progress::Chosen { server: "a", identity: &identity() });
    assert_eq!(chosen.server.as_deref(), Some("a"));
    assert!(brief(&chosen).contains(&"Reconciling=True/Provisioning".to_owned()));
    assert!(news(&[], &chosen.conditions).is_empty(), "being made is no event");
}
