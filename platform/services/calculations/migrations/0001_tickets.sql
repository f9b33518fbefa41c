-- Tickets, their bets and selections; what their acceptance reads and reserves; what their settlement pays.
-- Amounts are minor units of the ticket's currency. Odds are exact text.

CREATE TABLE ticket (
    id uuid PRIMARY KEY,
    customer_id uuid NOT NULL,
    currency text NOT NULL,
    country text NOT NULL,
    odds_change text NOT NULL CHECK (odds_change IN ('none', 'higher', 'any')),
    status text NOT NULL CHECK (status IN ('received', 'pending_delay', 'accepted', 'rejected', 'settled', 'cancelled', 'rolled_back')),
    code text,
    sequence bigint NOT NULL DEFAULT 1,
    total_stake bigint NOT NULL CHECK (total_stake > 0),
    -- The hold at account: open = it may exist and is to be resolved; none = account refused it.
    hold text NOT NULL DEFAULT 'open' CHECK (hold IN ('open', 'none', 'posted', 'voided')),
    delay_ms integer NOT NULL CHECK (delay_ms >= 0),
    context jsonb NOT NULL,
    certificate jsonb,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    decide_at timestamptz,
    placed_at timestamptz,
    -- From when on any replica may go on with it.
    attempt_at timestamptz NOT NULL,
    unfinished boolean NOT NULL GENERATED ALWAYS AS (status IN ('received', 'pending_delay') OR hold = 'open') STORED
);
CREATE INDEX ticket_unfinished ON ticket (attempt_at) WHERE unfinished;
CREATE INDEX ticket_customer ON ticket (customer_id, id DESC);

CREATE TABLE bet (
    id uuid PRIMARY KEY,
    ticket_id uuid NOT NULL REFERENCES ticket (id),
    position integer NOT NULL,
    stake bigint NOT NULL CHECK (stake > 0),
    potential_payout bigint NOT NULL DEFAULT 0,
    code text,
    settlement_version integer NOT NULL DEFAULT 0,
    payout bigint,
    void boolean NOT NULL DEFAULT false,
    -- Set while the result of one of its lines has news that its settlement may not know.
    due_at timestamptz,
    UNIQUE (ticket_id, position)
);
CREATE INDEX bet_due ON bet (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE selection (
    bet_id uuid NOT NULL REFERENCES bet (id),
    position integer NOT NULL,
    line_key text NOT NULL,
    event_id text NOT NULL,
    market_id integer NOT NULL,
    specifiers text NOT NULL,
    outcome_id text NOT NULL,
    asked_odds text NOT NULL,
    odds text NOT NULL,
    -- Last state change of the line when the ticket arrived, and the phase: both must stand at acceptance.
    seen_state bigint NOT NULL,
    seen_phase text NOT NULL,
    code text,
    result text,
    PRIMARY KEY (bet_id, position)
);
CREATE INDEX selection_line ON selection (line_key);

-- Same key and body: same ticket. Kept 30 days.
CREATE TABLE idempotency (
    customer_id uuid NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    ticket_id uuid NOT NULL REFERENCES ticket (id),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (customer_id, key)
);
CREATE INDEX idempotency_age ON idempotency (created_at);

-- State changes (not prices) of lines and events, so that every replica sees them when it commits.
CREATE TABLE offer_state (
    key text PRIMARY KEY,
    sequence bigint NOT NULL,
    status text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The highest generation of the market book that any replica has in force.
CREATE TABLE market_book (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    generation bigint NOT NULL
);
INSERT INTO market_book (generation) VALUES (0);

-- Reservations: what accepted bets may cost, per event, market type and currency.
CREATE TABLE exposure (
    event_id text NOT NULL,
    market_type text NOT NULL,
    currency text NOT NULL,
    lines jsonb NOT NULL DEFAULT '{}',
    liability bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (event_id, market_type, currency)
);

-- The set of result messages of each line.
CREATE TABLE result_message (
    id uuid PRIMARY KEY,
    line_key text NOT NULL,
    sequence bigint NOT NULL,
    result jsonb NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX result_message_line ON result_message (line_key, sequence DESC);

-- What a bet pays, by version; an intent until its transfers are done.
CREATE TABLE settlement (
    bet_id uuid NOT NULL REFERENCES bet (id),
    version integer NOT NULL CHECK (version > 0),
    -- Whole return; none = the bet is open again.
    payout bigint,
    void boolean NOT NULL,
    results jsonb NOT NULL,
    proof jsonb NOT NULL,
    transfers jsonb NOT NULL,
    done boolean NOT NULL DEFAULT false,
    attempt_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (bet_id, version)
);
CREATE INDEX settlement_open ON settlement (attempt_at) WHERE NOT done;

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
