//! Everything under `$KILN_ROOT`: blobs, layers, images, records, locks and the database.
