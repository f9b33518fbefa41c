-- no-transaction
-- The pages of a line's bets. Bets are placed meanwhile.
CREATE INDEX CONCURRENTLY IF NOT EXISTS selection_line_bet ON selection (line_key, bet_id);
