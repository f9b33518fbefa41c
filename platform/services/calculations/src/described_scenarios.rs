//! What is answered is what the public API describes.

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use paddock_service::{CALLER_HEADER, Callers};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::testing;
use crate::testing_world::{World, request, result};

/// The public API as the gateway describes it. It passes tickets through as they come from here.
const DESCRIPTION: &str = include_str!("../../gateway/openapi.json");

/// Where a value is not as a schema says: another type, a member that is missing, or one that is not described.
fn differences(schemas: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str() {
        return differences(schemas, &schemas[name.rsplit('/').next().unwrap()], value, at);
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        kinds => kinds.as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !kinds.contains(&kind) {
        return vec![format!("{at}: {kind} instead of {kinds:?}")];
    }
    let mut found = Vec::new();
    if let Some(items) = value.as_array() {
        found.extend(items.iter().flat_map(|item| differences(schemas, &schema["items"], item, at)));
    }
    if let (Some(members), Some(described)) = (value.as_object(), schema["properties"].as_object()) {
        for (name, member) in members {
            let at = format!("{at}.{name}");
            match described.get(name) {
                Some(schema) => found.extend(differences(schemas, schema, member, &at)),
                None => found.push(format!("{at} is not described")),
            }
        }
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        found
            .extend(required.filter(|name| !members.contains_key(*name)).map(|name| format!("{at}.{name} is missing")));
    }
    found
}

#[tokio::test]
async fn tickets_are_what_the_public_api_describes() {
    let world = World::start("100000.00", 0).await;
    let customer = world.customer("50.00");
    let (issuer, folder) = (paddock_test_callers::Issuer::new("k1").unwrap(), tempfile::tempdir().unwrap());
    issuer.publish(folder.path()).unwrap();
    let callers = Callers::new("calculations", "acme-test", crate::http::CALLERS);
    callers.load(folder.path()).unwrap();
    let app = crate::http::app(world.acceptance.clone(), &callers);
    let call = async |method: &str, path: &str, body: String| -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let token = issuer.token("acme-test", "gateway", "calculations").unwrap();
        let request = request.header(CALLER_HEADER, token).body(Body::from(body)).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    };
    let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
    let answer = |path: &str, method: &str, status: &str| {
        description["paths"][path][method]["responses"][status]["content"]["application/json"]["schema"].clone()
    };
    let check = |schema: &Value, value: &Value| {
        let found = differences(&description["components"]["schemas"], schema, value, "");
        assert!(found.is_empty(), "{found:#?}\n{value:#}");
    };

    let path = "/internal/v1/tickets";
    let mut ids = Vec::new();
    for (key, stake, wanted) in [("paid", "10.00", "accepted"), ("dear", "90.00", "rejected")] {
        let asked = serde_json::to_string(&request(customer, key, stake, testing::EVENT)).unwrap();
        let (status, ticket) = call("POST", path, asked).await;
        assert_eq!((status, ticket["status"].as_str()), (StatusCode::CREATED, Some(wanted)));
        check(&answer("/api/v1/tickets", "post", "201"), &ticket);
        ids.push(ticket["ticketId"].as_str().unwrap().to_owned());
    }
    world.result(&result(&testing::key(), 1, Some(true), false)).await;
    world.settle().await;
    for id in &ids {
        let (_, ticket) = call("GET", &format!("{path}/{id}?customerId={customer}"), String::new()).await;
        check(&answer("/api/v1/tickets/{id}", "get", "200"), &ticket);
        if id == &ids[0] {
            let bet = &ticket["bets"][0];
            assert!(
                ticket["certificate"].is_object() && bet["proof"].is_object() && bet["payout"].is_string(),
                "{ticket:#}"
            );
        }
    }
    let (_, page) = call("GET", &format!("{path}?customerId={customer}"), String::new()).await;
    assert_eq!(page["tickets"].as_array().map(Vec::len), Some(2));
    check(&answer("/api/v1/tickets", "get", "200"), &page);
}
