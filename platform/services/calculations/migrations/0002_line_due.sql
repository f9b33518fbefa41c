-- Lines whose results have news that their bets may not know. A result is taken in together with such a row; the bets are marked
-- afterwards, page by page in the order of their ids: a line has as many as customers like.
CREATE TABLE line_due (
    line_key text PRIMARY KEY,
    -- The last bet that was marked since the news; nil: none.
    marked_to uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    -- The line that waits longest has its turn.
    turn_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX line_due_turn ON line_due (turn_at);
