//! Puts out what was built: archives, layouts, directories, the store.
