-- Customers, sessions, the ledger and its outbox. Tables live in the schema that `search_path` names.

CREATE TABLE customers (
    id            uuid PRIMARY KEY,
    email         text        NOT NULL,
    password_hash text        NOT NULL,
    name          text        NOT NULL,
    birth_date    date        NOT NULL,
    country       char(2)     NOT NULL,
    currency      char(3)     NOT NULL,
    kyc           text        NOT NULL DEFAULT 'unverified'
                  CHECK (kyc IN ('unverified', 'age-verified', 'identity-verified')),
    state         text        NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended', 'excluded', 'closed')),
    -- Counts the changes that topic `customers` tells of.
    sequence      bigint      NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX customers_email_key ON customers (lower(email));

-- Only the digest of a token is kept: a copy of this table opens no account.
CREATE TABLE sessions (
    token_digest bytea PRIMARY KEY CHECK (octet_length(token_digest) = 32),
    customer_id  uuid        NOT NULL REFERENCES customers (id),
    context      jsonb       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz
);
CREATE INDEX sessions_customer ON sessions (customer_id) WHERE revoked_at IS NULL;
CREATE INDEX sessions_expiry ON sessions (expires_at);

-- One row per customer, currency and account code, house accounts included: a house account is the sum of its rows. So a
-- transfer locks rows of one customer only, no two customers ever wait for each other, and what a customer has at stake is
-- the balance of the customer's own part of house:bets.
CREATE TABLE accounts (
    customer_id     uuid    NOT NULL REFERENCES customers (id),
    currency        char(3) NOT NULL,
    code            text    NOT NULL,
    debits_pending  bigint  NOT NULL CHECK (debits_pending >= 0),
    debits_posted   bigint  NOT NULL CHECK (debits_posted >= 0),
    credits_pending bigint  NOT NULL CHECK (credits_pending >= 0),
    credits_posted  bigint  NOT NULL CHECK (credits_posted >= 0),
    PRIMARY KEY (customer_id, currency, code),
    CONSTRAINT accounts_never_overdrawn CHECK (
        code NOT IN ('player:cash', 'house:bets', 'house:withdrawals', 'house:tax')
        OR debits_posted + debits_pending <= credits_posted),
    CONSTRAINT accounts_debt_never_overpaid CHECK (
        code <> 'player:debt' OR credits_posted + credits_pending <= debits_posted)
);

CREATE TABLE transfers (
    id          uuid PRIMARY KEY,
    customer_id uuid        NOT NULL REFERENCES customers (id),
    kind        text        NOT NULL CHECK (kind IN ('hold', 'transfer', 'post', 'void')),
    debit       text        NOT NULL,
    credit      text        NOT NULL,
    currency    char(3)     NOT NULL,
    amount      bigint      NOT NULL CHECK (amount > 0),
    reason      text        NOT NULL,
    -- Of a post or void: the hold that it resolves, and the amount that was asked for (null: all of it).
    hold_id     uuid REFERENCES transfers (id),
    requested   bigint,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((kind IN ('post', 'void')) = (hold_id IS NOT NULL)),
    CHECK (debit <> credit)
);
-- A hold is resolved at most once.
CREATE UNIQUE INDEX transfers_one_resolution ON transfers (hold_id) WHERE hold_id IS NOT NULL;
CREATE INDEX transfers_holds ON transfers (created_at) WHERE kind = 'hold';

CREATE TABLE entries (
    id          uuid PRIMARY KEY,
    customer_id uuid        NOT NULL REFERENCES customers (id),
    -- Counts the customer's entries from 1, without a gap.
    sequence    bigint      NOT NULL,
    transfer_id uuid        NOT NULL REFERENCES transfers (id),
    kind        text        NOT NULL CHECK (kind IN ('hold', 'post', 'void', 'transfer')),
    debit       text        NOT NULL,
    credit      text        NOT NULL,
    currency    char(3)     NOT NULL,
    amount      bigint      NOT NULL CHECK (amount > 0),
    reason      text        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (customer_id, sequence)
);
CREATE INDEX entries_of_transfer ON entries (transfer_id);

CREATE TABLE audit (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    who         text        NOT NULL,
    what        jsonb       NOT NULL,
    subject     text        NOT NULL,
    before      jsonb       NOT NULL,
    after       jsonb       NOT NULL,
    happened_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: correct it with a new row', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END
$$;
CREATE TRIGGER transfers_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transfers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE outbox (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic         text        NOT NULL,
    record_key    text        NOT NULL,
    partition_key text        NOT NULL,
    partition     integer,
    value         bytea       NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);
