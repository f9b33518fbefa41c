//! Rates' tables.

use std::collections::BTreeMap;

use paddock_events::{
    CatalogueEvent, Clock, Competitor, LineName, LineResult, Named, OfferLine, Score, SportEventStatus,
};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::domain::{EventState, Fact, LineState};

/// An event with its catalogue.
const EVENT: &str = "SELECT e.*, t.name AS tournament_name, c.id AS category_id, c.name AS category_name,
    s.id AS sport_id, s.name AS sport_name
    FROM event e JOIN tournament t ON t.id = e.tournament_id JOIN category c ON c.id = t.category_id
    JOIN sport s ON s.id = c.sport_id";

fn unreadable(column: &'static str, error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(error) }
}

fn number<T: TryFrom<i32, Error = std::num::TryFromIntError>>(row: &PgRow, column: &'static str) -> sqlx::Result<T> {
    row.try_get::<i32, _>(column)?.try_into().map_err(|error| unreadable(column, error))
}

fn parsed<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &PgRow,
    column: &'static str,
) -> sqlx::Result<T> {
    row.try_get::<&str, _>(column)?.parse().map_err(|error| unreadable(column, error))
}

fn event(row: &PgRow) -> sqlx::Result<EventState> {
    let named = |id, name| Ok::<_, sqlx::Error>(Named { id: row.try_get(id)?, name: row.try_get(name)? });
    let minute: Option<i32> = row.try_get("minute")?;
    Ok(EventState {
        id: row.try_get("id")?,
        sport: named("sport_id", "sport_name")?,
        category: named("category_id", "category_name")?,
        tournament: named("tournament_id", "tournament_name")?,
        competitors: row.try_get::<Json<Vec<Competitor>>, _>("competitors")?.0,
        start_time: row.try_get("start_time")?,
        fixture_at: row.try_get("fixture_at")?,
        play: SportEventStatus {
            status: parsed(row, "status")?,
            score: Score { home: number(row, "home_score")?, away: number(row, "away_score")? },
            clock: minute.and_then(|minute| Some(Clock { minute: minute.try_into().ok()? })),
        },
        play_at: row.try_get("status_at")?,
        stopped_at: row.try_get("stopped_at")?,
        sequence: row.try_get("sequence")?,
        lines: BTreeMap::new(),
    })
}

fn line(row: &PgRow) -> sqlx::Result<(LineName, LineState)> {
    let name = LineName { market_id: number(row, "market_id")?, specifiers: parsed(row, "specifiers")? };
    let state = LineState {
        product: number(row, "product")?,
        status: parsed(row, "feed_status")?,
        at: row.try_get("feed_at")?,
        offset: row.try_get("feed_offset")?,
        outcomes: row.try_get::<Json<_>, _>("outcomes")?.0,
        offered: row.try_get::<Option<Json<OfferLine>>, _>("offered")?.map(|offered| offered.0),
    };
    Ok((name, state))
}

/// Every event of a partition that is still on offer.
pub(crate) async fn partition(
    connection: &mut PgConnection,
    feed_partition: i32,
) -> sqlx::Result<BTreeMap<String, EventState>> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "{EVENT} WHERE e.feed_partition = $1 AND NOT e.withdrawn AND e.status <> 'closed'"
    )))
    .bind(feed_partition)
    .fetch_all(&mut *connection)
    .await?;
    let mut events = BTreeMap::new();
    for row in &rows {
        let event = event(row)?;
        events.insert(event.id.clone(), event);
    }
    let rows = sqlx::query(
        "SELECT l.* FROM line l JOIN event e ON e.id = l.event_id
         WHERE e.feed_partition = $1 AND NOT e.withdrawn AND e.status <> 'closed'",
    )
    .bind(feed_partition)
    .fetch_all(connection)
    .await?;
    for row in &rows {
        let (name, state) = line(row)?;
        if let Some(event) = events.get_mut(row.try_get::<&str, _>("event_id")?) {
            event.lines.insert(name, state);
        }
    }
    Ok(events)
}

/// One event with its lines.
pub(crate) async fn one_event(connection: &mut PgConnection, id: &str) -> sqlx::Result<Option<EventState>> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!("{EVENT} WHERE e.id = $1")))
        .bind(id)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let mut event = event(&row)?;
    let rows = sqlx::query("SELECT * FROM line WHERE event_id = $1").bind(id).fetch_all(connection).await?;
    event.lines = rows.iter().map(line).collect::<Result<_, _>>()?;
    Ok(Some(event))
}

/// Writes an event without its lines.
pub(crate) async fn save_event(
    connection: &mut PgConnection,
    event: &EventState,
    feed_partition: i32,
) -> sqlx::Result<()> {
    sqlx::query("INSERT INTO sport (id, name) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE sport.name <> excluded.name")
        .bind(&event.sport.id)
        .bind(&event.sport.name)
        .execute(&mut *connection)
        .await?;
    sqlx::query("INSERT INTO category (id, sport_id, name) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE category.name <> excluded.name")
        .bind(&event.category.id)
        .bind(&event.sport.id)
        .bind(&event.category.name)
        .execute(&mut *connection)
        .await?;
    sqlx::query("INSERT INTO tournament (id, category_id, name) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE tournament.name <> excluded.name")
        .bind(&event.tournament.id)
        .bind(&event.category.id)
        .bind(&event.tournament.name)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO event (id, tournament_id, feed_partition, competitors, start_time, fixture_at, status, home_score,
             away_score, minute, status_at, stopped_at, sequence)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
         ON CONFLICT (id) DO UPDATE SET tournament_id = $2, feed_partition = $3, competitors = $4, start_time = $5,
             fixture_at = $6, status = $7, home_score = $8, away_score = $9, minute = $10, status_at = $11,
             stopped_at = $12, sequence = $13",
    )
    .bind(&event.id)
    .bind(&event.tournament.id)
    .bind(feed_partition)
    .bind(Json(&event.competitors))
    .bind(event.start_time)
    .bind(event.fixture_at)
    .bind(event.play.status.to_string())
    .bind(i32::from(event.play.score.home))
    .bind(i32::from(event.play.score.away))
    .bind(event.play.clock.map(|clock| i32::from(clock.minute)))
    .bind(event.play_at)
    .bind(event.stopped_at)
    .bind(event.sequence)
    .execute(connection)
    .await?;
    Ok(())
}

fn id32(number: u32) -> sqlx::Result<i32> {
    i32::try_from(number).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}

/// Writes a line.
pub(crate) async fn save_line(
    connection: &mut PgConnection,
    event_id: &str,
    name: &LineName,
    line: &LineState,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO line (event_id, market_id, specifiers, product, feed_status, feed_at, feed_offset, outcomes, offered)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (event_id, market_id, specifiers) DO UPDATE SET product = $4, feed_status = $5, feed_at = $6,
             feed_offset = $7, outcomes = $8, offered = $9",
    )
    .bind(event_id)
    .bind(id32(name.market_id)?)
    .bind(name.specifiers.to_string())
    .bind(id32(line.product)?)
    .bind(line.status.to_string())
    .bind(line.at)
    .bind(line.offset)
    .bind(Json(&line.outcomes))
    .bind(line.offered.as_ref().map(Json))
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds a fact about a line; the same message again changes nothing.
pub(crate) async fn add_fact(
    connection: &mut PgConnection,
    event_id: &str,
    name: &LineName,
    message: Uuid,
    fact: &Fact,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO result_message (event_id, market_id, specifiers, message_id, fact) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
    )
    .bind(event_id)
    .bind(id32(name.market_id)?)
    .bind(name.specifiers.to_string())
    .bind(message)
    .bind(Json(fact))
    .execute(connection)
    .await?;
    Ok(())
}

/// All facts about a line and its result as last published.
pub(crate) async fn facts(
    connection: &mut PgConnection,
    event_id: &str,
    name: &LineName,
) -> sqlx::Result<(Vec<Fact>, Option<LineResult>)> {
    let (market, specifiers) = (id32(name.market_id)?, name.specifiers.to_string());
    let facts: Vec<Json<Fact>> = sqlx::query_scalar(
        "SELECT fact FROM result_message WHERE event_id = $1 AND market_id = $2 AND specifiers = $3",
    )
    .bind(event_id)
    .bind(market)
    .bind(&specifiers)
    .fetch_all(&mut *connection)
    .await?;
    let published: Option<Json<LineResult>> =
        sqlx::query_scalar("SELECT result FROM line_result WHERE event_id = $1 AND market_id = $2 AND specifiers = $3")
            .bind(event_id)
            .bind(market)
            .bind(&specifiers)
            .fetch_optional(connection)
            .await?;
    Ok((facts.into_iter().map(|fact| fact.0).collect(), published.map(|result| result.0)))
}

/// Writes a line's result.
pub(crate) async fn save_result(connection: &mut PgConnection, result: &LineResult) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO line_result (event_id, market_id, specifiers, result) VALUES ($1, $2, $3, $4)
         ON CONFLICT (event_id, market_id, specifiers) DO UPDATE SET result = $4",
    )
    .bind(&result.event_id)
    .bind(id32(result.market_id)?)
    .bind(result.specifiers.to_string())
    .bind(Json(result))
    .execute(connection)
    .await?;
    Ok(())
}

/// Marks events of a partition withdrawn that closed before a time; the keys that they have in topic `offer`.
pub(crate) async fn withdraw(
    connection: &mut PgConnection,
    feed_partition: i32,
    closed_before: i64,
) -> sqlx::Result<Vec<(String, Vec<LineName>)>> {
    let ids: Vec<String> = sqlx::query_scalar(
        "UPDATE event SET withdrawn = true WHERE id IN (SELECT id FROM event WHERE feed_partition = $1 AND NOT withdrawn
             AND status = 'closed' AND status_at < $2 LIMIT 200) RETURNING id",
    )
    .bind(feed_partition)
    .bind(closed_before)
    .fetch_all(&mut *connection)
    .await?;
    let mut all = Vec::new();
    for id in ids {
        let rows = sqlx::query("SELECT * FROM line WHERE event_id = $1").bind(&id).fetch_all(&mut *connection).await?;
        let names = rows.iter().map(|row| Ok(line(row)?.0)).collect::<sqlx::Result<Vec<_>>>()?;
        all.push((id, names));
    }
    Ok(all)
}

/// A sport with the number of its events that are not over.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct SportRow {
    /// URN.
    pub id: String,
    /// Name.
    pub name: String,
    /// Events that are not over.
    pub events: i64,
}

/// Every sport.
pub(crate) async fn sports(connection: &mut PgConnection) -> sqlx::Result<Vec<SportRow>> {
    let rows = sqlx::query(
        "SELECT s.id, s.name, count(e.id) AS events FROM sport s
         LEFT JOIN category c ON c.sport_id = s.id LEFT JOIN tournament t ON t.category_id = c.id
         LEFT JOIN event e ON e.tournament_id = t.id AND e.status NOT IN ('ended', 'closed', 'cancelled')
         GROUP BY s.id, s.name ORDER BY s.name, s.id",
    )
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| Ok(SportRow { id: row.try_get("id")?, name: row.try_get("name")?, events: row.try_get("events")? }))
        .collect()
}

/// Which events a caller wants.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventFilter {
    pub sport: Option<String>,
    pub status: Option<String>,
    pub from: Option<i64>,
    pub to: Option<i64>,
    pub after: Option<(i64, String)>,
    pub limit: i64,
}

/// Events by kick-off. Without a status: those that are not over.
pub(crate) async fn events(connection: &mut PgConnection, filter: &EventFilter) -> sqlx::Result<Vec<CatalogueEvent>> {
    let (after_time, after_id) = filter.after.clone().unzip();
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "{EVENT} WHERE ($1::text IS NULL OR s.id = $1)
         AND CASE WHEN $2::text IS NULL THEN e.status NOT IN ('ended', 'closed', 'cancelled') ELSE e.status = $2 END
         AND ($3::bigint IS NULL OR e.start_time >= $3) AND ($4::bigint IS NULL OR e.start_time < $4)
         AND ($5::bigint IS NULL OR (e.start_time, e.id) > ($5, $6::text))
         ORDER BY e.start_time, e.id LIMIT $7"
    )))
    .bind(&filter.sport)
    .bind(&filter.status)
    .bind(filter.from)
    .bind(filter.to)
    .bind(after_time)
    .bind(after_id)
    .bind(filter.limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok(event(row)?.catalogue())).collect()
}

/// Results of an event's lines.
pub(crate) async fn results(connection: &mut PgConnection, event_id: &str) -> sqlx::Result<Vec<LineResult>> {
    let results: Vec<Json<LineResult>> =
        sqlx::query_scalar("SELECT result FROM line_result WHERE event_id = $1 ORDER BY market_id, specifiers")
            .bind(event_id)
            .fetch_all(connection)
            .await?;
    Ok(results.into_iter().map(|result| result.0).collect())
}
