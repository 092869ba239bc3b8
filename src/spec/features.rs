//! The features document. Source: runtime-spec features.md.
