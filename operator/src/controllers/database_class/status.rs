//! The status of a class: which of its servers answer.

use super::Checked;
use crate::database::DatabaseError;
use crate::kube::Conditions;
use paddock_crds::condition::{READY, RECONCILING, STALLED};
use paddock_crds::v1alpha1::{DatabaseClass, DatabaseClassStatus, ServerStatus};

/// What the class's status should be. Pure.
pub(super) fn status(class: &DatabaseClass, checked: &[Checked], shared_with: Option<&str>) -> DatabaseClassStatus {
    let old = class.status.clone().unwrap_or_default();
    let conditions = Conditions::from(&old.conditions, class.metadata.generation);
    let first = checked.iter().find_map(|server| server.result.as_ref().err());
    let conditions = if let Some(other) = shared_with {
        let message = format!(
            "DatabaseClass {other} of the other environment class names a server of this one: give each its own server"
        );
        let reason = "ServerOfOtherEnvironmentClass";
        conditions.set(READY, false, reason, &message).set(STALLED, true, reason, &message)
    } else if let Some(error) = first {
        let progress = if error.needs_a_person() { STALLED } else { RECONCILING };
        let message = messages(checked);
        conditions.set(READY, false, error.reason(), &message).set(progress, true, error.reason(), &message)
    } else {
        conditions.set(READY, true, "ServersReachable", "every server lets the administrator in")
    };
    DatabaseClassStatus {
        observed_generation: class.metadata.generation,
        servers: checked.iter().map(|server| server_status(server, &old)).collect(),
        conditions: conditions.build(),
    }
}

fn server_status(server: &Checked, old: &DatabaseClassStatus) -> ServerStatus {
    let before = old.servers.iter().find(|status| status.name == server.name);
    ServerStatus {
        name: server.name.clone(),
        reachable: server.result.is_ok(),
        // What they were when it last answered.
        version: match &server.result {
            Ok(facts) => facts.version.clone(),
            Err(_) => before.and_then(|status| status.version.clone()),
        },
        epoch: match &server.result {
            Ok(facts) => facts.epoch,
            Err(_) => before.and_then(|status| status.epoch),
        },
    }
}

fn messages(checked: &[Checked]) -> String {
    let errors: Vec<String> =
        checked.iter().filter_map(|server| server.result.as_ref().err()).map(DatabaseError::to_string).collect();
    errors.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::ServerFacts;
    use serde_json::json;

    fn class() -> DatabaseClass {
        serde_json::from_value(json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClass",
            "metadata": {"name": "pg", "generation": 3},
            "spec": {"engine": "PostgreSQL", "environmentClass": "Production", "servers": []},
            "status": {"servers": [{"name": "a", "reachable": true, "version": "15.1", "epoch": 4}]}}))
        .unwrap()
    }

    fn ready(status: &DatabaseClassStatus) -> (String, String) {
        let ready = status.conditions.iter().find(|condition| condition.type_ == READY).unwrap();
        (ready.status.clone(), ready.reason.clone())
    }

    fn down() -> Result<ServerFacts, DatabaseError> {
        Err(DatabaseError::Unreachable { server: "a".into(), address: "a:1".into(), cause: "refused".into() })
    }

    #[test]
    fn a_server_that_is_down_makes_the_class_unready_and_keeps_its_version_and_epoch() {
        let found = status(&class(), &[Checked { name: "a".into(), result: down() }], None);
        assert_eq!(ready(&found), ("False".into(), "ServerUnreachable".into()));
        assert_eq!((found.servers[0].version.as_deref(), found.servers[0].epoch), (Some("15.1"), Some(4)));
        assert!(!found.servers[0].reachable);
        assert!(found.conditions.iter().any(|condition| condition.type_ == RECONCILING), "nobody need do anything");
    }

    #[test]
    fn wrong_credentials_wait_for_a_person() {
        let refused = DatabaseError::CredentialsRefused { server: "a".into(), secret: "admin".into() };
        let found = status(&class(), &[Checked { name: "a".into(), result: Err(refused) }], None);
        assert_eq!(ready(&found), ("False".into(), "CredentialsRefused".into()));
        assert!(
            found.conditions.iter().any(|condition| condition.type_ == STALLED && condition.message.contains("admin"))
        );
    }

    #[test]
    fn servers_that_answer_make_it_ready() {
        let facts = ServerFacts { version: Some("15.9".into()), epoch: Some(5) };
        let found = status(&class(), &[Checked { name: "a".into(), result: Ok(facts) }], None);
        assert_eq!(ready(&found), ("True".into(), "ServersReachable".into()));
        assert_eq!((found.conditions.len(), found.servers[0].version.as_deref()), (1, Some("15.9")));
        assert_eq!(found.servers[0].epoch, Some(5));
    }

    #[test]
    fn production_and_test_never_share_a_server() {
        let found = status(&class(), &[Checked { name: "a".into(), result: down() }], Some("pg-dev"));
        assert_eq!(ready(&found), ("False".into(), "ServerOfOtherEnvironmentClass".into()));
    }
}
