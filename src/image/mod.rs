//! Images as data. In and out: configs, manifests, indexes and layouts in Docker's and OCI's
//! forms. Follows the OCI image spec.
