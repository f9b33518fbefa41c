-- no-transaction
-- The index of 0003 begins with the same column.
DROP INDEX CONCURRENTLY IF EXISTS selection_line;
