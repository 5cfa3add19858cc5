-- The store's database. A row that speaks of files carries the id of the boot it was written in and
-- whether those files were synced; one that was never synced counts only until the next boot.
-- Digests are 32 bytes, times whole seconds since 1970 unless said otherwise, sizes bytes.

-- blobs/sha256/HEX
CREATE TABLE blobs (
    digest BLOB PRIMARY KEY,
    size INTEGER NOT NULL,
    boot TEXT NOT NULL,
    synced INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- layers/HEX: index, and the original form
CREATE TABLE layers (
    id BLOB PRIMARY KEY,
    original TEXT NOT NULL,             -- tree, tar, or blob: one from outside, kept as it came
    blob BLOB,                          -- its stream as it came
    diff_id BLOB,                       -- its uncompressed digest, once known
    size INTEGER NOT NULL,              -- of all its files
    entries INTEGER NOT NULL,
    parents_missing INTEGER NOT NULL,   -- whether it leaves directories out that its entries are in
    run_first INTEGER,                  -- of a layer made by a RUN: the first and the last second of
    run_last INTEGER,                   -- that run; times in it say only when it ran
    created INTEGER NOT NULL,
    used INTEGER NOT NULL,
    boot TEXT NOT NULL,
    synced INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- forms that can be made again: HEX/tree, HEX/tar, trees-HEX, joined-HEX below layers/
CREATE TABLE forms (
    path TEXT PRIMARY KEY,
    layer BLOB NOT NULL,                -- whose form it is; the topmost one of a stack
    size INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    used INTEGER NOT NULL,
    boot TEXT NOT NULL,
    synced INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- layers as they were exported
CREATE TABLE compressed (
    layer BLOB NOT NULL,
    how TEXT NOT NULL,                  -- gzip:6, zstd:3
    digest BLOB NOT NULL,
    PRIMARY KEY (layer, how)
) WITHOUT ROWID;

-- an image is its config, the blob of its id, and its layers
CREATE TABLE images (
    id BLOB PRIMARY KEY,
    manifest BLOB,                      -- a blob: the manifest it came with
    added INTEGER NOT NULL,
    boot TEXT NOT NULL,
    synced INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE image_layers (
    image BLOB NOT NULL,
    position INTEGER NOT NULL,          -- from 0, bottom first
    layer BLOB NOT NULL,
    PRIMARY KEY (image, position)
) WITHOUT ROWID;
CREATE INDEX image_layers_by_layer ON image_layers (layer);

-- docker.io/library/busybox:latest
CREATE TABLE tags (
    name TEXT PRIMARY KEY,
    image BLOB NOT NULL,
    tagged INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX tags_by_image ON tags (image);

-- docker.io/library/busybox @ digest of a manifest
CREATE TABLE repo_digests (
    repository TEXT NOT NULL,
    digest BLOB NOT NULL,
    image BLOB NOT NULL,
    PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX repo_digests_by_image ON repo_digests (image);

-- what a step came to
CREATE TABLE records (
    key BLOB PRIMARY KEY,
    layer BLOB,                         -- NULL: the step made no layer
    created_s INTEGER NOT NULL,
    created_ns INTEGER NOT NULL,
    took_ns INTEGER NOT NULL,
    step TEXT NOT NULL,
    inputs TEXT NOT NULL,
    used INTEGER NOT NULL,
    boot TEXT NOT NULL,
    synced INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX records_by_layer ON records (layer);

-- mounts/HEX, where HEX is the digest of the id
CREATE TABLE mounts (
    id TEXT PRIMARY KEY,
    used INTEGER NOT NULL
) WITHOUT ROWID;

-- what live processes use
CREATE TABLE leases (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    pid INTEGER NOT NULL,
    start INTEGER NOT NULL,             -- ticks since boot
    boot TEXT NOT NULL
);
CREATE TABLE holds (
    lease INTEGER NOT NULL,
    digest BLOB NOT NULL,               -- the id of a layer or an image
    PRIMARY KEY (lease, digest)
) WITHOUT ROWID;
CREATE INDEX holds_by_digest ON holds (digest);
