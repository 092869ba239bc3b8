//! Tables of what a filter answers, asked of the program itself.
