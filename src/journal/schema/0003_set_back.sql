-- What the peer had for good when it was asked last: one that has less now was set back, and needs again what it has lost.
ALTER TABLE pgcanon.peer
    ADD COLUMN had_tick int8 NOT NULL DEFAULT 0,
    ADD COLUMN had_ord int4 NOT NULL DEFAULT 0,
    ADD COLUMN had_part int4 NOT NULL DEFAULT 0;
