//! One client of the public stream, from its first frame to its close.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::asked::{Answered, Asked};
use super::frame::{self, Channel, ClientFrame};
use super::live::{Follower, Inbox, Live, Told};
use super::places::{Place, Places};
use crate::client::Client;
use crate::limits::Limits;
use crate::sessions::{Session, SessionKey, Sessions, key};
use crate::upstream::{Component, Upstream};

/// Channels of one client.
const MAX_CHANNELS: usize = 100;
/// Frames that a client may send per [`BEAT`].
const MAX_FRAMES: u32 = 120;
/// A ping goes out, the session is asked for again.
const BEAT: Duration = Duration::from_secs(5);
/// A client that says nothing, not even pong, for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);
/// A client that does not take a frame for so long is dropped.
const SEND: Duration = Duration::from_secs(5);
/// A client that does not answer the end of its connection for so long is left.
const FAREWELL: Duration = Duration::from_secs(2);

/// Close codes of ours (4000–4999 are for applications).
mod code {
    /// RFC 6455, registry: the service restarts; connect again.
    pub(super) const RESTART: u16 = 1012;
    /// The session is no longer in force.
    pub(super) const SESSION_ENDED: u16 = 4401;
    /// Too many frames, or frames that cannot be read.
    pub(super) const ABUSE: u16 = 4400;
    /// The client does not take frames fast enough.
    pub(super) const SLOW: u16 = 4408;
    /// The customer has as many connections as one may have.
    pub(super) const TOO_MANY: u16 = 4429;
}

/// What connections work with.
#[derive(Clone)]
pub struct Parts {
    /// Who follows what.
    pub live: Live,
    /// Sessions.
    pub sessions: Sessions,
    /// Components.
    pub upstream: Upstream,
    /// Requests per address: a frame that asks a component is one.
    pub by_ip: Limits<IpAddr>,
    /// Requests per session, likewise.
    pub by_session: Limits<SessionKey>,
    /// Connections of a customer.
    pub places: Places<Uuid>,
    /// Cancelled when this replica drains.
    pub draining: CancellationToken,
}

/// Why a connection ends.
enum End {
    /// The client left or is gone.
    Gone,
    /// We close it.
    Close(u16, &'static str),
}

struct Customer {
    token: SecretString,
    session: Session,
    _place: Place<Uuid>,
}

struct Connection {
    parts: Parts,
    socket: WebSocket,
    network: IpAddr,
    follower: Follower,
    channels: HashSet<Channel>,
    customer: Option<Customer>,
    asked: Asked,
    /// The wallet as last told, and the sequence it contains.
    wallet: Option<(i64, Value)>,
    frames: u32,
    heard: Instant,
}

/// Serves a client until it leaves or is closed.
pub async fn serve(socket: WebSocket, parts: Parts, client: &Client) {
    let (follower, mut inbox) = parts.live.connect(&client.country);
    let mut connection = Connection {
        parts,
        socket,
        network: client.network(),
        follower,
        channels: HashSet::new(),
        customer: None,
        asked: Asked::default(),
        wallet: None,
        frames: 0,
        heard: Instant::now(),
    };
    let end = connection.run(&mut inbox).await;
    connection.leave_all();
    if let End::Close(code, reason) = end {
        if code == code::RESTART {
            let _told = connection.send(frame::reconnect()).await;
        }
        let close = Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::from_static(reason) }));
        // A client that is too slow for frames may be too slow for this one too. What it still sends is read until it has seen it:
        // a socket that is closed with something unread takes back what was not delivered yet.
        let farewell = async {
            connection.socket.send(close).await?;
            while let Some(Ok(_unheard)) = connection.socket.recv().await {}
            Ok::<_, axum::Error>(())
        };
        let _closed = timeout(FAREWELL, farewell).await;
    }
}

impl Connection {
    async fn run(&mut self, inbox: &mut Inbox) -> End {
        let draining = self.parts.draining.clone();
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                biased;
                () = draining.cancelled() => Err(End::Close(code::RESTART, "this replica ends: connect again")),
                () = inbox.slow.cancelled() => Err(End::Close(code::SLOW, "frames were not taken fast enough")),
                _tick = beat.tick() => self.beat().await,
                answered = self.asked.next() => self.answered(answered).await,
                told = inbox.queue.recv() => match told {
                    Some(told) => self.tell(told).await,
                    None => Err(End::Gone),
                },
                message = self.socket.recv() => match message {
                    Some(Ok(message)) => self.hear(message).await,
                    Some(Err(_)) | None => Err(End::Gone),
                },
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn beat(&mut self) -> Result<(), End> {
        self.frames = 0;
        if self.heard.elapsed() > SILENCE {
            return Err(End::Gone);
        }
        if let Some(customer) = &self.customer {
            self.asked.check(self.parts.sessions.clone(), customer.token.clone());
        }
        self.deliver(Message::Ping(axum::body::Bytes::new())).await
    }

    async fn answered(&mut self, answered: Answered) -> Result<(), End> {
        match answered {
            Answered::Session(Err(problem)) if problem.status().is_client_error() => {
                Err(End::Close(code::SESSION_ENDED, "the session has ended: log in again"))
            }
            // What cannot be checked now is checked at the next beat.
            Answered::Session(_) => Ok(()),
            Answered::Channel(channel, Ok(payload), told) => {
                let sequence = match channel {
                    Channel::Wallet => payload.get("sequence").and_then(Value::as_i64).unwrap_or(0),
                    _ => 0,
                };
                self.send(frame::snapshot(&channel, sequence, &payload)).await?;
                if channel == Channel::Wallet {
                    self.wallet = Some((sequence, payload));
                }
                for told in told {
                    self.tell(told).await?;
                }
                Ok(())
            }
            Answered::Channel(channel, Err(problem), _) => {
                self.leave(&channel);
                self.refuse(problem.code(), "the channel cannot be read now: subscribe again").await
            }
        }
    }

    async fn hear(&mut self, message: Message) -> Result<(), End> {
        self.heard = Instant::now();
        let text = match message {
            Message::Text(text) => text,
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Close(_) => return Err(End::Gone),
            Message::Binary(_) => return Err(End::Close(code::ABUSE, "send text frames")),
        };
        self.frames += 1;
        if self.frames > MAX_FRAMES {
            return Err(End::Close(code::ABUSE, "too many frames"));
        }
        match serde_json::from_str::<ClientFrame>(&text) {
            Ok(ClientFrame::Authenticate { token }) => self.authenticate(token.into()).await,
            Ok(ClientFrame::Subscribe { channel }) => self.subscribe(&channel).await,
            Ok(ClientFrame::Unsubscribe { channel }) => {
                if let Some(channel) = Channel::parse(&channel) {
                    self.leave(&channel);
                }
                Ok(())
            }
            Err(_) => self.refuse("malformed-frame", "send authenticate, subscribe or unsubscribe as JSON").await,
        }
    }

    async fn authenticate(&mut self, token: SecretString) -> Result<(), End> {
        if self.customer.is_some() || !self.channels.is_empty() {
            return self.refuse("not-first", "authenticate is the first frame: connect again").await;
        }
        if !self.may_ask(&token) {
            return self.refuse_too_many().await;
        }
        match self.parts.sessions.of(&token).await {
            Ok(session) => match self.parts.places.take(session.customer_id) {
                Some(place) => {
                    self.customer = Some(Customer { token, session, _place: place });
                    Ok(())
                }
                None => Err(End::Close(code::TOO_MANY, "too many connections of this customer: close another one")),
            },
            Err(problem) if problem.status().is_client_error() => {
                Err(End::Close(code::SESSION_ENDED, "the session is not in force: log in again"))
            }
            Err(problem) => self.refuse(problem.code(), "the session cannot be checked now: connect again").await,
        }
    }

    async fn subscribe(&mut self, name: &str) -> Result<(), End> {
        let Some(channel) = Channel::parse(name) else {
            return self.refuse("unknown-channel", "subscribe to event:{id}, wallet or tickets").await;
        };
        // An event is told from memory; money and tickets are asked for.
        let asks = self.customer.as_ref().filter(|_| !matches!(channel, Channel::Event(_)));
        if asks.is_some_and(|customer| !self.may_ask(&customer.token)) {
            return self.refuse_too_many().await;
        }
        if self.channels.contains(&channel) {
            // Asked again: from a new snapshot on.
            self.leave(&channel);
        }
        if self.channels.len() >= MAX_CHANNELS {
            return self.refuse("too-many-channels", "unsubscribe from a channel first").await;
        }
        let customer = self.customer.as_ref().map(|customer| customer.session.customer_id);
        match (&channel, customer) {
            (Channel::Event(id), _) => self.parts.live.follow_event(id, &self.follower),
            (Channel::Wallet | Channel::Tickets, None) => {
                return self.refuse("unauthorized", "authenticate in the first frame").await;
            }
            (Channel::Wallet, Some(customer)) => self.parts.live.follow_wallet(customer, &self.follower),
            (Channel::Tickets, Some(customer)) => self.parts.live.follow_tickets(customer, &self.follower),
        }
        self.channels.insert(channel.clone());
        let (Some(customer), Channel::Wallet | Channel::Tickets) = (customer, &channel) else { return Ok(()) };
        // Following began before this is read, so nothing falls between; what is in both is dropped by its sequence.
        let path = match channel {
            Channel::Wallet => format!("/customers/{customer}/wallet"),
            _ => format!("/tickets?customerId={customer}&limit=20"),
        };
        let component = if channel == Channel::Wallet { Component::Account } else { Component::Calculations };
        self.asked.read(channel, self.parts.upstream.clone(), component, path);
        Ok(())
    }

    async fn tell(&mut self, told: Told) -> Result<(), End> {
        let Some(told) = self.asked.hold(told) else { return Ok(()) };
        match told {
            Told::Frame(frame) => self.send(frame).await,
            Told::Ticket(offset, ticket) if self.channels.contains(&Channel::Tickets) => {
                self.send(frame::ticket_delta(offset, &ticket)).await
            }
            Told::Ledger(entry) => {
                let Some((sequence, wallet)) = self.wallet.as_mut().filter(|(known, _)| *known < entry.sequence) else {
                    return Ok(());
                };
                *sequence = entry.sequence;
                let figures = json!({
                    "currency": entry.currency, "available": entry.available, "held": entry.held, "atStake": entry.at_stake,
                });
                replace_figures(wallet, entry.sequence, figures);
                let frame = frame::wallet_delta(entry.sequence, wallet);
                self.send(frame).await
            }
            Told::Ticket(..) => Ok(()),
            // Only a new snapshot is certain to be right.
            Told::Gap => Err(End::Close(code::RESTART, "something may have been missed: connect again")),
        }
    }

    fn leave(&mut self, channel: &Channel) {
        if !self.channels.remove(channel) {
            return;
        }
        self.asked.forget(channel);
        let customer = self.customer.as_ref().map(|customer| customer.session.customer_id);
        match (channel, customer) {
            (Channel::Event(id), _) => self.parts.live.leave_event(id, &self.follower),
            (Channel::Wallet, Some(customer)) => {
                self.parts.live.leave_wallet(customer, &self.follower);
                self.wallet = None;
            }
            (Channel::Tickets, Some(customer)) => self.parts.live.leave_tickets(customer, &self.follower),
            (Channel::Wallet | Channel::Tickets, None) => {}
        }
    }

    fn leave_all(&mut self) {
        for channel in self.channels.clone() {
            self.leave(&channel);
        }
    }

    /// Counts a frame that asks a component as the request that it is.
    fn may_ask(&self, token: &SecretString) -> bool {
        self.parts.by_ip.allows(self.network) && self.parts.by_session.allows(key(token))
    }

    async fn refuse_too_many(&mut self) -> Result<(), End> {
        self.refuse("too-many-requests", "too many requests: wait a second, then try again").await
    }

    async fn refuse(&mut self, code: &str, detail: &str) -> Result<(), End> {
        self.send(frame::error(code, detail)).await
    }

    async fn send(&mut self, frame: Utf8Bytes) -> Result<(), End> {
        self.deliver(Message::Text(frame)).await
    }

    async fn deliver(&mut self, message: Message) -> Result<(), End> {
        match timeout(SEND, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_elapsed) => Err(End::Close(code::SLOW, "frames were not taken fast enough")),
        }
    }
}

/// Puts the figures of a currency into the body of `GET /wallet`.
fn replace_figures(wallet: &mut Value, sequence: i64, figures: Value) {
    if let Some(own) = wallet.get_mut("sequence") {
        *own = sequence.into();
    }
    let Some(wallets) = wallet.get_mut("wallets").and_then(Value::as_array_mut) else { return };
    match wallets.iter_mut().find(|known| known.get("currency") == figures.get("currency")) {
        Some(known) => *known = figures,
        None => wallets.push(figures),
    }
}
