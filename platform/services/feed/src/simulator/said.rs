//! What is said about a match.

use paddock_events::{
    BetSettlement, BetStop, Clock, Competitor, EventStatus, FeedHead, FeedMarket, FeedMessage, Fixture, MarketResult,
    MarketStatus, Named, OddsChange, Score, Side, SportEventStatus,
};
use uuid::Uuid;

use super::draw::Draw;
use super::matches::{Goals, RealMatch};

/// Something that is said at a time, for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// When, ms since 1970 UTC.
    pub at: i64,
    /// The same each time it is asked for.
    pub id: Uuid,
    /// The message.
    pub message: FeedMessage,
}

/// What is said about one match at one time.
pub(super) struct Event<'a> {
    /// See [`super::WorldSettings`]; part of the event's id.
    pub world_number: u64,
    /// Of the match in the world.
    pub number: u64,
    /// Ms since 1970 UTC.
    pub kickoff: i64,
    /// The match that is played.
    pub real: &'a RealMatch,
    /// When it is said, ms since 1970 UTC.
    pub at: i64,
    /// The producer that says it.
    pub speaker: u32,
}

impl Event<'_> {
    fn event_id(&self) -> String {
        format!("sim:match:{}{:07}", self.world_number, self.number)
    }

    /// A UUID v7 of the time, the rest drawn: the same each time.
    pub fn id(&self, number: usize) -> Uuid {
        let mut draw = Draw::at(self.world_number, [self.number, number as u64]);
        let mut random = [0_u8; 10];
        let drawn = draw.next().to_be_bytes().into_iter().chain(draw.next().to_be_bytes());
        for (slot, byte) in random.iter_mut().zip(drawn) {
            *slot = byte;
        }
        let millis = u64::try_from(self.at).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    fn head(&self) -> FeedHead {
        FeedHead { product: self.speaker, event_id: self.event_id(), timestamp: self.at, request_id: None }
    }

    pub fn fixture(&self) -> FeedMessage {
        let real = self.real;
        let team =
            |name: &str, side| Competitor { id: format!("sim:competitor:{}", slug(name)), name: name.to_owned(), side };
        FeedMessage::Fixture(Fixture {
            head: self.head(),
            start_time: self.kickoff,
            sport: Named { id: "sr:sport:1".to_owned(), name: "Soccer".to_owned() },
            category: Named { id: format!("sim:category:{}", slug(&real.country)), name: real.country.clone() },
            tournament: Named { id: format!("sim:tournament:{}", slug(&real.league)), name: real.league.clone() },
            competitors: vec![team(&real.home, Side::Home), team(&real.away, Side::Away)],
            status: EventStatus::NotStarted,
        })
    }

    pub fn odds(&self, state: Option<(EventStatus, Goals, Option<u16>)>, markets: Vec<FeedMarket>) -> FeedMessage {
        FeedMessage::OddsChange(OddsChange {
            head: self.head(),
            sport_event_status: state.map(|(status, score, minute)| SportEventStatus {
                status,
                score: Score { home: score.home, away: score.away },
                clock: minute.map(|minute| Clock { minute }),
            }),
            markets,
        })
    }

    pub fn stop(&self) -> FeedMessage {
        FeedMessage::BetStop(BetStop {
            head: self.head(),
            groups: vec!["all".to_owned()],
            market_status: MarketStatus::Suspended,
        })
    }

    pub fn settlement(&self, certainty: u8, markets: Vec<MarketResult>) -> FeedMessage {
        FeedMessage::BetSettlement(BetSettlement { head: self.head(), certainty, markets })
    }
}

/// Lower case, letters and digits, words joined by hyphens.
fn slug(name: &str) -> String {
    let words = name.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}
