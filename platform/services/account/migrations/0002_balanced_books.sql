-- Rule B1, kept by the database itself: after every statement the debits and credits of each customer's books in each currency
-- are equal, posted and pending, and no account disappears. Since house accounts are kept in parts, one per customer, the sums of
-- the whole ledger are equal then too.

CREATE FUNCTION refuse_unbalanced() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM accounts book
        JOIN (SELECT DISTINCT customer_id, currency FROM changed) touched USING (customer_id, currency)
        GROUP BY customer_id, currency
        HAVING sum(book.debits_posted) <> sum(book.credits_posted)
            OR sum(book.debits_pending) <> sum(book.credits_pending)
    ) THEN
        RAISE EXCEPTION 'debits and credits differ: book both sides in one statement'
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'accounts_balanced';
    END IF;
    RETURN NULL;
END
$$;
-- A trigger that sees the changed rows may name one event only. Both look at the table as it is after the whole statement.
CREATE TRIGGER accounts_balanced_after_insert AFTER INSERT ON accounts
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION refuse_unbalanced();
CREATE TRIGGER accounts_balanced_after_update AFTER UPDATE ON accounts
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION refuse_unbalanced();

CREATE FUNCTION refuse_removal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% are never removed: their balances are history', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;
CREATE TRIGGER accounts_never_removed BEFORE DELETE OR TRUNCATE ON accounts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_removal();
