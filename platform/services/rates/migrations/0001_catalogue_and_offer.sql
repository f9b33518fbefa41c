-- Catalogue, lines, results of one environment. Times are milliseconds since 1970 UTC by the producer's clock unless named
-- otherwise; sequences count what was published of a row.

CREATE TABLE sport (
    id text PRIMARY KEY,
    name text NOT NULL
);

CREATE TABLE category (
    id text PRIMARY KEY,
    sport_id text NOT NULL REFERENCES sport,
    name text NOT NULL
);

CREATE TABLE tournament (
    id text PRIMARY KEY,
    category_id text NOT NULL REFERENCES category,
    name text NOT NULL
);

CREATE TABLE event (
    id text PRIMARY KEY,
    tournament_id text NOT NULL REFERENCES tournament,
    feed_partition integer NOT NULL,
    competitors jsonb NOT NULL,
    start_time bigint NOT NULL,
    fixture_at bigint NOT NULL,
    status text NOT NULL,
    home_score integer NOT NULL,
    away_score integer NOT NULL,
    minute integer,
    status_at bigint NOT NULL,
    -- Newest bet stop: lines first seen with older prices are stopped too.
    stopped_at bigint,
    sequence bigint NOT NULL,
    -- Taken out of topic `offer` for good.
    withdrawn boolean NOT NULL DEFAULT false
);
CREATE INDEX event_by_start ON event (start_time, id);
CREATE INDEX event_by_partition ON event (feed_partition) WHERE NOT withdrawn;

CREATE TABLE line (
    event_id text NOT NULL REFERENCES event,
    market_id integer NOT NULL,
    specifiers text NOT NULL,
    product integer NOT NULL,
    feed_status text NOT NULL,
    feed_at bigint NOT NULL,
    feed_offset bigint NOT NULL,
    -- Outcomes as the feed last priced them.
    outcomes jsonb NOT NULL,
    -- The line as last published; null before.
    offered jsonb,
    PRIMARY KEY (event_id, market_id, specifiers)
);

-- Every settlement, cancel and undo of a line, as a set (rule B4).
CREATE TABLE result_message (
    event_id text NOT NULL,
    market_id integer NOT NULL,
    specifiers text NOT NULL,
    message_id uuid NOT NULL,
    fact jsonb NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, market_id, specifiers, message_id)
);

-- What the set says, as last published.
CREATE TABLE line_result (
    event_id text NOT NULL,
    market_id integer NOT NULL,
    specifiers text NOT NULL,
    result jsonb NOT NULL,
    PRIMARY KEY (event_id, market_id, specifiers)
);

CREATE TABLE consumer_offset (
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    record_key text NOT NULL,
    partition_key text NOT NULL,
    partition integer,
    value bytea,
    created_at timestamptz NOT NULL DEFAULT now()
);
