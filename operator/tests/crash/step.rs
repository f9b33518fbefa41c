//! The steps of a Tenant's life, and when each is done.

use crate::support::state::State;
use serde_json::json;

/// What happens in a life, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::EnumIter)]
pub enum Step {
    /// Two environments from one Release: a service with a route, a claim, a migration and an autoscaler; one with nothing.
    Create,
    /// The autoscaler wants more.
    Grow,
    /// The Tenant gives a service another size.
    Resize,
    /// Another Release: new revisions after a migration, the old ones go to zero.
    Roll,
    OpenMarket,
    ChangeMarket,
    DeleteMarket,
    RemoveEnvironment,
    DeleteTenant,
}

/// What is still missing in an undisturbed run; nothing when the step is done.
pub fn missing(step: Step, state: &State) -> Vec<String> {
    let mut missing = Vec::new();
    let mut want = |holds: bool, what: &str| {
        if !holds {
            missing.push(what.to_owned());
        }
    };
    for (key, object) in state.iter().filter(|(_, object)| object["data"].get("current").is_some()) {
        let condition = |type_: &str| {
            let all = object["data"]["status"]["conditions"].as_array();
            all.into_iter().flatten().find(|it| it["type"] == type_).map(|it| it["status"].clone())
        };
        want(object["data"]["current"] == true && condition("Ready") == Some(json!("True")), &format!("{key} ready"));
        want(condition("Reconciling").is_none(), &format!("{key} at rest"));
    }
    let count = |kind: &str, place: &str| {
        let head = format!("{kind} TENANT-{place}/");
        state.keys().filter(|key| key.starts_with(&head)).count()
    };
    let size =
        |name: &str| state.get(&format!("Deployment TENANT-{name}")).map(|it| it["data"]["spec"]["replicas"].clone());
    let book = state
        .get("ConfigMap TENANT-prod/market-book")
        .map(|it| it["annotations"]["paddock.bet/book-generation"].clone());
    let after = |first: Step| step >= first;
    let gone = after(Step::DeleteTenant);
    let dev = usize::from(!after(Step::RemoveEnvironment));
    let new = if after(Step::Roll) { 2 } else { 1 };
    if gone {
        for kind in [
            "Tenant",
            "Release",
            "BettingService",
            "Deployment",
            "HTTPRoute",
            "ListenerSet",
            "Service",
            "ControllerRevision",
            "Job",
        ] {
            want(!state.keys().any(|key| key.starts_with(&format!("{kind} "))), &format!("no {kind}"));
        }
        want(!state.contains_key("ConfigMap paddock-system/domain.TENANT.example"), "a free host");
    } else {
        let rates = if after(Step::Resize) { 2 } else { 1 };
        let account = if after(Step::Grow) { 2 } else { 1 };
        want(size(&format!("prod/rates-revision{new}")) == Some(json!(rates)), "rates at its size");
        want(size(&format!("prod/account-revision{new}")) == Some(json!(account)), "account at its size");
        want(new == 1 || size("prod/rates-revision1") == Some(json!(0)), "old rates at zero");
        want(new == 1 || size("prod/account-revision1") == Some(json!(0)), "old account at zero");
        want(count("Job", "prod") == 1 && count("HorizontalPodAutoscaler", "prod") == 1, "one Job, one autoscaler");
        want(count("HTTPRoute", "prod") == 2, "the route and the redirect");
        want(count("BettingService", "prod") == 2 && count("BettingService", "dev") == dev, "its services");
        want(count("Deployment", "dev") == dev && count("Service", "dev") == dev, "what belongs to dev's service");
        want(state.contains_key("ConfigMap paddock-system/domain.dev.TENANT.example") == (dev == 1), "dev's host");
    }
    let generation = match step {
        Step::OpenMarket => "2",
        Step::ChangeMarket => "3",
        _ if after(Step::DeleteMarket) => "4",
        _ => "1",
    };
    want(book == Some(json!(generation)), "the market book's generation");
    want(count("DatabaseClaim", "prod") == 1 && count("Secret", "prod") == 4, "claim, bindings, token and certificate");
    missing
}
