-- What the sequences were before `init --sequences` gave this node its own place in them, to be taken back.
CREATE TABLE pgcanon.sequence (
    nsp_name text,
    seq_name text,
    step int8 NOT NULL,
    place int8 NOT NULL,
    was_increment int8 NOT NULL,
    was_start int8 NOT NULL,
    was_next int8 NOT NULL,
    laid timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (nsp_name, seq_name)
);
