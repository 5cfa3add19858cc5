//! A build context: a directory scanned, ignored files left out, digests kept between builds.
