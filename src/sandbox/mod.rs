//! An OCI runtime spec to a process. Follows the OCI runtime spec; knows no notion of kiln's own.
