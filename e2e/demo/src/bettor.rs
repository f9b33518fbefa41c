//! A customer of a brand, as a mobile app would be: REST and WebSocket through the Gateway, with the brand's host name and certificate.

use anyhow::{Context as _, Result, bail};
use reqwest::{Certificate, Client, Method, StatusCode};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

/// An open stream of a bettor.
pub type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// One brand's public address.
#[derive(Clone)]
pub struct Brand {
    /// `https://acme.localhost:8443`
    pub base: String,
    host: String,
    address: SocketAddr,
    client: Client,
    tls: Arc<rustls::ClientConfig>,
}

impl Brand {
    /// A brand behind the Gateway at `address`, trusting the CA in `ca_file`.
    pub fn new(host: &str, address: SocketAddr, ca_file: &Path) -> Result<Self> {
        let pem = std::fs::read(ca_file).with_context(|| format!("cannot read {}", ca_file.display()))?;
        let port = address.port();
        let client = Client::builder()
            .tls_certs_only([Certificate::from_pem(&pem)?])
            .resolve(host, address)
            .timeout(Duration::from_secs(20))
            .build()?;
        let mut roots = rustls::RootCertStore::empty();
        for certificate in rustls::pki_types::pem::PemObject::pem_slice_iter(&pem) {
            roots.add(certificate.map_err(|error| anyhow::anyhow!("{}: {error}", ca_file.display()))?)?;
        }
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Self { base: format!("https://{host}:{port}"), host: host.into(), address, client, tls: Arc::new(tls) })
    }

    /// One call of the public API: status and body.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value)> {
        let mut request = self.client.request(method, format!("{}/api/v1{path}", self.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| format!("{} does not answer", self.base))?;
        let status = response.status();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// A GET that must succeed.
    pub async fn get(&self, path: &str, token: Option<&str>) -> Result<Value> {
        let (status, body) = self.call(Method::GET, path, token, None, None).await?;
        if !status.is_success() {
            bail!("GET {path}: {status} {body}");
        }
        Ok(body)
    }

    /// The brand's page.
    pub async fn page(&self) -> Result<String> {
        Ok(self.client.get(&self.base).send().await?.error_for_status()?.text().await?)
    }

    /// Registers a customer and logs in.
    pub async fn register(&self, currency: &str) -> Result<Bettor> {
        let email = format!("{}@example.com", uuid::Uuid::now_v7());
        let password = data_encoding::BASE64URL_NOPAD.encode(&rand::random::<[u8; 18]>());
        let customer = json!({"email": email, "password": password, "name": "Alex Bettor", "birthDate": "1990-05-17", "country": "MT", "currency": currency});
        let (status, body) = self.call(Method::POST, "/customers", None, None, Some(&customer)).await?;
        if status != StatusCode::CREATED {
            bail!("POST /customers: {status} {body}");
        }
        let customer_id = text(&body, "/customerId")?;
        let (status, body) = self
            .call(Method::POST, "/sessions", None, None, Some(&json!({"email": email, "password": password})))
            .await?;
        if !status.is_success() {
            bail!("POST /sessions: {status} {body}");
        }
        Ok(Bettor {
            brand: self.clone(),
            token: text(&body, "/token")?,
            customer_id,
            email,
            password,
            currency: currency.into(),
        })
    }

    /// Opens the stream and, with a token, says who is there.
    pub async fn stream(&self, token: Option<&str>) -> Result<Stream> {
        let url = format!("wss://{}:{}/api/v1/stream", self.host, self.address.port());
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let connector = Connector::Rustls(Arc::clone(&self.tls));
        let (mut stream, _) =
            client_async_tls_with_config(url.into_client_request()?, socket, None, Some(connector)).await?;
        if let Some(token) = token {
            send(&mut stream, &json!({"type": "authenticate", "token": token})).await?;
        }
        Ok(stream)
    }
}

/// A registered customer with a session.
#[derive(Clone)]
pub struct Bettor {
    /// Where the customer is registered.
    pub brand: Brand,
    /// Bearer token of the session.
    pub token: String,
    /// Id of the customer.
    pub customer_id: String,
    /// Log-in name.
    pub email: String,
    /// Password, made up for this run.
    pub password: String,
    currency: String,
}

/// A selection on a line of the offer.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Event.
    pub event: String,
    /// Market id of the feed.
    pub market: u64,
    /// Canonical specifiers, empty if none.
    pub specifiers: String,
    /// Outcome.
    pub outcome: String,
    /// Price that the customer saw.
    pub odds: String,
}

impl Bettor {
    /// Places a single bet under an idempotency key; answers status and body.
    pub async fn bet(&self, key: &str, stake: &str, selection: &Selection) -> Result<(StatusCode, Value)> {
        self.bet_on_each(key, stake, std::slice::from_ref(selection)).await
    }

    /// Places one ticket with a single bet on each selection.
    pub async fn bet_on_each(&self, key: &str, stake: &str, selections: &[Selection]) -> Result<(StatusCode, Value)> {
        let single = |selection: &Selection| {
            json!({"type": "single", "stake": stake, "stakePer": "bet", "selections": [{
                "eventId": selection.event, "marketId": selection.market, "specifiers": selection.specifiers,
                "outcomeId": selection.outcome, "odds": selection.odds,
            }]})
        };
        let bets: Vec<Value> = selections.iter().map(single).collect();
        let ticket = json!({"currency": self.currency, "funds": "cash", "oddsChange": "any", "bets": bets});
        self.brand.call(Method::POST, "/tickets", Some(&self.token), Some(key), Some(&ticket)).await
    }

    /// A ticket in its present state.
    pub async fn ticket(&self, id: &str) -> Result<Value> {
        self.brand.get(&format!("/tickets/{id}"), Some(&self.token)).await
    }

    /// The wallet.
    pub async fn wallet(&self) -> Result<Value> {
        self.brand.get("/wallet", Some(&self.token)).await
    }

    /// Entries of the wallet, newest first.
    pub async fn entries(&self) -> Result<Value> {
        self.brand.get("/wallet/entries", Some(&self.token)).await
    }
}

/// Sends one frame.
pub async fn send(stream: &mut Stream, frame: &Value) -> Result<()> {
    use futures::SinkExt as _;
    stream.send(tokio_tungstenite::tungstenite::Message::text(frame.to_string())).await?;
    Ok(())
}

/// The next JSON frame; an error when the stream ends or nothing comes in time.
pub async fn receive(stream: &mut Stream, limit: Duration) -> Result<Value> {
    use futures::StreamExt as _;
    use tokio_tungstenite::tungstenite::Message;
    let frame = async {
        while let Some(message) = stream.next().await {
            match message? {
                Message::Text(text) => return Ok(serde_json::from_str(&text)?),
                Message::Close(reason) => bail!("the stream was closed: {reason:?}"),
                _ => {}
            }
        }
        bail!("the stream ended")
    };
    tokio::time::timeout(limit, frame).await.with_context(|| format!("no frame within {} s", limit.as_secs()))?
}

/// A text at a JSON pointer.
pub fn text(value: &Value, pointer: &str) -> Result<String> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .with_context(|| format!("no {pointer} in {value}"))
}
