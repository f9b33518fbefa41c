//! The public API of a brand: `/api/v1`.

mod brand;
mod catalogue;
mod customers;
mod guard;
mod model;
mod sessions;
mod stream;
mod tickets;
mod wallet;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use axum::{Json, Router, middleware};
use paddock_service::BookHolder;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub use brand::Brand;

use crate::client::Trust;
use crate::limits::Limits;
use crate::page;
use crate::sessions::{SessionKey, Sessions};
use crate::stream::connection::Parts;
use crate::stream::live::Live;
use crate::stream::places::Places;
use crate::upstream::Upstream;

const MAX_BODY: usize = 64 * 1024;

/// What the handlers work with.
#[derive(Clone)]
pub struct AppState {
    /// Whose site this is.
    pub brand: Arc<Brand>,
    /// Components.
    pub upstream: Upstream,
    /// Sessions.
    pub sessions: Sessions,
    /// Which proxies are believed.
    pub trust: Arc<Trust>,
    /// Requests per address.
    pub by_ip: Limits<IpAddr>,
    /// Requests per session.
    pub by_session: Limits<SessionKey>,
    /// The stream.
    pub live: Live,
    /// Places for connections of the stream.
    pub places: Arc<Semaphore>,
    /// Places of an address.
    pub address_places: Places<IpAddr>,
    /// Places of a customer.
    pub customer_places: Places<Uuid>,
    /// Connections of the stream.
    pub connections: TaskTracker,
    /// Cancelled when this replica drains.
    pub draining: CancellationToken,
}

/// Connections of the stream at once.
#[derive(Debug, Clone, Copy)]
pub struct StreamPlaces {
    /// In this replica.
    pub all: usize,
    /// Of an address.
    pub address: NonZeroU32,
    /// Of a customer.
    pub customer: NonZeroU32,
}

impl AppState {
    /// A state of a brand with limits: requests per second of an address and of a session, connections of the stream.
    pub fn new(
        brand: Brand,
        upstream: Upstream,
        trust: Trust,
        (by_ip, by_session): (NonZeroU32, NonZeroU32),
        places: StreamPlaces,
        draining: CancellationToken,
    ) -> Self {
        Self {
            brand: Arc::new(brand),
            sessions: Sessions::new(upstream.clone()),
            upstream,
            trust: Arc::new(trust),
            by_ip: Limits::per_second(by_ip),
            by_session: Limits::per_second(by_session),
            live: Live::default(),
            places: Arc::new(Semaphore::new(places.all)),
            address_places: Places::new(places.address),
            customer_places: Places::new(places.customer),
            connections: TaskTracker::new(),
            draining,
        }
    }

    /// Shows and takes from now on what a service's market book lets it; a book is acknowledged when that is so.
    pub async fn follow_book(&self, book: &BookHolder) {
        let live = self.live.clone();
        book.enforce_with(move |book| live.enforce(book)).await;
    }

    pub(crate) fn parts(&self) -> Parts {
        Parts {
            live: self.live.clone(),
            sessions: self.sessions.clone(),
            upstream: self.upstream.clone(),
            by_ip: self.by_ip.clone(),
            by_session: self.by_session.clone(),
            places: self.customer_places.clone(),
            draining: self.draining.clone(),
        }
    }
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Paddock public API", description = "Sports, events, customers, wallets, tickets and the live stream of a brand."),
    modifiers(&Bearer)
)]
struct Document;

struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("session", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}

fn described() -> OpenApiRouter<AppState> {
    let api = OpenApiRouter::new()
        .routes(routes!(brand::brand))
        .routes(routes!(catalogue::sports))
        .routes(routes!(catalogue::events))
        .routes(routes!(catalogue::event))
        .routes(routes!(customers::register))
        .routes(routes!(sessions::open))
        .routes(routes!(sessions::current, sessions::close))
        .routes(routes!(wallet::wallet))
        .routes(routes!(wallet::entries))
        .routes(routes!(tickets::place, tickets::list))
        .routes(routes!(tickets::show))
        .routes(routes!(stream::stream));
    OpenApiRouter::with_openapi(Document::openapi()).nest("/api/v1", api)
}

/// The description of the API.
pub fn openapi() -> utoipa::openapi::OpenApi {
    described().into_openapi()
}

/// The API with its description, and the page.
pub fn app(state: AppState) -> Router {
    let (api, document) = described().split_for_parts();
    let document = Arc::new(document);
    api.route("/api/v1/openapi.json", get(async move || Json((*document).clone())))
        .layer(middleware::from_fn_with_state(state.clone(), guard::limit))
        .merge(page::routes())
        .layer(middleware::from_fn(guard::harden))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(state)
}
