use super::*;
use crate::database::{Identity, Limits};
use paddock_crds::v1alpha1::DatabaseClass;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

fn claim(spec: Value) -> DatabaseClaim {
    serde_json::from_value(json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClaim",
        "metadata": {"name": "account-db", "namespace": "acme-prod", "uid": "u"}, "spec": spec}))
    .unwrap()
}

fn wanted() -> Wanted {
    let class: DatabaseClass =
        serde_json::from_value(json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClass",
        "metadata": {"name": "pg"}, "spec": {"engine": "PostgreSQL", "environmentClass": "Production", "servers": []}}))
        .unwrap();
    let limits = Limits { statement: Duration::ZERO, idle_in_transaction: Duration::ZERO, connections: 1 };
    let topics =
        BTreeMap::from([("offer".to_owned(), "t.x.offer".to_owned()), ("feed".to_owned(), "paddock.feed".to_owned())]);
    Wanted {
        identity: Identity::new("acme", "prod", "account-db"),
        class: Arc::new(class),
        limits,
        topics: Vec::new(),
        topic_names: BTreeMap::from([("app".to_owned(), topics)]),
    }
}

fn address() -> Address {
    Address { host: "pg.db.svc".into(), port: 5432, ca: "PEM".into() }
}

fn postgres() -> DatabaseClaim {
    claim(json!({"engine": "PostgreSQL", "className": "pg",
        "roles": [{"name": "migrate", "access": "Migrate"}, {"name": "app", "access": "ReadWrite"}]}))
}

/// As the apiserver would hand back what was built.
fn live(secrets: &[Secret]) -> BTreeMap<String, Live> {
    let role = |secret: &Secret| secret.name_any().trim_start_matches("account-db-").to_owned();
    secrets.iter().map(|secret| (role(secret), Live::Ours(Box::new(secret.clone())))).collect()
}

fn build(claim: &DatabaseClaim, live: &BTreeMap<String, Live>, version: &str) -> Vec<Secret> {
    let logins = logins(claim, live).unwrap();
    secrets(claim, &wanted(), &address(), &logins, live, || version.to_owned())
}

fn text(secret: &Secret, key: &str) -> String {
    String::from_utf8(secret.data.as_ref().unwrap().get(key).unwrap_or_else(|| panic!("{key}")).0.clone()).unwrap()
}

#[test]
fn a_postgresql_binding_has_the_keys_of_the_contract() {
    let all = build(&postgres(), &BTreeMap::new(), "v1");
    let names: Vec<String> = all.iter().map(Secret::name_any).collect();
    assert_eq!(names, ["account-db-app", "account-db-migrate"]);
    let app = &all[0];
    let keys: Vec<&str> = app.data.as_ref().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        ["ca.crt", "database", "host", "password", "port", "provider", "sslmode", "type", "uri", "username", "version"]
    );
    assert_eq!(
        (text(app, "type"), text(app, "sslmode"), text(app, "port")),
        ("postgresql".into(), "verify-full".into(), "5432".into())
    );
    assert_eq!(app.type_.as_deref(), Some("servicebinding.io/postgresql"));
    assert_ne!(text(app, "username"), text(&all[1], "username"));
    assert_ne!(text(app, "password"), text(&all[1], "password"));
    let uri = format!(
        "postgresql://{}:{}@pg.db.svc:5432/{}?sslmode=verify-full",
        text(app, "username"),
        text(app, "password"),
        text(app, "database")
    );
    assert_eq!(text(app, "uri"), uri);
    assert_eq!(app.metadata.owner_references.as_ref().unwrap()[0].uid, "u");
}

#[test]
fn a_kafka_binding_names_exactly_the_topics_of_its_role() {
    let claim = claim(json!({"engine": "Kafka", "className": "bus", "roles": [{"name": "app", "topics": {}}]}));
    let all = build(&claim, &BTreeMap::new(), "v1");
    let [app] = &all[..] else { panic!() };
    let keys: Vec<&str> = app.data.as_ref().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        ["bootstrap-servers", "group-prefix", "provider", "security-protocol", "topics", "type", "version"]
    );
    assert_eq!(text(app, "topics"), r#"{"feed":"paddock.feed","offer":"t.x.offer"}"#);
    assert_eq!(text(app, "group-prefix"), format!("{}app.", wanted().identity.topic_prefix()));
    assert_eq!(text(app, "bootstrap-servers"), "pg.db.svc:5432");
}

#[test]
fn the_version_changes_when_and_only_when_the_content_does() {
    let first = build(&postgres(), &BTreeMap::new(), "v1");
    let again = build(&postgres(), &live(&first), "v2");
    assert_eq!(again, first, "passwords and versions are kept");

    // Keys that others added are no content of ours.
    let mut added = first.clone();
    added[0].data.as_mut().unwrap().insert("extra".into(), ByteString(b"x".to_vec()));
    assert_eq!(build(&postgres(), &live(&added), "v2"), first);

    // A changed value is put back, and a pod that read it must read again.
    let mut changed = first.clone();
    changed[0].data.as_mut().unwrap().insert("host".into(), ByteString(b"elsewhere".to_vec()));
    let repaired = build(&postgres(), &live(&changed), "v2");
    assert_eq!((text(&repaired[0], "host"), text(&repaired[0], "version")), ("pg.db.svc".into(), "v2".into()));
    assert_eq!(repaired[1], first[1]);
}

#[test]
fn a_password_that_somebody_wrote_is_replaced() {
    let mut weak = build(&postgres(), &BTreeMap::new(), "v1");
    weak[0].data.as_mut().unwrap().insert("password".into(), ByteString(b"hunter2".to_vec()));
    let repaired = build(&postgres(), &live(&weak), "v2");
    assert_ne!(text(&repaired[0], "password"), "hunter2");
    assert!(known_password(Some(&Live::Foreign("x"))).is_none(), "what is not ours is not used");
}
