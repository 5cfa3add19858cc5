//! A layer's index and its two forms: tree and tar. Follows the OCI image spec, layer.md.
