use super::*;
use paddock_crds::v1alpha1::{BettingService, EnvironmentClass};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn claim(spec: Value) -> DatabaseClaim {
    from(json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClaim",
        "metadata": {"name": "db", "namespace": "acme-prod", "uid": "u"}, "spec": spec}))
}

fn class(name: &str, engine: &str, environment_class: &str, servers: &[(&str, &str, i32)]) -> Arc<DatabaseClass> {
    let servers: Vec<Value> = servers
        .iter()
        .map(|(name, endpoint, claims)| {
            json!({"name": name, "adminSecret": "a", "endpoints": {"readWrite": endpoint}, "capacity": {"claims": claims},
                "network": {"namespace": "db", "podLabels": {}, "ports": [1]}})
        })
        .collect();
    let published = if engine == "Kafka" { json!(["feed"]) } else { json!([]) };
    Arc::new(from(json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClass", "metadata": {"name": name},
        "spec": {"engine": engine, "environmentClass": environment_class, "servers": servers, "published": published}})))
}

fn found(tenant: &str, class: &Arc<DatabaseClass>) -> Found {
    Found {
        environment: Some(Environment {
            tenant: tenant.into(),
            name: "prod".into(),
            class: EnvironmentClass::Production,
            classes: vec!["pg".into(), "bus".into()],
        }),
        class: Some(class.clone()),
        classes: vec![class.clone()],
        ..Found::default()
    }
}

fn postgres() -> DatabaseClaim {
    claim(json!({"engine": "PostgreSQL", "className": "pg", "roles": [{"name": "app", "access": "ReadWrite"}]}))
}

fn kafka_claim(topics: &[&str], role: Value) -> DatabaseClaim {
    let topics: Vec<Value> = topics.iter().map(|name| json!({"name": name})).collect();
    claim(
        json!({"engine": "Kafka", "className": "bus", "kafka": {"topics": topics}, "roles": [{"name": "app", "topics": role}]}),
    )
}

fn reason(claim: &DatabaseClaim, found: &Found) -> &'static str {
    let Err(problem) = validate(claim, found) else { return "fine" };
    assert!(problem.stalled && problem.message.contains(": "), "says what to do: {}", problem.message);
    problem.reason
}

#[test]
fn an_environment_has_a_bounded_number_of_claims_and_keeps_those_that_it_has() {
    let class = class("pg", "PostgreSQL", "Production", &[("a", "a:1", 500)]);
    let made = |name: &str, second: usize, server: Value| {
        let mut claim = postgres();
        claim.metadata.name = Some(name.to_owned());
        claim.metadata.creation_timestamp = from(json!(format!("2026-01-01T00:00:{second:02}Z")));
        claim.status = from(json!({"server": server}));
        claim
    };
    let mut found = found("acme", &class);
    found.claims = (0..CLAIMS).map(|number| Arc::new(made(&format!("c{number}"), number, json!("a")))).collect();
    assert_eq!(reason(&made("older", 0, Value::Null), &found), "TooManyClaims", "those that have a server come first");
    assert_eq!(reason(&found.claims[3].as_ref().clone(), &found), "fine");
    assert_eq!(reason(&made("more", 59, json!("a")), &found), "fine", "what it has stays");
    found.claims.pop();
    let (one, two) = (made("one", 30, Value::Null), made("two", 31, Value::Null));
    found.claims.extend([Arc::new(one.clone()), Arc::new(two.clone())]);
    assert_eq!((reason(&one, &found), reason(&two, &found)), ("fine", "TooManyClaims"), "of two that wait the older");
    for claim in &mut found.claims {
        Arc::make_mut(claim).metadata.namespace = Some("zenith-prod".into());
    }
    assert_eq!(reason(&two, &found), "fine", "of another environment");
}

#[test]
fn each_fault_of_a_claim_has_its_reason() {
    let good = class("pg", "PostgreSQL", "Production", &[("a", "a:1", 5)]);
    let all = found("acme", &good);
    assert_eq!(reason(&postgres(), &all), "fine");
    assert_eq!(reason(&postgres(), &Found { environment: None, ..all.clone() }), "NotAnEnvironment");
    assert_eq!(reason(&postgres(), &Found { class: None, ..all.clone() }), "ClassNotFound");
    assert_eq!(reason(&postgres(), &found("acme", &class("pg", "Kafka", "Production", &[]))), "ClassOfOtherEngine");
    let dev = class("pg-dev", "PostgreSQL", "NonProduction", &[("a", "a:1", 5)]);
    assert_eq!(reason(&postgres(), &found("acme", &dev)), "ClassOfOtherEnvironmentClass");
    assert_eq!(
        reason(&postgres(), &Found { classes: vec![good.clone(), dev], ..all.clone() }),
        "ServerOfOtherEnvironmentClass"
    );
    let foreign = BTreeMap::from([("app".to_owned(), Live::Foreign("was not made by the operator"))]);
    assert_eq!(reason(&postgres(), &Found { secrets: foreign, ..all.clone() }), "NotOurs");
    let no_access = claim(json!({"engine": "PostgreSQL", "className": "pg", "roles": [{"name": "app"}]}));
    assert_eq!(reason(&no_access, &all), "InvalidSpec");
}

#[test]
fn a_claim_takes_a_class_that_its_environment_names_and_keeps_what_it_has() {
    let own = class("pg-zenith", "PostgreSQL", "Production", &[("a", "a:1", 5)]);
    let spec =
        json!({"engine": "PostgreSQL", "className": "pg-zenith", "roles": [{"name": "app", "access": "ReadWrite"}]});
    let mut greedy = claim(spec);
    let naming = |classes: &[&str]| {
        let mut found = found("acme", &own);
        found.environment.as_mut().unwrap().classes = classes.iter().map(|&name| name.to_owned()).collect();
        found
    };
    assert_eq!(reason(&greedy, &naming(&["bus", "pg"])), "ClassNotOfEnvironment");
    let message = |classes: &[&str]| validate(&greedy, &naming(classes)).unwrap_err().message;
    assert!(message(&["bus", "pg"]).contains("environment prod (it names bus, pg)"), "{}", message(&["bus", "pg"]));
    assert!(message(&[]).contains("(it names none)"), "{}", message(&[]));
    let unknown = Found { class: None, ..naming(&["bus", "pg"]) };
    assert_eq!(reason(&greedy, &unknown), "ClassNotOfEnvironment", "whether it exists is nobody's business");
    assert_eq!(reason(&greedy, &naming(&["bus", "pg-zenith"])), "fine");
    greedy.status = from(json!({"server": "a"}));
    assert_eq!(reason(&greedy, &naming(&[])), "fine", "what it has stays");
}

#[test]
fn only_the_platform_writes_published_topics() {
    let class = class("bus", "Kafka", "Production", &[("a", "a:1", 5)]);
    let write = |topic: &str| kafka_claim(&[topic], json!({"write": [topic]}));
    assert_eq!(reason(&write("feed"), &found("acme", &class)), "PublishedTopicReserved");
    assert_eq!(reason(&kafka_claim(&[], json!({"write": ["feed"]})), &found("acme", &class)), "PublishedTopicReserved");
    assert_eq!(
        reason(&kafka_claim(&[], json!({"published": ["secret"]})), &found("acme", &class)),
        "TopicNotPublished"
    );

    let platform = validate(&write("feed"), &found("platform", &class)).unwrap();
    assert_eq!(platform.topics[0].name, "paddock.feed");
    assert_eq!(platform.topic_names["app"]["feed"], "paddock.feed");

    let acme = validate(
        &kafka_claim(&["offer"], json!({"write": ["offer"], "read": ["tickets"], "published": ["feed"]})),
        &found("acme", &class),
    )
    .unwrap();
    let names = &acme.topic_names["app"];
    let prefix = acme.identity.topic_prefix();
    assert_eq!(names["feed"], "paddock.feed");
    assert_eq!(names["tickets"], format!("{prefix}tickets"));
    assert_eq!(acme.topics[0].name, format!("{prefix}offer"));
    assert_eq!(acme.topics.len(), 1, "what is only read is made by who writes it");
}

fn on(server: &str) -> Arc<DatabaseClaim> {
    let mut claim = postgres();
    claim.status = Some(from(json!({"server": server})));
    Arc::new(claim)
}

#[test]
fn a_claim_goes_to_the_least_loaded_server_and_stays() {
    let two = class("pg", "PostgreSQL", "Production", &[("a", "a:1", 5), ("b", "b:1", 5)]);
    let names = |choice: Choice<'_>| match choice {
        Choice::Bound(server) => vec![server.name.clone()],
        Choice::Among(servers) => servers.iter().map(|server| server.name.clone()).collect(),
    };
    assert_eq!(names(choose(&postgres(), &two, &[on("a")]).unwrap()), ["b", "a"]);
    assert_eq!(names(choose(&postgres(), &two, &[]).unwrap()), ["a", "b"]);
    assert_eq!(choose(&on("a"), &two, &[on("a"), on("a")]).map(names), Ok(vec!["a".to_owned()]));
    assert_eq!(choose(&on("gone"), &two, &[]).unwrap_err().reason, "ServerNotInClass");

    let one = class("pg", "PostgreSQL", "Production", &[("a", "a:1", 1)]);
    assert!(matches!(choose(&postgres(), &one, &[]), Ok(Choice::Bound(_))));
    assert_eq!(choose(&postgres(), &one, &[on("a")]).unwrap_err().reason, "CapacityExhausted");
    assert!(matches!(choose(&on("a"), &one, &[on("a")]), Ok(Choice::Bound(_))), "what is bound stays, also when full");
}

#[test]
fn a_claim_is_unused_when_no_service_names_it() {
    let service = |name: &str, need: Value| -> Arc<BettingService> {
        Arc::new(from(
            json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "BettingService", "metadata": {"name": name},
            "spec": {"component": name, "version": "1", "image": "x", "needs": [need]}}),
        ))
    };
    let by_default = service("odds", json!({"name": "db", "engine": "PostgreSQL"}));
    let by_name = service("odds", json!({"name": "x", "engine": "PostgreSQL", "claim": "db"}));
    assert!(!unused("odds-db", [&by_default]));
    assert!(unused("db", [&by_default]));
    assert!(!unused("db", [&by_default, &by_name]));
    assert!(unused("odds-x", [&by_name]));
    assert!(unused("db", []));
}
