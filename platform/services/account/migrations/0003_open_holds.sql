-- Stakes that are held and not resolved: what the janitor looks at. A table of its own, because transfers are append-only and
-- nearly all holds among them are resolved. Kept by the database, so that no version of the service can forget one.
--
-- A migration of its own: pods write transfers, then accounts. One that locked both tables would wait for them in a circle.

CREATE TABLE open_holds (
    hold_id    uuid PRIMARY KEY REFERENCES transfers (id),
    created_at timestamptz NOT NULL,
    -- When its decision was last asked for; null: never.
    asked_at   timestamptz
);
CREATE FUNCTION keep_open_holds() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.hold_id IS NOT NULL THEN
        DELETE FROM open_holds WHERE hold_id = NEW.hold_id;
    ELSIF NEW.kind = 'hold' AND NEW.reason = 'bet-stake' THEN
        INSERT INTO open_holds (hold_id, created_at) VALUES (NEW.id, NEW.created_at);
    END IF;
    RETURN NULL;
END
$$;
-- From here on nobody writes transfers until this migration is committed: what follows sees every hold.
CREATE TRIGGER transfers_open_holds AFTER INSERT ON transfers FOR EACH ROW EXECUTE FUNCTION keep_open_holds();
INSERT INTO open_holds (hold_id, created_at)
    SELECT id, created_at FROM transfers hold
    WHERE kind = 'hold' AND reason = 'bet-stake'
      AND NOT EXISTS (SELECT FROM transfers resolved WHERE resolved.hold_id = hold.id);
-- The index transfers_holds stays: pods of the version before still look for holds with it.
